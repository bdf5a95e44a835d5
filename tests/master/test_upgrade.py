"""Carrying over the file of a master from the time when there could be only one."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.master.stage import Stage
from weedtw.errors import Damaged, StorageError
from weedtw.formats.fileid import FileId
from weedtw.master import upgrade
from weedtw.master.consensus import ClusterMachine
from weedtw.master.entry import NAME
from weedtw.raft.messages import HardState
from weedtw.raft.sqlite import SqliteStorage
from weedtw.topology.state import ClusterState, RegisteredServer

# What that version had in it.
TABLES = """
CREATE TABLE identity (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE log (number INTEGER PRIMARY KEY, term INTEGER NOT NULL, command TEXT NOT NULL);
CREATE TABLE snapshot (number INTEGER NOT NULL, term INTEGER NOT NULL, state TEXT NOT NULL);
PRAGMA application_id = 0x77656564;
PRAGMA user_version = 1;
"""
NODE = "9c1e8f60-0000-4000-8000-000000000007"
CLUSTER = "a7e2d7f4-f2e4-476d-92a9-d0407a2c5543"
SERVER = {"address": "v:8080", "public_url": "v:80", "data_center": "dc1", "rack": "r1", "uuids": ["u1", "u2"]}
EMPTY: dict[str, Any] = {"cluster_id": None, "max_volume_id": 0, "key_high_water": 0, "servers": []}
COMMANDS: list[Any] = [
    {"do": "mint_cluster", "cluster_id": CLUSTER},
    {"do": "register_server", **SERVER},
    {"do": "allocate_volume_ids", "count": 7},
    {"do": "raise_volume_ids", "upto": 40},
    {"do": "extend_keys", "upto": 100_000},
    {"do": "raise_keys", "upto": 123_456},
    {"do": "register_server", **SERVER, "address": "w:8080", "uuids": ["u3"]},
    {"do": "forget_server", "address": "w:8080"},
]
STATE = ClusterState(40, 123_456, {"v:8080": RegisteredServer("v:8080", "v:80", "dc1", "r1", ("u1", "u2"))})


def write(path: str, commands: list[Any], snapshot: object = EMPTY, at: int = 0) -> None:
    """Make a former file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(TABLES)
        database.execute("INSERT INTO identity VALUES ('node_id', ?)", (NODE,))
        database.execute("INSERT INTO snapshot VALUES (?, 0, ?)", (at, json.dumps(snapshot)))
        for number, command in enumerate(commands, at + 1):
            database.execute("INSERT INTO log VALUES (?, 0, ?)", (number, json.dumps(command)))


class WithFolder(SynchronousTestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.path = os.path.join(holder.name, NAME)
        self.kept = f"{self.path}.before-upgrade"

    def carry_over(self) -> str | None:
        return upgrade.carry_over(self.path, "m:9333")

    def check(self, state: ClusterState = STATE) -> None:
        """The file is one of this version now, with that state, and nothing else lies about but the former one."""
        with closing(SqliteStorage.open(self.path)) as storage:
            stored = storage.load()
            assert (storage.identity.cluster, storage.identity.node) == (CLUSTER, NODE)
            assert stored.hard_state == HardState(1, None, 1)
            assert (stored.snapshot.index, stored.snapshot.term, stored.entries) == (1, 1, ())
            members = stored.snapshot.membership.members
            assert {node: (member.address, member.voter) for node, member in members.items()} == {
                NODE: ("m:9333", True)
            }
            machine = ClusterMachine()
            machine.restore(stored.snapshot.data)
            assert machine.state == state
        os.unlink(f"{self.path}.lock")
        assert sorted(os.listdir(os.path.dirname(self.path))) == [NAME, f"{NAME}.before-upgrade"]


class CarryingOver(WithFolder):
    def test_the_state_becomes_a_snapshot_and_the_former_file_is_kept(self) -> None:
        write(self.path, COMMANDS)
        assert self.carry_over() == self.kept
        self.check()
        with closing(sqlite3.connect(self.kept)) as database:
            assert database.execute("SELECT count(*) FROM log").fetchone() == (len(COMMANDS),)

    def test_a_former_snapshot_counts(self) -> None:
        snapshot = {"cluster_id": CLUSTER, "max_volume_id": 3, "key_high_water": 100_000, "servers": [SERVER]}
        write(self.path, COMMANDS[3:], snapshot, at=17)
        self.carry_over()
        self.check()

    def test_what_was_in_the_log_of_sqlite_counts(self) -> None:
        """As it is after kill -9."""
        write(self.path, COMMANDS[:2])
        with closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            for number, command in enumerate(COMMANDS[2:], 3):
                database.execute("INSERT INTO log VALUES (?, 0, ?)", (number, json.dumps(command)))
            for name in (NAME, f"{NAME}-wal"):
                shutil.copy(os.path.join(os.path.dirname(self.path), name), f"{self.path}.killed{name[len(NAME) :]}")
        os.rename(f"{self.path}.killed", self.path)
        os.rename(f"{self.path}.killed-wal", f"{self.path}-wal")
        self.carry_over()
        self.check()

    def test_it_is_done_once(self) -> None:
        write(self.path, COMMANDS)
        self.carry_over()
        assert self.carry_over() is None
        self.check()

    def test_one_without_a_cluster_is_put_aside(self) -> None:
        write(self.path, [])
        assert self.carry_over() == self.kept
        assert not os.path.exists(self.path)

    def test_other_files_are_left_to_others(self) -> None:
        assert self.carry_over() is None
        for content in (b"", b"x" * 5000):
            Path(self.path).write_bytes(content)
            assert self.carry_over() is None
            assert Path(self.path).read_bytes() == content
            os.unlink(self.path)
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("CREATE TABLE identity (name TEXT, value TEXT)")
        assert self.carry_over() is None

    def test_what_cannot_be_followed_stays_as_it_is(self) -> None:
        for commands, snapshot in (
            ([*COMMANDS, {"do": "dance"}], EMPTY),
            ([*COMMANDS, {}], EMPTY),
            ([*COMMANDS, [1]], EMPTY),
            ([*COMMANDS, {"do": "extend_keys", "upto": 1 << 70}], EMPTY),
            (COMMANDS, {"max_volume_id": 3}),
            (COMMANDS, 7),
        ):
            write(self.path, commands, snapshot)
            with pytest.raises(Damaged, match=r"raft\.sqlite3: of an earlier weedtw cannot be followed"):
                self.carry_over()
            with closing(sqlite3.connect(self.path)) as database:
                assert database.execute("SELECT count(*) FROM log").fetchone() == (len(commands),)
            os.unlink(self.path)
        assert os.listdir(os.path.dirname(self.path)) == []

    def test_what_is_missing_is_named(self) -> None:
        for statement, named in (
            ("DELETE FROM log WHERE number = 3", "decision 3 is missing"),
            ("DELETE FROM identity", "its identity or its snapshot is missing"),
            ("DELETE FROM snapshot", "its identity or its snapshot is missing"),
        ):
            write(self.path, COMMANDS)
            with closing(sqlite3.connect(self.path)) as database, database:
                database.execute(statement)
            with pytest.raises(Damaged, match=named):
                self.carry_over()
            os.unlink(self.path)

    def test_a_file_that_somebody_else_has_open(self) -> None:
        write(self.path, COMMANDS)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match=r"raft\.sqlite3"):
                self.carry_over()
        self.carry_over()
        self.check()


class Crash(BaseException):
    """The process ends here."""


class AnyCrash(WithFolder):
    """Each step that changes something on disk is the last one before a crash, once before and once after it."""

    def crash_at(self, step: int, *, after: bool) -> bool:
        """Whether the crash came: there are not that many steps otherwise."""
        left = step

        def wrap(what: Callable[..., Any]) -> Callable[..., Any]:
            def do(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0 and not after:
                    raise Crash
                try:
                    return what(*args, **kwargs)
                finally:
                    if left == 0:
                        raise Crash

            return do

        patches = [
            self.patch(where, name, wrap(getattr(where, name)))
            for where, name in (
                (os, "rename"),
                (os, "unlink"),
                (os, "fsync"),
                (shutil, "copyfile"),
                (SqliteStorage, "save"),
                (SqliteStorage, "close"),
            )
        ]
        try:
            self.carry_over()
        except Crash:
            return True
        finally:
            for patch in patches:
                patch.restore()
        return False

    def test_it_goes_on_at_the_next_start(self) -> None:
        for after in (False, True):
            step = 1
            while True:
                for name in os.listdir(os.path.dirname(self.path)):
                    os.unlink(os.path.join(os.path.dirname(self.path), name))
                write(self.path, COMMANDS)
                crashed = self.crash_at(step, after=after)
                assert os.path.exists(self.path)
                self.carry_over()
                self.check()
                if not crashed:
                    break
                step += 1
            assert step > 8


@ensureDeferred
async def test_a_master_goes_on_where_the_former_version_stopped(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    os.mkdir(tmp_path / "m")
    write(str(tmp_path / "m" / NAME), COMMANDS)
    with capturedLogs() as events:
        stage.start()
    said = [formatEvent(event) for event in events]
    assert [f"{NAME}.before-upgrade" in line for line in said].count(True) == 1
    try:
        await stage.lead()
        assert (await stage.get("/dir/status"))["TopologyId"] == CLUSTER
        assert stage.master.ledger.node_id == NODE
        assert (await stage.ask("GET", "/dir/lookup?volumeId=3")).status == 503  # v:8080 may have it
        waiting = Deferred.fromCoroutine(stage.ask("POST", "/cluster/forget?server=v:8080"))
        assert (await waiting).status == 200
        await stage.add()
        assigned = await stage.get("/dir/assign")
        assert FileId.parse(assigned["fid"]).key > 123_456
        assert FileId.parse(assigned["fid"]).volume_id > 40
    finally:
        await stage.close()
