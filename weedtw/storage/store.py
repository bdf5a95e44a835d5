"""All volumes of a volume server, in one or several folders.

Every method may be called from any thread.  Looking a volume up takes no lock; making and deleting take turns.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final, Literal

from weedtw.config.folders import require_parents
from weedtw.errors import NoRoom, NotEmpty, StorageError, VolumeExists, VolumeNotFound, WeedError
from weedtw.formats.collection import check_collection
from weedtw.formats.replication import NO_REPLICATION, ReplicaPlacement
from weedtw.formats.ttl import NO_TTL, Ttl
from weedtw.storage.lifecycle import remove_files
from weedtw.storage.location import DiskLocation, FolderSpace
from weedtw.storage.names import MAX_VOLUME_ID, VolumeFiles
from weedtw.storage.report import Problem, Repair, VolumeStat
from weedtw.storage.vacuum import Compaction, compact
from weedtw.storage.volume import Volume

ChangeKind = Literal["added", "removed", "changed"]

_DEFAULT_SIZE_LIMIT: Final = 30 << 30
_LONGEST_GRACE: Final = 600.0  # seconds for which a volume is kept at most after its time to live


class Store:
    """The volumes of one server.

    `changed` is called, in whatever thread it happens, when a volume is made, is deleted, or turns (or ceases to be)
    read-only; it must not raise.
    """

    def __init__(
        self,
        locations: Sequence[DiskLocation],
        *,
        clock: Callable[[], float],
        changed: Callable[[ChangeKind, VolumeStat], None] | None = None,
    ) -> None:
        """Nothing is touched before `open`.  `clock` tells unix time in seconds."""
        self.locations = tuple(locations)
        self.volume_size_limit = _DEFAULT_SIZE_LIMIT  # bytes; as the master says
        self._clock = clock
        self._changed = changed
        self._lock = threading.Lock()  # for making and deleting volumes and vacuums
        self._compactions: dict[int, Compaction] = {}
        for number, location in enumerate(self.locations):
            location.disk_id = number

    # -------------------------------------------------------------- opening and closing

    def open(self) -> None:
        """Take the folders and open every volume in them; see `repairs` and `problems`.

        Raises FolderInUse, and StorageError when a folder cannot be used; then none is held.
        """
        try:
            self.lock()
            self.load()
        except WeedError:
            self.close()
            raise

    def lock(self) -> None:
        """The first half of `open`: take the folders, see `made`.  Quick; raises as `open` does."""
        require_parents(folder for location in self.locations for folder in location.folders)
        held: dict[str, bool] = {}
        for location in self.locations:
            location.lock(held)

    def load(self) -> None:
        """The second half of `open`: open the volumes.  Takes as long as reading all indexes does."""
        claims: dict[int, list[tuple[DiskLocation, VolumeFiles]]] = {}
        index_folders = {os.path.realpath(each.idx_folder) for each in self.locations if each.idx_folder}
        for location in self.locations:
            shared = os.path.realpath(location.folder) in index_folders
            for files in location.find_files(holds_other_indexes=shared):
                claims.setdefault(files.volume_id, []).append((location, files))
        wanted: dict[int, list[VolumeFiles]] = {location.disk_id: [] for location in self.locations}
        for claimants in claims.values():
            # Several volumes of one id: the one with most data is served, the others stay as they are.
            (location, files), *others = sorted(claimants, key=lambda claim: -_dat_size(claim[1]))
            wanted[location.disk_id].append(files)
            for other, unserved in others:
                other.report(unserved, f"volume {files.volume_id} is served from {files.dat}, this one is not")
        for location in self.locations:
            location.open_volumes(wanted[location.disk_id])
            for volume in location.volumes.values():
                volume.on_change = self._volume_changed

    def close(self) -> list[StorageError]:
        """Put everything on the disks and let go of it; return what went wrong with that."""
        with self._lock:
            self._compactions.clear()
            return [failure for location in self.locations for failure in location.close()]

    # -------------------------------------------------------------- what there is

    def find(self, volume_id: int) -> Volume:
        """The volume of that id; raises VolumeNotFound."""
        volume = self.at_hand(volume_id)
        if volume is None:
            raise VolumeNotFound(volume_id)
        return volume

    def at_hand(self, volume_id: int) -> Volume | None:
        """The volume of that id, None when it is not here."""
        for location in self.locations:
            volume = location.volumes.get(volume_id)
            if volume is not None:
                return volume
        return None

    def volumes(self) -> list[Volume]:
        """All volumes, by id."""
        found = [volume for location in self.locations for volume in list(location.volumes.values())]
        return sorted(found, key=lambda volume: volume.id)

    def stats(self) -> list[VolumeStat]:
        """The state of every volume, by id."""
        found = []
        for volume in self.volumes():
            with contextlib.suppress(StorageError):  # deleted in this moment
                found.append(volume.info())
        return found

    @property
    def max_volumes(self) -> int:
        """How many volumes there may be; raises StorageError when a disk cannot be asked."""
        return sum(location.slots(self.volume_size_limit) for location in self.locations)

    @property
    def max_key(self) -> int:
        """The largest key of any needle."""
        return max((stat.max_key for stat in self.stats()), default=0)

    @property
    def uuids(self) -> tuple[str, ...]:
        """The ids of the folders."""
        return tuple(location.uuid for location in self.locations)

    @property
    def made(self) -> list[str]:
        """The folders that had to be made when they were taken."""
        return [folder for location in self.locations for folder in location.made]

    @property
    def repairs(self) -> list[Repair]:
        """What was mended when the folders were opened."""
        return [repair for location in self.locations for repair in location.repairs]

    @property
    def problems(self) -> list[Problem]:
        """What is in the folders and not served."""
        return [problem for location in self.locations for problem in location.problems]

    def spaces(self) -> list[FolderSpace]:
        """Room on the disk of each folder; raises StorageError."""
        return [location.space() for location in self.locations]

    # -------------------------------------------------------------- making and deleting

    def create_volume(
        self,
        volume_id: int,
        collection: str = "",
        replication: ReplicaPlacement = NO_REPLICATION,
        ttl: Ttl = NO_TTL,
        *,
        disk_type: str | None = None,
    ) -> Volume:
        """Make a volume in the folder with most room for volumes, or return it if it is there already.

        Raises BadCollection, NoRoom, VolumeExists when there is another volume of that id, and StorageError.
        """
        check_collection(collection)
        if not 1 <= volume_id <= MAX_VOLUME_ID:
            raise StorageError(str(volume_id), "a volume id is a number from 1 to 4294967295")
        with self._lock:
            try:
                volume = self.find(volume_id)
            except VolumeNotFound:
                volume = self._place(volume_id, disk_type).create_volume(volume_id, collection, replication, ttl)
            else:
                if (volume.collection, volume.replication, volume.ttl) != (collection, replication, ttl):
                    raise VolumeExists(volume.files.dat, f"volume {volume_id} is there already, {_nature(volume)}")
                return volume
            volume.on_change = self._volume_changed
        self._tell("added", volume.info())
        return volume

    def require_absent(self, volume_id: int) -> None:
        """Raise VolumeExists when there is a volume of that id here, served or not."""
        volume = self.at_hand(volume_id)
        if volume is not None:
            raise VolumeExists(volume.files.dat, f"volume {volume_id} is there already")
        for problem in self.problems:
            if problem.volume_id == volume_id and os.path.exists(problem.path):
                raise VolumeExists(problem.path, f"volume {volume_id} is there already, but not served")

    def adopt(self, location: DiskLocation, files: VolumeFiles) -> Volume:
        """Serve a volume whose files are whole now; raises VolumeExists and StorageError."""
        with self._lock:
            self.require_absent(files.volume_id)
            volume = location.adopt(files)
            volume.on_change = self._volume_changed
        self._tell("added", volume.info())
        return volume

    def roomiest(self, volume_id: int, disk_type: str | None) -> DiskLocation:
        """The folder with most room for volumes; raises NoRoom and VolumeExists."""
        with self._lock:
            return self._place(volume_id, disk_type)

    def _place(self, volume_id: int, disk_type: str | None) -> DiskLocation:
        """Where a new volume goes."""
        for problem in self.problems:
            if problem.volume_id == volume_id:
                raise VolumeExists(problem.path, f"volume {volume_id} is there already, but not served")
        best: tuple[int, DiskLocation] | None = None
        for location in self.locations:
            if location.is_low or disk_type not in {None, location.disk_type}:
                continue
            free = location.slots(self.volume_size_limit) - len(location.volumes)
            if free > 0 and (best is None or free > best[0]):
                best = free, location
        if best is None:
            raise NoRoom(
                f"no folder of this server can take volume {volume_id}: all have their number, or too little room"
            )
        return best[1]

    def delete_volume(self, volume_id: int, *, only_empty: bool = False) -> VolumeStat:
        """Delete a volume with all its files; raises VolumeNotFound and StorageError.

        With `only_empty` NotEmpty is raised for one that was ever written to.
        """
        with self._lock:
            volume = self.find(volume_id)
            stat = volume.info()
            if only_empty and stat.file_count:
                raise NotEmpty(volume.generation.dat.path, f"volume {volume_id} holds files")
            self._remove(volume)
        self._tell("removed", stat)
        return stat

    def delete_collection(self, name: str) -> list[VolumeStat]:
        """Delete all volumes of a collection, which may be none; raises BadCollection and StorageError.

        The default collection has no name and cannot be deleted as a whole.
        """
        if not check_collection(name):
            raise StorageError("", "the default collection cannot be deleted as a whole")
        return [self.delete_volume(volume.id) for volume in self.volumes() if volume.collection == name]

    def remove_expired(self) -> list[VolumeStat]:
        """Delete the volumes whose time to live is over, a tenth of it (at most ten minutes) after the fact.

        Raises StorageError when files cannot be removed.
        """
        removed = []
        for volume in self.volumes():
            if _is_over(volume, self._clock()):
                with contextlib.suppress(VolumeNotFound):  # somebody else has just deleted it
                    removed.append(self.delete_volume(volume.id))
        return removed

    def _remove(self, volume: Volume) -> None:
        self._compactions.pop(volume.id, None)
        for location in self.locations:
            if location.volumes.get(volume.id) is volume:
                del location.volumes[volume.id]
        volume.drop()
        try:
            remove_files(volume.files, volume.ops)
        except OSError as error:
            raise StorageError(volume.files.dat, f"cannot be removed: {error.strerror or error}") from error

    # -------------------------------------------------------------- looking after it

    def check_disks(self) -> None:
        """Stop and resume writes by the room on the disks, and where files have gone; call it now and then.

        Raises StorageError, the first one, when everything has been looked at.
        """
        failures: list[StorageError] = []
        for check in (
            *(location.check_space for location in self.locations),
            *(volume.check_files for volume in self.volumes()),
        ):
            try:
                check()
            except StorageError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def sync(self) -> None:
        """Put everything on the disks; raises WriteFailed."""
        for volume in self.volumes():
            if not volume.closed:
                volume.sync()

    def compact(self, volume_id: int) -> None:
        """The first step of a vacuum: make new files beside the volume's; raises as `vacuum.compact` does."""
        volume = self.find(volume_id)
        if not volume.is_compared:
            raise StorageError(volume.files.dat, "it was not yet compared with its other copies since the start")
        with self._lock:
            old = self._compactions.pop(volume_id, None)
        if old is not None:
            old.cleanup()
        made = compact(volume)
        with self._lock:
            self._compactions[volume_id] = made

    def is_compacted(self, volume_id: int) -> bool:
        """Whether there is something to commit."""
        with self._lock:
            return volume_id in self._compactions

    def commit(self, volume_id: int) -> VolumeStat:
        """The second: put them in place; raises StorageError when there are none, and WriteFailed."""
        volume = self.find(volume_id)
        self._taken_compaction(volume).commit()
        return volume.info()

    def cleanup(self, volume_id: int) -> None:
        """Instead of the second: throw them away, if there are any."""
        volume = self.find(volume_id)
        with self._lock:
            compaction = self._compactions.pop(volume.id, None)
        if compaction is not None:
            compaction.cleanup()

    def _taken_compaction(self, volume: Volume) -> Compaction:
        with self._lock:
            compaction = self._compactions.pop(volume.id, None)
        if compaction is None:
            raise StorageError(volume.files.compacted_dat, "there is no vacuum to be completed")
        return compaction

    # -------------------------------------------------------------- telling

    def _volume_changed(self, volume: Volume) -> None:
        if not volume.closed:
            self._tell("changed", volume.info())

    def _tell(self, kind: ChangeKind, stat: VolumeStat) -> None:
        if self._changed is not None:
            self._changed(kind, stat)


def _nature(volume: Volume) -> str:
    """What a volume was made as, for people."""
    lives = f"ttl {volume.ttl}" if volume.ttl else "no ttl"
    return f"of collection {volume.collection!r}, replication {volume.replication}, {lives}"


def _dat_size(files: VolumeFiles) -> int:
    return os.path.getsize(files.dat) if os.path.exists(files.dat) else -1


def _is_over(volume: Volume, now: float) -> bool:
    """Whether nothing in a volume with a time to live can be alive any more; if so it takes no writes from now on."""
    with volume.lock:
        if volume.closed or not volume.ttl:
            return False
        generation = volume.generation
        seconds = volume.ttl.seconds
        grace = min(seconds / 10, _LONGEST_GRACE)
        if generation.dat_size <= generation.superblock.size or now < volume.modified_at + seconds + grace:
            return False
        volume.causes.set("operator", "its time to live is over")
    return True
