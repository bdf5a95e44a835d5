"""Taking the lead, and losing it: what a master has to see to before it decides anything.

It comes to the lead knowing the topology, since the volume servers report to every master.  What it has seen of them
is written down before it gives out the first key: the highest keys and volume ids in use, and the servers that nobody
has registered yet.
"""

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import Unavailable, WeedError
from weedtw.master.cluster import Cluster
from weedtw.master.heartbeats import Heartbeats
from weedtw.raft.interface import Changed
from weedtw.raft.leader import Leader
from weedtw.raft.node import RaftNode

PAUSE = 0.25  # seconds before what did not succeed is tried again


@attrs.define(eq=False)
class Office:
    """Watches who leads, for one master."""

    log = Logger()

    cluster: Cluster
    heartbeats: Heartbeats
    since: float | None = None  # when this master came to lead, on the clock; None while it does not
    leader_changes: int = 0  # how often a lead has ended and another begun since the start, be it the same master's
    _lead: tuple[str, int] | None = None  # the last leader that was known, and its term
    _term: int | None = None  # of the lead that was taken
    _seen: tuple[object, ...] = ()

    def watch(self, node: RaftNode) -> None:
        """Follow a node from its start."""
        node.observe(self._changed)

    def _changed(self, changed: Changed) -> None:
        status = changed.status
        leads = status.role == Leader.name and status.failed is None
        if status.leader is not None and self._lead != (status.leader, status.term):
            self.leader_changes += self._lead is not None
            self._lead = status.leader, status.term
        if leads and self._term != status.term:
            self._term, self.since = status.term, self.cluster.clock.seconds()
            self.cluster.keys.drop()
            Deferred.fromCoroutine(self._take(status.term)).addErrback(self._not_taken)
        elif not leads and self.since is not None:
            self._give_up()
        seen = (status.leader, status.role == Leader.name, self.cluster.masters)
        if seen != self._seen:
            self._seen = seen
            self.heartbeats.tell_leader()
        self.cluster.changes.announce()

    def lose(self) -> None:
        """Consensus has stopped here: this master decides nothing any more."""
        self._give_up()
        self.heartbeats.tell_leader()
        self.cluster.changes.announce()

    def _give_up(self) -> None:
        self._term = self.since = None
        self.cluster.keys.drop()

    async def _take(self, term: int) -> None:
        """Prepare to decide; what does not succeed is tried again as long as the lead lasts."""
        while self._term == term and self.cluster.ledger.has_lead:
            try:
                await self._prepare()
            except Unavailable:  # mostly because the lead is lost again, which is said elsewhere
                await deferLater(self.cluster.clock, PAUSE)
            else:
                return

    async def _prepare(self) -> None:
        """Whoever waits for a decision meanwhile waits for the same commits."""
        await self.heartbeats.raise_volume_ids()  # before anybody can ask for a new one
        await self.cluster.keys.begin()
        await self.cluster.ledger.confirm()
        self.heartbeats.tell_leader()
        self.cluster.changes.announce()
        await self.heartbeats.write_down()

    def _not_taken(self, failure: Failure) -> None:
        if failure.check(WeedError) is None:
            self.log.failure("while taking the lead", failure)
        else:
            self.log.error("while taking the lead: {reason}", reason=str(failure.value))
