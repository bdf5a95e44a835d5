"""Work on volumes that no server has open: an index made anew, a vacuum, and what files are in them."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from weedtw.errors import BadRequest, Damaged, StorageError
from weedtw.formats.idx import ROW_SIZES, guess_offset_width, unpack_rows
from weedtw.formats.needle import Needle, record_length, unpack
from weedtw.formats.superblock import SuperBlock
from weedtw.storage.audit import expected_map, open_to_read, read_superblock, told_width
from weedtw.storage.fileops import DiskFile, FileOps
from weedtw.storage.mend import Mender
from weedtw.storage.names import VolumeFiles, volume_of
from weedtw.storage.needlemap import NeedleMap
from weedtw.storage.report import Repair
from weedtw.storage.scan import Scanner
from weedtw.storage.survey import Survey
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume


def volumes_in(folder: str, *, collection: str | None = None, volume_id: int | None = None) -> list[VolumeFiles]:
    """The volumes in a folder that have data, by number; raises StorageError, and BadRequest when one is missing."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise StorageError(folder, error.strerror or "cannot be read") from error
    parsed = (volume_of(name) for name in names if name.endswith(".dat"))
    found = [
        VolumeFiles(folder, folder, *named)
        for named in parsed
        if named is not None and collection in {None, named[0]} and volume_id in {None, named[1]}
    ]
    if not found and (collection is not None or volume_id is not None):
        which = f"volume {volume_id}" if volume_id is not None else "a volume"
        of = f" of collection {collection!r}" if collection is not None else ""
        raise BadRequest(f"{folder}: there is no {which}{of} here")
    return sorted(found, key=lambda files: (files.volume_id, files.collection))


@attrs.frozen
class Fixed:
    """What became of an index; `lost` are the keys that the old one had, and of which the data knows nothing."""

    rows: int
    files: int
    kept_as: str  # where the old index is now; "" when there was none
    lost: tuple[int, ...]
    doubt: str  # what in the data is no record; "" when all is


def fix(files: VolumeFiles, *, now_ns: int, offset_width: int | None = None) -> Fixed:
    """Make the index of a volume anew from its data; the old one is kept.

    `offset_width` where the old index and the .vif do not tell.  Raises StorageError, Damaged; then all is as before.
    """
    ops = FileOps()
    dat = open_to_read(files.dat, ops)
    superblock = read_superblock(dat)
    old, width = _old_index(files, dat.size(), offset_width)
    scanner = Scanner(dat, dat.size(), superblock.version, now_ns=now_ns)
    needles = NeedleMap(width)
    survey = Survey(scanner, needles, end=superblock.size, last_append_at_ns=0)
    survey.run(suspect_last=False)
    known = {key for key, _ in needles.items()}
    lost = tuple(key for key, _ in old.items() if key not in known and needles.find(key) is None)
    repairs: list[Repair] = []
    try:
        Mender(files, ops, repairs).replace_index(bytes(survey.rows), survey.count, "asked for")
    except OSError as error:
        raise StorageError(files.idx, f"cannot be written: {error.strerror or error}") from error
    doubt = survey.doubt
    if survey.tail is not None:
        doubt = (
            doubt or f"{survey.tail.end - survey.tail.start} bytes from {survey.tail.start} on are no whole record"
        )
    return Fixed(survey.count, len(known), repairs[-1].kept_as, lost, doubt)


def _old_index(files: VolumeFiles, dat_size: int, offset_width: int | None) -> tuple[NeedleMap, int]:
    """What the index says that is there, as far as it can be read, and the width of its offsets."""
    try:
        with open(files.idx, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise StorageError(files.idx, error.strerror or "cannot be read") from error
    try:
        told = told_width(files)
    except StorageError:
        told = None  # the index is what is wanted here
    width = offset_width or told or guess_offset_width(data, dat_size)
    whole = len(data) - len(data) % ROW_SIZES[width]
    return NeedleMap.from_rows(unpack_rows(data[:whole], width, path=files.idx), width), width


@attrs.frozen
class Compacted:
    """Sizes of a volume's data in bytes, before and after."""

    before: int
    after: int
    files: int
    repairs: tuple[Repair, ...] = ()  # what was set right first


def compact_volume(files: VolumeFiles, clock: Callable[[], float]) -> Compacted:
    """Vacuum a volume: what was deleted or overwritten is left out; raises StorageError, then all is as before."""
    volume = Volume.open(files, clock=clock)
    try:
        if volume.read_only_reason:
            raise StorageError(files.dat, f"cannot be compacted: {volume.read_only_reason}")
        before = volume.info().size
        compaction = compact(volume)
        try:
            compaction.commit()
        finally:
            compaction.cleanup()
        stat = volume.info()
        return Compacted(before, stat.size, stat.file_count - stat.delete_count, volume.repairs)
    finally:
        volume.close()


@attrs.define(eq=False)
class Contents:
    """The files of a volume, read without changing anything."""

    files: VolumeFiles
    dat: DiskFile
    superblock: SuperBlock
    needles: NeedleMap

    @classmethod
    def open(cls, files: VolumeFiles, *, now_ns: int) -> "Contents":
        """By the index, or where there is none by the data; raises StorageError, Damaged."""
        dat = open_to_read(files.dat)
        superblock = read_superblock(dat)
        if os.path.exists(files.idx):
            needles, _ = _old_index(files, dat.size(), None)
        else:
            scanner = Scanner(dat, dat.size(), superblock.version, now_ns=now_ns)
            needles = expected_map(scanner, superblock.size, 5)  # wide enough for any
        return cls(files, dat, superblock, needles)

    def __iter__(self) -> Iterator[tuple[int, Needle | Damaged]]:
        """(offset, the file there, or why it cannot be read), in the order of the data."""
        version = self.superblock.version
        for key, place in self.needles.items():
            record = self.dat.read(record_length(place.size, version), place.offset)
            try:
                needle: Any = unpack(memoryview(record), version, path=self.dat.path)
                if needle.key != key:
                    needle = Damaged(self.dat.path, f"needle {key:x} is not at {place.offset}")
            except Damaged as error:
                needle = error
            yield place.offset, needle
