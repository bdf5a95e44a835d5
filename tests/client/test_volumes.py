"""The steps by which volumes are copied and moved: what is asked of whom, in which order, and after a failure."""

from twisted.internet.defer import CancelledError, Deferred

from tests.client.copies import VOLUME, Copies, CopiesTestCase, copy
from tests.client.scripted import REFUSES, SILENT, Said
from weedtw.client.plans import Step
from weedtw.errors import ChangeRefused, PeerError, Unavailable

AGREED = ["POST b:1/admin/volume/agree with=a:1 since=1", "POST a:1/admin/volume/agree with=b:1 since=1"]


class AddingTests(CopiesTestCase):
    def test_a_copy_is_taken_and_both_catch_up(self) -> None:
        servers = Copies(self.clock, a=copy(), b=None)
        self.assertEqual(self.done(servers.volumes.add_copy(VOLUME, "a:1", "b:1")), "is there")
        *asked, first, second = servers.transcript()
        self.assertEqual(asked, ["GET b:1/admin/copy/state", "POST b:1/admin/copy/take from=a:1 mount=true"])
        since = int(first.rpartition("=")[2])
        self.assertGreater(since, 10**18)  # nanoseconds; what was written while it was copied
        self.assertEqual([first, second], [one.replace("since=1", f"since={since}") for one in AGREED])

    def test_one_that_has_come_already_is_not_taken_again(self) -> None:
        servers = Copies(self.clock, a=copy(), b=copy())
        self.assertEqual(self.done(servers.volumes.add_copy(VOLUME, "a:1", "b:1")), "is there")
        self.assertNotIn("take", " ".join(servers.transcript()))

    def test_while_there_are_too_few_they_do_not_have_to_agree(self) -> None:
        servers = Copies(self.clock, asked_for="002", a=copy(), b=None)
        self.assertEqual(self.done(servers.volumes.add_copy(VOLUME, "a:1", "b:1")), "is there")
        self.assertNotIn("agree", " ".join(servers.transcript()))

    def test_one_that_turned_out_to_be_too_many_is_released_when_it_is_the_same(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=None)
        servers.quarantined = {"b:1"}
        self.assertIn("is not needed", self.done(servers.volumes.add_copy(VOLUME, "a:1", "b:1")))
        self.assertEqual(
            servers.transcript()[2:],
            [
                "GET b:1/admin/copy/state sum=true",
                "GET a:1/admin/copy/state sum=true",
                "POST b:1/admin/copy/release size=800 indexSize=32 revision=2",
            ],
        )
        self.assertIsNone(servers.copies["b:1"])

    def test_a_leader_that_does_not_hear_of_it_is_waited_for_and_told_of(self) -> None:
        servers = Copies(self.clock, a=copy(), b=None)
        servers.deaf = True
        working = self.later(servers.volumes.add_copy(VOLUME, "a:1", "b:1"), 29.5)
        self.assertNoResult(working)
        self.clock.advance(0.5)
        self.assertIn("has not heard of it yet", str(self.failureResultOf(working, Unavailable).value))
        self.assertIsNotNone(servers.copies["b:1"])

    def test_what_a_server_does_not_know_yet_is_asked_again_for_a_while(self) -> None:
        servers = Copies(self.clock, a=copy(), b=None)
        servers.answers["POST b:1/admin/volume/agree"] = Said.no(400, "a:1 has no copy of volume 7")
        working = self.later(servers.volumes.add_copy(VOLUME, "a:1", "b:1"), 5)
        self.assertNoResult(working)
        servers.answers.clear()
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(working), "is there")
        servers.answers["POST b:1/admin/volume/agree"] = Said.no(400, "a:1 has no copy of volume 7")
        working = self.later(servers.volumes.add_copy(VOLUME, "a:1", "b:1"), 20)
        self.assertIn("has no copy", str(self.failureResultOf(working, PeerError).value))
        servers.answers["POST b:1/admin/volume/agree"] = Said.no(400, "since is no number")
        self.assertIn("no number", self.refused(servers.volumes.add_copy(VOLUME, "a:1", "b:1"), PeerError))


class MovingTests(CopiesTestCase):
    def test_it_is_copied_twice_compared_and_only_then_released(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=None)
        self.assertEqual(self.done(servers.volumes.move(VOLUME, "a:1", "b:1")), "is moved")
        self.assertEqual(
            servers.transcript(),
            [
                "GET a:1/admin/copy/state",
                "GET b:1/admin/copy/state",
                "POST b:1/admin/copy/take from=a:1 mount=false",
                "POST a:1/admin/copy/freeze",
                "POST b:1/admin/copy/take from=a:1 mount=true",
                "GET a:1/admin/copy/state sum=true",
                "GET b:1/admin/copy/state sum=true",
                "POST a:1/admin/copy/release size=800 indexSize=32 revision=2",
            ],
        )
        self.assertEqual(servers.copies, {"a:1": None, "b:1": copy()})

    def test_copies_that_differ_in_anything_are_both_kept(self) -> None:
        for name in ("size", "indexSize", "revision", "sum"):
            servers = Copies(self.clock, asked_for="000", a=copy(), b=copy(**{name: 5}))
            servers.quarantined = {"b:1"}
            said = self.refused(servers.volumes.move(VOLUME, "a:1", "b:1"), ChangeRefused)
            self.assertIn("is not the same on a:1 and b:1, so neither is deleted", said)
            self.assertNotIn("release", " ".join(servers.transcript()))

    def test_one_that_was_interrupted_is_brought_to_its_end(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=copy())
        servers.quarantined = {"b:1"}  # whole, and the leader counts the other
        working = self.later(servers.volumes.move(VOLUME, "a:1", "b:1"), 1)
        self.assertEqual((servers.copies, servers.frozen), ({"a:1": None, "b:1": copy()}, {"a:1"}))
        self.assertNoResult(working)
        servers.quarantined = set()
        self.clock.advance(0.5)
        self.assertEqual(self.successResultOf(working), "is moved")
        self.assertEqual(self.done(servers.volumes.move(VOLUME, "a:1", "b:1")), "was moved already")

    def test_a_leader_that_does_not_hear_of_a_moved_one_is_told_of(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=copy())
        servers.quarantined = {"b:1"}
        working = self.later(servers.volumes.move(VOLUME, "a:1", "b:1"), 30)
        self.assertIn("is on b:1, and the leader has not", str(self.failureResultOf(working, Unavailable).value))

    def test_what_is_not_there_or_is_there_already_is_refused(self) -> None:
        nowhere = Copies(self.clock, a=None, b=None)
        self.assertIn("neither a:1 nor b:1", self.refused(nowhere.volumes.move(VOLUME, "a:1", "b:1"), ChangeRefused))
        both = Copies(self.clock, a=copy(), b=copy())
        self.assertIn("has a copy of volume 7 already", self.refused(both.volumes.move(VOLUME, "a:1", "b:1")))
        self.assertEqual(both.frozen, set())

    def test_when_the_rest_cannot_be_copied_the_first_takes_writes_again(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=None)
        servers.answers["POST b:1/admin/copy/take volume=7 from=a:1 mount=true"] = Said.no(507, "disk full")
        self.assertIn("disk full", self.refused(servers.volumes.move(VOLUME, "a:1", "b:1"), PeerError))
        self.assertEqual(servers.transcript()[-2:], ["GET b:1/admin/copy/state", "POST a:1/admin/copy/thaw"])
        self.assertEqual((servers.copies["a:1"], servers.frozen), (copy(), set()))

    def test_one_that_is_whole_although_no_answer_came_stays_frozen(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=None)

        def whole_and_gone() -> Said:
            servers.copies["b:1"] = copy()
            return Said.no(504, "no answer in time")

        servers.answers["POST b:1/admin/copy/take volume=7 from=a:1 mount=true"] = whole_and_gone
        self.assertIn("no answer", self.refused(servers.volumes.move(VOLUME, "a:1", "b:1"), PeerError))
        self.assertEqual(servers.frozen, {"a:1"})  # else it would take writes that the other has not

    def test_one_that_is_given_up_by_the_caller_takes_writes_again(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=None)
        servers.answers["POST b:1/admin/copy/take volume=7 from=a:1 mount=true"] = SILENT
        working = Deferred.fromCoroutine(servers.volumes.move(VOLUME, "a:1", "b:1"))
        self.assertEqual(servers.frozen, {"a:1"})
        working.cancel()
        self.failureResultOf(working, CancelledError)
        self.assertEqual(servers.frozen, set())

    def test_one_that_cannot_be_taken_back_is_told_of(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=None)
        servers.answers["POST b:1/admin/copy/take volume=7 from=a:1 mount=true"] = REFUSES
        servers.answers["POST a:1/admin/copy/thaw"] = REFUSES
        said = self.refused(servers.volumes.move(VOLUME, "a:1", "b:1"), Unavailable)
        self.assertIn("volume 7 is left read-only on a:1: ", said)
        self.assertIn("the same command again goes on", said)

    def test_progress_is_told_while_it_is_copied(self) -> None:
        servers = Copies(self.clock, asked_for="000", a=copy(), b=None)
        servers.answers["POST b:1/admin/copy/take"] = SILENT
        servers.answers["GET b:1/admin/copy/progress"] = Said({"bytes": 300, "size": 800})
        told: list[tuple[int, int]] = []
        working = self.later(servers.volumes.move(VOLUME, "a:1", "b:1", lambda *moved: told.append(moved)), 1)
        self.assertEqual(told, [(300, 800), (300, 800)])
        for nothing in (Said({}), REFUSES, Said.no(500, "what?")):
            servers.answers["GET b:1/admin/copy/progress"] = nothing
            self.clock.advance(0.5)
        self.assertEqual(len(told), 2)
        self.assertNoResult(working)
        working.cancel()
        self.failureResultOf(working, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SurplusTests(CopiesTestCase):
    def surplus(self, **copies: dict[str, int]) -> Copies:
        """Two are wanted, and that on c is one too many."""
        servers = Copies(self.clock, a=copy(), b=copy(), c=copy(**copies.get("c", {})))
        servers.quarantined = {"c:1"}
        return servers

    def test_the_same_as_all_others_is_removed(self) -> None:
        servers = self.surplus()
        step = Step(VOLUME, "", "a:1", "c:1", 800, drops=True)
        self.assertEqual(self.done(servers.volumes.do(step)), "has one copy less")
        self.assertEqual(
            servers.transcript(),
            [
                "GET c:1/admin/copy/state sum=true",
                "GET a:1/admin/copy/state sum=true",
                "GET b:1/admin/copy/state sum=true",
                "POST c:1/admin/copy/release size=800 indexSize=32 revision=2",
                "POST a:1/admin/copy/thaw",
                "POST b:1/admin/copy/thaw",
            ],
        )

    def test_one_that_counts_or_is_needed_is_kept(self) -> None:
        believed = Copies(self.clock, a=copy(), b=copy())
        needed = Copies(self.clock, asked_for="002", a=copy(), b=copy(), c=copy())
        needed.quarantined = {"c:1"}
        for servers, server in ((believed, "b:1"), (needed, "c:1")):
            said = self.refused(servers.volumes.remove_surplus(VOLUME, server), ChangeRefused)
            self.assertIn(f"on {server} is not one too many", said)
            self.assertEqual(servers.transcript(), [])

    def test_one_with_files_that_others_lack_is_kept_after_the_others_have_agreed(self) -> None:
        servers = self.surplus(c={"sum": 5})
        servers.changes = {"c:1": [[1, 7, 100, 5, 1000]], "a:1": [[1, 7, 100, 5, 1000]]}
        said = self.refused(servers.volumes.remove_surplus(VOLUME, "c:1"), ChangeRefused)
        self.assertEqual(said, "the copy on c:1 is kept: b:1 lacks 1 of its files")
        asked = servers.transcript()
        self.assertIn(AGREED[0], asked)
        self.assertNotIn("release", " ".join(asked))

    def test_one_that_others_have_all_of_and_more_is_removed(self) -> None:
        servers = self.surplus(c={"sum": 5})
        servers.changes = {server: [[1, 7, 100, 5, 1000]] for server in servers.copies}
        self.assertEqual(self.done(servers.volumes.remove_surplus(VOLUME, "c:1")), "has one copy less")

    def test_one_whose_others_are_damaged_is_kept(self) -> None:
        servers = self.surplus(c={"sum": 5})
        servers.answers["GET a:1/admin/volume/damaged"] = Said({"keys": [3, 4]})
        said = self.refused(servers.volumes.remove_surplus(VOLUME, "c:1"), ChangeRefused)
        self.assertIn("a:1 has 2 damaged files", said)

    def test_a_server_whose_changes_make_no_sense_is_named(self) -> None:
        servers = self.surplus(c={"sum": 5})
        servers.answers["GET c:1/admin/volume/changes"] = Said({"changes": [[1]]})
        self.assertIn("c:1: the changes", self.refused(servers.volumes.remove_surplus(VOLUME, "c:1"), PeerError))

    def test_when_copies_come_or_go_meanwhile_it_is_begun_again_by_hand(self) -> None:
        servers = Copies(self.clock, a=copy(), b=copy(), c=copy(), d=None)
        servers.quarantined = {"c:1"}

        def another_comes() -> Said:
            servers.copies["d:1"] = copy()
            return Said(copy())

        servers.answers["GET b:1/admin/copy/state"] = another_comes
        said = self.refused(servers.volumes.remove_surplus(VOLUME, "c:1"), ChangeRefused)
        self.assertIn("has other copies than a moment ago", said)
        self.assertEqual(servers.copies["c:1"], copy())
