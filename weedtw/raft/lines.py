"""The Raft line protocol: values to lines and back.  Pure; nothing that comes in can grow or crash the process.

A connection carries one direction.  Its first line is the dialler's hello, answered by the other side's:

    RAFT/1 {"cluster": UUID, "node": UUID, "address": "host:port", "version": 1}

or by `refused REASON`, after which it is closed.  Then one message a line, a JSON object whose `type` names the
message and whose other members are its fields.  Sender and receiver are those of the hellos and not repeated.  Bytes
travel as base64, an entry as [index, term, kind, data].  Lines are UTF-8, end with CR LF and have at most `MAX_LINE`
bytes.
"""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, NoReturn

import attrs

from weedtw.errors import BadRequest
from weedtw.raft.membership import Member, Membership, NodeId
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
MAX_PAYLOAD = 512 * 1024  # bytes of entries or of a snapshot in one message; as base64 they still fit in a line
MAX_HELLO = 2048
MAX_NUMBER = 2**62
_MAX_REASON = 500  # characters
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
_FIELDS = {
    cls: frozenset(field.name for field in attrs.fields(cls) if field.name not in ("sender", "to")) for cls in _NAMES
}


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as (host, port); raises `BadRequest`."""
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    in_range = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536
    if not bare or not in_range or any(c in bare for c in "[] /@") or (":" in bare and bare == host):
        raise BadRequest(f"{address[:100]!r} is not host:port")
    return bare, int(port)


# ------------------------------------------------------------------ hellos


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


def decode_hello(line: bytes) -> Hello:
    """The inverse of `encode_hello`.  Raises `BadRequest`."""
    if not line.startswith(PREFIX) or len(line) > MAX_HELLO:
        raise BadRequest("the first line is no RAFT/1 hello")
    document = _parse(line[len(PREFIX) :])
    version = _integer(document.get("version"))
    if version != VERSION:
        raise BadRequest(f"protocol version {version} is spoken there, {VERSION} here; run the same release on both")
    cluster, node, address = (_text(document.get(field)) for field in ("cluster", "node", "address"))
    split_address(address)
    return Hello(cluster, node, address, version)


def encode_refusal(reason: str) -> bytes:
    """The line that ends a connection, without its end; whatever `reason` holds, it is one line of modest length."""
    return _REFUSED + _one_line(reason).encode()


def decode_refusal(line: bytes) -> str | None:
    """The other side's reason to end the connection; None when the line is something else."""
    if not line.startswith(_REFUSED):
        return None
    return _one_line(line[len(_REFUSED) : 4 * _MAX_REASON].decode(errors="replace"))


def _one_line(text: str) -> str:
    words = " ".join(text[: 2 * _MAX_REASON].split())
    return "".join(c if c.isprintable() else "?" for c in words)[:_MAX_REASON]


# ------------------------------------------------------------------ messages


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
        raise BadRequest(f"unknown message type {_shown(name)}")
    if document.keys() != _FIELDS[cls]:
        raise BadRequest(f"a {name} message has other fields than {', '.join(sorted(_FIELDS[cls]))}")
    message = cls(sender=sender, to=to, **{key: _DECODE[key](value) for key, value in document.items()})
    if isinstance(message, Append):
        _check_entries(message)
    elif isinstance(message, SnapshotChunk) and message.offset + len(message.data) > message.total:
        raise BadRequest(f"a chunk goes beyond the {message.total} bytes of its snapshot")
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


def _parse(line: bytes) -> dict[str, Any]:
    try:
        # Not `loads(line)`, which would also take UTF-16.
        document = json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not JSON: {str(error)[:100]}") from error
    if not isinstance(document, dict):
        raise BadRequest("not a JSON object")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise BadRequest("a JSON object has a member twice")
    return document


def _no_number(name: str) -> NoReturn:
    raise BadRequest(f"{name} is no number of JSON")


def _shown(value: object) -> str:
    """For an error's text, which must stay short whatever came in."""
    return repr(value[:40] if isinstance(value, str) else value)[:60] if isinstance(value, str | int) else "that"


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise BadRequest(f"{_shown(value)} is no number from 0 to 2**62")
    return value


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise BadRequest(f"{_shown(value)} is neither true nor false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 300 or not value.isprintable():
        raise BadRequest(f"{_shown(value)} is no short printable text")
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
        kind = _KINDS.get(_integer(item[2]))
        if kind is None:
            raise BadRequest(f"unknown kind of entry {item[2]}")
        entries.append(Entry(_integer(item[0]), _integer(item[1]), kind, _bytes(item[3])))
    return tuple(entries)


def _membership(value: object) -> Membership:
    if not isinstance(value, dict):
        raise BadRequest("a membership is no object")
    members = {}
    for node, fields in value.items():
        if not isinstance(fields, dict) or fields.keys() != {"address", "voter"}:
            raise BadRequest("a member has other fields than address and voter")
        members[_text(node)] = Member(_text(fields["address"]), _boolean(fields["voter"]))
    return Membership(members)


def _as_it_is(value: Any) -> Any:
    return value


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_KINDS = {int(kind): kind for kind in EntryKind}

_ENCODE: dict[str, Callable[[Any], Any]] = {
    "data": _base64,
    "entries": lambda entries: [[e.index, e.term, int(e.kind), _base64(e.data)] for e in entries],
    "membership": lambda membership: json.loads(membership.render()),
}

_DECODE: dict[str, Callable[[object], Any]] = {
    **dict.fromkeys(frozenset().union(*_FIELDS.values()), _integer),
    **dict.fromkeys(("pre", "transfer", "granted", "rejected"), _boolean),
    "data": _bytes,
    "entries": _entries,
    "membership": _membership,
}
