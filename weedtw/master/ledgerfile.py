"""The master's durable memory: one SQLite file, `mdir/raft.sqlite3`.

    identity   name TEXT, value TEXT              node_id: a UUID made once
    log        number INTEGER, term INTEGER, command TEXT     commands in the order they were agreed on
    snapshot   number INTEGER, term INTEGER, state TEXT       one row: the state after command `number`

The state is the snapshot with the commands of the log applied to it; numbers go up by one without gaps.
`PRAGMA application_id` tells our files from others', `PRAGMA user_version` is the version of this schema.
Everything here blocks, and one thread at a time may use a file.  A commit is on disk (fsync) when it returns.
"""

import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from weedtw.errors import Damaged, FolderInUse, StorageError, WeedError, WriteFailed
from weedtw.topology.state import (
    ClusterState,
    Command,
    MintCluster,
    dump_command,
    dump_state,
    load_command,
    load_state,
)

NAME = "raft.sqlite3"
LOCK_NAME = "master.lock"
APPLICATION_ID = 0x77656564  # "weed"
SCHEMA = 1

_TABLES = """
CREATE TABLE identity (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE log (number INTEGER PRIMARY KEY, term INTEGER NOT NULL, command TEXT NOT NULL);
CREATE TABLE snapshot (number INTEGER NOT NULL, term INTEGER NOT NULL, state TEXT NOT NULL);
"""


def lock_folder(folder: str) -> int:
    """Lock the folder for this process; the descriptor holds the lock until closed.

    Raises FolderInUse when another process has it, StorageError when it cannot be written.
    """
    path = os.path.join(folder, LOCK_NAME)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(folder, f"cannot be used as the master's folder: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise StorageError(path, f"cannot be locked: {error.strerror}") from error
        raise FolderInUse(folder, "another master is using this folder (--mdir)") from error
    return descriptor


@attrs.define(eq=False)
class LedgerFile:
    """An open file; make it with `open`."""

    path: str
    node_id: str
    state: ClusterState  # after command `number`
    number: int
    in_log: int  # commands since the snapshot
    _database: sqlite3.Connection

    @classmethod
    def open(cls, folder: str) -> "LedgerFile":
        """Open the file in a locked folder, or make it.

        Raises Damaged when it cannot be read or is another program's, StorageError when it was written by a newer
        version or cannot be opened or written.
        """
        path = os.path.join(folder, NAME)
        try:
            database = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise StorageError(path, f"cannot be opened: {error}") from error
        try:
            return cls._read(database, path)
        except BaseException:
            database.close()
            raise

    @classmethod
    def _read(cls, database: sqlite3.Connection, path: str) -> "LedgerFile":
        with _sqlite_errors(path):
            _check_origin(database, path)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            with _transaction(database):  # also finds out whether the file can be written
                if not _tables(database):
                    _create(database)
            _sync_folder(path)
            node_id = database.execute("SELECT value FROM identity WHERE name = 'node_id'").fetchone()
            snapshots = database.execute("SELECT number, state FROM snapshot").fetchall()
            log = database.execute("SELECT number, command FROM log ORDER BY number").fetchall()
        if node_id is None or len(snapshots) != 1:
            raise Damaged(path, "its identity or its snapshot is missing")
        number, state = _replay(path, snapshots[0], log)
        return cls(path, node_id[0], state, number, len(log), database)

    def append(self, term: int, commands: Sequence[Command], state: ClusterState, *, snapshot: bool) -> None:
        """Make `commands` durable, which lead to `state`; with `snapshot`, in the place of the log before them.

        All of it or nothing.  Raises WriteFailed; what is on disk is then not known, and the file must be given up.
        """
        number = self.number + len(commands)
        rows = [(self.number + n, term, dump_command(command)) for n, command in enumerate(commands, 1)]
        try:
            with _transaction(self._database):
                if snapshot:
                    self._database.execute("DELETE FROM log")
                    self._database.execute(
                        "UPDATE snapshot SET number=?, term=?, state=?", (number, term, dump_state(state))
                    )
                else:
                    self._database.executemany("INSERT INTO log (number, term, command) VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise WriteFailed(self.path, str(error)) from error
        self.number, self.state = number, state
        self.in_log = 0 if snapshot else self.in_log + len(rows)

    def found_cluster(self) -> None:
        """Mint the cluster's name if it has none yet; raises WriteFailed."""
        if self.state.cluster_id is None:
            command = MintCluster(str(uuid.uuid4()))
            state, _ = self.state.apply(command)
            self.append(0, [command], state, snapshot=False)

    def close(self) -> None:
        """Close the file; every commit is on disk already."""
        self._database.close()


@contextmanager
def _sqlite_errors(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, read-only, disk full
        raise StorageError(path, f"cannot be used: {error}") from error
    except sqlite3.Error as error:
        raise Damaged(path, f"cannot be read as the master's state: {error}") from error


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:  # some failures have ended it already
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _check_origin(database: sqlite3.Connection, path: str) -> None:
    (application_id,) = database.execute("PRAGMA application_id").fetchone()
    (schema,) = database.execute("PRAGMA user_version").fetchone()
    if (application_id, schema) == (0, 0) and not _tables(database):
        return  # new, or a crash came before the first commit
    if application_id != APPLICATION_ID:
        raise Damaged(path, "this is a database of another program, not the state of a weedtw master")
    if schema > SCHEMA:
        raise StorageError(path, f"was written by a newer weedtw (schema {schema}; this one reads up to {SCHEMA})")
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise Damaged(path, f"SQLite finds it damaged: {verdict}")


def _tables(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _create(database: sqlite3.Connection) -> None:
    for statement in filter(None, map(str.strip, _TABLES.split(";"))):
        database.execute(statement)
    database.execute("INSERT INTO identity VALUES ('node_id', ?)", (str(uuid.uuid4()),))
    database.execute("INSERT INTO snapshot VALUES (0, 0, ?)", (dump_state(ClusterState()),))
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {SCHEMA}")


def _sync_folder(path: str) -> None:
    """Make the names of the file and of its write-ahead log durable; SQLite sees to their content only."""
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replay(path: str, snapshot: tuple[int, str], log: Sequence[tuple[int, str]]) -> tuple[int, ClusterState]:
    number, text = snapshot
    try:
        state = load_state(text)
        for found, command in log:
            if found != number + 1:
                raise ValueError("the command is missing")
            state, _ = state.apply(load_command(command))
            number = found
    except (ValueError, TypeError, WeedError) as error:
        raise Damaged(path, f"after command {number} its log cannot be followed: {error}") from error
    return number, state
