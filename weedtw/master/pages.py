"""The master's page for people: who leads, what each master believes, where volumes lie and how they are."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from weedtw.client.beliefs import JOINING, Belief, parse_belief
from weedtw.formats.size import format_size
from weedtw.http.pages import Cell, Facts, Link, Mark, Meter, Notice, Page, Part, Simple, Table
from weedtw.master.cluster import Cluster
from weedtw.master.outlook import Outlook, View
from weedtw.master.survey import Kind, Look, Survey
from weedtw.topology.server import Server

_MOST_LISTED = 50  # volumes in need of a look; /vol/status has all
_LATE = 2.0  # pulses without a word


@attrs.define(eq=False)
class Overview:
    """Makes the page anew for everybody who asks."""

    cluster: Cluster
    outlook: Outlook
    own: Callable[[], dict[str, Any]]  # what this master believes, as /cluster/members tells it
    standing: Callable[[], str]  # why nobody leads
    ages: Callable[[], Mapping[str, float]]  # seconds since each volume server was heard
    _survey: Survey = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._survey = Survey(self.cluster.topology, self.cluster.clock)

    async def page(self) -> Page:
        """How things are; takes a fraction of a second at most, whatever has happened."""
        own = parse_belief(self.cluster.address, self.own())
        views = await self.outlook.look()
        kinds = await self._survey.look()
        now = self.cluster.clock.seconds()
        parts: list[Part] = [
            *_notices(self.cluster, own, views, kinds, self.standing),
            _facts(self.cluster, own, kinds),
            _masters(own, views, now),
            _servers(self.cluster, self.ages()),
            _volumes(kinds),
        ]
        looks = [(kind, look) for kind in kinds for look in kind.shown if look.needs_a_look]
        if looks:
            parts.append(_in_need(looks, sum(kind.missing + kind.read_only for kind in kinds)))
        if self.cluster.topology.quarantined:
            conflicts = sorted(self.cluster.topology.quarantined.items())
            rows: list[list[Cell]] = [[c.volume_id, c.address, c.reason] for _, c in conflicts]
            parts.append(Table("Quarantined volumes", ["Volume", "Server", "Why"], rows))
        return Page("weedtw master", self.cluster.address, time_of(self.cluster.now()), parts)


def time_of(seconds: float) -> str:
    """A time of day for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# ------------------------------------------------------------------ first of all


def _notices(
    cluster: Cluster, own: Belief, views: Sequence[View], kinds: Sequence[Kind], standing: Callable[[], str]
) -> list[Notice]:
    leader = cluster.ledger.leader_address
    notices = []
    if own.failed:
        notices.append(Notice("bad", f"This master takes no part in decisions any more: {own.failed}"))
    elif own.stuck:
        notices.append(Notice("bad", "The disk of this master does not answer."))
    if leader is None:
        why = standing().removeprefix("no master leads now").lstrip(":; ") or "nobody is elected"
        notices.append(Notice("bad", f"No leader: {why}. File ids cannot be had now; files can be read."))
    elif cluster.ledger.is_leader or not cluster.ledger.has_lead:
        notices.append(Notice("good", f"{leader} leads in term {own.term}."))
    else:
        notices.append(Notice("warn", f"{leader} was elected in term {own.term} and has no lease yet."))
    silent = [view.address for view in views if view.trouble]
    if silent:
        notices.append(Notice("warn", f"Masters that do not answer: {', '.join(silent)}."))
    absent = cluster.absent()
    if absent:
        named = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        notices.append(Notice("warn", f"Volume servers that are not connected: {named}."))
    missing = sum(kind.missing for kind in kinds)
    if missing:
        which = "1 volume" if missing == 1 else f"{missing} volumes"
        notices.append(Notice("warn", f"{which} with copies missing: not written to until that is mended."))
    return notices


def _facts(cluster: Cluster, own: Belief, kinds: Sequence[Kind]) -> Facts:
    state, topology = cluster.ledger.state, cluster.topology
    servers = topology.servers.values()
    leader = cluster.ledger.leader_address
    held = sum(len(server.volumes) for server in servers)
    most = sum(server.max_volumes for server in servers)
    used, total = _room(server for server in servers)
    rows: list[tuple[str, Cell]] = [
        ("Leader", _page_of(leader) if leader else Mark("bad", "none")),
        ("Term", own.term),
        ("Volume servers", f"{len(topology.servers)} of {len(state.servers)}"),
        ("Volumes held", Meter(f"{held} of {most}", held / most if most else 0.0, alarms=True)),
        ("Disks", Meter(f"{format_size(used)} of {format_size(total)}", used / total if total else 0.0, alarms=True)),
        ("Files", sum(kind.files for kind in kinds)),
        ("Their size", format_size(sum(kind.size for kind in kinds))),
        ("Size limit of a volume", format_size(topology.size_limit)),
        ("Highest volume id", state.max_volume_id),
        ("Default replication", str(cluster.config.default_replication)),
        ("Cluster", cluster.ledger.cluster_id or Mark("bad", "in none yet")),
    ]
    return Facts("Cluster", rows)


# ------------------------------------------------------------------ masters


def _masters(own: Belief, views: Sequence[View], now: float) -> Table:
    """What each master believes; `lastContact` is what the leader says of the others."""
    told = [own, *(view.belief for view in views if view.belief is not None and not view.trouble)]
    leading = max((belief for belief in told if belief.leads), key=lambda belief: belief.term, default=None)
    rows = {own.address: _master(own, leading, "this page")}
    for view in views:
        belief = view.belief
        if view.trouble:
            rows[view.address] = _silent(view, now)
        elif belief is None:
            rows[view.address] = [_page_of(view.address), Mark("dim", "asked"), *[""] * 7]
        else:
            rows[view.address] = _master(belief, leading, f"{max(0.0, now - view.told_at):.1f} s ago")
    columns = ["Master", "Role", "Term", "Follows", "Last contact", "Last entry", "Decided", "Applied", "Told"]
    return Table("What each master believes", columns, [rows[address] for address in sorted(rows)])


def _master(belief: Belief, leading: Belief | None, told: str) -> list[Cell]:
    role: Cell
    if belief.failed:
        role = Mark("bad", "stopped", belief.failed)
    elif belief.stuck:
        role = Mark("bad", "disk stuck")
    elif belief.role == JOINING:
        role = Mark("warn", "joining", belief.reason)
    elif belief.leads:
        role = Mark("good", "leader") if belief.has_lease else Mark("warn", "leader, no lease")
    else:
        voter = belief.member(belief.node)
        learns = voter is not None and not voter.voter
        role = Mark("dim", "learner" if learns else belief.role.lower().replace("_", "-"))
    follows: Cell = belief.leader_address or Mark("bad", "nobody")
    if leading is not None and belief.leader_address and belief.leader_address != leading.leader_address:
        follows = Mark("warn", belief.leader_address, f"{leading.address} says that it leads in term {leading.term}")
    term: Cell = belief.term
    member = leading.member(belief.node) if leading is not None else None
    contact: Cell = ""
    if leading is not None and belief.node == leading.node:
        contact = "leads"
    elif member is not None and member.last_contact is not None:
        contact = f"{member.last_contact:.2f} s ago"
        if member.last_contact > 2.0:
            contact = Mark("bad", contact)
    return [
        _page_of(belief.address),
        role,
        term,
        follows,
        contact,
        belief.last_index,
        belief.commit,
        belief.applied,
        told,
    ]


def _silent(view: View, now: float) -> list[Cell]:
    """A master that does not answer; what it believed is shown as what it was."""
    before = view.belief
    told = f"{now - view.told_at:.0f} s ago" if before is not None else "never"
    numbers: list[Cell] = (
        [before.last_index, before.commit, before.applied] if before is not None else [Mark("dim", "?")] * 3
    )
    term: Cell = before.term if before is not None else Mark("dim", "?")
    return [_page_of(view.address), Mark("bad", "silent", view.trouble), term, "", view.trouble, *numbers, told]


# ------------------------------------------------------------------ volume servers


def _servers(cluster: Cluster, ages: Mapping[str, float]) -> Table:
    rows: list[list[Cell]] = []
    for center, rack, server in cluster.topology.in_order():
        size = sum(volume.size for volume in server.volumes.values())
        files = sum(volume.file_count - volume.delete_count for volume in server.volumes.values())
        used, total = _room([server])
        age = ages.get(server.address, 0.0)
        heard = f"{age:.1f} s ago"
        most = server.max_volumes
        rows.append(
            [
                center,
                rack,
                Link(server.address, f"http://{server.public_url}/ui/index.html"),
                Mark("warn", heard) if age > _LATE * cluster.config.pulse_seconds else heard,
                Meter(f"{len(server.volumes)} of {most}", len(server.volumes) / most if most else 0.0),
                files,
                format_size(size),
                Meter(_free(used, total), used / total if total else 0.0, alarms=True),
            ]
        )
    for address in cluster.absent():
        known = cluster.ledger.state.servers[address]
        rows.append([known.data_center, known.rack, address, Mark("bad", "not connected"), "", "", "", ""])
    rows.sort(key=lambda row: (str(row[0]), str(row[1])))
    columns = ["Data center", "Rack", "Server", "Heard", "Volumes", "Files", "Size", "Disk"]
    return Table("Volume servers", columns, rows, "none has come yet")


def _free(used: int, total: int) -> str:
    return f"{format_size(total - used)} free of {format_size(total)}"


def _room(servers: Any) -> tuple[int, int]:
    """(used, size) in bytes of the disks of servers.  Folders that tell the same size and room are on one disk."""
    used = total = 0
    for server in servers:
        assert isinstance(server, Server)
        for size, free in {(disk.total_bytes, disk.free_bytes) for disk in server.disks}:
            used, total = used + size - free, total + size
    return used, total


# ------------------------------------------------------------------ volumes


def _volumes(kinds: Sequence[Kind]) -> Table:
    rows: list[list[Cell]] = [
        [
            kind.key.collection or "(default)",
            str(kind.key.replication),
            str(kind.key.ttl) or "for ever",
            kind.key.disk_type or "hdd",
            kind.count,
            kind.writable,
            kind.files,
            format_size(kind.size),
            format_size(kind.deleted),
            _chips(kind),
        ]
        for kind in kinds
    ]
    columns = ["Collection", "Replication", "Kept", "Disk", "Volumes", "Writable", "Files", "Size", "Deleted", "Ids"]
    return Table(
        "Volumes by collection", columns, rows, "none yet: they are made when the first file id is asked for"
    )


def _chips(kind: Kind) -> tuple[Simple, ...]:
    chips: list[Simple] = [_chip(look) for look in kind.shown]
    if len(chips) < kind.count:
        chips.append(f"and {kind.count - len(chips)} more")
    return tuple(chips)


def _chip(look: Look) -> Mark:
    if look.missing:
        return Mark("bad", f"{look.id} · {look.copies - look.missing} of {look.copies} copies")
    if look.read_only:
        return Mark("warn", f"{look.id} · read-only", look.read_only)
    if look.full:
        return Mark("dim", f"{look.id} · full")
    if look.crowded:
        return Mark("warn", f"{look.id} · crowded", "nine tenths full: written to only when there is no other")
    return Mark("good", str(look.id))


def _in_need(looks: Sequence[tuple[Kind, Look]], count: int) -> Table:
    rows: list[list[Cell]] = []
    for kind, look in looks[:_MOST_LISTED]:
        marks: list[Simple] = []
        if look.missing:
            marks.append(Mark("bad", f"{look.copies - look.missing} of {look.copies} copies"))
        if look.read_only:
            marks.append(Mark("warn", f"read-only: {look.read_only}"))
        rows.append([look.id, kind.key.collection or "(default)", tuple(marks), ", ".join(look.holders)])
    shown = "" if count <= len(rows) else f" ({len(rows)} of {count}; /vol/status has all)"
    return Table(f"Volumes to look at{shown}", ["Volume", "Collection", "What is amiss", "Copies on"], rows)


def _page_of(address: str) -> Link:
    return Link(address, f"http://{address}/")
