"""Walking the records of a .dat file, also past damage.

A record is *whole* when its header, its body's fields and its end fit each other and the file.  The crc is not part
of that: a whole record with a wrong crc is a file that was damaged, not a place where the walk loses its way.
(Version 1 has no fields to look at, so there the crc is checked.)

What has size 0 is a file without data or a deletion, and the format does not say which.  `Meaning` is what the
record alone tells:

    deletion   our own mark, FF FF FF FF in the padding; or a crc that is not that of no data: SeaweedFS gives a
               deletion the crc of what it deletes; or cookie 12345678, which it gives to deletions during a vacuum
               (unless it is `empty`)
    empty      the padding holds something else than noughts: a time or a ttl, as `formats.needle` puts it there
    unclear    written by SeaweedFS without any of that; `recovery` decides by what the key held before
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from weedtw.errors import Damaged
from weedtw.formats.needle import HEADER_SIZE, Needle, masked, pack, record_length, unpack
from weedtw.formats.numeric import np, npt
from weedtw.storage.fileops import DiskFile

ALIGNMENT: Final = 8
DELETION_MARK: Final = b"\xff\xff\xff\xff"

_VACUUM_COOKIE: Final = 0x1234_5678
_NO_DATA_CRCS: Final = (0, masked(0))
_TAIL_SIZES: Final = {1: 4, 2: 4, 3: 12}
_MARK_SIZE: Final = 4
_WINDOW: Final = 1 << 20
_RESYNC_BLOCK: Final = 1 << 22
_MAX_METADATA: Final = 1 + 256 + 256 + 5 + 2 + 2 + 0xFFFF
_EARLIEST_NS: Final = 10**17  # in the year 1973
_LATEST_NS: Final = 2**62  # in the year 2116
_DAY_NS: Final = 86_400 * 10**9

_HEADER: Final = struct.Struct(">IQi")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")


class Meaning(enum.Enum):
    """What a record is, as far as it tells by itself."""

    DATA = "data"
    EMPTY = "empty"
    DELETION = "deletion"
    UNCLEAR = "unclear"


class Found(NamedTuple):
    """A whole record."""

    offset: int  # bytes from the start of the file
    length: int  # bytes, padding included
    cookie: int
    key: int
    size: int
    append_at_ns: int  # 0 in versions 1 and 2
    meaning: Meaning

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + self.length


class Gap(NamedTuple):
    """A piece of the file that is no whole record."""

    start: int
    end: int


def deletion_record(cookie: int, key: int, checksum: int, append_at_ns: int, version: int) -> bytes:
    """The record that deletes a needle whose data has that crc; marked, so that it is never taken for a file."""
    record = pack(Needle(cookie, key, b"", append_at_ns=append_at_ns, checksum=checksum), version)
    return record[:-_MARK_SIZE] + DELETION_MARK


def record_lengths(sizes: npt.NDArray[np.int32], version: int) -> npt.NDArray[np.int64]:
    """`record_length` for a column of sizes; a tombstone's counts as 0."""
    used = np.maximum(sizes, 0).astype(np.int64) + content_end(0, version)
    return used + ALIGNMENT - used % ALIGNMENT


def content_end(size: int, version: int) -> int:
    """Length of a record without its padding."""
    return HEADER_SIZE + size + _TAIL_SIZES[version]


class Scanner:
    """Reads the records of one .dat file of `size` bytes; not for use by several threads."""

    def __init__(self, dat: DiskFile, size: int, version: int, *, now_ns: int) -> None:
        """`now_ns` is the unix time in nanoseconds: what claims to be from after tomorrow is no record."""
        self.size = size
        self.version = version
        self._dat = dat
        self._latest_ns = now_ns + _DAY_NS
        self._window = b""
        self._window_start = 0

    def at(self, offset: int) -> Found | None:
        """The whole record that begins at `offset`; None when there is none."""
        header = self.peek(offset, HEADER_SIZE)
        if len(header) < HEADER_SIZE or not any(header):
            return None
        cookie, key, size = _HEADER.unpack(header)
        if size < 0:
            return None
        length = record_length(size, self.version)
        if offset + length > self.size:
            return None
        if not size:
            return self._without_data(offset, length, cookie, key)
        if not self._fits(offset, size):
            return None
        return Found(offset, length, cookie, key, size, self._append_at_ns(offset, size), Meaning.DATA)

    def walk(self, start: int) -> Iterator[Found]:
        """The whole records from `start` on, up to the first place where there is none."""
        offset = start
        while (found := self.at(offset)) is not None:
            yield found
            offset = found.end

    def next_whole(self, start: int, after_ns: int) -> Found | None:
        """The first place from `start` on that is beyond doubt a record newer than `after_ns`; None if there is none.

        Looks at every multiple of 8.  In version 1 nothing is beyond doubt.
        """
        if self.version == 1:
            return None
        # A block overlaps the next by a header and what is looked at behind it.
        overlap = 32
        for block_start in range(start, self.size, _RESYNC_BLOCK):
            block = self._dat.read(_RESYNC_BLOCK + overlap, block_start)
            for place in self._candidates(block, block_start):
                found = self.at(place)
                if found is not None and self._beyond_doubt(found, after_ns):
                    return found
        return None

    def is_nought(self, start: int, end: int) -> bool:
        """Whether there is nothing but zero bytes in that piece."""
        for offset in range(start, end, _WINDOW):
            if any(self._dat.read(min(_WINDOW, end - offset), offset)):
                return False
        return True

    def is_torn(self, offset: int) -> bool:
        """Whether what begins at `offset` may well be a record of which the end is missing."""
        head = self.peek(offset, HEADER_SIZE + 4)
        if len(head) < HEADER_SIZE + 4:
            return True
        _, key, size = _HEADER.unpack_from(head)
        if not key or size < 0 or offset + record_length(size, self.version) <= self.size:
            return False
        (data_size,) = _U32.unpack_from(head, HEADER_SIZE)
        return self.version == 1 or not size or data_size + 5 <= size <= data_size + 4 + _MAX_METADATA

    def lacks_padding(self, offset: int) -> Found | None:
        """The record at `offset` if all that it lacks is padding and its crc is right; None otherwise."""
        head = self.peek(offset, HEADER_SIZE)
        if len(head) < HEADER_SIZE:
            return None
        cookie, key, size = _HEADER.unpack(head)
        length = record_length(size, self.version) if size > 0 else 0
        end = offset + content_end(size, self.version) if size > 0 else self.size + 1
        if not end <= self.size < offset + length or not self.is_right(offset, size):
            return None
        return Found(offset, length, cookie, key, size, self._append_at_ns(offset, size), Meaning.DATA)

    def is_right(self, offset: int, size: int) -> bool:
        """Whether the record can be read and its data has the crc that it says."""
        try:
            unpack(memoryview(self.peek(offset, content_end(size, self.version))), self.version, path=self._dat.path)
        except Damaged:
            return False
        return True

    def header(self, offset: int) -> bytes:
        """The header at a place of no special order; all of it, or what the file has left."""
        return self._dat.read(HEADER_SIZE, offset)

    def read(self, offset: int, length: int) -> bytes:
        """A piece at a place of no special order; fewer bytes at the end of the file."""
        return self._dat.read(length, offset)

    def peek(self, offset: int, length: int) -> bytes:
        """Read a piece, through a window that makes a walk cheap; fewer bytes at the end of the file."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        at = offset - self._window_start
        if at < 0 or at + length > len(self._window):
            if length > _WINDOW:
                return self._dat.read(length, offset)
            self._window = self._dat.read(min(_WINDOW, self.size - offset), offset)
            self._window_start, at = offset, 0
        return self._window[at : at + length]

    # -------------------------------------------------------------- one record

    def _without_data(self, offset: int, length: int, cookie: int, key: int) -> Found | None:
        append_at_ns = self._append_at_ns(offset, 0)
        if self.version == 3 and not _EARLIEST_NS <= append_at_ns <= _LATEST_NS:
            return None  # there is nothing else by which to tell such a record from four zero bytes
        tail = self.peek(offset + HEADER_SIZE, length - HEADER_SIZE)
        (checksum,) = _U32.unpack_from(tail)
        mark = tail[-_MARK_SIZE:]
        if mark == DELETION_MARK or checksum not in _NO_DATA_CRCS:
            meaning = Meaning.DELETION
        elif self.version == 3 and any(mark):
            meaning = Meaning.EMPTY
        elif cookie == _VACUUM_COOKIE:
            meaning = Meaning.DELETION
        else:
            meaning = Meaning.UNCLEAR
        return Found(offset, length, cookie, key, 0, append_at_ns, meaning)

    def _fits(self, offset: int, size: int) -> bool:
        """Whether the fields of the body fill it."""
        if self.version == 1:
            return self.is_right(offset, size)
        if size < 5:
            return False
        body = offset + HEADER_SIZE
        (data_size,) = _U32.unpack(self.peek(body, 4))
        if data_size + 5 > size or size - data_size > 4 + _MAX_METADATA:
            return False
        return _metadata_fits(self.peek(body + 4 + data_size, size - 4 - data_size))

    def _append_at_ns(self, offset: int, size: int) -> int:
        if self.version != 3:
            return 0
        stamp = self.peek(offset + HEADER_SIZE + size + 4, 8)
        return int(_U64.unpack(stamp)[0])

    # -------------------------------------------------------------- finding the way again

    def _candidates(self, block: bytes, block_start: int) -> Iterator[int]:
        """Places in the block at which a record is possible, by the numbers that stand there."""
        words = np.frombuffer(block, ">u4", len(block) // 4).astype(np.int64)
        count = min(_RESYNC_BLOCK // ALIGNMENT, max(0, (len(words) - 8) // 2 + 1))
        if count <= 0:
            return
        at = 2 * np.arange(count)
        size, data_size = words[at + 3], words[at + 4]
        possible = (data_size + 5 <= size) & (size - data_size <= 4 + _MAX_METADATA)
        if self.version == 3:
            has_key = (words[at + 1] | words[at + 2]) != 0
            stamp = words[at + 5] << 32 | words[at + 6]
            possible |= (size == 0) & has_key & (stamp > 0) & (stamp <= self._latest_ns)
        yield from (block_start + at[possible] * 4).tolist()

    def _beyond_doubt(self, found: Found, after_ns: int) -> bool:
        if self.version == 3 and not after_ns < found.append_at_ns <= self._latest_ns:
            return False
        return not found.size or self.is_right(found.offset, found.size)


def _metadata_fits(metadata: bytes) -> bool:
    """Whether the fields behind the data, of which the first is the flags byte, fill `metadata`."""
    flags = metadata[0]
    used = 1
    for flag, width in ((0x02, 1), (0x04, 1), (0x08, 0), (0x10, 0), (0x20, 2)):
        if flags & flag:
            used += {0x08: 5, 0x10: 2}.get(flag) or width + int.from_bytes(metadata[used : used + width])
    return used == len(metadata)
