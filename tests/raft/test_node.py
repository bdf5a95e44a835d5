"""The driver: requests and their answers, elections, leases, reads, handing over."""

from tests.raft.members import Cluster, NodeTest
from weedtw.errors import (
    BadRequest,
    ChangeRefused,
    ConfigError,
    MaybeCommitted,
    NotLeader,
    TooBusy,
    Unavailable,
)
from weedtw.raft import waiters
from weedtw.raft.core import Settings
from weedtw.raft.interface import Timing
from weedtw.raft.messages import AppendReply, Heartbeat


class Proposing(NodeTest):
    def test_the_proposer_gets_what_apply_returned(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        self.assertEqual(self.done(cluster, leader.node.propose(b"x")), "x at 2")
        cluster.run(0.2)
        self.assertEqual([m.machine.commands for m in cluster.members.values()], [["x"]] * 3)

    def test_alone(self) -> None:
        cluster = Cluster("a")
        self.assertEqual(self.done(cluster, cluster.leader().node.propose(b"x")), "x at 2")

    def test_many_at_once_are_applied_in_order(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        waiting = [leader.node.propose(b"%d" % number) for number in range(100)]
        cluster.until(lambda: all(each.called for each in waiting))
        self.assertEqual([self.successResultOf(each) for each in waiting], [f"{i} at {i + 2}" for i in range(100)])
        self.assertEqual(leader.machine.commands, [str(number) for number in range(100)])

    def test_many_at_once_share_writes(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        writes: list[object] = []
        save = leader.storage.save
        leader.storage.save = lambda update: (writes.append(update), save(update))[1]  # type: ignore[func-returns-value,method-assign]
        for number in range(100):
            leader.node.propose(b"%d" % number)
        cluster.run(0.2)
        self.assertEqual(len(leader.machine.commands), 100)
        self.assertLessEqual(len(writes), 3)

    def test_one_that_is_proposed_when_another_is_answered(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        second = leader.node.propose(b"x").addCallback(lambda _: leader.node.propose(b"y"))
        self.assertEqual(self.done(cluster, second), "y at 3")

    def test_what_the_state_machine_refuses_is_told_and_nothing_else_happens(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        refused = leader.node.propose(b"refuse")
        accepted = leader.node.propose(b"x")
        self.done(cluster, accepted)
        self.assertEqual(self.fails(ChangeRefused, refused).reason, "not this one")
        self.assertIsNone(leader.node.failed)

    def test_a_follower_names_the_leader(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        for follower in cluster.followers():
            self.assertEqual(self.fails(NotLeader, follower.node.propose(b"x")).leader, leader.name)

    def test_without_a_leader_none_is_named(self) -> None:
        cluster = Cluster("a", "b", "c")
        self.assertIsNone(self.fails(NotLeader, cluster["a"].node.propose(b"x")).leader)

    def test_too_long_a_command(self) -> None:
        cluster = Cluster("a")
        self.fails(BadRequest, cluster.leader().node.propose(b"x" * (Settings().max_entry + 1)))

    def test_too_much_on_its_way(self) -> None:
        cluster = Cluster("a", "b", "c", settings=Settings(max_uncommitted=1000))
        leader = cluster.leader()
        waiting = [leader.node.propose(b"x" * 100) for _ in range(6)]
        self.fails(TooBusy, leader.node.propose(b"x" * 400))
        cluster.until(lambda: all(each.called for each in waiting))
        self.done(cluster, leader.node.propose(b"x" * 400))

    def test_no_majority_in_time(self) -> None:
        cluster = Cluster("a", "b", "c", timing=Timing(propose=0.2))
        leader = cluster.leader()
        cluster.cut(leader)
        waiting = leader.node.propose(b"x")
        cluster.run(0.3)
        error = self.fails(MaybeCommitted, waiting)
        self.assertEqual((error.index, error.reason), (2, "no majority in 0.2 s"))

    def test_applied_after_its_proposer_gave_up(self) -> None:
        cluster = Cluster("a", "b", "c", timing=Timing(propose=0.2))
        leader = cluster.leader()
        cluster.cut(leader)
        waiting = leader.node.propose(b"x")
        cluster.run(0.3)
        self.fails(MaybeCommitted, waiting)
        cluster.mend()
        cluster.until(lambda: leader.machine.commands == ["x"])

    def test_the_lead_is_lost_and_nobody_tells_what_became_of_it(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.cut(leader)
        waiting = leader.node.propose(b"x")
        cluster.until(lambda: not leader.leads)
        self.assertNoResult(waiting)
        cluster.run(Timing().settle + 0.1)
        self.assertIn("has lost the lead", self.fails(MaybeCommitted, waiting).reason)

    def test_the_lead_is_lost_and_the_next_leader_decides_it(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        waiting = leader.node.propose(b"x")
        cluster.until(lambda: all(m.node.status().last_index == 2 for m in cluster.followers()))
        self.assertNoResult(waiting)
        cluster.cut(leader)
        cluster.until(lambda: not leader.leads)
        cluster.until(lambda: any(m.leads for m in cluster.members.values()))
        cluster.mend()
        self.assertEqual(self.done(cluster, waiting), "x at 2")

    def test_superseded(self) -> None:
        cluster = Cluster("a", "b", "c", timing=Timing(settle=30))
        leader = cluster.leader()
        cluster.cut(leader)
        waiting = [leader.node.propose(b"x"), leader.node.propose(b"y")]
        cluster.until(lambda: not leader.leads)
        new = cluster.leader()
        cluster.mend()
        cluster.until(lambda: all(each.called for each in waiting))
        for each in waiting:
            self.assertEqual(self.fails(NotLeader, each).leader, new.name)
        self.assertEqual(leader.machine.commands, [])

    def test_a_snapshot_covers_it(self) -> None:
        timing = Timing(settle=30, snapshot_every=5)
        cluster = Cluster("a", "b", "c", timing=timing, settings=Settings(keep_entries=0))
        leader = cluster.leader()
        cluster.cut(leader)
        waiting = leader.node.propose(b"x")
        cluster.until(lambda: not leader.leads)
        new = cluster.leader()
        for number in range(20):
            self.done(cluster, new.node.propose(b"%d" % number))
        cluster.mend()
        cluster.until(lambda: waiting.called)
        self.assertIn("snapshot", self.fails(MaybeCommitted, waiting).reason)

    def test_shutting_down(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        waiting = leader.node.propose(b"x")
        leader.node.stopService()
        self.assertIn("shutting down", self.fails(MaybeCommitted, waiting).reason)
        self.fails(Unavailable, leader.node.propose(b"x"))
        self.fails(Unavailable, leader.node.read_index())
        self.assertRaises(Unavailable, leader.node.transfer, "b")

    def test_a_node_that_was_not_started(self) -> None:
        cluster = Cluster()
        member = cluster.newcomer("a")
        self.done(cluster, member.node.stopService())
        member.make()
        self.fails(Unavailable, member.node.propose(b"x"))
        self.assertFalse(member.node.has_lease())


class Reading(NodeTest):
    def test_a_read_sees_what_was_decided_before(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        self.done(cluster, leader.node.propose(b"x"))
        self.done(cluster, leader.node.read_index())
        self.assertEqual(leader.machine.commands, ["x"])

    def test_alone(self) -> None:
        cluster = Cluster("a")
        leader = cluster.leader()
        self.done(cluster, leader.node.propose(b"x"))
        self.done(cluster, leader.node.read_index())
        self.assertEqual(leader.machine.commands, ["x"])

    def test_many_at_once_cost_few_rounds(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        leader.transport.sent.clear()
        waiting = [leader.node.read_index() for _ in range(500)]
        cluster.until(lambda: all(each.called for each in waiting))
        beats = [message for message in leader.transport.sent if isinstance(message, Heartbeat)]
        self.assertLess(len(beats), 20)

    def test_too_many_at_once(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        self.patch(waiters, "MAX_READS", 100)
        waiting = [leader.node.read_index() for _ in range(100)]
        self.fails(TooBusy, leader.node.read_index())
        cluster.until(lambda: all(each.called for each in waiting))
        self.done(cluster, leader.node.read_index())

    def test_only_the_leader_answers(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        for follower in cluster.followers():
            self.assertEqual(self.fails(NotLeader, follower.node.read_index()).leader, leader.name)

    def test_a_leader_that_is_cut_off_does_not_answer(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.cut(leader)
        waiting = leader.node.read_index()
        cluster.run(0.4)
        self.assertNoResult(waiting)
        cluster.run(1)
        self.fails(NotLeader, waiting)

    def test_no_answer_in_time(self) -> None:
        cluster = Cluster("a", "b", "c", timing=Timing(propose=0.2))
        leader = cluster.leader()
        cluster.cut(leader)
        waiting = leader.node.read_index()
        cluster.run(0.3)
        self.assertIn("no majority confirmed", self.fails(Unavailable, waiting).reason)
        cluster.mend()
        cluster.run(1)

    def test_a_new_leader_answers_only_when_it_knows_what_was_decided(self) -> None:
        cluster = Cluster("a", "b", "c")
        cluster.leader().kill()
        cluster.until(lambda: any(m.leads for m in cluster.members.values() if m.node.running))
        leader = next(m for m in cluster.members.values() if m.node.running and m.leads)
        self.fails(Unavailable, leader.node.read_index())
        self.assertFalse(leader.node.has_lease())
        self.done(cluster, cluster.leader().node.read_index())

    def test_shutting_down(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        waiting = leader.node.read_index()
        leader.node.stopService()
        self.fails(Unavailable, waiting)


class Leases(NodeTest):
    def test_followers_have_none(self) -> None:
        cluster = Cluster("a", "b", "c")
        self.assertTrue(cluster.leader().node.has_lease())
        self.assertFalse(any(follower.node.has_lease() for follower in cluster.followers()))

    def test_it_is_renewed(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        for _ in range(1000):
            cluster.run(0.01)
            self.assertTrue(leader.node.has_lease())

    def test_it_ends_before_anybody_else_can_lead(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.cut(leader)
        lost = cluster.until(lambda: not leader.node.has_lease())
        self.assertLess(lost, 0.5)
        self.assertFalse(any(m.leads for m in cluster.members.values() if m is not leader))

    def test_a_process_that_was_paused_does_not_trust_it(self) -> None:
        """The first thing that a resumed process does may be to answer a client: no timer has run yet."""
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        leader.asleep += 0.6
        self.assertFalse(leader.node.has_lease())

    def test_nor_does_one_that_was_paused_while_it_wrote(self) -> None:
        for pause in (0.6, 10.0):
            cluster = Cluster("a", "b", "c")
            leader = cluster.leader()
            leader.disk.held = True
            leader.node.propose(b"x")
            cluster.run(0.01)
            leader.asleep += pause
            leader.disk.let_go()
            self.assertFalse(leader.node.has_lease())
            self.assertFalse(leader.node.status().has_lease)

    def test_a_short_pause_is_forgiven(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        leader.asleep += 0.2
        self.assertTrue(leader.node.has_lease())

    def test_a_paused_leader_that_resumes_serves_no_stale_read(self) -> None:
        cluster = Cluster("a", "b", "c")
        old = cluster.leader()
        cluster.network.deaf.add(old.address)
        old.node._ticker.stop()
        cluster.until(lambda: any(m.leads and m.node.has_lease() for m in cluster.members.values() if m is not old))
        self.assertTrue(old.leads)
        waiting = old.node.read_index()
        self.assertFalse(old.node.has_lease())
        cluster.run(0.1)
        self.fails(NotLeader, waiting)

    def test_being_asked_does_not_keep_a_lead(self) -> None:
        """Time that is learned of by a question has its consequences told like any other."""
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        leader.asleep += 1.0
        leader.node.has_lease()
        self.assertEqual(leader.events[-1].status.role, "follower")


class Failover(NodeTest):
    def test_a_killed_leader_is_replaced_at_once(self) -> None:
        """The survivors take turns, whenever within a tick they learn of it: votes are not split."""
        for seed in range(40):
            cluster = Cluster("a", "b", "c", seed=seed)
            leader = cluster.leader()
            term = leader.node.core.term
            cluster.run(2 + seed * 0.003)
            leader.kill()
            alive = [member for member in cluster.members.values() if member.node.running]
            self.assertLess(cluster.until(lambda: any(member.leads for member in alive)), 0.1)  # noqa: B023
            self.assertEqual({member.node.core.term for member in alive}, {term + 1})

    def test_the_first_survivor_does_not_wait_for_a_tick(self) -> None:
        """It would meet the second one, whose turn comes a tick or two later."""
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        first = min(cluster.followers(), key=lambda member: member.name)
        first.node.lost_contact(leader.name)
        first.node.refused(leader.name)
        self.assertEqual(first.node.core.role.name, "pre-candidate")

    def test_a_frozen_leader_is_replaced_in_time(self) -> None:
        for seed in range(10):
            cluster = Cluster("a", "b", "c", seed=seed)
            leader = cluster.leader()
            cluster.cut(leader)
            others = [member for member in cluster.members.values() if member is not leader]
            self.assertLess(cluster.until(lambda: any(m.leads for m in others)), 1.5)  # noqa: B023

    def test_a_restarted_node_remembers(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        self.done(cluster, leader.node.propose(b"x"))
        cluster.run(0.5)
        for member in cluster.members.values():
            member.kill()
        for member in cluster.members.values():
            member.start()
        leader = cluster.leader()
        self.assertEqual(self.done(cluster, leader.node.propose(b"y")), "y at 4")
        self.assertEqual(leader.machine.commands, ["x", "y"])

    def test_events_tell_of_roles_and_leaders(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(0.5)
        for member in cluster.members.values():
            status = member.events[-1].status
            self.assertEqual(status.leader, leader.name)
            self.assertEqual(status.role, "leader" if member is leader else "follower")
            self.assertEqual(status.connected, frozenset("abc") - {member.name})

    def test_a_node_without_company_does_not_fill_the_log(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        for member in cluster.members.values():
            if member is not leader:
                member.kill()
        cluster.run(5)
        before = len(self.log.events)
        cluster.run(60)
        self.assertLess(len(self.log.events) - before, 10)

    def test_an_observer_that_breaks_down_is_logged_and_nothing_else(self) -> None:
        cluster = Cluster("a", "b", "c")

        def break_down(event: object) -> None:
            raise ZeroDivisionError

        for member in cluster.members.values():
            member.node.observe(break_down)
        self.done(cluster, cluster.leader().node.propose(b"x"))
        self.assertGreater(self.expect_logged(ZeroDivisionError), 0)


class HandingOver(NodeTest):
    def test_to_whom_it_may_concern(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        waiting = leader.node.hand_over()
        self.assertLess(cluster.until(lambda: waiting.called), 0.1)
        self.successResultOf(waiting)
        self.assertIsNot(cluster.leader(), leader)

    def test_to_one_that_is_named(self) -> None:
        cluster = Cluster("a", "b", "c")
        for _ in range(5):
            target = cluster.followers()[0]
            self.done(cluster, cluster.leader().node.hand_over(target.name))
            self.assertIs(cluster.leader(), target)

    def test_proposals_on_their_way_are_decided_all_the_same(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        waiting = [leader.node.propose(b"%d" % number) for number in range(10)]
        leader.node.transfer(cluster.followers()[0].name)
        cluster.until(lambda: all(each.called for each in waiting))
        self.assertEqual([self.successResultOf(each) for each in waiting], [f"{i} at {i + 2}" for i in range(10)])

    def test_none_is_proposed_meanwhile(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        leader.node.hand_over()
        self.fails(TooBusy, leader.node.propose(b"x"))

    def test_to_one_that_does_not_answer(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        target = cluster.followers()[0]
        cluster.cut(target)
        waiting = leader.node.hand_over(target.name)
        self.assertLess(cluster.until(lambda: waiting.called), 0.7)
        self.fails(Unavailable, waiting)
        self.assertTrue(leader.leads)
        self.done(cluster, leader.node.propose(b"x"))

    def test_the_heir_is_in_touch(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        silent, awake = cluster.followers()
        cluster.cut(silent)
        cluster.run(1)
        self.done(cluster, leader.node.hand_over())
        self.assertTrue(awake.leads)

    def test_nobody_to_lead(self) -> None:
        alone = Cluster("a")
        self.fails(ChangeRefused, alone.leader().node.hand_over())
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        for name in (leader.name, "z"):
            self.fails(ChangeRefused, leader.node.hand_over(name))
        self.fails(NotLeader, cluster.followers()[0].node.hand_over())

    def test_twice(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        first = leader.node.hand_over()
        self.fails(ChangeRefused, leader.node.hand_over())
        self.done(cluster, first)

    def test_and_stopping(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        waiting = leader.node.hand_over()
        leader.node.stopService()
        self.fails(Unavailable, waiting)


class Nonsense(NodeTest):
    def test_a_message_that_no_honest_node_sends_ends_its_connection(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        liar = cluster.followers()[0]
        liar.transport.send([AppendReply(liar.name, leader.name, leader.node.core.term, 10**6)])
        cluster.run(0.1)
        self.assertIn("which was never sent", "".join(self.log.texts()))
        self.assertIsNone(leader.node.failed)
        self.done(cluster, leader.node.propose(b"x"))

    def test_settings_that_no_line_can_carry(self) -> None:
        self.assertRaises(ConfigError, Cluster, "a", settings=Settings(max_append=2**20))
