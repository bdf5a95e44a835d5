"""The driver while its cluster changes: snapshots, newcomers, removals, new addresses."""

from tests.raft.members import Cluster, Member, NodeTest
from weedtw.errors import ChangeRefused, NotLeader
from weedtw.raft.core import Settings
from weedtw.raft.interface import Timing
from weedtw.raft.membership import AddLearner, ChangeAddress, Demote, Promote, Remove

SNAPSHOTS = Timing(snapshot_every=10)
KEEP_NOTHING = Settings(keep_entries=0)


class Snapshots(NodeTest):
    def fill(self, cluster: Cluster, count: int) -> list[str]:
        for number in range(count):
            self.done(cluster, cluster.leader().node.propose(b"%d" % number))
        return [str(number) for number in range(count)]

    def test_the_log_is_compacted_every_so_many_entries(self) -> None:
        cluster = Cluster("a", "b", "c", timing=SNAPSHOTS, settings=Settings(keep_entries=4))
        expected = self.fill(cluster, 35)
        cluster.run(0.5)
        for member in cluster.members.values():
            state = member.storage.load()
            self.assertEqual(member.machine.commands, expected)
            self.assertGreaterEqual(state.snapshot.index, 30)
            self.assertLessEqual(len(state.entries), 4 + 10)
            self.assertEqual(member.node.status().snapshot_index, state.snapshot.index)

    def test_a_restarted_node_goes_on_from_its_snapshot(self) -> None:
        cluster = Cluster("a", "b", "c", timing=SNAPSHOTS, settings=KEEP_NOTHING)
        expected = self.fill(cluster, 25)
        follower = cluster.followers()[0]
        cluster.run(0.5)
        follower.kill()
        follower.start()
        cluster.until(lambda: follower.machine.commands == expected)
        self.assertEqual(follower.machine.restored, 1)

    def test_a_node_alone_goes_on_from_its_snapshot(self) -> None:
        cluster = Cluster("a", timing=SNAPSHOTS, settings=KEEP_NOTHING)
        expected = self.fill(cluster, 25)
        cluster["a"].kill()
        cluster["a"].start()
        self.done(cluster, cluster.leader().node.propose(b"y"))
        self.assertEqual(cluster["a"].machine.commands, [*expected, "y"])

    def test_a_follower_that_was_away_too_long_gets_a_snapshot_in_chunks(self) -> None:
        cluster = Cluster("a", "b", "c", timing=SNAPSHOTS, settings=Settings(keep_entries=0, chunk=16))
        follower = cluster.followers()[0]
        follower.kill()
        expected = self.fill(cluster, 45)
        follower.start()
        cluster.until(lambda: follower.machine.commands == expected)
        self.assertEqual(follower.machine.restored, 1)
        self.assertGreaterEqual(follower.storage.load().snapshot.index, 40)

    def test_and_keeps_it_over_a_restart(self) -> None:
        cluster = Cluster("a", "b", "c", timing=SNAPSHOTS, settings=KEEP_NOTHING)
        follower = cluster.followers()[0]
        follower.kill()
        expected = self.fill(cluster, 45)
        follower.start()
        cluster.until(lambda: follower.machine.commands == expected)
        cluster.run(0.5)
        follower.kill()
        follower.start()
        cluster.until(lambda: follower.machine.commands == expected)


class Changes(NodeTest):
    def test_a_newcomer_learns_and_then_votes(self) -> None:
        cluster = Cluster("a")
        self.done(cluster, cluster.leader().node.propose(b"x"))
        newcomer = cluster.join("b", vote=False)
        cluster.until(lambda: newcomer.machine.commands == ["x"])
        self.assertFalse(cluster["a"].node.status().membership.members["b"].voter)
        self.done(cluster, cluster["a"].node.change(Promote("b")))
        self.assertEqual(cluster["a"].node.core.log.membership.voters, {"a", "b"})
        cluster.cut(newcomer)
        cluster.until(lambda: not cluster["a"].leads)

    def test_from_one_to_three_and_without_the_first(self) -> None:
        cluster = Cluster("a")
        cluster.join("b")
        cluster.join("c")
        cluster.run(1)
        cluster["a"].kill()
        leader = cluster.leader()
        self.done(cluster, leader.node.change(Remove("a")))
        self.done(cluster, leader.node.propose(b"x"))
        self.assertEqual(leader.node.core.log.membership.members.keys(), {"b", "c"})

    def test_a_leader_that_removes_itself(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        self.done(cluster, leader.node.change(Remove(leader.name)))
        taken = cluster.until(lambda: any(m.leads for m in cluster.members.values() if m is not leader))
        self.assertLess(taken, 0.2)
        new = cluster.leader()
        self.done(cluster, new.node.propose(b"x"))
        cluster.run(5)
        self.assertEqual(leader.node.status().role, "follower")
        self.assertEqual(leader.machine.commands, [])
        self.assertIs(cluster.leader(), new)
        self.assertFalse(leader.node.has_lease())

    def test_a_removed_node_disturbs_nobody(self) -> None:
        cluster = Cluster("a", "b", "c", "d")
        leader = cluster.leader()
        cluster.run(1)
        removed = cluster.followers()[0]
        self.done(cluster, leader.node.change(Remove(removed.name)))
        term = leader.node.core.term
        cluster.run(10)
        self.assertTrue(leader.leads)
        self.assertEqual(leader.node.core.term, term)

    def test_a_removed_node_that_comes_back_disturbs_nobody(self) -> None:
        """It was away when it was removed, so it does not know."""
        cluster = Cluster("a", "b", "c", "d")
        leader = cluster.leader()
        cluster.run(1)
        removed = cluster.followers()[0]
        removed.kill()
        self.done(cluster, leader.node.change(Remove(removed.name)))
        term = leader.node.core.term
        removed.start()
        cluster.run(10)
        self.assertTrue(leader.leads)
        self.assertEqual(leader.node.core.term, term)

    def test_a_demoted_node_goes_on_learning(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        cluster.run(1)
        demoted = cluster.followers()[0]
        self.done(cluster, leader.node.change(Demote(demoted.name)))
        self.done(cluster, leader.node.propose(b"x"))
        cluster.until(lambda: demoted.machine.commands == ["x"])
        self.assertEqual(len(leader.node.core.log.membership.voters), 2)

    def test_what_is_refused(self) -> None:
        cluster = Cluster("a", "b", "c")
        leader = cluster.leader()
        self.fails(ChangeRefused, leader.node.change(Remove("z")))
        self.fails(ChangeRefused, leader.node.change(AddLearner("a", "a:1")))
        self.fails(NotLeader, cluster.followers()[0].node.change(Remove("a")))
        first = leader.node.change(AddLearner("x", "x:1"))
        self.fails(ChangeRefused, leader.node.change(AddLearner("y", "y:1")))
        self.done(cluster, first)
        self.done(cluster, leader.node.change(AddLearner("y", "y:1")))

    def test_events_tell_of_members(self) -> None:
        cluster = Cluster("a", "b", "c")
        self.done(cluster, cluster.leader().node.change(AddLearner("x", "x:1")))
        cluster.run(0.5)
        for member in cluster.members.values():
            self.assertIn("x", member.events[-1].status.membership)

    def test_a_change_that_is_undone_is_no_longer_followed(self) -> None:
        """Appended by a leader that was cut off, and never decided."""
        cluster = Cluster("a", "b", "c")
        old = cluster.leader()
        cluster.cut(old)
        old.node.change(AddLearner("x", "x:1")).addErrback(lambda failure: failure.trap(NotLeader))
        cluster.run(0.1)
        self.assertIn("x", old.node.status().membership)
        cluster.until(lambda: not old.leads)
        cluster.leader()
        cluster.mend()
        cluster.until(lambda: "x" not in old.node.status().membership)
        cluster.network.dialled.clear()
        cluster.run(5)
        self.assertNotIn((old.address, "x:1"), cluster.network.dialled)


class Addresses(NodeTest):
    def move(self, member: Member, address: str) -> None:
        member.kill()
        member.address = address
        member.start()

    def test_a_node_that_comes_back_elsewhere_is_the_same_member(self) -> None:
        cluster = Cluster("a", "b", "c")
        cluster.run(1)
        moved = cluster.followers()[0]
        self.move(moved, "elsewhere:1")
        leader = cluster.leader()
        self.done(cluster, leader.node.propose(b"x"))
        cluster.until(lambda: all(m.machine.commands == ["x"] for m in cluster.members.values()))
        self.assertEqual(leader.node.status().membership.voters, {"a", "b", "c"})
        self.assertEqual(len(cluster.network.between(leader.address, "elsewhere:1")), 4)  # two of each connection

    def test_all_of_them_one_after_the_other(self) -> None:
        cluster = Cluster("a", "b", "c")
        cluster.run(1)
        for name in "abc":
            self.move(cluster[name], f"new-{name}:1")
            leader = cluster.leader().node
            self.done(cluster, leader.change(ChangeAddress(name, f"new-{name}:1")))
        cluster.run(0.5)
        for member in cluster.members.values():
            addresses = {m.address for m in member.node.status().membership.members.values()}
            self.assertEqual(addresses, {"new-a:1", "new-b:1", "new-c:1"})
            member.kill()
        for member in cluster.members.values():
            member.start()
        self.done(cluster, cluster.leader().node.propose(b"x"))
