"""What the parts of a master share: the agreed state, what the volume servers report, and the means to act."""

import random
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from weedtw.config.model import MasterConfig
from weedtw.errors import BadRequest, Unavailable, VolumeNotFound
from weedtw.http.agent import PeerAgent
from weedtw.master.flight import Changes
from weedtw.master.keys import KeySequence
from weedtw.master.ledger import Ledger
from weedtw.topology.layout import Where
from weedtw.topology.server import Server
from weedtw.topology.tree import Topology

LEAST_SETTLING = 3.0  # seconds
LAST_COME = 1.5  # seconds after the last server came, in which the next one of a fresh cluster may come


@attrs.define(eq=False)
class Cluster:
    """One for a master's life; `address` is its own `host:port`, `born` when it began to listen."""

    config: MasterConfig
    address: str
    ledger: Ledger
    keys: KeySequence
    topology: Topology
    peers: PeerAgent
    clock: IReactorTime
    now: Callable[[], float]  # the time of day, unix seconds; `clock` knows only how time goes by
    rng: random.Random
    changes: Changes
    born: float
    topology_grew: float = 0.0  # when a volume server that was not there before has come, on the clock

    @property
    def masters(self) -> tuple[str, ...]:
        """The addresses of all masters; this one's alone while there is no cluster."""
        return self.ledger.masters or (self.address,)

    def absent(self) -> list[str]:
        """The servers that belong to the cluster and have not reported since they were last connected."""
        servers = self.topology.servers
        return sorted(
            address for address in self.ledger.state.servers if not (address in servers and servers[address].reported)
        )

    def awaited(self) -> list[str]:
        """The servers that this master has not seen yet, while it listens so shortly that they may be well."""
        if self.clock.seconds() - self.born >= self._settling:
            return []
        return [address for address in self.absent() if address not in self.topology.left]

    @property
    def is_gathering(self) -> bool:
        """Whether volume servers are probably still coming: all has just been started, or the last came just now."""
        now = self.clock.seconds()
        return now - self.born < LEAST_SETTLING or (
            now - self.born < self._settling and now - self.topology_grew < LAST_COME
        )

    @property
    def _settling(self) -> float:
        return max(LEAST_SETTLING, 2 * self.config.pulse_seconds)

    def locate(self, volume_id: int, collection: str = "") -> tuple[Server, ...]:
        """The servers with a copy of a volume, of that collection if one is named.

        Raises VolumeNotFound; Unavailable when a server that is not connected may have it, or when this master may
        not know of it yet.
        """
        copies = self.topology.copies(volume_id)
        key = self.topology.key_of(volume_id)
        if key is not None:
            if collection and key.collection != collection:
                raise VolumeNotFound(volume_id)
            return copies
        state = self.ledger.state
        awaited = self.topology.awaited(volume_id, list(state.servers), state.max_volume_id)
        if awaited:
            names = ", ".join(awaited[:5])
            raise Unavailable(f"volume {volume_id} may be on a volume server that is not connected now: {names}")
        if not self.ledger.is_leader:  # only the leader is never behind
            raise Unavailable(f"volume {volume_id} is not known here, and this master may not know all; try again")
        raise VolumeNotFound(volume_id)

    def check_place(self, where: Where) -> None:
        """Raise BadRequest, at once and by name, when no server of the cluster ever was in that place."""
        known = [
            *self.topology.servers.values(),
            *(Server(s.address, s.public_url, s.data_center, s.rack) for s in self.ledger.state.servers.values()),
        ]
        fitting = known
        for what, name, wanted in (
            ("data center", "data_center", where.data_center),
            ("rack", "rack", where.rack),
            ("server", "address", where.node),
        ):
            if wanted:
                names = sorted({getattr(server, name) for server in fitting})
                fitting = [server for server in fitting if getattr(server, name) == wanted]
                if not fitting and known:
                    listed = ", ".join(names[:10]) or "none"
                    raise BadRequest(f"there is no {what} {wanted!r}{_within(where, name)}; known: {listed}")


def _within(where: Where, name: str) -> str:
    """The wider place in which a name was looked for."""
    if name == "data_center":
        return ""
    return str(Where(where.data_center, where.rack if name == "address" else ""))
