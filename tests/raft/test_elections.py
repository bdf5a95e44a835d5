"""Any majority has a leader before long: whoever is gone, however it went, and whatever was under way meanwhile.

Before long is three election timeouts of the shortest kind, in simulated time; what is left is out of reach without a
word, so that nobody can tell that it is dead.
"""

import itertools

from tests.raft.members import Cluster, Member, NodeTest
from weedtw.raft.core import Settings
from weedtw.raft.interface import Timing
from weedtw.raft.messages import SnapshotChunk

LIMIT = 3 * Settings().election * Timing().tick  # seconds
CHUNKS = Settings(keep_entries=0, chunk=16)


def others(cluster: Cluster, member: Member) -> list[Member]:
    return [each for each in cluster.members.values() if each is not member]


class ElectionTest(NodeTest):
    def check_elects(self, cluster: Cluster, able: list[Member]) -> Member:
        """One of them leads in time, decides something, and is the only one that can."""
        names = [member.name for member in able]
        self.assertLess(cluster.until(lambda: any(member.leads for member in able)), LIMIT, names)
        cluster.until(lambda: any(member.leads and member.node.has_lease() for member in able))
        leader = max((member for member in able if member.leads), key=lambda member: member.node.core.term)
        self.done(cluster, leader.node.propose(b"decided"))
        gone = [member for member in cluster.members.values() if member not in able and member.node.running]
        self.assertFalse(any(member.node.has_lease() for member in gone), names)
        return leader


class Majorities(ElectionTest):
    def test_every_one_of_every_cluster(self) -> None:
        for names in ("ab", "abc", "abcd", "abcde"):
            for able in itertools.combinations(names, len(names) // 2 + 1):
                for seed in range(3):
                    cluster = Cluster(*names, seed=seed)
                    cluster.leader()
                    for name in set(names) - set(able):
                        cluster.cut(cluster[name])
                    self.check_elects(cluster, [cluster[name] for name in able])

    def test_the_first_election_of_all(self) -> None:
        for names in ("a", "ab", "abc", "abcd", "abcde"):
            for seed in range(5):
                cluster = Cluster(*names, seed=seed)
                self.check_elects(cluster, list(cluster.members.values()))

    def test_one_after_the_other_is_lost_and_comes_back(self) -> None:
        """No lead leaves anything behind that keeps the next one waiting."""
        cluster = Cluster("a", "b", "c")
        for _ in range(10):
            leader = cluster.leader()
            cluster.cut(leader)
            self.check_elects(cluster, others(cluster, leader))
            cluster.mend()
            cluster.run(1)
        self.assertEqual(cluster.leader().machine.commands, ["decided"] * 10)

    def test_less_than_a_majority_elects_nobody_and_afterwards_there_is_one_leader(self) -> None:
        """Whether the leader of before is among the few or not."""
        for names in ("ab", "abc", "abcd", "abcde"):
            for count in range(1, len(names) // 2 + 1):
                for keeps in (True, False):
                    cluster = Cluster(*names)
                    leader = cluster.leader()
                    few = ([leader, *others(cluster, leader)] if keeps else others(cluster, leader))[:count]
                    many = [member for member in cluster.members.values() if member not in few]
                    case = (names, count, keeps)
                    cluster.part(few, many)
                    cluster.run(LIMIT)
                    self.assertFalse(any(member.leads for member in few), case)
                    self.assertEqual(sum(member.leads for member in many), int(2 * len(many) > len(names)), case)
                    cluster.mend()
                    cluster.run(LIMIT)
                    everybody = list(cluster.members.values())
                    self.assertEqual(sum(member.leads for member in everybody), 1, case)
                    self.assertEqual(len({member.node.core.term for member in everybody}), 1, case)


class InTheMiddleOfASnapshot(ElectionTest):
    def sending(self, seed: int) -> tuple[Cluster, Member, Member, Member]:
        """A leader that has sent a part of a snapshot, the one that it is for, and the third."""
        cluster = Cluster("a", "b", "c", timing=Timing(snapshot_every=10), settings=CHUNKS, seed=seed)
        behind, third = cluster.followers()
        leader = cluster.leader()
        behind.kill()
        for number in range(45):
            self.done(cluster, leader.node.propose(b"%d" % number))
        leader.transport.sent.clear()
        behind.start()
        cluster.until(lambda: sum(isinstance(message, SnapshotChunk) for message in leader.transport.sent) > 2)
        self.assertEqual(behind.machine.restored, 0)
        return cluster, leader, behind, third

    def check_recovers(self, cluster: Cluster, leader: Member, behind: Member, third: Member) -> None:
        self.assertIs(self.check_elects(cluster, [behind, third]), third)
        cluster.until(lambda: behind.machine.commands == third.machine.commands)
        self.assertEqual(behind.machine.commands, [*map(str, range(45)), "decided"])
        self.assertEqual(behind.machine.restored, 1)

    def test_the_sender_is_cut_off(self) -> None:
        for seed in range(5):
            cluster, leader, behind, third = self.sending(seed)
            cluster.cut(leader)
            self.check_recovers(cluster, leader, behind, third)

    def test_the_sender_is_killed(self) -> None:
        for seed in range(5):
            cluster, leader, behind, third = self.sending(seed)
            leader.kill()
            self.check_recovers(cluster, leader, behind, third)

    def test_the_receiver_is_killed_and_comes_back_without_the_sender(self) -> None:
        for seed in range(5):
            cluster, leader, behind, third = self.sending(seed)
            behind.kill()
            leader.kill()
            behind.start()
            self.check_recovers(cluster, leader, behind, third)

    def test_the_third_is_lost(self) -> None:
        """Then the snapshot has to arrive before anything can be decided; the leader stays."""
        for seed in range(5):
            cluster, leader, behind, third = self.sending(seed)
            cluster.cut(third)
            self.assertIs(self.check_elects(cluster, [leader, behind]), leader)
            cluster.until(lambda: behind.machine.commands == leader.machine.commands)  # noqa: B023
            self.assertEqual(behind.machine.restored, 1)
