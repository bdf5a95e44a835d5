"""What must hold of the logs on all disks together."""

from typing import TYPE_CHECKING

from tests.sim.disk import Disk, majority_of, voters_of
from tests.sim.violations import Violation
from weedtw.raft.messages import Entry, EntryKind
from weedtw.raft.storage import StoredState, Update

if TYPE_CHECKING:
    from tests.sim.invariants import Invariants


class Logs:
    """Every entry that was ever stored, by index and term."""

    def __init__(self, invariants: "Invariants") -> None:
        """Nothing has been stored."""
        self.invariants = invariants
        self.entries: dict[tuple[int, int], tuple[Entry, int | None]] = {}  # and the term of its predecessor

    def stored(self, disk: Disk, old: StoredState, update: Update) -> None:
        """An update has become durable: the log property, and nothing decided may go."""
        if update.entries:
            self._match(disk, update.entries)
        if update.entries or update.replaces_log:
            first = update.entries[0].index if update.entries else 0
            held = old.entries[-1].index if old.entries else old.snapshot.index
            kept = disk.last[1]
            if first <= held or kept < held:
                self._keeps_what_was_chosen(
                    disk, old, max(first, old.snapshot.index + 1), min(held, self.invariants.last_chosen)
                )
        hard_state = update.hard_state
        if hard_state is not None:
            self.invariants.promises.stored(disk, hard_state)

    def _match(self, disk: Disk, entries: tuple[Entry, ...]) -> None:
        """Log matching: index and term determine an entry and, by its predecessor's term, all before it."""
        before = disk.term(entries[0].index - 1)
        for entry in entries:
            key = (entry.index, entry.term)
            known = self.entries.get(key)
            if known is None:
                self.entries[key] = (entry, before)
                if entry.kind == EntryKind.CONFIG:
                    self._is_a_careful_change(disk, entry)
            elif known[0] != entry or (before is not None and known[1] is not None and known[1] != before):
                raise Violation("log matching", f"{disk.node} has {entry} behind term {before}, others {known}")
            before = entry.term

    def _is_a_careful_change(self, disk: Disk, entry: Entry) -> None:
        """A new membership's majorities meet those of the last decided one, and no third is in force.

        With no entry of the leader's term committed, a predecessor's change might still come through beside this one
        (Ongaro's correction of 2015 to the dissertation's §4.1).
        """
        self.invariants.cluster.counts["memberships"] += 1
        if entry.term not in self.invariants.chosen[1:]:
            raise Violation(
                "one membership change at a time", f"{disk.node} stores {entry}, nothing of its term before"
            )
        index, before = disk.config_before(entry.index)
        if index > max(self.invariants.chosen_config, disk.state.snapshot.index):
            raise Violation("one membership change at a time", f"{disk.node} stores {entry}, {index} is undecided")
        after = self.invariants.cluster.subject.membership.Membership.parse(entry.data)
        together = set(voters_of(before)) | set(voters_of(after))
        if before.members and majority_of(before) + majority_of(after) <= len(together):
            raise Violation("majorities meet", f"{disk.node} stores {after} behind {before}")

    def _keeps_what_was_chosen(self, disk: Disk, old: StoredState, first: int, last: int) -> None:
        for entry in old.entries:
            decided = first <= entry.index <= last and entry.term == self.invariants.chosen_term(entry.index)
            if decided and not disk.holds(entry.index, entry.term):
                raise Violation("committed is never lost", f"{disk.node} drops the committed entry {entry.index}")
