"""Changing who belongs to the cluster: the leader's part.  Each change is committed before the next begins.

A newcomer is a learner first; it gets its vote, without being asked for, when its log has caught up.  A member that
comes back at another address is known by its id, and the new address is committed.
"""

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from weedtw.config.kinds import is_loopback
from weedtw.errors import BadRequest, ChangeRefused, MaybeCommitted, NotLeader, TooBusy, Unavailable, WeedError
from weedtw.http.agent import PeerAgent
from weedtw.master.consensus import RaftLedger
from weedtw.master.founding import canonical
from weedtw.raft.leader import Leader
from weedtw.raft.lines import split_address
from weedtw.raft.membership import AddLearner, Change, ChangeAddress, Membership, NodeId, Promote, Remove
from weedtw.raft.node import RaftNode
from weedtw.topology.server import host_of

UPKEEP = 0.25  # seconds between two looks at who may vote, and who has moved
NEAR = 64  # entries by which a learner may be behind and count as caught up
INVITE_TIMEOUT = 5.0  # seconds


@attrs.define(eq=False)
class Members:
    """The membership, as its leader keeps it; `ledger` has the node."""

    log = Logger()

    ledger: RaftLedger
    peers: PeerAgent
    clock: Any
    _turn: DeferredLock = attrs.Factory(DeferredLock)
    _loop: LoopingCall | None = None
    _immovable: dict[NodeId, str] = attrs.Factory(dict)  # members that go by an address that cannot be, and that one

    def start(self) -> None:
        """Begin the upkeep."""
        loop = self._loop = LoopingCall(self._keep_up)
        loop.clock = self.clock
        loop.start(UPKEEP, now=False)

    def stop(self) -> None:
        """End the upkeep."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    # ------------------------------------------------------------------ what is asked for

    async def join(self, node_id: NodeId, address: str) -> dict[str, Any]:
        """Take a newcomer in as a learner, in the place of a dead member of that address; what it needs to begin.

        Asking twice is the same as asking once.  Raises BadRequest when it cannot be a member.
        """
        split_address(address)
        await self._turn.run(self._join, node_id, address)
        return self._welcome(node_id)

    def by_birth(self, node_id: NodeId) -> dict[str, Any] | None:
        """What a member needs to begin that was there from the beginning, and may not have heard of it; else None.

        It may be its vote that is needed for anybody to lead.
        """
        if self.ledger.node is None:
            return None
        log = self.ledger.node.core.log
        is_by_birth = log.snapshot.index == 0 and node_id in log.snapshot.membership and node_id in log.membership
        return self._welcome(node_id) if is_by_birth else None

    def _welcome(self, node_id: NodeId) -> dict[str, Any]:
        """What a member needs to begin; all the log has to say comes to it then."""
        snapshot = self._node().core.log.snapshot
        beginning = snapshot.membership if snapshot.index == 0 else Membership()
        members = {id_: {"address": m.address, "voter": m.voter} for id_, m in beginning.members.items()}
        return {"cluster": self.ledger.cluster_id, "node": node_id, "beginning": members}

    async def _join(self, node_id: NodeId, address: str) -> None:
        members = self._node().core.log.membership.members
        check_reach({m.address for id_, m in members.items() if id_ != node_id}, address)
        for id_, member in members.items():
            if id_ != node_id and canonical((member.address,)) == canonical((address,)):
                await self._replace(id_, address)
        if node_id not in members:
            await self._change(AddLearner(node_id, address))
            self.log.info("master {node} at {address} joins", node=node_id, address=address)

    async def _replace(self, node_id: NodeId, address: str) -> None:
        """A new node has the address of a member: whose disk was lost, unless it is there."""
        if node_id == self.ledger.node_id or node_id in self._node().status().connected:
            raise BadRequest(
                f"{address} is the address of node {node_id}, which is a member and is connected; "
                "give this master an address of its own (--ip, --port)"
            )
        await self._change(Remove(node_id))
        self.log.warn("node {node} at {address} is replaced: its disk is lost", node=node_id, address=address)

    async def add(self, address: str) -> None:
        """Ask a master that waits at that address to join.  Raises BadRequest when there is none."""
        split_address(address)
        query = {"masters": ",".join(self.ledger.masters), "cluster": self.ledger.cluster_id}
        await self.peers.post_json(address, "/cluster/invite", query, timeout=INVITE_TIMEOUT)

    async def remove(self, which: str) -> None:
        """End a membership, by node id or address; raises BadRequest when it is unknown or the last voter's."""
        node_id = self.find(which)
        await self._turn.run(self._change, Remove(node_id))
        self.log.warn("master {which} is no member any more", which=which)

    async def rename(self, which: str, address: str) -> None:
        """Commit another address of a member."""
        split_address(address)
        node_id = self.find(which)
        members = self._node().core.log.membership.members
        check_reach({m.address for id_, m in members.items() if id_ != node_id}, address)
        await self._turn.run(self._change, ChangeAddress(node_id, address))

    async def transfer(self, which: str) -> None:
        """Let another master lead: that one, or with "" the one that is furthest."""
        target = self.find(which) if which else None
        try:
            await self._node().hand_over(target)
        except ChangeRefused as error:
            raise BadRequest(str(error)) from error
        except NotLeader as error:
            raise Unavailable("this master does not lead any more; ask again") from error

    def find(self, which: str) -> NodeId:
        """The member of that id, the beginning of one, or that address; raises BadRequest."""
        members = self._node().core.log.membership.members
        by_address = {canonical((member.address,)): id_ for id_, member in members.items()}
        fitting = [id_ for id_ in members if len(which) >= 4 and id_.startswith(which)]
        if not fitting and ":" in which:
            split_address(which)
            fitting = [id_ for address, id_ in by_address.items() if address == canonical((which,))]
        if len(fitting) != 1:
            known = ", ".join(f"{id_} at {member.address}" for id_, member in members.items())
            raise BadRequest(f"{which[:100]!r} is not the id or the address of a master; there are {known}")
        return fitting[0]

    # ------------------------------------------------------------------ upkeep

    def _keep_up(self) -> Deferred[None]:
        """Never fails, so that the next one comes."""
        if not self.ledger.has_lead or self._turn.locked:
            return succeed(None)
        change = self._due()
        if change is None:
            return succeed(None)
        work: Deferred[None] = self._turn.run(self._change, change)
        return work.addErrback(self._not_now, change)

    def _due(self) -> Change | None:
        """The next change that nobody has to ask for."""
        core = self._node().core
        if not isinstance(core.role, Leader) or core.log.membership_index > core.log.commit:
            return None
        members = core.log.membership.members
        for id_, member in members.items():
            address = self.ledger.address_of(id_)
            if address is not None and address != member.address and self._may_move(id_, address):
                return ChangeAddress(id_, address)
        for id_, progress in core.role.progress.items():
            is_near = progress.match > 0 and core.log.last_index - progress.match <= NEAR
            if not members[id_].voter and is_near and id_ in self._node().status().connected:
                return Promote(id_)
        return None

    def _may_move(self, node_id: NodeId, address: str) -> bool:
        """Whether the others could reach a member at the address that it goes by now."""
        members = self._node().core.log.membership.members
        try:
            check_reach({member.address for id_, member in members.items() if id_ != node_id}, address)
        except BadRequest as error:
            if self._immovable.get(node_id) != address:
                self._immovable[node_id] = address
                self.log.warn("node {node} keeps its address: {reason}", node=node_id, reason=str(error))
            return False
        return True

    def _not_now(self, failure: Any, change: Change) -> None:
        if failure.check(WeedError) is None:
            self.log.failure("while changing the membership: {change}", failure, change=change)

    async def _change(self, change: Change) -> None:
        """Make a change; raises BadRequest when it cannot be made, Unavailable when not now."""
        node = self._node()
        try:
            await node.change(change)
        except ChangeRefused as error:
            raise (BadRequest(str(error)) if _is_for_good(change, node) else Unavailable(str(error))) from error
        except (NotLeader, TooBusy, MaybeCommitted) as error:
            raise Unavailable(f"the membership was not changed: {error}") from error

    def _node(self) -> RaftNode:
        if self.ledger.node is None:
            raise Unavailable("this master belongs to no cluster yet")
        return self.ledger.node


def _is_for_good(change: Change, node: RaftNode) -> bool:
    """Whether a change would be refused by the membership itself, at any time."""
    try:
        change.apply(node.core.log.membership)
    except ChangeRefused:
        return True
    return False


def check_reach(members: "set[str] | Mapping[str, object]", newcomer: str) -> None:
    """Raise BadRequest when a newcomer and the members could not reach each other.

    A loopback address means another machine to everybody who reads it.
    """
    local = sorted(address for address in members if is_loopback(host_of(address)))
    far = sorted(address for address in members if not is_loopback(host_of(address)))
    if is_loopback(host_of(newcomer)) and far:
        raise BadRequest(
            f"this master calls itself {newcomer}, which on other hosts means themselves; the cluster has {far[0]}. "
            "Start it with --ip set to the address by which other hosts reach it"
        )
    if not is_loopback(host_of(newcomer)) and local:
        raise BadRequest(
            f"the cluster has a master that calls itself {local[0]}, which {newcomer} cannot reach; start that one "
            "again with --ip set to the address by which other hosts reach it"
        )
