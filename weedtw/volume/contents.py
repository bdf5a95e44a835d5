"""Where the bytes of an answer come from: memory, a record on disk, or a gzip stream that is unpacked on the way.

Each kind knows its size beforehand and gives any part of itself in pieces, which is all that ranges, whole files
and multipart answers need.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

import attrs
from crc32c import crc32c

from weedtw.errors import Damaged, TooLarge
from weedtw.formats.needle import matches
from weedtw.volume.compression import Inflater, NotGzip

PIECE = 256 * 1024  # bytes

Piece = bytes | memoryview  # to be used before the next one is asked for: its buffer may serve again

Run = Callable[..., Coroutine[Any, Any, Any]]  # runs a blocking function in a thread


class Content(Protocol):
    """The bytes of one representation of a file."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def pieces(self, start: int, stop: int) -> AsyncGenerator[Piece, None]:
        """The bytes [start, stop), one after the other; raises Damaged before the last piece of bytes that are not
        what was written, if that can be told.
        """


@attrs.frozen(eq=False)
class InMemory:
    """Bytes that are there already, and have been checked."""

    data: bytes | memoryview

    @property
    def size(self) -> int:
        return len(self.data)

    async def pieces(self, start: int, stop: int) -> AsyncGenerator[Piece, None]:
        view = memoryview(self.data)[start:stop]
        for at in range(0, len(view), PIECE):
            yield bytes(view[at : at + PIECE])


class Source(Protocol):
    """Data of one record on disk; blocking, called in threads."""

    @property
    def size(self) -> int:
        """Bytes of data."""

    @property
    def checksum(self) -> int:
        """CRC-32C as the record has it."""

    def pread(self, start: int, length: int) -> bytes:
        """Bytes of the data from `start` on; raises Damaged when they are not there."""

    def pread_cached(self, start: int, buffer: memoryview) -> bool:
        """Fill a buffer with the data from `start` on, without waiting for a disk; whether that could be."""

    def place(self, start: int) -> tuple[int, int]:
        """The file's descriptor, open as long as this is referred to, and where byte `start` of the data is in it."""


def check_whole(source: Source, checksum: int, what: str) -> None:
    """Raise Damaged, about the file that `what` names, unless that checksum of all the data is the record's."""
    if not matches(source.checksum, checksum):
        raise Damaged(what, "the data does not have the checksum it was written with")


@attrs.frozen(eq=False)
class OnDisk:
    """A record's data, read piece by piece, in threads or from the page cache; checked when all of it is read."""

    source: Source
    run: Run
    what: str  # names the file in errors

    @property
    def size(self) -> int:
        return self.source.size

    async def pieces(self, start: int, stop: int) -> AsyncGenerator[Piece, None]:
        is_whole = (start, stop) == (0, self.size)
        checksum = 0
        buffer = memoryview(bytearray(min(PIECE, stop - start)))  # of this answer, for one piece after the other
        piece: Piece
        for at in range(start, stop, PIECE):
            length = min(PIECE, stop - at)
            if self.source.pread_cached(at, buffer[:length]):
                piece = buffer[:length]
                checksum = crc32c(piece, checksum)
            else:
                piece, checksum = await self.run(self._read, at, length, checksum)
            if is_whole and at + PIECE >= stop:
                check_whole(self.source, checksum, self.what)
            yield piece

    def _read(self, at: int, length: int, checksum: int) -> tuple[bytes, int]:
        piece = self.source.pread(at, length)
        return piece, crc32c(piece, checksum)


@attrs.frozen(eq=False)
class Inflated:
    """What a gzip stream unpacks to.  `size` must have been measured; a part is reached through all before it."""

    packed: Content
    size: int
    run: Run
    what: str  # names the file in errors

    async def pieces(self, start: int, stop: int) -> AsyncGenerator[Piece, None]:
        inflater = Inflater(self.size)
        at = 0
        try:
            async with aclosing(self.packed.pieces(0, self.packed.size)) as all_packed:
                async for packed in all_packed:
                    plain_pieces = inflater.feed(packed)
                    while plain := await self.run(next, plain_pieces, None):
                        wanted = plain[max(0, start - at) : max(0, stop - at)]
                        at += len(plain)
                        if wanted:
                            yield wanted
                        if at >= stop and stop < self.size:
                            return
            inflater.finish()
        except NotGzip as error:
            raise Damaged(self.what, f"the stored gzip stream is broken: {error}") from error


async def measure(packed: Content, limit: int, run: Run, what: str) -> int:
    """How many bytes a gzip stream unpacks to; raises Damaged when it is none, TooLarge beyond `limit`."""
    inflater = Inflater(limit)
    try:
        async for piece in packed.pieces(0, packed.size):
            await run(_drain, inflater, piece)
        inflater.finish()
    except NotGzip as error:
        raise Damaged(what, f"the stored gzip stream is broken: {error}") from error
    return inflater.size


async def gather(content: Content, limit: int) -> bytes:
    """All of a content in memory; raises TooLarge beyond `limit` bytes."""
    if content.size > limit:
        raise TooLarge(limit, content.size)
    if isinstance(content, InMemory):
        return bytes(content.data)
    async with aclosing(content.pieces(0, content.size)) as pieces:
        return b"".join([bytes(piece) async for piece in pieces])


def _drain(inflater: Inflater, piece: bytes) -> None:
    for _ in inflater.feed(piece):
        pass
