"""The state of a cluster as its masters tell it: who leads, which servers there are, what the volumes hold."""

from collections.abc import Iterator
from typing import Any, Final

import attrs

from weedtw.client.beliefs import ask_one
from weedtw.client.gather import each
from weedtw.client.masters import Masters, MasterState
from weedtw.client.wire import Wire
from weedtw.errors import PeerError, WeedError
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl

_ANSWER_WITHIN: Final = 2.0  # seconds that a volume server has to say how it is
_AT_ONCE: Final = 16  # of them


@attrs.frozen
class ServerStatus:
    """A volume server that has reported to the leader."""

    data_center: str
    rack: str
    url: str
    public_url: str
    volumes: int
    max_volumes: int


@attrs.frozen
class VolumeStatus:
    """A volume, of all its copies together."""

    volume_id: int
    collection: str
    replication: str
    ttl: str
    servers: tuple[str, ...]  # "host:port" of each copy
    size: int  # bytes of the largest copy's data file
    files: int  # live ones
    deleted_bytes: int  # that a vacuum would give back
    read_only: bool  # any of the copies
    reasons: tuple[str, ...] = ()  # why: "host:port: reason" of each copy that is read-only

    @property
    def missing_copies(self) -> int:
        """How many copies are short of what the replication asks for."""
        return max(0, ReplicaPlacement.parse(self.replication).copies - len(self.servers))


@attrs.frozen
class Trouble:
    """Something on a volume server that wants somebody to look at it."""

    server: str  # "host:port"
    reason: str


@attrs.frozen
class ClusterStatus:
    """What `Client.status` returns."""

    masters: tuple[MasterState, ...]
    leader: str  # the master that the rest is from
    servers: tuple[ServerStatus, ...]
    volumes: tuple[VolumeStatus, ...]
    absent: tuple[str, ...] = ()  # volume servers that belong to the cluster and are not connected
    quarantined: tuple[Trouble, ...] = ()  # copies that the master does not believe
    problems: tuple[Trouble, ...] = ()  # what volume servers do not serve, and those that do not answer


async def cluster_status(masters: Masters) -> ClusterStatus:
    """Ask the leader for servers and volumes, and each master and volume server for itself.

    Raises Unavailable, and PeerError when the leader's answers make no sense.
    """
    leader, topology = await masters.ask("/dir/status", {})
    _, listing = await masters.ask("/vol/status", {})
    states = await _each_once(masters.wire, await masters.states())
    try:
        servers = tuple(_servers(topology["Topology"]))
        volumes = tuple(_volumes(listing["Volumes"]))
        absent = tuple(map(str, topology.get("Absent") or ()))
        quarantined = tuple(
            Trouble(str(one["Url"]), f"volume {int(one['Id'])}: {one['Reason']}")
            for one in topology.get("Quarantined") or ()
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PeerError(leader, f"the state of the cluster cannot be understood: {error!r}") from error
    problems = await _problems(masters.wire, [server.url for server in servers])
    return ClusterStatus(states, masters.leader or leader, servers, volumes, absent, quarantined, problems)


async def _each_once(wire: Wire, states: tuple[MasterState, ...]) -> tuple[MasterState, ...]:
    """Leave out further addresses of a master, such as `localhost:9333` of one that calls itself `10.0.0.7:9333`."""
    names: dict[str, str] = {}  # what a master calls itself, by the address that was asked

    async def ask(address: str) -> None:
        belief = await ask_one(wire, address)
        names[address] = belief.address or address

    await each([state.address for state in states if not state.error], ask, _AT_ONCE)
    proper = {name for address, name in names.items() if name == address}
    return tuple(state for state in states if names.get(state.address, state.address) not in proper - {state.address})


async def _problems(wire: Wire, servers: list[str]) -> tuple[Trouble, ...]:
    """What the volume servers themselves say is amiss, in their order."""
    found: dict[str, list[Trouble]] = {server: [] for server in servers}

    async def ask(server: str) -> None:
        try:
            answer = await wire.json(server, "/status", within=_ANSWER_WITHIN)
            told = answer.get("Problems") or ()
            found[server] += [Trouble(server, f"{one['Path']} is not served: {one['Reason']}") for one in told]
        except WeedError as error:
            found[server].append(Trouble(server, f"does not answer: {error}"))
        except (KeyError, TypeError, AttributeError) as error:
            found[server].append(Trouble(server, f"its /status cannot be understood: {error!r}"))

    await each(servers, ask, _AT_ONCE)
    return tuple(trouble for server in servers for trouble in found[server])


def _servers(topology: dict[str, Any]) -> Iterator[ServerStatus]:
    for data_center in topology.get("DataCenters") or ():
        for rack in data_center.get("Racks") or ():
            for node in rack.get("DataNodes") or ():
                yield ServerStatus(
                    data_center=str(data_center["Id"]),
                    rack=str(rack["Id"]),
                    url=str(node["Url"]),
                    public_url=str(node.get("PublicUrl") or node["Url"]),
                    volumes=int(node.get("Volumes", 0)),
                    max_volumes=int(node.get("Max", 0)),
                )


@attrs.define
class _Copies:
    """The copies of one volume seen so far."""

    fields: dict[str, Any]
    servers: list[str] = attrs.Factory(list)
    size: int = 0
    files: int = 0
    deleted_bytes: int = 0
    reasons: list[str] = attrs.Factory(list)

    def add(self, server: str, fields: dict[str, Any]) -> None:
        self.servers.append(server)
        self.size = max(self.size, int(fields["Size"]))
        self.files = max(self.files, int(fields["FileCount"]) - int(fields["DeleteCount"]))
        self.deleted_bytes = max(self.deleted_bytes, int(fields["DeletedByteCount"]))
        if fields["ReadOnly"]:
            self.reasons.append(f"{server}: {fields.get('ReadOnlyReason') or 'it does not say why'}")


def _volumes(listing: dict[str, Any]) -> Iterator[VolumeStatus]:
    found: dict[int, _Copies] = {}
    for racks in (listing.get("DataCenters") or {}).values():
        for servers in racks.values():
            for server, volumes in servers.items():
                for fields in volumes or ():
                    found.setdefault(int(fields["Id"]), _Copies(fields)).add(server, fields)
    for volume_id in sorted(found):
        copies = found[volume_id]
        yield VolumeStatus(
            volume_id=volume_id,
            collection=str(copies.fields["Collection"]),
            replication=_replication(copies.fields.get("ReplicaPlacement")),
            ttl=_ttl(copies.fields.get("Ttl")),
            servers=tuple(sorted(copies.servers)),
            size=copies.size,
            files=copies.files,
            deleted_bytes=copies.deleted_bytes,
            read_only=bool(copies.reasons),
            reasons=tuple(sorted(copies.reasons)),
        )


_DIGITS: Final = ("dc", "rack", "node")


def _replication(fields: dict[str, int] | None) -> str:
    return str(ReplicaPlacement(*(int((fields or {}).get(name, 0)) for name in _DIGITS)))


def _ttl(fields: dict[str, int] | None) -> str:
    return str(Ttl(int((fields or {}).get("Count", 0)), int((fields or {}).get("Unit", 0))))
