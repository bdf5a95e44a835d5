"""What a port has answered: requests by kind and status, and how long they took.

Plain numbers, which cost the hot path a few tenths of a microsecond a request; `metrics.py` makes something of them
when somebody asks.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final

BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
REFUSED: Final = "refused"  # the kind of what was not understood, or not let in


class Times:
    """How long requests took, in seconds; those over the first of BOUNDS are counted by bound."""

    __slots__ = ("count", "slower", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.slower = [0] * (len(BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.total += seconds
        if seconds > BOUNDS[0]:
            self.slower[bisect_left(BOUNDS, seconds)] += 1

    def merge(self, other: "Times") -> None:
        """All of another's."""
        self.count += other.count
        self.total += other.total
        self.slower = [ours + theirs for ours, theirs in zip(self.slower, other.slower, strict=True)]

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """(bound, how many took no longer) of each of BOUNDS."""
        so_far = self.count - sum(self.slower)
        for bound, slower in zip(BOUNDS, self.slower[:-1], strict=True):
            so_far += slower
            yield bound, so_far


class Traffic:
    """Of one port.

    `kind_of` tells the kind of a request by its method and its path; of hot ones it gets no more than that part of
    the path that lies in the first `width` bytes of the request.  There are few kinds.
    """

    def __init__(self, kind_of: Callable[[bytes, bytes], str], width: int) -> None:
        self.width = width
        self._kind_of = kind_of
        self._hot: dict[tuple[bytes, bytes], Times] = {}  # by the first bytes of request and status
        self._others: dict[tuple[str, int], Times] = {}

    def hot(self, start: bytes, reply: bytes, seconds: float) -> None:
        """A request that begins with these `width` bytes got that reply."""
        key = start, reply[9:12]
        try:
            times = self._hot[key]
        except KeyError:
            times = self._hot[key] = Times()
        times.count += 1  # as `Times.add`, without the call: this is done for every hot request
        times.total += seconds
        if seconds > BOUNDS[0]:
            times.slower[bisect_left(BOUNDS, seconds)] += 1

    def note(self, method: bytes, path: bytes, status: int, seconds: float) -> None:
        """A request got an answer of that status, on the other way."""
        self._add(self._kind_of(method, path), status, seconds)

    def refused(self, status: int) -> None:
        """What came was no request that could be let in."""
        self._add(REFUSED, status, 0.0)

    def _add(self, kind: str, status: int, seconds: float) -> None:
        times = self._others.get((kind, status))
        if times is None:
            times = self._others[kind, status] = Times()
        times.add(seconds)

    def answered(self) -> dict[tuple[str, int], Times]:
        """Everything so far, by kind and status."""
        sums: dict[tuple[str, int], Times] = {}
        for (start, status), times in self._hot.items():
            method, _, path = start.partition(b" ")
            sums.setdefault((self._kind_of(method, path), int(status)), Times()).merge(times)
        for key, times in self._others.items():
            sums.setdefault(key, Times()).merge(times)
        return sums


def one_kind(method: bytes, path: bytes) -> str:  # noqa: ARG001 - the signature of a `kind_of`
    """For ports whose requests nobody tells apart."""
    return "request"
