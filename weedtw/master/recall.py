"""Telling volume servers that are away where the masters are now.

A volume server looks for its masters at the addresses that it remembers.  When they have all come back elsewhere, or
moved one by one while it was away, none of those is right.  But the leader knows where the server listens, and tells
it.  Whether that is the truth the server finds out by itself: from the cluster's id.
"""

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import PeerError
from weedtw.master.cluster import Cluster
from weedtw.master.flight import outcomes

INTERVAL = 1.5  # seconds between two rounds
TIMEOUT = 2.0  # seconds that a server has to answer
AT_ONCE = 32  # servers that are told at the same time
COMPLAINTS = 1000  # servers whose last refusal is remembered


@attrs.define(eq=False)
class Recall:
    """Calls those back that have been away for two rounds in a row, while this master leads."""

    log = Logger()

    cluster: Cluster
    _absent: frozenset[str] = frozenset()  # at the last round
    _refusals: dict[str, str] = attrs.Factory(dict)  # the last one logged, by address
    _loop: LoopingCall | None = None

    def start(self) -> None:
        """Begin with the rounds."""
        loop = self._loop = LoopingCall(self._usual_round)
        loop.clock = self.cluster.clock
        loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Begin no further round."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    def _usual_round(self) -> Deferred[object]:
        """Never fails, so that the next one comes."""
        if not self.cluster.ledger.is_leader:
            self._absent = frozenset()
            return succeed(None)
        before, self._absent = self._absent, frozenset(self.cluster.absent())
        work: Deferred[object] = Deferred.fromCoroutine(self._call(sorted(before & self._absent)))
        return work.addErrback(lambda failure: self.log.failure("while calling volume servers back", failure))

    async def _call(self, addresses: list[str]) -> None:
        desk = DeferredSemaphore(AT_ONCE)
        query = {"cluster": self.cluster.ledger.cluster_id, "masters": ",".join(self.cluster.masters)}

        async def tell(address: str) -> None:
            if self._loop is not None and self.cluster.ledger.is_leader:
                await self.cluster.peers.post_json(address, "/admin/masters", query, timeout=TIMEOUT)

        async def visit(address: str) -> None:
            await desk.run(tell, address)

        told = await outcomes(visit(address) for address in addresses)
        for address, outcome in zip(addresses, told, strict=True):
            if isinstance(outcome, Failure):
                self._not_told(address, outcome)

    def _not_told(self, address: str, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, PeerError):
            self.log.failure("while calling {address} back", failure, address=address)
        elif error.status is None:  # it is not there, which is what absent means
            self.log.debug("{address} is not there: {reason}", address=address, reason=error.reason)
        elif self._refusals.get(address) != error.reason:
            if len(self._refusals) >= COMPLAINTS:
                self._refusals.clear()
            self._refusals[address] = error.reason
            self.log.warn(
                "volume server {address} does not want to know where the masters are: {reason}",
                address=address,
                reason=error.reason,
            )
