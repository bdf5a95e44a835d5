"""Giving out file ids: a volume to write to, keys in it, and a cookie that keeps them from being guessed."""

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004 - Twisted's own

from weedtw.errors import NoRoom, Unavailable, WeedError
from weedtw.formats.fileid import FileId
from weedtw.master.cluster import Cluster
from weedtw.master.flight import Flight
from weedtw.master.growth import Grower, Order
from weedtw.topology.layout import LayoutKey, Pick, Where
from weedtw.topology.server import Server

PATIENCE = 8.0  # seconds that a request for a file id may wait for a volume
SETTLING_PATIENCE = 5.0  # seconds of those it waits for volume servers to report
GATHERING_STEP = 0.5  # seconds after which it is looked again whether volume servers may still be coming


@attrs.frozen
class Assignment:
    """`count` file ids: the one named, and those after it (`_1`, `_2` …), to be written to `server`."""

    file_id: FileId
    count: int
    server: Server


@attrs.frozen
class Wish:
    """What file ids are wanted; `grow` is how many volumes to make if there is none (0: as configured)."""

    key: LayoutKey
    where: Where = attrs.Factory(Where)
    count: int = 1
    grow: int = 0
    picky: Where | None = attrs.field(init=False, eq=False, repr=False)  # `where`; None: anywhere

    @picky.default
    def _where_if_any(self) -> Where | None:
        return self.where or None


@attrs.define(eq=False)
class Assigner:
    """Answers wishes; `make_cookie` gives an unpredictable number of 32 bits."""

    cluster: Cluster
    grower: Grower
    make_cookie: Callable[[], int]

    def assign_at_once(self, wish: Wish) -> Assignment | None:
        """An assignment from what is at hand, without waiting; None when something has to be waited for."""
        taken = self.take_at_once(wish)
        return None if taken is None else self._assignment(*taken, wish.count)

    def take_at_once(self, wish: Wish) -> tuple[Pick, int] | None:
        """The volume and the first key of `assign_at_once`; each id needs a cookie of its own still."""
        pick = self._pick(wish) if self.cluster.ledger.is_leader else None
        if pick is None:
            return None
        key = self.cluster.keys.take_at_once(wish.count)
        return None if key is None else (pick, key)

    async def assign(self, wish: Wish) -> Assignment:
        """An assignment; makes volumes if there are none to write to.

        Raises BadRequest for a place that does not exist, NoRoom when it can never be, Unavailable when it may be
        later.  Returns or raises within PATIENCE seconds, plus those that the ledger takes.
        """
        ledger = self.cluster.ledger
        while True:
            # The volume first: a server that came meanwhile may have raised the keys above those already taken.
            pick = self._pick(wish) or await self._wait_for_volume(wish)
            await ledger.confirm()  # whatever was waited for: a master that leads no more gives out nothing
            key = self.cluster.keys.take_at_once(wish.count)
            if key is not None:
                return self._assignment(pick, key, wish.count)
            await self.cluster.keys.more()

    def _pick(self, wish: Wish) -> Pick | None:
        layout = self.cluster.topology.layouts.get(wish.key)
        pick = None if layout is None else layout.pick(self.cluster.rng, wish.picky)
        if pick is not None and pick.crowded:
            self.grower.grow_ahead(wish.key, wish.where)
        return pick

    def _assignment(self, pick: Pick, key: int, count: int) -> Assignment:
        return Assignment(FileId(pick.volume_id, key, self.make_cookie()), count, pick.server)

    # -------------------------------------------------------------- when there is no volume

    async def _wait_for_volume(self, wish: Wish) -> Pick:
        clock = self.cluster.clock
        began = clock.seconds()
        while (pick := self._pick(wish)) is None:
            self.cluster.check_place(wish.where)
            waited = clock.seconds() - began
            awaited = self.cluster.awaited()
            if awaited:
                if waited >= SETTLING_PATIENCE:
                    raise Unavailable(_settling(awaited))
                await self.cluster.changes.wait(SETTLING_PATIENCE - waited)
                continue
            if waited >= PATIENCE:
                raise Unavailable(f"volumes of {wish.key} are being made; try again")
            await self._grow(wish, PATIENCE - waited)
        return pick

    async def _grow(self, wish: Wish, seconds: float) -> None:
        """Make volumes, or wait for those being made; gives up waiting, not making, after so many seconds."""
        under_way = self.grower.under_way(wish.key)
        if under_way is None:
            self.grower.check_respite(wish.key, wish.where)
            count = wish.grow or self.grower.usual_count(wish.key)
            flight = self.grower.grow(Order(wish.key, wish.where, count))
        else:
            flight = under_way[1]
        try:
            await self._patiently(flight, seconds)
        except WeedError as error:
            if under_way is not None and under_way[0] != wish.where:
                return  # that was about another place: our own turn comes now
            if isinstance(error, NoRoom) and self.cluster.is_gathering:
                # All was started just now: whoever asks this early is not to hear of a lack of space.
                await self.cluster.changes.wait(min(seconds, GATHERING_STEP))
                return
            absent = self.cluster.absent()
            if absent and isinstance(error, NoRoom):
                names = ", ".join(absent[:5])
                raise Unavailable(f"{error}; volume servers that are not connected now: {names}") from error
            raise

    async def _patiently(self, flight: Flight[int], seconds: float) -> None:
        try:
            await Deferred.fromCoroutine(flight.join()).addTimeout(seconds, self.cluster.clock)
        except TimeoutError:
            return


def _settling(awaited: list[str]) -> str:
    names = ", ".join(awaited[:5])
    return f"this master has just started and still waits for volume servers to report: {names}"
