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
from urllib.parse import quote

from weedtw.errors import BadRequest, FolderInUse, StoreFailed
from weedtw.raft import rows
from weedtw.raft.membership import Membership
from weedtw.raft.messages import HardState, Snapshot
from weedtw.raft.storage import Identity, StoredState, Update

APPLICATION_ID = 0x77656564  # "weed"
SCHEMA_VERSION = 1
_MAGIC = b"SQLite format 3\x00"
_WAL_KEPT = 16 * 1024 * 1024  # bytes; a longer log of SQLite's own is cut back to this when it starts over


class SqliteStorage:
    """A node's state in the file at `path`.  Any failure is final: the store answers nothing more."""

    def __init__(self, path: str, lock: IO[bytes], connection: sqlite3.Connection, identity: Identity) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.identity = identity
        self._lock = lock
        self._connection = connection
        self._file = _inode(path)
        self._wal: tuple[int, int] | None = None  # known once something was written
        self._data_version = pragma(connection, "data_version")
        self._unusable: str | None = None  # why nothing more can be asked of it

    # ------------------------------------------------------------------ opening

    @classmethod
    def create(cls, path: str, identity: Identity, membership: Membership) -> "SqliteStorage":
        """Make a new node's file.  `membership` is what a founder starts with; a newcomer knows none.

        Raises `StoreFailed` when there is a file already: state on disk always wins.
        """
        lock = _lock(path)
        draft = f"{path}.new"  # renamed when complete, so that a crash leaves no half-made identity
        with _released_on_error(lock), typed_errors(path):
            if os.path.exists(path):
                raise StoreFailed(path, "exists already; a node's state is never overwritten")
            if os.path.exists(f"{path}-wal"):
                # SQLite would play the old file's log into the new one.
                raise StoreFailed(path, "is gone, but its -wal is here: put the file back, or move the -wal away too")
            for leftover in (draft, f"{draft}-wal", f"{draft}-shm"):
                if os.path.exists(leftover):
                    os.unlink(leftover)
            with contextlib.closing(_connect(draft, "rwc")) as connection:
                connection.executescript(rows.SCHEMA)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                with transaction(connection):
                    rows.put_identity(connection, identity)
                    rows.put_hard_state(connection, HardState())
                    rows.put_snapshot(connection, Snapshot(membership=membership))
            os.rename(draft, path)
            sync_folder(path)
            with _closed_on_error(_connect(path)) as connection:
                return cls(path, lock, connection, identity)

    @classmethod
    def open(cls, path: str) -> "SqliteStorage":
        """Open an existing node's file.  Raises `StoreFailed`, naming what is wrong with it, or `FolderInUse`."""
        if not os.path.exists(path):
            raise StoreFailed(path, "does not exist")
        lock = _lock(path)
        with _released_on_error(lock), typed_errors(path):
            check_magic(path)
            with _closed_on_error(_connect(path)) as connection:
                check_schema(path, connection)
                verdict = pragma(connection, "quick_check(1)")
                if verdict != "ok":
                    rows.damaged(path, str(verdict))
                return cls(path, lock, connection, rows.get_identity(path, connection))

    # ------------------------------------------------------------------ the interface of a store

    def load(self) -> StoredState:
        """What was last saved."""
        self._check_usable()
        with typed_errors(self.path):
            connection = self._connection
            hard_state = rows.get_hard_state(self.path, connection)
            snapshot = rows.get_snapshot(self.path, connection)
            return StoredState(hard_state, snapshot, rows.get_entries(self.path, connection, snapshot.index))

    def save(self, update: Update) -> None:
        """Make `update` durable in one transaction."""
        self._check_usable()
        try:
            with typed_errors(self.path):
                with transaction(self._connection):
                    self._check_sole_writer()
                    self._write(update)
                self._check_still_there()
        except StoreFailed as error:
            self._unusable = f"failed before ({error.reason}); nothing more can be promised of it"
            raise

    def close(self) -> None:
        """Release the file and its lock."""
        self._unusable = self._unusable or "is closed"
        try:
            with typed_errors(self.path):
                self._connection.close()
        finally:
            self._lock.close()

    # ------------------------------------------------------------------ inside

    def _write(self, update: Update) -> None:
        connection = self._connection
        if update.hard_state is not None:
            rows.put_hard_state(connection, update.hard_state)
        if update.snapshot is not None:
            rows.put_snapshot(connection, update.snapshot)
            if update.replaces_log:
                connection.execute("DELETE FROM log")
        if update.entries:
            connection.execute("DELETE FROM log WHERE at_index >= ?", (update.entries[0].index,))
            rows.put_entries(connection, update.entries)
        if update.snapshot is not None:
            connection.execute("DELETE FROM log WHERE at_index < ?", (update.keep_from,))

    def _check_usable(self) -> None:
        if self._unusable is not None:
            raise StoreFailed(self.path, self._unusable)

    def _check_sole_writer(self) -> None:
        """The lock keeps other nodes out, but not a hand with an editor, nor one that removes the lock."""
        if pragma(self._connection, "data_version") != self._data_version:
            raise StoreFailed(self.path, "was changed by another program while this node was using it")

    def _check_still_there(self) -> None:
        """A file that was deleted or replaced takes writes that nobody will ever read again.

        Looked at after the write: what was there then has it.
        """
        wal = _inode(f"{self.path}-wal")
        if self._wal is None:
            self._wal = wal
        if _inode(self.path) != self._file or wal is None or wal != self._wal:
            raise StoreFailed(self.path, "has vanished or was replaced while this node was using it")


# ------------------------------------------------------------------ the file


def _connect(path: str, mode: str = "rw") -> sqlite3.Connection:
    uri = f"file:{quote(os.path.abspath(path))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
    with _closed_on_error(connection):
        if pragma(connection, "journal_mode = WAL") != "wal":
            raise StoreFailed(path, "cannot be written in WAL mode here; use a local file system")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
        connection.execute("PRAGMA secure_delete = OFF")
    return connection


def pragma(connection: sqlite3.Connection, text: str) -> object:
    """The one value that a pragma gives."""
    (value,) = connection.execute(f"PRAGMA {text}").fetchone()
    return value


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is done within, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell
                connection.execute("ROLLBACK")
        raise


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
    except OSError as error:
        lock.close()
        raise StoreFailed(path, f"cannot be locked: {error.strerror}") from error
    return lock


def check_magic(path: str) -> None:
    """Raise `StoreFailed` for a file that is no SQLite database."""
    with open(path, "rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise StoreFailed(path, "is not a database of weedtw; move it away or choose another folder")


def check_schema(path: str, connection: sqlite3.Connection) -> None:
    """Raise `StoreFailed` for a database that is not ours, or not of this version."""
    version = pragma(connection, "user_version")
    if pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreFailed(path, "is a database of another program; move it away or choose another folder")
    if not isinstance(version, int) or version < 1:
        raise StoreFailed(path, "has no schema version")
    if version > SCHEMA_VERSION:
        raise StoreFailed(path, f"was written by a newer weedtw (schema {version}); this one knows {SCHEMA_VERSION}")


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def sync_folder(path: str) -> None:
    """Make the name of the file at `path` last."""
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def typed_errors(path: str) -> Iterator[None]:
    """Whatever SQLite, the file system or a damaged row raises becomes `StoreFailed` with the file's name."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError, BadRequest) as error:
        raise StoreFailed(path, str(error)) from error


@contextlib.contextmanager
def _released_on_error(lock: IO[Any]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        lock.close()
        raise


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
