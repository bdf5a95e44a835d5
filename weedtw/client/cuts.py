"""Content cut into what is stored under one id: known lengths without reading, unknown ones as they come in."""

import traceback
from collections.abc import AsyncIterator
from typing import Final, Protocol

import attrs
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.logger import Logger

from weedtw.client.sources import MemorySource, Source
from weedtw.errors import BadRequest, StorageError, WeedError

STREAM_CHUNK: Final = 4 * 1024 * 1024  # bytes; of streams for which nobody said


@attrs.frozen
class Cut:
    """What is stored under one id: `count` bytes of `source` from `start` on; the `number`-th, from 1 on."""

    source: Source
    start: int
    count: int
    number: int
    offset: int  # of its first byte in the whole


class Cuts(Protocol):
    """Gives the cuts of one content, in order."""

    @property
    def name(self) -> str:
        """A name for people: the file's, without its folder; may be empty."""

    @property
    def more(self) -> bool:
        """Whether there is another one, as far as is known before it is taken; before the first there is."""

    async def take(self) -> Cut | None:
        """Return the next; None when there is none.  It may be asked for before the last answer has come.

        Of empty content there is one, empty.  Raises StorageError when the content cannot be read.
        """

    async def close(self) -> None:
        """Let go of the content; nothing is taken, nor read, afterwards."""


@attrs.define(eq=False)
class SourceCuts:
    """Those of a source, of at most `most` bytes each; 0 is for any length."""

    source: Source
    most: int
    _taken: int = attrs.field(default=0, init=False)  # cuts

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def more(self) -> bool:
        """Whether there is another one."""
        return self._taken == 0 or 0 < self.most * self._taken < self.source.size

    async def take(self) -> Cut | None:
        """Return the next; None when there is none."""
        if not self.more:
            return None
        offset = self.most * self._taken
        count = self.source.size - offset
        self._taken += 1
        return Cut(self.source, offset, min(count, self.most) if self.most else count, self._taken, offset)

    async def close(self) -> None:
        """Close the source."""
        self.source.close()


@attrs.define(eq=False)
class StreamCuts:
    """Those of a stream of unknown length, each held in memory; all but the last have `most` bytes.

    The stream's pieces may be of any length.  One piece is read ahead, to know whether there is another cut.
    """

    pieces: AsyncIterator[bytes | bytearray | memoryview]
    most: int
    name: str = ""
    _left: memoryview = attrs.field(default=memoryview(b""), init=False)  # of the last piece
    _ended: bool = attrs.field(default=False, init=False)
    _received: int = attrs.field(default=0, init=False)  # bytes
    _cut: int = attrs.field(default=0, init=False)  # bytes
    _taken: int = attrs.field(default=0, init=False)  # cuts
    _turn: DeferredLock = attrs.field(factory=DeferredLock, init=False)
    _log = Logger()

    @property
    def more(self) -> bool:
        """Whether there is another one, or a cut is being made and it is not known yet."""
        return not self._ended or bool(self._left)

    async def take(self) -> Cut | None:
        """Return the next; None when there is none."""
        await self._turn.acquire()
        try:
            return await self._take()
        finally:
            self._turn.release()

    async def _take(self) -> Cut | None:
        data = bytearray()
        while len(data) < self.most and await self._pull():
            room = self.most - len(data)
            data += self._left[:room]
            self._left = self._left[room:]
        await self._pull()
        if not data and self._taken:
            return None
        offset = self._cut
        self._cut += len(data)
        self._taken += 1
        return Cut(MemorySource(memoryview(data)), 0, len(data), self._taken, offset)

    async def _pull(self) -> bool:
        """Whether there is something left, of the last piece or of the one that is fetched then."""
        while not self._left and not self._ended:
            try:
                piece = await anext(self.pieces)
            except StopAsyncIteration:
                self._ended = True
            except CancelledError:
                raise
            except Exception as error:
                self._ended = True
                raise StorageError(
                    self.name or "the stream",
                    f"broke off after {self._received} bytes, so that nothing of it is kept: {_reason(error)}",
                ) from error
            else:
                self._left = memoryview(_checked(piece))
                self._received += len(self._left)
        return bool(self._left)

    async def close(self) -> None:
        """Close the iterator if it is not at its end."""
        self._left = memoryview(b"")
        close = getattr(self.pieces, "aclose", None)
        if self._ended or close is None:
            return
        self._ended = True
        try:
            await close()
        except Exception as error:  # noqa: BLE001 - what made the upload end early matters more
            self._log.warn("the stream that was uploaded could not be closed: {error}", error=error)


def _checked(piece: object) -> bytes:
    """The piece as bytes that nobody changes; raises BadRequest when it is none."""
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise BadRequest(f"the content comes in pieces of type {type(piece).__name__}, not bytes")
    return piece if isinstance(piece, bytes) else bytes(piece)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, WeedError):
        return str(error)
    return traceback.format_exception_only(error)[-1].strip()
