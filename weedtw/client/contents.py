"""What may be uploaded, and how it is read: in memory, by path, seekable, or as a stream that comes once."""

import io
import os
import select
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO, Final, Self

import attrs
from twisted.internet.interfaces import IReactorThreads

from weedtw.client.bodies import PIECE
from weedtw.client.cuts import STREAM_CHUNK, Cuts, SourceCuts, StreamCuts
from weedtw.client.errands import Errands, OwnThread
from weedtw.client.sources import MemorySource, ObjectSource, PathSource
from weedtw.errors import BadRequest

Piece = bytes | bytearray | memoryview
Content = Piece | str | os.PathLike[str] | BinaryIO | Iterable[Piece] | AsyncIterable[Piece]

_ONCE: Final = (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR)  # kinds of files that give each byte once


@attrs.define(eq=False)
class Pulled:
    """An async iterator over one that blocks: each step is an errand."""

    _pieces: Iterator[Piece]
    _errands: Errands
    _closed: bool = attrs.field(default=False, init=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        try:
            piece: Piece | None = await self._errands.run(partial(next, self._pieces, None))
        except Exception:
            await self.aclose()
            raise
        if piece is None:
            await self.aclose()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close what can be closed as soon as the step that is under way is done; that is not waited for."""
        if not self._closed:
            self._closed = True
            close: Callable[[], object] = getattr(self._pieces, "close", _nothing)
            self._errands.end(close)


def stream_of(content: Content, errands: Callable[[], Errands]) -> AsyncIterator[Piece] | None:
    """The pieces of what comes once: an iterable, an async one, a file that cannot be sought in.

    None for content that can be read at any offset.  What blocks is left to `errands`, and is read as it is asked
    for, a file PIECE bytes at a time.  Raises BadRequest for what is no content.
    """
    if isinstance(content, bytes | bytearray | memoryview | str | os.PathLike):
        return None
    read = getattr(content, "read", None)
    if read is not None:
        if _can_be_sought_in(content):
            return None
        if isinstance(content, io.BufferedReader) and isinstance(content.raw, io.FileIO):
            read = partial(_read_when_ready, content)
        return Pulled(iter(partial(_read, read), b""), errands())
    if isinstance(content, AsyncIterable):
        return aiter(content)
    if isinstance(content, Iterable):
        return Pulled(iter(content), errands())
    raise BadRequest(
        f"{content!r} cannot be uploaded: it is neither bytes, nor a path, a file or an iterator of bytes"
    )


def name_of(content: Content) -> str:
    """The name of a file object without its folder; "" for what has none, such as a pipe."""
    name = getattr(content, "name", "")
    return os.path.basename(name) if isinstance(name, str) and not name.startswith("<") else ""


def open_content(content: Content, reactor: IReactorThreads, most: int) -> Cuts:
    """Return the content cut into pieces of `most` bytes (0: whole, but for streams, which are never held whole).

    Raises StorageError for a path that cannot be read, BadRequest for what is no content.
    """
    if isinstance(content, bytes | bytearray | memoryview):
        return SourceCuts(MemorySource(memoryview(content).cast("B")), most)
    if isinstance(content, str | os.PathLike):
        return SourceCuts(PathSource.open(os.fspath(content), reactor), most)
    pieces = stream_of(content, partial(OwnThread, reactor))
    if pieces is not None:
        return StreamCuts(pieces, most or STREAM_CHUNK, name_of(content))
    file: Any = content
    return SourceCuts(ObjectSource.of(file, name_of(content), reactor), most)


def _can_be_sought_in(file: Any) -> bool:
    """Whether it can be read again from where it stands; a device says so, and does not keep its word."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError, AttributeError, TypeError):
        mode = 0  # no file of the operating system's
    if any(is_once(mode) for is_once in _ONCE):
        return False
    try:
        start = file.tell()
        file.seek(0, io.SEEK_END)  # what unpacks as it reads may say that it is seekable, and not know its end
        file.seek(start)
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _read(read: Callable[[int], Any]) -> Any:
    piece = read(PIECE)
    if piece is None:
        raise BlockingIOError(0, "it does not wait for what is not there yet: make it blocking")
    return piece


def _read_when_ready(file: io.BufferedReader, count: int) -> bytes:
    """Wait outside of the buffer: a thread that waits in standard input's makes the interpreter abort as it ends."""
    ready = select.poll()
    ready.register(file.fileno(), select.POLLIN)
    ready.poll()
    return file.read1(count)


def _nothing() -> None:
    """Do nothing."""
