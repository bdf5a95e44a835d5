"""The driver when something is slow, stuck or broken: disks, state machines, broken promises; and stopping."""

import attrs

from tests.raft.members import Cluster, Member, NodeTest
from weedtw.errors import InvariantBroken, MaybeCommitted, StoreFailed, TooBusy
from weedtw.raft.interface import Timing
from weedtw.raft.messages import (
    Append,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Message,
    VoteReply,
    VoteRequest,
)
from weedtw.raft.storage import Update


def promises(messages: list[Message]) -> list[Message]:
    """Those that must not be sent before something is on disk."""
    harmless = (Heartbeat, HeartbeatReply)
    return [
        m for m in messages if not (isinstance(m, harmless) or (isinstance(m, VoteRequest | VoteReply) and m.pre))
    ]


class SlowDisks(NodeTest):
    def test_a_slow_disk_costs_throughput_but_not_the_lead(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        term = leader.node.core.term
        for member in cluster.members.values():
            member.disk.write = 1.5
        for _ in range(5):
            waiting = leader.node.propose(b"x")
            cluster.run(0.1)
            while not waiting.called:
                cluster.run(0.02)
                self.assertTrue(leader.node.has_lease())
            self.successResultOf(waiting)
        self.assertEqual(leader.node.core.term, term)

    def test_messages_that_promise_wait_for_the_disk(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        for member in cluster.members.values():
            member.disk.held = True
        waiting = leader.node.propose(b"x")
        for member in cluster.members.values():
            member.transport.sent.clear()
        cluster.run(1)
        self.assertEqual([promises(m.transport.sent) for m in cluster.members.values()], [[], [], []])
        self.assertGreater(len(leader.transport.sent), 10)
        leader.disk.let_go()
        cluster.run(0.1)
        self.assertTrue(any(isinstance(m, Append) for m in leader.transport.sent))
        for follower in cluster.followers():
            self.assertEqual(promises(follower.transport.sent), [])
            follower.disk.let_go()
        self.assertEqual(self.done(cluster, waiting), "x at 2")

    def test_one_write_at_a_time(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        leader.disk.held = True
        for number in range(10):
            leader.node.propose(b"%d" % number)
            cluster.run(0.02)
        self.assertEqual(len(leader.disk._waiting), 1)
        leader.disk.let_go()
        cluster.run(0.2)
        self.assertEqual(len(leader.machine.commands), 10)


class StuckDisks(NodeTest):
    def stuck(self) -> tuple[Cluster, Member, list[object]]:
        """A cluster whose leader's disk has been stuck for so long that it leads no more."""
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        leader.disk.held = True
        outcome: list[object] = []
        leader.node.propose(b"x").addBoth(outcome.append)
        lost = cluster.until(lambda: not leader.leads)
        self.assertGreater(lost, Timing().stuck - 0.1)
        self.assertLess(lost, Timing().stuck + 0.1)
        return cluster, leader, outcome

    def test_it_costs_the_lead(self) -> None:
        cluster, leader, _ = self.stuck()
        self.assertFalse(leader.node.has_lease())
        self.assertTrue(leader.node.status().stuck)
        self.assertTrue(leader.events[-1].status.stuck)
        new = cluster.leader()
        self.assertIsNot(new, leader)
        self.assertEqual(self.done(cluster, new.node.propose(b"y")), "y at 3")

    def test_nothing_is_asked_of_it_and_nothing_promised(self) -> None:
        cluster, leader, outcome = self.stuck()
        leader.transport.sent.clear()
        self.fails(TooBusy, leader.node.propose(b"z"))
        self.fails(TooBusy, leader.node.read_index())
        self.done(cluster, cluster.leader().node.propose(b"y"))
        cluster.run(5)
        self.assertEqual(promises(leader.transport.sent), [])
        self.assertEqual(leader.node.core.term, cluster.leader().node.core.term)
        self.assertIsInstance(getattr(outcome[0], "value", None), MaybeCommitted)

    def test_it_comes_back_as_a_follower_and_deposes_nobody(self) -> None:
        cluster, leader, _ = self.stuck()
        new = cluster.leader()
        cluster.run(10)
        term = new.node.core.term
        self.done(cluster, new.node.propose(b"y"))
        leader.disk.let_go()
        cluster.run(5)
        self.assertIs(cluster.leader(), new)
        self.assertEqual(new.node.core.term, term)
        self.assertEqual(leader.machine.commands, new.machine.commands)
        self.assertFalse(leader.node.status().stuck)

    def test_a_follower_with_a_stuck_disk_deposes_nobody(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        follower = cluster.followers()[0]
        follower.disk.held = True
        self.done(cluster, leader.node.propose(b"x"))
        cluster.run(10)
        cluster.cut(follower)
        cluster.run(10)
        cluster.mend()
        term = leader.node.core.term
        cluster.run(1)
        follower.disk.let_go()
        cluster.run(3)
        self.assertTrue(leader.leads)
        self.assertEqual(leader.node.core.term, term)
        self.assertEqual(follower.machine.commands, ["x"])

    def test_what_was_promised_while_it_was_stuck_is_kept_afterwards(self) -> None:
        """A heartbeat answered a moment ago binds for an election timeout, however long the disk had stood still."""
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        bound, other = cluster.followers()
        bound.disk.held = True
        self.done(cluster, leader.node.propose(b"x"))
        cluster.run(5)
        self.assertTrue(bound.node.is_stuck())
        bound.disk.let_go()
        core = other.node.core
        ask = VoteRequest(other.name, bound.name, core.term + 1, 10**6, 10**6, pre=True)
        bound.transport.sent.clear()
        bound.node.received(ask)
        cluster.run(0.1)
        granted = [m for m in bound.transport.sent if isinstance(m, VoteReply) and m.granted]
        self.assertEqual(granted, [])

    def test_alone(self) -> None:
        cluster = Cluster("a")
        leader = cluster.leader()
        leader.disk.held = True
        leader.node.propose(b"x").addErrback(lambda failure: failure.trap(MaybeCommitted))
        cluster.until(lambda: not leader.leads)
        cluster.run(3)
        leader.disk.let_go()
        self.assertIs(cluster.leader(), leader)
        self.assertEqual(leader.machine.commands, ["x"])


class BrokenStores(NodeTest):
    def break_store(self, member: Member) -> StoreFailed:
        error = StoreFailed("/mdir/raft.sqlite3", "disk I/O error")

        def save(update: Update) -> None:
            raise error

        member.storage.save = save  # type: ignore[method-assign]
        return error

    def test_a_failed_write_stops_the_node(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        error = self.break_store(leader)
        waiting = leader.node.propose(b"x")
        reading = leader.node.read_index()
        cluster.run(0.1)
        self.assertIn("/mdir/raft.sqlite3: disk I/O error", self.fails(MaybeCommitted, waiting).reason)
        self.assertIs(self.fails(StoreFailed, reading), error)
        self.assertEqual(leader.stopped, [error])
        self.assertEqual(leader.node.status().failed, str(error))
        self.assertFalse(leader.node.has_lease())
        for refused in (leader.node.propose(b"x"), leader.node.read_index(), leader.node.hand_over()):
            self.assertIs(self.fails(StoreFailed, refused), error)
        self.assertRaises(StoreFailed, leader.node.transfer, "b")
        self.expect_logged()

    def test_it_says_nothing_more_and_the_others_go_on(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        self.break_store(leader)
        leader.node.propose(b"x").addErrback(lambda failure: failure.trap(MaybeCommitted))
        cluster.run(0.05)
        leader.transport.sent.clear()
        cluster.network.kill(leader.address)
        others = [member for member in cluster.members.values() if member is not leader]
        cluster.until(lambda: any(m.leads and m.node.has_lease() for m in others))
        new = next(member for member in others if member.leads)
        self.done(cluster, new.node.propose(b"y"))
        self.assertEqual(leader.transport.sent, [])
        self.assertEqual(leader.machine.commands, [])
        self.expect_logged()

    def test_its_connections_are_closed(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        self.break_store(leader)
        leader.node.propose(b"x").addErrback(lambda failure: failure.trap(MaybeCommitted))
        cluster.run(0.05)
        cluster.run(5)
        for member in cluster.members.values():
            self.assertNotIn(leader.name, member.transport.connected())
        self.assertEqual(leader.transport.connected(), frozenset())
        self.assertIn(f"refused there: node {leader.name} is stopping", "".join(self.log.texts()))
        self.expect_logged()

    def test_it_can_still_be_stopped(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        closed: list[bool] = []
        leader.storage.close = lambda: closed.append(True)  # type: ignore[method-assign]
        self.break_store(leader)
        leader.node.propose(b"x").addErrback(lambda failure: failure.trap(MaybeCommitted))
        cluster.run(0.1)
        self.done(cluster, leader.node.stopService())
        self.assertEqual(closed, [True])
        self.expect_logged()

    def test_one_that_is_told_to_retire(self) -> None:
        """It stops by itself, and the others go on as if it were dead."""
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        waiting = leader.node.propose(b"x")
        error = StoreFailed("/mdir/raft.sqlite3", "does not count any more")
        leader.node.retire(error)
        leader.node.retire(StoreFailed("/mdir/raft.sqlite3", "still does not"))
        self.fails(MaybeCommitted, waiting)
        self.assertEqual(leader.stopped, [error])
        self.assertIs(leader.node.failed, error)
        self.assertFalse(leader.node.has_lease())
        others = [member for member in cluster.members.values() if member is not leader]
        cluster.until(lambda: any(m.leads and m.node.has_lease() for m in others))
        self.done(cluster, leader.node.stopService())

    def test_something_else_that_a_store_raises_stops_it_as_well(self) -> None:
        cluster = Cluster("a")
        leader = cluster.leader()

        def save(update: Update) -> None:
            raise ZeroDivisionError

        leader.storage.save = save  # type: ignore[method-assign]
        waiting = leader.node.propose(b"x")
        cluster.run(0.1)
        self.fails(MaybeCommitted, waiting)
        self.assertIsInstance(leader.node.failed, InvariantBroken)
        self.assertEqual(self.expect_logged(ZeroDivisionError), 1)


class BrokenMachines(NodeTest):
    def assert_stopped(self, member: Member, *kinds: type[Exception]) -> None:
        self.assertIsInstance(member.node.failed, InvariantBroken)
        self.assertEqual(member.stopped, [member.node.failed])
        self.assertGreaterEqual(self.expect_logged(*kinds), 1)

    def test_applying_breaks_down(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        before, broken = leader.node.propose(b"x"), leader.node.propose(b"divide")
        cluster.run(1)
        self.fails(MaybeCommitted, broken)
        self.assertTrue(before.called)
        before.addErrback(lambda failure: failure.trap(MaybeCommitted))
        for member in cluster.members.values():
            self.assertIsInstance(member.node.failed, InvariantBroken)
        self.assert_stopped(leader, ZeroDivisionError)

    def test_the_snapshot_breaks_down(self) -> None:
        cluster = Cluster("a", timing=Timing(snapshot_every=3))
        leader = cluster.leader()
        leader.machine.broken = True
        for _ in range(4):
            leader.node.propose(b"x").addErrback(lambda failure: failure.trap(MaybeCommitted))
        cluster.run(0.1)
        self.assert_stopped(leader, ZeroDivisionError)

    def test_a_conflict_with_what_is_committed_is_no_matter_of_one_connection(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        self.done(cluster, leader.node.propose(b"x"))
        cluster.run(0.5)
        follower = cluster.followers()[0]
        term = follower.node.core.term + 1
        # A leader of the next term that has never heard of what this one has committed.
        forged = Append(leader.name, follower.name, term, 0, 0, (Entry(1, term), Entry(2, term), Entry(3, term)), 5)
        follower.node.core.log.commit_to = self.broken_promise  # type: ignore[method-assign]
        follower.node.received(attrs.evolve(forged, prev_index=2, prev_term=1, entries=()))
        self.assert_stopped(follower, InvariantBroken)

    def broken_promise(self, index: int) -> bool:
        raise InvariantBroken(f"told to commit {index}")


class Stopping(NodeTest):
    def test_while_a_write_is_under_way(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        order: list[str] = []
        save = leader.storage.save
        leader.storage.save = lambda update: (order.append("saved"), save(update))[1]  # type: ignore[func-returns-value,method-assign]
        leader.storage.close = lambda: order.append("closed")  # type: ignore[method-assign]
        leader.disk.held = True
        leader.node.propose(b"x").addErrback(lambda failure: failure.trap(MaybeCommitted))
        cluster.run(0.1)
        stopped = leader.node.stopService()
        cluster.run(1)
        self.assertNoResult(stopped)
        self.assertTrue(leader.disk.running)
        leader.disk.let_go()
        self.done(cluster, stopped)
        self.assertEqual(order, ["saved", "closed"])
        self.assertFalse(leader.disk.running)

    def test_nothing_is_left_behind(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        leader.node.read_index().addErrback(lambda failure: None)
        leader.node.propose(b"x").addErrback(lambda failure: None)
        stopped = [member.node.stopService() for member in cluster.members.values()]
        cluster.run(1)
        for each in stopped:
            self.successResultOf(each)
        self.assertEqual(cluster.network.ends, [])
        self.assertEqual(cluster.clock.getDelayedCalls(), [])

    def test_a_store_that_cannot_be_closed(self) -> None:
        cluster = Cluster("a")

        def close() -> None:
            raise StoreFailed("/mdir/raft.sqlite3", "disk I/O error")

        cluster["a"].storage.close = close  # type: ignore[method-assign]
        self.done(cluster, cluster["a"].node.stopService())
        self.assertIn("closing the store: /mdir/raft.sqlite3: disk I/O error", self.log.texts())
