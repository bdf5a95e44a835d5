"""Reading a file as an iterator: the next piece is taken from the connection when it is asked for, and not before.

    async for piece in client.open(fid):
        …

    async with client.open(fid, start=1000) as reading:     # closed at the end of the block, whatever happens in it
        print((await reading.info()).name)
        async for piece in reading:
            …

Memory holds the piece that the reader has, the next one, and what a connection had read when it was told to pause:
some hundred KB, however long the file is.
"""

from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from weedtw.client.answers import FileInfo
from weedtw.client.receiver import Write


class Stream(Protocol):
    """What pushes a file's content, as `Files.stream` does."""

    def __call__(
        self, write: Write, begin: Callable[[FileInfo], Awaitable[None] | None], /
    ) -> Coroutine["Deferred[Any]", Any, FileInfo]:
        """Tell `begin` of the file, then give its content to `write`."""


@attrs.define(eq=False)
class _Flow:
    """Turns a stream that pushes into one that is asked: `write` is pending until the next piece is wanted."""

    _stream: Stream
    _running: "Deferred[Any] | None" = attrs.field(default=None, init=False)
    _info: FileInfo | None = attrs.field(default=None, init=False)
    _held: bytes = attrs.field(default=b"", init=False)  # came, and nobody has it yet
    _written: "Deferred[None] | None" = attrs.field(default=None, init=False)  # fires when more may come
    _awaited: "Deferred[None] | None" = attrs.field(default=None, init=False)  # the reader waits for it
    _failure: Failure | None = attrs.field(default=None, init=False)
    _over: bool = attrs.field(default=False, init=False)  # nothing more comes
    _waking: bool = attrs.field(default=False, init=False)  # the stream's own code is what runs the reader now

    @property
    def is_open(self) -> bool:
        """Whether a connection may be in use."""
        return self._running is not None and not self._over

    async def info(self) -> FileInfo | None:
        """What the file is, None when it was closed before that was known; raises what the stream raises."""
        self._begin()
        while self._info is None and not self._over:
            await self._something()
        if self._info is None:
            self._raise()
        return self._info

    async def next(self) -> bytes:
        """Some bytes, none at the end; raises what the stream raises."""
        self._begin()
        self._let_more_come()
        while not self._held and not self._over:
            await self._something()
        if not self._held:
            self._raise()
        piece, self._held = self._held, b""
        return piece

    def close(self) -> None:
        """Take nothing more, and let go of the connection; may be called at any time, and again."""
        if self._over:
            return
        self._over = True
        self._held = b""
        self._let_more_come()
        if self._running is not None and not self._waking:
            self._running.cancel()
        self._wake()

    def _begin(self) -> None:
        if self._running is None and not self._over:
            self._running = Deferred.fromCoroutine(self._stream(self._write, self._told))
            self._running.addBoth(self._ended)

    def _ended(self, result: FileInfo | Failure) -> None:
        if isinstance(result, Failure) and not self._over:
            self._failure = result
        self._over = True
        self._wake()

    def _told(self, info: FileInfo) -> None:
        self._info = info
        self._wake_from_stream()

    def _write(self, piece: bytes) -> "Deferred[None]":
        written: Deferred[None] = Deferred()
        self._held, self._written = piece, written
        self._wake_from_stream()
        return written

    def _wake_from_stream(self) -> None:
        """Run the reader if it waits; when it closes meanwhile, end the stream from inside: it is on the stack."""
        self._waking = True
        try:
            self._wake()
        finally:
            self._waking = False
        if self._over:
            raise CancelledError

    async def _something(self) -> None:
        if self._awaited is not None:
            raise RuntimeError("another piece of this file is being waited for already")
        self._awaited = Deferred()
        try:
            await self._awaited
        except CancelledError:
            self.close()
            raise
        finally:
            self._awaited = None

    def _wake(self) -> None:
        awaited = self._awaited
        if awaited is not None and not awaited.called:
            awaited.callback(None)

    def _let_more_come(self) -> None:
        written, self._written = self._written, None
        if written is not None and not written.called:
            written.callback(None)

    def _raise(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            failure.raiseException()


class Reading:
    """A file's content, or a part of it, piece by piece; an async iterator of bytes, never empty, in order.

    Nothing is asked of a server before the first piece or `info` is.  While no piece is asked for, nothing is read.
    The end comes when the length was right, else PeerError; other errors are those of `Client.stream`.  Leaving a
    loop early closes the connection as soon as nothing refers to this any more, `close` and `async with` at once.
    """

    def __init__(self, stream: Stream, reactor: IReactorFromThreads) -> None:
        self._flow = _Flow(stream)
        self._reactor = reactor

    async def info(self) -> FileInfo:
        """Return what the server says of the file: size is that of the whole, in bytes."""
        info = await self._flow.info()
        if info is None:
            raise CancelledError
        return info

    async def piece(self) -> bytes:
        """Return the next bytes, b"" when there are no more."""
        return await self._flow.next()

    async def close(self) -> None:
        """Let go of the connection, if it is not at its end."""
        self._flow.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._flow.next()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flow.close()

    def __del__(self) -> None:
        if self._flow.is_open:  # whichever thread this runs in
            self._reactor.callFromThread(self._flow.close)
