"""Opening a volume's files: what a crash left is mended, what cannot be told is left alone.

    1  finish or discard a vacuum that was interrupted (`swap`)
    2  read super block and .vif
    3  find the index rows that hold (`index_check`); an index of other data counts as none
    4  walk the records behind the last one that they describe, up to the end of the file (`survey`)
    5  change the files accordingly (`mend`)

When something is found that no crash explains, the volume is *distrusted*: its files stay as they are, what can be
read is served, and it takes no writes.
"""

import errno
import os
from typing import Final

import attrs

from weedtw.config.model import IndexKind
from weedtw.errors import Damaged, StorageError
from weedtw.formats.idx import ROW_SIZES, unpack_rows
from weedtw.formats.numeric import np
from weedtw.formats.superblock import BASE_SIZE, SuperBlock
from weedtw.formats.vif import VolumeInfo
from weedtw.storage.fileops import DiskFile, FileOps, remove_if_there, write_whole
from weedtw.storage.generation import Generation
from weedtw.storage.index_check import CheckedIndex, check_index, last_append_at_ns
from weedtw.storage.mapped import open_mapped
from weedtw.storage.maps import load_map, remove_maps
from weedtw.storage.mend import Mender
from weedtw.storage.names import VolumeFiles, free_cut_name
from weedtw.storage.needlemap import NeedleMap
from weedtw.storage.report import Repair
from weedtw.storage.scan import Scanner
from weedtw.storage.survey import Survey
from weedtw.storage.swap import finish_swap

_MAX_SUPERBLOCK: Final = BASE_SIZE + 0xFFFF
_MOSTLY: Final = 0.5  # share of the rows looked at that must be right for an index to be believed
_LOCKED_ERRORS: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


@attrs.define
class OpenedVolume:
    """The files of a volume, opened and mended."""

    files: VolumeFiles
    info: VolumeInfo
    generation: Generation
    repairs: list[Repair]
    distrust: str  # why the volume takes no writes; "" when it does


def open_files(
    files: VolumeFiles, ops: FileOps, *, offset_width: int, now_ns: int, index: IndexKind = "memory"
) -> OpenedVolume:
    """Open, check and mend a volume's files.

    `offset_width` counts where nothing else tells, `index` is where the map is kept.  Raises StorageError when there
    is no volume, Damaged when its super block cannot be read; any lesser damage is told in `distrust`.
    """
    try:
        return _Recovery(files, ops, offset_width, now_ns, index).run()
    except OSError as error:
        raise StorageError(
            str(error.filename or files.dat), f"cannot be opened: {error.strerror or error}"
        ) from error


def open_made(
    files: VolumeFiles, ops: FileOps, info: VolumeInfo, superblock: SuperBlock, index: IndexKind
) -> OpenedVolume:
    """Open the files of a volume that has just been made, and so holds nothing; raises OSError and StorageError."""
    dat, idx = DiskFile(ops, files.dat), DiskFile(ops, files.idx)
    generation = Generation(dat, idx, NeedleMap(info.bytes_offset), superblock, dat.size(), 0, 0)
    remove_maps(files, superblock.compaction_revision, keep=False)
    if index != "memory":
        generation.needles = load_map(index, files, idx, generation.mark())
    return OpenedVolume(files, info, generation, [], "")


@attrs.define
class _Reading:
    """What the files say, before anything is changed."""

    dat: DiskFile
    superblock: SuperBlock
    checked: CheckedIndex
    survey: Survey
    idx_size: int  # bytes of the index rows that hold
    rebuild: str = ""  # why the index is made anew
    distrust: str = ""


@attrs.define
class _Recovery:
    files: VolumeFiles
    ops: FileOps
    offset_width: int
    now_ns: int
    index: IndexKind
    repairs: list[Repair] = attrs.Factory(list)
    locked: str = ""  # why the files cannot be changed

    def run(self) -> OpenedVolume:
        self.repairs += finish_swap(self.files, self.ops)
        dat = self._open(self.files.dat)
        if dat is None:
            raise StorageError(self.files.dat, "the volume has no .dat file")
        info = self._read_info()
        if info is not None and info.others.get("files"):
            raise StorageError(self.files.vif, "the volume's data was moved to a remote store")
        reading = self._read(dat, info)
        distrust = reading.distrust or self.locked
        idx = None
        if not distrust:
            try:
                idx = self._mend(reading)
            except OSError as error:
                distrust = f"damage could not be mended: {error.strerror or error}"
        width = reading.checked.offset_width
        if info is None or (info.bytes_offset not in {0, width} and not distrust):
            info = self._make_info(reading, info, distrust)
        generation = Generation(
            dat=dat,
            idx=idx,
            needles=reading.survey.needles,
            superblock=reading.superblock,
            dat_size=dat.size(),
            idx_size=idx.size() if idx else 0,
            last_append_at_ns=reading.survey.last_append_at_ns,
        )
        self._choose_map(generation)
        return OpenedVolume(self.files, info, generation, self.repairs, distrust)

    def _choose_map(self, generation: Generation) -> None:
        """Have the map where it is wanted, unless the volume is only read; remove what is not used."""
        revision = generation.superblock.compaction_revision
        is_elsewhere = isinstance(generation.needles, NeedleMap)
        remove_maps(self.files, revision, keep=not is_elsewhere)
        if self.index != "memory" and is_elsewhere and generation.idx is not None:
            generation.needles = load_map(self.index, self.files, generation.idx, generation.mark())

    # -------------------------------------------------------------- reading

    def _open(self, path: str) -> DiskFile | None:
        """Open for writing, or for reading alone if it must be; None when it is not there."""
        try:
            return DiskFile(self.ops, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _LOCKED_ERRORS:
                raise
            self.locked = f"{path} may not be written: {error.strerror}"
            return DiskFile(self.ops, path, os.O_RDONLY)

    def _read_info(self) -> VolumeInfo | None:
        """The .vif; None when there is none that can be read."""
        try:
            with open(self.files.vif, "rb") as file:
                return VolumeInfo.parse(file.read(), path=self.files.vif)
        except (FileNotFoundError, Damaged):
            return None

    def _read(self, dat: DiskFile, info: VolumeInfo | None) -> _Reading:
        superblock = SuperBlock.unpack(dat.read(_MAX_SUPERBLOCK, 0), path=dat.path)
        scanner = Scanner(dat, dat.size(), superblock.version, now_ns=self.now_ns)
        width = (info.bytes_offset or None) if info else None
        if self.index != "memory" and width is not None and not self.locked:
            mapped = self._read_mapped(dat, superblock, scanner, width)
            if mapped is not None:
                return mapped
        data = self._read_index(self.files.idx)
        checked = self._check(data or b"", scanner, superblock.size, width)
        if checked.foreign and self._adopt_compacted_index(scanner, superblock.size, width):
            data = self._read_index(self.files.idx)
            checked = self._check(data or b"", scanner, superblock.size, width)
        if not checked.foreign:
            reading = _Reading(dat, superblock, checked, _survey(scanner, checked), checked.size)
            reading.survey.run(suspect_last=data is not None)
            if data is None:
                reading.rebuild = "there was none"
            reading.distrust = reading.survey.doubt
            return reading
        return self._read_without_index(dat, superblock, scanner, checked)

    def _read_mapped(self, dat: DiskFile, superblock: SuperBlock, scanner: Scanner, width: int) -> _Reading | None:
        """The same through the map on disk; None when anything is not as it should be."""
        idx = self._open(self.files.idx)
        if idx is None or self.locked:
            return None
        folder = self.files.map_folder(superblock.compaction_revision)
        mapped = open_mapped(folder, idx, scanner, superblock, width)
        if mapped is None:
            return None
        survey = Survey(scanner, mapped.needles, mapped.end, mapped.last_append_at_ns)
        survey.run(suspect_last=True)
        checked = attrs.evolve(self._check(b"", scanner, superblock.size, width), end=mapped.end)
        return None if survey.doubt else _Reading(dat, superblock, checked, survey, mapped.idx_size)

    def _read_without_index(
        self, dat: DiskFile, superblock: SuperBlock, scanner: Scanner, checked: CheckedIndex
    ) -> _Reading:
        """The index contradicts the data: believe the data if it is whole, else what more speaks for."""
        nothing = self._check(b"", scanner, superblock.size, checked.offset_width)
        reading = _Reading(dat, superblock, nothing, _survey(scanner, nothing), 0, rebuild=checked.foreign)
        reading.survey.run(suspect_last=False)
        is_believed = checked.share_right >= _MOSTLY
        if not reading.survey.doubt and not (is_believed and _differs_in_keys_alone(checked, reading.survey)):
            return reading
        reading.distrust = "; ".join(filter(None, (checked.foreign, reading.survey.doubt)))
        if is_believed:
            reading.survey = _survey(scanner, checked)
            reading.survey.run(suspect_last=False)
        return reading

    def _read_index(self, path: str) -> bytes | None:
        file = self._open(path)
        return None if file is None else file.read(file.size(), 0)

    def _check(self, data: bytes, scanner: Scanner, first_record: int, width: int | None) -> CheckedIndex:
        return check_index(data, scanner, first_record, width=width, default=self.offset_width)

    def _adopt_compacted_index(self, scanner: Scanner, first_record: int, width: int | None) -> bool:
        """Finish a swap of an older SeaweedFS that ended between its two renames: .dat is new, .idx is old."""
        data = self._read_index(self.files.compacted_idx)
        if data is None or self.locked:
            return False
        checked = self._check(data, scanner, first_record, width)
        if checked.foreign or checked.dropped or checked.torn or checked.end != scanner.size:
            return False
        self.ops.rename(self.files.compacted_idx, self.files.idx)
        self.ops.sync_folder(self.files.idx_folder)
        text = "put the index of an interrupted vacuum in place, the data was there already"
        self.repairs.append(Repair("swap-finished", self.files.idx, text, len(data), len(checked.rows.keys)))
        return True

    # -------------------------------------------------------------- changing

    def _mend(self, reading: _Reading) -> DiskFile:
        """Change the files so that they say what was read; return the index, opened."""
        mender = Mender(self.files, self.ops, self.repairs)
        survey = reading.survey
        if survey.padding_to:
            mender.add_padding(reading.dat, survey.scanner.size, survey.padding_to)
        if survey.tail is not None:
            mender.cut_tail(reading.dat, *survey.tail, is_nought=survey.tail_is_nought)
        if reading.rebuild:
            idx = mender.replace_index(bytes(survey.rows), survey.count, reading.rebuild)
        else:
            idx = self._mend_index(mender, reading)
        if remove_if_there(self.ops, self.files.compacted_idx):
            text = "removed the index of an unfinished vacuum"
            self.repairs.append(Repair("swap-discarded", self.files.compacted_idx, text))
        return idx

    def _mend_index(self, mender: Mender, reading: _Reading) -> DiskFile:
        idx = DiskFile(self.ops, self.files.idx)
        checked, survey, size = reading.checked, reading.survey, reading.idx_size
        if checked.dropped or checked.torn:
            whole = size + checked.dropped * ROW_SIZES[checked.offset_width]
            mender.cut_index(idx, size, whole, checked.dropped)
        if survey.rows:
            mender.add_rows(idx, size, bytes(survey.rows), survey.count)
        return idx

    def _make_info(self, reading: _Reading, old: VolumeInfo | None, distrust: str) -> VolumeInfo:
        """Make the .vif that is missing, unreadable, or wrong in the width of the offsets."""
        width = reading.checked.offset_width
        made = attrs.evolve(old or VolumeInfo(), version=reading.superblock.version, bytes_offset=width)
        if distrust:
            return made
        kept = ""
        if os.path.exists(self.files.vif):
            kept = free_cut_name(self.files.vif)
            self.ops.rename(self.files.vif, kept)
        content = made.render().encode()
        write_whole(self.ops, self.files.vif, content)
        text = f"made a volume information file for offsets of {width} bytes"
        self.repairs.append(Repair("info-made", self.files.vif, text, len(content), kept_as=kept))
        return made


def _survey(scanner: Scanner, checked: CheckedIndex) -> Survey:
    needles = NeedleMap.from_rows(checked.rows, checked.offset_width)
    return Survey(scanner, needles, checked.end, last_append_at_ns(scanner, checked))


def _differs_in_keys_alone(checked: CheckedIndex, survey: Survey) -> bool:
    """Whether index and data agree on all records but not on whose they are: one was damaged, who knows which."""
    if checked.share_right == 1.0:
        return False
    found = unpack_rows(bytes(survey.rows), checked.offset_width)
    placed = checked.rows.offsets > 0
    offsets, sizes = checked.rows.offsets[placed], checked.rows.sizes[placed]
    at = np.minimum(found.offsets.searchsorted(offsets), max(0, len(found.offsets) - 1))
    if not len(found.offsets) or not len(offsets):
        return False
    same = (found.offsets[at] == offsets) & (np.maximum(found.sizes[at], 0) == np.maximum(sizes, 0))
    return bool(same.all())
