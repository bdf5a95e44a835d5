"""A volume: many files (needles) in one large file, appended and never changed in place.

Who may do what at the same time: any number of threads may read; writes, deletions and the last step of a vacuum
take turns under one lock.  A reader takes the volume's current generation, that is data file, index file and needle
map, as one object; a vacuum replaces that object, and the old files stay open until their last reader is done.

A write is complete when its record is in .dat and its row in .idx.  When either fails both files are cut back, so
that the volume is as it was.
"""

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Self

import attrs

from weedtw.config.model import IndexKind
from weedtw.errors import CookieMismatch, Damaged, NeedleNotFound, ReadOnlyVolume, StorageError, WriteFailed
from weedtw.formats.needle import Needle, body_size, etag, record_length, unpack, unpack_header
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.superblock import SuperBlock
from weedtw.formats.ttl import NO_TTL, Ttl
from weedtw.storage.causes import Cause, Causes
from weedtw.storage.fileops import Buffer, FileOps, write_whole
from weedtw.storage.generation import AppendFailed, Generation
from weedtw.storage.groupcommit import GroupCommit
from weedtw.storage.lifecycle import make_files, remove_made
from weedtw.storage.names import VolumeFiles
from weedtw.storage.needlemap import Place
from weedtw.storage.recovery import OpenedVolume, open_files, open_made
from weedtw.storage.report import VolumeStat
from weedtw.storage.undo import Deleted, Undo, Written, hidden_by, is_named, undo_of

__all__ = ["Deleted", "Volume", "Written"]

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
_FOR_GOOD: Final = (errno.EFBIG, errno.EROFS)  # errors of writes that the next one will meet as well
_MOST_REFUSALS: Final = 3  # writes in a row that fail in any other way before no more are tried
_LARGEST_CACHED: Final = 1 << 19  # bytes of a record that is checked and handed out at once
_NS: Final = 10**9


class Volume:
    """One volume, open.  Times are unix seconds, sizes and offsets bytes unless the name says otherwise."""

    def __init__(
        self,
        opened: OpenedVolume,
        *,
        clock: Callable[[], float],
        ops: FileOps,
        disk_id: int = 0,
        disk_type: str = "",
        index: IndexKind = "memory",
    ) -> None:
        """Take over opened files; use `create` or `open`."""
        self.files = opened.files
        self.id = opened.files.volume_id
        self.collection = opened.files.collection
        self.repairs = tuple(opened.repairs)
        self.vif = opened.info
        self.disk_id = disk_id
        self.disk_type = disk_type
        self.index: IndexKind = index  # where the needle map is kept
        self.is_compared = True  # with its other copies; until then it is not vacuumed
        self.ops = ops
        self.clock = clock
        self.lock = threading.Lock()
        self.causes = Causes()
        self.on_change: Callable[[Volume], None] | None = None  # called when it turns, or ceases to be, read-only
        self._generation: Generation | None = opened.generation
        # Of the last change, unix seconds.
        self.modified_at = opened.generation.last_append_at_ns / _NS or opened.generation.dat.modified_at()
        self._commits = GroupCommit()
        self._refusals = 0  # writes in a row that the disk refused
        if opened.distrust:
            self.causes.set("damage", opened.distrust)
        if self.version == 1:
            self.causes.set(
                "version", "volumes of version 1 cannot hold what is known about a file and are only read"
            )
        if self.vif.read_only:
            self.causes.set("operator", "set read-only by an operator")
        self.causes.untold = False

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

    # -------------------------------------------------------------- what it is

    @property
    def generation(self) -> Generation:
        """The current files and map; raises StorageError when the volume is closed."""
        if self._generation is None:
            raise StorageError(self.files.dat, "the volume is closed")
        return self._generation

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._generation is None

    @property
    def version(self) -> int:
        """Of the volume's records: 1, 2 or 3."""
        return self.generation.version

    @property
    def ttl(self) -> Ttl:
        """How long files live that say nothing themselves."""
        return self.generation.superblock.ttl

    @property
    def replication(self) -> ReplicaPlacement:
        """Where the copies go."""
        told = self.vif.replication
        return self.generation.superblock.replication if told is None else told

    @property
    def read_only_reason(self) -> str:
        """Why the volume takes no writes; empty when it does."""
        return self.causes.against(deleting=False)

    def info(self) -> VolumeStat:
        """The state of the volume now."""
        generation = self.generation
        superblock, counters = generation.superblock, generation.needles.counters
        reason = self.read_only_reason
        return VolumeStat(
            id=self.id,
            collection=self.collection,
            size=generation.dat_size,
            file_count=counters.file_count,
            delete_count=counters.deleted_count,
            deleted_bytes=counters.deleted_bytes,
            modified_at=int(self.modified_at),
            compact_revision=superblock.compaction_revision,
            version=superblock.version,
            replication=str(self.replication),
            ttl=str(superblock.ttl),
            read_only=bool(reason),
            read_only_reason=reason,
            offset_width=generation.needles.offset_width,
            disk_id=self.disk_id,
            max_key=counters.max_key,
            disk_type=self.disk_type,
            content_bytes=counters.content_bytes,
        )

    def garbage_ratio(self) -> float:
        """Which share of what was ever put (since the last vacuum) is deleted or overwritten, 0 to 1."""
        counters = self.generation.needles.counters
        return counters.deleted_bytes / counters.content_bytes if counters.content_bytes else 0.0

    def index_rows(self) -> bytes:
        """The index as it is in the file, to compare copies; raises StorageError."""
        try:
            return self.generation.index_rows()  # needs no lock: rows are only ever added
        except OSError as error:
            raise StorageError(self.files.idx, f"cannot be read: {error.strerror or error}") from error

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

    def sync(self) -> None:
        """Return when all that was written so far is on the disk; raises WriteFailed."""
        with self._telling():
            self._sync(self._commits.wrote())

    def set_read_only(
        self,
        reason: str | None,
        *,
        cause: Cause = "operator",
        persist: bool = False,
        note: Mapping[str, object] | None = None,
    ) -> None:
        """Take no more writes for that reason, or no longer refuse them for that cause when None.

        With `persist` it is so at the next start as well; `note` stands in the .vif as long as it is.  Raises
        StorageError when that cannot be written down.
        """
        with self._telling(), self.lock:
            if persist and self.vif.read_only != (reason is not None):
                others = {name: value for name, value in self.vif.others.items() if not name.startswith("weedtw")}
                vif = attrs.evolve(self.vif, read_only=reason is not None, others={**others, **(note or {})})
                try:
                    write_whole(self.ops, self.files.vif, vif.render().encode())
                except OSError as error:
                    raise StorageError(self.files.vif, f"cannot be written: {error.strerror or error}") from error
                self.vif = vif
            self.causes.set(cause, reason)

    def check_files(self) -> None:
        """Take no more writes while the open files are not those that the folder has under their names.

        Somebody has removed or replaced them, or the disk is mounted no more: what is written now is lost at the next
        start.  Raises StorageError when the folder cannot be looked at.
        """
        with self._telling(), self.lock:
            if self._generation is None:
                return
            files = self.files
            named = (  # a vacuum whose last step failed leaves the second name; the next start completes that
                (self._generation.dat, files.dat, files.compacted_dat),
                (self._generation.idx, files.idx, files.compacted_idx),
            )
            try:
                gone = [path for file, path, new in named if file and not (file.is_at(path) or file.is_at(new))]
            except OSError as error:
                raise StorageError(self.files.dat, f"cannot be looked at: {error.strerror or error}") from error
            why = "was removed or replaced while it was in use; what is written now would be lost"
            self.causes.set("lost files", f"{gone[0]} {why}" if gone else None)

    def replace_generation(self, generation: Generation) -> None:
        """Go on with the files that a vacuum made, all of them on the disk.  Call under the lock."""
        self._commits.all_synced(self._commits.wrote())
        self._generation = generation

    def close(self) -> None:
        """Put everything on the disk and let go of the files; raises WriteFailed when that fails.

        Readers that are under way finish.  Closing twice is the same as once.
        """
        try:
            if self._generation is not None and "damage" not in self.causes.reasons and not self._commits.is_idle:
                self.sync()
        finally:
            with self.lock:
                self._generation = None

    def drop(self) -> None:
        """Let go of the files without putting anything on the disk: they are about to be deleted."""
        with self.lock:
            self._generation = None

    # -------------------------------------------------------------- steps of a change

    @contextmanager
    def _changing(self, fsync: bool, *, deleting: bool = False) -> Iterator[Generation]:
        """Hold the lock for a change; then tidy up the map, sync if asked, and tell whom it concerns."""
        with self._telling():
            with self.lock:
                generation = self.generation
                reason = self.causes.against(deleting=deleting)
                if reason:
                    raise ReadOnlyVolume(self.files.dat, reason)
                try:
                    yield generation
                except AppendFailed as error:
                    raise self.failed(error) from error.cause
                except OSError as error:
                    raise WriteFailed(self.files.dat, f"cannot be read: {error.strerror or error}") from error
                ticket = self.changed(self.clock())
            if generation.needles.wants_merge():
                self.merge_map(generation)
            if fsync:
                self._sync(ticket)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Call `on_change` at the end, without the lock, if the volume turned or ceased to be read-only."""
        try:
            yield
        finally:
            self.tell()

    def tell(self) -> None:
        """Call `on_change` if the volume turned or ceased to be read-only.  Call without the lock."""
        if self.causes.untold:
            self.causes.untold = False
            if self.on_change is not None:
                self.on_change(self)

    def changed(self, now: float) -> int:
        """Note that a change was made at that time; what to wait for if it is to be on the disk.  Under the lock."""
        self.modified_at = now
        self._refusals = 0
        return self._commits.wrote()

    def failed(self, failure: AppendFailed) -> WriteFailed:
        """What an append that failed means for the volume, and for whoever wanted it.  Call under the lock."""
        reason = failure.cause.strerror or str(failure.cause)
        self._refusals += 1
        if failure.cause.errno in _NO_SPACE:
            self.causes.set("full disk", "the disk is full")
        elif failure.cause.errno in _FOR_GOOD or self._refusals >= _MOST_REFUSALS:
            self.causes.set("failing disk", f"the disk refuses writes: {reason}")
        if not failure.undone:
            self.causes.set("damage", f"a write failed and could not be taken back: {reason}")
        return WriteFailed(self.files.dat, f"the write failed: {reason}")

    def merge_map(self, generation: Generation) -> None:
        """Move what was written lately into the map's columns, which takes a while, if it is time to."""
        needles = generation.needles
        with self.lock:
            if not needles.wants_merge():
                return  # somebody else is at it
            needles.begin_merge(generation.mark)
        merged = needles.merged()
        with self.lock:
            needles.end_merge(merged)

    def _sync(self, ticket: int) -> None:
        try:
            self._commits.wait(ticket, self._sync_files)
        except OSError as error:
            reason = f"an fsync failed, what was written last may be lost: {error.strerror or error}"
            with self.lock:
                self.causes.set("damage", reason)
            raise WriteFailed(self.files.dat, reason) from error

    def _sync_files(self) -> None:
        generation = self.generation
        generation.dat.sync()
        if generation.idx is not None:
            generation.idx.sync()

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
