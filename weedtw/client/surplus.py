"""Whether a copy of a volume can be spared, judged by the last change of every file of two copies.  Pure."""

from collections.abc import Mapping
from typing import Any, Self

import attrs


@attrs.frozen
class Change:
    """The last thing that happened to a key in one copy, as `/admin/volume/changes` tells it."""

    cookie: int
    size: int  # the record's size field; -1 when the file was deleted
    checksum: int
    append_at_ns: int  # 0 when that is not known

    @property
    def is_live(self) -> bool:
        """Whether there is a file."""
        return self.size >= 0

    def holds(self, other: Self) -> bool:
        """Whether nothing is lost when the other is gone: this one is the same, or is newer."""
        same = (self.cookie, self.size, self.checksum) == (other.cookie, other.size, other.checksum)
        return (self.is_live and same) or self.append_at_ns > other.append_at_ns > 0


def lacking(kept: Mapping[int, Change], surplus: Mapping[int, Change]) -> set[int]:
    """The keys of the files that a copy which stays does not have, and the surplus one has."""
    return {
        key for key, change in surplus.items() if change.is_live and not (key in kept and kept[key].holds(change))
    }


def parse_changes(answer: Any) -> dict[int, Change]:
    """Read an answer of `/admin/volume/changes`, by key; raises KeyError, TypeError and ValueError."""
    found: dict[int, Change] = {}
    for key, cookie, size, checksum, append_at_ns in answer["changes"]:
        if not all(type(one) is int for one in (key, cookie, size, checksum, append_at_ns)):
            raise ValueError(f"{key!r:.20}: not all are numbers")
        found[key] = Change(cookie, size, checksum, append_at_ns)
    return found
