"""Opening a volume through its map on disk: only what was appended since the last merge is read.

The rest of the index was checked when it was entered; a sample of it is compared with the data again.  Whatever is
amiss, even what is easily mended, is left to `recovery`, which reads all of it.
"""

from typing import Final

import attrs

from weedtw.errors import StorageError
from weedtw.formats.idx import ROW_SIZES
from weedtw.formats.superblock import SuperBlock
from weedtw.storage.fileops import DiskFile
from weedtw.storage.index_check import check_index, last_append_at_ns
from weedtw.storage.maps import AnyMap
from weedtw.storage.mark import Mark
from weedtw.storage.scan import Scanner

_SAMPLE: Final = 32  # rows from everywhere, and as many from the end


@attrs.frozen
class Mapped:
    """A map that holds a whole index, and where the data goes on behind what it describes."""

    needles: AnyMap
    idx_size: int  # bytes
    end: int  # of the last record, bytes
    last_append_at_ns: int


def open_mapped(folder: str, idx: DiskFile, scanner: Scanner, superblock: SuperBlock, width: int) -> Mapped | None:
    """The map in `folder`, made or completed from the index; None when that is not as it should be, or cannot be.

    Raises OSError when a file cannot be read.
    """
    import lmdb  # noqa: PLC0415 - an extra

    from weedtw.storage.diskmap import open_fitting, piece_ends  # noqa: PLC0415

    size, revision = idx.size(), superblock.compaction_revision
    if size % ROW_SIZES[width]:
        return None
    try:
        needles = open_fitting(folder, revision, width, idx, scanner.size)
        start, end, last = 0, superblock.size, 0
        if needles.mark is not None:
            start, end, last = needles.mark.idx_size, needles.mark.dat_size, needles.mark.last_append_at_ns
            if not _is_right(_sample(idx, start, width), scanner, superblock, width):
                return None
        for stop in piece_ends(start, size, width):
            checked = check_index(idx.read(stop - start, start), scanner, superblock.size, width=width, default=width)
            if checked.foreign or checked.dropped or checked.torn or checked.offset_width != width:
                return None
            end, last = max(end, checked.end), max(last, last_append_at_ns(scanner, checked))
            needles.enter(checked.rows, Mark.of(revision, width, idx, stop, end, last))
            start = stop
    except (lmdb.Error, StorageError):
        return None
    return Mapped(needles, size, end, last)


def _sample(idx: DiskFile, size: int, width: int) -> bytes:
    """Some rows from everywhere in the first `size` bytes of the index, and the last ones."""
    length = ROW_SIZES[width]
    step = max(1, size // length // _SAMPLE) * length
    last = max(0, size - _SAMPLE * length)
    rows = [idx.read(length, at) for at in range(0, last, step)]
    return b"".join(rows) + idx.read(size - last, last)


def _is_right(rows: bytes, scanner: Scanner, superblock: SuperBlock, width: int) -> bool:
    checked = check_index(rows, scanner, superblock.size, width=width, default=width)
    return not checked.foreign and not checked.dropped and checked.offset_width == width
