"""Which volume server holds which copy of which volume, as the leader tells it.  Pure but for `fetch`."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from weedtw.client.masters import Masters
from weedtw.errors import PeerError
from weedtw.formats.replication import ReplicaPlacement


@attrs.frozen
class Copy:
    """One copy of a volume; sizes in bytes."""

    volume_id: int
    collection: str
    replication: ReplicaPlacement
    size: int = 0
    files: int = 0  # live ones
    deleted_bytes: int = 0
    read_only: bool = False
    reason: str = ""


@attrs.frozen
class Holder:
    """A volume server that is connected."""

    url: str  # "host:port"
    data_center: str
    rack: str
    max_volumes: int
    copies: Mapping[int, Copy]

    @property
    def host(self) -> str:
        """The host it runs on."""
        return self.url.rpartition(":")[0]


@attrs.frozen
class Inventory:
    """All volume servers, by address; `quarantined` are the (volume, server) that the master does not believe."""

    holders: tuple[Holder, ...]
    quarantined: frozenset[tuple[int, str]] = frozenset()
    absent: tuple[str, ...] = ()

    def volume_ids(self) -> list[int]:
        """Every volume of which there is a copy that counts."""
        return sorted({volume_id for one in self.holders for volume_id in one.copies if self.copies_of(volume_id)})

    def copies_of(self, volume_id: int) -> list[tuple[Holder, Copy]]:
        """The copies that count, with who holds them."""
        return [
            (one, one.copies[volume_id])
            for one in self.holders
            if volume_id in one.copies and (volume_id, one.url) not in self.quarantined
        ]

    def holder(self, url: str) -> Holder | None:
        """The server of that address; None when it is not connected."""
        return next((one for one in self.holders if one.url == url), None)


async def fetch(masters: Masters) -> Inventory:
    """Ask the leader; raises Unavailable and PeerError."""
    leader, topology = await masters.ask("/dir/status", {})
    _, listing = await masters.ask("/vol/status", {})
    try:
        return parse(topology, listing)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PeerError(leader, f"the state of the cluster cannot be understood: {error!r}") from error


def parse(topology: Any, listing: Any) -> Inventory:
    """Read the answers of `/dir/status` and `/vol/status`; raises what malformed ones cause."""
    rooms = {
        str(node["Url"]): int(node.get("Max", 0))
        for center in topology["Topology"].get("DataCenters") or ()
        for rack in center.get("Racks") or ()
        for node in rack.get("DataNodes") or ()
    }
    return Inventory(
        holders=tuple(sorted(_holders(listing["Volumes"], rooms), key=lambda one: one.url)),
        quarantined=frozenset((int(one["Id"]), str(one["Url"])) for one in topology.get("Quarantined") or ()),
        absent=tuple(map(str, topology.get("Absent") or ())),
    )


def _holders(listing: Any, rooms: Mapping[str, int]) -> Iterator[Holder]:
    for center, racks in (listing.get("DataCenters") or {}).items():
        for rack, nodes in racks.items():
            for url, volumes in nodes.items():
                copies = {int(fields["Id"]): _copy(fields) for fields in volumes or ()}
                yield Holder(url, center, rack, rooms.get(url, 0), copies)


def _copy(fields: Any) -> Copy:
    placement = fields.get("ReplicaPlacement") or {}
    return Copy(
        volume_id=int(fields["Id"]),
        collection=str(fields.get("Collection") or ""),
        replication=ReplicaPlacement(*(int(placement.get(name, 0)) for name in ("dc", "rack", "node"))),
        size=int(fields["Size"]),
        files=int(fields["FileCount"]) - int(fields["DeleteCount"]),
        deleted_bytes=int(fields["DeletedByteCount"]),
        read_only=bool(fields["ReadOnly"]),
        reason=str(fields.get("ReadOnlyReason") or ""),
    )
