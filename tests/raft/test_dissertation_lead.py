"""Ongaro's dissertation on holding, proving and handing over the lead (§3.10, §6.2, §6.4, §9.6), one test per claim.

Not here because this core does otherwise: reads on followers (§6.4; they send clients to the leader).
"""

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.solo import LONG, SETTINGS, Solo
from tests.raft.stage import Stage
from weedtw.errors import BadRequest, ChangeRefused, NotLeader, TooBusy, Unavailable
from weedtw.raft.membership import Remove
from weedtw.raft.messages import Append, Heartbeat, HeartbeatReply, Message, TimeoutNow, VoteReply, VoteRequest
from weedtw.raft.storage import Update


def decided(voters: str = "123") -> Solo:
    """A leader whose first entry is committed and applied."""
    node = Solo(voters)
    node.lead()
    for voter in sorted(node.core.log.membership.voters - {"1"}):
        node.acknowledge(voter, 1)
    return node


class Transfer(SynchronousTestCase):
    """§3.10, "Leadership transfer extension"."""

    def test_1_no_more_proposals(self) -> None:
        """The prior leader stops accepting client requests."""
        node = decided()
        node.do(lambda core: core.transfer("2"))
        with self.assertRaises(TooBusy):
            node.core.propose(b"x")

    def test_2_the_target_gets_the_whole_log_first(self) -> None:
        """It is not asked to campaign before its log matches: it could not win."""
        node = decided()
        node.do(lambda core: core.propose(b"x"))
        self.assertEqual(node.do(lambda core: core.transfer("2")), [])
        self.assertEqual([type(message) for message in node.acknowledge("3", 2)].count(TimeoutNow), 0)
        self.assertIn(TimeoutNow("1", "2", 1), node.acknowledge("2", 2))

    def test_3_the_target_campaigns_at_once(self) -> None:
        """TimeoutNow is like the election timeout running out: a new term, without a pre-vote."""
        node = Solo()
        node.beat(1)
        sent = node.step(TimeoutNow("2", "1", 1))
        self.assertEqual((node.core.role.name, node.core.term), ("candidate", 2))
        self.assertEqual(sent, [VoteRequest("1", to, 2, 0, 0, transfer=True) for to in "23"])

    def test_4_the_prior_leader_follows(self) -> None:
        """The target's new term ends the lead; there never are two of a term."""
        stage = Stage(3)
        stage.play("transfer 1 3", "settle")
        self.assertEqual((stage.leaders(), stage.core("1").leader, stage.core("3").term), (["3"], "3", 2))

    def test_given_up_after_an_election_timeout(self) -> None:
        """If the target has failed, the prior leader takes requests again."""
        stage = Stage(3)
        stage.play("crash 2", "transfer 1 2", "run 10", "propose 1 a", "settle")
        self.assertEqual((stage.leaders(), stage.holds("1")), (["1"], "a"))

    def test_only_a_voter_can_be_the_target(self) -> None:
        """Anybody else could not lead."""
        node = Solo("123", learners="4")
        node.lead()
        for target in "149":
            with self.assertRaises(ChangeRefused):
                node.core.transfer(target)


class SteppingDown(SynchronousTestCase):
    """§6.2, "Routing requests to the leader"."""

    def test_a_leader_without_a_majority_steps_down(self) -> None:
        """When an election timeout passes without an answer from a majority, so that clients look elsewhere."""
        node = decided("12345")
        for _ in range(SETTINGS.election):
            self.assertEqual(node.core.role.name, "leader")
            node.answer_heartbeat("2")
            node.tick()
        self.assertEqual((node.core.role.name, node.core.term), ("follower", 1))

    def test_a_late_vote_is_no_contact(self) -> None:
        """A vote that comes after the election says nothing of whether its sender hears the leader."""
        node = decided("12345")
        for _ in range(SETTINGS.election):
            node.vote(granted=True)
            node.tick()
        self.assertEqual(node.core.role.name, "follower")

    def test_with_a_majority_it_leads_on(self) -> None:
        """However long."""
        node = decided("12345")
        for number in range(3 * LONG):
            node.answer_heartbeat("2345"[number % 2])
            node.tick()
        self.assertEqual(node.core.role.name, "leader")

    def test_a_follower_names_the_leader(self) -> None:
        """Requests that reach another server are refused with the leader's identity, if it is known."""
        node = Solo()
        for leader in (None, "2"):
            with self.assertRaises(NotLeader) as raised:
                node.core.propose(b"x")
            self.assertEqual(raised.exception.leader, leader)
            node.beat(1)


class Reads(SynchronousTestCase):
    """§6.4, "Processing read-only queries more efficiently"."""

    def read(self, node: Solo, token: object) -> list[Message]:
        return node.do(lambda core: core.read_index(token))

    def answers(self, node: Solo) -> list[tuple[object, int]]:
        return [(read.token, read.index) for read in node.reads]

    def test_1_not_before_the_first_entry_is_decided(self) -> None:
        """A new leader holds all that was decided; until its no-op is committed it cannot tell how far that goes."""
        node = Solo(log=[1, 1], term=1, commit=1)
        node.lead()
        with self.assertRaises(Unavailable):
            node.core.read_index("question")

    def test_2_the_index_is_the_commit_when_it_is_asked(self) -> None:
        """What is committed at that moment is what the answer has to reflect."""
        node = decided()
        self.read(node, "question")
        node.do(lambda core: core.propose(b"later"))
        node.acknowledge("2", 2)
        node.step(HeartbeatReply("2", "1", 1, 2))
        self.assertEqual(self.answers(node), [("question", 1)])

    def test_3_a_majority_must_answer_a_heartbeat_sent_since(self) -> None:
        """So that no other leader can have existed when it was asked; older answers prove nothing."""
        node = decided("12345")
        node.tick(SETTINGS.heartbeat)
        self.read(node, "question")
        for reply in (("2", 2), ("3", 2), ("2", 3)):
            node.step(HeartbeatReply(reply[0], "1", 1, reply[1]))
            self.assertEqual(self.answers(node), [])
        node.step(HeartbeatReply("3", "1", 1, 3))
        self.assertEqual(self.answers(node), [("question", 1)])

    def test_4_many_reads_share_a_round(self) -> None:
        """One round of heartbeats does for all that were asked before it was sent."""
        node = decided()
        sent: list[Message] = []
        for number in range(50):
            sent += self.read(node, number)
        self.assertEqual([type(message) for message in sent], [Heartbeat, Heartbeat])
        sent = node.step(HeartbeatReply("2", "1", 1, 2))
        self.assertEqual([type(message) for message in sent], [Heartbeat, Heartbeat])
        node.step(HeartbeatReply("2", "1", 1, 3))
        self.assertEqual(len(node.reads), 50)

    def test_a_deposed_leader_does_not_answer(self) -> None:
        """The reads that wait are told so."""
        node = decided()
        self.read(node, "question")
        node.beat(2)
        self.assertEqual((self.answers(node), node.failed_reads), ([], ["question"]))

    def test_a_removed_server_s_answer_is_not_waited_for(self) -> None:
        """Its answer was needed when the question came; by the new configuration it is not."""
        node = decided("12")
        self.read(node, "question")
        node.do(lambda core: core.change(Remove("2")))
        node.tick(SETTINGS.heartbeat)
        self.assertEqual(self.answers(node), [("question", 1)])

    def test_a_learner_s_answer_proves_nothing(self) -> None:
        """A majority of the voters must answer (§4.2.1)."""
        node = Solo("123", learners="4")
        node.lead()
        node.acknowledge("2", 1)
        self.read(node, "question")
        node.answer_heartbeat("4")
        self.assertEqual(self.answers(node), [])

    def test_an_answer_to_what_was_never_sent_proves_nothing(self) -> None:
        """Rounds are numbered by the leader; a higher number than its latest is nobody's honest answer."""
        node = decided()
        self.read(node, "question")
        with self.assertRaises(BadRequest):
            node.core.step(HeartbeatReply("2", "1", 1, 99))
        self.assertEqual(self.answers(node), [])


class Lease(SynchronousTestCase):
    """§6.4.1, "Using clocks to reduce messaging for read-only queries"."""

    def test_it_counts_from_when_the_heartbeat_was_sent(self) -> None:
        """Not from when its answer came: the followers' promise may be as old as the question."""
        node = decided()
        node.tick(SETTINGS.heartbeat)
        node.tick(SETTINGS.lease - 1)
        node.step(HeartbeatReply("2", "1", 1, 2))
        self.assertTrue(node.core.has_lease())
        node.tick()
        self.assertFalse(node.core.has_lease())

    def test_it_needs_a_majority(self) -> None:
        """An answer of a minority extends nothing."""
        node = decided("12345")
        node.step(HeartbeatReply("2", "1", 1, 1))
        self.assertFalse(node.core.has_lease())
        node.step(HeartbeatReply("3", "1", 1, 1))
        self.assertTrue(node.core.has_lease())

    def test_it_ends_before_the_followers_promise(self) -> None:
        """By a margin for clocks that drift, and for ticks that are counted as whole ones on either side."""
        for election in range(4, 200):
            lease = type(SETTINGS)(election=election, heartbeat=1).lease
            self.assertLess((lease + 1) * 1.1, election + 0.1)

    def test_the_followers_keep_it(self) -> None:
        """For an election timeout after a leader's message nobody is voted for; after a restart as well."""
        node = Solo()
        node.beat(1)
        node.start()
        node.tick(SETTINGS.election - 1)
        self.assertEqual(node.step(VoteRequest("3", "1", 2, 0, 0)), [])

    def test_a_transfer_ends_it(self) -> None:
        """The target's election does not wait for it; and it might happen late, so the lease does not come back."""
        node = decided()
        node.step(HeartbeatReply("2", "1", 1, 1))
        node.do(lambda core: core.transfer("2"))
        self.assertFalse(node.core.has_lease())
        for _ in range(LONG):
            node.tick()
            node.answer_heartbeat("2")
        self.assertEqual(node.core.role.name, "leader")
        self.assertFalse(node.core.has_lease())

    def test_it_needs_the_first_entry_applied(self) -> None:
        """As a read by ReadIndex does (§6.4)."""
        node = Solo()
        node.lead()
        node.step(HeartbeatReply("2", "1", 1, 1))
        self.assertFalse(node.core.has_lease())


class PreVote(SynchronousTestCase):
    """§9.6, "Preventing disruptions when a server rejoins the cluster"."""

    def test_the_term_rises_only_when_the_election_could_be_won(self) -> None:
        """A server that cannot reach a majority asks for ever and keeps its term."""
        node = Solo("12345", term=3)
        node.tick(10 * LONG)
        node.step(VoteReply("2", "1", 4, granted=True, pre=True))
        self.assertEqual((node.core.role.name, node.core.term), ("pre-candidate", 3))
        node.step(VoteReply("3", "1", 4, granted=True, pre=True))
        self.assertEqual((node.core.role.name, node.core.term), ("candidate", 4))

    def test_the_answer_binds_nobody(self) -> None:
        """Neither term nor vote of the one who is asked changes, and nothing is stored."""
        node = Solo(term=3)
        for candidate in "23":
            sent = node.step(VoteRequest(candidate, "1", 4, 0, 0, pre=True))
            self.assertEqual(sent, [VoteReply("1", candidate, 4, granted=True, pre=True)])
        self.assertEqual((node.core.term, node.core.vote), (3, None))
        self.assertEqual([event for event in node.events if isinstance(event, Update)], [])

    def test_not_for_an_older_log(self) -> None:
        """It is the answer that the real question would get."""
        node = Solo(log=[1, 2], term=2)
        (reply,) = node.step(VoteRequest("2", "1", 3, 9, 1, pre=True))
        self.assertEqual(reply, VoteReply("1", "2", 2, granted=False, pre=True))

    def test_not_while_a_leader_is_heard(self) -> None:
        """Until an election timeout has passed without one."""
        node = Solo()
        node.beat(1)
        node.tick(SETTINGS.election - 1)
        self.assertEqual(node.step(VoteRequest("3", "1", 2, 0, 0, pre=True)), [])
        node.tick()
        self.assertEqual(len(node.step(VoteRequest("3", "1", 2, 0, 0, pre=True))), 1)

    def test_a_refusal_brings_the_newer_term(self) -> None:
        """A server that was away learns the term from the answers, and asks for the next one the next time."""
        node = Solo(term=3)
        node.tick(LONG)
        node.step(VoteReply("2", "1", 7, granted=False, pre=True))
        self.assertEqual((node.core.role.name, node.core.term), ("follower", 7))

    def test_a_server_that_rejoins_deposes_nobody(self) -> None:
        """Its first contact with the leader is the leader's heartbeat, in an unchanged term."""
        stage = Stage(3)
        stage.play("partition 1,2 3", "run 200", "heal", "run 4")
        self.assertEqual((stage.leaders(), stage.core("1").term, stage.core("3").leader), (["1"], 1, "1"))

    def test_a_leader_is_recognised_while_asking(self) -> None:
        """An append in its own term ends a pre-candidacy."""
        node = Solo(term=1)
        node.tick(LONG)
        node.step(Append("2", "1", 1, 0, 0, (), 0))
        self.assertEqual((node.core.role.name, node.core.leader), ("follower", "2"))
