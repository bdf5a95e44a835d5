"""Settling volumes that were half made when a leader died, or that could not be taken back.

The agreed state lists the ids of volumes that are growing.  A leader that has led for a while looks at those that it
is not making itself: a volume with all its copies is finished; one with too few, and nothing in it, is deleted, since
nobody was ever sent to it.
"""

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import Unavailable
from weedtw.formats.beat import VolumeReport
from weedtw.master.asking import post_to_all
from weedtw.master.cluster import Cluster
from weedtw.master.growth import MAKE_TIMEOUT, Grower
from weedtw.master.office import Office
from weedtw.topology.server import Server
from weedtw.topology.state import FinishVolumes

ROUND = 5.0  # seconds between two looks
PATIENCE = 2 * MAKE_TIMEOUT  # seconds of leading before the first: a leader of before may still be making them


@attrs.define(eq=False)
class Orphans:
    """Looks after what is growing and is nobody's work."""

    log = Logger()

    cluster: Cluster
    grower: Grower
    office: Office
    _loop: LoopingCall | None = None
    _is_busy: bool = False

    def start(self) -> None:
        """Begin to look."""
        loop = self._loop = LoopingCall(self._round)
        loop.clock = self.cluster.clock
        loop.start(ROUND, now=False)

    def stop(self) -> None:
        """Look no more."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    def _round(self) -> Deferred[None]:
        """Never fails, so that the next one comes."""
        since = self.office.since
        if since is None or self.cluster.clock.seconds() - since < PATIENCE or not self.cluster.ledger.is_leader:
            return succeed(None)
        return Deferred.fromCoroutine(self.settle()).addErrback(self._not_settled)

    def _not_settled(self, failure: Failure) -> None:
        if failure.check(Unavailable) is None:  # else the lead is lost, and the next leader will look
            self.log.failure("while settling half-made volumes", failure)

    async def settle(self) -> None:
        """Look at each once; raises Unavailable when the lead is lost meanwhile."""
        growing = [id_ for id_ in self.cluster.ledger.state.growing if id_ not in self.grower.making]
        settled = [id_ for id_ in growing if await self._is_settled(id_)]
        if settled:
            await self.cluster.ledger.submit(FinishVolumes(tuple(settled)))
        for volume_id in settled:  # it may have been this master that could not take it back
            self.cluster.topology.release(volume_id)

    async def _is_settled(self, volume_id: int) -> bool:
        cluster = self.cluster
        holders = [server for server in cluster.topology.servers.values() if volume_id in server.volumes]
        reports = [server.volumes[volume_id] for server in holders]
        if reports and (len(reports) >= reports[0].replication.copies or any(map(_is_used, reports))):
            return True
        state = cluster.ledger.state
        if cluster.topology.awaited(volume_id, list(state.servers), state.max_volume_id):
            return False  # a copy may be on a server that is away
        return await self._delete(volume_id, holders)

    async def _delete(self, volume_id: int, holders: list[Server]) -> bool:
        query = {"volume": volume_id, "onlyEmpty": "true"}
        addresses = [server.address for server in holders]
        asked = await post_to_all(self.cluster.peers, addresses, "/admin/delete_volume", query, timeout=MAKE_TIMEOUT)
        failures = [failure for failure in asked.failures if failure.status != 404]
        for failure in failures:
            self.log.warn("half-made volume {id} stays: {reason}", id=volume_id, reason=str(failure))
        if holders and not failures:
            self.log.info("deleted volume {id}, which was half made when the leader changed", id=volume_id)
        return not failures


def _is_used(report: VolumeReport) -> bool:
    return report.file_count > 0
