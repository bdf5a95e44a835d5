"""Work on volumes that no server has open: an index made anew, and a vacuum."""

import os
from collections.abc import Callable, Sequence

import attrs

from weedtw.errors import BadRequest, Damaged, StorageError
from weedtw.formats.idx import ROW_SIZES, guess_offset_width, pack_row, unpack_rows
from weedtw.formats.vif import VolumeInfo
from weedtw.storage.audit import Audited, audit, open_to_read, pieces, read_superblock, reading, told_width
from weedtw.storage.fileops import FileOps, remove_quietly
from weedtw.storage.mend import Mender
from weedtw.storage.names import VolumeFiles, parse_base, volume_of
from weedtw.storage.needlemap import NeedleMap
from weedtw.storage.report import Repair
from weedtw.storage.scan import Gap, Scanner
from weedtw.storage.survey import Survey
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume


def volumes_in(folder: str, *, collection: str | None = None, volume_id: int | None = None) -> list[VolumeFiles]:
    """The volumes in a folder that have data, by number; raises StorageError, and BadRequest when one is missing."""
    names = _names_in(folder)
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


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError as error:
        raise StorageError(folder, "there is no such folder") from error
    except NotADirectoryError as error:
        raise StorageError(folder, "this is not a folder") from error
    except OSError as error:
        raise StorageError(folder, f"the folder cannot be read: {error.strerror or error}") from error


def without_data(folder: str) -> list[str]:
    """The indexes in a folder whose data is not there, and was not moved to a remote store; raises StorageError."""
    names = set(_names_in(folder))
    bases = sorted(name.removesuffix(".idx") for name in names if name.endswith(".idx"))
    alone = (os.path.join(folder, base) for base in bases if parse_base(base) and f"{base}.dat" not in names)
    return [f"{path}.idx" for path in alone if not _is_remote(f"{path}.vif")]


def _is_remote(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return bool(VolumeInfo.parse(file.read(1 << 20), path=path).others.get("files"))
    except (OSError, StorageError):
        return False


@attrs.frozen
class Fixed:
    """What became of an index; `lost` are the keys that the old one had, and of which the data knows nothing."""

    rows: int
    files: int
    kept_as: str  # where the old index is now; "" when there was none
    lost: tuple[int, ...]
    doubt: str  # what in the data is no record; "" when all is


def fix(
    files: VolumeFiles,
    *,
    now_ns: int,
    offset_width: int | None = None,
    deletions: bool = True,
    ops: FileOps | None = None,
) -> Fixed:
    """Make the index of a volume anew from its data; the old one is kept.

    `offset_width` where the old index and the .vif do not tell.  Without `deletions` it has a row for each file and
    no others.  Raises StorageError, Damaged; then all is as before.
    """
    ops = ops or FileOps()
    with reading(files.dat):
        dat = open_to_read(files.dat, ops)
        superblock = read_superblock(dat)
        old, width = read_index(files, dat.size(), offset_width)
        scanner = Scanner(dat, dat.size(), superblock.version, now_ns=now_ns)
        needles = NeedleMap(width)
        survey = Survey(scanner, needles, end=superblock.size, last_append_at_ns=0)
        survey.run(suspect_last=False)
    known = {key for key, _ in needles.items()}
    lost = tuple(key for key, _ in old.items() if key not in known and needles.find(key) is None)
    rows = bytes(survey.rows) if deletions else _rows_of_files(bytes(survey.rows), needles)
    count = len(rows) // ROW_SIZES[width]
    repairs: list[Repair] = []
    try:
        Mender(files, ops, repairs).replace_index(rows, count, "asked for")
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}; nothing was changed"
        raise StorageError(files.idx, reason) from error
    doubt = survey.doubt
    if survey.tail is not None:
        what = f"{survey.tail.end - survey.tail.start} bytes from {survey.tail.start} on are no whole record"
        doubt = doubt or f"{what}; a server that opens the volume cuts them off, and keeps them"
    return Fixed(count, len(known), repairs[-1].kept_as, lost, doubt)


def _rows_of_files(rows: bytes, needles: NeedleMap) -> bytes:
    """The rows of files that are there, and of the deletions behind the last of them.

    Whoever opens the volume would take up those again, from the data, and one more time at each start.
    """
    columns = unpack_rows(rows, needles.offset_width)
    last = max((place.offset for _, place in needles.items()), default=0)
    kept = bytearray()
    for key, offset, size in zip(
        columns.keys.tolist(), columns.offsets.tolist(), columns.sizes.tolist(), strict=True
    ):
        place = needles.get(key)
        if (place is not None and place.offset == offset) or (size < 0 and offset > last):
            kept += pack_row(key, offset, size, needles.offset_width)
    return bytes(kept)


def read_index(files: VolumeFiles, dat_size: int, offset_width: int | None) -> tuple[NeedleMap, int]:
    """What the index says that is there, as far as it can be read, and the width of its offsets."""
    try:
        with open(files.idx, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise StorageError(files.idx, f"cannot be read: {error.strerror or error}") from error
    try:
        told = told_width(files)
    except StorageError:
        told = None  # the index is what is wanted here
    width = offset_width or told or guess_offset_width(data, dat_size)
    whole = len(data) - len(data) % ROW_SIZES[width]
    return NeedleMap.from_rows(unpack_rows(data[:whole], width, path=files.idx), width), width


@attrs.frozen
class Kept:
    """A piece of the data that is no record; `path` is where a copy of it is, "" if it is nothing but zeros."""

    gap: Gap
    path: str

    def __str__(self) -> str:
        what = f"{self.gap.end - self.gap.start} bytes at {self.gap.start} of the old data are "
        return what + (f"no record; kept as {self.path}" if self.path else "nought, where records should be")


@attrs.frozen
class Compacted:
    """What a vacuum did; sizes of the volume's data in bytes, before and after."""

    before: int
    after: int
    files: int
    repairs: tuple[Repair, ...] = ()  # what was set right first
    gaps: tuple[Kept, ...] = ()  # what in the old data is no record
    damage: Audited | None = None  # what is wrong with the new files, with what was damaged before

    @property
    def is_sound(self) -> bool:
        """Whether there was no damage, in what was copied or in what was not."""
        return not self.gaps and (self.damage is None or self.damage.is_sound)


def compact_volume(files: VolumeFiles, clock: Callable[[], float], ops: FileOps | None = None) -> Compacted:
    """Vacuum a volume: what was deleted or overwritten is left out, and nothing else.

    A damaged file is copied as it is.  What is no record, and may have been one, is kept beside the data.  Raises
    StorageError, and then all is as before; Damaged when it is damage that is in the way.
    """
    ops = ops or FileOps()
    volume = Volume.open(files, clock=clock, ops=ops)
    try:
        if volume.read_only_reason:
            kind = Damaged if "damage" in volume.causes.reasons else StorageError
            raise kind(files.dat, f"cannot be compacted: {volume.read_only_reason}")
        before, old = volume.info().size, volume.generation
        with reading(files.dat):
            gaps = _keep_gaps(volume, ops, int(clock() * 1e9))
        try:
            compact(volume).commit()
        except (Exception, KeyboardInterrupt):
            if volume.generation is old and not os.path.exists(files.compaction_marker):
                _forget(gaps, ops)  # the old data holds, to the end, and they are in it
            raise
        stat = volume.info()
        live = stat.file_count - stat.delete_count
    finally:
        volume.close()
    damage = audit(files, now_ns=int(clock() * 1e9))
    return Compacted(before, stat.size, live, volume.repairs, gaps, damage)


def _keep_gaps(volume: Volume, ops: FileOps, now_ns: int) -> tuple[Kept, ...]:
    """Copy what is no record to files beside the data; raises StorageError, and keeps nothing then."""
    generation = volume.generation
    scanner = Scanner(generation.dat, generation.dat_size, generation.version, now_ns=now_ns)
    mender = Mender(volume.files, ops)
    kept: list[Kept] = []
    gaps = [piece for piece in pieces(scanner, generation.superblock.size) if isinstance(piece, Gap)]
    try:
        for gap in gaps:
            is_nought = scanner.is_nought(gap.start, gap.end)
            kept.append(Kept(gap, "" if is_nought else mender.keep(generation.dat, gap.start, gap.end)))
    except (OSError, KeyboardInterrupt) as error:
        _forget(kept, ops)
        if not isinstance(error, OSError):
            raise
        what = f"what is no record (at {gap.start}) cannot be kept beside the data: {error.strerror or error}"
        raise StorageError(volume.files.dat, f"{what}; nothing was changed") from error
    return tuple(kept)


def _forget(kept: Sequence[Kept], ops: FileOps) -> None:
    for one in kept:
        if one.path:
            remove_quietly(ops, one.path)
