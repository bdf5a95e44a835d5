"""Opening a stored file: all of a small one at once, of a large one everything but its data.

What the page cache holds is read on the spot; anything else, and every large file, goes to a thread.
"""

from collections.abc import Callable

import attrs

from weedtw.errors import CookieMismatch, Damaged, NeedleNotFound
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import HEADER_SIZE, Needle, data_location, record_length, unpack_around, unpack_header
from weedtw.storage.fileops import DiskFile
from weedtw.storage.needlemap import Place
from weedtw.storage.volume import Volume
from weedtw.volume.contents import Content, InMemory, OnDisk, Run

STREAM_FROM = 512 * 1024  # bytes of a record; larger ones are streamed
_PREFIX = HEADER_SIZE + 4  # bytes of a record that tell where its data lies


@attrs.frozen(eq=False)
class Opened:
    """A stored file: what is known about it, and its bytes as they are stored."""

    file_id: FileId
    needle: Needle  # its `data` is empty when the file is streamed
    stored: Content


@attrs.frozen(eq=False)
class RecordData:
    """The data of one record in a .dat file; keeps that file open, whatever becomes of the volume."""

    dat: DiskFile
    offset: int  # bytes from the start of the .dat
    size: int  # bytes
    checksum: int

    def pread(self, start: int, length: int) -> bytes:
        """Bytes of the data; raises Damaged when the file is shorter than it was."""
        try:
            piece = self.dat.read(length, self.offset + start)
        except OSError as error:
            raise Damaged(self.dat.path, f"cannot be read at {self.offset + start}: {error.strerror}") from error
        if len(piece) != length:
            raise Damaged(self.dat.path, f"ends at {self.offset + start + len(piece)}, within a needle")
        return piece

    def place(self, start: int) -> tuple[int, int]:
        """See Source."""
        return self.dat.fd, self.offset + start

    def pread_cached(self, start: int, buffer: memoryview) -> bool:
        """Fill the buffer from the page cache; False when that does not have all of it."""
        try:
            return self.dat.read_cached_into(buffer, self.offset + start)
        except OSError:
            return False  # which `pread` meets as well, and names


class _NotCached(Exception):
    """The disk would have to be waited for."""


def open_cached(volume: Volume, file_id: FileId) -> Opened | None:
    """Open a small file without waiting for the disk; None when that cannot be.  Raises as `Volume.read`."""
    needle = volume.try_read_cached(file_id.key, file_id.cookie)
    return None if needle is None else Opened(file_id, needle, InMemory(memoryview(needle.data)))


async def open_record(volume: Volume, file_id: FileId, run: Run, *, read_deleted: bool = False) -> Opened:
    """Open a file; raises NeedleNotFound, CookieMismatch, Damaged."""
    opened = None if read_deleted else open_cached(volume, file_id) or open_large_cached(volume, file_id, run)
    if opened is None:
        opened = await run(_open, volume, file_id, run, read_deleted)
    assert isinstance(opened, Opened)
    return opened


async def open_for_reader(volume: Volume, file_id: FileId, run: Run, *, read_deleted: bool = False) -> Opened:
    """As `open_record`, but a wrong cookie is NeedleNotFound: a reader who guesses must not learn of the file."""
    try:
        return await open_record(volume, file_id, run, read_deleted=read_deleted)
    except CookieMismatch:
        raise NeedleNotFound(file_id.volume_id, file_id.key) from None


def _open(volume: Volume, file_id: FileId, run: Run, read_deleted: bool) -> Opened:
    place = volume.generation.needles.find(file_id.key)
    if place is None or place.size < STREAM_FROM:
        needle = volume.read(file_id.key, file_id.cookie, read_deleted=read_deleted)
        return Opened(file_id, needle, InMemory(memoryview(needle.data)))
    generation = volume.generation  # file and map that belong together, also while a vacuum replaces them
    place = generation.needles.find(file_id.key)
    if place is None or (place.deleted and not read_deleted):
        raise NeedleNotFound(volume.id, file_id.key)
    return _open_large(volume, generation.dat, place, file_id, run, generation.dat.read)


def open_large_cached(volume: Volume, file_id: FileId, run: Run) -> Opened | None:
    """Open a large file without waiting for the disk; None when that cannot be, or it is no large one.

    Raises as `open_record`.
    """
    generation = volume.generation
    dat, place = generation.dat, generation.needles.get(file_id.key)
    if place is None or place.size < STREAM_FROM:
        return None

    def read(length: int, offset: int) -> bytes:
        data = dat.read_cached(length, offset)
        if data is None:
            raise _NotCached
        return bytes(data)

    try:
        return _open_large(volume, dat, place, file_id, run, read)
    except _NotCached:
        return None


def _open_large(
    volume: Volume, dat: DiskFile, place: Place, file_id: FileId, run: Run, read: Callable[[int, int], bytes]
) -> Opened:
    try:
        prefix = read(_PREFIX, place.offset)
        cookie, key, size = unpack_header(prefix, path=dat.path)
        if (key, size) != (file_id.key, place.size):
            raise Damaged(dat.path, f"at {place.offset} is not needle {file_id.key:x}, which the index says is there")
        if cookie != file_id.cookie:
            raise CookieMismatch(volume.id, key)
        data = data_location(prefix, volume.version, path=dat.path)
        behind = data.offset + data.size
        rest = read(record_length(size, volume.version) - behind, place.offset + behind)
    except OSError as error:
        raise Damaged(dat.path, f"cannot be read at {place.offset}: {error.strerror}") from error
    needle = unpack_around(prefix, rest, volume.version, path=dat.path)
    if volume.has_expired(needle):
        raise NeedleNotFound(volume.id, key)
    source = RecordData(dat, place.offset + data.offset, data.size, needle.checksum)
    return Opened(file_id, needle, OnDisk(source, run, str(file_id)))
