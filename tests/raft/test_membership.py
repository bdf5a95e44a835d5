"""Who belongs to a cluster: what changes do, which are refused, and how a membership is written down."""

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.strategies import memberships
from weedtw.errors import BadRequest, ChangeRefused
from weedtw.raft.membership import AddLearner, Change, ChangeAddress, Demote, Member, Membership, Promote, Remove

A, B, C = Member("a:1"), Member("b:1"), Member("c:1", voter=False)
TRIO = Membership({"a": A, "b": B, "c": C})
WRITTEN = TRIO.render()


class Changes(SynchronousTestCase):
    def test_a_newcomer_has_no_vote(self) -> None:
        after = AddLearner("d", "d:1").apply(TRIO)
        self.assertEqual(after.members, {"a": A, "b": B, "c": C, "d": Member("d:1", voter=False)})
        self.assertEqual(after.voters, {"a", "b"})

    def test_a_learner_is_promoted(self) -> None:
        self.assertEqual(Promote("c").apply(TRIO).voters, {"a", "b", "c"})

    def test_a_voter_is_demoted_and_stays(self) -> None:
        after = Demote("b").apply(TRIO)
        self.assertEqual(after.voters, {"a"})
        self.assertIn("b", after)

    def test_a_member_is_removed(self) -> None:
        self.assertEqual(Remove("b").apply(TRIO).members, {"a": A, "c": C})
        self.assertEqual(Remove("c").apply(TRIO).members, {"a": A, "b": B})

    def test_an_address_changes_and_nothing_else(self) -> None:
        self.assertEqual(ChangeAddress("b", "b:2").apply(TRIO).members, {"a": A, "b": Member("b:2"), "c": C})
        self.assertEqual(ChangeAddress("c", "c:2").apply(TRIO).voters, TRIO.voters)

    def test_what_makes_no_sense_is_refused(self) -> None:
        refused: dict[str, Change] = {
            "already a member": AddLearner("a", "a:2"),
            "already votes": Promote("a"),
            "no vote to lose": Demote("c"),
            "no member": Promote("x"),
            "x is no member": Demote("x"),
            "is no member": Remove("x"),
            " no member": ChangeAddress("x", "x:1"),
        }
        for reason, change in refused.items():
            error = self.assertRaises(ChangeRefused, change.apply, TRIO)
            self.assertIn(reason, str(error))

    def test_the_last_voter_stays(self) -> None:
        alone = Membership({"a": A, "c": C})
        for change in (Demote("a"), Remove("a")):
            self.assertIn("last voter", str(self.assertRaises(ChangeRefused, change.apply, alone)))
        self.assertEqual(Remove("c").apply(alone).members, {"a": A})

    def test_the_old_membership_is_left_alone(self) -> None:
        AddLearner("d", "d:1").apply(TRIO)
        Remove("a").apply(TRIO)
        self.assertEqual(TRIO.members, {"a": A, "b": B, "c": C})


class Rendering(SynchronousTestCase):
    @given(memberships)
    def test_parse_is_the_inverse_of_render(self, membership: Membership) -> None:
        again = Membership.parse(membership.render())
        self.assertEqual(again, membership)
        self.assertEqual(again.voters, membership.voters)
        self.assertEqual(again.majority, membership.majority)

    @given(memberships)
    def test_equal_memberships_are_written_alike(self, membership: Membership) -> None:
        backwards = Membership(dict(reversed(list(membership.members.items()))))
        self.assertEqual(backwards.render(), membership.render())

    def test_what_is_no_membership_is_refused(self) -> None:
        for text in (
            "",
            "[]",
            "null",
            '{"a": 1}',
            '{"a": {"address": "a:1"}}',
            '{"a": {"address": 1, "voter": true}}',
            '{"a": {"address": "a:1", "voter": 1}}',
            "[" * 100_000,
            b"\xff",
        ):
            self.assertRaises(BadRequest, Membership.parse, text)

    @given(st.binary() | st.integers(0, 60).map(lambda at: WRITTEN[:at] + b" " + WRITTEN[at:]))
    @example(b'{"a": {"address": "a:1", "voter": true}}')
    def test_garbage_is_refused_and_nothing_else_happens(self, garbage: bytes) -> None:
        try:
            found = Membership.parse(garbage)
        except BadRequest:
            return
        self.assertEqual(Membership.parse(found.render()), found)
