"""The rows of a node's SQLite file, and back to values.

SQLite checks the structure of its pages but not what stands in them, so every row bears a CRC-32 of its content.
"""

import json
import sqlite3
import zlib
from typing import Any, NoReturn

from weedtw.errors import StoreFailed
from weedtw.raft.membership import Membership
from weedtw.raft.messages import Entry, EntryKind, HardState, Snapshot
from weedtw.raft.storage import Identity

SCHEMA = """
    CREATE TABLE identity (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        cluster TEXT NOT NULL, node TEXT NOT NULL, checksum INTEGER NOT NULL);
    CREATE TABLE hard_state (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        term INTEGER NOT NULL, vote TEXT, commit_index INTEGER NOT NULL, checksum INTEGER NOT NULL);
    CREATE TABLE snapshot (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        at_index INTEGER NOT NULL, at_term INTEGER NOT NULL, membership TEXT NOT NULL, data BLOB NOT NULL,
        checksum INTEGER NOT NULL);
    CREATE TABLE log (at_index INTEGER PRIMARY KEY,
        at_term INTEGER NOT NULL, kind INTEGER NOT NULL, data BLOB NOT NULL, checksum INTEGER NOT NULL);
"""


def put_identity(connection: sqlite3.Connection, identity: Identity) -> None:
    row = (identity.cluster, identity.node, _checksum(identity.cluster, identity.node))
    connection.execute("INSERT INTO identity VALUES (1, ?, ?, ?)", row)


def get_identity(path: str, connection: sqlite3.Connection) -> Identity:
    cluster, node, checksum = _only_row(path, connection, "SELECT cluster, node, checksum FROM identity")
    if checksum != _checksum(cluster, node):
        damaged(path, "the identity is not what was written")
    return Identity(cluster, node)


def put_hard_state(connection: sqlite3.Connection, state: HardState) -> None:
    fields = (state.term, state.vote, state.commit)
    connection.execute("REPLACE INTO hard_state VALUES (1, ?, ?, ?, ?)", (*fields, _checksum(*fields)))


def get_hard_state(path: str, connection: sqlite3.Connection) -> HardState:
    *fields, checksum = _only_row(path, connection, "SELECT term, vote, commit_index, checksum FROM hard_state")
    if checksum != _checksum(*fields):
        damaged(path, "term and vote are not what was written")
    return HardState(*fields)


def put_snapshot(connection: sqlite3.Connection, snapshot: Snapshot) -> None:
    fields = (snapshot.index, snapshot.term, snapshot.membership.render().decode())
    row = (*fields, snapshot.data, _checksum(*fields, data=snapshot.data))
    connection.execute("REPLACE INTO snapshot VALUES (1, ?, ?, ?, ?, ?)", row)


def get_snapshot(path: str, connection: sqlite3.Connection) -> Snapshot:
    query = "SELECT at_index, at_term, membership, data, checksum FROM snapshot"
    index, term, membership, data, checksum = _only_row(path, connection, query)
    if checksum != _checksum(index, term, membership, data=data):
        damaged(path, f"the snapshot at {index} is not what was written")
    return Snapshot(index, term, Membership.parse(membership), data)


def put_entries(connection: sqlite3.Connection, entries: tuple[Entry, ...]) -> None:
    rows = [(e.index, e.term, int(e.kind), e.data, _entry_checksum(e.index, e.term, e.kind, e.data)) for e in entries]
    connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", rows)


def get_entries(path: str, connection: sqlite3.Connection, snapshot_index: int) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    rows = connection.execute("SELECT at_index, at_term, kind, data, checksum FROM log ORDER BY at_index")
    for index, term, kind, data, checksum in rows:
        if not isinstance(data, bytes) or checksum != _entry_checksum(index, term, kind, data):
            damaged(path, f"log entry {index} is not what was written")
        if entries and index != entries[-1].index + 1:
            damaged(path, f"log entry {entries[-1].index + 1} is missing")
        entries.append(Entry(index, term, EntryKind(kind), data))
    if entries and entries[0].index > snapshot_index + 1:
        damaged(path, f"a gap between snapshot {snapshot_index} and log entry {entries[0].index}")
    return tuple(entries)


def _entry_checksum(index: int, term: int, kind: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(b"%d,%d,%d" % (index, term, kind)))


def _checksum(*fields: object, data: bytes = b"") -> int:
    return zlib.crc32(data, zlib.crc32(json.dumps(fields).encode()))


def _only_row(path: str, connection: sqlite3.Connection, query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    if row is None:
        damaged(path, f"a row is missing ({query.rpartition(' ')[2]})")
    return row


def damaged(path: str, what: str) -> NoReturn:
    """Say so, and what to do; an older copy of the file would have forgotten what this node has promised since."""
    raise StoreFailed(
        path, f"is damaged: {what}; move it away (no older copy in its place) and let this node join anew"
    )
