"""The file that a master's decisions are kept in."""

import os
import sqlite3
import tempfile

import pytest
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged, FolderInUse, StorageError, WriteFailed
from weedtw.master.ledgerfile import APPLICATION_ID, NAME, LedgerFile, lock_folder
from weedtw.topology.state import AllocateVolumeIds, Command, ExtendKeys, MintCluster, RegisterServer

REGISTER = RegisterServer("a:1", "a:1", "dc1", "r1", ("u1",))


def append(file: LedgerFile, *commands: Command, snapshot: bool = False) -> None:
    state = file.state
    for command in commands:
        state, _ = state.apply(command)
    file.append(0, commands, state, snapshot=snapshot)


class WithFolder(SynchronousTestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        self.path = os.path.join(self.folder, NAME)

    def open(self) -> LedgerFile:
        file = LedgerFile.open(self.folder)
        self.addCleanup(file.close)
        return file

    def sql(self, *statements: str) -> None:
        database = sqlite3.connect(self.path)
        for statement in statements:
            database.execute(statement)
        database.commit()
        database.close()

    def refusal(self, kind: type[StorageError] = StorageError) -> str:
        with pytest.raises(kind) as caught:
            LedgerFile.open(self.folder)
        assert caught.value.path == self.path
        return str(caught.value)


class Keeping(WithFolder):
    def test_a_new_file_is_empty(self) -> None:
        file = self.open()
        assert file.state.cluster_id is None
        assert (file.number, file.in_log) == (0, 0)
        assert len(file.node_id) == 36

    def test_what_was_appended_is_there_after_opening_again(self) -> None:
        file = self.open()
        append(file, MintCluster("c"), ExtendKeys(100))
        append(file, REGISTER)
        file.close()
        again = self.open()
        assert again.state == file.state
        assert again.node_id == file.node_id
        assert (again.number, again.in_log) == (3, 3)

    def test_it_is_there_without_a_close(self) -> None:
        file = self.open()
        append(file, ExtendKeys(100))
        assert LedgerFile.open(self.folder).state.key_high_water == 100

    def test_a_snapshot_takes_the_place_of_the_log(self) -> None:
        file = self.open()
        append(file, MintCluster("c"), REGISTER)
        append(file, AllocateVolumeIds(7), snapshot=True)
        append(file, ExtendKeys(50))
        file.close()
        again = self.open()
        assert again.state == file.state
        assert (again.number, again.in_log) == (4, 1)

    def test_the_cluster_is_founded_once(self) -> None:
        file = self.open()
        file.found_cluster()
        name = file.state.cluster_id
        assert name is not None
        file.found_cluster()
        file.close()
        again = self.open()
        again.found_cluster()
        assert again.state.cluster_id == name
        assert again.number == 1

    def test_commits_are_synced(self) -> None:
        self.open()
        database = sqlite3.connect(self.path)
        self.addCleanup(database.close)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)

    def test_a_failed_append_keeps_nothing(self) -> None:
        file = self.open()
        append(file, ExtendKeys(100))
        file.number -= 1  # the next number is taken: SQLite refuses the second row
        with pytest.raises(WriteFailed, match=r"raft\.sqlite3"):
            append(file, MintCluster("c"), ExtendKeys(200))
        assert LedgerFile.open(self.folder).state.key_high_water == 100


class Refusing(WithFolder):
    def test_a_file_that_is_no_database(self) -> None:
        with open(self.path, "wb") as file:
            file.write(b"not a database, but long enough to be looked at" * 100)
        assert "cannot be read" in self.refusal(Damaged)

    def test_a_file_without_a_byte_is_new(self) -> None:
        open(self.path, "wb").close()
        assert self.open().number == 0

    def test_another_programs_database(self) -> None:
        self.sql("CREATE TABLE songs (title TEXT)")
        assert "another program" in self.refusal(Damaged)

    def test_a_newer_schema(self) -> None:
        self.open().close()
        self.sql("PRAGMA user_version = 2")
        assert "newer weedtw (schema 2" in self.refusal()

    def test_a_cut_file(self) -> None:
        file = self.open()
        for n in range(300):
            append(file, RegisterServer(f"a:{n + 1}", "", "dc1", "r1", (f"u{n}",)))
        file.close()
        os.truncate(self.path, os.path.getsize(self.path) // 2)
        self.refusal(Damaged)

    def test_bytes_that_rotted(self) -> None:
        file = self.open()
        for n in range(300):
            append(file, RegisterServer(f"a:{n + 1}", "", "dc1", "r1", (f"u{n}",)))
        file.close()
        with open(self.path, "r+b") as raw:
            raw.seek(os.path.getsize(self.path) // 2)
            raw.write(b"\xff" * 4096)
        self.refusal(Damaged)

    def test_a_gap_in_the_log(self) -> None:
        file = self.open()
        append(file, ExtendKeys(1), ExtendKeys(2), ExtendKeys(3))
        file.close()
        self.sql("DELETE FROM log WHERE number = 2")
        assert "after command 1" in self.refusal(Damaged)

    def test_commands_that_are_none(self) -> None:
        self.open().close()
        for command in ("'dance'", '\'{"do":"dance"}\'', "x'00ff'", "17"):
            self.sql("DELETE FROM log", f"INSERT INTO log VALUES (1, 0, {command})")
            self.refusal(Damaged)

    def test_a_missing_snapshot_or_identity(self) -> None:
        self.open().close()
        self.sql("DELETE FROM snapshot")
        assert "missing" in self.refusal(Damaged)

    def test_a_folder_that_cannot_be(self) -> None:
        with pytest.raises(StorageError) as caught:
            lock_folder("/proc/self")
        assert caught.value.path == "/proc/self"
        with open(os.path.join(self.folder, "file"), "w"), pytest.raises(StorageError):
            lock_folder(os.path.join(self.folder, "file"))

    def test_a_database_in_use(self) -> None:
        file = self.open()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        file._database.execute("PRAGMA busy_timeout = 10")
        with pytest.raises(WriteFailed, match="locked"):
            append(file, ExtendKeys(1))


class Locking(WithFolder):
    def test_one_master_a_folder(self) -> None:
        folder = os.path.join(self.folder, "a")
        os.mkdir(folder)
        lock = lock_folder(folder)
        with pytest.raises(FolderInUse) as caught:
            lock_folder(folder)
        assert folder in str(caught.value)
        os.close(lock)
        os.close(lock_folder(folder))
