"""Vacuum: write what is live into new files while the volume is in use, catch up, and swap.

    compact   takes note of where the index ends and of what is live; copies those records, in the order in which they
              lie, to .cpd, and their rows to .cpx; then copies what was appended meanwhile, until little is left
    commit    holds the volume's lock, copies the little rest, puts everything on the disk, and swaps (`swap`)
    cleanup   throws away what `compact` made

Records are copied byte for byte, with their time of append, so files without data and needles with a time to live of
their own come along.  Only what is deleted, overwritten, or really expired stays behind.  What is appended meanwhile
is copied in full and in order, deletions too: from there on the new files tell the same story as the old.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final

import attrs

from weedtw.errors import Damaged, ReadOnlyVolume, StorageError, WriteFailed
from weedtw.formats.idx import ROW_SIZES, pack_row, unpack_rows
from weedtw.formats.needle import HEADER_SIZE, record_length, unpack, unpack_header
from weedtw.storage.fileops import DiskFile, remove_quietly
from weedtw.storage.generation import AppendFailed, Generation
from weedtw.storage.maps import MapSnapshot, load_map, remove_maps
from weedtw.storage.needlemap import Live, NeedleMap
from weedtw.storage.scan import record_lengths
from weedtw.storage.swap import decide, discard, put_in_place, withdraw
from weedtw.storage.volume import Volume

_ROWS: Final = 1 << 20  # bytes of index rows that are gathered before they are written
_RUN: Final = 1 << 22  # bytes copied at a time, unless one record is longer
_MAX_REVISION: Final = 0xFFFF
_ROUNDS: Final = 16  # of catching up before the volume is held up for the rest
_LITTLE: Final = 64  # rows that may be left for `commit`
_SPARE_ROOM: Final = 1 << 20  # bytes of disk to leave for the writes meanwhile
_TTL_FLAG: Final = 0x10


@attrs.frozen
class _Run:
    """Live needles that lie one behind the other: rows `first` to `last` (exclusive) of the live ones."""

    first: int
    last: int
    start: int  # bytes in the old .dat
    end: int


def compact(volume: Volume) -> "Compaction":
    """Copy what is live in `volume` to new files beside it; the volume stays in use.

    Raises ReadOnlyVolume when it is not in a state to be rewritten, Damaged when a record is not what the index
    says, StorageError when there is not enough room, another vacuum is under way, or the volume is closed meanwhile.
    """
    with volume.lock:
        source = volume.generation
        reason = volume.causes.against(deleting=True)
        if reason:
            raise ReadOnlyVolume(volume.files.dat, reason)
        caught_up = source.idx_size
        snapshot = source.needles.snapshot()
    with closing(snapshot):
        return _compacted(volume, source, snapshot, caught_up)


def _compacted(volume: Volume, source: Generation, snapshot: MapSnapshot, caught_up: int) -> "Compaction":
    _require_room(volume, source, snapshot)
    remove_maps(volume.files, source.superblock.compaction_revision, keep=True)
    try:
        compaction = Compaction(volume, source, _new_generation(volume, source), caught_up)
    except FileExistsError as error:
        raise StorageError(volume.files.compacted_dat, "a vacuum of this volume is under way") from error
    except OSError as error:
        raise StorageError(volume.files.compacted_dat, f"cannot be made: {error.strerror or error}") from error
    try:
        compaction.copy(snapshot.pieces(source.index_rows, caught_up))
    except (OSError, AppendFailed) as error:
        compaction.cleanup()
        cause = error.cause if isinstance(error, AppendFailed) else error
        raise WriteFailed(volume.files.compacted_dat, f"the vacuum failed: {cause.strerror or cause}") from error
    except (Exception, KeyboardInterrupt):  # Ctrl-C ends weedtw compact
        compaction.cleanup()
        raise
    return compaction


@attrs.define(eq=False)
class Compaction:
    """New files for a volume, up to date but for what was appended in the last moment."""

    volume: Volume
    source: Generation
    target: Generation
    caught_up: int  # bytes of the old index whose rows are in the new files
    is_over: bool = False  # put in place, or thrown away

    def copy(self, pieces: Iterable[Live]) -> None:
        """Fill the new files."""
        target = self.target
        rows = bytearray()
        for live in pieces:
            for run in _runs(live, self.source.version):
                self._require_open()
                rows += self._copy_run(live, run)
                if len(rows) >= _ROWS:
                    self._write_rows(rows)
        self._write_rows(rows)
        assert target.idx is not None, "new files can be written"
        target.needles = load_map(self.volume.index, self.volume.files, target.idx, target.mark())
        width = target.needles.offset_width
        for _ in range(_ROUNDS):
            if self.source.idx_size - self.caught_up <= _LITTLE * ROW_SIZES[width]:
                break
            self._catch_up()
        self._sync()

    def commit(self) -> None:
        """Let the volume go on with the new files.

        Raises StorageError when the volume was closed or changed by another vacuum meanwhile, and WriteFailed; the
        volume then goes on with the old files, unless the error says that it goes on with the new.
        """
        volume = self.volume
        try:
            with volume.lock:
                self._require_open()
                self._catch_up()
                self._sync()
                decide(volume.files, volume.ops)
                # From here on the new files hold, whether or not they get their names now.
                unfinished = self._put_in_place()
        except (OSError, AppendFailed) as error:
            self._withdraw()
            cause = error.cause if isinstance(error, AppendFailed) else error
            raise WriteFailed(volume.files.dat, f"the vacuum failed: {cause.strerror or cause}") from error
        except StorageError:
            self.cleanup()
            raise
        if unfinished is not None:
            reason = f"the new files are in use, but not all have their names: {unfinished.strerror or unfinished}"
            raise WriteFailed(volume.files.dat, f"{reason}; the next start completes that")

    def _put_in_place(self) -> OSError | None:
        volume, target = self.volume, self.target
        failure = None
        try:
            put_in_place(volume.files, volume.ops)
        except OSError as error:
            failure = error
        target.dat.path = volume.files.dat
        if target.idx is not None:
            target.idx.path = volume.files.idx
        target.last_append_at_ns = self.source.last_append_at_ns
        volume.replace_generation(target)
        self.is_over = True
        remove_maps(volume.files, target.superblock.compaction_revision, keep=True)
        return failure

    def _withdraw(self) -> None:
        """Go on with the old files; if it cannot be ruled out that the next start finds the new ones, read-only."""
        self.is_over = True
        self._remove_new_map()
        try:
            withdraw(self.volume.files, self.volume.ops)
        except OSError as error:
            reason = f"a failed vacuum could not be taken back: {error.strerror or error}; a restart finishes it"
            self.volume.set_read_only(reason, cause="damage")

    def cleanup(self) -> None:
        """Throw the new files away, if they were not put in place; raises WriteFailed when that cannot be done."""
        if self.is_over:
            return
        self.is_over = True
        self._remove_new_map()
        try:
            discard(self.volume.files, self.volume.ops)
        except OSError as error:
            reason = f"cannot be removed: {error.strerror or error}"
            raise WriteFailed(self.volume.files.compacted_dat, reason) from error

    def _remove_new_map(self) -> None:
        self.target.needles = NeedleMap(self.target.needles.offset_width)  # or it counts as open still
        remove_maps(self.volume.files, self.source.superblock.compaction_revision, keep=True)

    # -------------------------------------------------------------- copying

    def _write_rows(self, rows: bytearray) -> None:
        """Append rows to the new index, and empty them."""
        assert self.target.idx is not None, "new files can be written"
        self.target.idx.write([bytes(rows)], self.target.idx_size)
        self.target.idx_size += len(rows)
        rows.clear()

    def _require_open(self) -> None:
        if self.volume.generation is not self.source:
            raise StorageError(self.volume.files.dat, "another vacuum replaced the files meanwhile")

    def _copy_run(self, live: Live, run: _Run) -> bytearray:
        """Copy the records of a run that are not expired; return their index rows."""
        version, width = self.source.version, self.target.needles.offset_width
        data = memoryview(self.source.dat.read(run.end - run.start, run.start))
        rows = bytearray()
        pieces: list[memoryview] = []
        keep_from = at = 0
        new_offset = self.target.dat_size
        needles = slice(run.first, run.last)
        for key, size in zip(live.keys[needles].tolist(), live.sizes[needles].tolist(), strict=True):
            length = record_length(size, version)
            record = data[at : at + length]
            self._require_needle(record, key, size, run.start + at)
            if self._is_expired(record, size):
                pieces.append(data[keep_from:at])
                keep_from = at + length
            else:
                rows += pack_row(key, new_offset, size, width)
                new_offset += length
            at += length
        pieces.append(data[keep_from:])
        self.target.dat.write([b"".join(pieces) if len(pieces) > 1 else data], self.target.dat_size)
        self.target.dat_size = new_offset
        return rows

    def _require_needle(self, record: memoryview, key: int, size: int, offset: int) -> None:
        if len(record) < HEADER_SIZE or unpack_header(record)[1:] != (key, size):
            reason = f"at {offset} is not the needle {key:x} of size {size} that the index says is there"
            raise Damaged(self.source.dat.path, reason)

    def _is_expired(self, record: memoryview, size: int) -> bool:
        if size and not self.volume.ttl and not _has_ttl(record, self.source.version):
            return False
        try:
            needle = unpack(record, self.source.version, path=self.source.dat.path, verify=False)
        except Damaged:
            return False  # copied as it is: whoever reads it is told
        return self.volume.has_expired(needle)

    def _catch_up(self) -> None:
        """Copy what was appended to the old files since the last time."""
        end = self.source.idx_size
        rows = unpack_rows(self.source.index_rows(self.caught_up, end), self.target.needles.offset_width)
        for key, offset, size in zip(rows.keys.tolist(), rows.offsets.tolist(), rows.sizes.tolist(), strict=True):
            record = self.source.dat.read(record_length(max(size, 0), self.source.version), offset)
            self._require_needle(memoryview(record), key, max(size, 0), offset)
            self.target.copy_record(record, key, size)
        self.caught_up = end

    def _sync(self) -> None:
        self.target.dat.sync()
        if self.target.idx is not None:
            self.target.idx.sync()


def _require_room(volume: Volume, source: Generation, snapshot: MapSnapshot) -> None:
    live_bytes, count = snapshot.room(source.version)
    wanted = live_bytes + count * ROW_SIZES[source.needles.offset_width] + _SPARE_ROOM
    free = volume.ops.disk_space(volume.files.folder).free
    if free < wanted:
        raise StorageError(volume.files.dat, f"a vacuum needs {wanted} bytes of disk, {free} are free")


def _new_generation(volume: Volume, source: Generation) -> Generation:
    """Files with nothing in them but the super block; they must not be there yet."""
    revision = (source.superblock.compaction_revision + 1) & _MAX_REVISION
    superblock = attrs.evolve(source.superblock, compaction_revision=revision)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    dat = DiskFile(volume.ops, volume.files.compacted_dat, flags)
    try:
        idx = DiskFile(volume.ops, volume.files.compacted_idx, flags & ~os.O_EXCL | os.O_TRUNC)
        dat.write([superblock.pack()], 0)
    except (OSError, KeyboardInterrupt):
        for path in (volume.files.compacted_idx, volume.files.compacted_dat):  # or it would seem under way for ever
            remove_quietly(volume.ops, path)
        raise
    needles = NeedleMap(source.needles.offset_width)
    return Generation(dat, idx, needles, superblock, superblock.size, 0, source.last_append_at_ns)


def _runs(live: Live, version: int) -> Iterator[_Run]:
    """Cut the live needles into runs of at most `_RUN` bytes."""
    if not len(live.keys):
        return
    ends = live.offsets + record_lengths(live.sizes, version)
    first, start = 0, int(live.offsets[0])
    offsets = live.offsets.tolist()
    for index, end in enumerate(ends.tolist()):
        following = offsets[index + 1] if index + 1 < len(offsets) else -1
        if following != end or end - start >= _RUN:
            yield _Run(first, index + 1, start, end)
            first, start = index + 1, following


def _has_ttl(record: memoryview, version: int) -> bool:
    """Whether the body's flags say that there is a time to live."""
    if version == 1:
        return False
    at = HEADER_SIZE + 4 + int.from_bytes(record[HEADER_SIZE : HEADER_SIZE + 4])
    return at < len(record) and bool(record[at] & _TTL_FLAG)
