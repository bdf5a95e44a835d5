"""How a master makes decisions last.

A decision is a command of `weedtw.topology.state`.  `submit` gives the command's result once it can no longer
be lost; only then may anybody be told.  `SoloLedger` is the ledger of a cluster with one master.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from weedtw.errors import Unavailable, WeedError, WriteFailed
from weedtw.master.ledgerfile import LedgerFile
from weedtw.topology.state import ClusterState, Command

SNAPSHOT_EVERY = 1000  # commands

Result = TypeVar("Result")
InThread = Callable[..., "Deferred[None]"]


class Ledger(Protocol):
    """The agreed state of the cluster, and the way to change it."""

    @property
    def node_id(self) -> str:
        """This master's own identity, a UUID that stays for life."""
        ...

    @property
    def state(self) -> ClusterState:
        """The state that is durable now."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether this master decides."""
        ...

    @property
    def leader_address(self) -> str | None:
        """The `host:port` of the master that decides; None when there is none, or it is not known."""
        ...

    async def submit(self, command: Command) -> Any:
        """Make a command last and give its result, as `ClusterState.apply` does.

        Raises what the command raises, and Unavailable when the command was not and will not be carried out.
        """
        ...


@attrs.define(eq=False)
class SoloLedger:
    """A ledger on the disk of the only master.

    Commands are carried out one after another, in the order they were submitted; those that come while the disk
    is busy go to it together, in one transaction.  `in_thread(f, *args)` runs a blocking function elsewhere; it is
    never called again before the last call has ended.  When the disk fails, `on_failure` is told once, and
    nothing is decided any more.
    """

    log = Logger()

    file: LedgerFile
    address: str
    in_thread: InThread
    on_failure: Callable[[WeedError], None]
    term: int = 0
    _state: ClusterState = attrs.field(init=False)
    _queue: list[tuple[Command, Deferred[Any]]] = attrs.field(factory=list, init=False)
    _writing: bool = attrs.field(default=False, init=False)
    _failure: WeedError | None = attrs.field(default=None, init=False)
    _closing: list[Deferred[None]] = attrs.field(factory=list, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._state = self.file.state

    @property
    def node_id(self) -> str:
        """See Ledger."""
        return self.file.node_id

    @property
    def state(self) -> ClusterState:
        """See Ledger."""
        return self._state

    @property
    def is_leader(self) -> bool:
        """Whether decisions can be made: true until the disk fails or the ledger is closed."""
        return self._failure is None and not self._closed

    @property
    def leader_address(self) -> str | None:
        """Ourselves, for as long as we can decide."""
        return self.address if self.is_leader else None

    async def submit(self, command: Command) -> Any:
        """See Ledger."""
        if self._closed:
            raise Unavailable("this master is stopping")
        if self._failure is not None:
            raise _refusal(self._failure)
        waiter: Deferred[Any] = Deferred()
        self._queue.append((command, waiter))
        if not self._writing:
            self._writing = True
            Deferred.fromCoroutine(self._write_all()).addErrback(
                lambda failure: self.log.failure("while writing the ledger", failure)
            )
        return await waiter

    async def close(self) -> None:
        """Take no more commands, finish those that were submitted, close the file."""
        if not self._closed:
            self._closed = True
            if self._writing:
                done: Deferred[None] = Deferred()
                self._closing.append(done)
                await done
            self.file.close()

    async def _write_all(self) -> None:
        try:
            while self._queue and self._failure is None:
                batch, self._queue = self._queue, []
                await self._write(batch)
        finally:
            self._writing = False
            for done in self._closing:
                done.callback(None)

    async def _write(self, batch: list[tuple[Command, Deferred[Any]]]) -> None:
        """Apply a batch in order, store what could be applied, then publish the state and the results."""
        state, accepted, outcomes = self._state, list[Command](), list[tuple[Deferred[Any], Any]]()
        for command, waiter in batch:
            try:
                state, result = state.apply(command)
                accepted.append(command)
            except WeedError as error:
                result = error
            outcomes.append((waiter, result))
        snapshot = self.file.in_log + len(accepted) >= SNAPSHOT_EVERY
        try:
            if accepted:
                await self._store(accepted, state, snapshot)
        except Exception as error:  # noqa: BLE001 - whatever it is: what is on disk is not known any more
            failure = error if isinstance(error, WeedError) else WriteFailed(self.file.path, repr(error))
            self._fail(failure, [waiter for waiter, _ in outcomes])
            return
        self._state = state
        for waiter, result in outcomes:
            _settle(waiter, result)

    async def _store(self, commands: list[Command], state: ClusterState, snapshot: bool) -> None:
        def append() -> None:
            self.file.append(self.term, commands, state, snapshot=snapshot)

        await self.in_thread(append)

    def _fail(self, error: WeedError, waiters: list[Deferred[Any]]) -> None:
        """The disk cannot be trusted any more: refuse everything from here on, and say so loudly."""
        self._failure = error
        waiters += [waiter for _, waiter in self._queue]
        self._queue = []
        for waiter in waiters:
            _settle(waiter, _refusal(error))
        self.on_failure(error)


def _settle(waiter: "Deferred[Any]", result: Any) -> None:
    if waiter.called:  # cancelled: whoever asked has left
        return
    if isinstance(result, WeedError):
        waiter.errback(result)
    else:
        waiter.callback(result)


def _refusal(failure: WeedError) -> Unavailable:
    return Unavailable(f"this master cannot store its decisions any more: {failure}", 30.0)
