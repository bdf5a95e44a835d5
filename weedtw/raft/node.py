"""The driver of one node: brings the core its time, its disk and its network, and its callers their answers.

The Ready loop is the contract of `core.py` in practice: store, then send, apply, advance.  Storing happens on one
thread of its own, one update at a time; while it runs, messages and proposals go on being taken in, and heartbeats
go on leaving, so that a slow disk costs throughput and not the lead.  A disk that is stuck for longer than `stuck`
seconds costs the lead, and nothing is promised until it moves again.

A disk that fails stops the node, and so does whatever should not have happened: a broken invariant, a state machine
that raises something else than a refusal.  A node that went on could break what consensus promises.
"""

import random
from collections.abc import Callable
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import (
    ChangeRefused,
    ConfigError,
    InvariantBroken,
    NotLeader,
    StoreFailed,
    TooBusy,
    Unavailable,
    WeedError,
)
from weedtw.raft.core import CoreFactory, RaftCore, Ready, Settings
from weedtw.raft.disk import Disk
from weedtw.raft.interface import Changed, StateMachine, Status, Timing
from weedtw.raft.leader import Leader
from weedtw.raft.lines import MAX_PAYLOAD, Hello
from weedtw.raft.membership import Change, NodeId
from weedtw.raft.messages import Entry, EntryKind, Message
from weedtw.raft.storage import Identity, Storage, Update
from weedtw.raft.transport import Transport
from weedtw.raft.waiters import Handover, Proposals, Reads

T = TypeVar("T")


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
        disk: Disk,
        clock: IReactorTime,
        monotonic: Callable[[], float],
        rng: random.Random,
        settings: Settings | None = None,
        timing: Timing | None = None,
        make_core: CoreFactory = RaftCore,
        stopped: Callable[[WeedError], None],
    ) -> None:
        """Load what `storage` holds, which blocks.

        `monotonic` is best `elapsed`; `disk` is where storage works from then on; `stopped` is told when the node
        had to stop, and why.
        """
        settings, timing = settings or Settings(), timing or Timing()
        if max(settings.chunk, settings.max_append, settings.max_entry) > MAX_PAYLOAD:
            raise ConfigError("raft settings", f"a message takes {MAX_PAYLOAD} bytes at most")
        self.identity = identity
        self.failed: WeedError | None = None
        self.saves = 0  # writes to the disk that have ended well, each with its fsync
        self.saving_seconds = 0.0  # that they took together
        self._storage = storage
        self._machine = machine
        self._disk = disk
        self._clock = clock
        self._monotonic = monotonic
        self._timing = timing
        self._stopped = stopped
        self._began = monotonic()
        self._next_tick = self._began  # when the core is to be told the time again
        self.core = make_core(identity.node, storage.load(), settings, rng)
        self._transport = make_transport(self)
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = clock
        self._saving_since: float | None = None
        self._idle: list[Deferred[None]] = []  # waiting for the write under way
        self._proposals = Proposals(clock, timing.propose, timing.settle)
        self._reads = Reads(clock, timing.propose, self.core.read_index)
        self._handover = Handover(clock, timing.propose)
        self._observers: list[Callable[[Changed], None]] = []
        self._seen: tuple[object, ...] = ()
        self._turning = False

    # ------------------------------------------------------------------ service

    def startService(self) -> None:
        """Join in."""
        super().startService()  # type: ignore[no-untyped-call]
        self._disk.start()
        self._transport.start()
        self._ticker.start(self._timing.tick, now=False).addErrback(self._break)
        self._turn()

    def stopService(self) -> "Deferred[None]":
        """Leave; the deferred fires when the last write has ended, and the connections and the store are closed."""
        was_running = bool(self.running)
        super().stopService()  # type: ignore[no-untyped-call]
        self._end_waiting(Unavailable("this node is shutting down"))
        hung_up = self._transport.stop()

        async def leave() -> None:
            await self._when_idle()
            await hung_up
            try:
                if was_running:
                    await self._disk.run(self._storage.close)
                else:
                    self._storage.close()
            except StoreFailed as error:
                self.log.warn("closing the store: {error}", error=error)
            self._disk.stop()

        return Deferred.fromCoroutine(leave())

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

    # ------------------------------------------------------------------ requests

    def propose(self, data: bytes) -> "Deferred[object]":
        """Replicate a command; fires with what the state machine's `apply` returned.

        Fails with `NotLeader`, `TooBusy` or `BadRequest` when nothing was proposed; with `NotLeader` also when
        another leader has decided something else in its place; with `MaybeCommitted` when its fate is unknown; or
        with what `apply` raised.
        """
        return self._propose(lambda: self.core.propose(data))

    def change(self, change: Change) -> "Deferred[object]":
        """Change the membership; fires when that is committed.  Fails like `propose`, or with `ChangeRefused`."""
        return self._propose(lambda: self.core.change(change))

    def _propose(self, append: Callable[[], tuple[int, int]]) -> "Deferred[object]":
        try:
            return self._request(lambda: self._proposals.add(*append()))
        except WeedError as error:
            return fail(error)

    def read_index(self) -> "Deferred[None]":
        """Fires once this node's state machine holds everything that was decided before this call.

        Fails with `NotLeader`, `TooBusy` or `Unavailable`.
        """
        try:
            return self._request(self._reads.add)
        except WeedError as error:
            return fail(error)

    def transfer(self, target: NodeId) -> None:
        """Begin to hand the lead over; events tell how it went.  Raises `NotLeader` or `ChangeRefused`."""
        self._request(lambda: self.core.transfer(target))

    def hand_over(self, target: NodeId | None = None) -> "Deferred[None]":
        """Make another voter lead, the one whose log is most advanced unless one is named; fires when it does.

        Fails with `NotLeader`, with `ChangeRefused` when there is nobody to lead, or with `Unavailable` when it did
        not come about.
        """
        try:
            self._handover.check()
            self.transfer(target or self._heir())
        except WeedError as error:
            return fail(error)
        return self._handover.begin()

    def campaign(self) -> None:
        """Do not wait for the election timeout, for which there is no reason in a cluster that has just been founded.

        It is no more than a pre-vote: whoever hears a leader goes on following it.
        """
        self._input(lambda: self.core.role.campaign_soon(0))

    def has_lease(self) -> bool:
        """Whether this node may answer alone, now: checked against the clock at this very moment."""
        if self.failed is not None or not self.running:
            return False
        is_tick_due = self._saving_since is not None or self._monotonic() >= self._next_tick
        if is_tick_due and self._catch_up():
            self._turn()
        return self.core.has_lease()

    def seconds_since(self, tick: int) -> float:
        """How long ago a moment was that the core remembers."""
        return (self.core.now - tick) * self._timing.tick

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
            connected=self._transport.connected(),
        )

    def observe(self, observer: Callable[[Changed], None]) -> None:
        """Call `observer` whenever role, leader, term or membership have changed."""
        self._observers.append(observer)

    # ------------------------------------------------------------------ from the network

    def received(self, message: Message) -> None:
        """A message from an admitted node; raises `BadRequest` when no honest node would send it."""
        self._input(lambda: self.core.step(message))

    def lost_contact(self, node: NodeId) -> None:
        """The connection to `node` has dropped."""
        self._input(lambda: self.core.lost_contact(node))

    def refused(self, node: NodeId) -> None:
        """Nothing listens where `node` was."""

        def gone() -> None:
            self.core.refused(node)
            # Survivors take turns to campaign: one that waited for the next tick would meet the one that comes next.
            self.core.tick(0)

        self._input(gone)

    def hello(self) -> Hello:
        """How this node introduces itself."""
        return Hello(self.identity.cluster, self.identity.node, self._transport.address)

    # ------------------------------------------------------------------ inputs

    def _request(self, action: Callable[[], T]) -> T:
        """An input that somebody here waits for.  Raises what refuses it, or why this node takes none."""
        if self.failed is not None:
            raise self.failed
        if not self.running:
            raise Unavailable("this node is not running")
        if self.is_stuck():
            raise TooBusy("the disk does not answer")
        results: list[T] = []
        self._input(lambda: results.append(action()))
        if self.failed is not None:
            raise self.failed
        return results[0]

    def _input(self, action: Callable[[], None]) -> None:
        """Give the core an input: time first, and afterwards what follows from it.  Raises only refusals."""
        if self.failed is not None or not self.running:
            return
        try:
            self._catch_up()
            action()
        except InvariantBroken:
            self._break(Failure())
        except WeedError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the core may be half through a change
            self._break(Failure())
        finally:
            self._turn()

    def _tick(self) -> None:
        if self._catch_up():
            self._turn()

    def _catch_up(self) -> bool:
        """Tell the core what time it is; whether it had not known.  A node whose disk is stuck does not lead."""
        now = self._monotonic()
        if now < self._next_tick and self._saving_since is None:
            return False
        if self.is_stuck():
            self.core.step_down()
        tick = self._timing.tick
        ticks = int((now - self._began) / tick) - self.core.now
        if ticks > 0:
            self.core.tick(ticks)
        self._next_tick = self._began + (self.core.now + 1) * tick
        return ticks > 0

    # ------------------------------------------------------------------ the Ready loop

    def _turn(self) -> None:
        """After any input: let urgent messages go, start on what there is to do, and tell what has changed.

        What follows from it may bring new inputs; they are dealt with here too, one after the other.
        """
        if self._turning:
            return
        self._turning = True
        try:
            while self.failed is None and self.running:
                self._transport.send(self.core.urgent())
                if self._saving_since is None and self.core.has_ready():
                    self._carry_out(self.core.ready())
                elif not self._tell():
                    break
        except Exception:  # noqa: BLE001 - the loop is broken, whatever it was
            self._break(Failure())
        finally:
            self._turning = False

    def _carry_out(self, ready: Ready) -> None:
        if ready.update is None:
            self._finish(ready)
        else:
            self._save(ready, ready.update)

    def _save(self, ready: Ready, update: Update) -> None:
        def saved(_: None) -> None:
            self._catch_up()  # before the write counts as ended: was it stuck?
            self.saves += 1
            self.saving_seconds += self._monotonic() - began
            self._saving_since = None
            if self.failed is None:
                self._finish(ready)
            self._wake_idle()
            self._turn()

        def failed(failure: Failure) -> None:
            self._saving_since = None
            self._break(failure)
            self._wake_idle()

        self._saving_since = began = self._monotonic()
        self._disk.run(lambda: self._storage.save(update)).addCallbacks(saved, failed).addErrback(self._broke_off)

    def _broke_off(self, failure: Failure) -> None:
        self._break(failure)
        self._wake_idle()

    def _finish(self, ready: Ready) -> None:
        """Everything is stored: send, apply, advance; then answer."""
        self._transport.send(ready.messages)
        if ready.snapshot is not None:
            self._machine.restore(ready.snapshot.data)
        outcomes = [self._apply(entry) for entry in ready.committed]
        self.core.advance(ready)
        self._compact()
        self._transport.follow(self.core.log.membership)
        leader = self.core.leader
        if ready.snapshot is not None:
            self._proposals.fail_up_to(ready.snapshot.index, "a snapshot of another leader covers it")
        for entry, outcome in zip(ready.committed, outcomes, strict=True):
            self._proposals.applied(entry, outcome, leader)
        for read in ready.reads:
            self._reads.confirmed(read.token, read.index)
        for token in ready.failed_reads:
            self._reads.refused(token, NotLeader(leader))
        self._reads.applied(self.core.log.applied)

    def _apply(self, entry: Entry) -> object:
        if entry.kind is not EntryKind.COMMAND:
            return None
        try:
            return self._machine.apply(entry.index, entry.data)
        except WeedError as error:  # a refusal, the same on every node
            return Failure(error)

    def _compact(self) -> None:
        log = self.core.log
        if log.applied - log.snapshot.index >= self._timing.snapshot_every:
            self.core.compact(log.applied, self._machine.snapshot())

    # ------------------------------------------------------------------ what has changed

    def _named(self, node: NodeId | None) -> str:
        """A node for people: they know it by its address."""
        member = self.core.log.membership.members.get(node) if node is not None else None
        return f"{node} at {member.address}" if member is not None else node or "unknown"

    def _tell(self) -> bool:
        """Report what is not as it was; whether there was anything."""
        core, stuck = self.core, self.is_stuck()
        seen, before = (core.term, core.leader, core.log.membership, stuck, core.role.name), self._seen
        self._handover.follow(core)
        if seen == before:
            return False
        self._seen = seen
        if before and before[-1] == Leader.name != core.role.name:
            self._proposals.lost_lead(core.leader)
        if seen[:-1] != before[:-1]:
            self.log.info(
                "{role} in term {term}, leader {leader}{stuck}",
                role=core.role.name,
                term=core.term,
                leader=self._named(core.leader),
                stuck=", the disk is stuck" if stuck else "",
            )
        status = self.status()
        for observer in list(self._observers):
            try:
                observer(Changed(status))
            except Exception:  # noqa: BLE001 - consensus does not depend on who watches it
                self.log.failure("an observer broke down")
        return True

    def _heir(self) -> NodeId:
        """The voter in touch whose log is most advanced."""
        core = self.core
        if not isinstance(core.role, Leader):
            raise NotLeader(core.leader)
        fresh = core.now - core.settings.election
        heirs = [
            (progress.match, node)
            for node, progress in core.role.progress.items()
            if node in core.log.membership.voters and progress.contact is not None and progress.contact > fresh
        ]
        if not heirs:
            raise ChangeRefused("no other voter is in touch")
        return max(heirs)[1]

    # ------------------------------------------------------------------ ends

    def _end_waiting(self, error: WeedError) -> None:
        if self._ticker.running:
            self._ticker.stop()
        self._proposals.fail_all(str(error))
        self._reads.fail_all(error)
        self._handover.end(error)

    def _break(self, failure: Failure) -> None:
        """Stop taking part, for good."""
        if self.failed is not None:
            return
        error = failure.value
        if isinstance(error, StoreFailed):
            self.log.critical("this node stops, its state cannot be stored: {error}", error=error)
        else:
            self.log.failure("this node stops, something is broken", failure)
            if not isinstance(error, InvariantBroken):
                error = InvariantBroken(f"the driver broke down: {error!r}")
        self.retire(error)

    def retire(self, error: WeedError) -> None:
        """Take part no more, for good: what this node remembers does not count any more."""
        if self.failed is not None:
            return
        self.failed = error
        self._end_waiting(error)
        self._transport.stop()
        self._stopped(error)
