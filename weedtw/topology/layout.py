"""The volumes that are alike (collection, replication, ttl, disk type), and which of them take new files.

A volume is writable while it has all its copies, none of them is read-only, and none has reached the size
limit.  A writable volume at nine tenths of the limit is crowded: it is still picked, but only when there is
no other, and it is the sign to make new ones.
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import attrs

from weedtw.formats.beat import VolumeReport
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.topology.server import Server, canonical_disk_type

CROWDED = 0.9  # of the size limit


@attrs.frozen(cache_hash=True)
class LayoutKey:
    """What volumes have in common that may stand in for each other."""

    collection: str
    replication: ReplicaPlacement
    ttl: Ttl
    disk_type: str = ""

    @classmethod
    def of(cls, report: VolumeReport) -> "LayoutKey":
        """The key of the layout that a reported volume belongs to."""
        return cls(report.collection, report.replication, report.ttl, canonical_disk_type(report.disk_type))

    def __str__(self) -> str:
        parts = [f"collection {self.collection!r}", f"replication {self.replication}"]
        if self.ttl:
            parts.append(f"ttl {self.ttl}")
        if self.disk_type:
            parts.append(f"disk type {self.disk_type}")
        return ", ".join(parts)


@attrs.frozen
class Where:
    """Where a file or volume is wanted; an empty field takes any."""

    data_center: str = ""
    rack: str = ""
    node: str = ""  # host:port of a server

    def matches(self, server: Server) -> bool:
        """Whether the server lies there."""
        return (
            (not self.data_center or server.data_center == self.data_center)
            and (not self.rack or server.rack == self.rack)
            and (not self.node or server.address == self.node)
        )

    def __bool__(self) -> bool:
        return bool(self.data_center or self.rack or self.node)

    def __str__(self) -> str:
        """As it goes on in a sentence: empty, or ` in data center 'dc1', rack 'r1'`."""
        parts = [("data center", self.data_center), ("rack", self.rack), ("server", self.node)]
        named = ", ".join(f"{what} {name!r}" for what, name in parts if name)
        return f" in {named}" if named else ""


class Pick(NamedTuple):
    """A volume to write to, and a server of it that lies where it was asked for."""

    volume_id: int
    server: Server
    crowded: bool


@attrs.define
class _Pool:
    """A set of numbers with an index; to add, to remove and to pick takes the same time at any size."""

    members: list[int] = attrs.Factory(list)
    _places: dict[int, int] = attrs.Factory(dict)

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[int]:
        return iter(self.members)

    def add(self, member: int) -> bool:
        if member in self._places:
            return False
        self._places[member] = len(self.members)
        self.members.append(member)
        return True

    def discard(self, member: int) -> bool:
        place = self._places.pop(member, None)
        if place is None:
            return False
        last = self.members.pop()
        if last != member:
            self.members[place] = last
            self._places[last] = place
        return True


@attrs.define(eq=False)
class Layout:
    """The volumes of one key; `size_limit` is in bytes."""

    key: LayoutKey
    size_limit: int
    _holders: dict[int, tuple[Server, ...]] = attrs.Factory(dict)
    _roomy: _Pool = attrs.Factory(_Pool)
    _crowded: _Pool = attrs.Factory(_Pool)
    _short: set[int] = attrs.Factory(set)  # of copies
    _read_only: set[int] = attrs.Factory(set)  # in at least one copy
    # volumes that match a place, until the next change of anything
    _matching: dict[tuple[Where, bool], list[int]] = attrs.Factory(dict)

    def __len__(self) -> int:
        return len(self._holders)

    def place(
        self, volume_id: int, copies: Sequence[tuple[Server, VolumeReport]], *, held_back: bool = False
    ) -> None:
        """Take note of where a volume lies and in what condition its copies are; at least one copy.

        One that is held back is not writable whatever its condition.
        """
        holders = tuple(server for server, _ in copies)
        changed = self._holders.get(volume_id) != holders
        self._holders[volume_id] = holders
        size = max(report.size for _, report in copies)
        is_short = len(copies) < self.key.replication.copies
        is_read_only = any(report.read_only for _, report in copies)
        writable = not held_back and not is_short and size < self.size_limit and not is_read_only
        (self._short.add if is_short else self._short.discard)(volume_id)
        (self._read_only.add if is_read_only else self._read_only.discard)(volume_id)
        crowded = size >= self.size_limit * CROWDED
        changed |= self._put(self._roomy, volume_id, writable and not crowded)
        changed |= self._put(self._crowded, volume_id, writable and crowded)
        if changed:
            self._matching.clear()

    def drop(self, volume_id: int) -> None:
        """The volume has no copy left that counts."""
        self._holders.pop(volume_id, None)
        self._short.discard(volume_id)
        self._read_only.discard(volume_id)
        self._roomy.discard(volume_id)
        self._crowded.discard(volume_id)
        self._matching.clear()

    @staticmethod
    def _put(pool: _Pool, volume_id: int, belongs: bool) -> bool:
        return pool.add(volume_id) if belongs else pool.discard(volume_id)

    @property
    def writable_count(self) -> int:
        """How many volumes take new files, crowded ones included."""
        return len(self._roomy) + len(self._crowded)

    @property
    def crowded_count(self) -> int:
        """How many of these are nearly full."""
        return len(self._crowded)

    @property
    def short(self) -> list[int]:
        """The ids of the volumes with fewer copies than they should have, in order."""
        return sorted(self._short)

    @property
    def read_only(self) -> list[int]:
        """The ids of the volumes of which a copy is read-only, in order."""
        return sorted(self._read_only)

    def writables(self) -> list[int]:
        """The ids of the volumes that take new files, in order."""
        return sorted([*self._roomy, *self._crowded])

    def volume_ids(self) -> list[int]:
        """The ids of all volumes, in order."""
        return sorted(self._holders)

    def pick(self, rng: random.Random, where: Where | None = None) -> Pick | None:
        """A writable volume with a copy there, each with the same chance; None when there is none.

        Crowded ones come into play only when no other matches.
        """
        picky = where if where else None
        crowded = False
        members = self._roomy.members if picky is None else self._members(self._roomy, crowded, picky)
        if not members:
            crowded = True
            members = self._crowded.members if picky is None else self._members(self._crowded, crowded, picky)
            if not members:
                return None
        volume_id = members[int(rng.random() * len(members))]
        holders = self._holders[volume_id]
        near = holders if picky is None else [server for server in holders if picky.matches(server)]
        # As `Pick(…)`, without a call in between: every file id begins here.
        server = near[0] if len(near) == 1 else near[int(rng.random() * len(near))]
        return tuple.__new__(Pick, (volume_id, server, crowded))

    def _members(self, pool: _Pool, crowded: bool, where: Where) -> list[int]:
        found = self._matching.get((where, crowded))
        if found is None:
            found = [volume for volume in pool if any(map(where.matches, self._holders[volume]))]
            self._matching[where, crowded] = found
        return found
