"""Carrying over what a master kept when there could be only one: `raft.sqlite3` in the tables of that version.

    identity   name, value              node_id
    log        number, term, command    the decisions since the snapshot, in order
    snapshot   number, term, state      one row: the state after decision `number`

The state becomes the snapshot of a file in the present format, of a cluster with this node alone.  The former file is
kept beside it.  Whenever that is interrupted, `raft.sqlite3` is either the former file, whole, or the new one, whole.
All of this blocks, and the folder has to be locked.
"""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from urllib.parse import quote

import attrs

from weedtw.errors import Damaged, StorageError, WeedError
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import HardState, Snapshot
from weedtw.raft.sqlite import APPLICATION_ID, SqliteStorage, sync_folder
from weedtw.raft.storage import Identity, Update
from weedtw.topology.state import ClusterState, dump_state, load_command, load_state

KEPT = ".before-upgrade"  # behind the former file's name
_DRAFT = ".upgraded"
_COLUMNS = ["name", "value"]  # of the former table `identity`


@attrs.frozen
class _Former:
    """What the former file says; `cluster` is empty when it stopped before it had founded one."""

    node: str
    cluster: str
    state: ClusterState


def carry_over(path: str, address: str) -> str | None:
    """Bring a former file at `path` into the present format; gives the path under which the former one is kept.

    None when the file is no former one, or there is none.  Afterwards there is none at `path` when it had not come to
    a cluster.  `address` is where this master is reached.  Raises Damaged or StorageError; nothing has changed then.
    """
    if not _is_former(path):
        return None
    with _named_errors(path):
        former = _read(path)
        kept = path + KEPT
        _copy(path, kept)
        if former.cluster:
            draft = _write(path + _DRAFT, former, address)
            os.rename(draft, path)
        else:
            os.unlink(path)
        sync_folder(path)
    return kept


def _is_former(path: str) -> bool:
    """Whether the file is in the former format; what else it may be is found out by whoever opens it."""
    if not os.path.exists(path):
        return False
    try:
        with contextlib.closing(_connect(path)) as database:
            (application,) = database.execute("PRAGMA application_id").fetchone()
            columns = [name for _, name, *_ in database.execute("PRAGMA table_info(identity)")]
    except sqlite3.Error:
        return False
    return application == APPLICATION_ID and columns == _COLUMNS


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=rw", uri=True, isolation_level=None)


# ------------------------------------------------------------------ the former file


def _read(path: str) -> _Former:
    """What stands in the former file, which is put together from it and its `-wal` meanwhile."""
    with contextlib.closing(_connect(path)) as database:
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Damaged(path, f"SQLite finds it damaged: {verdict}")
        database.execute("PRAGMA synchronous = FULL")
        (mode,) = database.execute("PRAGMA journal_mode = DELETE").fetchone()
        if mode != "delete":
            raise StorageError(path, "is in use by another program")
        nodes = database.execute("SELECT value FROM identity WHERE name = 'node_id'").fetchall()
        snapshots = database.execute("SELECT number, state FROM snapshot").fetchall()
        log = database.execute("SELECT number, command FROM log ORDER BY number").fetchall()
    if len(nodes) != 1 or len(snapshots) != 1:
        raise Damaged(path, "its identity or its snapshot is missing")
    ((node,),), ((number, text),) = nodes, snapshots
    cluster, state = _load_state(text)
    for found, command in log:
        if found != number + 1:
            raise Damaged(path, f"decision {number + 1} is missing")
        minted, state = _apply(state, command)
        cluster, number = cluster or minted, found
    # Volumes did not count as growing then: all of them are made, or were given up.
    return _Former(node, cluster, attrs.evolve(state, growing=()))


def _load_state(text: str) -> tuple[str, ClusterState]:
    """The cluster's id, which was a part of the state, and the rest."""
    fields = json.loads(text)
    cluster = fields.pop("cluster_id")
    return cluster or "", load_state(json.dumps({**fields, "growing": []}))


def _apply(state: ClusterState, text: str) -> tuple[str, ClusterState]:
    """The cluster's id if the decision is about that, and the state after it."""
    fields = json.loads(text)
    if fields["do"] == "mint_cluster":
        return str(fields["cluster_id"]), state
    return "", state.apply(load_command(text))[0]


# ------------------------------------------------------------------ the new file


def _copy(path: str, target: str) -> None:
    draft = f"{target}.new"
    shutil.copyfile(path, draft)
    shutil.copymode(path, draft)
    _sync(draft)
    os.rename(draft, target)
    sync_folder(target)


def _write(draft: str, former: _Former, address: str) -> str:
    """Make the new file, whole and on disk."""
    lock = f"{draft}.lock"
    for leftover in (draft, f"{draft}-wal", f"{draft}-shm", lock):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(leftover)
    alone = Membership({former.node: Member(address)})
    with contextlib.closing(SqliteStorage.create(draft, Identity(former.cluster, former.node), Membership())) as new:
        new.save(
            Update(
                hard_state=HardState(term=1, commit=1),
                entries=(),
                snapshot=Snapshot(1, 1, alone, dump_state(former.state).encode()),
                replaces_log=True,
                keep_from=2,
            )
        )
    if os.path.exists(f"{draft}-wal"):
        raise StorageError(draft, "was left open by SQLite")
    os.unlink(lock)
    _sync(draft)
    return draft


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def _named_errors(path: str) -> Iterator[None]:
    """Errors of the house, with the file's name, for whatever may go wrong."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, read-only, disk full
        raise StorageError(path, f"of an earlier weedtw cannot be carried over: {error}") from error
    except OSError as error:
        raise StorageError(path, f"of an earlier weedtw cannot be carried over: {error.strerror or error}") from error
    except StorageError:
        raise
    except (sqlite3.Error, ValueError, TypeError, KeyError, AttributeError, WeedError) as error:
        raise Damaged(path, f"of an earlier weedtw cannot be followed: {error}") from error
