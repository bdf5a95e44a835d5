"""One data folder of a volume server, with the volumes in it."""

import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import attrs

from weedtw.config.folders import make_folder
from weedtw.config.model import IndexKind
from weedtw.errors import StorageError
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.storage.fileops import DiskSpace, FileOps, write_whole
from weedtw.storage.folderlock import FolderLock
from weedtw.storage.lifecycle import finish_removal, is_leaving
from weedtw.storage.names import VolumeFiles, volume_of
from weedtw.storage.report import Problem, Repair
from weedtw.storage.volume import Volume

UUID_NAME: Final = "vol_dir.uuid"
_LONGEST_UUID: Final = 100  # characters
_OPENERS: Final = 4  # threads that open volumes at the same time: they mostly wait for the disk


class FreeSpaceFloor(Protocol):
    """How much room a disk has to keep free."""

    def is_low(self, *, free: int, total: int) -> bool:
        """Whether a disk of `total` bytes with `free` bytes left has too little left."""


@attrs.frozen
class NoFloor:
    """No room needs to be kept free."""

    def is_low(self, *, free: int, total: int) -> bool:  # noqa: ARG002
        """Never."""
        return False


@attrs.frozen
class FolderSpace:
    """Disk usage of a folder, in bytes."""

    folder: str
    total: int
    used: int
    free: int


@attrs.define(eq=False)
class DiskLocation:
    """A folder that belongs to this process from `open` to `close`."""

    folder: str
    max_volumes: int = 8  # 0: as many as there is room for
    idx_folder: str | None = None  # None: the index lies beside the data
    min_free_space: FreeSpaceFloor = NoFloor()
    disk_type: str = ""
    disk_id: int = 0
    clock: Callable[[], float] = attrs.field(kw_only=True)  # unix seconds
    ops: FileOps = attrs.field(factory=FileOps, kw_only=True)
    offset_width: int = attrs.field(default=4, kw_only=True)  # of new volumes, bytes
    index: IndexKind = attrs.field(default="memory", kw_only=True)  # where needle maps are kept
    uuid: str = attrs.field(default="", init=False)  # of the folder, once it is open
    volumes: dict[int, Volume] = attrs.field(factory=dict, init=False)  # those that are served
    problems: list[Problem] = attrs.field(factory=list, init=False)  # what is here and not served
    repairs: list[Repair] = attrs.field(factory=list, init=False)
    made: list[str] = attrs.field(factory=list, init=False)  # folders that were not there
    is_low: bool = attrs.field(default=False, init=False)  # whether the disk has too little room
    free: int = attrs.field(default=0, init=False)  # bytes, when that was last looked at
    _locks: list[FolderLock] = attrs.field(factory=list, init=False)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folder of the data, and that of the indexes if it is another."""
        return tuple(dict.fromkeys(filter(None, (self.folder, self.idx_folder))))

    def lock(self, held: dict[str, bool]) -> None:
        """Make the folders this process's own; raises FolderInUse, and StorageError when one cannot be used.

        One that is not there is made, if what it lies in is there.  `held` are those that are this process's own
        already, with whether they are used for data; those taken here are added.
        """
        for folder in self.folders:
            if make_folder(folder):
                self.made.append(folder)
            name = os.path.realpath(folder)
            is_for_data = folder == self.folder
            if is_for_data and held.get(name):
                raise StorageError(folder, "the folder is given twice")
            if name not in held:
                self._locks.append(FolderLock(folder))
            held[name] = held.get(name, False) or is_for_data
        self.uuid = self._read_uuid()

    def find_files(self, *, holds_other_indexes: bool = False) -> list[VolumeFiles]:
        """The volumes that there are in the folder, after what was being deleted is gone.  Raises StorageError.

        `holds_other_indexes` is whether an index without data may belong to another folder's volume.
        """
        try:
            names = os.listdir(self.folder)  # an index folder may serve other folders as well
            if holds_other_indexes:
                names = [name for name in names if not name.endswith(".idx")]
            found = sorted({volume for name in names if (volume := volume_of(name)) is not None})
            located = [VolumeFiles.locate(self.folder, self.idx_folder, *volume) for volume in found]
            for files in located:
                self.repairs += finish_removal(files, self.ops)
        except OSError as error:
            raise StorageError(self.folder, f"cannot be listed: {error.strerror or error}") from error
        return [files for files in located if self._is_usable(files)]

    def _is_usable(self, files: VolumeFiles) -> bool:
        if is_leaving(files) or not any(map(os.path.exists, (files.dat, files.idx, files.vif))):
            return False
        if os.path.exists(files.arriving) and not os.path.exists(files.dat):
            return False  # a copy was coming in, see `incoming`; it goes on when somebody asks for it again
        if os.path.exists(files.note):
            self.report(files, "a copy of this volume was under way (.note); it is not complete")
            return False
        if not os.path.exists(files.dat) and os.path.exists(files.dat.removesuffix(".dat") + ".ecx"):
            self.report(files, "an erasure-coded volume, which is not supported")
            return False
        return True

    def open_volumes(self, wanted: list[VolumeFiles]) -> None:
        """Open these volumes; one that cannot be opened is reported in `problems`."""
        with ThreadPoolExecutor(_OPENERS, thread_name_prefix="open-volume") as openers:
            for files, opened in zip(wanted, openers.map(self._open, wanted), strict=True):
                if isinstance(opened, StorageError):
                    self.report(files, opened.reason)
                else:
                    self.volumes[opened.id] = opened
                    self.repairs += opened.repairs
        self.check_space()

    def _open(self, files: VolumeFiles) -> Volume | StorageError:
        try:
            return Volume.open(
                files,
                clock=self.clock,
                offset_width=self.offset_width,
                ops=self.ops,
                disk_id=self.disk_id,
                disk_type=self.disk_type,
                index=self.index,
            )
        except StorageError as error:
            return error

    def create_volume(self, volume_id: int, collection: str, replication: ReplicaPlacement, ttl: Ttl) -> Volume:
        """Make a new volume; raises StorageError."""
        volume = Volume.create(
            self.folder,
            self.idx_folder,
            collection,
            volume_id,
            replication=replication,
            ttl=ttl,
            offset_width=self.offset_width,
            clock=self.clock,
            ops=self.ops,
            disk_id=self.disk_id,
            disk_type=self.disk_type,
            index=self.index,
        )
        self.volumes[volume_id] = volume
        self._mark(volume)
        return volume

    def adopt(self, files: VolumeFiles) -> Volume:
        """Open a volume whose files have come in; raises StorageError."""
        opened = self._open(files)
        if isinstance(opened, StorageError):
            raise opened
        self.volumes[opened.id] = opened
        self._mark(opened)
        return opened

    def report(self, files: VolumeFiles, reason: str) -> None:
        """Note that a volume is here and not served."""
        self.problems.append(Problem(files.volume_id, files.collection, files.dat, reason))

    # -------------------------------------------------------------- room

    def space(self) -> FolderSpace:
        """Room on the folder's disk; raises StorageError."""
        found = self._disk_space()
        return FolderSpace(self.folder, found.total, found.used, found.free)

    def check_space(self) -> None:
        """Stop writes to all volumes while the disk has less room than is to be kept free, and let them go on after.

        A volume that met the end of the disk goes on when there is room again.  Raises StorageError.
        """
        space = self._disk_space()
        self.free = space.free
        self.is_low = self.min_free_space.is_low(free=space.free, total=space.total)
        for volume in list(self.volumes.values()):
            self._mark(volume)
            if "full disk" in volume.causes.reasons and not self.is_low and space.free > _room_to_go_on(volume):
                volume.set_read_only(None, cause="full disk")

    def slots(self, volume_size_limit: int) -> int:
        """How many volumes there may be in all; with `max_volumes` 0, those here and what the disk has room for."""
        if self.max_volumes:
            return self.max_volumes
        sizes = [volume.generation.dat_size for volume in list(self.volumes.values()) if not volume.closed]
        promised = sum(max(0, volume_size_limit - size) for size in sizes)
        return len(sizes) + max(0, self._disk_space().free - promised) // max(1, volume_size_limit)

    def _mark(self, volume: Volume) -> None:
        reason = f"{self.folder}: the disk has less room than is to be kept free" if self.is_low else None
        if volume.causes.reasons.get("low space") != reason:
            volume.set_read_only(reason, cause="low space")

    def _disk_space(self) -> DiskSpace:
        try:
            return self.ops.disk_space(self.folder)
        except OSError as error:
            raise StorageError(self.folder, f"cannot be asked for its room: {error.strerror or error}") from error

    # -------------------------------------------------------------- the rest

    def close(self) -> list[StorageError]:
        """Close all volumes and let go of the folder; return what went wrong with that."""
        failures = []
        for volume in self.volumes.values():
            try:
                volume.close()
            except StorageError as error:
                failures.append(error)
        self.volumes.clear()
        for lock in self._locks:
            lock.release()
        self._locks.clear()
        return failures

    def _read_uuid(self) -> str:
        """The folder's id, made the first time; raises StorageError."""
        path = os.path.join(self.folder, UUID_NAME)
        try:
            if os.path.exists(path):
                with open(path, encoding="ascii", errors="replace") as file:
                    text = file.read().strip()
                if text and not (text.isascii() and text.isprintable() and len(text) <= _LONGEST_UUID):
                    raise StorageError(path, "this is not the id of a folder; remove it, and a new one is made")
                if text:
                    return text
            made = str(uuid.uuid4())
            write_whole(self.ops, path, made.encode())
        except OSError as error:
            raise StorageError(path, f"cannot be read or made: {error.strerror or error}") from error
        return made


def _room_to_go_on(volume: Volume) -> int:
    """Bytes that have to be free before a volume that met the end of the disk takes writes again."""
    return min(64 << 20, max(1 << 20, volume.generation.dat_size // 100))
