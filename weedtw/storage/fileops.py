"""The calls into the operating system that storage makes, in one place.

Everything that touches a disk goes through a `FileOps`, which is passed in: a test passes one that fails, runs
out of space, or dies at the call of its choice.  The methods are the system calls of the same name and raise
OSError as those do.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs

Buffer: TypeAlias = bytes | bytearray | memoryview

NO_WAIT = getattr(os, "RWF_NOWAIT", 0)  # Linux: answer from the page cache or not at all


@attrs.frozen
class DiskSpace:
    """Room on the disk that holds a folder, in bytes."""

    total: int
    free: int  # what an unprivileged process may still use

    @property
    def used(self) -> int:
        """Bytes taken, those kept back for root among them."""
        return self.total - self.free


class FileOps:
    """The real system calls."""

    def open(self, path: str, flags: int) -> int:
        """Return a file descriptor; a new file may be read by everybody and written by its owner."""
        return os.open(path, flags | os.O_CLOEXEC, 0o644)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        """Length of the file in bytes."""
        return os.fstat(fd).st_size

    def modified_at(self, fd: int) -> float:
        """When the file was last written to, unix seconds."""
        return os.fstat(fd).st_mtime

    def is_at(self, fd: int, path: str) -> bool:
        """Whether `path` leads to that open file."""
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        own = os.fstat(fd)
        return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def pread_cached(self, fd: int, length: int, offset: int) -> bytearray | None:
        """What the page cache holds of that piece, from its start; None when the kernel would have to wait."""
        if not NO_WAIT:
            return None
        buffer = bytearray(length)
        try:
            got = os.preadv(fd, [buffer], offset, NO_WAIT)
        except BlockingIOError:
            return None
        return buffer if got == length else buffer[:got]

    def pread_cached_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """The same into a buffer: how many bytes; fewer, or none, where the kernel would have to wait."""
        if not NO_WAIT:
            return 0
        try:
            return os.preadv(fd, [buffer], offset, NO_WAIT)
        except BlockingIOError:
            return 0

    pwritev: Callable[[int, Sequence[Buffer], int], int] = staticmethod(os.pwritev)  # no call of ours in between
    """Return how many bytes were written, which may be fewer than given."""

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Return when content and length are on the disk."""
        os.fdatasync(fd)

    def rename(self, old: str, new: str) -> None:
        """Put `old` in the place of `new`, at once for every observer."""
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, path: str) -> None:
        """Return when names made, changed and removed in the folder are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def disk_space(self, path: str) -> DiskSpace:
        """Room on the disk that holds `path`."""
        found = os.statvfs(path)
        return DiskSpace(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


class DiskFile:
    """An open file; its descriptor is closed when nobody refers to the object any more.

    That is how a vacuum can put new files in the place of a volume's without waiting for its readers: a
    reader that still holds the old object goes on reading the old file.
    """

    __slots__ = ("__weakref__", "_ops", "fd", "path")

    def __init__(self, ops: FileOps, path: str, flags: int = os.O_RDWR) -> None:
        """Open `path`; raises OSError."""
        self._ops = ops
        self.path = path
        self.fd = -1
        self.fd = ops.open(path, flags)

    def __del__(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._ops.close(fd)

    def size(self) -> int:
        """Length in bytes."""
        return self._ops.size(self.fd)

    def modified_at(self) -> float:
        """When it was last written to, unix seconds."""
        return self._ops.modified_at(self.fd)

    def is_at(self, path: str) -> bool:
        """Whether that path leads to this file."""
        return self._ops.is_at(self.fd, path)

    def read(self, length: int, offset: int) -> bytes:
        """Read `length` bytes at `offset`; fewer only at the end of the file."""
        data = self._ops.pread(self.fd, length, offset)
        if len(data) == length or not data:
            return data
        pieces = [data]
        have = len(data)
        while have < length and (piece := self._ops.pread(self.fd, length - have, offset + have)):
            pieces.append(piece)
            have += len(piece)
        return b"".join(pieces)

    def read_cached(self, length: int, offset: int) -> bytearray | None:
        """Read without waiting for the disk; None when that cannot be.  Raises OSError where it is not known."""
        data = self._ops.pread_cached(self.fd, length, offset)
        return data if data is not None and len(data) == length else None

    def read_cached_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer without waiting for the disk; whether it could be.  Raises OSError if it is not known."""
        return self._ops.pread_cached_into(self.fd, buffer, offset) == len(buffer)

    def write(self, buffers: Sequence[Buffer], offset: int, length: int | None = None) -> int:
        """Write all of `buffers` at `offset`, return their length, which may be given if it is known.

        Raises OSError, and then a part may be written.
        """
        total = sum(map(len, buffers)) if length is None else length
        done = self._ops.pwritev(self.fd, buffers, offset)
        while done < total:
            # The kernel took a part: ask again for the rest, and it says why.
            rest = memoryview(b"".join(buffers))[done:]
            more = self._ops.pwritev(self.fd, [rest], offset + done)
            if more <= 0:
                raise OSError(5, "the write stopped short without a reason", self.path)
            done += more
        return total

    def truncate(self, size: int) -> None:
        """Cut to `size` bytes (or fill up with zeros to there)."""
        self._ops.truncate(self.fd, size)

    def sync(self) -> None:
        """Return when all that was written is on the disk."""
        self._ops.sync(self.fd)


def write_whole(ops: FileOps, path: str, content: bytes) -> None:
    """Put a file with that content at `path`, durable, never a part of it: beside it first, then renamed."""
    beside = path + ".tmp"
    write_beside(ops, beside, content)
    try:
        ops.rename(beside, path)
    except OSError:
        remove_quietly(ops, beside)
        raise
    ops.sync_folder(os.path.dirname(path) or ".")


def write_beside(ops: FileOps, path: str, content: Buffer) -> DiskFile:
    """Make a file with that content and put it on the disk; nothing is left of it when that fails."""
    made = DiskFile(ops, path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        made.write([content], 0)
        made.sync()
    except (OSError, KeyboardInterrupt):
        remove_quietly(ops, path)
        raise
    return made


def remove_quietly(ops: FileOps, path: str) -> None:
    """Remove what was begun, where another error is about to be told; that it could not be is not told besides."""
    with contextlib.suppress(OSError):
        remove_if_there(ops, path)


def remove_if_there(ops: FileOps, path: str) -> bool:
    """Remove a file; return whether there was one."""
    if not os.path.lexists(path):
        return False
    ops.unlink(path)
    return True
