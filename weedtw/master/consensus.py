"""The ledger of a cluster of masters: a decision is an entry of Raft's log, and lasts when a majority has stored it.

A cluster of one master is no special case: its majority is itself.
"""

import random
from typing import Any

import attrs
from twisted.logger import Logger

from weedtw.config.model import MasterConfig
from weedtw.errors import (
    InvariantBroken,
    MaybeCommitted,
    NotLeader,
    StoreFailed,
    TooBusy,
    Unavailable,
    Undecided,
    WeedError,
)
from weedtw.http.ways import connector
from weedtw.raft.core import Settings
from weedtw.raft.disk import DiskThread
from weedtw.raft.interface import Status, Timing, elapsed
from weedtw.raft.leader import Leader
from weedtw.raft.node import RaftNode
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.transport import Transport
from weedtw.topology.state import ClusterState, Command, dump_command, dump_state, load_command, load_state


@attrs.define(eq=False)
class ClusterMachine:
    """The agreed state as Raft's state machine; `state` must not be changed from elsewhere."""

    state: ClusterState = attrs.Factory(ClusterState)

    def apply(self, index: int, data: bytes) -> object:  # noqa: ARG002 - the interface of a state machine
        """Carry out a command; raises what it raises, and ValueError for one that this version does not know."""
        self.state, result = self.state.apply(load_command(data.decode()))
        return result

    def snapshot(self) -> bytes:
        """The state as JSON."""
        return dump_state(self.state).encode()

    def restore(self, data: bytes) -> None:
        """Take over what `snapshot` gave, or begin anew."""
        self.state = load_state(data.decode()) if data else ClusterState()


class RaftLedger:
    """See `weedtw.master.ledger.Ledger`; without a node, while this master belongs to no cluster, nobody decides."""

    log = Logger()

    def __init__(self, node_id: str) -> None:
        """`node_id` is the one to go by until a node brings its own."""
        self.machine = ClusterMachine()
        self._node_id = node_id
        self._node: RaftNode | None = None
        self._transport: Transport | None = None

    def go_by(self, node_id: str) -> None:
        """Take the id under which a former run has given promises to others."""
        self._node_id = node_id

    def attach(self, node: RaftNode, transport: Transport) -> None:
        """From now on this master is a member."""
        self._node, self._transport = node, transport

    @property
    def node(self) -> RaftNode | None:
        """This member's part in consensus."""
        return self._node

    @property
    def transport(self) -> Transport | None:
        """Its links to the others."""
        return self._transport

    @property
    def node_id(self) -> str:
        """See Ledger."""
        return self._node.identity.node if self._node is not None else self._node_id

    @property
    def cluster_id(self) -> str:
        """See Ledger."""
        return self._node.identity.cluster if self._node is not None else ""

    @property
    def state(self) -> ClusterState:
        """See Ledger."""
        return self.machine.state

    @property
    def is_leader(self) -> bool:
        """See Ledger."""
        return self._node is not None and self._node.has_lease()

    @property
    def has_lead(self) -> bool:
        """See Ledger."""
        node = self._node
        return node is not None and node.failed is None and bool(node.running) and isinstance(node.core.role, Leader)

    @property
    def leader_address(self) -> str | None:
        """See Ledger."""
        node = self._node
        if node is None or node.failed is not None or not node.running or node.core.leader is None:
            return None
        return self.address_of(node.core.leader)

    @property
    def masters(self) -> tuple[str, ...]:
        """See Ledger."""
        if self._node is None:
            return ()
        members = self._node.core.log.membership.members
        return tuple(sorted({self.address_of(node) or member.address for node, member in members.items()}))

    def address_of(self, node_id: str) -> str | None:
        """Where a node listens, as far as is known here."""
        return None if self._transport is None else self._transport.address_of(node_id)

    @property
    def status(self) -> Status | None:
        """What this node believes; None while it is none."""
        return None if self._node is None else self._node.status()

    async def submit(self, command: Command) -> Any:
        """See Ledger."""
        if self._node is None:
            raise Unavailable("this master belongs to no cluster yet")
        try:
            return await self._node.propose(dump_command(command).encode())
        except (NotLeader, TooBusy, MaybeCommitted, StoreFailed, InvariantBroken) as error:
            raise _not_now(error) from error

    async def confirm(self) -> None:
        """See Ledger."""
        if self.is_leader:
            return
        if self._node is None:
            raise Unavailable("this master belongs to no cluster yet")
        try:
            await self._node.read_index()
        except (NotLeader, TooBusy, StoreFailed, InvariantBroken) as error:
            raise _not_now(error) from error


def _not_now(error: WeedError) -> Undecided:
    """What those who asked for a decision are told: all of it may be different in a moment, or at another master."""
    if isinstance(error, NotLeader):
        return Undecided("this master does not lead any more; ask again")
    if isinstance(error, StoreFailed | InvariantBroken):
        return Undecided(f"this master cannot store its decisions any more: {error}", 30.0)
    if isinstance(error, MaybeCommitted):
        return Undecided(f"it is not known whether this was decided: {error.reason}")
    return Undecided(f"no decision was reached: {error}")


# ------------------------------------------------------------------ making a member


def make_node(
    storage: SqliteStorage, config: MasterConfig, address: str, machine: ClusterMachine, reactor: Any, stopped: Any
) -> tuple[RaftNode, Transport]:
    """The member whose memory `storage` is, and its links; loads what is stored, which blocks.

    `address` is where others reach it; `stopped` is told the reason when it had to stop by itself.
    """
    made: list[Transport] = []

    def make_transport(node: RaftNode) -> Transport:
        transport = Transport(
            node,
            address,
            connect=connector(reactor, config.security),
            certified=config.security.tls is not None,
            clock=reactor,
            rng=random.Random(),
            fast_election=config.fast_election,
        )
        made.append(transport)
        return transport

    timing = Timing()
    node = RaftNode(
        storage.identity,
        storage,
        machine,
        make_transport=make_transport,
        disk=DiskThread(reactor),
        clock=reactor,
        monotonic=elapsed,
        rng=random.Random(),
        settings=settings_of(config, timing.tick),
        timing=timing,
        stopped=stopped,
    )
    return node, made[0]


def settings_of(config: MasterConfig, tick: float) -> Settings:
    """The options' seconds as ticks."""
    return Settings(
        election=round(config.election_timeout / tick),
        heartbeat=max(1, round(config.heartbeat_interval / tick)),
    )
