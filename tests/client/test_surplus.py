"""When a copy can be spared: only when every file of it is in the other, or something newer is."""

from twisted.trial.unittest import SynchronousTestCase

from weedtw.client.surplus import Change, lacking, parse_changes

FILE = Change(cookie=7, size=100, checksum=5, append_at_ns=1000)


class Spared(SynchronousTestCase):
    def test_the_same_file(self) -> None:
        again = Change(7, 100, 5, append_at_ns=10)
        self.assertEqual(lacking({1: FILE}, {1: FILE}), set())
        self.assertEqual(lacking({1: again}, {1: FILE}), set(), "it may have been written there before")

    def test_a_file_that_the_other_never_had(self) -> None:
        self.assertEqual(lacking({1: FILE}, {1: FILE, 2: FILE}), {2})

    def test_newer_changes_count(self) -> None:
        self.assertEqual(lacking({1: Change(7, 90, 6, 1001)}, {1: FILE}), set())
        self.assertEqual(lacking({1: Change(7, -1, 0, 1001)}, {1: FILE}), set())

    def test_older_ones_do_not(self) -> None:
        self.assertEqual(lacking({1: Change(7, 90, 6, 999)}, {1: FILE}), {1})
        self.assertEqual(lacking({1: Change(7, -1, 0, 999)}, {1: FILE}), {1})

    def test_without_times_only_the_same_counts(self) -> None:
        old = Change(7, 100, 5, 0)
        self.assertEqual(lacking({1: Change(7, -1, 0, 0)}, {1: old}), {1})
        self.assertEqual(lacking({1: Change(7, -1, 0, 2000)}, {1: old}), {1})
        self.assertEqual(lacking({1: old}, {1: old}), set())

    def test_another_file_of_that_key_or_content(self) -> None:
        for other in (Change(8, 100, 5, 1000), Change(7, 101, 5, 1000), Change(7, 100, 4, 1000)):
            self.assertEqual(lacking({1: other}, {1: FILE}), {1})

    def test_what_was_deleted_is_no_file(self) -> None:
        self.assertEqual(lacking({}, {1: Change(7, -1, 0, 1000)}), set())

    def test_what_a_server_tells(self) -> None:
        self.assertEqual(parse_changes({"now": 5, "changes": [[1, 7, 100, 5, 1000]]}), {1: FILE})
        for wrong in ({}, {"changes": [[1, 2]]}, {"changes": [[1, "7", 100, 5, 1000]]}, {"changes": 3}, None):
            self.assertRaises((KeyError, TypeError, ValueError), parse_changes, wrong)
