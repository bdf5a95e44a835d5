"""A due time that moves all the time and hardly ever comes."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """One delayed call that follows a due time which is moved far more often than it expires."""

    def __init__(self, clock: IReactorTime, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._due: float | None = None
        self._call: IDelayedCall | None = None
        self._call_at = 0.0

    def set(self, seconds: float) -> None:
        """Expire in so many seconds unless set or cleared again."""
        due = self._clock.seconds() + seconds
        if self.put_off(due):
            return
        if self._call is not None:
            self._call.cancel()
        self._due = due
        self._call = self._clock.callLater(seconds, self._came)
        self._call_at = due

    def put_off(self, due: float) -> bool:
        """Expire at that time of the clock if, as nearly always, the delayed call does not come later; whether so.

        Who moves the due time for every request, and knows the time, is spared looking at the clock again.
        """
        if self._call is None or self._call_at > due:
            return False
        self._due = due  # the call finds out when it comes
        return True

    def clear(self) -> None:
        """Expire no more; the delayed call is left to find nothing due."""
        self._due = None

    def drop(self) -> None:
        """Clear, and take the delayed call out of the clock."""
        self._due = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _came(self) -> None:
        self._call = None
        if self._due is None:
            return
        left = self._due - self._clock.seconds()
        if left > 0.001:
            self.set(left)
        else:
            self._due = None
            self._expired()
