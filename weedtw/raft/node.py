"""The driver of one node: brings the core its time, its disk and its network, and its callers their answers.

The Ready loop is the contract of `core.py` in practice: store, then send, apply, advance.  Storing happens on one
thread of its own, one update at a time; while it runs, messages and proposals go on being taken in, and heartbeats
go on leaving, so that a slow disk costs throughput and not the lead.  A disk that is stuck for longer than `stuck`
seconds costs the lead, and nothing is promised until it moves again.  A disk that fails stops the node.
"""

import random
from collections.abc import Callable
from typing import Protocol as Interface

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import MaybeCommitted, NotLeader, StoreFailed, TooBusy, Unavailable, WeedError
from weedtw.raft.core import CoreFactory, RaftCore, Ready, Settings
from weedtw.raft.lines import Hello
from weedtw.raft.membership import Change, Membership, NodeId
from weedtw.raft.messages import Entry, EntryKind, Message
from weedtw.raft.storage import Identity, Storage, Update
from weedtw.raft.transport import Transport


class StateMachine(Interface):
    """What the log is for.  All calls come from the reactor's thread, and must not block."""

    def apply(self, index: int, data: bytes) -> object:
        """Carry out a committed command; what it returns, or raises, goes to the proposer."""

    def snapshot(self) -> bytes:
        """The whole content, as of the last command applied."""

    def restore(self, data: bytes) -> None:
        """Replace the whole content; `b""` is the beginning."""


@attrs.frozen
class Status:
    """What a node believes."""

    node: NodeId
    role: str
    term: int
    leader: NodeId | None
    membership: Membership
    last_index: int
    commit: int
    applied: int
    snapshot_index: int
    has_lease: bool
    stuck: bool
    failed: str | None


@attrs.frozen
class Changed:
    """An event: role, leader, term or membership are not what they were."""

    status: Status


@attrs.frozen
class Timing:
    """Seconds, and entries between snapshots."""

    tick: float = 0.02
    propose: float = 5.0  # until a proposal's fate is reported as unknown
    stuck: float = 2.0  # until a write that does not end costs the lead
    snapshot_every: int = 10_000


class RaftNode(Service):
    """One member (or would-be member) of a cluster."""

    log = Logger()
    name = "raft"

    def __init__(
        self,
        identity: Identity,
        storage: Storage,
        machine: StateMachine,
        *,
        make_transport: Callable[["RaftNode"], Transport],
        run: "Callable[[Callable[[], None]], Deferred[None]]",
        clock: IReactorTime,
        monotonic: Callable[[], float],
        rng: random.Random,
        settings: Settings | None = None,
        timing: Timing | None = None,
        make_core: CoreFactory = RaftCore,
        stopped: Callable[[StoreFailed], None],
    ) -> None:
        """`run` calls a function on the disk's thread; `stopped` is told when the node had to stop for its disk."""
        self.identity = identity
        self.failed: StoreFailed | None = None
        self._storage = storage
        self._machine = machine
        self._run = run
        self._clock = clock
        self._monotonic = monotonic
        self._timing = timing or Timing()
        self._stopped = stopped
        self._began = monotonic()
        self.core = make_core(identity.node, storage.load(), settings or Settings(), rng)
        self._transport = make_transport(self)
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = clock
        self._saving_since: float | None = None
        self._idle: list[Deferred[None]] = []  # waiting for the write under way
        self._proposals: dict[int, _Proposal] = {}  # by index
        self._reads: list[_Read] = []
        self._observers: list[Callable[[Changed], None]] = []
        self._seen: Status | None = None

    # ------------------------------------------------------------------ service

    def startService(self) -> None:
        """Join in."""
        super().startService()  # type: ignore[no-untyped-call]
        self._transport.start()
        self._ticker.start(self._timing.tick, now=False).addErrback(self._bug)
        self._turn()

    def stopService(self) -> "Deferred[object]":
        """Leave; the deferred fires when the last write has ended and the connections are closed."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._ticker.running:
            self._ticker.stop()
        self._fail_waiters(Unavailable("this node is shutting down"))
        hung_up = self._transport.stop()
        return self._when_idle().addCallback(lambda _: self._close()).addCallback(lambda _: hung_up)

    def _close(self) -> None:
        if self.failed is None:
            self._storage.close()

    # ------------------------------------------------------------------ requests

    def propose(self, data: bytes) -> "Deferred[object]":
        """Replicate a command; fires with what the state machine's `apply` returned.

        Fails with `NotLeader`, `TooBusy` or `BadRequest` when nothing was proposed; with `MaybeCommitted` when it
        was, and its fate is unknown; with `NotLeader` again when another leader has put its entry there; or with what
        `apply` raised.
        """
        return self._propose(lambda: self.core.propose(data))

    def change(self, change: Change) -> "Deferred[object]":
        """Change the membership; fires when that is committed.  Fails like `propose`, or with `ChangeRefused`."""
        return self._propose(lambda: self.core.change(change))

    def read_index(self) -> "Deferred[None]":
        """Fires once this node's state machine holds everything that was decided before this call.

        Fails with `NotLeader` or `Unavailable`.
        """
        self._catch_up()
        read = _Read()
        try:
            self._check_usable()
            self.core.read_index(read)
        except WeedError as error:
            return fail(error)
        self._reads.append(read)
        read.timer = self._clock.callLater(self._timing.propose, self._expire_read, read)
        self._turn()
        return read.waiting

    def transfer(self, target: NodeId) -> None:
        """Begin to hand the lead over; events tell how it went.  Raises `NotLeader` or `ChangeRefused`."""
        self._catch_up()
        self._check_usable()
        self.core.transfer(target)
        self._turn()

    def has_lease(self) -> bool:
        """Whether this node may answer alone, now: checked against the clock at this very moment."""
        if self.failed is not None or self.is_stuck():
            return False
        self._catch_up()
        return self.core.has_lease()

    def is_stuck(self) -> bool:
        """Whether a write has been under way for too long."""
        since = self._saving_since
        return since is not None and self._monotonic() - since >= self._timing.stuck

    def status(self) -> Status:
        """What this node believes now."""
        core = self.core
        return Status(
            node=self.identity.node,
            role=core.role.name,
            term=core.term,
            leader=core.leader,
            membership=core.log.membership,
            last_index=core.log.last_index,
            commit=core.log.commit,
            applied=core.log.applied,
            snapshot_index=core.log.snapshot.index,
            has_lease=self.has_lease(),
            stuck=self.is_stuck(),
            failed=None if self.failed is None else str(self.failed),
        )

    def observe(self, observer: Callable[[Changed], None]) -> None:
        """Call `observer` whenever role, leader, term or membership have changed."""
        self._observers.append(observer)

    # ------------------------------------------------------------------ from the network

    def received(self, message: Message) -> None:
        """A message from an admitted node; raises `BadRequest` when no honest node would send it."""
        if self.failed is not None or not self.running:
            return
        self._catch_up()
        self.core.step(message)
        self._turn()

    def lost_contact(self, node: NodeId) -> None:
        """The connection to `node` has dropped."""
        self.core.lost_contact(node)

    def refused(self, node: NodeId) -> None:
        """Nothing listens where `node` was."""
        self._catch_up()
        self.core.refused(node)
        self._turn()

    def hello(self) -> Hello:
        """How this node introduces itself."""
        return Hello(self.identity.cluster, self.identity.node, self._transport.address)

    # ------------------------------------------------------------------ time

    def _tick(self) -> None:
        self._catch_up()
        if self.is_stuck():
            self.core.step_down()
        self._turn()

    def _catch_up(self) -> None:
        """Tell the core what time it is.  While the disk is stuck its time stands still: it must not campaign."""
        if self.is_stuck() or self.failed is not None:
            return
        ticks = int((self._monotonic() - self._began) / self._timing.tick) - self.core.now
        if ticks > 0:
            self.core.tick(ticks)

    # ------------------------------------------------------------------ the Ready loop

    def _turn(self) -> None:
        """After any input: let urgent messages go, and start on what there is to do."""
        if self.failed is not None or not self.running:
            return
        self._transport.send(self.core.urgent())
        while self._saving_since is None and self.core.has_ready():
            ready = self.core.ready()
            if ready.update is None:
                self._finish(ready)
            else:
                self._save(ready, ready.update)
        self._tell()

    def _save(self, ready: Ready, update: Update) -> None:
        self._saving_since = self._monotonic()

        def saved(_: None) -> None:
            self._saving_since = None
            self._catch_up()
            self._finish(ready)
            self._wake_idle()
            self._turn()

        def failed(failure: Failure) -> None:
            self._saving_since = None
            self._wake_idle()
            self._stop_for(failure)

        self._run(lambda: self._storage.save(update)).addCallbacks(saved, failed).addErrback(self._bug)

    def _finish(self, ready: Ready) -> None:
        """Everything is stored: send, apply, advance."""
        self._transport.send(ready.messages)
        if ready.snapshot is not None:
            self._machine.restore(ready.snapshot.data)
        for entry in ready.committed:
            self._apply(entry)
        self.core.advance(ready)
        self._answer_reads(ready)
        self._compact()
        self._transport.follow(self.core.log.membership)

    def _apply(self, entry: Entry) -> None:
        proposal = self._proposals.pop(entry.index, None)
        outcome: object = None
        if entry.kind is EntryKind.COMMAND:
            try:
                outcome = self._machine.apply(entry.index, entry.data)
            except WeedError as error:  # a refusal, the same on every node
                outcome = Failure(error)
        if proposal is None:
            return
        proposal.timer.cancel()
        if proposal.term != entry.term:
            outcome = Failure(NotLeader(self.core.leader))
        proposal.waiting.callback(outcome)

    def _compact(self) -> None:
        log = self.core.log
        if log.applied - log.snapshot.index >= self._timing.snapshot_every:
            self.core.compact(log.applied, self._machine.snapshot())

    # ------------------------------------------------------------------ those who wait

    def _propose(self, append: Callable[[], tuple[int, int]]) -> "Deferred[object]":
        self._catch_up()
        try:
            self._check_usable()
            index, term = append()
        except WeedError as error:
            return fail(error)
        timer = self._clock.callLater(self._timing.propose, self._expire_proposal, index)
        proposal = _Proposal(term, timer)
        self._proposals[index] = proposal
        self._turn()
        return proposal.waiting

    def _check_usable(self) -> None:
        if self.failed is not None:
            raise self.failed
        if not self.running:
            raise Unavailable("this node is not running")
        if self.is_stuck():
            raise TooBusy("the disk does not answer")

    def _expire_proposal(self, index: int) -> None:
        proposal = self._proposals.pop(index)
        proposal.waiting.errback(Failure(MaybeCommitted(index, f"no majority within {self._timing.propose:g} s")))

    def _expire_read(self, read: "_Read") -> None:
        self._reads.remove(read)
        read.waiting.errback(Failure(Unavailable(f"no majority confirmed the lead in {self._timing.propose:g} s")))

    def _answer_reads(self, ready: Ready) -> None:
        for state in ready.reads:
            if isinstance(state.token, _Read):
                state.token.index = state.index
        for token in ready.failed_reads:
            if isinstance(token, _Read) and token in self._reads:
                self._end_read(token, Failure(NotLeader(self.core.leader)))
        for read in [r for r in self._reads if r.index is not None and r.index <= self.core.log.applied]:
            self._end_read(read, None)

    def _end_read(self, read: "_Read", outcome: Failure | None) -> None:
        self._reads.remove(read)
        if read.timer is not None:
            read.timer.cancel()
        read.waiting.callback(outcome)

    def _fail_waiters(self, error: WeedError) -> None:
        proposals, self._proposals = self._proposals, {}
        for index, proposal in proposals.items():
            proposal.timer.cancel()
            proposal.waiting.errback(Failure(MaybeCommitted(index, str(error))))
        for read in list(self._reads):
            self._end_read(read, Failure(error))

    def _tell(self) -> None:
        """Report what has changed; a lost lead ends the waiting of those whose fate another leader decides now."""
        status = self.status()
        before, self._seen = self._seen, status
        if before is not None and _headline(before) == _headline(status):
            return
        if before is not None and before.role == "leader" and status.role != "leader":
            self._fail_waiters(NotLeader(status.leader))
        self.log.info(
            "{role} in term {term}, leader {leader}", role=status.role, term=status.term, leader=status.leader
        )
        for observer in list(self._observers):
            observer(Changed(status))

    # ------------------------------------------------------------------ ends

    def _stop_for(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, StoreFailed):
            error = StoreFailed("raft", f"the store broke down: {error!r}")
        self.failed = error
        self.log.critical("this node stops, its state cannot be stored: {error}", error=error)
        if self._ticker.running:
            self._ticker.stop()
        self._fail_waiters(error)
        self._transport.stop()
        self._stopped(error)

    def _bug(self, failure: Failure) -> None:
        """Nothing here may fail; if it does, a node that goes on could break what consensus promises."""
        self.log.failure("this node stops, its driver broke", failure)
        self._stop_for(failure)

    def _when_idle(self) -> "Deferred[None]":
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        if self._saving_since is None:
            self._wake_idle()
        return idle

    def _wake_idle(self) -> None:
        waiting, self._idle = self._idle, []
        for idle in waiting:
            idle.callback(None)


@attrs.define(eq=False)
class _Proposal:
    term: int
    timer: IDelayedCall
    waiting: "Deferred[object]" = attrs.field(factory=Deferred)


@attrs.define(eq=False)
class _Read:
    index: int | None = None
    timer: IDelayedCall | None = None
    waiting: "Deferred[None]" = attrs.field(factory=Deferred)


def _headline(status: Status) -> tuple[object, ...]:
    return (status.role, status.term, status.leader, status.membership, status.stuck)
