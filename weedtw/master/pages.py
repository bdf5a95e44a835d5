"""The master's page for people: who leads, which servers there are, which kinds of volumes."""

from weedtw.formats.size import format_size
from weedtw.http.pages import Cell, Facts, Link, Table, render_page
from weedtw.master.cluster import Cluster


def overview(cluster: Cluster) -> bytes:
    """The page at `/`."""
    parts: list[Facts | Table] = [_facts(cluster), _servers(cluster), _layouts(cluster)]
    if cluster.absent():
        rows = [[address] for address in cluster.absent()]
        parts.append(Table("Volume servers that are not connected", ["Address"], rows))
    if cluster.topology.quarantined:
        conflicts = sorted(cluster.topology.quarantined.items())
        rows_of_conflicts: list[list[Cell]] = [[c.volume_id, c.address, c.reason] for _, c in conflicts]
        parts.append(Table("Quarantined volumes", ["Volume", "Server", "Why"], rows_of_conflicts))
    return render_page("weedtw master", cluster.address, parts)


def _facts(cluster: Cluster) -> Facts:
    state, topology = cluster.ledger.state, cluster.topology
    leader = cluster.ledger.leader_address
    most = sum(server.max_volumes for server in topology.servers.values())
    return Facts(
        "Cluster",
        [
            ("Name", cluster.ledger.cluster_id),
            ("Leader", Link(leader, f"http://{leader}/") if leader else "none"),
            ("Volumes", sum(len(server.volumes) for server in topology.servers.values())),
            ("Volumes at most", most),
            ("Size limit of a volume", format_size(topology.size_limit)),
            ("Highest volume id", state.max_volume_id),
            ("Default replication", str(cluster.config.default_replication)),
        ],
    )


def _servers(cluster: Cluster) -> Table:
    rows: list[list[Cell]] = []
    for center, rack, server in cluster.topology.in_order():
        size = sum(volume.size for volume in server.volumes.values())
        files = sum(volume.file_count - volume.delete_count for volume in server.volumes.values())
        page = Link(server.address, f"http://{server.public_url}/ui/index.html")
        rows.append([center, rack, page, len(server.volumes), server.max_volumes, files, format_size(size)])
    return Table("Volume servers", ["Data center", "Rack", "Address", "Volumes", "At most", "Files", "Size"], rows)


def _layouts(cluster: Cluster) -> Table:
    rows: list[list[Cell]] = [
        [
            layout.key.collection or "(default)",
            str(layout.key.replication),
            str(layout.key.ttl) or "for ever",
            layout.key.disk_type or "hdd",
            len(layout),
            layout.writable_count,
        ]
        for layout in cluster.topology.layouts.values()
    ]
    rows.sort(key=lambda row: [str(cell) for cell in row[:4]])
    return Table("Volumes", ["Collection", "Replication", "Kept", "Disk", "Volumes", "Writable"], rows)
