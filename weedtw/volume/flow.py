"""Sending a long answer piece by piece, no faster than its client takes it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from weedtw.http.requests import Request


@implementer(IPushProducer)
class Flow:
    """Tells whoever makes the pieces when the client's connection takes more."""

    def __init__(self) -> None:
        self._is_paused = False
        self._has_stopped = False
        self._waiter: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """The connection has enough for now."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """The connection takes more."""
        self._is_paused = False
        self._wake()

    def stopProducing(self) -> None:
        """The client has gone."""
        self._has_stopped = True
        self._wake()

    async def room(self) -> None:
        """Wait until the connection takes more; raises CancelledError when it never will."""
        if self._is_paused and not self._has_stopped:
            self._waiter = Deferred()
            await self._waiter
        if self._has_stopped:
            raise CancelledError

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)


async def send_pieces(request: Request, pieces: AsyncGenerator[bytes, None]) -> None:
    """Write the pieces to the request; at most one of them is held while the client is slow.

    Raises what making the pieces raises, and CancelledError when the client goes away; the request is not finished.
    """
    flow = Flow()
    request.registerProducer(flow, streaming=True)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                await flow.room()
                request.write(piece)
    finally:
        if not request.is_gone:
            request.unregisterProducer()
