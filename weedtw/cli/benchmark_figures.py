"""What a benchmark measures, and how it is told.  Pure."""

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from weedtw.formats.size import format_size

PERCENTILES: Final = (50, 75, 90, 95, 98, 99)
_LONGEST: Final = 2**32 - 1  # microseconds that a sample can hold: more than an hour


@attrs.frozen
class Figures:
    """The outcome of one phase.  Durations are in seconds, `size` is in bytes of content."""

    done: int
    failed: int
    size: int
    elapsed: float
    mean: float
    percentiles: tuple[tuple[int, float], ...]  # (percent, the duration that so many of the requests did not exceed)
    longest: float

    @property
    def rate(self) -> float:
        """Requests a second, of those that succeeded."""
        return self.done / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def speed(self) -> float:
        """Bytes of content a second."""
        return self.size / self.elapsed if self.elapsed > 0 else 0.0

    def lines(self, title: str) -> Iterator[str]:
        """The figures for people."""
        failed = f", {self.failed} failed" if self.failed else ""
        yield f"{title}: {self.done} in {self.elapsed:.2f} s{failed}"
        if not self.done:
            return
        content = f"  {format_size(self.speed)}/s  {format_size(self.size)} in all" if self.size else ""
        yield f"  {self.rate:.1f} requests/s{content}"
        yield f"  mean {self.mean * 1000:10.2f} ms"
        for percent, duration in self.percentiles:
            yield f"  p{percent:<3} {duration * 1000:10.2f} ms"
        yield f"  max  {self.longest * 1000:10.2f} ms"

    def fields(self) -> dict[str, Any]:
        """The figures for programs; times in milliseconds."""
        return {
            "done": self.done,
            "failed": self.failed,
            "bytes": self.size,
            "seconds": round(self.elapsed, 6),
            "requestsPerSecond": round(self.rate, 3),
            "bytesPerSecond": round(self.speed, 3),
            "meanMs": round(self.mean * 1000, 3),
            **{f"p{percent}Ms": round(duration * 1000, 3) for percent, duration in self.percentiles},
            "maxMs": round(self.longest * 1000, 3),
        }


@attrs.define(eq=False)
class Samples:
    """How long each request of a phase took; 4 bytes for each, to the microsecond."""

    size: int = 0  # bytes of content moved
    failed: int = 0
    _taken: "array[int]" = attrs.field(factory=lambda: array("I"), init=False)

    def add(self, duration: float, size: int) -> None:
        """A request succeeded, in so many seconds; `size` is that of the content."""
        self._taken.append(min(max(0, round(duration * 1e6)), _LONGEST))
        self.size += size

    @property
    def done(self) -> int:
        """How many requests succeeded."""
        return len(self._taken)

    def figures(self, elapsed: float) -> Figures:
        """Sum up a phase of so many seconds."""
        taken = array("I", sorted(self._taken))
        shares = tuple((percent, rank(taken, percent) / 1e6) for percent in PERCENTILES)
        mean = sum(taken) / len(taken) / 1e6 if taken else 0.0
        longest = taken[-1] / 1e6 if taken else 0.0
        return Figures(len(taken), self.failed, self.size, elapsed, mean, shares, longest)


def rank(ordered: Sequence[int], percent: float) -> int:
    """The least of the values, given in order, that `percent` of them do not exceed; 0 of none.

    It is one that was measured, never one between two.
    """
    if not ordered:
        return 0
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]
