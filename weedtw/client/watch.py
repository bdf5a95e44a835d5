"""Waiting with a limit that begins anew whenever something moves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


@attrs.define(eq=False)
class Watch:
    """Acts when `feed` was not called for `seconds`.  Feeding costs no timer, so it may happen for every piece."""

    clock: IReactorTime
    seconds: float
    expired: bool = attrs.field(default=False, init=False)
    _fed: float = attrs.field(default=0.0, init=False)
    _call: IDelayedCall | None = attrs.field(default=None, init=False)

    def feed(self, _moved: int = 0) -> None:
        """Something moved: the limit begins again."""
        self._fed = self.clock.seconds()

    def start(self, act: Callable[[], object]) -> None:
        """Begin to watch; call `act`, once, when the limit is reached."""
        self.stop()
        self.feed()
        self._call = self.clock.callLater(self.seconds, self._look, act)

    def stop(self) -> None:
        """Watch no longer."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    @contextmanager
    def over(self, watched: "Deferred[Any]") -> Iterator[None]:
        """Watch while the block runs that awaits `watched`, which is cancelled at the limit."""
        self.start(watched.cancel)
        try:
            yield
        finally:
            self.stop()

    def _look(self, act: Callable[[], object]) -> None:
        left = self._fed + self.seconds - self.clock.seconds()
        if left > 0:
            self._call = self.clock.callLater(left, self._look, act)
        else:
            self._call = None
            self.expired = True
            act()
