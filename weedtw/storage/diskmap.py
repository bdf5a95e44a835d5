"""The needle map on disk, for volumes whose map must not live in memory (`--index lmdb`).

BASE.lmdb-REVISION/ beside the .idx is an LMDB environment.  Everything in it is derived from the .idx and may be
deleted while the volume is closed; the next open makes it anew.

    key      8 bytes, big-endian: the needle's     value  offset / 8: low 32 bits u32, high 8 bits u8, size i32;
    key      7 zero bytes, before all others       value  the mark, JSON: what of the .idx is in here, see `Mark`

As in memory, what was written lately is in a dict over it, which is merged in the background: one transaction takes
the needles and the mark, so that after a crash the mark tells which rows of the .idx are yet to be entered.  An
environment whose mark does not fit the .idx (it is shorter, or another) is thrown away.  A deleted needle keeps its
place, with its size inverted.

When the disk takes no more, what was to be merged stays in memory until it does.
"""

import contextlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import lmdb

from weedtw.errors import StorageError
from weedtw.formats.idx import ROW_SIZES, TOMBSTONE, Rows, unpack_rows
from weedtw.formats.needle import record_length
from weedtw.formats.numeric import np
from weedtw.storage.fileops import DiskFile
from weedtw.storage.mark import Mark
from weedtw.storage.needlemap import Counters, Live, NeedleMap, Place, Recent, packed_place, unpacked_place

_MARK: Final = bytes(7)
_FORMAT: Final = 1  # of what is in the environment
_MAP_SIZE: Final = 1 << 36  # bytes of address space, not of disk or memory
_MOST_READERS: Final = 512  # threads that look up at the same time
_LARGEST_ENTRY: Final = 64  # bytes that a needle takes in an environment, the room between them counted in
_MERGE_AT: Final = 65536  # needles in the dict
_SYNC: Final = True  # or a power cut may break the environment; for tests to turn off
PIECE: Final = 1 << 20  # rows that are in memory at a time

_KEY: Final = struct.Struct(">Q")
_PLACE: Final = struct.Struct(">IBi")
_VALUES: Final = np.dtype([("low", ">u4"), ("high", "u1"), ("size", ">i4")])  # the same


class DiskMap:
    """As `NeedleMap`, with the base in an environment; raises StorageError where that cannot be read."""

    __slots__ = ("_base", "_grace", "_layers", "_path", "_pending", "changes", "counters", "mark", "offset_width")

    def __init__(self, path: str, offset_width: int) -> None:
        """Open the environment at `path`, or make it; `mark` tells what is in it.

        Raises lmdb.Error, and StorageError when there can be no folder.
        """
        self.offset_width = offset_width
        self._path = path
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise StorageError(path, f"cannot be made: {error.strerror or error}") from error
        self._base = lmdb.open(
            path,
            map_size=_MAP_SIZE,
            max_readers=_MOST_READERS,
            max_spare_txns=32,
            sync=_SYNC,
            metasync=False,  # a mark that is one merge behind is as good
            readahead=False,
        )
        self._layers: tuple[Recent, Recent] = {}, {}
        self._pending: Mark | None = None  # of the merge that is under way
        self._grace = 0  # needles to wait for after a merge that the disk refused
        with self._base.begin() as look:
            self.mark = _parsed(look.get(_MARK))
        self.changes = 0
        self.counters = Counters(*self.mark.counters) if self.mark is not None else Counters()

    # -------------------------------------------------------------- looking up

    def get(self, key: int) -> Place | None:
        """Where the needle is; None when it never was or was deleted."""
        place = self.find(key)
        return None if place is None or place.deleted else place

    def find(self, key: int) -> Place | None:
        """Where the needle is or, when it was deleted, was; None when it is not known at all."""
        if key > self.counters.max_key:
            return None
        recent, merging = self._layers
        packed = recent.get(key)
        if packed is None:
            packed = merging.get(key)
        if packed is not None:
            return unpacked_place(packed)
        try:
            with self._base.begin() as look:
                return _place(look.get(_KEY.pack(key)))
        except lmdb.Error as error:
            raise StorageError(self._path, f"cannot be read: {error}") from error

    def snapshot(self) -> "DiskSnapshot":
        """The map as it is now.  Call under the lock; to be closed."""
        recent, merging = self._layers
        try:
            return DiskSnapshot(
                self.offset_width, self._base.begin(), merging | recent, attrs.evolve(self.counters), len(self)
            )
        except lmdb.Error as error:
            raise StorageError(self._path, f"cannot be read: {error}") from error

    def items(self) -> Iterator[tuple[int, Place]]:
        """Key and place of every needle that is there, in the order of the offsets.  Call under the lock."""
        with contextlib.closing(self.snapshot()) as snapshot:
            found = {_KEY.unpack(key)[0]: _place(value) for key, value in snapshot.look.cursor() if len(key) == 8}
            found |= {key: unpacked_place(packed) for key, packed in snapshot.recent.items()}
        there = [(key, place) for key, place in found.items() if place is not None and not place.deleted]
        yield from sorted(there, key=lambda item: item[1].offset)

    def __len__(self) -> int:
        """How many needles are in the environment, deleted ones among them."""
        return max(0, int(self._base.stat()["entries"]) - (self.mark is not None))

    @property
    def nbytes(self) -> int:
        """Memory of the base: there is none."""
        return 0

    @property
    def disk_bytes(self) -> int:
        """Room that the environment takes on the disk."""
        return os.stat(os.path.join(self._path, "data.mdb")).st_blocks * 512

    # -------------------------------------------------------------- changing

    def put(self, key: int, offset: int, size: int) -> Place | None:
        """Note that the needle's record is at `offset`; return where it was before, if it was there."""
        before = self.get(key)
        self.counters.put(key, size, before)
        self._layers[0][key] = packed_place(offset, size)
        if before is not None:
            self.changes += 1  # and not before the new place can be found
        return before

    def put_new(self, key: int, offset: int, size: int) -> bool:
        """`put` for a key that `get` does not find; returns what `wants_merge` does."""
        self.put(key, offset, size)
        return self.wants_merge()

    def delete(self, key: int) -> Place | None:
        """Note a tombstone for the key; return where the needle was, if it was there."""
        before = self.get(key)
        self.counters.delete(key, before)
        if before is not None:
            self._layers[0][key] = packed_place(before.offset, ~before.size)
            self.changes += 1
        return before

    def settle(self) -> None:
        """For those who only fill the map: nothing, there is no index yet that a mark could tell of."""

    # -------------------------------------------------------------- merging

    def wants_merge(self) -> bool:
        """Whether so much is in the dict that it should be merged, and no merge is under way."""
        recent, merging = self._layers
        return len(recent) >= _MERGE_AT + self._grace and not merging

    def begin_merge(self, mark: Callable[[], Mark]) -> None:
        """Under the lock: from now on what is written goes to a new dict.  `mark` tells what is then covered."""
        recent, merging = self._layers
        assert not merging, "a merge is under way"
        try:
            covered = mark()
        except OSError:
            self._grace += _MERGE_AT
            return
        self._pending = attrs.evolve(covered, counters=attrs.astuple(self.counters))
        self._layers = {}, recent

    def merged(self) -> bool:
        """Without the lock: put the dict into the environment; whether the disk took it.  For `end_merge`."""
        if self._pending is None:
            return False
        values = [(_KEY.pack(key), _value(packed)) for key, packed in sorted(self._layers[1].items())]
        try:
            with self._base.begin(write=True) as change:
                _put(change, values, self._pending)
        except lmdb.Error:
            return False
        return True

    def end_merge(self, taken: bool) -> None:
        """Under the lock: go on without the dict that was merged, or with it if it was not taken."""
        recent, merging = self._layers
        if taken:
            self.mark, self._grace = self._pending, 0
            self._layers = recent, {}
        else:
            self._grace = len(merging) + len(recent)
            self._layers = merging | recent, {}
        self._pending = None

    # -------------------------------------------------------------- loading

    def enter(self, rows: Rows, mark: Mark) -> None:
        """Enter rows that follow those of the mark; raises lmdb.Error.  Nobody else uses the map meanwhile."""
        with self._base.begin(write=True) as change:
            before = self._before(rows, change)
            both = Rows(
                np.concatenate([before.keys, rows.keys]),
                np.concatenate([before.offsets, rows.offsets]),
                np.concatenate([before.sizes, rows.sizes]),
            )
            entered = NeedleMap.from_rows(both, self.offset_width)
            counters = self.counters.plus(entered.counters, NeedleMap.from_rows(before, self.offset_width).counters)
            mark = attrs.evolve(mark, counters=attrs.astuple(counters))
            keys, offsets, sizes = entered.states()
            values = np.empty(len(keys), _VALUES)
            values["low"], values["high"], values["size"] = offsets >> 3 & 0xFFFF_FFFF, offsets >> 35, sizes
            names, packed = keys.astype(">u8").tobytes(), values.tobytes()
            pairs = [(names[n * 8 : n * 8 + 8], packed[n * 9 : n * 9 + 9]) for n in range(len(keys))]
            is_behind = bool(len(keys)) and int(keys[0]) > self.counters.max_key
            _put(change, pairs, mark, is_behind=is_behind)
        self.counters, self.mark = counters, mark

    def _before(self, rows: Rows, look: Any) -> Rows:
        """Rows that tell what the environment holds of the needles that the rows are about."""
        told: list[tuple[int, int, int]] = []
        for key in np.unique(rows.keys[rows.keys <= np.uint64(self.counters.max_key)]).tolist():
            place = _place(look.get(_KEY.pack(key)))
            if place is not None:
                told.append((key, place.offset, place.size))
                if place.deleted:
                    told.append((key, 0, TOMBSTONE))
        keys, offsets, sizes = zip(*told, strict=True) if told else ((), (), ())
        return Rows(np.array(keys, np.uint64), np.array(offsets, np.int64), np.array(sizes, np.int32))


@attrs.define(eq=False)
class DiskSnapshot:
    """A map at one moment; `close` it."""

    offset_width: int
    look: Any  # an lmdb.Transaction
    recent: Recent
    counters: Counters
    count: int  # of needles in the environment

    def close(self) -> None:
        """Let go of it: until then the environment cannot use again what it frees."""
        self.look.abort()

    def pieces(self, read: Callable[[int, int], bytes], idx_size: int) -> Iterator[Live]:
        """The needles that were there then, in the order of the index, of which `read` gives a part."""
        start = 0
        for end in piece_ends(0, idx_size, self.offset_width):
            rows = unpack_rows(read(start, end), self.offset_width)
            start = end
            there = np.fromiter(
                (self._find(key) == (offset, size, False) for key, offset, size in zip(*_lists(rows), strict=True)),
                bool,
                len(rows.keys),
            )
            yield Live(rows.keys[there], rows.offsets[there], rows.sizes[there])

    def room(self, version: int) -> tuple[int, int]:
        """(bytes of their records, how many they are), at the most, with the room for a map of them."""
        count = self.count + len(self.recent)
        counters = self.counters
        stored = max(0, counters.content_bytes - counters.deleted_bytes)
        return stored + count * (record_length(0, version) + _LARGEST_ENTRY), count

    def _find(self, key: int) -> Place | None:
        packed = self.recent.get(key)
        return unpacked_place(packed) if packed is not None else _place(self.look.get(_KEY.pack(key)))


def _lists(rows: Rows) -> tuple[list[int], list[int], list[int]]:
    return rows.keys.tolist(), rows.offsets.tolist(), rows.sizes.tolist()


def _put(change: Any, values: list[tuple[bytes, bytes]], mark: Mark, *, is_behind: bool = False) -> None:
    """Put sorted values and the mark; `is_behind` when all keys are behind those that are there."""
    change.cursor().putmulti(values, append=is_behind)
    change.put(_MARK, json.dumps({"format": _FORMAT, **attrs.asdict(mark)}).encode())


def _parsed(stored: bytes | None) -> Mark | None:
    if stored is None:
        return None
    try:
        fields = json.loads(stored)
        if fields.pop("format") != _FORMAT:
            return None
        return Mark(**fields | {"counters": tuple(fields["counters"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _value(packed: int) -> bytes:
    place = unpacked_place(packed)
    units = place.offset >> 3
    return _PLACE.pack(units & 0xFFFF_FFFF, units >> 32, ~place.size if place.deleted else place.size)


def _place(value: bytes | None) -> Place | None:
    if value is None:
        return None
    low, high, size = _PLACE.unpack(value)
    offset = (high << 32 | low) << 3
    return Place(offset, size) if size >= 0 else Place(offset, ~size, True)


def load(path: str, idx: DiskFile, mark: Mark) -> DiskMap | None:
    """The map of an index up to `mark`, all rows of which are right; None when the disk does not take it.

    Raises OSError when the index cannot be read.
    """
    try:
        found = open_fitting(path, mark.revision, mark.width, idx, mark.dat_size)
        start = found.mark.idx_size if found.mark is not None else 0
        for end in piece_ends(start, mark.idx_size, mark.width):
            rows = unpack_rows(idx.read(end - start, start), mark.width)
            # Only the last piece's mark is right about the data; until then a crash makes the next open begin anew.
            found.enter(rows, mark if end == mark.idx_size else attrs.evolve(mark, idx_size=end, checksum=-1))
            start = end
    except (lmdb.Error, StorageError):
        return None
    return found


def piece_ends(start: int, end: int, width: int) -> Iterator[int]:
    """Where the pieces of an index end that are entered one after the other."""
    while start < end:
        start = min(end, start + PIECE * ROW_SIZES[width])
        yield start


def open_fitting(path: str, revision: int, width: int, idx: DiskFile, dat_size: int) -> DiskMap:
    """The map at `path` if its mark fits the index, else one with nothing in it.

    Raises StorageError and lmdb.Error when there can be none, and OSError when the index cannot be read.
    """
    try:
        found = DiskMap(path, width)
    except lmdb.Error:
        found = None
    if found is not None and found.mark is not None and found.mark.fits(revision, width, idx, dat_size):
        return found
    if found is not None and found.mark is None and not len(found):
        return found
    del found  # or it counts as open still
    shutil.rmtree(path, ignore_errors=True)
    return DiskMap(path, width)
