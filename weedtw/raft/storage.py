"""What a node keeps, and the interface of whatever keeps it.  Pure; `MemoryStorage` is the twin for tests.

A store holds one life: the identity made at its creation, the hard state, the latest snapshot, and log entries up
to the newest.  `save` is atomic and durable: when it returns, all of the update is on disk; when it raises, the
node stops.
"""

from typing import Protocol

import attrs

from weedtw.errors import InvariantBroken
from weedtw.raft.membership import NodeId
from weedtw.raft.messages import Entry, HardState, Snapshot


@attrs.frozen
class Identity:
    """Made once and never changed: a node is its id, wherever it listens."""

    cluster: str
    node: NodeId


@attrs.frozen
class StoredState:
    """Everything a node starts from."""

    hard_state: HardState = attrs.field(factory=HardState)
    snapshot: Snapshot = attrs.field(factory=Snapshot)
    entries: tuple[Entry, ...] = ()


@attrs.frozen
class Update:
    """What one `ready()` wants stored, all of it or nothing."""

    hard_state: HardState | None
    entries: tuple[Entry, ...]  # replace whatever stands at their indexes and behind
    snapshot: Snapshot | None
    replaces_log: bool  # the snapshot is a leader's: no entry from before it is worth keeping
    keep_from: int  # with a snapshot: entries before this index may go


class Storage(Protocol):
    """Where a node's state survives a crash."""

    def load(self) -> StoredState:
        """What was last saved."""

    def save(self, update: Update) -> None:
        """Make `update` durable.  Raises `StoreFailed`; nothing may be assumed about the update then."""

    def close(self) -> None:
        """Release the file."""


class MemoryStorage:
    """A store in memory, with the semantics of the durable one."""

    def __init__(self, state: StoredState | None = None) -> None:
        """Begin with `state`, or empty."""
        self.state = state or StoredState()

    def load(self) -> StoredState:
        """What was last saved."""
        return self.state

    def save(self, update: Update) -> None:
        """Apply `update` to what is held."""
        self.state = apply_update(self.state, update)

    def close(self) -> None:
        """Nothing to release."""


def apply_update(state: StoredState, update: Update) -> StoredState:
    """What a store holds after `update`: the reference for every implementation."""
    entries = state.entries
    snapshot = state.snapshot
    if update.snapshot is not None:
        snapshot = update.snapshot
        entries = () if update.replaces_log else tuple(e for e in entries if e.index >= update.keep_from)
    if update.entries:
        first = update.entries[0].index
        entries = tuple(e for e in entries if e.index < first) + tuple(e for e in update.entries)
        if update.snapshot is not None:
            entries = tuple(e for e in entries if e.index >= update.keep_from)
    if entries and entries[0].index > snapshot.index + 1:
        raise InvariantBroken(f"a gap between snapshot {snapshot.index} and entry {entries[0].index}")
    return StoredState(update.hard_state or state.hard_state, snapshot, entries)
