"""Writes that another server asked of this copy, each under an id of its own, so that they can be taken back.

The server that a client writes to sends the write to all other copies; when one of them fails, the others are
told to drop it again.  That word may come after the answer, before it, when the answer was lost, or before
the write itself.  And a write whose answer was lost may be sent again: it is done once.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from weedtw.errors import Unavailable

LIFETIME = 120.0  # seconds for which a write can be taken back
_MOST = 20_000  # writes remembered

T = TypeVar("T")


@attrs.define(eq=False)
class _Ticket(Generic[T]):
    since: float
    is_dropped: bool = False
    result: T | None = None  # of a write that was done and stands
    _waiters: list[Deferred[None]] | None = attrs.field(factory=list)  # None when the write has come to its end

    async def settled(self) -> None:
        if self._waiters is not None:
            waiter: Deferred[None] = Deferred()
            self._waiters.append(waiter)
            await waiter

    def settle(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.callback(None)


@attrs.define(eq=False)
class Tickets(Generic[T]):
    """Remembers the writes of the last LIFETIME seconds; `T` is what a write results in."""

    clock: IReactorTime
    # Oldest first; of a plain dict it would take ever longer to find that out, the more were taken off.
    _tickets: OrderedDict[str, _Ticket[T]] = attrs.field(factory=OrderedDict, init=False)

    async def do(self, write_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do the write, or wait for the same one that came before; raises what it raises.

        Raises Unavailable when it was taken back before it came.
        """
        known = self._tickets.get(write_id)
        if known is not None:
            await known.settled()
            if known.result is not None and not known.is_dropped:
                return known.result
            raise Unavailable("this write was taken back, or has failed before")
        ticket = self._issue(write_id)
        try:
            ticket.result = await work()
            return ticket.result
        finally:
            ticket.settle()

    def is_known(self, write_id: str) -> bool:
        """Whether this write has come before, or was taken back before it came."""
        return write_id in self._tickets

    def done(self, write_id: str, result: T) -> None:
        """Remember a write that was not known before and was done at once."""
        ticket = self._issue(write_id)
        ticket.result = result
        ticket._waiters = None

    async def take_back(self, write_id: str, undo: Callable[[T], Awaitable[None]]) -> bool:
        """Call `undo` with the write's result, once; False when there was nothing to undo."""
        ticket = self._tickets.get(write_id)
        if ticket is None:  # it may be on its way still
            ticket = self._issue(write_id)
            ticket.settle()
        await ticket.settled()
        if ticket.is_dropped:
            return False
        ticket.is_dropped = True
        if ticket.result is None:
            return False
        await undo(ticket.result)
        return True

    def _issue(self, write_id: str) -> _Ticket[T]:
        now = self.clock.seconds()
        while self._tickets:
            oldest = next(iter(self._tickets))
            if len(self._tickets) < _MOST and now - self._tickets[oldest].since < LIFETIME:
                break
            del self._tickets[oldest]
        ticket = self._tickets[write_id] = _Ticket(now)
        return ticket
