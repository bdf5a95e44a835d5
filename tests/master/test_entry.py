"""How a master comes to its cluster: each row of the table, and what can be in the way."""

import os
from typing import Any

from twisted.logger import LogLevel

from tests.master.entrystage import A, B, C, D, EntryTest, Node, X, Y
from weedtw.errors import Damaged, PeerError, StoreFailed, Unreachable
from weedtw.master import entry
from weedtw.master.entry import NAME, REFUSED_PAUSE
from weedtw.master.foundingfile import NAME as PROMISES
from weedtw.raft.membership import Member, Membership
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity


class NothingOnDiskTests(EntryTest):
    def test_alone(self) -> None:
        self.start()
        self.assertEqual(self.node.membership, Membership({"node-a": Member(A)}))
        self.assertEqual(len(self.node.identity.cluster), 36)
        self.assertEqual((self.entrance.reason, self.entrance.founding), ("", None))
        self.assertEqual(self.network.looked, [])

    def test_joining(self) -> None:
        beginning = {"node-b": {"address": B, "voter": True}}
        other = self.network.add(B, cluster=X, leads=True, joins=[{"cluster": X, "beginning": beginning}])
        self.start(B)
        self.assertEqual(other.asked, [("/cluster/join", {"node": "node-a", "address": A})])
        self.assertEqual(self.node.identity, Identity(X, "node-a"))
        self.assertEqual(self.node.membership, Membership({"node-b": Member(B)}))
        self.assertFalse(self.node.campaigned)

    def test_the_leader_is_asked_first(self) -> None:
        welcome: dict[str, Any] = {"cluster": X, "beginning": {}}
        follower = self.network.add(B, cluster=X, joins=[PeerError(B, "no", 503)])
        leader = self.network.add(C, cluster=X, leads=True, joins=[welcome])
        self.start(B, C)
        self.assertEqual((follower.asked_to_join(), leader.asked_to_join()), (0, 1))
        self.assertEqual(self.node.membership, Membership())  # there is a snapshot, which comes with the log

    def test_if_one_cannot_take_it_in_another_is_asked(self) -> None:
        self.network.add(B, cluster=X, leads=True, joins=[Unreachable(B, "connection refused")])
        self.network.add(C, cluster=X, joins=[{"cluster": X, "beginning": {}}])
        self.start(B, C)
        self.assertEqual(self.node.identity.cluster, X)

    def test_a_cluster_that_cannot_take_it_in_now(self) -> None:
        joins: list[Any] = [PeerError(B, "no master leads now", 503), {"cluster": X, "beginning": {}}]
        self.network.add(B, cluster=X, joins=joins)
        self.start(B)
        self.assert_waits(f"cluster {X} has not taken it in: no master leads now")
        self.wait(0.5)
        self.assertEqual(self.node.identity.cluster, X)

    def test_a_cluster_that_does_not_take_it_in(self) -> None:
        refusal = PeerError(B, "a:9333 is the address of node n, which is a member", 400)
        other = self.network.add(B, cluster=X, leads=True, joins=[refusal])
        self.start(B)
        self.assert_waits("is the address of node n")
        self.wait(REFUSED_PAUSE / 2)
        self.assertEqual(other.asked_to_join(), 1)
        self.wait(REFUSED_PAUSE)
        self.assertEqual(other.asked_to_join(), 2)
        self.assertEqual(len(self.log.texts(LogLevel.warn)), 1)

    def test_a_cluster_that_answers_strangely(self) -> None:
        beginnings: tuple[Any, ...] = (None, 7, [1], {"n": 7}, {"n": None}, {"n": {}}, {"n": {"address": "b:1"}})
        for answer in ({}, {"cluster": X}, *({"cluster": X, "beginning": each} for each in beginnings)):
            self.network.add(B, cluster=X, leads=True, joins=[answer])
            self.start(B)
            self.assert_waits("answers in a way that is not understood")
            self.end()

    def test_clusters_that_differ_are_named_and_none_is_joined(self) -> None:
        others = [self.network.add(address, cluster=cluster, leads=True) for address, cluster in ((B, X), (C, Y))]
        self.start(B, C)
        self.assert_waits(f"{B} to {X}", f"{C} to {Y}")
        self.wait(20)
        self.assertEqual([other.asked for other in others], [[], []])

    def test_who_is_no_founder_waits_for_a_cluster(self) -> None:
        other = self.network.add(B)
        self.start(B)
        self.assert_waits(f"none of {B} belongs to a cluster", A, "--peers")
        self.wait(5)
        self.assertEqual(other.asked, [])
        self.network.add(B, cluster=X, leads=True, joins=[{"cluster": X, "beginning": {}}])
        self.wait(1)
        self.assertEqual(self.node.identity.cluster, X)

    def test_somebody_who_is_no_master(self) -> None:
        other = self.network.add(B)
        for strange in ({}, {"cluster": 7}, {"members": "x"}, {**other.beliefs(), "members": [7]}):
            other.strange = strange
            self.start(B)
            self.assert_waits("none of")
            self.end()

    def test_an_invitation(self) -> None:
        self.network.add(C, cluster=X, leads=True, joins=[{"cluster": X, "beginning": {}}])
        entrance = self.start(B)
        self.assert_waits("none of")
        entrance.invite([C])
        self.assertEqual(self.node.identity.cluster, X)

    def test_stopping_while_it_waits(self) -> None:
        self.start(B)
        self.end()
        self.assertEqual((self.clock.getDelayedCalls(), self.stopped), ([], []))
        self.assertEqual(os.listdir(self.folder), [])


class StateOnDiskTests(EntryTest):
    def test_it_goes_on_as_that_member(self) -> None:
        self.remember(a=A, b=B, c=C)
        self.start(node="a new id")
        self.assertEqual(self.node.identity, Identity(X, "node-a"))
        self.assertEqual(self.entrance.ledger.node_id, "node-a")
        self.assertEqual(set(self.node.membership.members), {"node-a", "node-b", "node-c"})

    def test_so_it_is_whatever_peers_says(self) -> None:
        self.remember(a=A, b=B)
        other = self.network.add(D, cluster=Y, leads=True)
        self.found_with(D)
        self.assertEqual(self.node.identity.cluster, X)
        self.assertIn(f"--peers names {D}, but the other members on disk are {B}", self.log.texts()[0])
        self.wait(10)
        self.assertEqual(other.asked, [])
        self.assertEqual([Y in line for line in self.log.texts(LogLevel.error)], [True])  # said once

    def test_peers_that_fit_are_no_news(self) -> None:
        self.remember(a=A, b=B)
        self.found_with(B)
        self.assertEqual(self.log.texts(), [])

    def test_what_cannot_be_opened(self) -> None:
        with open(os.path.join(self.folder, NAME), "wb") as file:
            file.write(b"x" * 5000)
        self.assertRaises(StoreFailed, self.make().open)
        os.unlink(os.path.join(self.folder, NAME))
        with open(os.path.join(self.folder, PROMISES), "wb") as file:
            file.write(b"x")
        self.assertRaises(Damaged, self.make().open)

    def test_closing_lets_the_folder_go(self) -> None:
        self.remember(a=A)
        entrance = self.make()
        entrance.open()
        entrance.close()
        entrance.close()
        self.start()
        self.assertEqual(self.node.identity.cluster, X)

    def test_an_address_that_is_spelled_otherwise_is_the_same(self) -> None:
        self.remember(a="localhost:9333", b=B)
        self.network.add("localhost:9333", cluster=X, claims="node-a")  # this one itself
        self.start(address="LOCALHOST:9333")
        self.assertTrue(self.node.running)

    def test_another_address_is_fine_when_nobody_is_at_the_former_one(self) -> None:
        self.remember(a="old:9333", b=B)
        self.start()
        self.assertEqual(self.network.looked[0], "old:9333")
        self.wait(10)
        self.assertTrue(self.node.running)

    def test_another_master_at_the_former_address_is_no_twin(self) -> None:
        self.remember(a="old:9333", b=B)
        self.network.add("old:9333", cluster=X)
        self.start()
        self.wait(3)
        self.assertTrue(self.node.running)

    def test_a_copy_does_not_start_while_the_original_runs(self) -> None:
        self.remember(a="old:9333", b=B)
        twin = self.network.add("old:9333", cluster=X, claims="node-a")
        self.start()
        self.assert_waits(self.folder, "is a copy of that of the master at old:9333", "node-a")
        self.wait(20)
        self.assertEqual(self.nodes, [])
        del self.network.others[twin.address]
        self.wait(REFUSED_PAUSE * 2)
        self.assertTrue(self.node.running)

    def test_a_copy_does_not_start_when_the_original_starts_a_moment_later(self) -> None:
        self.remember(a="old:9333", b=B)
        self.start()
        self.wait(0.3)
        self.network.add("old:9333", cluster=X, claims="node-a")
        self.wait(20)
        self.assert_waits("is a copy of that of the master at old:9333")

    def meet_twin(self, here: int, there: int, twin: str = "z:9333", *, failed: str = "") -> Node:
        """Somebody else runs as this master, too; so many of the others speak with this one, and with that one."""
        self.remember(a=A, b=B, c=C, d=D)
        self.network.add(twin, cluster=X, claims="node-a", failed=failed)
        for place, address in zip([A] * here + [twin] * there, (B, C, D), strict=False):
            self.network.add(address, cluster=X, reaches={"node-a": place})
        self.start()
        self.wait(2)
        return self.node

    def test_of_two_with_one_identity_the_one_stays_with_whom_more_speak(self) -> None:
        failed = self.meet_twin(1, 2).failed
        self.assertIn("is a copy of that of the master at z:9333, or that one's is of this", str(failed))
        self.assertIn(os.path.join(self.folder, NAME), str(failed))

    def test_this_one_stays_then(self) -> None:
        self.assertIsNone(self.meet_twin(2, 1).failed)

    def test_of_two_with_whom_as_many_speak_one_stays(self) -> None:
        self.assertIsNone(self.meet_twin(1, 1).failed)

    def test_of_two_with_whom_as_many_speak_the_other_goes(self) -> None:
        self.assertIsNotNone(self.meet_twin(1, 1, "a.a:9333").failed)

    def test_a_twin_that_takes_no_part_any_more_is_none(self) -> None:
        self.assertIsNone(self.meet_twin(0, 2, failed="it has met us").failed)

    def test_others_may_not_have_noticed_yet_that_this_one_has_moved(self) -> None:
        self.remember(a=A, b=B)
        self.network.add(B, cluster=X, reaches={"node-a": "old:9333"})
        self.start()
        self.wait(10)
        self.assertIsNone(self.node.failed)

    def test_stopping_a_copy_that_waits(self) -> None:
        self.remember(a="old:9333", b=B)
        self.network.add("old:9333", cluster=X, claims="node-a")
        self.start()
        self.end()
        self.assertEqual((self.nodes, self.clock.getDelayedCalls()), ([], []))
        SqliteStorage.open(os.path.join(self.folder, NAME)).close()

    def test_members_that_have_moved_are_found_by_the_addresses_in_peers(self) -> None:
        self.remember(a=A, b=B, c=C)
        moved = self.network.add("new:9333", cluster=X, claims="node-b")
        self.found_with("new:9333")
        self.wait(3)
        self.assertEqual(self.node.learnt, {"node-b": moved.address})

    def test_those_of_another_cluster_are_not_taken_for_members(self) -> None:
        self.remember(a=A, b=B, c=C)
        self.network.add("new:9333", cluster=Y, claims="node-b")
        self.found_with("new:9333")
        self.wait(3)
        self.assertEqual(self.node.learnt, {})

    def test_one_that_was_removed_is_told_the_way_back(self) -> None:
        self.remember(a=A, b=B)
        self.network.add(B, cluster=X, leads=True, members=("node-b",))
        self.start()
        self.wait(10)
        (line,) = self.log.texts(LogLevel.error)
        self.assertIn("the cluster has removed this master", line)
        self.assertEqual(self.entrance.reason, line)
        self.assertIn(f"--peers={B}", line)
        self.assertIn(os.path.join(self.folder, NAME), line)

    def test_whatever_goes_wrong_is_said(self) -> None:
        self.remember(a=A, b=B)

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        self.patch(entry, "make_node", broken)
        self.start()
        self.assertEqual(len(self.stopped), 1)
        self.assertIn("it cannot go on", self.entrance.reason)
        self.assertEqual(self.expect_logged(ZeroDivisionError), 1)
