"""What is wrong with other nodes, said once and then ever more rarely.

A node that is down is dialled every two seconds, one of another cluster may call as often, for months.  Whoever
reads the log wants to see it when it begins, and now and then that it has not ended.
"""

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

FIRST_REPEAT = 60.0  # seconds until the same is said again, if it went on all the time; doubled each time
LAST_REPEAT = 3600.0
_MEMORY = 256  # different things remembered


@attrs.define
class _Said:
    seen: float
    due: float
    interval: float = FIRST_REPEAT


class Complaints:
    """Logs each (who, what) when it is new or has lasted."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        """`clock` tells what is new."""
        self._clock = clock
        self._said: dict[tuple[str, str], _Said] = {}

    def complain(self, who: str, what: str) -> None:
        """Something is wrong with a connection."""
        if self._is_news(who, what):
            self.log.warn("{who}: {what}", who=who, what=what)

    def mention(self, who: str, what: str) -> None:
        """Something has happened that is as it should be."""
        if self._is_news(who, what):
            self.log.info("{who}: {what}", who=who, what=what)

    def _is_news(self, who: str, what: str) -> bool:
        now = self._clock.seconds()
        said = self._said.get((who, what))
        if said is None or now - said.seen > said.interval:
            self._said.pop((who, what), None)  # to the end of the order
            self._said[who, what] = _Said(seen=now, due=now + FIRST_REPEAT)
            if len(self._said) > _MEMORY:
                del self._said[next(iter(self._said))]
            return True
        said.seen = now
        if now < said.due:
            return False
        said.interval = min(2 * said.interval, LAST_REPEAT)
        said.due = now + said.interval
        return True


def reason_of(failure: Failure) -> str:
    """A few words, also for errors that bring none."""
    error = failure.value
    if error is not None and _is_from(error, "OpenSSL") and error.args and isinstance(error.args[0], list):
        return "TLS: " + "; ".join(str(part[-1]) for part in error.args[0])
    return failure.getErrorMessage() or getattr(failure.type, "__name__", "no reason given")


def is_of_tls(error: BaseException | None) -> bool:
    """Whether that is what TLS fails with; its libraries are not imported for this, a process may do without them."""
    return _is_from(error, "OpenSSL", "service_identity")


def _is_from(error: BaseException | None, *packages: str) -> bool:
    return any(kind.__module__.partition(".")[0] in packages for kind in type(error).__mro__)
