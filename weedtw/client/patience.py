"""How long to go on trying, and how long to wait between two tries."""

from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

FIRST_WAIT: Final = 0.05  # seconds; a new leader is there in a few tenths of a second
LONGEST_WAIT: Final = 2.0  # seconds
LONGEST_HINT: Final = 5.0  # seconds of a server's Retry-After that are obeyed


@attrs.define(eq=False)
class Patience:
    """The waits of one operation: each twice the last, spread so that clients do not return all at once."""

    clock: IReactorTime
    limit: float  # seconds for all tries together, counted from when this was made
    spread: Callable[[], float]  # a number from 0 up to 1
    _until: float = attrs.field(init=False)
    _next: float = attrs.field(default=FIRST_WAIT, init=False)

    def __attrs_post_init__(self) -> None:
        self._until = self.clock.seconds() + self.limit

    async def wait(self, hint: float = 0.0) -> bool:
        """Wait, at least `hint` seconds, and return True; return False at once when the limit would be passed."""
        pause = max(self._next * (0.5 + self.spread() / 2), min(hint, LONGEST_HINT))
        self._next = min(self._next * 2, LONGEST_WAIT)
        if self.clock.seconds() + pause > self._until:
            return False
        woken: Deferred[None] = deferLater(self.clock, pause)
        await woken
        return True
