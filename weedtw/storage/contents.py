"""What files are in a volume, and which were: read from its data without changing anything."""

import os
from collections.abc import Iterator
from typing import Literal

import attrs

from weedtw.errors import Damaged
from weedtw.formats.needle import HEADER_SIZE, Needle, record_length, unpack
from weedtw.formats.superblock import SuperBlock
from weedtw.storage.audit import expected_map, open_to_read, pieces, read_superblock, reading
from weedtw.storage.fileops import DiskFile, FileOps
from weedtw.storage.names import VolumeFiles
from weedtw.storage.needlemap import NeedleMap
from weedtw.storage.offline import read_index
from weedtw.storage.scan import Found, Meaning, Scanner

Fate = Literal["", "deleted", "overwritten"]


@attrs.frozen
class Entry:
    """A record with a file: what it holds, or why it cannot be read; `fate` says what became of the file since."""

    offset: int  # in the data, in bytes
    needle: Needle | Damaged
    fate: Fate = ""


@attrs.define(eq=False)
class Contents:
    """The files of a volume."""

    files: VolumeFiles
    dat: DiskFile
    superblock: SuperBlock
    needles: NeedleMap
    now_ns: int

    @classmethod
    def open(cls, files: VolumeFiles, *, now_ns: int, ops: FileOps | None = None) -> "Contents":
        """By the index, or where there is none by the data; raises StorageError, Damaged."""
        with reading(files.dat):
            dat = open_to_read(files.dat, ops)
            superblock = read_superblock(dat)
            if os.path.exists(files.idx):
                needles, _ = read_index(files, dat.size(), None)
            else:
                scanner = Scanner(dat, dat.size(), superblock.version, now_ns=now_ns)
                needles = expected_map(scanner, superblock.size, 5)  # wide enough for any
        return cls(files, dat, superblock, needles, now_ns)

    def __iter__(self) -> Iterator[Entry]:
        """The files that are there, in the order of the data."""
        for key, place in self.needles.items():
            yield Entry(place.offset, self._read(key, place.offset, place.size))

    def with_deleted(self) -> Iterator[Entry]:
        """Those and the ones that were deleted or overwritten and are in the data still, in the order of the data.

        A file that the index knows where there is no record is told of at the end.
        """
        scanner = Scanner(self.dat, self.dat.size(), self.superblock.version, now_ns=self.now_ns)
        unseen = {place.offset: (key, place.size) for key, place in self.needles.items()}
        for piece in self._pieces(scanner):
            is_there = unseen.pop(piece.offset, None) == (piece.key, piece.size)
            if is_there or piece.meaning is Meaning.DATA:
                needle = self._read(piece.key, piece.offset, piece.size)
                yield Entry(piece.offset, needle, "" if is_there else self._fate(piece))
        for offset, (key, size) in sorted(unseen.items()):
            yield Entry(offset, self._read(key, offset, size))

    def _pieces(self, scanner: Scanner) -> Iterator[Found]:
        with reading(self.dat.path):
            yield from (piece for piece in pieces(scanner, self.superblock.size) if isinstance(piece, Found))

    def _fate(self, found: Found) -> Fate:
        return "deleted" if self.needles.get(found.key) is None else "overwritten"

    def _read(self, key: int, offset: int, size: int) -> Needle | Damaged:
        version, path = self.superblock.version, self.dat.path
        try:
            record = self.dat.read(record_length(size, version), offset)
            if len(record) < HEADER_SIZE:
                return Damaged(path, f"needle {key:x} is not there, the data ends before")
            needle = unpack(memoryview(record), version, path=path)
        except Damaged as error:
            return error
        except OSError as error:  # a sector that cannot be read; the next may
            return Damaged(path, f"needle {key:x} cannot be read: {error.strerror or error}")
        return needle if needle.key == key else Damaged(path, f"needle {key:x} is not at {offset}")
