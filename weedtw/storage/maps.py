"""The two kinds of needle map, and what both can do.

    memory   16 or 17 bytes a needle, see `needlemap`; loading reads the whole index
    lmdb     in a folder beside the index, see `diskmap`; loading reads what was appended since the last merge

Which one it is says `--index`.  See `needlemap` for what may be called without the volume's lock.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from weedtw.config.model import IndexKind
from weedtw.formats.idx import unpack_rows
from weedtw.storage.fileops import DiskFile
from weedtw.storage.mark import Mark
from weedtw.storage.names import VolumeFiles
from weedtw.storage.needlemap import Counters, Live, NeedleMap, Place


class MapSnapshot(Protocol):
    """A map at one moment."""

    def pieces(self, read: Callable[[int, int], bytes], idx_size: int) -> Iterator[Live]:
        """The needles that were there then, piece by piece; the index had `idx_size` bytes, `read` gives a part."""

    def room(self, version: int) -> tuple[int, int]:
        """(bytes of their records, how many they are), at the most."""

    def close(self) -> None:
        """Let go of it."""


class AnyMap(Protocol):
    """Maps keys to places; both kinds do the same, and raise StorageError where the disk does not let them."""

    offset_width: int
    counters: Counters
    changes: int  # how often something that was there was deleted or written over, since the map is in memory

    def get(self, key: int) -> Place | None:
        """Where the needle is; None when it never was or was deleted."""

    def find(self, key: int) -> Place | None:
        """Where the needle is or, when it was deleted, was; None when it is not known at all."""

    def put(self, key: int, offset: int, size: int) -> Place | None:
        """Note that the needle's record is at `offset`; return where it was before, if it was there."""

    def put_new(self, key: int, offset: int, size: int) -> bool:
        """`put` for a key that `get` does not find; returns what `wants_merge` does."""

    def delete(self, key: int) -> Place | None:
        """Note a tombstone for the key; return where the needle was, if it was there."""

    def items(self) -> Iterator[tuple[int, Place]]:
        """Key and place of every needle that is there, in the order of the offsets.  Call under the lock."""

    def snapshot(self) -> MapSnapshot:
        """The map as it is now.  Call under the lock."""

    def wants_merge(self) -> bool:
        """Whether there is something to be merged, and no merge is under way."""

    def begin_merge(self, mark: Callable[[], Mark]) -> None:
        """Under the lock; `mark` tells how far the index is."""

    def merged(self) -> Any:
        """Without the lock: the long part.  To be given to `end_merge`."""

    def end_merge(self, merged: Any) -> None:
        """Under the lock."""

    def settle(self) -> None:
        """For those who fill the map and have it to themselves: keep it small."""


def load_map(kind: IndexKind, files: VolumeFiles, idx: DiskFile, mark: Mark) -> AnyMap:
    """The map of an index that is known to be right, up to the mark; raises OSError and StorageError.

    Where a map on disk cannot be made, it is one in memory: better a volume that takes memory than none.
    """
    if kind == "lmdb":
        from weedtw.storage import diskmap  # noqa: PLC0415 - lmdb is an extra

        made = diskmap.load(files.map_folder(mark.revision), idx, mark)
        if made is not None:
            return made
    return NeedleMap.from_rows(unpack_rows(idx.read(mark.idx_size, 0), mark.width), mark.width)


def remove_maps(files: VolumeFiles, revision: int, *, keep: bool) -> None:
    """Remove the maps on disk of the revisions before and behind, and of this one unless it is to be kept.

    They are all derived; one that cannot be removed does no harm.
    """
    for other in (revision - 1, revision, revision + 1):
        folder = files.map_folder(other & 0xFFFF)
        if (other != revision or not keep) and os.path.isdir(folder):
            shutil.rmtree(folder, ignore_errors=True)
