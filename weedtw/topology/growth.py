"""Where the copies of a new volume go.

A replication `xyz` asks for one copy in each of x other data centers, one in each of y other racks of the
main data center, and z more in the main rack.  What is chosen
  1. never has two copies on one host when another host could take one;
  2. among those, loads the least used servers, counted as volumes held per volume allowed, so that servers
     fill up evenly;
  3. among equals, is left to the random generator that is passed in.
"""

import random
from collections.abc import Iterable, Sequence

import attrs

from weedtw.errors import NoRoom
from weedtw.formats.replication import ReplicaPlacement
from weedtw.topology.layout import Where
from weedtw.topology.server import Server
from weedtw.topology.spread import spread_over_hosts


@attrs.frozen
class Candidate:
    """A server that could take a copy: `used` of its `most` volume slots are taken."""

    server: Server
    used: int
    most: int
    draw: float  # decides between equals

    @property
    def load(self) -> tuple[float, float]:
        """How full the server is with one volume more; less is better."""
        return (self.used + 1) / self.most, self.draw


@attrs.define
class _Racks:
    """The candidates with a free slot, least used first, by place."""

    by_rack: dict[tuple[str, str], list[Candidate]] = attrs.Factory(dict)
    by_center: dict[str, list[Candidate]] = attrs.Factory(dict)

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> "_Racks":
        racks = cls()
        for candidate in sorted(candidates, key=lambda each: each.load):
            server = candidate.server
            racks.by_rack.setdefault((server.data_center, server.rack), []).append(candidate)
            racks.by_center.setdefault(server.data_center, []).append(candidate)
        return racks

    def other_racks(self, data_center: str, rack: str) -> list[list[Candidate]]:
        """The other racks of a data center, the one with the least used server first."""
        others = [group for place, group in self.by_rack.items() if place[0] == data_center and place[1] != rack]
        return sorted(others, key=lambda group: group[0].load)

    def other_centers(self, data_center: str) -> list[list[Candidate]]:
        """The other data centers, the one with the least used server first."""
        others = [group for name, group in self.by_center.items() if name != data_center]
        return sorted(others, key=lambda group: group[0].load)


def place_volume(
    servers: Iterable[Server],
    replication: ReplicaPlacement,
    rng: random.Random,
    *,
    where: Where | None = None,
    disk_type: str = "",
) -> tuple[Server, ...]:
    """The servers for the copies of one new volume, the main one first.

    Raises NoRoom, which says what is missing.
    """
    where = where or Where()
    known = [server for server in servers if server.reported]
    slots = [(server, *server.slots(disk_type)) for server in known]
    racks = _Racks.of(Candidate(server, used, most, rng.random()) for server, used, most in slots if used < most)
    best: tuple[tuple[int, float, float], tuple[Server, ...]] | None = None
    for data_center, rack in racks.by_rack:
        chosen = _choose(racks, data_center, rack, replication, where)
        if chosen:
            hosts = len({candidate.server.host for candidate in chosen})
            rank = (-hosts, sum(candidate.load[0] for candidate in chosen), rng.random())
            if best is None or rank < best[0]:
                best = rank, tuple(candidate.server for candidate in chosen)
    if best is None:
        raise NoRoom(_what_is_missing(known, racks, replication, where, disk_type))
    return best[1]


def _choose(
    racks: _Racks, data_center: str, rack: str, replication: ReplicaPlacement, where: Where
) -> list[Candidate] | None:
    """The copies when the main one is in that rack, the main one first; None when it cannot be."""
    group = racks.by_rack[data_center, rack]
    mains = [candidate for candidate in group if where.matches(candidate.server)]
    if not mains:
        return None
    forced = mains[:1] if where.node else []
    centers, others = racks.other_centers(data_center), racks.other_racks(data_center, rack)
    if len(group) <= replication.same_rack or len(others) < replication.other_racks:
        return None
    if len(centers) < replication.other_dcs:
        return None
    rest = [candidate for candidate in group if candidate not in forced]
    wanted = [
        (1 + replication.same_rack - len(forced), [rest]),
        (replication.other_racks, others),
        (replication.other_dcs, centers),
    ]
    return forced + spread_over_hosts(wanted, forced)


def _what_is_missing(
    known: Sequence[Server], racks: _Racks, replication: ReplicaPlacement, where: Where, disk_type: str
) -> str:
    on_disk = f" on disks of type {disk_type!r}" if disk_type else ""
    near = [server for server in known if where.matches(server)]
    if not known:
        return "no volume server is connected"
    if not near:
        return f"no volume server is connected{where}"
    if not any(server.slots(disk_type)[1] for server in near):
        return f"no volume server{where} has room for volumes{on_disk}" if disk_type else _full(near, where)
    mains = [place for place in racks.by_rack if any(where.matches(each.server) for each in racks.by_rack[place])]
    if not mains:
        return _full(near, where) + on_disk
    return f"replication {replication} needs " + "; ".join(_shortages(mains, racks, replication)) + on_disk


def _full(servers: Sequence[Server], where: Where) -> str:
    most = sum(server.max_volumes for server in servers)
    many = "s" if len(servers) != 1 else ""
    taken = f"every volume slot{where} is taken: {most} on {len(servers)} volume server{many}"
    return f"{taken} (--max, or a disk with too little room)"  # then it offers no slot beyond what it holds


def _shortages(mains: Sequence[tuple[str, str]], racks: _Racks, replication: ReplicaPlacement) -> list[str]:
    racks_beside = max(len(racks.other_racks(*place)) for place in mains)
    servers_in_rack = max(len(racks.by_rack[place]) for place in mains)
    places = (
        (replication.other_dcs, len(racks.by_center), "data centers with a free volume slot"),
        (replication.other_racks, racks_beside + 1, "racks with a free volume slot in one data center"),
        (replication.same_rack, servers_in_rack, "servers with a free volume slot in one rack"),
    )
    short = [f"{others + 1} {what}, there are {have}" for others, have, what in places if have <= others]
    return short or ["all of them in one place: no rack has enough servers and enough other racks beside it"]
