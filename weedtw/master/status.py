"""What the cluster looks like, in the shapes that `/dir/status` and `/vol/status` have in SeaweedFS."""

from collections.abc import Iterable
from typing import Any

from weedtw import PRODUCT
from weedtw.formats.beat import VolumeReport
from weedtw.master.cluster import Cluster
from weedtw.topology.layout import Layout
from weedtw.topology.server import Server
from weedtw.topology.tree import Topology


def topology_status(cluster: Cluster) -> dict[str, Any]:
    """The answer of `/dir/status`; `Absent` and `Quarantined` are there only when there is something to tell."""
    topology = cluster.topology
    status: dict[str, Any] = {
        "Version": PRODUCT,
        "TopologyId": cluster.ledger.cluster_id,
        "Topology": {
            **_room(topology),
            "DataCenters": [
                {
                    "Id": center,
                    "Racks": [
                        {"Id": rack, "DataNodes": [_node(server) for server in servers]}
                        for rack, servers in racks.items()
                    ],
                }
                for center, racks in _places(topology).items()
            ],
            "Layouts": [_layout(layout) for layout in sorted(topology.layouts.values(), key=_by_name)],
        },
    }
    absent = cluster.absent()
    if absent:
        status["Absent"] = absent
    if topology.quarantined:
        status["Quarantined"] = [
            {"Id": conflict.volume_id, "Url": conflict.address, "Reason": conflict.reason}
            for _, conflict in sorted(topology.quarantined.items())
        ]
    return status


def volume_status(cluster: Cluster) -> dict[str, Any]:
    """The answer of `/vol/status`."""
    return {
        "Version": PRODUCT,
        "Volumes": {
            **_room(cluster.topology),
            "DataCenters": {
                center: {
                    rack: {server.address: list(map(volume_fields, server.volumes.values())) for server in servers}
                    for rack, servers in racks.items()
                }
                for center, racks in _places(cluster.topology).items()
            },
        },
    }


def volume_fields(volume: VolumeReport) -> dict[str, Any]:
    """One volume, as `/vol/status` lists it."""
    placement = volume.replication
    fields = {
        "Id": volume.id,
        "Collection": volume.collection,
        "DiskType": volume.disk_type,
        "RemoteStorageName": "",
        "Size": volume.size,
        "FileCount": volume.file_count,
        "DeleteCount": volume.delete_count,
        "DeletedByteCount": volume.deleted_bytes,
        "ModifiedAtSecond": volume.modified_at,
        "DiskId": volume.disk_id,
        "CompactRevision": volume.compact_revision,
        "Version": volume.version,
        "ReplicaPlacement": {
            name: count
            for name, count in (
                ("node", placement.same_rack),
                ("rack", placement.other_racks),
                ("dc", placement.other_dcs),
            )
            if count
        },
        "Ttl": {"Count": volume.ttl.count, "Unit": volume.ttl.unit},
        "ReadOnly": volume.read_only,
        "ReadOnlyCanDelete": False,
    }
    return fields | ({"ReadOnlyReason": volume.reason} if volume.read_only else {})


def id_ranges(volume_ids: Iterable[int]) -> str:
    """Volume ids with a blank before each run of them: ` 1 3-5`."""
    runs: list[list[int]] = []
    for volume_id in sorted(volume_ids):
        if runs and volume_id == runs[-1][-1] + 1:
            runs[-1][1:] = [volume_id]
        else:
            runs.append([volume_id])
    return "".join(" " + "-".join(map(str, run)) for run in runs)


def _room(topology: Topology) -> dict[str, int]:
    servers = topology.servers.values()
    return {
        "Max": sum(server.max_volumes for server in servers),
        "Free": sum(server.max_volumes - len(server.volumes) for server in servers),
    }


def _places(topology: Topology) -> dict[str, dict[str, list[Server]]]:
    places: dict[str, dict[str, list[Server]]] = {}
    for center, rack, server in topology.in_order():
        places.setdefault(center, {}).setdefault(rack, []).append(server)
    return places


def _node(server: Server) -> dict[str, Any]:
    return {
        "Url": server.address,
        "PublicUrl": server.public_url,
        "Volumes": len(server.volumes),
        "EcShards": 0,
        "Max": server.max_volumes,
        "VolumeIds": id_ranges(server.volumes),
    }


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "replication": str(layout.key.replication),
        "ttl": str(layout.key.ttl),
        "writables": layout.writables(),
        "collection": layout.key.collection,
        "diskType": layout.key.disk_type or "hdd",
    }


def _by_name(layout: Layout) -> tuple[str, str, int, str]:
    key = layout.key
    return key.collection, str(key.replication), key.ttl.seconds, key.disk_type
