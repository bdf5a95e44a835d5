"""Reclaiming the space of deleted files: the master says when, the volume servers do it.

A volume is compacted on all its servers, then committed on all of them; when one cannot compact, all clean up
and the volume stays as it was.  Files are read and written meanwhile.
"""

from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import PeerError
from weedtw.master.asking import Asked, post_to_all
from weedtw.master.cluster import Cluster
from weedtw.master.flight import outcomes
from weedtw.topology.server import Server

COMPACT_TIMEOUT = 3600.0  # seconds: a volume of 30 GB on a slow disk
COMMIT_TIMEOUT = 300.0  # seconds
AT_ONCE = 4  # volumes being vacuumed at the same time, no two of them on one server


@attrs.define(eq=False)
class Vacuum:
    """Vacuums all volumes now and then, and when asked to; one round at a time."""

    log = Logger()

    cluster: Cluster
    _round: DeferredLock = attrs.Factory(DeferredLock)
    _busy: dict[str, DeferredLock] = attrs.Factory(dict)  # by server address
    _loop: LoopingCall | None = None

    def start(self) -> None:
        """Begin with the rounds that nobody asks for."""
        loop = self._loop = LoopingCall(self._usual_round)
        loop.clock = self.cluster.clock
        loop.start(self.cluster.config.vacuum_interval, now=False)

    def stop(self) -> None:
        """Begin no further round; what is under way on a volume server it cleans up itself."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    def _usual_round(self) -> Deferred[object]:
        """Never fails, so that the next one comes."""
        if not self.cluster.ledger.is_leader:
            return succeed(None)
        work: Deferred[object] = Deferred.fromCoroutine(self.run(self.cluster.config.garbage_threshold))
        return work.addErrback(lambda failure: self.log.failure("while vacuuming", failure))

    async def run(self, threshold: float) -> int:
        """Vacuum every volume whose share of garbage (0 to 1) is over the threshold; gives how many were."""
        return await self._round.run(self._run, threshold)

    async def _run(self, threshold: float) -> int:
        desk = DeferredSemaphore(AT_ONCE)

        async def visit(volume_id: int) -> bool:
            return await desk.run(self._visit, volume_id, threshold)

        done = await outcomes(visit(volume_id) for volume_id in self._candidates())
        for outcome in done:
            if isinstance(outcome, Failure):
                self.log.failure("while vacuuming", outcome)
        return sum(outcome is True for outcome in done)

    def _candidates(self) -> list[int]:
        layouts = self.cluster.topology.layouts.values()
        return sorted(volume_id for layout in layouts for volume_id in layout.volume_ids())

    async def _visit(self, volume_id: int, threshold: float) -> bool:
        """Vacuum one volume if it needs it; whatever keeps it from being vacuumed is logged."""
        servers = self._servers_of(volume_id)
        locks = [self._busy.setdefault(server.address, DeferredLock()) for server in servers]
        for lock in locks:  # in the order of addresses, so that no two visits wait for each other
            await lock.acquire()
        try:
            if not await self._is_due(volume_id, servers, threshold):
                return False
            return await self._vacuum(volume_id, servers)
        except PeerError as error:
            self.log.warn("volume {id} is not vacuumed: {reason}", id=volume_id, reason=str(error))
            return False
        finally:
            for lock in locks:
                lock.release()

    def _servers_of(self, volume_id: int) -> list[Server]:
        """The servers of a volume all of whose copies are there and can be written to; else none."""
        copies = sorted(self.cluster.topology.copies(volume_id), key=lambda server: server.address)
        key = self.cluster.topology.key_of(volume_id)
        if key is None or len(copies) < key.replication.copies:
            return []
        return [] if any(server.volumes[volume_id].read_only for server in copies) else copies

    async def _is_due(self, volume_id: int, servers: Sequence[Server], threshold: float) -> bool:
        checked = await self._ask(servers, "check", volume_id)
        ratios = [answer.get("garbageRatio") for answer in checked.answers.values()]
        if checked.failures:
            raise checked.failures[0]
        return any(isinstance(ratio, int | float) and ratio > threshold for ratio in ratios)

    async def _vacuum(self, volume_id: int, servers: Sequence[Server]) -> bool:
        for step, timeout in (("compact", COMPACT_TIMEOUT), ("commit", COMMIT_TIMEOUT)):
            done = await self._ask(servers, step, volume_id, timeout)
            if done.failures:
                doubtful = [server for server in servers if step == "compact" or server.address not in done.answers]
                cleaned = await self._ask(doubtful, "cleanup", volume_id, COMMIT_TIMEOUT)
                for error in cleaned.failures:
                    self.log.warn("what vacuuming volume {id} left: {reason}", id=volume_id, reason=str(error))
                raise done.failures[0]
        self.log.info("vacuumed volume {id}", id=volume_id)
        return True

    async def _ask(self, servers: Sequence[Server], what: str, volume_id: int, timeout: float | None = None) -> Asked:
        addresses = [server.address for server in servers]
        path = f"/admin/vacuum/{what}"
        return await post_to_all(self.cluster.peers, addresses, path, {"volume": volume_id}, timeout=timeout)
