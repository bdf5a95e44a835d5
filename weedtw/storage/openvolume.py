"""What reading and writing a volume stand on: its open files, whether it may be written, and what is on the disk.

One lock lets changes take turns.  Every change goes through `_changing`, or does the same by itself: whoever appends
holds the lock, says `changed` or `failed`, and calls `tell` without the lock.
"""

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import attrs

from weedtw.config.model import IndexKind
from weedtw.errors import ReadOnlyVolume, StorageError, WriteFailed
from weedtw.formats.ttl import Ttl
from weedtw.storage.causes import Cause, Causes
from weedtw.storage.fileops import FileOps, write_whole
from weedtw.storage.generation import AppendFailed, Generation
from weedtw.storage.groupcommit import GroupCommit
from weedtw.storage.recovery import OpenedVolume
from weedtw.storage.report import VolumeStat

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
_FOR_GOOD: Final = (errno.EFBIG, errno.EROFS)  # errors of writes that the next one will meet as well
_MOST_REFUSALS: Final = 3  # writes in a row that fail in any other way before no more are tried
_NS: Final = 10**9


class OpenVolume:
    """A volume's files, lock and state.

    Times are unix seconds, sizes and offsets bytes unless the name says otherwise.
    """

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
        """Take over opened files."""
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
        self.on_change: Callable[[Any], None] | None = None  # called when it turns, or ceases to be, read-only
        self.open_generation: Generation | None = opened.generation  # None once the volume is closed
        told, superblock = self.vif.replication, opened.generation.superblock
        self.replication: Final = superblock.replication if told is None else told  # where the copies go
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

    # -------------------------------------------------------------- what it is

    @property
    def generation(self) -> Generation:
        """The current files and map; raises StorageError when the volume is closed."""
        if self.open_generation is None:
            raise StorageError(self.files.dat, "the volume is closed")
        return self.open_generation

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.open_generation is None

    @property
    def version(self) -> int:
        """Of the volume's records: 1, 2 or 3."""
        return self.generation.version

    @property
    def ttl(self) -> Ttl:
        """How long files live that say nothing themselves."""
        return self.generation.superblock.ttl

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

    # -------------------------------------------------------------- keeping it

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
            if self.open_generation is None:
                return
            files = self.files
            named = (  # a vacuum whose last step failed leaves the second name; the next start completes that
                (self.open_generation.dat, files.dat, files.compacted_dat),
                (self.open_generation.idx, files.idx, files.compacted_idx),
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
        self.open_generation = generation

    def close(self) -> None:
        """Put everything on the disk and let go of the files; raises WriteFailed when that fails.

        Readers that are under way finish.  Closing twice is the same as once.
        """
        try:
            if self.open_generation is not None and "damage" not in self.causes.reasons and not self._commits.is_idle:
                self.sync()
        finally:
            with self.lock:
                self.open_generation = None

    def drop(self) -> None:
        """Let go of the files without putting anything on the disk: they are about to be deleted."""
        with self.lock:
            self.open_generation = None

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
        ticket = self._commits.written = self._commits.written + 1  # as `wrote`, without the call
        return ticket

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
