"""Index rows: the log, in `.idx` files, of where the records of a volume lie.

    offset  bytes  field
    0       8      key
    8       4      offset of the record in the .dat file, in units of 8 bytes: low 32 bits
    12      0|1    offset: bits 32 to 39 (only in rows of 17 bytes, for volumes up to 8 TiB)
    12|13   4      size field of the record (signed); -1 for a deletion

Integers are big-endian.  Rows are appended as records are; the last row for a key holds.  A row of size 0
is a file without data.  A file consists of rows of one kind: 16 bytes (4-byte offsets, volumes up to 32 GiB) or
17 bytes (5-byte offsets); nothing in it says which.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from weedtw.errors import Damaged
from weedtw.formats.numeric import np, npt

TOMBSTONE: Final = -1
ALIGNMENT: Final = 8
OFFSET_WIDTHS: Final = (4, 5)
ROW_SIZES: Final = {4: 16, 5: 17}  # by bytes of offset
_LIMITS: Final = {width: ALIGNMENT << 8 * width for width in OFFSET_WIDTHS}

_ROWS: Final = {4: struct.Struct(">QIi"), 5: struct.Struct(">QIBi")}
_pack_usual: Final = _ROWS[4].pack
_COLUMNS: Final = {
    4: [("key", ">u8"), ("low", ">u4"), ("size", ">i4")],
    5: [("key", ">u8"), ("low", ">u4"), ("high", "u1"), ("size", ">i4")],
}
_GUESS_ROWS: Final = 4096
_SMALLEST_RECORD: Final = 24


class Rows(NamedTuple):
    """The rows of an index, as columns of equal length in the order of the file."""

    keys: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]  # bytes
    sizes: npt.NDArray[np.int32]  # -1 for a deletion


def max_volume_size(offset_width: int) -> int:
    """Bytes of `.dat` that rows with offsets of that many bytes can address: a record must begin below it."""
    return _LIMITS[offset_width]


def pack_row(key: int, offset_bytes: int, size: int, offset_width: int) -> bytes:
    """One row; `offset_bytes` is the record's place in the .dat file.

    Raises ValueError when the offset is no multiple of 8 or beyond `max_volume_size`.
    """
    if offset_bytes % ALIGNMENT or not 0 <= offset_bytes < _LIMITS[offset_width]:
        raise ValueError(f"offset {offset_bytes} does not fit a row with offsets of {offset_width} bytes")
    return row_packer(offset_width)(key, offset_bytes // ALIGNMENT, size)


def row_packer(offset_width: int) -> Callable[[int, int, int], bytes]:
    """What makes rows of key, offset and size as `pack_row` does, for who knows that the offset fits.

    The offset is in units of ALIGNMENT.
    """
    return _pack_usual if offset_width == 4 else _pack_wide


def _pack_wide(key: int, units: int, size: int) -> bytes:
    return _ROWS[5].pack(key, units & 0xFFFF_FFFF, units >> 32, size)


def unpack_rows(data: bytes | memoryview, offset_width: int, *, path: str = "") -> Rows:
    """All rows of an index; raises Damaged when `data` is no whole number of rows."""
    row_size = ROW_SIZES[offset_width]
    if len(data) % row_size:
        raise Damaged(path, f"{len(data)} bytes are no whole number of index rows of {row_size}")
    table = np.frombuffer(data, np.dtype(_COLUMNS[offset_width]))
    offsets = table["low"].astype(np.int64)
    if offset_width == 5:
        offsets |= table["high"].astype(np.int64) << 32
    offsets *= ALIGNMENT
    return Rows(table["key"].astype(np.uint64), offsets, table["size"].astype(np.int32))


def guess_offset_width(data: bytes | memoryview, dat_size: int, *, default: int = 4) -> int:
    """Tell 4-byte from 5-byte offsets by whether the rows point at places that a .dat of `dat_size` bytes has.

    `data` is the whole index.  One without rows gives `default`; so may one of a row or two that is torn, hence ask
    the `.vif` first.
    """
    if not len(data):
        return default
    preference = (default, *(width for width in OFFSET_WIDTHS if width != default))
    return max(preference, key=lambda width: _plausibility(data, dat_size, width))


def _plausibility(data: bytes | memoryview, dat_size: int, width: int) -> tuple[float, bool]:
    """Which share of the rows can be true, and whether the rows are whole."""
    row_size = ROW_SIZES[width]
    count = min(len(data) // row_size, _GUESS_ROWS)
    if not count:
        return 0.0, False
    _, offsets, sizes = unpack_rows(data[: count * row_size], width)
    stored = np.where(sizes == TOMBSTONE, 0, sizes).astype(np.int64)
    inside = (stored >= 0) & (offsets >= ALIGNMENT) & (offsets + stored + _SMALLEST_RECORD <= dat_size)
    elsewhere = (offsets == 0) & (sizes == TOMBSTONE)
    return float(np.count_nonzero(inside | elsewhere)) / count, len(data) % row_size == 0
