"""The log in memory: what matches, what is replaced, what may be forgotten."""

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import InvariantBroken
from weedtw.raft.log import Log
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Entry, EntryKind, Snapshot

FOUNDERS = Membership({"a": Member("a:1")})
PAIR = Membership({"a": Member("a:1"), "b": Member("b:1")})


def entries(first: int, *terms: int) -> list[Entry]:
    return [Entry(first + n, term, data=b"x" * 36) for n, term in enumerate(terms)]  # of 100 bytes each


def config(index: int, term: int, membership: Membership = PAIR) -> Entry:
    return Entry(index, term, EntryKind.CONFIG, membership.render())


def log_of(*terms: int, commit: int = 0) -> Log:
    """A log that begins at index 1, all of it stable."""
    return Log(Snapshot(membership=FOUNDERS), entries(1, *terms), commit)


class Opening(SynchronousTestCase):
    def test_an_empty_log(self) -> None:
        log = Log(Snapshot(membership=FOUNDERS), (), 0)
        self.assertEqual((log.last_index, log.last_term, log.commit, log.applied, log.stable), (0, 0, 0, 0, 0))
        self.assertTrue(log.matches(0, 0))
        self.assertIsNone(log.term(1))
        self.assertEqual(log.membership, FOUNDERS)

    def test_what_was_stored_is_stable_and_waits_to_be_applied(self) -> None:
        log = log_of(1, 1, 2, commit=2)
        self.assertEqual((log.last_index, log.last_term, log.commit, log.applied, log.stable), (3, 2, 2, 0, 3))
        self.assertEqual(log.unstable(), ())

    def test_the_stored_commit_is_only_a_hint(self) -> None:
        self.assertEqual(log_of(1, commit=9).commit, 1)
        self.assertEqual(Log(Snapshot(5, 1, FOUNDERS), (), 3).commit, 5)

    def test_entries_from_before_the_snapshot_serve_those_who_lag(self) -> None:
        log = Log(Snapshot(4, 2, FOUNDERS), entries(2, 1, 2, 2, 3), 4)
        # Of the first one kept, the predecessor's term is not known: it only serves to prove the next.
        self.assertEqual((log.base_index, log.base_term), (2, 1))
        self.assertEqual(log.slice(3, 5, 1000), tuple(entries(3, 2, 2, 3)))
        self.assertEqual((log.applied, log.last_index), (4, 5))

    def test_a_gap_behind_the_snapshot_is_noticed(self) -> None:
        self.assertRaises(InvariantBroken, Log, Snapshot(4, 2, FOUNDERS), entries(6, 2), 4)

    def test_memberships_are_found_behind_the_snapshot_only(self) -> None:
        stored = [config(3, 1, FOUNDERS), *entries(4, 1), config(5, 1)]
        log = Log(Snapshot(4, 1, FOUNDERS), stored, 4)
        self.assertEqual((log.membership, log.membership_index), (PAIR, 5))
        self.assertEqual(log.membership_at(4), FOUNDERS)
        self.assertEqual(log.membership_at(5), PAIR)


class Reading(SynchronousTestCase):
    def test_elections_compare_terms_first(self) -> None:
        log = log_of(1, 1, 3)
        self.assertTrue(log.is_up_to_date(3, 3))
        self.assertTrue(log.is_up_to_date(1, 4))
        self.assertTrue(log.is_up_to_date(4, 3))
        self.assertFalse(log.is_up_to_date(2, 3))
        self.assertFalse(log.is_up_to_date(9, 2))

    def test_a_slice_is_bounded_but_never_empty(self) -> None:
        log = log_of(1, 1, 1, 1)
        self.assertEqual([e.index for e in log.slice(2, 4, 250)], [2, 3])
        self.assertEqual([e.index for e in log.slice(2, 4, 200)], [2, 3])
        self.assertEqual([e.index for e in log.slice(2, 4, 199)], [2])
        self.assertEqual([e.index for e in log.slice(2, 4, 1)], [2])
        self.assertEqual([e.index for e in log.slice(3, 9, 1000)], [3, 4])
        self.assertEqual(log.slice(5, 4, 1000), ())

    def test_going_back_by_terms(self) -> None:
        log = log_of(1, 1, 4, 4, 5)
        self.assertEqual(log.last_index_of_terms_up_to(9, 9), (5, 5))
        self.assertEqual(log.last_index_of_terms_up_to(5, 4), (4, 4))
        self.assertEqual(log.last_index_of_terms_up_to(4, 3), (2, 1))
        self.assertEqual(log.last_index_of_terms_up_to(3, 0), (0, 0))


class Writing(SynchronousTestCase):
    def test_appending_leaves_no_gap(self) -> None:
        log = log_of(1)
        self.assertRaises(InvariantBroken, log.append, entries(3, 1))

    def test_what_is_there_stays(self) -> None:
        log = log_of(1, 1, 2)
        log.merge(entries(2, 1))  # an old message: entry 3 is not in it, and no reason to drop it
        self.assertEqual((log.last_index, log.stable), (3, 3))

    def test_what_conflicts_goes_with_all_behind_it(self) -> None:
        log = log_of(1, 1, 1, 1)
        log.merge(entries(2, 1, 2))
        self.assertEqual([log.term(i) for i in (1, 2, 3, 4)], [1, 1, 2, None])
        self.assertEqual(log.stable, 2)
        self.assertEqual(log.unstable(), tuple(entries(3, 2)))

    def test_what_is_new_is_added(self) -> None:
        log = log_of(1)
        log.merge(entries(1, 1, 1, 2))
        self.assertEqual((log.last_index, log.stable), (3, 1))
        log.merge([])
        self.assertEqual(log.last_index, 3)

    def test_nothing_committed_is_replaced(self) -> None:
        log = log_of(1, 1, commit=2)
        self.assertRaises(InvariantBroken, log.merge, entries(2, 2))

    def test_a_membership_goes_with_its_entry(self) -> None:
        log = log_of(1)
        log.append([config(2, 1)])
        self.assertEqual(log.membership, PAIR)
        log.merge(entries(2, 2))
        self.assertEqual((log.membership, log.membership_index), (FOUNDERS, 0))

    def test_the_commit_only_rises(self) -> None:
        log = log_of(1, 1, 1)
        self.assertTrue(log.commit_to(2))
        self.assertFalse(log.commit_to(2))
        self.assertFalse(log.commit_to(1))
        self.assertEqual(log.commit, 2)
        self.assertRaises(InvariantBroken, log.commit_to, 4)

    def test_stable_is_what_was_written_and_still_stands(self) -> None:
        log = log_of(1)
        log.append(entries(2, 1, 1))
        log.merge(entries(3, 2))  # while entries 2 and 3 of term 1 are on their way to the disk
        log.stable_to(3, 1)
        self.assertEqual(log.stable, 1)
        log.stable_to(3, 2)
        self.assertEqual(log.stable, 3)


class Snapshots(SynchronousTestCase):
    def test_a_leaders_snapshot_replaces_everything(self) -> None:
        log = log_of(1, 1, commit=1)
        log.append([config(3, 1)])
        log.restore(Snapshot(7, 3, FOUNDERS))
        self.assertEqual((log.last_index, log.last_term, log.commit, log.applied, log.stable), (7, 3, 7, 7, 7))
        self.assertEqual(log.membership, FOUNDERS)
        self.assertEqual(log.term(7), 3)
        self.assertIsNone(log.term(6))

    def test_a_snapshot_never_goes_back(self) -> None:
        self.assertRaises(InvariantBroken, log_of(1, 1, commit=2).restore, Snapshot(2, 1, FOUNDERS))

    def test_compaction_keeps_some_entries(self) -> None:
        log = log_of(1, 1, 2, 2, 3, commit=4)
        log.compact(Snapshot(4, 2, FOUNDERS), keep=2)
        self.assertEqual((log.base_index, log.base_term, log.last_index), (2, 1, 5))
        self.assertIsNone(log.term(1))
        self.assertEqual(log.term(2), 1)
        self.assertEqual(log.slice(3, 5, 1000), tuple(entries(3, 2, 2, 3)))

    def test_compaction_may_keep_everything_or_nothing(self) -> None:
        log = log_of(1, 1, 2)
        log.compact(Snapshot(2, 1, FOUNDERS), keep=10)
        self.assertEqual(log.base_index, 0)
        log.compact(Snapshot(3, 2, FOUNDERS), keep=0)
        self.assertEqual((log.base_index, log.base_term, log.last_index, log.last_term), (3, 2, 3, 2))
        self.assertEqual(log.term(3), 2)

    def test_compaction_keeps_the_memberships_behind_it(self) -> None:
        log = log_of(1, 1)
        log.append([config(3, 1)])
        log.compact(Snapshot(2, 1, FOUNDERS), keep=0)
        self.assertEqual((log.membership, log.membership_index), (PAIR, 3))
        self.assertEqual(log.membership_at(2), FOUNDERS)

    def test_only_what_is_there_can_be_compacted(self) -> None:
        self.assertRaises(InvariantBroken, log_of(1).compact, Snapshot(2, 1, FOUNDERS), 0)
        self.assertRaises(InvariantBroken, log_of(1, 1).compact, Snapshot(2, 2, FOUNDERS), 0)
