"""A volume: many files (needles) in one large file, appended and never changed in place.

Who may do what at the same time: any number of threads may read; writes, deletions and the last step of a vacuum
take turns under one lock.  A reader takes the volume's current generation, that is data file, index file and needle
map, as one object; a vacuum replaces that object, and the old files stay open until their last reader is done.

A write is complete when its record is in .dat and its row in .idx.  When either fails both files are cut back, so
that the volume is as it was.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

import attrs

from weedtw.config.model import IndexKind
from weedtw.errors import CookieMismatch, Damaged, NeedleNotFound, StorageError
from weedtw.formats.needle import Needle, body_size, etag, record_length, unpack, unpack_header
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.superblock import SuperBlock
from weedtw.formats.ttl import NO_TTL, Ttl
from weedtw.storage.fileops import Buffer, FileOps
from weedtw.storage.generation import Generation
from weedtw.storage.lifecycle import make_files, remove_made
from weedtw.storage.names import VolumeFiles
from weedtw.storage.needlemap import Place
from weedtw.storage.openvolume import OpenVolume
from weedtw.storage.recovery import open_files, open_made
from weedtw.storage.undo import Deleted, Undo, Written, hidden_by, is_named, undo_of

__all__ = ["Deleted", "Volume", "Written"]

_LARGEST_CACHED: Final = 1 << 19  # bytes of a record that is checked and handed out at once
_NS: Final = 10**9


class Volume(OpenVolume):
    """One volume, open.  Times are unix seconds, sizes and offsets bytes unless the name says otherwise."""

    @classmethod
    def create(
        cls,
        folder: str,
        idx_folder: str | None,
        collection: str,
        volume_id: int,
        *,
        replication: ReplicaPlacement,
        ttl: Ttl = NO_TTL,
        offset_width: int = 4,
        clock: Callable[[], float],
        ops: FileOps | None = None,
        disk_id: int = 0,
        disk_type: str = "",
        index: IndexKind = "memory",
    ) -> Self:
        """Make the files of a new volume, durable, and open it; raises StorageError, also when it exists."""
        files = VolumeFiles.locate(folder, idx_folder, collection, volume_id)
        ops = ops or FileOps()
        superblock = SuperBlock(replication=replication, ttl=ttl)
        try:
            info = make_files(files, ops, superblock, offset_width=offset_width, now=clock())
            opened = open_made(files, ops, info, superblock, index)
        except OSError as error:
            remove_made(files)
            raise StorageError(files.dat, f"the volume cannot be made: {error.strerror or error}") from error
        except StorageError:
            remove_made(files)
            raise
        return cls(opened, clock=clock, ops=ops, disk_id=disk_id, disk_type=disk_type, index=index)

    @classmethod
    def open(
        cls,
        files: VolumeFiles,
        *,
        clock: Callable[[], float],
        offset_width: int = 4,
        ops: FileOps | None = None,
        disk_id: int = 0,
        disk_type: str = "",
        index: IndexKind = "memory",
    ) -> Self:
        """Open a volume and mend what a crash left, see `repairs`.

        `offset_width` counts where the files do not tell.  Raises StorageError when it cannot be opened at all.
        """
        ops = ops or FileOps()
        opened = open_files(files, ops, offset_width=offset_width, now_ns=int(clock() * _NS), index=index)
        return cls(opened, clock=clock, ops=ops, disk_id=disk_id, disk_type=disk_type, index=index)

    # -------------------------------------------------------------- reading

    def read(self, key: int, cookie: int, *, read_deleted: bool = False, verify: bool = True) -> Needle:
        """Read a file; `data` is a view of a buffer of its own.

        Raises NeedleNotFound when there is none (or it is expired), CookieMismatch, and Damaged.  With `read_deleted`
        a deleted one is read as well, as long as no vacuum took it.
        """
        generation = self.generation
        place = generation.needles.find(key)
        if place is None or (place.deleted and not read_deleted):
            raise NeedleNotFound(self.id, key)
        with self._reading(place):
            record = generation.record(place)
        return self._needle(generation, record, key, cookie, place, verify)

    def try_read_cached(self, key: int, cookie: int) -> Needle | None:
        """As `read`, but never waits for a disk: None when it would have to, or when the file is large."""
        generation = self.generation
        place = generation.needles.get(key)
        if place is None:
            raise NeedleNotFound(self.id, key)
        length = record_length(place.size, generation.version)
        if length > _LARGEST_CACHED:
            return None
        try:
            record = generation.dat.read_cached(length, place.offset)
        except OSError:
            return None  # a file system that cannot do this; or a disk error, which `read` will meet and name
        return None if record is None else self._needle(generation, record, key, cookie, place, True)

    def has(self, key: int) -> bool:
        """Whether there is a live needle of that key, expired or not."""
        return self.generation.needles.get(key) is not None

    def knows(self, key: int) -> bool:
        """Whether there is a needle of that key, or was one since the last vacuum."""
        return self.generation.needles.find(key) is not None

    def has_expired(self, needle: Needle) -> bool:
        """Whether the needle's time to live, or the volume's if it has none of its own, is over."""
        ttl = needle.ttl or self.ttl
        if not ttl:
            return False
        since = needle.append_at_ns if self.version == 3 else (needle.last_modified or 0) * _NS
        return since > 0 and self.clock() * _NS >= since + ttl.seconds * _NS

    def _needle(
        self, generation: Generation, record: Buffer, key: int, cookie: int, place: Place, verify: bool
    ) -> Needle:
        path = generation.dat.path
        found_cookie, found_key, found_size = unpack_header(record, path=path)
        if (found_key, found_size) != (key, place.size):
            reason = f"at {place.offset} is not the needle {key:x} of size {place.size} that the index says is there"
            raise Damaged(path, reason)
        if found_cookie != cookie:
            raise CookieMismatch(self.id, key)
        needle = unpack(memoryview(record), generation.version, path=path, verify=verify)
        if self.has_expired(needle):
            raise NeedleNotFound(self.id, key)
        return needle

    @contextmanager
    def _reading(self, place: Place) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"cannot be read at {place.offset}: {error.strerror or error}"
            raise Damaged(self.files.dat, reason) from error

    # -------------------------------------------------------------- writing

    def write(self, needle: Needle, *, fsync: bool = False, time_given: bool = True) -> Written:
        """Store a file, over the one with the same key if there is one.

        When the very same is there already, data and all that is known about it, nothing is written; but what has a
        time to live always is, because that renews it.  `time_given` is false when `last_modified` is not the
        client's word but the time of the upload; then it makes no difference.  With `fsync` the file is on the disk
        on return.

        Raises CookieMismatch when the key is taken, ReadOnlyVolume, VolumeFull, and WriteFailed: then nothing was
        kept (but if it was the fsync that failed nobody knows, and the volume takes no more writes).
        """
        needle = self._completed(needle)
        with self._changing(fsync) as generation:
            previous = generation.needles.get(needle.key)
            if previous is not None:
                self._require_cookie(generation, needle.key, needle.cookie, previous)
                if self._is_same(generation, needle, previous, time_given):
                    return Written(previous.offset, previous.size, etag(needle.checksum), unchanged=True)
            place, stamp = generation.put(needle, self._now_ns())
            undo = undo_of(generation, needle.key, needle.cookie, place, previous, stamp)
        return Written(place.offset, place.size, etag(needle.checksum), undo=undo)

    def delete(self, key: int, cookie: int, *, fsync: bool = False) -> Deleted | None:
        """Delete a file; None when there was none.

        Raises CookieMismatch, ReadOnlyVolume, VolumeFull and WriteFailed as `write` does.
        """
        with self._changing(fsync, deleting=True) as generation:
            place = generation.needles.get(key)
            if place is None:
                return None
            self._require_cookie(generation, key, cookie, place)
            undo = undo_of(generation, key, cookie, place, place, generation.append_at_ns(place))
            generation.delete(key, cookie, place, self._now_ns())
        return Deleted(place.size, undo)

    def revert(self, undo: Undo, *, fsync: bool = False) -> bool:
        """Take back a write or a deletion, so that what it hid is there again.

        False when a later change has replaced it since, or when the needle that was deleted is gone for good.  What
        was hidden is appended once more, or a deletion if that was nothing: so the change lasts, and SeaweedFS
        understands it.  (A time to live starts anew.)  Raises as `write` does.
        """
        with self._changing(fsync, deleting=True) as generation:
            place = generation.needles.find(undo.key)
            if place is None or place.deleted != undo.is_deletion or not is_named(generation, undo, place):
                return False
            hidden = generation.needle(place) if undo.is_deletion else hidden_by(generation, undo, place)
            if hidden is not None and not self.has_expired(hidden):
                generation.put(hidden, self._now_ns())
            elif not undo.is_deletion:
                generation.delete(undo.key, undo.cookie, place, self._now_ns())
            else:
                return False
        return True

    def take_over(self, key: int, known: Place | None, needle: Needle | None) -> bool:
        """Make of a key what another copy has: that needle, or none.

        False when it is not any more at the place where it was known to be.  Raises as `write` does.
        """
        with self._changing(False, deleting=True) as generation:
            place = generation.needles.find(key)
            if place != known:
                return False
            if needle is not None:
                generation.put(needle, self._now_ns())
            elif place is not None and not place.deleted:
                generation.delete(key, generation.cookie(place), place, self._now_ns())
        return True

    def _now_ns(self) -> int:
        return int(self.clock() * _NS)

    def _completed(self, needle: Needle) -> Needle:
        """The needle as it is stored: with the volume's time to live; and with what tells that it has no data."""
        if self.ttl and not needle.ttl:
            needle = attrs.evolve(needle, ttl=self.ttl)
        if not len(needle.data):
            # A time keeps its record from being taken for a deletion, see `scan`.
            modified = int(self.clock()) if needle.last_modified is None else needle.last_modified
            needle = attrs.evolve(needle, checksum=0, last_modified=modified)
        return needle

    def _require_cookie(self, generation: Generation, key: int, cookie: int, place: Place) -> None:
        if generation.cookie(place) != cookie:
            raise CookieMismatch(self.id, key)

    def _is_same(self, generation: Generation, needle: Needle, place: Place, time_given: bool) -> bool:
        if needle.ttl or place.size != body_size(needle, generation.version):
            return False
        stored = generation.needle(place)
        if stored is None or stored.ttl or stored.data != needle.data:
            return False
        if time_given and stored.last_modified != needle.last_modified:
            return False
        if not len(needle.data):
            return True
        known = (needle.name, needle.mime, needle.pairs, needle.flags)
        return (stored.name, stored.mime, stored.pairs, stored.flags) == known
