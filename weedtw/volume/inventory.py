"""What the disks hold, for whoever must have an answer at once: as of now, or else as it was when it was last known.

Asking disks takes a thread, and a disk that does not answer keeps it.  A scrape must not wait for that.
"""

from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.http.metrics import Gauge

PATIENCE: Final = 0.06  # seconds


@attrs.define(eq=False)
class Inventory:
    """Asks by `look`, never twice at the same time."""

    log = Logger()

    look: Callable[[], Deferred[list[Gauge]]]
    clock: IReactorTime
    _known: list[Gauge] = attrs.field(factory=list, init=False)
    _known_at: float | None = attrs.field(default=None, init=False)
    _is_looking: bool = attrs.field(default=False, init=False)
    _waiting: list[Deferred[None]] = attrs.field(factory=list, init=False)

    async def numbers(self) -> list[Gauge]:
        """What is there, within PATIENCE."""
        enough: Deferred[None] = Deferred()
        self._waiting.append(enough)
        timer = self.clock.callLater(PATIENCE, self._wake, enough)
        if not self._is_looking:
            self._is_looking = True
            self.look().addCallbacks(self._learn, self._failed).addCallback(lambda _: self._looked())
        await enough
        if timer.active():
            timer.cancel()
        age = [] if self._known_at is None else [((), self.clock.seconds() - self._known_at)]
        about = "Seconds since the disks told what is on them."
        return [*self._known, Gauge("weedtw_volume_inventory_age_seconds", about, age)]

    def _learn(self, known: list[Gauge]) -> None:
        self._known, self._known_at = known, self.clock.seconds()

    def _failed(self, failure: Failure) -> None:
        self.log.failure("asking the disks what is on them", failure)

    def _looked(self) -> None:
        self._is_looking = False
        for waiting in list(self._waiting):
            self._wake(waiting)

    def _wake(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.callback(None)
