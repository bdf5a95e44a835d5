"""Writing and deleting on every copy of a volume: all of them, or none.

The server that a client talks to decides everything once (name, type, time, compression) and sends the result to
the other copies while it stores its own.  When one copy fails, those that took it, and those of which it is not
known, are told to drop it again; they put back what was there before.
"""

from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import ReplicationFailed, Unavailable, VolumeNotFound, WeedError
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import Needle
from weedtw.volume.copies import CopyResult, Order, OtherCopies, Step, new_write_id
from weedtw.volume.locations import Locations

T = TypeVar("T")


@attrs.frozen(eq=False)
class Replicator:
    """Reaches all copies of this server's volumes; `address` is this server."""

    log = Logger()

    address: str
    copies: OtherCopies
    locations: Locations
    failures: Counter[str] = attrs.Factory(Counter)  # writes and deletes that did not reach all copies, and "undo"

    async def others(self, volume_id: int, copies: int) -> tuple[str, ...]:
        """Addresses of the `copies` - 1 other copies; raises Unavailable when fewer are known."""
        for fresh in (False, True):
            try:
                found = await self.locations.find(volume_id, fresh=fresh)
            except VolumeNotFound as error:  # it is here, but the masters have not taken it up yet
                raise Unavailable(
                    f"the master does not know yet where the copies of volume {volume_id} are"
                ) from error
            others = tuple(location.url for location in found if location.url != self.address)
            if len(others) >= copies - 1:
                return others
        raise Unavailable(f"volume {volume_id} has {len(others) + 1} of its {copies} copies now; nothing was written")

    def others_at_hand(self, volume_id: int) -> tuple[str, ...]:
        """The addresses of other copies, if they can be told at once; maybe fewer than there should be."""
        return tuple([each.url for each in self.locations.at_hand(volume_id) if each.url != self.address])

    async def write(
        self, others: Sequence[str], file_id: FileId, needle: Needle, *, fsync: bool, time_given: bool, own: Step
    ) -> tuple[Any, list[CopyResult]]:
        """Do `own` here and store the needle on the others; raises what `own` does, or ReplicationFailed."""
        order = Order.write(file_id, new_write_id(), needle, fsync=fsync, time_given=time_given)
        return await self._everywhere(others, order, own)

    async def delete(
        self, others: Sequence[str], file_id: FileId, *, fsync: bool, own: Step
    ) -> tuple[Any, list[CopyResult]]:
        """Do `own` here and delete the file on the others; raises as `write` does."""
        return await self._everywhere(others, Order.delete(file_id, new_write_id(), fsync=fsync), own)

    async def _everywhere(self, others: Sequence[str], order: Order, own: Step) -> tuple[Any, list[CopyResult]]:
        return await self.everywhere(order, [own, *(self.copies.step(address, order) for address in others)])

    async def everywhere(self, order: Order, steps: Sequence[Step]) -> tuple[Any, list[CopyResult]]:
        """Do all steps at once, of which the first is this server's own; when one fails, undo all and raise."""
        outcomes = await settled([step.do() for step in steps])
        if not any(isinstance(outcome, Failure) for outcome in outcomes):
            return outcomes[0], outcomes[1:]
        self.failures["write"] += 1
        self.locations.forget(order.file_id.volume_id)
        undone = await settled([step.undo(outcome) for step, outcome in zip(steps, outcomes, strict=True)])
        for outcome in undone:
            if isinstance(outcome, Failure):
                self.failures["undo"] += 1
                self.log.error(
                    "undoing a write of {fid}: {reason}", fid=str(order.file_id), reason=str(outcome.value)
                )
        if isinstance(outcomes[0], Failure):
            outcomes[0].raiseException()
        failures = [outcome for outcome in outcomes[1:] if isinstance(outcome, Failure)]
        for failure in failures:
            if not isinstance(failure.value, WeedError):
                failure.raiseException()
        raise ReplicationFailed(tuple(str(failure.value) for failure in failures))


async def settled(works: Sequence[Awaitable[Any]]) -> list[Any]:
    """Do all at once: the results, a Failure where one failed, when all have come to their end."""
    deferreds = [Deferred.fromCoroutine(_awaited(work)) for work in works]
    results = await DeferredList(deferreds, consumeErrors=True)
    return [result for _, result in results]


async def _awaited(work: Awaitable[T]) -> T:
    return await work
