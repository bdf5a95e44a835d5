"""A master without a port: real state, a ledger in memory, a clock, and volume servers that do as they are told."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.master.memory import MemoryLedger
from weedtw.config.model import MasterConfig
from weedtw.errors import PeerError, WeedError
from weedtw.formats.beat import Full, VolumeReport
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import NO_TTL
from weedtw.master.cluster import Cluster
from weedtw.master.flight import Changes
from weedtw.master.growth import Grower
from weedtw.master.keys import KeySequence
from weedtw.topology.layout import LayoutKey
from weedtw.topology.server import Server
from weedtw.topology.state import Command, RegisterServer
from weedtw.topology.tree import Topology

LIMIT_MB = 1
LIMIT = LIMIT_MB << 20
Answer = dict[str, Any] | WeedError | Deferred[dict[str, Any]]


def volume(volume_id: int, *, copies: str = "000", collection: str = "", **more: Any) -> VolumeReport:
    """A volume as its server reports it."""
    told = {"size": 8, "file_count": 0, "delete_count": 0, "deleted_bytes": 0, "modified_at": 0, **more}
    return VolumeReport(
        id=volume_id,
        collection=collection,
        compact_revision=0,
        version=3,
        replication=ReplicaPlacement.parse(copies),
        ttl=NO_TTL,
        **told,
    )


def layout(copies: str = "000", collection: str = "", disk_type: str = "") -> LayoutKey:
    return LayoutKey(collection, ReplicaPlacement.parse(copies), NO_TTL, disk_type)


class Peers:
    """Takes the place of a PeerAgent; answers what the first fitting script says, {} without one."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, object]]] = []
        self._scripts: list[tuple[str, str, Callable[[], Answer]]] = []

    def script(self, address: str, path: str, answer: Answer | Callable[[], Answer]) -> None:
        """What to answer to an address ("" is any) and a path from now on; an error is raised, a Deferred awaited."""
        self._scripts.insert(0, (address, path, answer if callable(answer) else lambda: answer))

    async def post_json(
        self, address: str, path: str, query: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        self.asked.append((address, path, dict(query or {})))
        for scripted, scripted_path, make in self._scripts:
            if scripted in {address, ""} and scripted_path == path:
                answer = make()
                if isinstance(answer, WeedError):
                    raise answer
                return await answer if isinstance(answer, Deferred) else answer
        return {}

    def paths(self, address: str = "") -> list[str]:
        """What was asked, of one server or of all."""
        return [path for asked, path, _ in self.asked if address in {asked, ""}]


class Scene:
    """A cluster whose master leads; with `slow`, the test says when its ledger decides."""

    def __init__(self, *, slow: bool = False, **config: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.peers = Peers()
        self.ledger = MemoryLedger(slow=slow)
        self.cluster = Cluster(
            config=MasterConfig(**{"volume_size_limit_mb": LIMIT_MB, **config}),
            address="m:9333",
            ledger=self.ledger,
            keys=KeySequence(self.ledger),
            topology=Topology(LIMIT),
            peers=self.peers,  # type: ignore[arg-type]
            clock=self.clock,
            now=self.clock.seconds,
            rng=random.Random(11),
            changes=Changes(self.clock),
            born=self.clock.seconds() - 3600,
        )
        self.grower = Grower(self.cluster)

    @property
    def topology(self) -> Topology:
        return self.cluster.topology

    def submit(self, command: Command) -> Any:
        """The result of a command, at once."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.ledger.submit(command)).addBoth(outcome.append)
        return outcome[0]

    def register(self, address: str, dc: str = "dc1", rack: str = "r1") -> None:
        """A server belongs to the cluster."""
        self.submit(RegisterServer(address, address, dc, rack, (f"uuid of {address}",)))

    def join(
        self, address: str, dc: str = "dc1", rack: str = "r1", *, holds: tuple[VolumeReport, ...] = (), room: int = 10
    ) -> Server:
        """A server comes and reports."""
        self.register(address, dc, rack)
        server = Server(address, f"public.{address}", dc, rack, (f"uuid of {address}",))
        self.topology.join(server)
        self.topology.apply_full(server, [Full(1, 1, 1, holds, room, 0, (), 0)])
        self.cluster.changes.announce()
        return server

    def leave(self, server: Server) -> None:
        """A server's connection is lost."""
        self.topology.leave(server)
        self.cluster.changes.announce()

    def start_again(self) -> None:
        """From here on the master has just begun to listen."""
        self.cluster.born = self.clock.seconds()


def refused(address: str, status: int = 500) -> PeerError:
    return PeerError(address, "scripted to fail", status)


async def take(keys: KeySequence, count: int = 1) -> int:
    """The first of so many keys, waited for if need be."""
    while (first := keys.take_at_once(count)) is None:
        await keys.more()
    return first
