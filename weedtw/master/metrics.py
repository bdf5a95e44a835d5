"""What a master tells at `/metrics` beside what its port has answered."""

from collections.abc import Iterator

from weedtw.http.metrics import Gauge, count, gauge
from weedtw.master.cluster import Cluster
from weedtw.master.consensus import RaftLedger
from weedtw.master.heartbeats import Heartbeats
from weedtw.master.office import Office

ROLES = ("follower", "pre-candidate", "candidate", "leader", "joining")


def kind_of(method: bytes, path: bytes) -> str:  # noqa: ARG001 - the signature of a `kind_of`
    """The kind of a request to a master; see `Traffic`."""
    for prefix, kind in _KINDS:
        if path.startswith(prefix):
            return kind
    return "other"


_KINDS = (
    (b"/dir/a", "assign"),
    (b"/dir/l", "lookup"),
    (b"/dir/", "status"),
    (b"/submit", "submit"),
    (b"/vol/", "volumes"),
    (b"/col", "collections"),
    (b"/cluster/", "cluster"),
    (b"/metrics", "metrics"),
)
HOT_WIDTH = len(b"GET /dir/a")


def numbers(cluster: Cluster, ledger: RaftLedger, office: Office, heartbeats: Heartbeats) -> Iterator[Gauge]:
    """Everything, as it is now."""
    yield from _of_consensus(ledger, office)
    yield from _of_servers(cluster, heartbeats)
    yield from _of_volumes(cluster)


def _of_consensus(ledger: RaftLedger, office: Office) -> Iterator[Gauge]:
    status, node = ledger.status, ledger.node
    role = "joining" if status is None else status.role
    yield Gauge("weedtw_raft_role", "1 for the role that this master has.", _one_of(role), ("role",))
    yield gauge("weedtw_raft_has_leader", "1 while this master knows of a leader.", ledger.leader_address is not None)
    if status is None or node is None:
        return
    voters = status.membership.voters
    reached = len(voters & (status.connected | {status.node}))
    yield gauge("weedtw_raft_term", "Its term.", status.term)
    yield gauge("weedtw_raft_commit_index", "The highest log index known to be decided.", status.commit)
    yield gauge("weedtw_raft_applied_index", "The highest log index applied.", status.applied)
    yield gauge("weedtw_raft_last_index", "The highest log index.", status.last_index)
    yield gauge("weedtw_raft_snapshot_index", "Up to where the log is a snapshot.", status.snapshot_index)
    yield gauge("weedtw_raft_apply_lag", "Decided entries not applied yet.", status.commit - status.applied)
    yield gauge("weedtw_raft_has_lease", "1 while it may answer as the leader without asking.", status.has_lease)
    yield gauge("weedtw_raft_stuck", "1 while its disk does not answer.", status.stuck)
    yield gauge("weedtw_raft_failed", "1 once it has stopped taking part.", status.failed is not None)
    yield gauge("weedtw_raft_voters", "Masters that have a vote.", len(voters))
    yield gauge("weedtw_raft_voters_reached", "Those of them that are connected, itself included.", reached)
    yield count("weedtw_raft_leader_changes_total", "How often a new lead began.", office.leader_changes)
    yield count("weedtw_raft_fsyncs_total", "Writes to the log's disk, each with its fsync.", node.saves)
    yield count("weedtw_raft_fsync_seconds_total", "Seconds that these took.", node.saving_seconds)


def _one_of(role: str) -> list[tuple[tuple[str, ...], float]]:
    return [((name,), float(name == role)) for name in ROLES]


def _of_servers(cluster: Cluster, heartbeats: Heartbeats) -> Iterator[Gauge]:
    servers = cluster.topology.servers.values()
    ages = [((address,), age) for address, age in sorted(heartbeats.ages().items())]
    yield Gauge("weedtw_heartbeat_age_seconds", "Since a volume server was heard.", ages, ("server",))
    yield gauge("weedtw_volume_servers", "Volume servers that are connected.", len(servers))
    yield gauge("weedtw_volume_servers_absent", "Volume servers that are known and not here.", len(cluster.absent()))
    slots = sum(server.max_volumes for server in servers)
    yield gauge("weedtw_volume_slots", "Volumes that these may hold.", slots)
    yield gauge("weedtw_volume_slots_free", "Those of them that are free.", sum(server.free for server in servers))
    disks = [((server.address, disk.path), disk) for server in servers for disk in server.disks]
    yield Gauge(
        "weedtw_disk_free_bytes",
        "Room on a volume server's disk.",
        [(labels, disk.free_bytes) for labels, disk in disks],
        ("server", "folder"),
    )
    yield Gauge(
        "weedtw_disk_bytes",
        "Size of a volume server's disk.",
        [(labels, disk.total_bytes) for labels, disk in disks],
        ("server", "folder"),
    )


def _of_volumes(cluster: Cluster) -> Iterator[Gauge]:
    sums: dict[tuple[str, str], list[int]] = {}
    for layout in cluster.topology.layouts.values():
        row = sums.setdefault((layout.key.collection, str(layout.key.replication)), [0] * 5)
        counts = (len(layout), layout.writable_count, layout.crowded_count, len(layout.short), len(layout.read_only))
        row[:] = (before + more for before, more in zip(row, counts, strict=True))
    labels = ("collection", "replication")
    names = (
        ("weedtw_volumes", "Volumes."),
        ("weedtw_volumes_writable", "Volumes that take new files."),
        ("weedtw_volumes_crowded", "Writable volumes that are nearly full."),
        ("weedtw_volumes_short_of_copies", "Volumes with fewer copies than they should have."),
        ("weedtw_volumes_read_only", "Volumes of which a copy is read-only."),
    )
    for place, (name, about) in enumerate(names):
        yield Gauge(name, about, [(key, row[place]) for key, row in sorted(sums.items())], labels)
    yield gauge(
        "weedtw_volumes_quarantined", "Claims on a volume id that do not count.", len(cluster.topology.quarantined)
    )
    yield gauge("weedtw_volume_id_max", "The highest volume id in use.", cluster.ledger.state.max_volume_id)
