"""How a volume server describes itself: `/status`, the page for people, and the report for the masters.

All of it looks at disks or waits for locks of volumes, so call it from a thread.
"""

import os
from typing import Any

from weedtw import PRODUCT
from weedtw.errors import StorageError
from weedtw.formats.beat import Disk, VolumeReport
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.storage.location import DiskLocation, FolderSpace
from weedtw.storage.report import VolumeStat
from weedtw.storage.store import Store
from weedtw.volume.standing import Standing


def status_value(store: Store) -> dict[str, Any]:
    """The JSON of `/status`, as SeaweedFS has it, with the reason of each volume that is read-only.

    `Problems` lists what lies in the folders and is not served.  A disk that cannot be asked has an `Error`.
    """
    value: dict[str, Any] = {
        "Version": PRODUCT,
        "DiskStatuses": [_disk_value(location) for location in store.locations],
        "Volumes": [_volume_value(stat) for stat in store.stats()],
    }
    problems = store.problems
    if problems:
        value["Problems"] = [
            {
                "Id": problem.volume_id,
                "Collection": problem.collection,
                "Path": problem.path,
                "Reason": problem.reason,
            }
            for problem in problems
        ]
    return value


def _disk_value(location: DiskLocation) -> dict[str, Any]:
    error = ""
    try:
        space = location.space()
    except StorageError as failure:
        space, error = FolderSpace(location.folder, 0, 0, 0), failure.reason
    total = space.total or 1
    value: dict[str, Any] = {
        "dir": os.path.abspath(space.folder),
        "all": space.total,
        "used": space.used,
        "free": space.free,
        "percent_free": round(100 * space.free / total, 4),
        "percent_used": round(100 * space.used / total, 4),
    }
    return value | ({"Error": error} if error else {})


def _volume_value(stat: VolumeStat) -> dict[str, Any]:
    placement, ttl = ReplicaPlacement.parse(stat.replication), Ttl.parse(stat.ttl)
    copies = {"dc": placement.other_dcs, "rack": placement.other_racks, "node": placement.same_rack}
    value = {
        "Id": stat.id,
        "Collection": stat.collection,
        "DiskType": stat.disk_type,
        "RemoteStorageName": "",
        "Size": stat.size,
        "FileCount": stat.file_count,
        "DeleteCount": stat.delete_count,
        "DeletedByteCount": stat.deleted_bytes,
        "ModifiedAtSecond": stat.modified_at,
        "DiskId": stat.disk_id,
        "CompactRevision": stat.compact_revision,
        "Version": stat.version,
        "ReplicaPlacement": {name: count for name, count in copies.items() if count},
        "Ttl": {"Count": ttl.count, "Unit": ttl.unit},
        "ReadOnly": stat.read_only,
        "ReadOnlyCanDelete": False,
    }
    return value | ({"ReadOnlyReason": stat.read_only_reason} if stat.read_only else {})


def standing_of(store: Store) -> Standing:
    """What the masters are told; a disk that cannot be asked for its room has none."""
    reports = {stat.id: _report(stat) for stat in store.stats()}
    disks = tuple(_disk(store, number) for number in range(len(store.locations)))
    return Standing(
        volumes=reports,
        max_volumes=sum(disk.max_volumes for disk in disks),
        free_bytes=sum(disk.free_bytes for disk in disks),
        disks=disks,
        max_file_key=max((report.max_key for report in reports.values()), default=0),
    )


def _disk(store: Store, number: int) -> Disk:
    location = store.locations[number]
    try:
        space = location.space()
        slots = len(location.volumes) if location.is_low else location.slots(store.volume_size_limit)
    except StorageError:
        return Disk(number, location.folder, location.disk_type, len(location.volumes), 0, 0)
    return Disk(number, location.folder, location.disk_type, slots, space.free, space.total)


def _report(stat: VolumeStat) -> VolumeReport:
    return VolumeReport(
        id=stat.id,
        collection=stat.collection,
        size=stat.size,
        file_count=stat.file_count,
        delete_count=stat.delete_count,
        deleted_bytes=stat.deleted_bytes,
        modified_at=stat.modified_at,
        compact_revision=stat.compact_revision,
        version=stat.version,
        replication=ReplicaPlacement.parse(stat.replication),
        ttl=Ttl.parse(stat.ttl),
        read_only=stat.read_only,
        reason=stat.read_only_reason,
        disk_id=stat.disk_id,
        disk_type=stat.disk_type,
        max_key=stat.max_key,
    )
