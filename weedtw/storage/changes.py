"""What has changed in a volume since some time, key by key, to be compared with another copy of it.

Records are appended in the order of their times, so the index rows of a moment are found by bisection, and only the
rows behind are looked at.  Volumes of versions 1 and 2 know no times.
"""

import bisect
from collections.abc import Collection
from typing import Any, Final, Self

import attrs

from weedtw.errors import BadRequest, Damaged, StorageError
from weedtw.formats.idx import ROW_SIZES, Rows, unpack_rows
from weedtw.formats.needle import HEADER_SIZE, unpack_header
from weedtw.storage.generation import Generation
from weedtw.storage.needlemap import Place
from weedtw.storage.volume import Volume

MOST: Final = 200_000  # rows that are compared; more than that is a copy that was away for long


@attrs.frozen
class Change:
    """The last thing that happened to a key, and what that made of it."""

    key: int
    cookie: int
    size: int  # the record's size field; -1 when the needle was deleted
    checksum: int  # 0 when it was deleted
    append_at_ns: int  # 0 when that is not known
    place: Place | None = None  # where the needle is, or was; of no meaning to others

    def is_like(self, other: Self) -> bool:
        """Whether both say the same of the needle."""
        if self.size < 0 or other.size < 0:
            return self.size < 0 and other.size < 0
        return (self.cookie, self.size, self.checksum) == (other.cookie, other.size, other.checksum)

    def as_json(self) -> list[int]:
        """What `parse` takes."""
        return [self.key, self.cookie, self.size, self.checksum, self.append_at_ns]

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read what `as_json` gave; raises ValueError."""
        if not isinstance(value, list) or len(value) != 5 or not all(type(one) is int for one in value):
            raise ValueError(f"{value!r:.100} is no change")
        return cls(*value)


def changes_since(volume: Volume, since_ns: int) -> dict[int, Change]:
    """The last change of every key that was changed at that time (unix nanoseconds) or later.

    Raises StorageError, and BadRequest when there are more than can be compared.
    """
    generation = volume.generation
    width, path = generation.needles.offset_width, generation.dat.path
    try:
        end = generation.idx_size - generation.idx_size % ROW_SIZES[width]
        first = _first_row(generation, end // ROW_SIZES[width], since_ns)
        start = first * ROW_SIZES[width]
        if (end - start) // ROW_SIZES[width] > MOST:
            raise BadRequest(f"volume {volume.id} has more than {MOST} changes since then")
        rows = unpack_rows(generation.index_rows(start, end), width)
        last = {key: row for row, key in enumerate(rows.keys.tolist())}
        return {key: _change(generation, key, rows, row) for key, row in last.items()}
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror or error}") from error


def changes_of(volume: Volume, keys: Collection[int]) -> dict[int, Change]:
    """The last change of each of those keys that ever was here, whenever that was; raises StorageError."""
    generation = volume.generation
    width = generation.needles.offset_width
    try:
        end = generation.idx_size - generation.idx_size % ROW_SIZES[width]
        rows = unpack_rows(generation.index_rows(0, end), width)
        wanted = set(keys)
        last = {key: row for row, key in enumerate(rows.keys.tolist()) if key in wanted}
        return {key: _change(generation, key, rows, row) for key, row in last.items()}
    except OSError as error:
        raise StorageError(generation.dat.path, f"cannot be read: {error.strerror or error}") from error


def state_of(volume: Volume, key: int) -> Change:
    """What there is of a key, without the time of it; raises StorageError."""
    generation = volume.generation
    place = generation.needles.find(key)
    if place is None or place.deleted:
        return Change(key, 0, -1, 0, 0, place)
    try:
        return Change(key, generation.cookie(place), place.size, generation.checksum(place), 0, place)
    except OSError as error:
        raise StorageError(generation.dat.path, f"cannot be read: {error.strerror or error}") from error


def record_of(volume: Volume, key: int) -> bytes | None:
    """The whole record of a needle that is there; raises StorageError."""
    generation = volume.generation
    place = generation.needles.get(key)
    try:
        return None if place is None else generation.record(place)
    except OSError as error:
        raise StorageError(generation.dat.path, f"cannot be read: {error.strerror or error}") from error


def _first_row(generation: Generation, count: int, since_ns: int) -> int:
    """The first index row of a record that was appended at that time or later; all of them without times."""
    if generation.version != 3 or since_ns <= 0:
        return 0
    length = ROW_SIZES[generation.needles.offset_width]

    def time_of(row: int) -> int:
        rows = unpack_rows(generation.index_rows(row * length, (row + 1) * length), generation.needles.offset_width)
        offset, size = int(rows.offsets[0]), max(0, int(rows.sizes[0]))
        # SeaweedFS has rows without a record: they count as new, and the bisection goes on before them.
        return generation.append_at_ns(Place(offset, size)) if offset else since_ns

    return bisect.bisect_left(range(count), since_ns, key=time_of)


def _change(generation: Generation, key: int, rows: Rows, row: int) -> Change:
    offset, size = int(rows.offsets[row]), int(rows.sizes[row])
    place = generation.needles.find(key)
    if not offset:
        return Change(key, 0, -1, 0, 0, place)
    try:
        cookie = unpack_header(generation.dat.read(HEADER_SIZE, offset), path=generation.dat.path)[0]
    except Damaged:
        return Change(key, 0, size, 0, 0, place)
    at = Place(offset, max(0, size))
    stamp = generation.append_at_ns(at)
    if size < 0:
        return Change(key, cookie, -1, 0, stamp, place)
    return Change(key, cookie, size, generation.checksum(at), stamp, place)
