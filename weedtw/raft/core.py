"""The Raft state machine of one node.  No I/O, no clock, no threads; whoever drives it brings all of these.

    core.tick() / core.step(message) / core.propose(data) / core.change(change) / core.read_index(...)
    ready = core.ready()          # what is to be done now
      1. storage.save(ready.update)      fsynced, in one transaction
      2. send ready.messages
      3. restore ready.snapshot, apply ready.committed, answer ready.reads
    core.advance(ready)

**The contract:** step 1 is finished before any of 2 and 3 begins.  A vote, an acknowledgement or a committed entry
that leaves this node is on its disk.  Only `urgent()` messages (heartbeats and pre-votes, which promise nothing that
must survive a crash) may overtake a write, so that a slow disk does not cost the lead.

Time is counted in ticks.  The driver derives them from a monotonic clock and catches up before anything else, so
that a process that was paused finds its lease expired before it answers the next request.

Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm"; Ongaro's dissertation for pre-vote
(§9.6), leases and ReadIndex (§6.4), leadership transfer (§3.10) and membership changes (§4).
"""

import random
from collections.abc import Callable

import attrs

from weedtw.errors import InvariantBroken, NotLeader
from weedtw.raft.leader import Leader
from weedtw.raft.log import Log
from weedtw.raft.membership import Change, NodeId
from weedtw.raft.messages import (
    Append,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Message,
    Snapshot,
    SnapshotChunk,
    VoteReply,
    VoteRequest,
)
from weedtw.raft.roles import Candidate, Follower
from weedtw.raft.storage import StoredState, Update


@attrs.frozen
class Settings:
    """Times in ticks, sizes in bytes."""

    election: int = 25  # the shortest election timeout; the longest is twice that
    heartbeat: int = 5
    max_append: int = 256 * 1024  # entries in one message
    max_inflight: int = 64  # appends on their way to one member
    max_inflight_bytes: int = 4 * 1024 * 1024
    max_uncommitted: int = 16 * 1024 * 1024  # proposals the leader holds before it says it is busy
    max_entry: int = 256 * 1024
    max_apply: int = 4 * 1024 * 1024  # committed entries in one ready()
    chunk: int = 256 * 1024  # of a snapshot
    max_snapshot: int = 256 * 1024 * 1024
    keep_entries: int = 1000  # entries kept behind a snapshot for followers that lag a little

    @property
    def lease(self) -> int:
        """Ticks for which a leader may trust an answered heartbeat.

        Its followers keep their promise for `election` ticks.  Two ticks go off because both sides count whole ticks,
        and a tenth because clocks may run at different speeds.
        """
        return self.election - 2 - self.election // 10


@attrs.frozen
class ReadState:
    """A read asked for with `token` may be answered once everything up to `index` is applied."""

    token: object
    index: int


@attrs.frozen
class Ready:
    """What the driver has to do, in the order of the contract above."""

    update: Update | None
    messages: tuple[Message, ...]
    snapshot: Snapshot | None  # replaces the state machine
    committed: tuple[Entry, ...]
    reads: tuple[ReadState, ...]
    failed_reads: tuple[object, ...]  # tokens of reads that this node can no longer answer


class RaftCore:
    """One node.  `role` is its part now; the log, the term and the vote outlive every role."""

    def __init__(self, node: NodeId, stored: StoredState, settings: Settings, rng: random.Random) -> None:
        """Start from what storage holds; `rng` spreads election timeouts."""
        self.id = node
        self.settings = settings
        self.rng = rng
        self.now = 0
        self.term = stored.hard_state.term
        self.vote = stored.hard_state.vote
        self.log = Log(stored.snapshot, stored.entries, stored.hard_state.commit)
        self.leader: NodeId | None = None
        # A restarted node has forgotten whom it promised to wait for, so it waits as if it had just promised.
        # A node that has never been in any term has promised nothing.
        self.heard: int | None = 0 if self.term else None
        self._stored = stored.hard_state
        self._out: list[Message] = []
        self._reads: list[ReadState] = []
        self._failed_reads: list[object] = []
        self._restored: Snapshot | None = stored.snapshot if stored.snapshot.index else None
        self._restored_is_new = False
        self._compacted: Snapshot | None = None
        self._in_progress: Ready | None = None
        self._lost: set[NodeId] = set()
        self.gone: set[NodeId] = set()  # nodes whose process is known to have ended, and that were not heard of since
        self.gave_way: set[NodeId] = set()  # to whom, in this term
        self.abstaining = False  # from campaigning
        self.role: Follower | Candidate | Leader = Follower(self)
        if self.log.membership.voters == {self.id}:
            self.role.campaign_soon(0)

    # ------------------------------------------------------------------ inputs

    def tick(self, count: int = 1) -> None:
        """`count` ticks have passed."""
        self.now += count
        self.role.tick()

    def step(self, message: Message) -> None:
        """A message has arrived.  Raises `BadRequest`, and nothing else, for some that no honest node would send."""
        self._lost.discard(message.sender)
        self.gone.discard(message.sender)
        if message.term > self.term and not self._enter_term_of(message):
            return
        if message.term < self.term:
            self._answer_stale(message)
        elif isinstance(message, VoteRequest):
            self._on_vote_request(message)
        else:
            self.role.step(message)

    def propose(self, data: bytes) -> tuple[int, int]:
        """Append a command; returns its (index, term), under which it will be applied if that term commits it.

        Raises `NotLeader`; `TooBusy` when too much is uncommitted or the lead is being handed over; `BadRequest` when
        the command is too long.
        """
        return self._leading().propose(data)

    def change(self, change: Change) -> tuple[int, int]:
        """Append a membership change; in force at once.  Raises `NotLeader` or `ChangeRefused`."""
        return self._leading().change(change)

    def read_index(self, token: object) -> None:
        """Ask for a point in the log that is as new as this moment; the answer is in `Ready.reads`.

        Raises `NotLeader`, or `Unavailable` before the first entry of the term is committed.
        """
        self._leading().read_index(token)

    def transfer(self, target: NodeId) -> None:
        """Hand the lead over to a voter.  Raises `NotLeader` or `ChangeRefused`."""
        self._leading().transfer(target)

    def lost_contact(self, node: NodeId) -> None:
        """The connection to `node` has dropped."""
        self._lost.add(node)

    def refused(self, node: NodeId) -> None:
        """Nothing listens where `node` was: its process is gone.  Counts only after `lost_contact`."""
        if node in self._lost:
            self.gone.add(node)
            if node == self.leader and isinstance(self.role, Follower):
                self.role.leader_is_gone()

    def step_down(self) -> None:
        """Give up leading: the driver's disk is stuck.  Says nothing to anybody.

        With a write under way, this node does not campaign either until that is done: it could win a pre-vote, but
        not store the term that follows, and would depose a working leader with it when the disk answers again.  Time
        must go on meanwhile, since promises to the leader are measured by it.
        """
        self.abstaining = self._in_progress is not None
        if not isinstance(self.role, Follower):
            self.become_follower(self.term, None)

    def compact(self, index: int, data: bytes) -> None:
        """The state machine's content after `index`, which is applied, is `data`: entries before it may go."""
        if index > self.log.applied:
            raise InvariantBroken(f"asked to compact at {index}, applied only {self.log.applied}")
        term = self.log.term(index)
        if index <= self.log.snapshot.index or term is None:
            return
        snapshot = Snapshot(index, term, self.log.membership_at(index), data)
        self.log.compact(snapshot, self.settings.keep_entries)
        self._compacted = snapshot

    # ------------------------------------------------------------------ outputs

    def has_lease(self) -> bool:
        """Whether no other leader can exist now, and all that was ever decided is applied here."""
        return isinstance(self.role, Leader) and self.role.has_lease()

    def has_ready(self) -> bool:
        """Whether `ready()` would say anything."""
        return self._in_progress is None and bool(
            self._out
            or self._reads
            or self._failed_reads
            or self._restored
            or self._compacted
            or self.log.stable < self.log.last_index
            or self.log.applied < self.log.commit
            or self._must_store_hard_state()
        )

    def urgent(self) -> list[Message]:
        """Messages that may be sent at once, even while a write is under way."""
        if not self._out or self.term != self._stored.term:
            return []  # nothing bears witness of a term that a crash could forget
        urgent = [m for m in self._out if self._is_urgent(m)]
        if urgent:
            self._out = [m for m in self._out if not self._is_urgent(m)]
        return urgent

    def ready(self) -> Ready:
        """What is to be done now; `advance` must follow before the next call."""
        if self._in_progress is not None:
            raise InvariantBroken("ready() before the last one was advanced")
        if isinstance(self.role, Leader):
            self.role.flush()
        self._in_progress = Ready(
            update=self._update(),
            messages=tuple(self._out),
            snapshot=self._restored,
            committed=self._committed(),
            reads=tuple(self._reads),
            failed_reads=tuple(self._failed_reads),
        )
        self._out, self._reads, self._failed_reads = [], [], []
        self._restored, self._restored_is_new, self._compacted = None, False, None
        return self._in_progress

    def advance(self, ready: Ready) -> None:
        """`ready` has been done: what it held is stored, sent and applied."""
        if ready is not self._in_progress:
            raise InvariantBroken("advance() with another ready")
        self._in_progress, self.abstaining = None, False
        update = ready.update
        if update is not None:
            if update.hard_state is not None:
                self._stored = update.hard_state
            if update.entries:
                self.log.stable_to(update.entries[-1].index, update.entries[-1].term)
        if ready.committed:
            self.log.applied = max(self.log.applied, ready.committed[-1].index)
        if isinstance(self.role, Leader):
            self.role.stored()

    # ------------------------------------------------------------------ what the roles use

    def send(self, message: Message) -> None:
        """Queue a message for the next `ready()` or `urgent()`."""
        self._out.append(message)

    def answer_read(self, token: object, index: int) -> None:
        """A read may be served at `index`."""
        self._reads.append(ReadState(token, index))

    def fail_read(self, token: object) -> None:
        """A read cannot be served here any more."""
        self._failed_reads.append(token)

    def become_follower(self, term: int, leader: NodeId | None) -> None:
        """Follow `leader` (or wait for one) in `term`."""
        self._leave_role()
        if term != self.term:
            self._enter(term, vote=None)
        self.leader = leader
        self.role = Follower(self)

    def become_candidate(self, *, pre: bool, transfer: bool = False) -> None:
        """Ask for votes; a real candidacy begins a new term with a vote for oneself."""
        self._leave_role()
        self.leader = None
        if not pre:
            self._enter(self.term + 1, vote=self.id)
        self.role = Candidate(self, pre=pre, transfer=transfer)
        self.role.begin()

    def become_leader(self) -> None:
        """Won: lead this term."""
        self._leave_role()
        self.leader = self.id
        self.role = Leader(self)
        self.role.begin()

    def restore(self, snapshot: Snapshot) -> None:
        """A leader's snapshot replaces log and state machine."""
        self.log.restore(snapshot)
        self._restored, self._restored_is_new = snapshot, True
        self._compacted = None

    def election_timeout(self) -> int:
        """A random number of ticks in [election, 2 * election)."""
        return self.settings.election + self.rng.randrange(self.settings.election)

    def promised(self) -> bool:
        """Whether this node still has to wait for a leader that it has heard of."""
        return self.heard is not None and self.now - self.heard < self.settings.election

    # ------------------------------------------------------------------ terms and votes

    def _enter(self, term: int, vote: NodeId | None) -> None:
        self.term, self.vote = term, vote
        self.gave_way.clear()

    def _enter_term_of(self, message: Message) -> bool:
        """React to a higher term; False when the message goes no further."""
        if isinstance(message, VoteRequest):
            if self._must_wait(message):
                return False  # a living leader is not to be deposed by those who cannot hear it (§9.6, §4.2.3)
            if message.pre:
                return True  # nobody's term rises for a question
        elif isinstance(message, VoteReply) and message.pre and message.granted:
            return True  # it bears the term that was asked for, not one that exists
        led = isinstance(message, Append | Heartbeat | SnapshotChunk)
        self.become_follower(message.term, message.sender if led else None)
        return True

    def _must_wait(self, request: VoteRequest) -> bool:
        if request.transfer:
            return False
        return isinstance(self.role, Leader) or self.promised()

    def _answer_stale(self, message: Message) -> None:
        if isinstance(message, VoteRequest):
            self.send(VoteReply(self.id, message.sender, self.term, granted=False, pre=message.pre))
        elif isinstance(message, Append | Heartbeat | SnapshotChunk):
            # Tells a leader of the past that its time is over.
            self.send(HeartbeatReply(self.id, message.sender, self.term, round=0))

    def _on_vote_request(self, request: VoteRequest) -> None:
        granted = self._may_grant(request) and self.log.is_up_to_date(request.last_index, request.last_term)
        if granted and request.pre:
            self.role.favours(request)
        elif granted:
            self.vote = request.sender
            self.role.voted()
        term = request.term if granted else self.term
        self.send(VoteReply(self.id, request.sender, term, granted=granted, pre=request.pre))

    def _may_grant(self, request: VoteRequest) -> bool:
        if self._must_wait(request):
            return False
        if request.pre and request.term > self.term:
            return True
        if self.vote is not None:
            return self.vote == request.sender
        return self.leader is None

    # ------------------------------------------------------------------ the parts of ready()

    def _leading(self) -> Leader:
        if not isinstance(self.role, Leader):
            raise NotLeader(self.leader)
        return self.role

    def _leave_role(self) -> None:
        if isinstance(self.role, Leader):
            self.role.end()

    def _is_urgent(self, message: Message) -> bool:
        if isinstance(message, VoteRequest | VoteReply):
            return message.pre
        return isinstance(message, Heartbeat | HeartbeatReply)

    def _must_store_hard_state(self) -> bool:
        return (self.term, self.vote) != (self._stored.term, self._stored.vote)

    def _update(self) -> Update | None:
        entries = self.log.unstable()
        snapshot = self._restored if self._restored_is_new else self._compacted
        if not (entries or snapshot or self._must_store_hard_state()):
            return None
        return Update(
            hard_state=HardState(self.term, self.vote, self.log.commit),
            entries=entries,
            snapshot=snapshot,
            replaces_log=self._restored_is_new,
            keep_from=self.log.base_index + 1,
        )

    def _committed(self) -> tuple[Entry, ...]:
        first = self.log.applied + 1
        if first > self.log.commit:
            return ()
        return self.log.slice(first, self.log.commit, self.settings.max_apply)


CoreFactory = Callable[[NodeId, StoredState, Settings, random.Random], RaftCore]
