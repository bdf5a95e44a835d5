"""Request bodies on their way in: memory first, then an unnamed temporary file, always within a limit.

A body is read as ONE contiguous read-only view (`view()`), whether it lies in memory or, mapped, in its file.
Writing to the temporary file goes to the page cache and is done where the bytes arrive.
"""

import mmap
import os
import tempfile

import attrs

from weedtw.errors import TooLarge, Unavailable, WriteFailed

IN_MEMORY = 1 << 20  # bytes of one body that may stay in memory


@attrs.define
class Budget:
    """A number of bytes that all connections share; `limit` None means without end.

    Whoever is alone gets any number, or what is larger than the limit would never get its turn.
    """

    limit: int | None = None
    used: int = 0

    def take(self, count: int, held: int = 0) -> bool:
        """Reserve `count` bytes beside the `held` ones that the same taker has; False when they are not to be had."""
        if self.limit is not None and self.used > held and self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Return `count` bytes that were taken."""
        self.used -= count
        assert self.used >= 0, "more was returned than taken"


@attrs.define
class Room:
    """What the bodies of one server share: bytes in flight, bytes in memory, the folder for temporary files."""

    in_flight: Budget = attrs.Factory(Budget)
    in_memory: Budget = attrs.Factory(lambda: Budget(256 << 20))
    folder: str | None = None  # None: the system's folder for temporary files


@attrs.define(eq=False)
class Spool:
    """One body.  `limit` is in bytes; `announced` (Content-Length) is reserved at once when it is known.

    Raises TooLarge when the body is, or says it is, over `limit`; Unavailable when the server holds as many bytes
    of bodies as it may; WriteFailed when the temporary file cannot be written.  Close it in every case.
    """

    room: Room
    limit: int
    announced: int | None = None
    size: int = 0
    closed: bool = False
    _memory: bytearray = attrs.field(factory=bytearray, init=False)
    _file: int | None = attrs.field(default=None, init=False)  # descriptor, once the body has left memory
    _map: mmap.mmap | None = attrs.field(default=None, init=False)
    _reserved: int = attrs.field(default=0, init=False)  # of room.in_flight
    _held: int = attrs.field(default=0, init=False)  # of room.in_memory
    _at: int = attrs.field(default=0, init=False)  # where read() goes on

    def __attrs_post_init__(self) -> None:
        if self.announced is not None:
            if self.announced > self.limit:
                raise TooLarge(self.limit, self.announced)
            self._reserve(self.announced)

    def write(self, data: bytes | memoryview) -> None:
        """Append to the body; the view must not have been taken yet."""
        assert not self.closed
        assert self._map is None, "written after it was mapped"
        size = self.size + len(data)
        if size > self.limit:
            raise TooLarge(self.limit)
        if size > self._reserved:
            self._reserve(size - self._reserved)
        if self._file is None and not self._fits_memory(len(data)):
            self._move_to_file()
        if self._file is None:
            self._memory += data
        else:
            self._write_file(data)
        self.size = size

    def view(self) -> memoryview:
        """The whole body, read-only; it stays readable after `close()` for as long as it is referenced."""
        assert not self.closed
        if self._file is None or self.size == 0:
            return memoryview(self._memory).toreadonly()
        if self._map is None:
            self._map = mmap.mmap(self._file, self.size, prot=mmap.PROT_READ)
        return memoryview(self._map)

    def close(self) -> None:
        """Drop the body.  A thread that still reads a view keeps the bytes alive, not the reservation."""
        if self.closed:
            return
        self.closed = True
        self.room.in_flight.give(self._reserved)
        self.room.in_memory.give(self._held)
        self._reserved = self._held = 0
        self._memory = bytearray()
        self._map = None  # unmapped with its last view
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # ------------------------------------------------------------- as a file, for code that wants one

    def read(self, size: int = -1) -> bytes:
        """Copy the next `size` bytes out, or all that is left."""
        rest = self.view()[self._at :]
        piece = bytes(rest if size < 0 else rest[:size])
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set where `read` goes on."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = min(max(0, base + offset), self.size)
        return self._at

    def tell(self) -> int:
        """Where `read` goes on."""
        return self._at

    # ------------------------------------------------------------- inside

    def _reserve(self, count: int) -> None:
        if not self.room.in_flight.take(count, self._reserved):
            raise Unavailable("the server is taking as many bytes of uploads as it may; try again")
        self._reserved += count

    def _fits_memory(self, count: int) -> bool:
        if self.size + count > IN_MEMORY or not self.room.in_memory.take(count):
            return False
        self._held += count
        return True

    def _move_to_file(self) -> None:
        try:
            with tempfile.TemporaryFile(dir=self.room.folder, buffering=0) as file:
                self._file = os.dup(file.fileno())
        except OSError as error:
            raise WriteFailed(self.room.folder or tempfile.gettempdir(), error.strerror or str(error)) from error
        if self._memory:
            self._write_file(self._memory)
        self._memory = bytearray()
        self.room.in_memory.give(self._held)
        self._held = 0

    def _write_file(self, data: bytes | bytearray | memoryview) -> None:
        assert self._file is not None
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise WriteFailed(self.room.folder or tempfile.gettempdir(), error.strerror or str(error)) from error
