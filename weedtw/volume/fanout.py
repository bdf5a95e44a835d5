"""The replicated write of a small new file when all goes well, without a coroutine or a thread in it.

It keeps the promise of `replicate.py`, all copies or none: this server's copy is written first, the others are sent
theirs, and the answer is given when all have it.  Whatever fails is told to the `Replicator`, which tries again or
has the copies that took the file drop it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.volume.copies import CopyResult, Order, Step
from weedtw.volume.lane import LARGEST, Lanes
from weedtw.volume.replicate import Replicator


@attrs.define(eq=False)
class Fanout:
    """One write on its way to the other copies; `ended` is called once, with None or what went wrong."""

    log = Logger()

    replicator: Replicator
    lanes: Lanes
    order: Order
    own: Any  # what the write here came to
    undo_own: Callable[[Any], Any]
    ended: Callable[[BaseException | None], None]
    _others: Sequence[str] = ()
    _outcomes: list[CopyResult | Failure | None] = attrs.field(factory=list, init=False)
    _left: int = attrs.field(default=0, init=False)
    _has_failed: bool = attrs.field(default=False, init=False)
    _began: float = attrs.field(default=0.0, init=False)

    def begin(self, others: Sequence[str]) -> None:
        """Send it."""
        copies = self.replicator.copies
        self._others = others
        self._left = len(others)
        self._outcomes = [None] * len(others)
        self._began = copies.clock.seconds()
        for number, address in enumerate(others):
            if self._by_lane(number, address):
                continue
            asked = copies.ask(address, self.order).addCallback(partial(copies.result, address))
            asked.addBoth(partial(self._note, number)).addErrback(self._broken)

    def _by_lane(self, number: int, address: str) -> bool:
        order = self.order
        lane = self.lanes.to(address) if len(order.body) <= LARGEST else None
        return lane is not None and lane.take_on(order.request(address), order.seconds, partial(self._note, number))

    def _broken(self, failure: Failure) -> None:
        self.log.failure("while writing {fid} to all copies", failure, fid=str(self.order.file_id))

    def _note(self, number: int, outcome: CopyResult | Failure) -> None:
        self._outcomes[number] = outcome
        self._left -= 1
        if isinstance(outcome, Failure):
            self._has_failed = True
        if self._left:
            return
        if self._has_failed:
            Deferred.fromCoroutine(self._mend()).addBoth(self._mended)
        else:
            self.ended(None)

    async def _mend(self) -> None:
        """Try once more where a connection had died, else undo what was done; raises what the client is to hear."""
        copies = self.replicator.copies

        async def own() -> Any:
            return self.own

        steps = [Step(own, self.undo_own)]
        for address, outcome in zip(self._others, self._outcomes, strict=True):
            step = copies.step(address, self.order)
            assert outcome is not None
            steps.append(Step(copies.resumed(address, self.order, outcome, self._began), step.undo))
        await self.replicator.everywhere(self.order, steps)

    def _mended(self, result: object) -> None:
        self.ended(result.value if isinstance(result, Failure) else None)
