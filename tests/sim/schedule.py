"""The simulated clock.  Nothing ever waits: time jumps from event to event.  Its unit is one nominal tick."""

import heapq
from collections.abc import Callable
from typing import Any

from tests.sim.violations import Violation

MOST_STEPS = 50_000  # forty times as many as usual
Event = tuple[float, int, Callable[..., object], tuple[Any, ...]]


class Schedule:
    """Events by time; those of one moment happen in the order in which they were asked for."""

    def __init__(self) -> None:
        """Begin at 0, with nothing to do."""
        self.now = 0.0
        self.steps = 0
        self._events: list[Event] = []
        self._asked = 0

    def after(self, delay: float, action: Callable[..., object], *args: Any) -> None:
        """Call `action(*args)` in `delay` ticks."""
        self._asked += 1
        heapq.heappush(self._events, (self.now + delay, self._asked, action, args))

    def run_until(self, end: float) -> None:
        """Let everything happen that is due up to `end`."""
        events = self._events
        while events and events[0][0] <= end:
            self.now, _, action, args = heapq.heappop(events)
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Violation("a run comes to an end", f"{self.steps} steps by {self.now}")
            action(*args)
        self.now = end
