"""How much of an index a map on disk holds, and what that index looked like."""

from typing import Final, Self

import attrs
from crc32c import crc32c

from weedtw.storage.fileops import DiskFile

_ENDS: Final = 4096  # bytes at either end of the covered rows that the mark vouches for


@attrs.frozen
class Mark:
    """What a map on disk was made of.  Sizes are bytes."""

    revision: int  # of the volume
    width: int  # bytes of an offset
    idx_size: int  # of the part of the .idx whose rows are in the map
    dat_size: int  # where the last record that they describe ends
    last_append_at_ns: int  # when that was appended
    checksum: int  # of the first and the last of these rows
    counters: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, revision: int, width: int, idx: DiskFile, idx_size: int, dat_size: int, last_append_at_ns: int
    ) -> Self:
        """The mark for the first `idx_size` bytes of an index; raises OSError."""
        return cls(revision, width, idx_size, dat_size, last_append_at_ns, _ends_checksum(idx, idx_size))

    def fits(self, revision: int, width: int, idx: DiskFile, dat_size: int) -> bool:
        """Whether the map was made of this index, or of the first part of it; raises OSError."""
        return (
            (self.revision, self.width) == (revision, width)
            and self.idx_size <= idx.size()
            and self.dat_size <= dat_size
            and self.checksum == _ends_checksum(idx, self.idx_size)
        )


def _ends_checksum(idx: DiskFile, size: int) -> int:
    first, last = min(size, _ENDS), max(0, size - _ENDS)
    return crc32c(idx.read(size - last, last), crc32c(idx.read(first, 0)))
