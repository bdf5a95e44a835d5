"""Whether the masters agree: judged from every kind of disagreement that there can be."""

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from weedtw.client.agreement import Agreement
from weedtw.client.beliefs import Belief, KnownMember
from weedtw.errors import BadRequest, Unavailable

NODES = {name: f"{name * 8}-uuid" for name in "abcde"}


def members(names: str, *, learners: str = "", away: str = "") -> tuple[KnownMember, ...]:
    return tuple(
        KnownMember(NODES[one], f"{one}:1", voter=one not in learners, connected=one not in away) for one in names
    )


def belief(name: str, *, of: str = "abc", leader: str = "a", away: str = "", **more: Any) -> Belief:
    """What that master believes; `a` leads unless told otherwise."""
    fields: dict[str, Any] = {
        "node": NODES[name],
        "address": f"{name}:1",
        "cluster": "cluster-1",
        "role": "LEADER" if name == leader else "FOLLOWER",
        "has_lease": name == leader,
        "term": 7,
        "leader": NODES.get(leader, ""),
        "leader_address": f"{leader}:1" if leader else "",
        "members": members(of, away=away),
    }
    return Belief(f"{name}:1", **{**fields, **more})


def silent(name: str) -> Belief:
    return Belief(f"{name}:1", error="refuses connections", node=NODES[name])


THREE = (belief("a"), belief("b"), belief("c"))


class LeaderTests(SynchronousTestCase):
    def test_all_is_well(self) -> None:
        found = Agreement(THREE)
        self.assertEqual(found.leader, THREE[0])
        self.assertEqual(found.summary(), "a:1 leads in term 7; 3 of 3 voters are here, 1 of them may fail")
        self.assertEqual(found.remarks(), ())

    def test_a_leader_without_a_lease_is_one_when_the_others_say_so(self) -> None:
        leader = belief("a", has_lease=False)
        self.assertEqual(Agreement((leader, *THREE[1:])).leader, leader)
        found = Agreement((leader, belief("b", term=8), belief("c", leader="")))
        self.assertIsNone(found.leader)
        self.assertIn("a:1 takes itself for the leader, and has no majority behind it", found.remarks())

    def test_a_leader_that_has_stopped_is_none(self) -> None:
        found = Agreement((belief("a", failed="disk full"), *THREE[1:]))
        self.assertIsNone(found.leader)
        self.assertIn("a:1 has stopped taking part: disk full", found.remarks())

    def test_one_fails(self) -> None:
        found = Agreement((belief("a", away="c"), belief("b"), silent("c")))
        self.assertEqual(found.summary(), "a:1 leads in term 7; 2 of 3 voters are here, none of them may fail")
        self.assertEqual(found.remarks(), ("c:1: refuses connections",))

    def test_one_that_only_the_leader_reaches_is_here(self) -> None:
        found = Agreement((belief("a"), belief("b"), silent("c")))
        self.assertEqual(found.summary(), "a:1 leads in term 7; 3 of 3 voters are here, 1 of them may fail")

    def test_one_that_is_frozen_is_not_here_though_its_connection_is_open(self) -> None:
        leader = belief("a")
        heard = {"b": 0.1, "c": 60.0}
        seen = (attrs.evolve(m, last_contact=heard.get(m.address[0])) for m in leader.members)
        found = Agreement((attrs.evolve(leader, members=tuple(seen)), belief("b"), silent("c")))
        self.assertEqual(found.summary(), "a:1 leads in term 7; 2 of 3 voters are here, none of them may fail")

    def test_the_majority_is_lost(self) -> None:
        found = Agreement((belief("a", leader="", role="PRE_CANDIDATE", away="bc"), silent("b"), silent("c")))
        self.assertEqual(found.summary(), "nobody leads; 1 of 3 voters is here, 2 are needed")
        self.assertEqual(
            found.remarks()[-1],
            "to decide anything, 1 of b:1, c:1 must be started; if that cannot be, see weedtw help cluster recover",
        )

    def test_nobody_answers(self) -> None:
        found = Agreement((silent("a"),))
        self.assertEqual(found.summary(), "no master that belongs to a cluster answers")
        self.assertEqual(found.remarks(), ("a:1: refuses connections",))


class RemarkTests(SynchronousTestCase):
    def assert_remark(self, line: str, *beliefs: Belief) -> None:
        self.assertIn(line, Agreement(beliefs).remarks())

    def test_leaders(self) -> None:
        other = belief("c", leader="c", term=8)
        self.assert_remark(
            "2 masters take themselves for the leader: a:1 in term 7 without a majority, c:1 in term 8",
            belief("a", has_lease=False),
            belief("b", leader="c", term=8),
            other,
        )
        self.assert_remark(
            "they differ about who leads: a:1 (a:1, b:1); nobody (c:1)", *THREE[:2], belief("c", leader="")
        )

    def test_terms(self) -> None:
        self.assert_remark("their terms differ: term 7 (a:1, b:1); term 8 (c:1)", *THREE[:2], belief("c", term=8))

    def test_memberships(self) -> None:
        self.assert_remark(
            "b:1 goes by another membership than a:1: without dddddddd at d:1",
            belief("a", of="abcd"),
            belief("b"),
        )
        self.assert_remark(
            "b:1 goes by another membership than a:1: with the learner cccccccc at c:1, without cccccccc at c:1",
            belief("a"),
            belief("b", members=members("abc", learners="c")),
        )

    def test_one_that_was_removed(self) -> None:
        found = Agreement((belief("a", of="ab"), belief("b", of="ab"), belief("c", leader="", term=9)))
        self.assertEqual(
            found.remarks(),
            (
                "c:1 (cccccccc) is no member of the cluster; stop it, and move its raft.sqlite3 away before it is "
                "started again",
            ),
        )
        self.assertEqual(found.disagreements(), ())

    def test_those_that_a_recovery_left_behind(self) -> None:
        old = (belief("b", leader="b"), belief("c", leader="b"))
        found = Agreement((*old, belief("d", of="d", leader="d", term=1007)))
        self.assertIsNone(found.leader)
        self.assertIn("b:1 leads in term 7 and d:1 leads in term 1007; ", found.summary())
        removed, _, two, twice = found.remarks()
        self.assertIn("b:1 (bbbbbbbb) is no member", removed)
        self.assertEqual(two, "2 masters take themselves for the leader: b:1 in term 7, d:1 in term 1007")
        self.assertIn("the cluster is there twice", twice)

    def test_clusters(self) -> None:
        other = belief("d", of="d", leader="d", cluster="cluster-2")
        self.assert_remark(
            "these masters belong to different clusters: cluster-1 (a:1); cluster-2 (d:1)", THREE[0], other
        )
        self.assertIsNone(Agreement((THREE[0], other)).leader)

    def test_a_copied_folder(self) -> None:
        twin = attrs.evolve(THREE[1], asked="x:1", address="x:1")
        self.assert_remark(
            f"node {NODES['b']} runs more than once, at b:1, x:1: is a folder a copy of another's?", *THREE, twin
        )

    def test_a_newcomer(self) -> None:
        newcomer = Belief("d:1", node=NODES["d"], address="d:1", role="JOINING", reason="nobody wants it")
        found = Agreement((*THREE, newcomer))
        self.assertEqual(found.remarks(), ("d:1 is not in a cluster yet: nobody wants it",))
        self.assertEqual(found.leader, THREE[0])

    def test_one_that_was_removed_says_so_itself(self) -> None:
        removed = attrs.evolve(THREE[2], reason="the cluster has removed this master")
        self.assert_remark("c:1: the cluster has removed this master", *THREE[:2], removed)

    def test_a_disk_that_is_stuck(self) -> None:
        self.assert_remark("b:1 waits for its disk", THREE[0], belief("b", stuck=True), THREE[2])


class ChangeTests(SynchronousTestCase):
    def test_who_is_asked(self) -> None:
        self.assertEqual(Agreement(THREE).spokesman, THREE[0])
        self.assertEqual(Agreement((silent("a"), *THREE[1:])).spokesman, THREE[1])
        for nobody in (
            (silent("a"),),
            (belief("b", leader=""),),
            (belief("a", has_lease=False), belief("b", leader="")),
        ):
            with self.assertRaises(Unavailable):
                _ = Agreement(nobody).spokesman

    def test_a_member_by_its_names(self) -> None:
        for which in (NODES["b"], "bbbb", "b:1"):
            self.assertEqual(Agreement(THREE).find(which).address, "b:1")
        for which in ("bbb", "", "x:1", "bbbbc"):
            self.assertIn(f"{NODES['a']} at a:1", str(self.assertRaises(BadRequest, Agreement(THREE).find, which)))

    def test_a_prefix_of_two(self) -> None:
        twins = tuple(KnownMember(f"aaaa-{n}", f"{n}:1", voter=True, connected=True) for n in (1, 2))
        self.assertRaises(BadRequest, Agreement((belief("a", members=twins),)).find, "aaaa")

    def test_removing_costs_the_majority(self) -> None:
        found = Agreement((belief("a", away="c"), belief("b"), silent("c")))
        self.assertEqual(
            found.danger_without(found.find("b:1")),
            "without b:1 there are 2 voters, of which 2 are needed to decide anything, and only 1 here: c:1 must "
            "come back or be removed first",
        )
        self.assertEqual(found.danger_without(found.find("c:1")), "")

    def test_removing_costs_nothing(self) -> None:
        found = Agreement(THREE)
        for which in ("a:1", "b:1"):
            self.assertEqual(found.danger_without(found.find(which)), "")
        learner = Agreement((belief("a", members=members("abc", learners="b", away="bc")),))
        self.assertEqual(learner.danger_without(learner.find("b:1")), "")
        alone = Agreement((belief("a", of="a"),))
        self.assertEqual(alone.danger_without(alone.find("a:1")), "")
