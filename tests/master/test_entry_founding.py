"""How masters without anything on disk found a cluster, as one of them sees it."""

import os

from tests.master.entrystage import A, B, C, D, EntryTest, Other, X
from weedtw.errors import ChangeRefused, StoreFailed
from weedtw.master import founding
from weedtw.master.entry import GRACE, NAME
from weedtw.master.foundingfile import NAME as PROMISES
from weedtw.master.foundingfile import FoundingFile
from weedtw.raft.membership import Member, Membership
from weedtw.raft.storage import Identity


class FoundingTests(EntryTest):
    def all_of(self, *addresses: str) -> list[Other]:
        """Others that are told of each other and of this one."""
        return [self.network.add(address, own=(A, *addresses)) for address in addresses]

    def test_all_are_here(self) -> None:
        others = self.all_of(B, C)
        self.found_with(B, C)
        for other in others:
            self.assertEqual(other.steps(), ["promise", "accept", "born"])
        members = {"node-a": Member(A), "node-b": Member(B), "node-c": Member(C)}
        self.assertEqual(self.node.membership, Membership(members))
        self.assertEqual({other.cluster for other in others}, {self.node.identity.cluster})
        self.assertTrue(self.node.campaigned)
        self.assertEqual(sorted(os.listdir(self.folder)), [NAME, f"{NAME}-shm", f"{NAME}-wal", f"{NAME}.lock"])

    def test_too_few_are_here(self) -> None:
        b = self.network.add(B, own=(A, B, C))
        del self.network.others[B]
        self.found_with(B, C)
        self.assert_waits("1 of the 3 masters", "2 are needed to found a cluster")
        self.wait(20)
        self.assertEqual(self.nodes, [])
        self.network.others[B] = b
        self.wait(GRACE + 1)
        self.assertEqual(set(self.node.membership.members), {"node-a", "node-b"})

    def test_a_majority_waits_a_moment_for_the_rest(self) -> None:
        b, c = self.all_of(B, C)
        del self.network.others[C]
        self.found_with(B, C)
        self.wait(GRACE / 2)
        self.assertEqual((self.nodes, b.asked), ([], []))
        self.network.others[C] = c
        self.wait(0.5)
        self.assertEqual(len(self.node.membership.members), 3)

    def test_half_of_an_even_number_is_not_enough(self) -> None:
        self.all_of(B, C, D)
        del self.network.others[C], self.network.others[D]
        self.found_with(B, C, D)
        self.wait(20)
        self.assert_waits("2 of the 4 masters", "3 are needed")

    def test_mostly_the_one_with_the_lowest_id_proposes(self) -> None:
        (b,) = self.all_of(B)
        self.found_with(B, node="node-z")
        self.wait(5)
        self.assertEqual(b.asked, [])
        self.chance = 0.9  # but never only that one: it may be the one that is broken
        self.wait(1)
        self.assertEqual(b.steps(), ["promise", "accept", "born"])

    def test_another_was_faster(self) -> None:
        (b,) = self.all_of(B)
        b.acceptor = b.acceptor.promise((A, B), (7, "node-b"), b.own)
        self.found_with(B)
        self.wait(3)
        self.assertGreater(self.node.storage.load().snapshot.membership.members.keys(), {"node-a"})
        self.assertGreater(b.acceptor.promised, (7, "node-b"))

    def test_what_others_agreed_to_before_is_what_is_founded(self) -> None:
        b, c = self.all_of(B, C)
        birth = founding.Birth(X, {"node-b": B, "node-c": C, "node-a": A})
        b.acceptor = b.acceptor.promise((A, B, C), (1, "node-c"), b.own).accept(
            (A, B, C), (1, "node-c"), birth, b.own
        )
        self.found_with(B, C)
        self.wait(3)
        self.assertEqual(self.node.identity.cluster, X)
        self.assertEqual(c.cluster, X)

    def test_a_birth_without_this_one(self) -> None:
        """It sees it through, and joins."""
        b, c = self.all_of(B, C)
        birth = founding.Birth(X, {"node-b": B, "node-c": C})
        b.acceptor = b.acceptor.promise((A, B, C), (1, "node-c"), b.own).accept(
            (A, B, C), (1, "node-c"), birth, b.own
        )
        b.joins = c.joins = [{"cluster": X, "beginning": {}}]
        self.found_with(B, C)
        self.wait(3)
        self.assertEqual(self.node.identity.cluster, X)
        self.assertEqual(b.asked_to_join() + c.asked_to_join(), 1)
        self.assertFalse(os.path.exists(os.path.join(self.folder, PROMISES)))

    def test_a_promise_outlives_the_process_also_when_it_is_started_without_peers(self) -> None:
        entrance = self.found_with(B, C)
        birth = founding.Birth(X, {"node-a": A, "node-b": B})
        entrance.promise((A, B, C), (3, "node-b"))
        entrance.accept((A, B, C), (3, "node-b"), birth)
        self.end()
        self.start(node="another id")
        self.assertEqual(self.entrance.ledger.node_id, "node-a")
        self.assert_waits("1 of the 3 masters", PROMISES)
        self.entrance.born(birth)
        self.assertEqual(self.node.identity, Identity(X, "node-a"))

    def test_a_promise_that_cannot_be_kept_is_not_given(self) -> None:
        entrance = self.found_with(B, C)

        def keep(*_: object) -> None:
            raise StoreFailed(PROMISES, "no space left")

        self.patch(FoundingFile, "keep", keep)
        self.assertRaises(StoreFailed, entrance.promise, (A, B, C), (3, "node-b"))
        self.assertEqual(entrance.founding, {"list": [A, B, C], "ballot": 0})

    def test_who_has_not_agreed_is_not_born(self) -> None:
        entrance = self.found_with(B, C)
        entrance.promise((A, B, C), (3, "node-b"))
        entrance.born(founding.Birth(X, {"node-a": A, "node-b": B}))
        self.assertEqual(self.nodes, [])

    def test_a_member_promises_nothing_more(self) -> None:
        entrance = self.start()
        for step in (
            lambda: entrance.promise((A, B), (1, "node-b")),
            lambda: entrance.accept((A, B), (1, "node-b"), founding.Birth(X, {"node-a": A})),
        ):
            self.assertIn("belongs to cluster", str(self.assertRaises(ChangeRefused, step)))

    def test_a_cluster_that_is_there_is_joined_rather_than_a_new_one_founded(self) -> None:
        b, c = self.all_of(B, C)
        c.cluster, c.leads, c.joins = X, True, [{"cluster": X, "beginning": {}}]
        self.found_with(B, C)
        self.assertEqual((self.node.identity.cluster, b.asked), (X, []))
