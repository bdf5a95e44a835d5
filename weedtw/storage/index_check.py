"""Does an index belong to the .dat beside it, and which of its rows hold?

Every row describes a record that is in the .dat, overwritten and deleted ones too.  (Only a deletion may have
none: SeaweedFS writes such rows, with offset 0, when a needle is deleted during a vacuum.)  All rows are checked for
pointing into the file, and a sample of them against the headers that they point at: the last ones, because that is
where a crash leaves its mark, and some from everywhere, which tells an index of other data.
"""

from __future__ import annotations

from typing import Final

import attrs

from weedtw.formats.idx import ROW_SIZES, Rows, guess_offset_width, max_volume_size, unpack_rows
from weedtw.formats.needle import HEADER_SIZE, unpack_header
from weedtw.formats.numeric import np, npt
from weedtw.storage.scan import Scanner, content_end, record_lengths

_SAMPLE: Final = 32


@attrs.frozen
class CheckedIndex:
    """The rows of an index that hold for a .dat, and what is wrong with the rest."""

    offset_width: int
    rows: Rows  # those that hold, from the first on
    end: int  # where the last record that they describe ends; where the first begins if there are none
    dropped: int = 0  # rows behind those that hold: they point behind the end of the .dat or at nothing
    torn: int = 0  # bytes behind the last whole row
    foreign: str = ""  # why the rows are not of this .dat; "" when they are
    share_right: float = 1.0  # of the rows in the sample

    @property
    def size(self) -> int:
        """Bytes of the rows that hold."""
        return len(self.rows.keys) * ROW_SIZES[self.offset_width]


def check_index(data: bytes, scanner: Scanner, first_record: int, *, width: int | None, default: int) -> CheckedIndex:
    """Check index `data` against the .dat that `scanner` reads, whose records begin at `first_record`.

    `width` is what the .vif says of the offsets, if it does; when that makes no sense of the rows and the other
    width does, the other is right.  `default` is for an index that does not tell.
    """
    if width is None:
        fitting = default if scanner.size < max_volume_size(default) else 5
        width = guess_offset_width(data, scanner.size, default=fitting)
    checked = _check(data, scanner, first_record, width)
    if checked.foreign or checked.dropped:
        other = _check(data, scanner, first_record, 9 - width)
        if not other.foreign and not other.dropped and len(other.rows.keys):
            return other
    return checked


def last_append_at_ns(scanner: Scanner, checked: CheckedIndex) -> int:
    """The time of the last record that the index describes; 0 when there is none or it has no time."""
    offsets = checked.rows.offsets
    if not len(offsets) or scanner.version != 3:
        return 0
    last = int(np.argmax(offsets))
    offset, size = int(offsets[last]), max(int(checked.rows.sizes[last]), 0)
    return int.from_bytes(scanner.read(offset + HEADER_SIZE + size + 4, 8)) if offset else 0


def _check(data: bytes, scanner: Scanner, first_record: int, width: int) -> CheckedIndex:
    torn = len(data) % ROW_SIZES[width]
    all_rows = unpack_rows(memoryview(data)[: len(data) - torn], width)
    keep, foreign = _inside(all_rows, scanner, first_record)
    if not foreign:
        keep, foreign = _written(all_rows, keep, scanner)
    rows = Rows(all_rows.keys[:keep], all_rows.offsets[:keep], all_rows.sizes[:keep])
    share = 1.0
    if not foreign:
        looked_at, wrong = _compare_sample(rows, scanner)
        if wrong:
            foreign = f"{wrong} of {looked_at} index rows looked at describe other records than those that are there"
            share = 1 - wrong / looked_at
    dropped = len(all_rows.keys) - keep
    return CheckedIndex(width, rows, _end(rows, scanner.version, first_record), dropped, torn, foreign, share)


def _inside(rows: Rows, scanner: Scanner, first_record: int) -> tuple[int, str]:
    """How many rows, from the first on, point into the .dat; and what is wrong if more do after one that does not."""
    stored = np.maximum(rows.sizes, 0).astype(np.int64)
    # The padding may be missing, except where it tells a deletion from a file without data.
    needed = np.where(
        stored > 0, stored + content_end(0, scanner.version), record_lengths(rows.sizes, scanner.version)
    )
    outside = (rows.offsets < first_record) | (rows.offsets + needed > scanner.size)
    nothing = (rows.offsets == 0) & (rows.keys == 0)  # zeros: that part of the index never reached the disk
    return _prefix(nothing | (outside & (rows.offsets != 0)), "points outside the data")


def _written(rows: Rows, keep: int, scanner: Scanner) -> tuple[int, str]:
    """The same for rows at whose place there are only zeros: the index reached the disk, the record did not."""
    lost = np.zeros(len(rows.keys), bool)
    lost[keep:] = True
    for index in np.argsort(rows.offsets[:keep], kind="stable")[::-1].tolist():
        offset = int(rows.offsets[index])
        if not offset or any(scanner.header(offset)):
            break
        lost[index] = True
    return _prefix(lost, "points at zeros")


def _prefix(bad: npt.NDArray[np.bool_], what: str) -> tuple[int, str]:
    if not bad.any():
        return len(bad), ""
    first = int(np.argmax(bad))
    if bad[first:].all():
        return first, ""
    return len(bad), f"index row {first} {what} and later ones do not"


def _end(rows: Rows, version: int, first_record: int) -> int:
    if not len(rows.keys):
        return first_record
    ends = rows.offsets + record_lengths(rows.sizes, version)
    return max(first_record, int(ends[rows.offsets > 0].max(initial=first_record)))


def _compare_sample(rows: Rows, scanner: Scanner) -> tuple[int, int]:
    """How many rows were compared with the headers that they point at, and how many of those differ."""
    placed = np.flatnonzero(rows.offsets > 0)
    placed = placed[np.argsort(rows.offsets[placed], kind="stable")]
    spread = placed[:: max(1, len(placed) // _SAMPLE)]
    chosen = np.unique(np.concatenate([placed[-_SAMPLE:], spread]))
    wrong = 0
    for index in chosen.tolist():
        header = scanner.header(int(rows.offsets[index]))
        wanted = int(rows.keys[index]), max(int(rows.sizes[index]), 0)
        wrong += int.from_bytes(header[12:16], signed=True) < 0 or unpack_header(header)[1:] != wanted
    return len(chosen), wrong
