"""The Raft line protocol: values to lines and back.  Pure; nothing that comes in can grow or crash the process.

A connection carries one direction.  Its first line is the dialler's hello, answered by the other side's:

    RAFT/1 {"cluster": UUID, "node": UUID, "address": "host:port", "version": 1}

or by `refused REASON`, after which it is closed.  Then one message a line, a JSON object whose `type` names the
message and whose other members are its fields.  Sender and receiver are those of the hellos and not repeated.  Bytes
travel as base64.  Lines end with CR LF and are at most `MAX_LINE` bytes.
"""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

import attrs

from weedtw.errors import BadRequest
from weedtw.raft.membership import Membership, NodeId
from weedtw.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)

PREFIX = b"RAFT/1 "
VERSION = 1
MAX_LINE = 1024 * 1024  # bytes, without the line's end
MAX_HELLO = 2048
MAX_NUMBER = 2**62
_REFUSED = b"refused "

_TYPES: dict[str, type[Message]] = {
    "vote": VoteRequest,
    "voted": VoteReply,
    "append": Append,
    "appended": AppendReply,
    "beat": Heartbeat,
    "beaten": HeartbeatReply,
    "chunk": SnapshotChunk,
    "chunked": SnapshotReply,
    "campaign": TimeoutNow,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


@attrs.frozen
class Hello:
    """Who is at the other end."""

    cluster: str
    node: NodeId
    address: str
    version: int = VERSION


def encode_hello(hello: Hello) -> bytes:
    """The first line of a connection, without its end."""
    return PREFIX + json.dumps(attrs.asdict(hello), separators=(",", ":")).encode()


def encode_refusal(reason: str) -> bytes:
    """The line that ends a connection, without its end; whatever `reason` holds, it is one line."""
    return _REFUSED + " ".join(reason.split())[:500].encode()


def decode_hello(line: bytes) -> Hello:
    """The inverse of `encode_hello`.  Raises `BadRequest`, with the other side's reason where it refused us."""
    if line.startswith(_REFUSED):
        raise BadRequest(f"refused by the other side: {line[len(_REFUSED) :].decode(errors='replace')}")
    if not line.startswith(PREFIX) or len(line) > MAX_HELLO:
        raise BadRequest("the first line is no RAFT/1 hello")
    document = _parse(line[len(PREFIX) :])
    version = _integer(document.get("version"))
    if version != VERSION:
        raise BadRequest(f"protocol version {version} is spoken there, {VERSION} here; run the same release on both")
    cluster, node, address = (_text(document.get(field)) for field in ("cluster", "node", "address"))
    return Hello(cluster, node, address, version)


def encode(message: Message) -> bytes:
    """A message as a line, without its end."""
    document: dict[str, Any] = {"type": _NAMES[type(message)]}
    for field in attrs.fields(type(message)):
        if field.name not in ("sender", "to"):
            document[field.name] = _ENCODE.get(field.name, _as_it_is)(getattr(message, field.name))
    return json.dumps(document, separators=(",", ":")).encode()


def decode(line: bytes, sender: NodeId, to: NodeId) -> Message:
    """The inverse of `encode`, for a connection from `sender`.  Raises `BadRequest` for anything else."""
    if len(line) > MAX_LINE:
        raise BadRequest(f"a line of {len(line)} bytes is over the limit of {MAX_LINE}")
    document = _parse(line)
    name = document.pop("type", None)
    cls = _TYPES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise BadRequest(f"unknown message type {str(name)[:40]!r}")
    expected = {field.name for field in attrs.fields(cls)} - {"sender", "to"}
    if document.keys() != expected:
        raise BadRequest(f"a {name} message has other fields than {', '.join(sorted(expected))}")
    fields = {key: _DECODE[key](value) for key, value in document.items()}
    message = cls(sender=sender, to=to, **fields)
    if isinstance(message, Append):
        _check_entries(message)
    return message


def _check_entries(message: Append) -> None:
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        if entry.index != index + 1 or not term <= entry.term <= message.term:
            raise BadRequest(f"entry {entry.index} of term {entry.term} cannot follow {index} of term {term}")
        if entry.kind is EntryKind.CONFIG:
            Membership.parse(entry.data)
        index, term = entry.index, entry.term


# ------------------------------------------------------------------ fields


def _parse(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not JSON: {str(error)[:100]}") from error
    if not isinstance(document, dict):
        raise BadRequest("not a JSON object")
    return document


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise BadRequest(f"{str(value)[:40]!r} is no number from 0 to 2**62")
    return value


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise BadRequest(f"{str(value)[:40]!r} is neither true nor false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 300 or not value.isprintable():
        raise BadRequest(f"{str(value)[:40]!r} is no short printable text")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise BadRequest("data is no base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"data is no base64: {error}") from error


def _entries(value: object) -> tuple[Entry, ...]:
    if not isinstance(value, list):
        raise BadRequest("entries are no list")
    entries = []
    for item in value:
        if not isinstance(item, list) or len(item) != 4:
            raise BadRequest("an entry is no list of index, term, kind and data")
        kind = _integer(item[2])
        if kind not in set(EntryKind):
            raise BadRequest(f"unknown kind of entry {kind}")
        entries.append(Entry(_integer(item[0]), _integer(item[1]), EntryKind(kind), _bytes(item[3])))
    return tuple(entries)


def _membership(value: object) -> Membership:
    return Membership.parse(json.dumps(value))


def _as_it_is(value: Any) -> Any:
    return value


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_ENCODE: dict[str, Callable[[Any], Any]] = {
    "data": _base64,
    "entries": lambda entries: [[e.index, e.term, int(e.kind), _base64(e.data)] for e in entries],
    "membership": lambda membership: json.loads(membership.render()),
}

_DECODE: dict[str, Callable[[object], Any]] = {
    "data": _bytes,
    "entries": _entries,
    "membership": _membership,
    **dict.fromkeys(("pre", "transfer", "granted", "rejected"), _boolean),
    **dict.fromkeys(
        (
            "term",
            "last_index",
            "last_term",
            "prev_index",
            "prev_term",
            "commit",
            "index",
            "hint_index",
            "hint_term",
            "round",
            "index_term",
            "offset",
            "total",
        ),
        _integer,
    ),
}
