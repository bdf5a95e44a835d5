"""The durable store: one SQLite file that holds a node's identity, hard state, snapshot and log.

    identity    cluster, node                         one row, written once
    hard_state  term, vote, commit_index              one row
    snapshot    at_index, at_term, membership, data   one row
    log         at_index, at_term, kind, data         one row an entry

Every update is one transaction in WAL mode with `synchronous=FULL`: when `save` returns, it has been fsynced.  Chosen
over a log file of our own because its crash safety has been proven by others, and because an operator can open it
with `sqlite3`.  `application_id` marks the file as ours, `user_version` its schema.

All of this blocks; the driver calls it from one thread at a time.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from typing import IO, Any

from weedtw.errors import BadRequest, FolderInUse, StoreFailed
from weedtw.raft.membership import Membership
from weedtw.raft.messages import Entry, EntryKind, HardState, Snapshot
from weedtw.raft.storage import Identity, StoredState, Update

APPLICATION_ID = 0x77656564  # "weed"
SCHEMA_VERSION = 1
_MAGIC = b"SQLite format 3\x00"

_SCHEMA = """
    CREATE TABLE identity (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        cluster TEXT NOT NULL, node TEXT NOT NULL);
    CREATE TABLE hard_state (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        term INTEGER NOT NULL, vote TEXT, commit_index INTEGER NOT NULL);
    CREATE TABLE snapshot (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        at_index INTEGER NOT NULL, at_term INTEGER NOT NULL, membership TEXT NOT NULL, data BLOB NOT NULL);
    CREATE TABLE log (at_index INTEGER PRIMARY KEY,
        at_term INTEGER NOT NULL, kind INTEGER NOT NULL, data BLOB NOT NULL);
"""


class SqliteStorage:
    """A node's state in the file at `path`.  Any failure is final: the store answers nothing more."""

    def __init__(self, path: str, lock: IO[bytes], connection: sqlite3.Connection, identity: Identity) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.identity = identity
        self._lock = lock
        self._connection = connection
        self._inode = os.stat(path).st_ino
        self._failed = False

    # ------------------------------------------------------------------ opening

    @classmethod
    def create(cls, path: str, identity: Identity, membership: Membership) -> "SqliteStorage":
        """Make a new node's file.  `membership` is what a founder starts with; a newcomer knows none.

        Raises `StoreFailed` when there is a file already: state on disk always wins.
        """
        if os.path.exists(path):
            raise StoreFailed(path, "exists already; a node's state is never overwritten")
        lock = _lock(path)
        draft = f"{path}.new"  # renamed when complete, so that a crash leaves no half-made identity
        with _typed_errors(path), _released_on_error(lock):
            for leftover in (draft, f"{draft}-wal", f"{draft}-shm"):
                if os.path.exists(leftover):
                    os.unlink(leftover)
            connection = _connect(draft)
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            with connection:
                connection.execute("INSERT INTO identity VALUES (1, ?, ?)", (identity.cluster, identity.node))
                _put_hard_state(connection, HardState())
                _put_snapshot(connection, Snapshot(membership=membership))
            connection.close()
            os.rename(draft, path)
            _sync_folder(path)
            return cls(path, lock, _connect(path), identity)

    @classmethod
    def open(cls, path: str) -> "SqliteStorage":
        """Open an existing node's file.  Raises `StoreFailed`, naming what is wrong with it, or `FolderInUse`."""
        if not os.path.exists(path):
            raise StoreFailed(path, "does not exist")
        lock = _lock(path)
        with _typed_errors(path), _released_on_error(lock):
            _check_magic(path)
            connection = _connect(path)
            _check_schema(path, connection)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StoreFailed(path, f"is damaged: {verdict}; restore the file or let this node join anew")
            row = connection.execute("SELECT cluster, node FROM identity").fetchone()
            if row is None:
                raise StoreFailed(path, "holds no identity")
            return cls(path, lock, connection, Identity(*row))

    # ------------------------------------------------------------------ the interface of a store

    def load(self) -> StoredState:
        """What was last saved."""
        with _typed_errors(self.path):
            term, vote, commit = self._connection.execute(
                "SELECT term, vote, commit_index FROM hard_state"
            ).fetchone()
            index, at_term, membership, data = self._connection.execute(
                "SELECT at_index, at_term, membership, data FROM snapshot"
            ).fetchone()
            rows = self._connection.execute("SELECT at_index, at_term, kind, data FROM log ORDER BY at_index")
            entries = tuple(Entry(i, t, EntryKind(kind), bytes(blob)) for i, t, kind, blob in rows)
            state = StoredState(
                HardState(term, vote, commit),
                Snapshot(index, at_term, Membership.parse(membership), bytes(data)),
                entries,
            )
            self._check_log(state)
            return state

    def save(self, update: Update) -> None:
        """Make `update` durable in one transaction."""
        if self._failed:
            raise StoreFailed(self.path, "failed before; nothing more can be promised of it")
        try:
            with _typed_errors(self.path):
                self._check_still_there()
                with self._connection:
                    self._write(update)
        except StoreFailed:
            self._failed = True
            raise

    def close(self) -> None:
        """Release the file and its lock."""
        self._failed = True
        with _typed_errors(self.path):
            self._connection.close()
        self._lock.close()

    # ------------------------------------------------------------------ inside

    def _write(self, update: Update) -> None:
        connection = self._connection
        if update.hard_state is not None:
            _put_hard_state(connection, update.hard_state)
        if update.snapshot is not None:
            _put_snapshot(connection, update.snapshot)
            if update.replaces_log:
                connection.execute("DELETE FROM log")
        if update.entries:
            connection.execute("DELETE FROM log WHERE at_index >= ?", (update.entries[0].index,))
            connection.executemany(
                "INSERT INTO log VALUES (?, ?, ?, ?)",
                [(e.index, e.term, int(e.kind), e.data) for e in update.entries],
            )
        if update.snapshot is not None:
            connection.execute("DELETE FROM log WHERE at_index < ?", (update.keep_from,))

    def _check_still_there(self) -> None:
        """A file that was deleted or replaced would take writes that nobody will ever read again."""
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            inode = None
        if inode != self._inode:
            raise StoreFailed(self.path, "has vanished or was replaced while this node was using it")

    def _check_log(self, state: StoredState) -> None:
        expected = state.entries[0].index if state.entries else 0
        if state.entries and expected > state.snapshot.index + 1:
            raise StoreFailed(self.path, f"has a gap between snapshot {state.snapshot.index} and entry {expected}")
        for entry in state.entries:
            if entry.index != expected:
                raise StoreFailed(self.path, f"has no log entry {expected}")
            expected += 1


def _put_hard_state(connection: sqlite3.Connection, state: HardState) -> None:
    connection.execute("REPLACE INTO hard_state VALUES (1, ?, ?, ?)", (state.term, state.vote, state.commit))


def _put_snapshot(connection: sqlite3.Connection, snapshot: Snapshot) -> None:
    membership = snapshot.membership.render().decode()
    row = (snapshot.index, snapshot.term, membership, snapshot.data)
    connection.execute("REPLACE INTO snapshot VALUES (1, ?, ?, ?, ?)", row)


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _lock(path: str) -> IO[bytes]:
    """Two processes on one file could vote twice; the lock goes with the process."""
    try:
        lock = open(f"{path}.lock", "ab")  # noqa: SIM115 - held until close()
    except OSError as error:
        raise StoreFailed(path, f"cannot be locked: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise FolderInUse(path, "another process is using it; stop that one first") from None
    return lock


def _check_magic(path: str) -> None:
    with open(path, "rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise StoreFailed(path, "is not a database of weedtw; move it away or choose another folder")


def _check_schema(path: str, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise StoreFailed(path, "is a database of another program; move it away or choose another folder")
    if version > SCHEMA_VERSION:
        raise StoreFailed(path, f"was written by a newer weedtw (schema {version}); this one knows {SCHEMA_VERSION}")
    if version < 1:
        raise StoreFailed(path, "has no schema version")


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _typed_errors(path: str) -> Iterator[None]:
    """Whatever SQLite, the file system or a damaged row raises becomes `StoreFailed` with the file's name."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, TypeError, BadRequest) as error:
        raise StoreFailed(path, str(error)) from error


@contextlib.contextmanager
def _released_on_error(lock: IO[Any]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        lock.close()
        raise
