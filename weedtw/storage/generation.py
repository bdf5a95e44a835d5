"""The files of a volume between two vacuums, with the map that belongs to them.

Reading needs no lock.  Whoever appends holds the volume's lock.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from weedtw.errors import Damaged, VolumeFull
from weedtw.formats.idx import ALIGNMENT, TOMBSTONE, Rows, max_volume_size, pack_row, row_packer, unpack_rows
from weedtw.formats.needle import (
    CURRENT_VERSION,
    HEADER_SIZE,
    Needle,
    pack_vector,
    record_length,
    unpack,
    unpack_header,
)
from weedtw.formats.numeric import np
from weedtw.formats.superblock import SuperBlock
from weedtw.storage.fileops import Buffer, DiskFile
from weedtw.storage.maps import AnyMap
from weedtw.storage.mark import Mark
from weedtw.storage.needlemap import Place
from weedtw.storage.scan import deletion_record

_LAST_SANE_NS: Final = 2**63  # in the year 2262
_CHECKSUM_SIZE: Final = 4
_STAMP_SIZE: Final = 8


class AppendFailed(Exception):
    """The operating system refused an append; `undone` is whether the files are as they were before."""

    def __init__(self, cause: OSError, *, undone: bool) -> None:
        """Keep the reason."""
        super().__init__(str(cause))
        self.cause = cause
        self.undone = undone


@attrs.define(eq=False)
class Generation:
    """Data file, index file and needle map, and where each goes on.  Sizes and offsets are bytes."""

    dat: DiskFile
    idx: DiskFile | None  # None when nothing may be appended
    needles: AnyMap
    superblock: SuperBlock
    dat_size: int
    idx_size: int
    last_append_at_ns: int
    serial: int = attrs.field(factory=itertools.count().__next__, init=False)  # of all generations of this process
    is_plain: bool = attrs.field(init=False)  # of the version that is written now, and no file expires
    _most: int = attrs.field(init=False)  # bytes that `dat` may have
    _pack_row: Callable[[int, int, int], bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._most = max_volume_size(self.needles.offset_width)
        self._pack_row = row_packer(self.needles.offset_width)
        self.is_plain = self.superblock.version == CURRENT_VERSION and not self.superblock.ttl

    @property
    def version(self) -> int:
        """Of the records: 1, 2 or 3."""
        return self.superblock.version

    # -------------------------------------------------------------- reading

    def record(self, place: Place) -> bytes:
        """The whole record; fewer bytes when the file ends within it.  Raises OSError."""
        return self.dat.read(record_length(place.size, self.version), place.offset)

    def needle(self, place: Place) -> Needle | None:
        """The needle as it is stored; None when it is damaged.  Raises OSError."""
        try:
            return unpack(memoryview(self.record(place)), self.version, path=self.dat.path)
        except Damaged:
            return None

    def cookie(self, place: Place) -> int:
        """The cookie of the needle at a place; raises Damaged when there is none, and OSError."""
        return unpack_header(self.dat.read(HEADER_SIZE, place.offset), path=self.dat.path)[0]

    def checksum(self, place: Place) -> int:
        """The crc as it is stored in the record.  Raises OSError."""
        return int.from_bytes(self.dat.read(_CHECKSUM_SIZE, place.offset + HEADER_SIZE + place.size))

    def append_at_ns(self, place: Place) -> int:
        """The time of the append as it is stored in the record; 0 in versions 1 and 2.  Raises OSError."""
        if self.version != 3:
            return 0
        offset = place.offset + HEADER_SIZE + place.size + _CHECKSUM_SIZE
        return int.from_bytes(self.dat.read(_STAMP_SIZE, offset))

    def index_rows(self, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of the index, or a part of them; made from the map when there is no file.  Raises OSError."""
        if self.idx is not None:
            return self.idx.read((self.idx_size if end is None else end) - start, start)
        width = self.needles.offset_width
        rows = (pack_row(key, place.offset, place.size, width) for key, place in self.needles.items())
        return b"".join(rows)[start:end]

    def mark(self) -> Mark:
        """How far the index is.  Call under the lock; raises OSError."""
        assert self.idx is not None, "there is no index that could go on"
        revision, width = self.superblock.compaction_revision, self.needles.offset_width
        return Mark.of(revision, width, self.idx, self.idx_size, self.dat_size, self.last_append_at_ns)

    def place_before(self, key: int, place: Place) -> Place | None:
        """Where the key's needle was before the one at `place`, by the index file; None when there was none."""
        rows: Rows = unpack_rows(self.index_rows(), self.needles.offset_width)
        older = np.flatnonzero((rows.keys == np.uint64(key)) & (rows.offsets < place.offset))
        if not len(older):
            return None
        size = int(rows.sizes[older[-1]])
        return Place(int(rows.offsets[older[-1]]), size) if size >= 0 else None

    # -------------------------------------------------------------- appending

    def put(self, needle: Needle, now_ns: int) -> tuple[Place, int]:
        """Append the needle; return where it is and the time that it got.

        Raises VolumeFull, AppendFailed, and what `pack_vector` does.
        """
        stamp = self.next_ns(now_ns)
        buffers = pack_vector(attrs.evolve(needle, append_at_ns=stamp), self.version)
        size = unpack_header(buffers[0])[2]
        place = Place(self.append(buffers, needle.key, size), size)
        self.needles.put(needle.key, place.offset, size)
        self.last_append_at_ns = stamp
        return place, stamp

    def delete(self, key: int, cookie: int, place: Place, now_ns: int) -> None:
        """Append a deletion of the needle at `place`; raises VolumeFull, AppendFailed and OSError."""
        stamp = self.next_ns(now_ns)
        record = deletion_record(cookie, key, self.checksum(place), stamp, self.version)
        self.append([record], key, TOMBSTONE)
        self.needles.delete(key)
        self.last_append_at_ns = stamp

    def copy_record(self, record: bytes, key: int, size: int) -> None:
        """Append a record that stands in other files, as it is, with a row of that size; raises as `put` does."""
        offset = self.append([record], key, size)
        if size >= 0:
            self.needles.put(key, offset, size)
        else:
            self.needles.delete(key)
        self.needles.settle()

    def append(self, buffers: Sequence[Buffer], key: int, size: int, length: int | None = None) -> int:
        """Append a record and its index row, or neither; return the record's offset.

        `length` is that of the buffers together, which need not be counted again where it is known.
        """
        assert self.idx is not None, "nothing may be appended"
        offset = self.dat_size
        if length is None:
            length = sum(map(len, buffers))
        end = offset + length
        if end > self._most or offset % ALIGNMENT:
            raise self._does_not_fit(offset)
        row = self._pack_row(key, offset // ALIGNMENT, size)
        width = len(row)
        try:
            self.dat.write(buffers, offset, length)
            self.idx.write((row,), self.idx_size, width)
        except OSError as error:
            raise AppendFailed(error, undone=self._cut_back()) from error
        self.dat_size = end
        self.idx_size += width
        return offset

    def _does_not_fit(self, offset: int) -> Exception:
        if offset % ALIGNMENT:
            return ValueError(f"a record cannot begin at {offset}, which is no multiple of {ALIGNMENT}")
        limit, width = self._most >> 30, self.needles.offset_width
        return VolumeFull(self.dat.path, f"{limit} GiB is what an index with {width}-byte offsets covers")

    def _cut_back(self) -> bool:
        """Take back what a failed append left; return whether that was possible."""
        try:
            self.dat.truncate(self.dat_size)
            if self.idx is not None:
                self.idx.truncate(self.idx_size)
        except OSError:
            return False
        return True

    def next_ns(self, now_ns: int) -> int:
        """The time of an append: now, but later than the last one."""
        last = self.last_append_at_ns
        return max(now_ns, last + 1) if last < _LAST_SANE_NS else now_ns
