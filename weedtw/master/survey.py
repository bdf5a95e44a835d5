"""The volumes of the cluster, added up for people: by collection, and one by one those in need of a look.

It goes through all volumes, of which there may be a hundred thousand, so it pauses often enough for the reactor to do
everything else meanwhile, and is not repeated before it has paid for itself.
"""

import time
from collections.abc import Sequence
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from weedtw.topology.layout import CROWDED, LayoutKey
from weedtw.topology.tree import Topology

MOST_SHOWN: Final = 100  # volumes of a kind, those in need of a look first
_STRETCH: Final = 1000  # volumes that are gone through without a pause
_SHARE: Final = 20  # one part in so many of the time may go into it


@attrs.frozen
class Look:
    """One volume: what is amiss with it, or that nothing is."""

    id: int
    missing: int = 0  # copies that are not here
    copies: int = 1  # that there should be
    read_only: str = ""  # why
    crowded: bool = False  # nine tenths full
    full: bool = False
    holders: tuple[str, ...] = ()

    @property
    def needs_a_look(self) -> bool:
        """Whether an operator may have to do something."""
        return bool(self.missing or self.read_only)


@attrs.frozen
class Kind:
    """The volumes that are alike; sizes in bytes, of one copy of each."""

    key: LayoutKey
    count: int
    writable: int
    files: int
    size: int
    deleted: int
    missing: int  # volumes with a copy missing
    read_only: int
    crowded: int
    shown: Sequence[Look]


@attrs.define(eq=False)
class Survey:
    """Looks at a topology."""

    topology: Topology
    clock: IReactorTime
    _found: list[Kind] = attrs.field(factory=list, init=False)
    _not_before: float = attrs.field(default=float("-inf"), init=False)

    async def look(self) -> list[Kind]:
        """Every kind, by collection; may be some moments old when there are very many volumes."""
        if self.clock.seconds() < self._not_before:
            return self._found
        self._not_before = float("inf")  # whoever comes meanwhile gets what there is
        spent = 0.0
        found = []
        try:
            keys = sorted(self.topology.layouts, key=lambda key: (key.collection, str(key)))
            for key in keys:
                kind, seconds = await self._of_kind(key)
                spent += seconds
                if kind is not None:
                    found.append(kind)
        finally:
            self._not_before = self.clock.seconds() + (_SHARE * spent if spent > 0.02 else 0.0)
        self._found = found
        return found

    async def _of_kind(self, key: LayoutKey) -> tuple[Kind | None, float]:
        layout = self.topology.layouts.get(key)
        if layout is None:
            return None, 0.0
        spent, began = 0.0, time.perf_counter()
        sums = [0] * 6
        troubled: list[Look] = []
        others: list[Look] = []
        for number, volume_id in enumerate(layout.volume_ids(), 1):
            look = self._of_volume(key, volume_id, sums)
            if look is not None:
                (troubled if look.needs_a_look else others).append(look)
            if number % _STRETCH == 0:
                spent += time.perf_counter() - began
                await deferLater(self.clock, 0)
                began = time.perf_counter()
        spent += time.perf_counter() - began
        others.sort(key=lambda look: not look.crowded)
        files, size, deleted, missing, read_only, crowded = sums
        shown = [*troubled[:MOST_SHOWN], *others[: max(0, MOST_SHOWN - len(troubled))]]
        count = len(troubled) + len(others)
        kind = Kind(
            *(key, count, layout.writable_count, files, size, deleted, missing, read_only, crowded), shown=shown
        )
        return kind, spent

    def _of_volume(self, key: LayoutKey, volume_id: int, sums: list[int]) -> Look | None:
        holders = self.topology.copies(volume_id)
        reports = [report for holder in holders if (report := holder.volumes.get(volume_id)) is not None]
        if not reports or self.topology.key_of(volume_id) != key:
            return None  # it has gone meanwhile
        size = max(report.size for report in reports)
        copies = key.replication.copies
        limit = self.topology.size_limit
        look = Look(
            volume_id,
            missing=max(0, copies - len(reports)),
            copies=copies,
            read_only=next((report.reason or "read-only" for report in reports if report.read_only), ""),
            crowded=limit * CROWDED <= size < limit,
            full=size >= limit,
            holders=tuple(holder.address for holder in holders),
        )
        first = reports[0]
        more = (first.file_count - first.delete_count, size, first.deleted_bytes)
        marks = (bool(look.missing), bool(look.read_only), look.crowded)
        sums[:] = [before + new for before, new in zip(sums, (*more, *marks), strict=True)]
        return look
