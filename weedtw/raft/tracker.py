"""What a leader knows of each other member: how far its log matches, and what is on its way there.  Pure.

Every change of state is a method here, so that the three ways of replicating can be read in one place:

    PROBE      one append at a time, until it is known where the logs meet
    REPLICATE  appends are pipelined, bounded by messages and bytes in flight
    SNAPSHOT   the log no longer reaches back far enough; chunks of a snapshot go one at a time
"""

import enum
from collections import deque

import attrs

from weedtw.raft.messages import Entry, Snapshot


class Flow(enum.Enum):
    """How the leader sends to a member."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@attrs.define
class Progress:
    """A member as its leader sees it.  Always: match < next; entries between them are in flight."""

    next: int
    max_inflight: int  # messages
    max_inflight_bytes: int
    contact: int  # tick of its last message in this term
    match: int = 0
    flow: Flow = Flow.PROBE
    round: int = 0  # the latest heartbeat round it has answered
    commit_sent: int = 0  # the highest commit index on its way there
    snapshot: Snapshot | None = None  # while flow is SNAPSHOT
    offset: int = 0  # bytes of the snapshot that it has
    sent_at: int = 0  # tick at which the oldest thing in flight was sent,
    sent_in: int = 0  # and the heartbeat round that had been sent by then
    waiting: bool = False  # a probe or a chunk is in flight
    # Appends that may be in flight now: one after a rejection, and one more for each answer.  What the pipeline still
    # held may be rejected too and stop the next one; to fill it each time would bury the member in repetitions.
    window: int = attrs.field(default=attrs.Factory(lambda self: self.max_inflight, takes_self=True))
    _inflight: deque[tuple[int, int]] = attrs.field(factory=deque)  # (last index, bytes) of each append
    _inflight_bytes: int = 0

    @property
    def can_send(self) -> bool:
        """Whether another append may go now."""
        if self.flow is Flow.REPLICATE:
            return len(self._inflight) < self.window and self._inflight_bytes < self.max_inflight_bytes
        return self.flow is Flow.PROBE and not self.waiting

    @property
    def in_flight(self) -> int:
        """Appends sent and not answered."""
        return len(self._inflight)

    def is_stalled(self, now: int, patience: int) -> bool:
        """Whether what is in flight has gone unanswered for `patience` ticks, though a later heartbeat was answered.

        On a slow connection heartbeats wait behind it: sending it again would only make them wait longer.
        """
        in_flight = self.waiting or bool(self._inflight)
        return in_flight and self.round > self.sent_in and now - self.sent_at >= patience

    # -- sending

    def sent(self, entries: tuple[Entry, ...], size: int, commit: int, now: int, beat: int) -> None:
        """An append with these entries (`size` bytes of them) has left, after heartbeat round `beat`."""
        if self.flow is Flow.PROBE:
            self.waiting, self.sent_at, self.sent_in = True, now, beat
        elif entries:
            if not self._inflight:
                self.sent_at, self.sent_in = now, beat
            self.next = entries[-1].index + 1
            self._inflight.append((entries[-1].index, size))
            self._inflight_bytes += size
        self.commit_sent = max(self.commit_sent, min(commit, self.next - 1))

    def sent_chunk(self, now: int, beat: int) -> None:
        """A chunk of the snapshot has left, after heartbeat round `beat`."""
        self.waiting, self.sent_at, self.sent_in = True, now, beat

    # -- changes of flow

    def probe(self) -> None:
        """Start over from what is known to match; a probe that got no answer is repeated where it was.

        It says nothing of the member's log, and further back there may be only a snapshot to send.
        """
        if self.flow is not Flow.PROBE:
            self.next = self.match + 1
        self._reset(Flow.PROBE)
        self.commit_sent = min(self.commit_sent, self.match)

    def replicate(self) -> None:
        """The logs meet at `match`; pipeline from there."""
        self._reset(Flow.REPLICATE)
        self.next = self.match + 1

    def begin_snapshot(self, snapshot: Snapshot) -> None:
        """Nothing but a snapshot can help this member."""
        self._reset(Flow.SNAPSHOT)
        self.snapshot, self.offset = snapshot, 0

    def _reset(self, flow: Flow) -> None:
        self.flow = flow
        self.waiting = False
        self.snapshot, self.offset = None, 0
        self._inflight.clear()
        self._inflight_bytes = 0

    # -- answers

    def accepted(self, index: int, now: int) -> bool:
        """Its log matches up to `index`; returns whether that is news."""
        news = index > self.match
        if news:
            self.match = index
            self.next = max(self.next, index + 1)
        if self.flow is Flow.REPLICATE:
            freed = False
            while self._inflight and self._inflight[0][0] <= index:
                self._inflight_bytes -= self._inflight.popleft()[1]
                self.window = min(self.window + 1, self.max_inflight)
                freed = True
            if freed:
                self.sent_at = now
        elif self.flow is Flow.PROBE:
            # Any answer that confirms `match` shows where the logs meet.
            if index >= self.match:
                self.replicate()
        elif self.snapshot is not None and self.match >= self.snapshot.index:
            self.replicate()
        return news

    def rejected(self, index: int, hint: int) -> bool:
        """It has no such entry at `index`; try after `hint`.  False for an answer that came too late to matter."""
        if self.flow is Flow.REPLICATE:
            if index <= self.match:
                return False
            self.probe()
            self.window = 1
            return True
        if self.flow is Flow.SNAPSHOT or index != self.next - 1:
            return False
        self.next = max(min(index, hint + 1), self.match + 1)
        self.commit_sent = min(self.commit_sent, self.next - 1)
        self.waiting = False
        return True

    def received(self, index: int, offset: int) -> bool:
        """It has `offset` bytes of the snapshot at `index`; False when that is no news of the one being sent.

        Only news is answered with another chunk.  Otherwise one answer that came twice would be echoed until the end
        of the snapshot, and so would every repetition among the echoes.
        """
        if self.flow is not Flow.SNAPSHOT or self.snapshot is None or index != self.snapshot.index:
            return False
        offset = min(offset, len(self.snapshot.data))
        if offset == self.offset:
            return False
        # A restarted member begins again: its offset is the truth, forwards and backwards.
        self.offset, self.waiting = offset, False
        return True
