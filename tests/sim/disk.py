"""A simulated disk: saves take time, may be stuck or fail, and a crash finds them wholly there or not at all."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weedtw.raft.membership import Membership
from weedtw.raft.messages import EntryKind
from weedtw.raft.storage import StoredState, Update

if TYPE_CHECKING:
    from tests.sim.subject import Subject

Watcher = Callable[["Disk", StoredState, Update], None]


class Disk:
    """What one node has durably stored.  `writing` is an update on its way: nothing but memory knows it yet."""

    def __init__(self, node: str, state: StoredState, subject: "Subject", watcher: Watcher) -> None:
        """Begin with `state`; `watcher` sees every update that becomes durable."""
        self.node = node
        self.state = state
        self.writing: Update | None = None
        self.slowness = 1.0
        self.stuck = False
        self.failing: str | None = None
        self.wiped = False
        self._waiting: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._apply_update = subject.storage.apply_update
        self._parse = subject.membership.Membership.parse
        self._watcher = watcher
        self.config_index, self.config = 0, state.snapshot.membership
        self._find_config()

    # -- what the invariants ask

    @property
    def last(self) -> tuple[int, int]:
        """(term, index) of the last entry: what elections compare."""
        state = self.state
        newest = state.entries[-1] if state.entries else state.snapshot
        return (newest.term, newest.index)

    def term(self, index: int) -> int | None:
        """The term of a stored entry; None when it is not there (or compacted away)."""
        entries = self.state.entries
        position = index - entries[0].index if entries else -1
        if 0 <= position < len(entries):
            return entries[position].term
        return self.state.snapshot.term if index == self.state.snapshot.index else None

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is durable here, by itself or within the snapshot."""
        return index <= self.state.snapshot.index or self.term(index) == term

    # -- what happens to it

    def begin(self, update: Update) -> None:
        """A save has started."""
        assert self.writing is None, "one save at a time"
        self.writing = update

    def settle(self, done: Callable[..., object], *args: Any) -> None:
        """The save's time is over: call `done`, but not before the disk is unstuck."""
        if self.stuck:
            self._waiting.append((done, args))
        else:
            done(*args)

    def complete(self) -> None:
        """The save is durable."""
        update, self.writing = self.writing, None
        if update is None:
            return
        old = self.state
        self.state = self._apply_update(old, update)
        if update.snapshot is not None or (update.entries and self._moves_config(old, update)):
            self._find_config()
        self._watcher(self, old, update)

    def crash(self, rng: random.Random) -> None:
        """The process dies: a save under way is a transaction, so it is there or it is not."""
        if self.writing is not None and rng.random() < 0.5:
            self.complete()
        self.writing = None
        self._waiting.clear()

    def unstick(self) -> None:
        """Let what has been waiting happen."""
        self.stuck = False
        waiting, self._waiting = self._waiting, []
        for done, args in waiting:
            done(*args)

    def _moves_config(self, old: StoredState, update: Update) -> bool:
        truncates = bool(old.entries) and update.entries[0].index <= old.entries[-1].index
        return truncates or any(entry.kind == EntryKind.CONFIG for entry in update.entries)

    def _find_config(self) -> None:
        self.config_index, self.config = self.config_before(self.last[1] + 1)

    def config_before(self, index: int) -> tuple[int, Membership]:
        """The latest membership stored before an index, found without the core's own bookkeeping."""
        snapshot = self.state.snapshot
        for entry in reversed(self.state.entries):
            if entry.kind == EntryKind.CONFIG and snapshot.index < entry.index < index:
                return entry.index, self._parse(entry.data)
        return snapshot.index, snapshot.membership


def majority_of(config: Membership) -> int:
    """Computed here and not asked of the core: a quorum off by one must not fool its own judge."""
    return sum(member.voter for member in config.members.values()) // 2 + 1


def voters_of(config: Membership) -> list[str]:
    """In a fixed order, whatever the hash seed."""
    return sorted(node for node, member in config.members.items() if member.voter)
