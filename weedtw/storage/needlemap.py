"""The needle map: where each needle of a volume lies, in memory, at 16 or 17 bytes a needle.

Three layers, the upper ones hiding what lies below:

    recent    a dict of what was written lately
    merging   the dict that was `recent` before, while it is being merged; empty otherwise
    base      columns sorted by key: key u64, offset in units of 8 bytes as u32 (and u8 when offsets have
              5 bytes), size i32; never changed once made

The layers hang on one attribute that is replaced as a whole, and a dict takes one key at a time, so `get` needs no
lock.  `put`, `delete` and both halves of a merge need one that the caller holds; the long middle part, `merged`,
runs without.

A deleted needle keeps its place, with its size inverted (`~size`): it can still be read on request.

Beware of plain integers in `searchsorted`: numpy would convert the whole column at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self, TypeAlias

import attrs

from weedtw.formats.idx import Rows
from weedtw.formats.numeric import np, npt
from weedtw.storage.mark import Mark
from weedtw.storage.scan import record_lengths

_UNIT_SHIFT: Final = 3  # offsets count in units of 8 bytes
_SIZE_MASK: Final = 0xFFFF_FFFF
_SIGN: Final = 0x8000_0000
_SMALLEST_MERGE: Final = 1024
_LARGEST_MERGE: Final = 65536
_MERGE_SHARE: Final = 5  # merge when `recent` has 1/32 of what the base has

Keys: TypeAlias = "npt.NDArray[np.uint64]"
Recent: TypeAlias = dict[int, int]  # key -> units << 32 | size as u32


class Place(NamedTuple):
    """Where a needle's record is."""

    offset: int  # bytes from the start of the .dat file
    size: int  # the record's size field
    deleted: bool = False


class Live(NamedTuple):
    """The needles that are there, as columns of equal length, in the order of their offsets."""

    keys: Keys
    offsets: npt.NDArray[np.int64]  # bytes
    sizes: npt.NDArray[np.int32]


class _Columns(NamedTuple):
    keys: Keys
    low: npt.NDArray[np.uint32]
    high: npt.NDArray[np.uint8] | None  # None when offsets have 4 bytes
    sizes: npt.NDArray[np.int32]

    def offsets(self) -> npt.NDArray[np.int64]:
        units = self.low.astype(np.int64)
        if self.high is not None:
            units |= self.high.astype(np.int64) << 32
        return units << _UNIT_SHIFT


class _Layers(NamedTuple):
    recent: Recent
    merging: Recent
    base: _Columns | None  # None: there is nothing


@attrs.define(eq=False)
class Snapshot:
    """A needle map at one moment."""

    layers: _Layers
    offset_width: int
    _live: Live | None = None

    def live(self) -> Live:
        """All needles that were there then; the columns are the caller's.  Takes a while, and no lock."""
        if self._live is None:
            merged = _merge(self.layers.base, self.layers.merging, self.offset_width)
            base = _merge(merged, self.layers.recent, self.offset_width)
            offsets = base.offsets()
            there = np.flatnonzero(base.sizes >= 0)
            there = there[np.argsort(offsets[there], kind="stable")]
            self._live = Live(base.keys[there], offsets[there], base.sizes[there])
        return self._live

    def pieces(self, _read: Callable[[int, int], bytes], _idx_size: int) -> Iterator[Live]:
        """The same, in one piece."""
        yield self.live()

    def room(self, version: int) -> tuple[int, int]:
        """(bytes of their records, how many they are)."""
        sizes = self.live().sizes
        return int(record_lengths(sizes, version).sum()), len(sizes)

    def close(self) -> None:
        """Nothing is held."""


@attrs.define
class Counters:
    """What SeaweedFS reports of a volume's index; bytes are sums of `size` fields."""

    file_count: int = 0  # put rows, overwrites among them
    content_bytes: int = 0  # of those rows
    deleted_count: int = 0  # tombstones, and rows that were overwritten
    deleted_bytes: int = 0  # of what those tombstones and overwrites took away
    max_key: int = 0

    def put(self, key: int, size: int, before: Place | None) -> None:
        """Count a put row; `before` is where the needle was, if it was there."""
        self.file_count += 1
        self.content_bytes += size
        self.max_key = max(self.max_key, key)
        if before is not None:
            self.deleted_count += 1
            self.deleted_bytes += before.size

    def delete(self, key: int, before: Place | None) -> None:
        """Count a tombstone for what was at `before`, if it was there."""
        self.deleted_count += 1
        self.max_key = max(self.max_key, key)
        if before is not None:
            self.deleted_bytes += before.size

    def plus(self, more: Self, known: Self) -> Counters:
        """Counters of these rows and `more`, of which `known` are counted in both."""
        return Counters(
            self.file_count + more.file_count - known.file_count,
            self.content_bytes + more.content_bytes - known.content_bytes,
            self.deleted_count + more.deleted_count - known.deleted_count,
            self.deleted_bytes + more.deleted_bytes - known.deleted_bytes,
            max(self.max_key, more.max_key),
        )


class NeedleMap:
    """Maps keys to places; see the module for what may be called without a lock."""

    __slots__ = ("_layers", "changes", "counters", "offset_width")

    def __init__(self, offset_width: int) -> None:
        """Make an empty map for offsets of 4 or 5 bytes."""
        self.offset_width = offset_width
        self.counters = Counters()
        self.changes = 0
        self._layers = _Layers({}, {}, None)

    @classmethod
    def from_rows(cls, rows: Rows, offset_width: int) -> Self:
        """Make the map that an index describes; the rows in the order in which they were appended."""
        made = cls(offset_width)
        keys, offsets, sizes = rows
        if not len(keys):
            return made
        is_put = (offsets != 0) & (sizes >= 0)
        if not bool(np.all(keys[1:] > keys[:-1])):
            order = np.argsort(keys, kind="stable")
            keys, offsets, sizes, is_put = keys[order], offsets[order], sizes[order], is_put[order]
        made.counters = _count(keys, sizes, is_put)
        made._layers = _Layers({}, {}, _columns(*_last_states(keys, offsets, sizes, is_put), offset_width))
        return made

    # -------------------------------------------------------------- looking up

    def get(self, key: int) -> Place | None:
        """Where the needle is; None when it never was or was deleted."""
        if key > self.counters.max_key:
            return None  # as nearly every key is that is about to be written
        place = self.find(key)
        return None if place is None or place.deleted else place

    def find(self, key: int) -> Place | None:
        """Where the needle is or, when it was deleted, was; None when it is not known at all."""
        if key > self.counters.max_key:
            return None
        recent, merging, base = self._layers
        packed = recent.get(key)
        if packed is None:
            packed = merging.get(key)
        if packed is not None:
            return unpacked_place(packed)
        if base is None:
            return None
        keys = base.keys
        wanted = np.uint64(key)
        index = keys.searchsorted(wanted)
        if index == len(keys) or keys[index] != wanted:
            return None
        units = int(base.low[index])
        if base.high is not None:
            units |= int(base.high[index]) << 32
        size = int(base.sizes[index])
        return Place(units << _UNIT_SHIFT, size) if size >= 0 else Place(units << _UNIT_SHIFT, ~size, True)

    def snapshot(self) -> Snapshot:
        """The map as it is now.  Call under the lock; cheap, however large the map is."""
        recent, merging, base = self._layers
        return Snapshot(_Layers(dict(recent), merging, base), self.offset_width)

    def items(self) -> Iterator[tuple[int, Place]]:
        """Key and place of every needle that is there, in the order of the offsets.  Call under the lock."""
        keys, offsets, sizes = self.snapshot().live()
        for key, offset, size in zip(keys.tolist(), offsets.tolist(), sizes.tolist(), strict=True):
            yield key, Place(offset, size)

    def states(self) -> tuple[Keys, npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Key, offset and size (inverted when deleted) of all needles in the base columns, in the order of keys."""
        base = _merge(self._layers.base, {}, self.offset_width)
        return base.keys, base.offsets(), base.sizes

    def __len__(self) -> int:
        """How many needles are in the base columns, deleted ones among them."""
        base = self._layers.base
        return 0 if base is None else len(base.keys)

    @property
    def nbytes(self) -> int:
        """Memory of the base columns."""
        return sum(column.nbytes for column in self._layers.base or () if column is not None)

    # -------------------------------------------------------------- changing

    def put(self, key: int, offset: int, size: int) -> Place | None:
        """Note that the needle's record is at `offset`; return where it was before, if it was there."""
        before = self.get(key)
        self.counters.put(key, size, before)
        self._layers.recent[key] = packed_place(offset, size)
        if before is not None:
            self.changes += 1  # and not before the new place can be found
        return before

    def put_new(self, key: int, offset: int, size: int) -> bool:
        """`put` for a key that `get` does not find, for which to look a second time would take the longest of it.

        Returns what `wants_merge` does.
        """
        counters = self.counters
        counters.file_count += 1
        counters.content_bytes += size
        if key > counters.max_key:  # noqa: PLR1730 - max() takes longer
            counters.max_key = key
        recent = self._layers.recent
        recent[key] = offset >> _UNIT_SHIFT << 32 | size & _SIZE_MASK  # as `packed_place`, without the call
        return len(recent) >= _SMALLEST_MERGE and self.wants_merge()

    def delete(self, key: int) -> Place | None:
        """Note a tombstone for the key; return where the needle was, if it was there."""
        before = self.get(key)
        self.counters.delete(key, before)
        if before is not None:
            self._layers.recent[key] = packed_place(before.offset, ~before.size)
            self.changes += 1
        return before

    def settle(self) -> None:
        """Merge here and now if it is time to, for those who have the map to themselves."""
        if self.wants_merge():
            self.begin_merge()
            self.end_merge(self.merged())

    # -------------------------------------------------------------- merging

    def wants_merge(self) -> bool:
        """Whether so much is in the dict that it should be merged, and no merge is under way."""
        recent, merging, base = self._layers
        count = len(recent)
        if count < _SMALLEST_MERGE or merging:
            return False
        return base is None or count >= min(len(base.keys) >> _MERGE_SHARE, _LARGEST_MERGE)

    def begin_merge(self, _mark: Callable[[], Mark] | None = None) -> None:
        """Under the lock: from now on what is written goes to a new dict."""
        recent, merging, base = self._layers
        assert not merging, "a merge is under way"
        self._layers = _Layers({}, recent, base)

    def merged(self) -> _Columns:
        """Without the lock: the columns with the dict in them.  To be given to `end_merge`."""
        return _merge(self._layers.base, self._layers.merging, self.offset_width)

    def end_merge(self, columns: _Columns) -> None:
        """Under the lock: the merged columns take the place of dict and base."""
        self._layers = _Layers(self._layers.recent, {}, columns)


def packed_place(offset: int, size: int) -> int:
    """A place as it stands in the dict of recent writes; the size of a deleted needle is inverted."""
    return offset >> _UNIT_SHIFT << 32 | size & _SIZE_MASK


def unpacked_place(packed: int) -> Place:
    """What `packed_place` packed."""
    size = packed & _SIZE_MASK
    offset = packed >> 32 << _UNIT_SHIFT
    return Place(offset, ~size & _SIZE_MASK, True) if size & _SIGN else Place(offset, size)


def _columns(keys: Keys, offsets: npt.NDArray[np.int64], sizes: npt.NDArray[np.int32], width: int) -> _Columns:
    units = offsets >> _UNIT_SHIFT
    high = (units >> 32).astype(np.uint8) if width == 5 else None
    return _Columns(keys, (units & _SIZE_MASK).astype(np.uint32), high, sizes)


def _merge(base: _Columns | None, recent: Recent, width: int) -> _Columns:
    """Columns that hold `base` overlaid with `recent`; `base` stays as it is."""
    if base is None:
        base = _columns(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int32), width)
    if not recent:
        return base
    new_keys, offsets, new_sizes = _sorted_columns(recent, width)
    new = _columns(new_keys, offsets, new_sizes, width)
    places = base.keys.searchsorted(new_keys)
    if len(base.keys) == 0 or new_keys[0] > base.keys[-1]:
        known = np.zeros(len(new_keys), bool)
    else:
        known = base.keys[np.minimum(places, len(base.keys) - 1)] == new_keys

    def overlaid(old: npt.NDArray[np.generic], fresh: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        column = np.insert(old, places[~known], fresh[~known])
        if known.any():
            # Each known key moved up by the number of keys that were inserted before it.
            column[places[known] + np.cumsum(~known)[known]] = fresh[known]
        return column

    merged = [None if old is None else overlaid(old, fresh) for old, fresh in zip(base, new, strict=True)]  # type: ignore[arg-type]
    return _Columns(*merged)  # type: ignore[arg-type]


def _sorted_columns(recent: Recent, width: int) -> tuple[Keys, npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Keys, offsets and sizes (inverted of deleted ones) of a dict that stays as it is, in the order of the keys.

    It runs in a thread while others want to write, so nothing here goes through the dict in Python if it need not.
    """
    count = len(recent)
    keys = np.fromiter(recent.keys(), np.uint64, count)
    if width == 4:  # a place has 64 bits
        packed = np.fromiter(recent.values(), np.uint64, count)
        units, sizes = (packed >> np.uint64(32)).astype(np.int64), packed.astype(np.uint32)
    else:
        units = np.fromiter((place >> 32 for place in recent.values()), np.int64, count)
        sizes = np.fromiter((place & _SIZE_MASK for place in recent.values()), np.uint32, count)
    order = np.argsort(keys)
    return keys[order], units[order] << _UNIT_SHIFT, sizes[order].view(np.int32)


def _count(keys: Keys, sizes: npt.NDArray[np.int32], is_put: npt.NDArray[np.bool_]) -> Counters:
    """Count rows that are sorted by key and, within a key, by age."""
    took_away = (keys[1:] == keys[:-1]) & is_put[:-1]  # for each row but the first: it replaced or deleted a live one
    return Counters(
        file_count=int(np.count_nonzero(is_put)),
        content_bytes=int(sizes[is_put].sum(dtype=np.int64)),
        deleted_count=int(np.count_nonzero(~is_put) + np.count_nonzero(took_away & is_put[1:])),
        deleted_bytes=int(sizes[:-1][took_away].sum(dtype=np.int64)),
        max_key=int(keys[-1]),
    )


def _last_states(
    keys: Keys, offsets: npt.NDArray[np.int64], sizes: npt.NDArray[np.int32], is_put: npt.NDArray[np.bool_]
) -> tuple[Keys, npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """One row a key from rows sorted as for `_count`: the last put, its size inverted if it was deleted since."""
    ends = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=ends[:-1])
    rows = np.flatnonzero(ends)  # the last one of each key
    gone = np.flatnonzero(~is_put[rows])  # which of these are deletions
    if not len(gone):
        return keys[rows], offsets[rows], sizes[rows]
    puts = np.flatnonzero(is_put)
    if not len(puts):
        return keys[:0], offsets[:0], sizes[:0]
    put_before = puts[puts.searchsorted(rows[gone]) - 1]  # the last of all when there is none before
    known = keys[put_before] == keys[rows[gone]]
    rows[gone] = put_before
    states = sizes[rows]
    states[gone] = ~states[gone]
    if not known.all():  # some were deleted, and never put
        keep = np.ones(len(rows), bool)
        keep[gone[~known]] = False
        rows, states = rows[keep], states[keep]
    return keys[rows], offsets[rows], states
