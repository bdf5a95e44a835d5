"""Looking into a node's file without becoming the node: nothing is written, and it may run meanwhile."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

import attrs

from weedtw.errors import StoreFailed
from weedtw.raft import rows
from weedtw.raft.sqlite import check_magic, check_schema, pragma, typed_errors
from weedtw.raft.storage import Identity, StoredState

_TRIES = 3  # a node may start or stop while its file is being looked at


@attrs.frozen
class Contents:
    """All that a node's file holds."""

    identity: Identity
    stored: StoredState


def inspect(path: str) -> Contents:
    """What the file at `path` holds now.  Raises `StoreFailed`, naming what is wrong with it."""
    for last in [False] * (_TRIES - 1) + [True]:
        before = _state_of(path)
        try:
            contents = _read(path, "mode=ro" if before.has_wal else "immutable=1")
        except StoreFailed:
            if last or _state_of(path) == before:
                raise
            continue
        if before.has_wal or _state_of(path) == before:
            return contents
    raise StoreFailed(path, "changes all the time; look again when its master runs steadily")


def _read(path: str, mode: str) -> Contents:
    if not os.path.exists(path):
        raise StoreFailed(path, "does not exist")
    with typed_errors(path), _named(path):
        check_magic(path)
        uri = f"file:{quote(os.path.abspath(path))}?{mode}"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")  # one moment for all that is read
            check_schema(path, connection)
            verdict = pragma(connection, "quick_check(1)")
            if verdict != "ok":
                rows.damaged(path, str(verdict))
            identity = rows.get_identity(path, connection)
            hard_state = rows.get_hard_state(path, connection)
            snapshot = rows.get_snapshot(path, connection)
            entries = rows.get_entries(path, connection, snapshot.index)
    return Contents(identity, StoredState(hard_state, snapshot, entries))


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Say what SQLite's words mean here."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if str(error).startswith("no such "):
            raise StoreFailed(path, f"was not written by this version of weedtw: {error}") from error
        if str(error).startswith("unable to open ") and not os.path.exists(f"{path}-shm"):
            advice = "copy it, with its -wal, to a folder that you may write to, and look there"
            raise StoreFailed(path, f"cannot be read here without its -shm; {advice}") from error
        raise


# ------------------------------------------------------------------ while it may change


@attrs.frozen
class _State:
    """What tells whether a file was changed, or began to be used.

    A database in WAL mode without a `-wal` is whole in itself.  Opened as one that may change, it would get a `-wal`;
    opened as an immutable one, it is read without looking for a `-wal`.
    """

    has_wal: bool
    changed: int | None  # nanoseconds since 1970
    size: int | None


def _state_of(path: str) -> _State:
    try:
        status = os.stat(path)
    except OSError:
        return _State(os.path.exists(f"{path}-wal"), None, None)
    return _State(os.path.exists(f"{path}-wal"), status.st_mtime_ns, status.st_size)
