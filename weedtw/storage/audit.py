"""Looking through a volume's files without changing anything: is every record as it was written, does the index fit?

What opening a volume mends by itself (`recovery`) is told here as well, since it is not mended yet.  Blocking; a
volume that is being written to meanwhile may show what is not so.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from weedtw.errors import Damaged, StorageError
from weedtw.formats.idx import ROW_SIZES, guess_offset_width, unpack_rows
from weedtw.formats.superblock import BASE_SIZE, SuperBlock
from weedtw.formats.vif import VolumeInfo
from weedtw.storage.fileops import DiskFile, FileOps
from weedtw.storage.names import VolumeFiles
from weedtw.storage.needlemap import NeedleMap
from weedtw.storage.scan import Found, Gap, Meaning, Scanner
from weedtw.storage.survey import Survey

MOST_TOLD: Final = 20  # findings of one kind in one volume; the others are counted
_MAX_SUPERBLOCK: Final = BASE_SIZE + 0xFFFF


@attrs.frozen
class Finding:
    """Something that is not as it should be; `offset` in bytes from the start of the file, None for all of it."""

    path: str
    offset: int | None
    what: str

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at {self.offset}"
        return f"{self.path}{where}: {self.what}"


@attrs.define
class Audited:
    """What was found in one volume.  Sizes in bytes."""

    files: VolumeFiles
    version: int = 0
    size: int = 0  # of the .dat
    records: int = 0
    live: int = 0  # files
    deleted: int = 0  # records that are no file any more, or never were one
    findings: list[Finding] = attrs.Factory(list)
    untold: int = 0  # findings that were only counted
    _counts: dict[str, int] = attrs.Factory(dict)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def find(self, path: str, offset: int | None, what: str, kind: str = "") -> None:
        """Note something; of each `kind` only so many are told."""
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if kind and count > MOST_TOLD:
            self.untold += 1
        else:
            self.findings.append(Finding(path, offset, what))


def open_to_read(path: str, ops: FileOps | None = None) -> DiskFile:
    """A file that is not to be changed; raises StorageError."""
    with reading(path):
        return DiskFile(ops or FileOps(), path, os.O_RDONLY)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """What the system refuses meanwhile, such as a sector that cannot be read, is raised as StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror or error}") from error


def read_superblock(dat: DiskFile) -> SuperBlock:
    """What a volume's data begins with; raises Damaged."""
    return SuperBlock.unpack(dat.read(_MAX_SUPERBLOCK, 0), path=dat.path)


def pieces(scanner: Scanner, start: int) -> Iterator[Found | Gap]:
    """Everything from `start` to the end of the file: whole records, and what lies between them."""
    offset, newest = start, 0
    while offset < scanner.size:
        for found in scanner.walk(offset):
            yield found
            offset, newest = found.end, max(newest, found.append_at_ns)
        if offset >= scanner.size:
            return
        following = scanner.next_whole(offset + 8, newest)
        end = scanner.size if following is None else following.offset
        yield Gap(offset, end)
        offset = end


def audit(
    files: VolumeFiles, *, now_ns: int, moved: Callable[[int], None] = lambda _: None, ops: FileOps | None = None
) -> Audited:
    """Read every record of a volume and compare its index; `moved` is told of the bytes that are behind us.

    What cannot be read is told with the rest.
    """
    found = Audited(files)
    try:
        with reading(files.dat):
            _look(found, open_to_read(files.dat, ops), now_ns, moved)
    except Damaged as error:
        found.find(files.dat, 0, error.reason)
    except StorageError as error:
        found.find(error.path, None, error.reason)
    return found


def _look(found: Audited, dat: DiskFile, now_ns: int, moved: Callable[[int], None]) -> None:
    found.size = dat.size()
    superblock = read_superblock(dat)
    found.version = superblock.version
    width = _look_at_info(found)
    scanner = Scanner(dat, found.size, superblock.version, now_ns=now_ns)
    _look_at_records(found, scanner, superblock.size, moved)
    _look_at_index(found, scanner, superblock.size, width)


def _look_at_records(found: Audited, scanner: Scanner, start: int, moved: Callable[[int], None]) -> None:
    path = found.files.dat
    for piece in pieces(scanner, start):
        if isinstance(piece, Gap):
            _tell_gap(found, scanner, piece)
            moved(piece.end - piece.start)
            continue
        found.records += 1
        if piece.meaning is Meaning.DATA and not scanner.is_right(piece.offset, piece.size):
            what = f"needle {piece.key:x} is not as it was written: its data has another checksum"
            found.find(path, piece.offset, what, "checksum")
        moved(piece.length)


def _tell_gap(found: Audited, scanner: Scanner, gap: Gap) -> None:
    path, length = found.files.dat, gap.end - gap.start
    if scanner.is_nought(gap.start, gap.end):
        what = f"{length} bytes are nought"
    elif gap.end == scanner.size and scanner.is_torn(gap.start):
        what = f"the last record is torn: {length} bytes are there of it"
    else:
        what = f"{length} bytes are no record"
    found.find(path, gap.start, what + (", to the end of the file" if gap.end == scanner.size else ""), "gap")


def _look_at_info(found: Audited) -> int | None:
    """The width of offsets that the .vif tells; None when it tells none."""
    try:
        return told_width(found.files)
    except StorageError as error:
        found.find(found.files.vif, None, error.reason)
        return None


def told_width(files: VolumeFiles) -> int | None:
    """The width of offsets that the .vif tells; None when it tells none or is not there.  Raises StorageError."""
    try:
        with open(files.vif, "rb") as file:
            return VolumeInfo.parse(file.read(1 << 20), path=files.vif).bytes_offset or None
    except FileNotFoundError:
        return None  # it is made when the volume is opened
    except OSError as error:
        raise StorageError(files.vif, f"cannot be read: {error.strerror or error}") from error


def _look_at_index(found: Audited, scanner: Scanner, start: int, width: int | None) -> None:
    path = found.files.idx
    expected = expected_map(scanner, start, width or 4)
    found.live = sum(1 for _ in expected.items())
    found.deleted = found.records - found.live
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        found.find(path, None, "there is no index")
        return
    except OSError as error:
        found.find(path, None, f"cannot be read: {error.strerror or error}")
        return
    width = width or guess_offset_width(data, scanner.size)
    odd = len(data) % ROW_SIZES[width]
    if odd:
        found.find(path, len(data) - odd, f"{odd} bytes are no whole row")
    index = NeedleMap.from_rows(unpack_rows(data[: len(data) - odd], width, path=path), width)
    ours, theirs = dict(expected.items()), dict(index.items())
    for key in sorted(theirs.keys() - ours.keys()):
        where = scanner.at(theirs[key].offset)
        what = "where there is no such record" if where is None or where.key != key else "which is deleted"
        found.find(path, None, f"has needle {key:x} at {theirs[key].offset}, {what}", "index-more")
    for key in sorted(ours.keys() - theirs.keys()):
        found.find(path, None, f"lacks needle {key:x}, which is at {ours[key].offset}", "index-less")
    for key in sorted(key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]):
        what = f"has needle {key:x} at {theirs[key].offset}, and its last record is at {ours[key].offset}"
        found.find(path, None, what, "index-other")


def expected_map(scanner: Scanner, start: int, width: int) -> NeedleMap:
    """What the records say that an index should hold."""
    needles = NeedleMap(width)
    Survey(scanner, needles, end=start, last_append_at_ns=0).run(suspect_last=False)
    return needles
