"""A member's look around: for others that are not where they were, and for masters that are no members at all.

Members find each other by the addresses that are on their disks, and tell each other new ones.  When so many have
moved that nobody knows anybody's address, `--peers` helps, and what the ones that are found know of the others.
"""

from collections import Counter
from collections.abc import Iterable

import attrs
from twisted.logger import Logger

from weedtw.config.model import MasterConfig
from weedtw.errors import LeftBehind, StoreFailed
from weedtw.http.agent import PeerAgent
from weedtw.master.beliefs import Belief, ask_all
from weedtw.master.consensus import RaftLedger
from weedtw.master.founding import canonical, is_same
from weedtw.raft.node import RaftNode


@attrs.define(eq=False)
class Lookout:
    """One member's; `path` is its memory, to be named in complaints."""

    log = Logger()

    config: MasterConfig
    address: str
    ledger: RaftLedger
    peers: PeerAgent
    node: RaftNode
    path: str
    removed: str = ""  # that the cluster does not count on this master, and what to do
    _heard: set[str] = attrs.Factory(set)  # addresses of --peers where somebody has answered
    _said: set[str] = attrs.Factory(set)

    async def look(self, hints: Iterable[str] = ()) -> None:
        """Ask once around; `hints` are more addresses that somebody has given."""
        beliefs = await ask_all(self.peers, self._whom(hints))
        self.removed = ""
        for belief in beliefs:
            self._heard.update(canonical((belief.asked,)))
            self._hear_of(belief)
        await self._meet_twins(beliefs)

    def _whom(self, hints: Iterable[str]) -> list[str]:
        """While a member cannot be reached, or nobody leads: whoever may know.  Else: those not heard of yet."""
        own = self.node.identity.node
        known = {id_: self.ledger.address_of(id_) or "" for id_ in self._members if id_ != own}
        if self.ledger.leader_address is None or not known.keys() <= self.node.status().connected:
            asked = [*self.config.peers, *hints, *known.values()]
        else:
            heard = {*self._heard, *canonical(known.values())}
            asked = [peer for peer in self.config.peers if not heard.issuperset(canonical((peer,)))]
        return [address for address in asked if not is_same(address, self.address)]

    @property
    def _members(self) -> Iterable[str]:
        return self.node.core.log.membership.members.keys()

    def _hear_of(self, belief: Belief) -> None:
        own = self.node.identity
        if belief.cluster == own.cluster:
            if belief.leads and own.node not in belief.members:
                self._is_gone_without(belief)
            for id_, address in belief.reached.items():
                self._learn(id_, address)
            if not belief.failed:
                self._learn(belief.node, belief.address)
        elif belief.cluster:
            self._complain(
                f"the master at {belief.asked} belongs to cluster {belief.cluster}, and this one to cluster "
                f"{own.cluster}, as {self.path} says. Clusters stay apart; to bring a master over, stop it, move its "
                "raft.sqlite3 away, and start it with --peers naming a master of the other cluster"
            )

    def _is_gone_without(self, leader: Belief) -> None:
        """The cluster does not count on this master any more.

        When the majority was lost and one master was recovered, the others that come back after all could be a
        majority among themselves, and lead a second cluster of the same id.  So whoever hears of a leader of a later
        term that does not count on it takes part no more; neither will ever follow the other.
        """
        way_back = f"to let it join anew, stop it, move {self.path} away, and start it with --peers={leader.address}"
        self.removed = f"the cluster has removed this master; {way_back}"
        self._complain(self.removed)
        if leader.term > self.node.core.term:
            self.node.retire(LeftBehind(self.path, f"the cluster has gone on without this master; {way_back}"))

    async def _meet_twins(self, beliefs: list[Belief]) -> None:
        """See whether the others reach this node elsewhere.

        They may not have noticed yet that it has moved; but when somebody answers there under its name, one of the
        two has a copy of the other's folder.  Then the one stays with whom more of the others speak, for it may have
        promised them something, and the other takes part no more: two that vote as one could elect two leaders.
        """
        own = self.node.identity
        reached = [b.reached[own.node] for b in beliefs if b.cluster == own.cluster and own.node in b.reached]
        places = Counter(canonical((address,))[0] for address in reached)
        here = canonical((self.address,))[0]
        weightier = [place for place in places if (-places[place], place) < (-places[here], here)]
        for twin in await ask_all(self.peers, weightier):
            if twin.node == own.node and not twin.failed and not is_same(twin.address, self.address):
                reason = (
                    f"is a copy of that of the master at {twin.address}, or that one's is of this: both run as node "
                    f"{twin.node}, and the other masters speak with that one. Stop one of the two, and for a further "
                    "master start with an empty folder"
                )
                self.node.retire(StoreFailed(self.path, reason))

    def _learn(self, node_id: str, address: str) -> None:
        """Somebody knows a member at that address; it counts when this one cannot find it."""
        transport = self.ledger.transport
        assert transport is not None  # there is a node
        is_missing = node_id in self._members and node_id not in self.node.status().connected
        if is_missing and transport.address_of(node_id) != address:
            transport.learn(node_id, address)

    def _complain(self, complaint: str) -> None:
        """Say it once."""
        if complaint not in self._said:
            self._said.add(complaint)
            self.log.error("{complaint}", complaint=complaint)
