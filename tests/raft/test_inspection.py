"""Looking into a node's file: all of it is seen, nothing is changed, and whatever is wrong is named."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import FolderInUse, StoreFailed
from weedtw.raft.inspection import inspect
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Entry, EntryKind, HardState, Snapshot
from weedtw.raft.rewriting import StoppedStorage
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity, StoredState, Update

IDENTITY = Identity("cluster-1", "node-1")
FOUNDERS = Membership({"node-1": Member("localhost:9333")})


def append(first: int, count: int = 1) -> Update:
    entries = tuple(Entry(index, 1, EntryKind.COMMAND, b"x") for index in range(first, first + count))
    return Update(HardState(1, "node-1", first - 1), entries, None, replaces_log=False, keep_from=0)


class FileTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "raft.sqlite3")

    def create(self, *updates: Update) -> SqliteStorage:
        storage = SqliteStorage.create(self.path, IDENTITY, FOUNDERS)
        self.addCleanup(storage.close)
        for update in updates:
            storage.save(update)
        return storage

    def written(self, *updates: Update) -> StoredState:
        """Make the file, and close it."""
        storage = self.create(*updates)
        state = storage.load()
        storage.close()
        return state

    def content(self) -> dict[str, bytes]:
        """All files in the folder."""
        found = {}
        for name in os.listdir(self.folder):
            with open(os.path.join(self.folder, name), "rb") as file:
                found[name] = file.read()
        return found


class InspectTests(FileTest):
    def test_all_of_it(self) -> None:
        stored = self.written(append(1, 3))
        before = self.content()
        found = inspect(self.path)
        self.assertEqual((found.identity, found.stored), (IDENTITY, stored))
        self.assertEqual(self.content(), before)

    def test_while_the_node_runs(self) -> None:
        storage = self.create(append(1, 3))
        for index in (4, 5):
            storage.save(append(index))
            before = self.content()
            self.assertEqual(len(inspect(self.path).stored.entries), index)
            self.assertEqual({**self.content(), "raft.sqlite3-shm": b""}, {**before, "raft.sqlite3-shm": b""})
        storage.save(append(6))  # it has not noticed
        storage.close()
        self.assertEqual(sorted(os.listdir(self.folder)), ["raft.sqlite3", "raft.sqlite3.lock"])

    def test_after_a_crash(self) -> None:
        """What stands in the write-ahead log only is seen as well, and stays there."""
        storage = self.create(append(1, 3))
        crashed = os.path.join(self.folder, "crashed")
        os.mkdir(crashed)
        for name in os.listdir(self.folder):
            if name.startswith("raft.sqlite3"):
                shutil.copy(os.path.join(self.folder, name), crashed)
        storage.close()
        self.folder, self.path = crashed, os.path.join(crashed, "raft.sqlite3")
        before = self.content()
        self.assertNotEqual(before["raft.sqlite3-wal"], b"")
        self.assertEqual(len(inspect(self.path).stored.entries), 3)
        os.unlink(f"{self.path}-shm")  # as when only the other two were copied
        self.assertEqual(len(inspect(self.path).stored.entries), 3)
        after = self.content()
        for name in ("raft.sqlite3", "raft.sqlite3-wal"):
            self.assertEqual(after[name], before[name])

    def assert_fails(self, saying: str) -> None:
        error = self.assertRaises(StoreFailed, inspect, self.path)
        self.assertEqual(error.path, self.path)
        self.assertIn(saying, str(error))
        self.assertEqual(str(error).count("\n"), 0)

    def test_what_is_wrong_is_named(self) -> None:
        self.assert_fails("does not exist")
        with open(self.path, "wb") as file:
            file.write(b"#!/bin/sh\n" * 1000)
        self.assert_fails("is not a database of weedtw")
        os.unlink(self.path)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("CREATE TABLE bookmarks (url TEXT)")
        self.assert_fails("is a database of another program")
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assert_fails("Is a directory")

    def test_damage(self) -> None:
        self.written(append(1, 3))
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE log SET data = x'00' WHERE at_index = 2")
        self.assert_fails("log entry 2 is not what was written")
        with open(self.path, "r+b") as file:
            file.truncate(5000)
        self.assert_fails("malformed")

    def test_tables_of_another_form(self) -> None:
        self.written()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("DROP TABLE identity")
            connection.execute("CREATE TABLE identity (name TEXT, value TEXT)")
        self.assert_fails("was not written by this version of weedtw: no such column: cluster")


class RewriteTests(FileTest):
    def test_everything_is_replaced(self) -> None:
        self.written(append(1, 3))
        identity = Identity("cluster-1", "node-2")
        snapshot = Snapshot(4, 9, Membership({"node-2": Member("localhost:9334")}), b"state")
        with closing(StoppedStorage.hold(self.path)) as storage:
            storage.rewrite(identity, HardState(9, None, 4), snapshot)
            self.assertEqual(storage.identity, identity)
        with closing(SqliteStorage.open(self.path)) as opened:
            self.assertEqual(opened.identity, identity)
            self.assertEqual(opened.load(), StoredState(HardState(9, None, 4), snapshot, ()))

    def test_all_of_it_or_nothing(self) -> None:
        stored = self.written(append(1, 3))
        with closing(StoppedStorage.hold(self.path)) as storage:
            bad = Snapshot(4, 9, FOUNDERS, object())  # type: ignore[arg-type]
            self.assertRaises(StoreFailed, storage.rewrite, Identity("c", "n"), HardState(9, None, 4), bad)
        found = inspect(self.path)
        self.assertEqual((found.identity, found.stored), (IDENTITY, stored))

    def test_nobody_else_starts_meanwhile(self) -> None:
        self.written()
        with closing(StoppedStorage.hold(self.path)):
            self.assertRaises(FolderInUse, SqliteStorage.open, self.path)
            inspect(self.path)
        SqliteStorage.open(self.path).close()

    def test_a_copy_is_a_node_s_file(self) -> None:
        stored = self.written(append(1, 3))
        os.chmod(self.path, 0o640)
        copy = self.path + ".copy"
        with closing(StoppedStorage.hold(self.path)) as storage:
            storage.copy(copy)
            self.assertRaises(StoreFailed, storage.copy, copy)
        self.assertEqual(os.stat(copy).st_mode & 0o777, 0o640)
        self.assertEqual(inspect(copy).stored, stored)
        with closing(SqliteStorage.open(copy)) as opened:
            self.assertEqual((opened.identity, opened.load()), (IDENTITY, stored))
