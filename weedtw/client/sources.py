"""Where the bytes of an upload come from, read piece by piece and, for a retry, again.

A file is never read whole: memory holds one piece of it for each request under way.  Reading happens on the
reactor's thread pool, because a disk may take its time.
"""

import io
import os
import stat
import threading
from typing import BinaryIO, Protocol

import attrs
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from weedtw.errors import StorageError


class Source(Protocol):
    """Bytes of known length that can be read at any offset, any number of times."""

    @property
    def name(self) -> str:
        """A name for people: the file's, without its folder; may be empty."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    async def read(self, offset: int, count: int) -> bytes | memoryview:
        """Return up to `count` bytes from `offset` on, at least one unless the source has shrunk."""

    def close(self) -> None:
        """Let go of the file; nothing is read afterwards."""


@attrs.frozen
class MemorySource:
    """Bytes that are in memory anyway."""

    data: memoryview
    name: str = ""

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.data.nbytes

    async def read(self, offset: int, count: int) -> memoryview:
        """Return a view of the bytes; nothing is copied."""
        return self.data[offset : offset + count]

    def close(self) -> None:
        """Do nothing; the caller owns the bytes."""


@attrs.frozen(eq=False)
class PathSource:
    """A file on disk, of the length it had when it was opened."""

    path: str
    size: int
    _descriptor: int
    _reactor: IReactorThreads

    @classmethod
    def open(cls, path: str, reactor: IReactorThreads) -> "PathSource":
        """Open a regular file; raises StorageError for anything else (a pipe would block, a folder has no bytes)."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise StorageError(path, getattr(error, "strerror", None) or str(error)) from error
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            os.close(descriptor)
            raise StorageError(path, "is not a regular file")
        return cls(path, state.st_size, descriptor, reactor)

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return os.path.basename(self.path)

    async def read(self, offset: int, count: int) -> bytes:
        """Read in a thread; raises StorageError when the disk will not."""
        pool = self._reactor.getThreadPool()
        try:
            data: bytes = await deferToThreadPool(self._reactor, pool, os.pread, self._descriptor, count, offset)
        except OSError as error:
            raise StorageError(self.path, error.strerror or str(error)) from error
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@attrs.frozen(eq=False)
class ObjectSource:
    """A seekable file object, from where it stood when it was given; the caller closes it."""

    name: str
    size: int
    _file: BinaryIO
    _start: int
    _reactor: IReactorThreads
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    @classmethod
    def of(cls, file: BinaryIO, name: str, reactor: IReactorThreads) -> "ObjectSource":
        """Measure the object, which has to be seekable."""
        start = file.tell()
        end = file.seek(0, io.SEEK_END)
        file.seek(start)
        return cls(name, end - start, file, start, reactor)

    async def read(self, offset: int, count: int) -> bytes:
        """Seek and read in a thread, one reader at a time; raises StorageError when it cannot be read."""
        pool = self._reactor.getThreadPool()
        try:
            data: bytes = await deferToThreadPool(self._reactor, pool, self._read, offset, count)
        except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile
            raise StorageError(self.name or "the file", getattr(error, "strerror", None) or str(error)) from error
        return data

    def close(self) -> None:
        """Leave the object open: it is the caller's."""

    def _read(self, offset: int, count: int) -> bytes:
        with self._lock:
            self._file.seek(self._start + offset)
            return self._file.read(count)
