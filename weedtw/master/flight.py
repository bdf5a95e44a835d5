"""Work that several wait for, the news of a change, and several things at once."""

from collections.abc import Coroutine, Iterable
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

Result = TypeVar("Result")


@attrs.define(eq=False)
class Flight(Generic[Result]):
    """A coroutine under way; whoever joins gets its result, and may leave without ending it."""

    _waiting: list["Deferred[Result]"] = attrs.Factory(list)
    _outcome: Result | Failure | None = None
    is_over: bool = False

    @classmethod
    def take_off(cls, work: Coroutine[Any, Any, Result]) -> "Flight[Result]":
        """Start the work."""
        flight = cls()
        Deferred.fromCoroutine(work).addBoth(flight._land)
        return flight

    def _land(self, outcome: Result | Failure) -> None:
        self.is_over, self._outcome = True, outcome
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            self._tell(waiter)

    def _tell(self, waiter: "Deferred[Result]") -> None:
        if not waiter.called:  # cancelled: whoever waited has left
            waiter.callback(self._outcome)  # type: ignore[arg-type]  # a Failure makes it an errback

    async def join(self) -> Result:
        """Wait for the result, or the failure."""
        waiter: Deferred[Result] = Deferred()
        if self.is_over:
            self._tell(waiter)
        else:
            self._waiting.append(waiter)
        return await waiter


@attrs.define(eq=False)
class Changes:
    """Tells whoever waits that something has changed; they look for themselves what."""

    clock: IReactorTime
    _waiting: set["Deferred[None]"] = attrs.Factory(set)

    def announce(self) -> None:
        """Something changed."""
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            waiter.callback(None)

    async def wait(self, seconds: float) -> None:
        """Return at the next change, or after `seconds`."""
        waiter: Deferred[None] = Deferred()
        self._waiting.add(waiter)
        timer: IDelayedCall = self.clock.callLater(seconds, self._time_is_up, waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)
            if timer.active():
                timer.cancel()

    def _time_is_up(self, waiter: "Deferred[None]") -> None:
        self._waiting.discard(waiter)
        waiter.callback(None)


async def outcomes(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result | Failure]:
    """Do all these things at the same time; what came of each, in their order."""
    done = await DeferredList([Deferred.fromCoroutine(work) for work in works], consumeErrors=True)
    return [outcome for _, outcome in done]
