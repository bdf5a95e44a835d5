"""Reclaiming the space of deleted files: the master says when, the volume servers do it.

A volume is compacted on all its servers; when each still has what it made, it is committed on one of them, then on
the others.  When anything fails before the first has committed, all clean up and the volume stays as it was.  A
server that dies, or whose disk fills up, after that stays behind: all copies hold the same files, but one of them its
garbage as well.  Its revision tells, to the next leader too: as soon as it can be, it alone is vacuumed.  Files are
read and written meanwhile.
"""

import enum
from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, succeed
from twisted.internet.interfaces import IDelayedCall
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
AGAIN = (
    5.0  # seconds until a copy that stayed behind is visited; then twice as long, up to the interval of the rounds
)
_ONLY_BEHIND = float("inf")  # a threshold
_REVISIONS = 1 << 16  # they wrap


class Visit(enum.Enum):
    """What a visit to a volume came to."""

    DONE = enum.auto()
    NOTHING = enum.auto()  # was to be done
    FAILED = enum.auto()  # or cannot be done now


@attrs.define(eq=False)
class Vacuum:
    """Vacuums all volumes now and then, and when asked to; one round at a time."""

    log = Logger()

    cluster: Cluster
    _round: DeferredLock = attrs.Factory(DeferredLock)
    _busy: dict[str, DeferredLock] = attrs.Factory(dict)  # by server address
    _loop: LoopingCall | None = None
    _behind: dict[int, IDelayedCall] = attrs.Factory(dict)  # by volume: the next visit to a copy that stayed behind

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
        behind, self._behind = self._behind, {}
        for call in behind.values():
            if call.active():
                call.cancel()

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

        async def visit(volume_id: int) -> Visit:
            return await desk.run(self._visit, volume_id, threshold)

        done = await outcomes(visit(volume_id) for volume_id in self._candidates())
        for outcome in done:
            if isinstance(outcome, Failure):
                self.log.failure("while vacuuming", outcome)
        return sum(outcome is Visit.DONE for outcome in done)

    def _candidates(self) -> list[int]:
        layouts = self.cluster.topology.layouts.values()
        return sorted(volume_id for layout in layouts for volume_id in layout.volume_ids())

    async def _visit(self, volume_id: int, threshold: float) -> Visit:
        """Vacuum one volume if it needs it; whatever keeps it from being vacuumed is logged."""
        servers = self._servers_of(volume_id)
        if not servers:
            return Visit.FAILED
        locks = [self._busy.setdefault(server.address, DeferredLock()) for server in servers]
        for lock in locks:  # in the order of addresses, so that no two visits wait for each other
            await lock.acquire()
        try:
            due = await self._due(volume_id, servers, threshold)
            if not due:
                return Visit.NOTHING
            await self._vacuum(volume_id, due)
        except PeerError as error:
            self.log.warn("volume {id} is not vacuumed: {reason}", id=volume_id, reason=str(error))
            return Visit.FAILED
        finally:
            for lock in locks:
                lock.release()
        self.log.info("vacuumed volume {id}", id=volume_id)
        return Visit.DONE

    def _servers_of(self, volume_id: int) -> list[Server]:
        """The servers of a volume all of whose copies are there and can be written to; else none."""
        copies = sorted(self.cluster.topology.copies(volume_id), key=lambda server: server.address)
        key = self.cluster.topology.key_of(volume_id)
        if key is None or len(copies) < key.replication.copies:
            return []
        return [] if any(server.volumes[volume_id].read_only for server in copies) else copies

    async def _due(self, volume_id: int, servers: Sequence[Server], threshold: float) -> list[Server]:
        """Whom to vacuum it on: all of them; those that stayed behind and have garbage; or none."""
        checked = _answered(await self._ask(servers, "check", volume_id))
        ratios = {address: _number(answer.get("garbageRatio")) for address, answer in checked.items()}
        behind = _behind({address: int(_number(answer.get("revision"))) for address, answer in checked.items()})
        if any(ratio > threshold for address, ratio in ratios.items() if address not in behind):
            return list(servers)
        return [server for server in servers if server.address in behind and ratios[server.address] > 0]

    async def _vacuum(self, volume_id: int, servers: Sequence[Server]) -> None:
        """On all of these servers or on none; or on some, and then on the others as soon as they can."""
        first, *others = servers
        try:
            _answered(await self._ask(servers, "compact", volume_id, COMPACT_TIMEOUT))
            for address, answer in _answered(await self._ask(servers, "check", volume_id)).items():
                if not answer.get("compacted", True):
                    raise PeerError(address, "it was started anew meanwhile", None)
            _answered(await self._ask([first], "commit", volume_id, COMMIT_TIMEOUT))
        except PeerError:
            await self._clean_up(volume_id, servers)
            raise
        done = await self._ask(others, "commit", volume_id, COMMIT_TIMEOUT)
        if done.failures:
            await self._clean_up(volume_id, [server for server in others if server.address not in done.answers])
            self._come_again(volume_id, AGAIN)
            raise done.failures[0]

    async def _clean_up(self, volume_id: int, servers: Sequence[Server]) -> None:
        cleaned = await self._ask(servers, "cleanup", volume_id, COMMIT_TIMEOUT)
        for error in cleaned.failures:
            self.log.warn("what vacuuming volume {id} left: {reason}", id=volume_id, reason=str(error))

    def _come_again(self, volume_id: int, seconds: float) -> None:
        """Visit a volume one of whose copies stayed behind, until none is."""
        if self._loop is not None and volume_id not in self._behind:
            self._behind[volume_id] = self.cluster.clock.callLater(seconds, self._catch_up, volume_id, seconds)

    def _catch_up(self, volume_id: int, waited: float) -> None:
        def is_over(outcome: Visit) -> None:
            self._behind.pop(volume_id, None)
            if outcome is Visit.FAILED and self.cluster.topology.key_of(volume_id) is not None:
                self._come_again(volume_id, min(2 * waited, self.cluster.config.vacuum_interval))

        if not self.cluster.ledger.is_leader:
            del self._behind[volume_id]  # the next leader's rounds find it
            return
        work = Deferred.fromCoroutine(self._visit(volume_id, _ONLY_BEHIND)).addCallback(is_over)
        work.addErrback(lambda failure: self.log.failure("while vacuuming", failure))

    async def _ask(self, servers: Sequence[Server], what: str, volume_id: int, timeout: float | None = None) -> Asked:
        addresses = [server.address for server in servers]
        path = f"/admin/vacuum/{what}"
        return await post_to_all(self.cluster.peers, addresses, path, {"volume": volume_id}, timeout=timeout)


def _answered(asked: Asked) -> dict[str, dict[str, object]]:
    """The answers of all by their addresses; raises what kept one from answering."""
    if asked.failures:
        raise asked.failures[0]
    return dict(asked.answers)


def _number(value: object) -> float:
    """What a server says, if it is a number; else 0."""
    return value if isinstance(value, int | float) else 0.0


def _behind(revisions: dict[str, int]) -> set[str]:
    """Who was vacuumed less often than another; none when that cannot be told, for revisions wrap."""

    def ahead(newest: int) -> list[int]:
        return [(newest - revision) % _REVISIONS for revision in revisions.values()]

    newest = [revision for revision in revisions.values() if max(ahead(revision)) < _REVISIONS // 2]
    return {address for address, revision in revisions.items() if newest and revision != newest[0]}
