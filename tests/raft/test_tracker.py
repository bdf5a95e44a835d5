"""What a leader knows of a member: the three ways of sending, and how answers move it between them."""

from twisted.trial.unittest import SynchronousTestCase

from weedtw.raft.membership import Membership
from weedtw.raft.messages import Entry, Snapshot
from weedtw.raft.tracker import Flow, Progress

SNAPSHOT = Snapshot(8, 2, Membership({}), b"0123456789")


def member(*, match: int = 0, next: int = 5, flow: Flow = Flow.PROBE) -> Progress:  # noqa: A002
    progress = Progress(next=next, max_inflight=2, max_inflight_bytes=100, contact=0, match=match)
    if flow is Flow.REPLICATE:
        progress.replicate()
    elif flow is Flow.SNAPSHOT:
        progress.begin_snapshot(SNAPSHOT)
    return progress


def entries(first: int, last: int) -> tuple[Entry, ...]:
    return tuple(Entry(index, 1) for index in range(first, last + 1))


class Probing(SynchronousTestCase):
    def test_one_append_at_a_time(self) -> None:
        progress = member()
        self.assertTrue(progress.can_send)
        progress.sent(entries(5, 6), 20, commit=3, now=10, beat=1)
        self.assertFalse(progress.can_send)
        self.assertEqual(progress.next, 5)

    def test_a_rejection_moves_it_back_to_the_hint(self) -> None:
        progress = member(next=9)
        progress.sent((), 0, commit=0, now=0, beat=1)
        self.assertTrue(progress.rejected(8, hint=3))
        self.assertEqual(progress.next, 4)
        self.assertTrue(progress.can_send)

    def test_a_rejection_always_moves_it_back_but_never_behind_what_matches(self) -> None:
        progress = member(match=4, next=9)
        progress.rejected(8, hint=30)
        self.assertEqual(progress.next, 8)
        progress.rejected(7, hint=0)
        self.assertEqual(progress.next, 5)

    def test_a_rejection_of_an_older_probe_is_ignored(self) -> None:
        progress = member(next=9)
        progress.sent((), 0, commit=0, now=0, beat=1)
        self.assertFalse(progress.rejected(5, hint=2))
        self.assertEqual(progress.next, 9)
        self.assertFalse(progress.can_send)

    def test_an_acceptance_starts_the_pipeline(self) -> None:
        progress = member(next=5)
        progress.sent(entries(5, 6), 20, commit=0, now=0, beat=1)
        self.assertTrue(progress.accepted(6, now=3))
        self.assertEqual((progress.flow, progress.match, progress.next), (Flow.REPLICATE, 6, 7))

    def test_a_probe_without_an_answer_is_repeated_where_it_was(self) -> None:
        progress = member(next=7)
        progress.sent((), 0, commit=0, now=0, beat=1)
        progress.round = 2
        self.assertFalse(progress.is_stalled(now=9, patience=10))
        self.assertTrue(progress.is_stalled(now=10, patience=10))
        progress.probe()
        self.assertEqual((progress.next, progress.can_send), (7, True))


class Replicating(SynchronousTestCase):
    def test_messages_in_flight_are_bounded(self) -> None:
        progress = member(match=4, flow=Flow.REPLICATE)
        progress.sent(entries(5, 5), 10, commit=0, now=0, beat=1)
        self.assertTrue(progress.can_send)
        progress.sent(entries(6, 7), 10, commit=0, now=0, beat=1)
        self.assertFalse(progress.can_send)
        self.assertEqual((progress.in_flight, progress.next), (2, 8))

    def test_bytes_in_flight_are_bounded(self) -> None:
        progress = member(match=4, flow=Flow.REPLICATE)
        progress.sent(entries(5, 5), 100, commit=0, now=0, beat=1)
        self.assertFalse(progress.can_send)
        progress.accepted(5, now=1)
        self.assertTrue(progress.can_send)

    def test_an_answer_frees_all_up_to_it(self) -> None:
        progress = member(match=4, flow=Flow.REPLICATE)
        progress.sent(entries(5, 5), 10, commit=0, now=0, beat=1)
        progress.sent(entries(6, 7), 10, commit=0, now=0, beat=1)
        self.assertTrue(progress.accepted(7, now=1))
        self.assertEqual((progress.in_flight, progress.match, progress.next), (0, 7, 8))
        self.assertFalse(progress.accepted(5, now=2))
        self.assertEqual(progress.match, 7)

    def test_a_mere_news_of_the_commit_is_not_in_flight(self) -> None:
        progress = member(match=4, flow=Flow.REPLICATE)
        progress.sent((), 0, commit=3, now=0, beat=1)
        self.assertEqual((progress.in_flight, progress.commit_sent), (0, 3))

    def test_no_commit_counts_as_sent_beyond_what_was_sent(self) -> None:
        progress = member(match=4, flow=Flow.REPLICATE)
        progress.sent((), 0, commit=9, now=0, beat=1)
        self.assertEqual(progress.commit_sent, 4)

    def test_a_rejection_starts_over_from_what_matches(self) -> None:
        progress = member(match=4, flow=Flow.REPLICATE)
        progress.sent(entries(5, 7), 10, commit=7, now=0, beat=1)
        self.assertTrue(progress.rejected(7, hint=2))
        self.assertEqual((progress.flow, progress.next, progress.in_flight), (Flow.PROBE, 5, 0))
        self.assertEqual(progress.commit_sent, 4)

    def test_after_a_rejection_the_pipeline_fills_by_one_with_each_answer(self) -> None:
        """What it still held may be rejected as well: filled at once, it would be sent again and again."""
        progress = Progress(next=5, max_inflight=3, max_inflight_bytes=100, contact=0, match=4)
        progress.replicate()
        progress.rejected(7, hint=4)
        progress.accepted(4, now=0)
        for in_flight, answered in ((1, 5), (2, 7), (3, 10), (3, 13)):
            while progress.can_send:
                progress.sent(entries(progress.next, progress.next), 10, commit=0, now=0, beat=1)
            self.assertEqual(progress.in_flight, in_flight)
            for index in range(progress.match + 1, answered + 1):
                progress.accepted(index, now=1)

    def test_a_rejection_of_what_has_matched_since_is_ignored(self) -> None:
        progress = member(match=4, flow=Flow.REPLICATE)
        self.assertFalse(progress.rejected(4, hint=1))
        self.assertIs(progress.flow, Flow.REPLICATE)

    def test_the_oldest_in_flight_decides_whether_it_is_stalled(self) -> None:
        progress = member(match=4, flow=Flow.REPLICATE)
        progress.sent(entries(5, 5), 10, commit=0, now=0, beat=1)
        progress.sent(entries(6, 6), 10, commit=0, now=8, beat=3)
        progress.round = 2
        self.assertTrue(progress.is_stalled(now=10, patience=10))
        progress.accepted(5, now=9)
        self.assertFalse(progress.is_stalled(now=10, patience=10))
        progress.accepted(6, now=11)
        self.assertFalse(progress.is_stalled(now=99, patience=10))

    def test_nothing_is_lost_while_heartbeats_wait_behind_it(self) -> None:
        """A slow connection: what was sent is still on its way, and so is every later heartbeat."""
        progress = member(match=4, flow=Flow.REPLICATE)
        progress.round = 1
        progress.sent(entries(5, 5), 10, commit=0, now=0, beat=1)
        self.assertFalse(progress.is_stalled(now=99, patience=10))
        progress.round = 2
        self.assertTrue(progress.is_stalled(now=99, patience=10))


class SendingASnapshot(SynchronousTestCase):
    def test_one_chunk_at_a_time_and_no_appends(self) -> None:
        progress = member(flow=Flow.SNAPSHOT)
        progress.sent_chunk(now=3, beat=1)
        self.assertTrue(progress.waiting)
        self.assertFalse(progress.can_send)
        self.assertTrue(progress.received(8, 4))
        self.assertEqual((progress.offset, progress.waiting, progress.can_send), (4, False, False))

    def test_the_members_offset_is_the_truth(self) -> None:
        progress = member(flow=Flow.SNAPSHOT)
        progress.received(8, 4)
        self.assertTrue(progress.received(8, 0))
        self.assertEqual(progress.offset, 0)
        progress.received(8, 99)
        self.assertEqual(progress.offset, 10)

    def test_what_is_no_news_is_not_answered_with_another_chunk(self) -> None:
        progress = member(flow=Flow.SNAPSHOT)
        progress.received(8, 4)
        progress.sent_chunk(now=3, beat=1)
        self.assertFalse(progress.received(8, 4))
        self.assertTrue(progress.waiting)

    def test_answers_to_another_snapshot_are_ignored(self) -> None:
        progress = member(flow=Flow.SNAPSHOT)
        self.assertFalse(progress.received(7, 4))
        self.assertFalse(member().received(8, 4))
        self.assertEqual(progress.offset, 0)

    def test_it_ends_when_the_member_has_it(self) -> None:
        progress = member(flow=Flow.SNAPSHOT)
        progress.accepted(7, now=1)
        self.assertIs(progress.flow, Flow.SNAPSHOT)
        progress.accepted(8, now=1)
        self.assertEqual((progress.flow, progress.next, progress.snapshot), (Flow.REPLICATE, 9, None))

    def test_a_rejection_of_an_append_before_it_is_ignored(self) -> None:
        self.assertFalse(member(flow=Flow.SNAPSHOT).rejected(4, hint=2))
