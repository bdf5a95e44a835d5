"""Making new volumes on volume servers.

A volume id is committed before the volume is made anywhere.  A volume of which not every copy could be made is
taken back everywhere, and its id is never used again; until that is settled nobody is sent to it.  What a leader that
died has left half made, or could not take back, is settled by `weedtw.master.orphans`.
"""

from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import NoRoom, PeerError, Unavailable, Unreachable, WeedError
from weedtw.formats.beat import VolumeReport
from weedtw.master.asking import post_to_all
from weedtw.master.cluster import Cluster
from weedtw.master.flight import Flight, outcomes
from weedtw.topology.growth import place_volume
from weedtw.topology.layout import LayoutKey, Where
from weedtw.topology.server import Server
from weedtw.topology.state import AllocateVolumeIds, FinishVolumes

MAKE_TIMEOUT = 5.0  # seconds for a server to make an empty volume
AT_ONCE = 16  # volumes being made at the same time
PAUSE = 10.0  # seconds between two attempts to make volumes ahead
BREATH = 32  # volumes placed before others get their turn
ATTEMPTS = 3  # other servers are tried when some fail
RESPITE = 1.0  # seconds for which what has just failed is not tried again for whoever asks for a file id
_MOST_FAILURES = 1000  # remembered; collections are named by clients


@attrs.frozen
class Order:
    """What volumes to make: `count` of them, or fewer if there is no room for all and `or_none` is not set."""

    key: LayoutKey
    where: Where
    count: int
    or_none: bool = False


@attrs.define(eq=False)
class Grower:
    """Makes volumes, for each layout one order at a time."""

    log = Logger()

    cluster: Cluster
    making: set[int] = attrs.Factory(set)  # ids of volumes under way here
    _settled: list[int] = attrs.Factory(list)  # those that are not any more, and that is not written down yet
    _flights: dict[LayoutKey, tuple[Where, Flight[int]]] = attrs.Factory(dict)
    _again_at: dict[LayoutKey, float] = attrs.Factory(dict)  # when volumes may be made ahead again, on the clock
    _failures: dict[tuple[LayoutKey, Where], tuple[float, str]] = attrs.Factory(dict)  # when, on the clock, and why

    def under_way(self, key: LayoutKey) -> tuple[Where, Flight[int]] | None:
        """Where volumes of this kind are being made now, and their number when it is done."""
        return self._flights.get(key)

    def grow(self, order: Order) -> Flight[int]:
        """Carry an order out, in the background if nobody joins; none of that layout may be under way."""
        assert order.key not in self._flights
        flight = Flight.take_off(self._run(order))
        if not flight.is_over:
            self._flights[order.key] = (order.where, flight)
        return flight

    async def grow_all(self, order: Order) -> int:
        """Carry an order out after those for the same layout that are under way; gives the number of volumes made.

        Raises NoRoom, Unavailable.
        """
        while (under_way := self._flights.get(order.key)) is not None:
            await _outcome(under_way[1])
        return await self.grow(order).join()

    def check_respite(self, key: LayoutKey, where: Where) -> None:
        """Raise Unavailable when making such volumes there has just failed.

        Clients that ask again and again would cost ids, work on every server, and a line in the log for each time.
        """
        failed_at, reason = self._failures.get((key, where), (0.0, ""))
        if reason and self.cluster.clock.seconds() < failed_at + RESPITE:
            raise Unavailable(reason)

    def grow_ahead(self, key: LayoutKey, where: Where) -> None:
        """Make volumes before the last ones are full; what goes wrong is logged, and not tried again at once."""
        now = self.cluster.clock.seconds()
        if key not in self._flights and self._again_at.get(key, now) <= now:
            self._again_at[key] = now + PAUSE
            flight = self.grow(Order(key, where, self.usual_count(key)))
            Deferred.fromCoroutine(flight.join()).addErrback(self._not_ahead, key)

    def _not_ahead(self, failure: Failure, key: LayoutKey) -> None:
        if failure.check(WeedError) is None:
            self.log.failure("while making volumes of {key} ahead", failure, key=key)
        else:
            reason = str(failure.value)
            self.log.warn(
                "the last volumes of {key} fill up, and there will be no more: {reason}", key=key, reason=reason
            )

    def usual_count(self, key: LayoutKey) -> int:
        """How many volumes are made when one is wanted."""
        return self.cluster.config.growth.for_copies(key.replication.copies)

    async def quiet(self, collection: str) -> None:
        """Wait until no volume of a collection is being made."""
        for key, (_, flight) in list(self._flights.items()):
            if key.collection == collection:
                await _outcome(flight)

    async def _run(self, order: Order) -> int:
        try:
            made = await self._make_all(order)
            self._failures.pop((order.key, order.where), None)
            self.log.info("made {count} volumes of {key}{where}", count=made, key=order.key, where=order.where)
            return made
        except NoRoom:  # whoever asked is told
            raise
        except WeedError as error:
            self._note_failure(order, str(error))
            raise
        finally:
            self._flights.pop(order.key, None)
            self._write_down_settled()

    async def _allocate(self, count: int) -> int:
        """The first of so many new volume ids in a row; raises NoRoom, Unavailable."""
        first: int = await self.cluster.ledger.submit(AllocateVolumeIds(count))
        self.making.update(range(first, first + count))
        return first

    def _settle(self, volume_id: int) -> None:
        """All copies of a volume are made, or none: nobody has to look after it any more."""
        self.making.discard(volume_id)
        self._settled.append(volume_id)

    def _write_down_settled(self) -> None:
        settled, self._settled = self._settled, []
        if settled:
            work = Deferred.fromCoroutine(self.cluster.ledger.submit(FinishVolumes(tuple(settled))))
            work.addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> None:
        """Who comes to lead will find out."""
        if failure.check(Unavailable) is None:
            self.log.failure("while writing down which volumes are made", failure)

    def _note_failure(self, order: Order, reason: str) -> None:
        """Remember it, and log it unless it is what the last attempt met as well."""
        _, last = self._failures.get((order.key, order.where), (0.0, ""))
        if len(self._failures) >= _MOST_FAILURES:
            self._failures.clear()
        self._failures[order.key, order.where] = (self.cluster.clock.seconds(), reason)
        if reason != last:
            self.log.warn(
                "no volume of {key} could be made{where}: {reason}", key=order.key, where=order.where, reason=reason
            )

    async def _make_all(self, order: Order) -> int:
        """How many were made; raises what kept the first one from being made when it is none."""
        places = await self._reserve_all(order)
        try:
            first_id = await self._allocate(len(places))
        except WeedError:
            for servers in places:
                _unreserve(servers)
            raise
        desk = DeferredSemaphore(AT_ONCE)

        async def make(volume_id: int, servers: tuple[Server, ...]) -> None:
            await desk.run(self._make, order, volume_id, servers)

        made = await outcomes(make(volume_id, servers) for volume_id, servers in enumerate(places, first_id))
        failures = [outcome for outcome in made if outcome is not None]
        if len(failures) == len(made):
            failures[0].raiseException()
        return len(made) - len(failures)

    async def _reserve_all(self, order: Order) -> list[tuple[Server, ...]]:
        """Servers for the copies of each volume; with `or_none` for all of them, else for at least one.

        Raises NoRoom, and then nothing is reserved.
        """
        free = sum(server.free for server in self.cluster.topology.servers.values())
        needed = order.count * order.key.replication.copies
        if order.or_none and needed > free:
            raise NoRoom(f"{order.count} volumes of {order.key} take {needed} volume slots, {free} are free")
        places: list[tuple[Server, ...]] = []
        while len(places) < order.count:
            try:
                places.append(self._reserve(order, frozenset()))
            except NoRoom as error:
                if places and not order.or_none:
                    break
                for servers in places:
                    _unreserve(servers)
                if places:
                    raise NoRoom(f"there is room for {len(places)} of {order.count} volumes: {error}") from error
                raise
            if len(places) % BREATH == 0:
                await deferLater(self.cluster.clock, 0)
        return places

    def _reserve(self, order: Order, avoid: frozenset[str]) -> tuple[Server, ...]:
        """Servers for the copies of one volume; raises NoRoom."""
        chosen = place_volume(
            (server for server in self.cluster.topology.servers.values() if server.address not in avoid),
            order.key.replication,
            self.cluster.rng,
            where=order.where,
            disk_type=order.key.disk_type,
        )
        for server in chosen:
            server.reserved += 1
        return chosen

    async def _make(self, order: Order, volume_id: int, servers: tuple[Server, ...]) -> None:
        """Make one volume; on other servers under another id when some of these fail."""
        failed: set[str] = set()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                while self.cluster.topology.key_of(volume_id) is not None:  # a server came that holds it already
                    self._settle(volume_id)
                    volume_id = await self._allocate(1)
                failures = await self._make_copies(order.key, volume_id, servers)
            finally:
                self.making.discard(volume_id)
                _unreserve(servers)
            if not failures:
                return
            if attempt < ATTEMPTS:
                failed |= {failure.address for failure in failures}
                try:
                    servers = self._reserve(order, frozenset(failed))
                except NoRoom:
                    break
                try:
                    volume_id = await self._allocate(1)
                except WeedError:
                    _unreserve(servers)
                    raise
        raise Unavailable("no volume could be made: " + "; ".join(map(str, failures)))

    async def _make_copies(self, key: LayoutKey, volume_id: int, servers: Sequence[Server]) -> Sequence[PeerError]:
        """Make every copy of a volume, or none; gives the failures."""
        topology = self.cluster.topology
        topology.hold_back(volume_id)
        query = {
            "volume": volume_id,
            "collection": key.collection,
            "replication": str(key.replication),
            "ttl": str(key.ttl),
            "disk": key.disk_type or None,
        }
        failures = await self._ask_all(servers, "/admin/assign_volume", query)
        for server in servers:
            if topology.servers.get(server.address) is not server and not failures:
                failures = [PeerError(server.address, "the server has left")]
        if failures:
            await self._take_back(volume_id, servers, failures)
            return failures
        now = int(self.cluster.now())
        for server in servers:
            if volume_id not in server.volumes:  # its own report may have been faster
                topology.add_volume(server, _fresh(volume_id, key, now))
        topology.release(volume_id)
        self._settle(volume_id)
        self.cluster.changes.announce()
        return []

    async def _take_back(self, volume_id: int, servers: Sequence[Server], failures: Sequence[PeerError]) -> None:
        """Delete the copies that were made, or may have been; the volume stays held back if that fails.

        Who refused has made nothing, and may hold another volume of that id, which is not ours to delete.
        """
        not_made = {failure.address for failure in failures if _made_nothing(failure)}
        doubtful = [server for server in servers if server.address not in not_made]
        left_over = await self._ask_all(doubtful, "/admin/delete_volume", {"volume": volume_id})
        left_over = [failure for failure in left_over if failure.status != 404]
        if not left_over:
            self.cluster.topology.release(volume_id)
            self._settle(volume_id)
        for failure in left_over:
            self.log.error(
                "volume {id} was not made on all its servers and could not be deleted again: {reason}; "
                "nobody writes to it, and it will be tried again",
                id=volume_id,
                reason=str(failure),
            )

    async def _ask_all(self, servers: Sequence[Server], path: str, query: dict[str, object]) -> Sequence[PeerError]:
        addresses = [server.address for server in servers]
        return (await post_to_all(self.cluster.peers, addresses, path, query, timeout=MAKE_TIMEOUT)).failures


async def _outcome(flight: Flight[int]) -> None:
    """Wait for the end of a flight, whatever it is; whoever ordered it deals with a failure."""
    try:
        await flight.join()
    except WeedError:
        return


def _made_nothing(failure: PeerError) -> bool:
    """Whether a server was not reached, or understood the order and refused it."""
    return isinstance(failure, Unreachable) or (failure.status is not None and 400 <= failure.status < 500)


def _unreserve(servers: Sequence[Server]) -> None:
    for server in servers:
        server.reserved -= 1


def _fresh(volume_id: int, key: LayoutKey, now: int) -> VolumeReport:
    """What a server will report of a volume it has just made."""
    return VolumeReport(
        id=volume_id,
        collection=key.collection,
        size=8,
        file_count=0,
        delete_count=0,
        deleted_bytes=0,
        modified_at=now,
        compact_revision=0,
        version=3,
        replication=key.replication,
        ttl=key.ttl,
        disk_type=key.disk_type,
    )
