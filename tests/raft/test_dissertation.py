"""Chapter 4 of Ongaro's dissertation, "Cluster membership changes", one test per claim.

Not here because this core leaves it to whoever drives it: when a learner has caught up far enough to be promoted
(§4.2.1), and how a client finds the cluster (§4.4).
"""

import itertools

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.solo import LONG, SETTINGS, Solo, entries, membership
from tests.raft.stage import Stage
from weedtw.errors import ChangeRefused
from weedtw.raft.membership import AddLearner, Change, Demote, Membership, Promote, Remove
from weedtw.raft.messages import Append, AppendReply, Entry, EntryKind, TimeoutNow, VoteReply, VoteRequest


def config(index: int, term: int, new: Membership) -> Entry:
    return Entry(index, term, EntryKind.CONFIG, new.render())


class Safety(SynchronousTestCase):
    """§4.1, "Safety"."""

    def test_one_server_at_a_time_keeps_majorities_overlapping(self) -> None:
        """§4.1, figure 4.3: any majority before and any majority after a single change have a server in common."""
        nodes = "123456"
        for count in range(1, 6):
            old = membership(nodes[:count], learners="6")
            changes: list[Change] = [AddLearner("7", "host7:9333"), Promote("6")]
            if count > 1:
                changes += [Remove("1"), Demote("1")]
            for change in changes:
                self.assert_majorities_meet(old, change.apply(old))

    def assert_majorities_meet(self, old: Membership, new: Membership) -> None:
        subsets = [
            set(group)
            for size in range(1, 7)
            for group in itertools.combinations(sorted(old.voters | new.voters), size)
        ]
        for one, other in itertools.product(subsets, repeat=2):
            if old.is_quorum(one) and new.is_quorum(other):
                self.assertTrue(one & other, (one, other))

    def test_a_leader_goes_by_the_new_one_at_once(self) -> None:
        """§4.1: a configuration is in force from the moment that its entry is in the log, and decides that entry."""
        stage = Stage(3)
        stage.play(
            "newcomer 4", "change 1 add-learner 4", "run 4", "partition 1,2 3,4", "change 1 promote 4", "settle"
        )
        self.assertEqual(stage.membership("1").majority, 3)
        self.assertLess(stage.commit("1"), stage.core("1").log.last_index)

    def test_a_follower_goes_by_the_new_one_at_once(self) -> None:
        """§4.1: on every server, as soon as it has the entry, whether decided or not."""
        node = Solo("123")
        node.step(Append("2", "1", 1, 0, 0, (config(1, 1, membership("12")),), 0))
        self.assertEqual(node.core.log.membership, membership("12"))
        self.assertEqual(node.core.log.commit, 0)

    def test_the_one_before_comes_back_with_the_log(self) -> None:
        """§4.1: when another leader replaces the entry, it goes with it; the latest in the log counts."""
        node = Solo("123")
        node.step(Append("2", "1", 1, 0, 0, (config(1, 1, membership("12")),), 0))
        node.step(Append("3", "1", 2, 0, 0, entries([2]), 0))
        self.assertEqual(node.core.log.membership, membership("123"))

    def test_it_survives_a_crash(self) -> None:
        """§4.1: a restarted server goes by the latest configuration of its stored log."""
        node = Solo("123")
        node.step(Append("2", "1", 1, 0, 0, (config(1, 1, membership("12")),), 0))
        node.start()
        self.assertEqual(node.core.log.membership, membership("12"))

    def test_a_snapshot_keeps_it(self) -> None:
        """§4.1 and §5.1: when the entry is compacted away, the snapshot holds the configuration as of its index."""
        stage = Stage(3)
        stage.play("change 1 remove 3", "run 2", "compact 1", "crash 1", "restart 1")
        self.assertEqual(stage.core("1").log.snapshot.membership, membership("12"))
        self.assertEqual(stage.membership("1"), membership("12"))

    def test_no_second_change_before_the_first_is_decided(self) -> None:
        """§4.1: overlapping changes could lead to majorities that do not meet."""
        node = Solo("1234")
        node.lead()
        node.acknowledge("2", 1)
        node.acknowledge("3", 1)
        node.do(lambda core: core.change(Remove("4")))
        with self.assertRaises(ChangeRefused):
            node.core.change(Remove("3"))
        node.acknowledge("2", 2)
        node.do(lambda core: core.change(Remove("3")))
        self.assertEqual(node.core.log.membership, membership("12"))

    def test_no_change_before_the_leader_has_decided_something(self) -> None:
        """§4.1, as corrected in 2015: an older change may still be undecided; the term's first entry settles it."""
        node = Solo("123")
        node.lead()
        with self.assertRaises(ChangeRefused):
            node.core.change(Remove("3"))

    def test_a_leader_is_heard_though_it_is_no_member(self) -> None:
        """§4.1: a server takes entries from a leader that its own configuration does not name."""
        node = Solo("123")
        self.assertEqual(node.append((0, 0), [1], term=1, leader="9"), [AppendReply("1", "9", 1, 1)])

    def test_a_candidate_is_voted_for_though_it_is_no_member(self) -> None:
        """§4.1: the voter's configuration may be the older one, and the candidate's vote needed to go on."""
        node = Solo("123")
        self.assertEqual(node.step(VoteRequest("9", "1", 1, 0, 0)), [VoteReply("1", "9", 1, granted=True)])


class CatchingUp(SynchronousTestCase):
    """§4.2.1, "Catching up new servers"."""

    def test_a_newcomer_receives_the_log_first(self) -> None:
        """A new server is replicated to before it counts, beginning with an empty log."""
        stage = Stage(3)
        stage.play("propose 1 a b", "settle", "newcomer 4", "change 1 add-learner 4", "run 2")
        self.assertEqual(stage.holds("4"), "a,b")
        self.assertEqual(stage.membership("4"), membership("123", learners="4"))

    def test_it_receives_a_snapshot_when_the_log_is_gone(self) -> None:
        """With the log compacted the state comes as a snapshot, which names the members as well."""
        stage = Stage(3)
        stage.play("propose 1 a b", "run 2", "compact 1", "newcomer 4", "change 1 add-learner 4", "run 2")
        self.assertEqual(stage.holds("4"), "a,b")
        self.assertEqual(stage.core("4").log.snapshot.membership, membership("123"))

    def test_a_learner_decides_nothing(self) -> None:
        """Its acknowledgement is not counted towards a majority."""
        node = Solo("123", learners="4")
        node.lead()
        node.acknowledge("4", 1)
        self.assertEqual(node.core.log.commit, 0)

    def test_a_learner_is_not_asked_for_its_vote(self) -> None:
        """Nor is an answer of its counted."""
        node = Solo("123", learners="4")
        self.assertEqual([message.to for message in node.campaign()], ["2", "3"])
        node.step(VoteReply("4", "1", 1, granted=True))
        self.assertEqual(node.core.role.name, "candidate")

    def test_a_learner_leaves_campaigns_to_the_voters(self) -> None:
        """It does not start elections as voters do."""
        node = Solo("23", learners="1")
        self.assertEqual(node.tick(LONG), [])
        self.assertEqual(node.core.role.name, "follower")

    def test_a_dead_newcomer_costs_nothing(self) -> None:
        """An unavailable or slow newcomer does not make the cluster unavailable while it has no vote."""
        stage = Stage(1)
        stage.play("newcomer 4", "crash 4", "change 1 add-learner 4", "propose 1 a", "run 30")
        self.assertEqual((stage.holds("1"), stage.leaders()), ("a", ["1"]))


class RemovingTheLeader(SynchronousTestCase):
    """§4.2.2, "Removing the current leader"."""

    def test_it_leads_on_until_its_removal_is_decided(self) -> None:
        """A leader that is being removed replicates its own removal."""
        node = Solo("123")
        node.lead()
        node.acknowledge("2", 1)
        node.do(lambda core: core.change(Remove("1")))
        self.assertEqual(node.core.role.name, "leader")

    def test_it_does_not_count_itself(self) -> None:
        """While it manages a cluster that it is no part of, majorities are the others'."""
        node = Solo("123")
        node.lead()
        node.acknowledge("2", 1)
        node.do(lambda core: core.change(Remove("1")))
        node.acknowledge("2", 2)
        self.assertEqual(node.core.log.commit, 1)

    def test_it_steps_down_when_its_removal_is_decided(self) -> None:
        """And names a successor (§3.10), so that nobody waits for an election timeout."""
        node = Solo("123")
        node.lead()
        node.acknowledge("2", 1)
        node.do(lambda core: core.change(Remove("1")))
        node.acknowledge("2", 2)
        sent = node.acknowledge("3", 2)
        self.assertEqual((node.core.role.name, node.core.log.commit), ("follower", 2))
        self.assertEqual([type(message) for message in sent if message.to == "3"].count(TimeoutNow), 1)

    def test_after_that_it_does_not_campaign(self) -> None:
        """A server that knows its removal to be decided is silent."""
        stage = Stage(3)
        stage.play("change 1 remove 1", "run 4", "tick 1 100")
        self.assertEqual(stage.role("1"), "follower")

    def test_before_that_it_may_have_to(self) -> None:
        """A server that is not in its own latest configuration still campaigns: nobody else may be able to win."""
        stage = Stage(2)
        stage.play("change 1 remove 1", "drop", "crash 1", "restart 1", "run 40")
        self.assertEqual(stage.leaders(), ["2"])
        self.assertEqual(stage.membership("2"), membership("2"))


class DisruptiveServers(SynchronousTestCase):
    """§4.2.3, "Disruptive servers"."""

    def test_nobody_who_hears_a_leader_answers_a_candidate(self) -> None:
        """Within the shortest election timeout of a leader's message neither term nor vote changes."""
        for pre in (False, True):
            node = Solo("123")
            node.beat(1)
            node.tick(SETTINGS.election - 1)
            self.assertEqual(node.step(VoteRequest("3", "1", 9, 9, 9, pre=pre)), [])
            self.assertEqual((node.core.term, node.core.vote), (1, None))

    def test_afterwards_it_does(self) -> None:
        """When it has heard of none for that long."""
        node = Solo("123")
        node.beat(1)
        node.tick(SETTINGS.election)
        node.step(VoteRequest("3", "1", 9, 9, 9))
        self.assertEqual((node.core.term, node.core.vote), (9, "3"))

    def test_a_leader_does_not_listen_either(self) -> None:
        """A leader that is in touch with a majority is not deposed by a server that was removed."""
        node = Solo("123")
        node.lead()
        self.assertEqual(node.step(VoteRequest("9", "1", 9, 9, 9)), [])
        self.assertEqual((node.core.role.name, node.core.term), ("leader", 1))

    def test_a_removed_server_disturbs_nobody(self) -> None:
        """It does not get the entry that removes it, campaigns for ever, and the cluster keeps its term."""
        stage = Stage(4)
        stage.play("partition 1,2,3 4", "change 1 remove 4", "run 4", "heal", "run 100")
        self.assertEqual((stage.leaders(), stage.core("1").term), (["1"], 1))

    def test_a_pre_vote_alone_would_not_do(self) -> None:
        """A removed server's log may be as good as the others', until they have the entry that removes it."""
        stage = Stage(4)
        stage.play("tick 4 9", "change 1 remove 4", "drop", "tick 4 5", "settle")
        self.assertEqual((stage.role("4"), stage.leaders(), stage.core("2").term), ("pre-candidate", ["1"], 1))

    def test_a_transfer_is_exempt(self) -> None:
        """An election that the leader itself has asked for need not wait for its promise to end (§3.10)."""
        node = Solo("123")
        node.beat(1)
        self.assertEqual(
            node.step(VoteRequest("3", "1", 2, 0, 0, transfer=True)), [VoteReply("1", "3", 2, granted=True)]
        )
