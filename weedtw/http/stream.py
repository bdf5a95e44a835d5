"""Writing a long answer no faster than the client takes it.

    async with paced(request) as pace:
        for piece in pieces:
            await pace.send(piece)

What is written otherwise piles up in memory.  When the client goes, the endpoint is cancelled.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from weedtw.errors import WeedError
from weedtw.http.outflow import TURN
from weedtw.http.requests import Request

PIECE = 64 * 1024  # bytes written at once
_MOST = 256 * 1024  # bytes of a piece that are handed over at once: TLS takes all of them, however slow the client


@implementer(IPushProducer)
class Pace:
    """Whether the connection has room; made by `paced`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._paused = False
        self._turn = 0  # bytes that were sent without anybody else having had a turn
        self._waiting: Deferred[None] | None = None

    async def _room(self) -> None:
        """Return when the connection takes more, at once if it does now; raise CancelledError when it is gone.

        One waiter at a time.
        """
        if self._request.is_gone:
            raise CancelledError
        if self._paused:
            assert self._waiting is None, "two are waiting for room"
            self._waiting = Deferred()
            try:
                await self._waiting
            finally:
                self._waiting = None

    async def send(self, piece: bytes | memoryview) -> None:
        """Write a part of the body as the connection takes it; the piece may be used for something else afterwards.

        Raises CancelledError when the connection is gone.
        """
        rest = memoryview(piece)
        while rest:
            await self._room()
            if self._turn >= TURN:
                self._request.channel.yield_turn()
                await self._room()
            sent = self._request.write_some(rest[:_MOST])
            self._turn += sent
            rest = rest[sent:]

    def pauseProducing(self) -> None:
        """The connection has enough for now."""
        self._paused = True
        self._turn = 0

    def resumeProducing(self) -> None:
        """The connection takes more."""
        self._paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone; the request tells its endpoint."""


@asynccontextmanager
async def paced(request: Request) -> AsyncIterator[Pace]:
    """Follow the pace of this request's client while the body of the `async with` writes to it."""
    pace = Pace(request)
    request.registerProducer(pace, streaming=True)
    try:
        yield pace
    finally:
        request.unregisterProducer()


async def send_pieces(
    request: Request,
    pieces: AsyncGenerator[bytes | memoryview, None],
    first: bytes | memoryview = b"",
    *,
    gently: bool = False,
) -> None:
    """Write pieces as they are made, at the client's pace; at most one is held while it is slow.

    `first` is one that was made already.

    Raises what making the pieces raises; if that is a WeedError, `gently` has the client get what was sent before,
    where otherwise the endpoint cuts the connection.  The generator is closed in every case.
    """
    try:
        async with aclosing(pieces), paced(request) as pace:
            await pace.send(first)
            async for piece in pieces:
                await pace.send(piece)
    except WeedError as error:
        if gently:
            request.break_off(error)
        raise


async def send(request: Request, buffers: Iterable[bytes | memoryview]) -> None:
    """Write buffers of any size to the client, in pieces, at its pace; status and headers are set before.

    For a HEAD request no buffer is even looked at.
    """
    if request.method == b"HEAD":
        request.write(b"")
        return
    async with paced(request) as pace:
        for buffer in buffers:
            view = memoryview(buffer)
            for at in range(0, len(view), PIECE):
                await pace.send(view[at : at + PIECE])
