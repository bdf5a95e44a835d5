"""What can happen to the file, and that each of it is a typed error that names the file."""

import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import FolderInUse, StoreFailed
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Entry, EntryKind, HardState, Snapshot
from weedtw.raft.sqlite import SCHEMA_VERSION, SqliteStorage
from weedtw.raft.storage import Identity, StoredState, Update

IDENTITY = Identity("cluster-1", "node-1")
FOUNDERS = Membership({"node-1": Member("localhost:9333")})
NOBODY = 65534


def append(first: int, count: int = 1, data: bytes = b"x") -> Update:
    entries = tuple(Entry(index, 1, EntryKind.COMMAND, data) for index in range(first, first + count))
    return Update(HardState(1, "node-1", first - 1), entries, None, replaces_log=False, keep_from=0)


class FileTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "raft.sqlite3")

    def create(self) -> SqliteStorage:
        storage = SqliteStorage.create(self.path, IDENTITY, FOUNDERS)
        self.addCleanup(storage.close)
        return storage

    def open(self) -> SqliteStorage:
        storage = SqliteStorage.open(self.path)
        self.addCleanup(storage.close)
        return storage

    def written(self, *updates: Update) -> StoredState:
        """Make the file, and close it."""
        storage = self.create()
        for update in updates:
            storage.save(update)
        state = storage.load()
        storage.close()
        return state

    def assert_fails(self, saying: str, call: Callable[..., object], *args: object) -> None:
        error = self.assertRaises(StoreFailed, call, *args)
        self.assertEqual(error.path, self.path)
        self.assertIn(saying, str(error))

    def sql(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, values)


class Opening(FileTest):
    def test_the_identity_is_what_it_was_created_with(self) -> None:
        self.written()
        self.assertEqual(self.open().identity, IDENTITY)

    def test_a_file_that_is_not_there(self) -> None:
        self.assert_fails("does not exist", self.open)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_folder_that_is_not_there(self) -> None:
        self.path = os.path.join(self.folder, "missing", "raft.sqlite3")
        self.assert_fails("No such file or directory", self.create)

    def test_an_existing_file_is_never_overwritten(self) -> None:
        self.written()
        self.assert_fails("never overwritten", self.create)
        self.assertEqual(self.open().identity, IDENTITY)

    def test_a_file_that_two_would_use(self) -> None:
        first = self.create()
        self.assertEqual(self.assertRaises(FolderInUse, self.open).path, self.path)
        self.assertRaises(FolderInUse, self.create)
        first.close()
        self.open()

    def test_a_failed_opening_keeps_no_lock(self) -> None:
        self.written()
        self.sql("PRAGMA user_version = 99")
        self.assertRaises(StoreFailed, self.open)
        self.sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.open()

    def test_the_file_is_a_folder(self) -> None:
        os.mkdir(self.path)
        self.assert_fails("Is a directory", self.open)

    def test_a_foreign_file(self) -> None:
        for content in (b"", b"SQLite", b"#!/bin/sh\n" * 1000):
            with open(self.path, "wb") as file:
                file.write(content)
            self.assert_fails("is not a database of weedtw", self.open)
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), content)

    def test_a_database_of_another_program(self) -> None:
        self.sql("CREATE TABLE bookmarks (url TEXT)")
        self.assert_fails("another program", self.open)

    def test_a_newer_schema(self) -> None:
        self.written()
        self.sql(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        self.assert_fails("written by a newer weedtw", self.open)

    def test_no_schema(self) -> None:
        self.written()
        self.sql("PRAGMA user_version = 0")
        self.assert_fails("no schema version", self.open)

    def test_a_name_with_characters_that_mean_something_in_a_uri(self) -> None:
        self.path = os.path.join(self.folder, "a?mode=memory&b#c %41.sqlite3")
        state = self.written(append(1))
        self.assertTrue(os.path.exists(self.path))
        self.assertEqual(self.open().load(), state)

    def test_every_write_is_synced(self) -> None:
        storage = self.create()
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2)):
            self.assertEqual(storage._connection.execute(f"PRAGMA {pragma}").fetchone(), (value,))


class HalfMade(FileTest):
    """A crash on the way to the first identity."""

    def test_a_crash_before_the_rename_leaves_nothing(self) -> None:
        self.written()
        os.rename(self.path, f"{self.path}.new")
        self.assert_fails("does not exist", self.open)
        self.assertEqual(self.create().load().snapshot.membership, FOUNDERS)

    def test_a_crash_while_the_draft_is_written(self) -> None:
        for leftover in ("", "-wal", "-shm"):
            with open(f"{self.path}.new{leftover}", "wb") as file:
                file.write(b"half" * 1000)
        self.assertEqual(self.create().load().snapshot.membership, FOUNDERS)
        self.assertFalse(os.path.exists(f"{self.path}.new"))

    def test_the_log_of_a_lost_file_is_not_played_into_a_new_one(self) -> None:
        storage = self.create()
        storage.save(append(1))
        os.unlink(self.path)
        shutil.copy(f"{self.path}-wal", f"{self.path}-kept")
        self.assertRaises(StoreFailed, storage.save, append(2))
        storage.close()
        os.rename(f"{self.path}-kept", f"{self.path}-wal")
        self.assert_fails("put the file back", self.create)


class Damage(FileTest):
    def damage(self, needle: bytes, replacement: bytes) -> None:
        with open(self.path, "r+b") as file:
            content = file.read()
            self.assertEqual(content.count(needle), 1, "the test's needle is not unique")
            file.seek(content.index(needle))
            file.write(replacement)

    def test_a_corrupt_page(self) -> None:
        self.written(append(1, 200, b"y" * 300))
        size = os.path.getsize(self.path)
        with open(self.path, "r+b") as file:
            file.seek(size // 4096 // 2 * 4096)
            file.write(os.urandom(4096))
        self.assert_fails("", lambda: self.open().load())

    def test_any_corrupt_page_is_found_before_anything_is_believed(self) -> None:
        state = self.written(append(1, 40, b"y" * 300))
        with open(self.path, "rb") as file:
            content = file.read()
        for page in range(len(content) // 4096):
            for filling in (b"\0" * 4096, b"\xff" * 4096):
                with open(self.path, "wb") as file:
                    file.write(content[: page * 4096] + filling + content[(page + 1) * 4096 :])
                try:
                    storage = SqliteStorage.open(self.path)
                except StoreFailed as error:
                    self.assertEqual(error.path, self.path)
                    continue
                try:
                    self.assertEqual(storage.load(), state, f"page {page} was damaged and nobody noticed")
                except StoreFailed as error:
                    self.assertEqual(error.path, self.path)
                finally:
                    storage.close()

    def test_a_flipped_bit_in_an_entry(self) -> None:
        self.written(append(1, data=b"a command in the log"))
        self.damage(b"a command in the log", b"a kommand in the log")
        self.assert_fails("log entry 1 is not what was written", self.open().load)

    def test_a_flipped_bit_in_the_snapshot(self) -> None:
        snapshot = Snapshot(1, 1, FOUNDERS, b"the state of it all")
        self.written(append(1), Update(None, (), snapshot, replaces_log=False, keep_from=2))
        self.damage(b"the state of it all", b"the state of it ali")
        self.assert_fails("the snapshot at 1 is not what was written", self.open().load)

    def test_a_vote_that_somebody_has_edited(self) -> None:
        self.written(append(1))
        self.sql("UPDATE hard_state SET vote = 'node-2'")
        self.assert_fails("term and vote are not what was written", self.open().load)

    def test_an_identity_that_somebody_has_edited(self) -> None:
        self.written()
        self.sql("UPDATE identity SET node = 'node-2'")
        self.assert_fails("the identity is not what was written", self.open)

    def test_a_log_with_a_hole(self) -> None:
        self.written(append(1, 5))
        self.sql("DELETE FROM log WHERE at_index = 3")
        self.assert_fails("log entry 3 is missing", self.open().load)

    def test_a_log_that_begins_too_late(self) -> None:
        self.written(append(1, 5))
        self.sql("DELETE FROM log WHERE at_index < 3")
        self.assert_fails("a gap between snapshot 0 and log entry 3", self.open().load)

    def test_rows_that_are_missing(self) -> None:
        for table, call in (
            ("snapshot", lambda: self.open().load()),
            ("hard_state", lambda: self.open().load()),
            ("identity", self.open),
        ):
            self.path = os.path.join(self.folder, table)
            self.written()
            self.sql(f"DELETE FROM {table}")
            self.assert_fails("a row is missing", call)

    def test_columns_of_another_type(self) -> None:
        for column, value in (("data", 7), ("data", "text"), ("at_term", b"1"), ("kind", "x"), ("kind", 99)):
            self.path = os.path.join(self.folder, f"{column}-{value!r}".replace("/", ""))
            self.written(append(1))
            self.sql(f"UPDATE log SET {column} = ?", value)
            storage = SqliteStorage.open(self.path)
            self.assert_fails("", storage.load)
            storage.close()

    def test_a_table_that_is_missing(self) -> None:
        self.written()
        self.sql("DROP TABLE log")
        self.assert_fails("no such table: log", self.open().load)

    def test_a_log_of_sqlites_own_that_was_cut_at_any_byte(self) -> None:
        """What a power loss leaves: a write-ahead log that ends anywhere.  A prefix of the updates is there."""
        storage = self.create()
        states = [storage.load()]
        for index in range(1, 5):
            storage.save(append(index, data=b"%d" % index * 50))
            states.append(storage.load())
        with open(self.path, "rb") as file, open(f"{self.path}-wal", "rb") as wal:
            main, log = file.read(), wal.read()
        found = []
        for length in [*range(0, len(log), 97), len(log)]:
            copy = os.path.join(self.folder, f"cut-{length}")
            for name, content in ((copy, main), (f"{copy}-wal", log[:length])):
                with open(name, "wb") as file:
                    file.write(content)
            cut = SqliteStorage.open(copy)
            found.append(states.index(cut.load()))
            cut.close()
        self.assertEqual(found, sorted(found))
        self.assertEqual(set(found), set(range(5)))


class WhileInUse(FileTest):
    def assert_final(self, storage: SqliteStorage, saying: str) -> None:
        """The save fails, and so does everything after it."""
        self.assert_fails(saying, storage.save, append(2))
        self.assert_fails("failed before", storage.save, append(2))
        self.assert_fails("failed before", storage.load)
        storage.close()

    def test_the_file_vanishes(self) -> None:
        storage = self.create()
        storage.save(append(1))
        os.unlink(self.path)
        self.assert_final(storage, "has vanished or was replaced")

    def test_the_file_vanishes_before_the_first_write(self) -> None:
        storage = self.create()
        os.unlink(self.path)
        self.assert_final(storage, "has vanished or was replaced")

    def test_the_file_is_replaced(self) -> None:
        storage = self.create()
        storage.save(append(1))
        shutil.copy(self.path, f"{self.path}.copy")
        os.rename(f"{self.path}.copy", self.path)
        self.assert_final(storage, "has vanished or was replaced")

    def test_the_write_ahead_log_vanishes(self) -> None:
        storage = self.create()
        storage.save(append(1))
        os.unlink(f"{self.path}-wal")
        self.assert_final(storage, "has vanished or was replaced")

    def test_the_whole_folder_vanishes(self) -> None:
        storage = self.create()
        storage.save(append(1))
        os.rename(self.folder, f"{self.folder}.away")
        self.addCleanup(os.rename, f"{self.folder}.away", self.folder)
        self.assert_final(storage, "has vanished or was replaced")

    def test_somebody_else_writes_to_it(self) -> None:
        storage = self.create()
        storage.save(append(1))
        self.sql("UPDATE hard_state SET term = 5")
        self.assert_final(storage, "was changed by another program")

    def test_a_second_node_gets_past_the_lock(self) -> None:
        storage = self.create()
        storage.save(append(1))
        os.unlink(f"{self.path}.lock")
        second = self.open()
        second.save(append(2))
        self.assert_final(storage, "was changed by another program")

    def test_an_operator_may_read_it_meanwhile(self) -> None:
        storage = self.create()
        with closing(sqlite3.connect(self.path)) as reader:
            for index in range(1, 4):
                storage.save(append(index))
                reader.execute("BEGIN")
                self.assertEqual(reader.execute("SELECT count(*) FROM log").fetchone(), (index,))
                storage.save(append(index, data=b"again"))
                reader.execute("ROLLBACK")

    def test_a_foreign_lock_on_it(self) -> None:
        storage = self.create()
        storage._connection.execute("PRAGMA busy_timeout = 10")
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assert_final(storage, "database is locked")

    def test_a_full_disk(self) -> None:
        storage = self.create()
        storage.save(append(1))
        (pages,) = storage._connection.execute("PRAGMA page_count").fetchone()
        storage._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        before = storage.load()
        self.assert_fails("full", storage.save, append(2, 10, b"z" * 4096))
        storage.close()
        self.assertEqual(self.open().load(), before)

    def test_a_file_that_may_not_grow(self) -> None:
        """The write itself fails, as it does with a quota or a broken disk."""
        storage = self.create()
        storage.save(append(1))
        before = storage.load()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(f"{self.path}-wal") + 5000, hard))
        try:
            self.assert_fails("", storage.save, append(2, 100, b"z" * 4096))
            self.assert_fails("failed before", storage.save, append(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        storage.close()
        self.assertEqual(self.open().load(), before)

    def test_a_number_that_sqlite_cannot_hold(self) -> None:
        storage = self.create()
        huge = Update(HardState(2**64, None, 0), (), None, replaces_log=False, keep_from=0)
        self.assert_fails("", storage.save, huge)

    def test_a_closed_store(self) -> None:
        storage = self.create()
        storage.close()
        self.assert_fails("is closed", storage.save, append(1))
        self.assert_fails("is closed", storage.load)
        storage.close()

    def test_closing_leaves_one_file_and_its_lock(self) -> None:
        self.written(append(1))
        self.assertEqual(sorted(os.listdir(self.folder)), ["raft.sqlite3", "raft.sqlite3.lock"])


class ReadOnly(FileTest):
    """Run without privileges, which would not be asked."""

    def assert_refused_to_nobody(self, call: Callable[[], object]) -> None:
        """In a child process that is no superuser; it says with its exit status what it got."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(NOBODY)
                call()
            except StoreFailed as error:
                status = 0 if error.path == self.path else 2
            except BaseException:  # noqa: BLE001 - whatever it is, the parent must not see it go on
                status = 3
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)

    def test_a_read_only_folder_takes_no_new_node(self) -> None:
        os.chmod(self.folder, 0o555)
        self.assert_refused_to_nobody(lambda: SqliteStorage.create(self.path, IDENTITY, FOUNDERS))

    def test_a_read_only_folder_with_a_node_in_it(self) -> None:
        self.written(append(1))
        os.chmod(self.folder, 0o555)
        self.assert_refused_to_nobody(lambda: SqliteStorage.open(self.path))

    def test_a_read_only_file(self) -> None:
        self.written(append(1))
        os.chmod(self.folder, 0o777)
        os.chmod(f"{self.path}.lock", 0o666)
        os.chmod(self.path, 0o444)
        self.assert_refused_to_nobody(lambda: SqliteStorage.open(self.path).save(append(2)))
