"""The replicated log in memory: its entries, and how far they are stable, committed and applied.  Pure.

Always: snapshot.index <= applied <= commit <= last_index, and stable <= last_index.  Entries up to `stable` are
known to be on this node's disk; those behind it wait for the next `ready()`.
"""

from collections.abc import Iterable, Sequence

from weedtw.errors import InvariantBroken
from weedtw.raft.membership import Membership
from weedtw.raft.messages import Entry, EntryKind, Snapshot


class Log:
    """Entries by index, with the memberships that they put in force."""

    def __init__(self, snapshot: Snapshot, entries: Sequence[Entry], commit: int) -> None:
        """Take what storage held; `commit` is a lower bound (the snapshot's index is another)."""
        self.snapshot = snapshot
        self.base_index = snapshot.index  # the entry before the first one kept; may lie before the snapshot
        self.base_term = snapshot.term
        self._entries = list(entries)
        if entries:
            # A store may keep entries from before its snapshot, for followers that lag.
            self.base_index = entries[0].index - 1
            if self.base_index > snapshot.index:
                raise InvariantBroken(f"a gap between snapshot {snapshot.index} and entry {entries[0].index}")
            if self.base_index < snapshot.index:
                # Its own term is unknown now: nothing can be proven to follow it.
                self.base_index += 1
                self.base_term = entries[0].term
                del self._entries[0]
        self._memberships: list[tuple[int, Membership]] = [(snapshot.index, snapshot.membership)]
        for entry in self._entries:
            if entry.index > snapshot.index:
                self._note_membership(entry)
        self.stable = self.last_index
        self.commit = max(snapshot.index, min(commit, self.last_index))
        self.applied = snapshot.index

    # -- reading

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    @property
    def membership(self) -> Membership:
        """The latest in the log, committed or not (dissertation §4.1)."""
        return self._memberships[-1][1]

    @property
    def membership_index(self) -> int:
        """Where the membership in force stands in the log."""
        return self._memberships[-1][0]

    def membership_at(self, index: int) -> Membership:
        """The one in force after the entry at `index`, which must not lie before the snapshot."""
        return next(m for at, m in reversed(self._memberships) if at <= index)

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`; None when it is compacted away or not there yet."""
        if index == self.base_index:
            return self.base_term
        position = index - self.base_index - 1
        if 0 <= position < len(self._entries):
            return self._entries[position].term
        return self.snapshot.term if index == self.snapshot.index else None

    def matches(self, index: int, term: int) -> bool:
        """Whether this log holds an entry of that term at that index."""
        return self.term(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as good as this one (Raft paper §5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def slice(self, first: int, last: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries `first` to `last`, at least one if there is one, and no more than `max_bytes` otherwise."""
        start = first - self.base_index - 1
        stop = min(last, self.last_index) - self.base_index
        size = 0
        for position in range(start, stop):
            size += self._entries[position].size
            if size > max_bytes and position > start:
                return tuple(self._entries[start:position])
        return tuple(self._entries[start:stop])

    def last_index_of_terms_up_to(self, index: int, term: int) -> tuple[int, int]:
        """Going back from `index`: the first entry whose term is at most `term`, as (index, term).

        Both sides of a rejected append skip whole terms with it, so that a leader probes a diverged
        follower at most once per term.
        """
        at = min(index, self.last_index)
        while at > self.base_index:
            own = self._entries[at - self.base_index - 1].term
            if own <= term:
                return at, own
            at -= 1
        return at, self.term(at) or 0

    def unstable(self) -> tuple[Entry, ...]:
        """Entries not yet on disk."""
        return tuple(self._entries[self.stable - self.base_index :])

    # -- writing

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries behind the last one (a leader's own)."""
        for entry in entries:
            if entry.index != self.last_index + 1:
                raise InvariantBroken(f"entry {entry.index} does not follow {self.last_index}")
            self._entries.append(entry)
            self._note_membership(entry)

    def merge(self, entries: Sequence[Entry]) -> None:
        """Take a leader's entries, whose predecessor is known to match: what conflicts goes, what is there stays."""
        for position, entry in enumerate(entries):
            if self.matches(entry.index, entry.term):
                continue
            if entry.index <= self.last_index:
                self._truncate(entry.index)
            self.append(entries[position:])
            return

    def _truncate(self, first: int) -> None:
        """Drop the entry at `first` and all behind it."""
        if first <= self.commit:
            raise InvariantBroken(f"entry {first} conflicts, but {self.commit} is committed")
        del self._entries[first - self.base_index - 1 :]
        while self._memberships[-1][0] >= first:
            self._memberships.pop()
        self.stable = min(self.stable, first - 1)

    def commit_to(self, index: int) -> bool:
        """Raise the commit index; returns whether it moved."""
        if index <= self.commit:
            return False
        if index > self.last_index:
            raise InvariantBroken(f"told to commit {index}, the log ends at {self.last_index}")
        self.commit = index
        return True

    def stable_to(self, index: int, term: int) -> None:
        """The entry (`index`, `term`) and all before it are on disk, unless they have been replaced since."""
        if index > self.stable and self.matches(index, term):
            self.stable = index

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot from the leader."""
        if snapshot.index <= self.commit:
            raise InvariantBroken(f"snapshot {snapshot.index} is older than the commit {self.commit}")
        self.snapshot = snapshot
        self._entries.clear()
        self._memberships = [(snapshot.index, snapshot.membership)]
        self.base_index = self.stable = self.commit = self.applied = snapshot.index
        self.base_term = snapshot.term

    def compact(self, snapshot: Snapshot, keep: int) -> None:
        """Forget entries that `snapshot` covers, except the last `keep` of them."""
        first_kept = max(self.base_index, snapshot.index - keep)
        term = self.term(first_kept)
        if term is None or not self.matches(snapshot.index, snapshot.term):
            raise InvariantBroken(f"no entry {snapshot.index} of term {snapshot.term} to compact at")
        del self._entries[: first_kept - self.base_index]
        self.base_index, self.base_term = first_kept, term
        self._memberships = [(snapshot.index, snapshot.membership)] + [
            (at, m) for at, m in self._memberships if at > snapshot.index
        ]
        self.snapshot = snapshot

    def _note_membership(self, entry: Entry) -> None:
        if entry.kind is EntryKind.CONFIG:
            self._memberships.append((entry.index, Membership.parse(entry.data)))
