"""What every store must do, in memory and on disk, against `apply_update` as the model."""

import os
import tempfile
from abc import ABC, abstractmethod

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.strategies import updates
from weedtw.errors import InvariantBroken
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Entry, EntryKind, HardState, Snapshot
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity, MemoryStorage, Storage, StoredState, Update, apply_update

IDENTITY = Identity("cluster-1", "node-1")
FOUNDERS = Membership({"node-1": Member("localhost:9333")})


def entry(index: int, term: int = 1, data: bytes = b"x") -> Entry:
    return Entry(index, term, EntryKind.COMMAND, data)


def append(*entries: Entry, hard_state: HardState | None = None) -> Update:
    return Update(hard_state, entries, None, replaces_log=False, keep_from=0)


class Store(ABC):
    """A store under test, which can be closed and opened again."""

    storage: Storage

    @abstractmethod
    def reopen(self) -> None: ...

    @abstractmethod
    def end(self) -> None: ...


class InMemory(Store):
    def __init__(self) -> None:
        self.storage = MemoryStorage(StoredState(snapshot=Snapshot(membership=FOUNDERS)))

    def reopen(self) -> None:
        self.storage = MemoryStorage(self.storage.load())

    def end(self) -> None:
        self.storage.close()


class OnDisk(Store):
    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "raft.sqlite3")
        self.storage = SqliteStorage.create(self.path, IDENTITY, FOUNDERS)

    def reopen(self) -> None:
        self.storage.close()
        self.storage = SqliteStorage.open(self.path)

    def end(self) -> None:
        self.storage.close()
        self.folder.cleanup()


class Contract:
    """Tests that hold for every store."""

    @abstractmethod
    def make(self) -> Store: ...

    def check(self, *steps: Update) -> StoredState:
        """Save the updates, see that the model agrees before and after reopening, and return what is stored."""
        store = self.make()
        try:
            expected = store.storage.load()
            for update in steps:
                expected = apply_update(expected, update)
                store.storage.save(update)
                assert store.storage.load() == expected
            store.reopen()
            assert store.storage.load() == expected
        finally:
            store.end()
        return expected

    def test_a_new_store_holds_the_founders_and_nothing_else(self) -> None:
        assert self.check() == StoredState(snapshot=Snapshot(membership=FOUNDERS))

    def test_term_and_vote_are_kept(self) -> None:
        assert self.check(append(hard_state=HardState(7, "node-2", 3))).hard_state == HardState(7, "node-2", 3)

    def test_an_update_without_hard_state_leaves_it(self) -> None:
        assert self.check(append(hard_state=HardState(7, None, 3)), append(entry(1))).hard_state.term == 7

    def test_entries_replace_those_at_their_indexes_and_behind(self) -> None:
        state = self.check(append(*map(entry, range(1, 6))), append(entry(3, term=2, data=b"new")))
        assert state.entries == (entry(1), entry(2), entry(3, term=2, data=b"new"))

    def test_a_compaction_keeps_what_it_says(self) -> None:
        snapshot = Snapshot(4, 1, FOUNDERS, b"state")
        compaction = Update(None, (), snapshot, replaces_log=False, keep_from=3)
        state = self.check(append(*map(entry, range(1, 6))), compaction)
        assert (state.snapshot, state.entries) == (snapshot, (entry(3), entry(4), entry(5)))

    def test_a_compaction_and_new_entries_in_one_update(self) -> None:
        snapshot = Snapshot(2, 1, FOUNDERS, b"state")
        both = Update(HardState(2, None, 2), (entry(4), entry(5)), snapshot, replaces_log=False, keep_from=2)
        state = self.check(append(*map(entry, range(1, 4))), both)
        assert state.entries == (entry(2), entry(3), entry(4), entry(5))

    def test_a_leaders_snapshot_replaces_the_log(self) -> None:
        snapshot = Snapshot(9, 3, FOUNDERS, b"state")
        installed = Update(HardState(3, None, 9), (), snapshot, replaces_log=True, keep_from=10)
        assert self.check(append(*map(entry, range(1, 12))), installed).entries == ()

    def test_a_leaders_snapshot_and_the_entries_behind_it_in_one_update(self) -> None:
        snapshot = Snapshot(9, 3, FOUNDERS, b"state")
        both = Update(None, (entry(10, 3), entry(11, 3)), snapshot, replaces_log=True, keep_from=10)
        state = self.check(append(*map(entry, range(1, 4))), both)
        assert (state.snapshot.index, state.entries) == (9, (entry(10, 3), entry(11, 3)))

    def test_every_byte_and_every_kind_comes_back(self) -> None:
        kinds = [Entry(i, 1, kind, bytes(range(256))) for i, kind in enumerate(EntryKind, start=1)]
        assert self.check(append(*kinds)).entries == tuple(kinds)

    def test_the_largest_numbers_come_back(self) -> None:
        snapshot = Snapshot(2**62 - 2, 2**62, FOUNDERS, b"")
        entries = (entry(2**62 - 1, 2**62), entry(2**62, 2**62))
        self.check(Update(HardState(2**62, "n", 2**62), entries, snapshot, replaces_log=True, keep_from=2**62 - 1))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def test_any_sequence_of_updates(self, drawn: st.DataObject) -> None:
        store = self.make()
        try:
            expected = store.storage.load()
            for _ in range(drawn.draw(st.integers(1, 8))):
                update = drawn.draw(updates(expected))
                expected = apply_update(expected, update)
                store.storage.save(update)
                if drawn.draw(st.integers(0, 3)) == 0:
                    store.reopen()
                assert store.storage.load() == expected
        finally:
            store.end()


class MemoryStorageTests(Contract, SynchronousTestCase):
    def make(self) -> Store:
        return InMemory()

    def test_a_gap_behind_the_snapshot_is_refused(self) -> None:
        self.assertRaises(InvariantBroken, MemoryStorage().save, append(entry(2)))


class SqliteStorageTests(Contract, SynchronousTestCase):
    def make(self) -> Store:
        return OnDisk()
