"""Volume information, the `.vif` file: what is known about a volume besides its super block.

JSON in the form that protocol buffers give it: 64-bit integers are strings, a key that is left out or null
has the value nought of its type.  SeaweedFS's own, for a new volume:

    files              list    [] (where the data lies when it is not on this disk)
    version            int     3; the super block of an existing .dat wins over it
    replication        string  "" or three digits, which then win over the super block's
    bytesOffset        int     4 or 5, the width of offsets in the index; 0 or left out: not known
    datFileSize        int64   "0"
    expireAtSec        int64   "0", or unix seconds after which the whole volume may go
    readOnly           bool    false
    ecShardConfig      object  null
    readOnlyCanDelete  bool    false

What is not understood here is kept and written back (SeaweedFS 4.48 keeps strange keys, too).
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Self, TypeGuard

import attrs

from weedtw.errors import BadReplication, Damaged
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.superblock import CURRENT_VERSION, VERSIONS

_INDENT: Final = "  "
_MAX_INT64: Final = 2**63 - 1


@attrs.frozen
class VolumeInfo:
    """The contents of a `.vif` file."""

    version: int = CURRENT_VERSION  # of the volume's records
    replication: ReplicaPlacement | None = None  # wins over the super block's
    bytes_offset: int = 0  # 4 or 5; 0 when the file does not say
    dat_file_size: int = 0  # bytes
    expire_at_sec: int = 0  # unix seconds; 0 is never
    read_only: bool = False
    read_only_can_delete: bool = False
    others: Mapping[str, Any] = attrs.field(factory=dict)  # every other key, with its JSON value

    @classmethod
    def parse(cls, text: str | bytes, *, path: str = "") -> Self:
        """Read the text of the file; raises Damaged, which names `path` and says what is wrong."""
        fields = _Fields(_json_object(text, path), path)
        return cls(
            version=fields.number("version", (0, *VERSIONS)) or CURRENT_VERSION,
            replication=fields.replication("replication"),
            bytes_offset=fields.number("bytesOffset", (0, 4, 5)),
            dat_file_size=fields.number("datFileSize"),
            expire_at_sec=fields.number("expireAtSec"),
            read_only=fields.switch("readOnly"),
            read_only_can_delete=fields.switch("readOnlyCanDelete"),
            others=fields.left,
        )

    def render(self) -> str:
        """The text of the file, spaced as SeaweedFS 4.48 does it; keys that it does not know come last."""
        others = dict(self.others)
        document = {
            "files": others.pop("files", []),
            "version": self.version,
            "replication": "" if self.replication is None else str(self.replication),
            "bytesOffset": self.bytes_offset,
            "datFileSize": str(self.dat_file_size),
            "expireAtSec": str(self.expire_at_sec),
            "readOnly": self.read_only,
            "ecShardConfig": others.pop("ecShardConfig", None),
            "readOnlyCanDelete": self.read_only_can_delete,
        }
        return _rendered(document | others, "")


def _json_object(text: str | bytes, path: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()  # what is kept must be fit to be written
    except (ValueError, RecursionError) as error:
        raise Damaged(path, f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Damaged(path, "not a JSON object")
    return document


def _rendered(value: object, indent: str) -> str:
    """JSON with one entry a line and two spaces behind a colon."""
    inner = indent + _INDENT
    if isinstance(value, Mapping) and value:
        entries = [
            f"{json.dumps(key, ensure_ascii=False)}:  {_rendered(entry, inner)}" for key, entry in value.items()
        ]
        brackets = "{}"
    elif isinstance(value, list) and value:
        entries = [_rendered(entry, inner) for entry in value]
        brackets = "[]"
    else:
        return json.dumps(value, ensure_ascii=False)
    lines = ",\n".join(inner + entry for entry in entries)
    return f"{brackets[0]}\n{lines}\n{indent}{brackets[1]}"


@attrs.define
class _Fields:
    """Takes the known keys out of a document, with their types checked; the rest stays in `left`."""

    left: dict[str, Any]
    path: str

    def number(self, key: str, allowed: tuple[int, ...] = ()) -> int:
        value = self.left.pop(key, None)
        if value is None:
            return 0
        if not _is_number(value) or not 0 <= int(value) <= _MAX_INT64 or (allowed and int(value) not in allowed):
            raise Damaged(self.path, f"{key} is {value!r}")
        return int(value)

    def switch(self, key: str) -> bool:
        value = self.left.pop(key, None)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise Damaged(self.path, f"{key} is {value!r}, neither true nor false")
        return value

    def replication(self, key: str) -> ReplicaPlacement | None:
        value = self.left.pop(key, None)
        if not isinstance(value, str | None):
            raise Damaged(self.path, f"{key} is {value!r}, not a string")
        try:
            return ReplicaPlacement.parse(value) if value else None
        except BadReplication as error:
            raise Damaged(self.path, str(error)) from None


def _is_number(value: object) -> TypeGuard[int | str]:
    """An integer, or (as 64-bit ones are written) a string of at most 19 digits."""
    if isinstance(value, str):
        return value.isascii() and value.isdecimal() and len(value) <= 19
    return isinstance(value, int) and not isinstance(value, bool)
