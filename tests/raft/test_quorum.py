"""The arithmetic of majorities, against a second implementation that is slow and plainly right."""

from collections.abc import Mapping
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.raft.membership import AddLearner, Change, Demote, Member, Membership, Promote, Remove

nodes = st.sampled_from("abcdefg")
members = st.dictionaries(nodes, st.builds(Member, st.just("host:1"), st.booleans()), max_size=7)
memberships = members.map(Membership)
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(AddLearner, nodes, st.just("host:2")),
    st.builds(Promote, nodes),
    st.builds(Demote, nodes),
    st.builds(Remove, nodes),
)


def voters_of(membership: Membership) -> list[str]:
    return [node for node, member in membership.members.items() if member.voter]


def majorities(membership: Membership) -> list[set[str]]:
    """Every set of voters that is larger than what it leaves out."""
    voters = voters_of(membership)
    sets = [set(some) for size in range(len(voters) + 1) for some in combinations(voters, size)]
    return [some for some in sets if len(some) > len(voters) - len(some)]


def value_reached_by_a_majority(membership: Membership, values: Mapping[str, int]) -> int:
    """The best that any majority offers, which is what the worst of its voters has."""
    return max((min(values.get(node, 0) for node in some) for some in majorities(membership)), default=0)


class Quorums(SynchronousTestCase):
    @given(memberships, st.sets(nodes))
    def test_is_quorum(self, membership: Membership, some: set[str]) -> None:
        expected = any(majority <= some for majority in majorities(membership))
        self.assertIs(membership.is_quorum(some), expected)

    @given(memberships, st.dictionaries(nodes, st.integers(0, 9)))
    def test_quorum_value(self, membership: Membership, values: dict[str, int]) -> None:
        self.assertEqual(membership.quorum_value(values), value_reached_by_a_majority(membership, values))

    @given(memberships, st.dictionaries(nodes, st.integers(0, 9)))
    def test_a_majority_has_the_quorum_value_and_none_has_more(
        self, membership: Membership, values: dict[str, int]
    ) -> None:
        value = membership.quorum_value(values)
        if voters_of(membership):
            self.assertTrue(membership.is_quorum(node for node in membership.voters if values.get(node, 0) >= value))
        self.assertFalse(membership.is_quorum(node for node in membership.voters if values.get(node, 0) > value))

    @given(memberships)
    def test_two_majorities_of_one_membership_meet(self, membership: Membership) -> None:
        for one, other in combinations(majorities(membership), 2):
            self.assertTrue(one & other)

    @given(memberships, changes)
    def test_majorities_before_and_after_one_change_meet(self, before: Membership, change: Change) -> None:
        """What makes changes of one voter at a time safe (dissertation §4.1)."""
        try:
            after = change.apply(before)
        except Exception:  # noqa: BLE001  # refused, which `test_membership` looks at
            return
        self.assertLessEqual(len(before.voters ^ after.voters), 1)
        for one in majorities(before):
            for other in majorities(after):
                self.assertTrue(one & other)

    def test_nobody_is_a_quorum_of_nobody(self) -> None:
        self.assertFalse(Membership({}).is_quorum([]))
        self.assertFalse(Membership({"a": Member("host:1", voter=False)}).is_quorum(["a"]))
        self.assertEqual(Membership({}).quorum_value({"a": 5}), 0)
