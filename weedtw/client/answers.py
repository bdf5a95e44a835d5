"""What the servers answer, as values: checked once, here, so that the rest of the client may trust them.

Every function takes the address that answered, for the PeerError it raises when the answer is not what the
protocol promises.
"""

import re
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Final

import attrs

from weedtw.errors import BadFileId, BadRequest, PeerError
from weedtw.formats.fileid import MAX_KEY, FileId
from weedtw.http.disposition import parse_disposition

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})(?:\.[0-9]{1,5})?", re.ASCII)
_HIGHEST_PORT: Final = 65535


@attrs.frozen
class Location:
    """A volume server that holds a volume."""

    url: str  # "host:port", as the servers reach each other
    public_url: str  # "host:port", as clients from outside reach it
    data_center: str = ""


@attrs.frozen
class Assignment:
    """Where one file, or `count` of them, may be written."""

    fid: FileId
    url: str
    public_url: str
    count: int = 1
    auth: str = attrs.field(default="", repr=False)  # the token that it takes to write them; "" where it takes none

    def ids(self) -> Iterator[FileId]:
        """Yield the ids of all `count` files: consecutive keys, one cookie."""
        for delta in range(self.count):
            yield attrs.evolve(self.fid, key=self.fid.key + delta)


@attrs.frozen
class Stored:
    """A volume server's word that it has a file."""

    size: int | None  # bytes of content, None when it did not say
    etag: str
    md5: str  # base64 of the content's MD5, "" when it did not say
    unchanged: bool  # the very same content was there already


@attrs.frozen
class FileInfo:
    """What a volume server says of a file before its content."""

    url: str  # "host:port" that answered
    name: str  # as stored, without folders; "" for none
    mime: str
    size: int | None  # bytes of content, None when the answer is of unknown length
    etag: str  # with its quotes, as it came; "" for none
    modified: float | None  # seconds since 1970
    chunked: bool  # a manifest stands behind it


def parse_address(text: str) -> str:
    """Return "host:port"; takes SeaweedFS's "host:port.grpcport" too.  Raises BadRequest."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or not 0 < int(match[2]) <= _HIGHEST_PORT:
        raise BadRequest(f"{text!r} is not an address of the form host:port")
    return f"{match[1]}:{int(match[2])}"


@attrs.frozen
class VolumeTail:
    """A piece of a volume's data; `size` (bytes) and `revision` are the volume's when it was read."""

    data: bytes = attrs.field(repr=False)
    size: int
    revision: int
    offset_width: int  # bytes, of its index
    collection: str


def parse_tail(address: str, data: bytes, header: Callable[[str], str]) -> VolumeTail:
    """Read the answer of `/admin/volume/tail`; `header` gives those of the answer, as text."""
    try:
        size, revision, width = (int(header(f"X-Weedtw-{name}")) for name in ("Size", "Revision", "Offset-Width"))
    except ValueError as error:
        raise PeerError(address, "does not tell what its piece of the volume is a piece of") from error
    return VolumeTail(data, size, revision, width, header("X-Weedtw-Collection"))


def parse_assignment(address: str, answer: object) -> Assignment:
    """Read the answer of `/dir/assign`."""
    fields = _object(address, answer)
    url = _address(address, fields.get("url"))
    count = fields.get("count")
    try:
        fid = FileId.parse(str(fields.get("fid")))
    except BadFileId as error:
        raise PeerError(address, f"assigned what is no file id: {error}") from error
    if type(count) is not int or not 1 <= count <= MAX_KEY - fid.key:
        raise PeerError(address, f"assigned {count!r} file ids")
    auth = str(fields.get("auth") or "")
    return Assignment(fid, url, _address(address, fields.get("publicUrl") or url), count, auth)


def parse_locations(address: str, answer: object) -> tuple[Location, ...]:
    """Read the answer of `/dir/lookup`; an empty tuple when the volume is nowhere."""
    found = _object(address, answer).get("locations") or []
    if not isinstance(found, list):
        raise PeerError(address, "the answer to a lookup holds no list of locations")
    return tuple(_location(address, _object(address, one)) for one in found)


def parse_stored(address: str, status: int, etag: str, answer: object) -> Stored:
    """Read the answer to an upload; `etag` is the answer's header, `answer` its JSON (None without a body)."""
    fields = {} if answer is None else _object(address, answer)
    if fields.get("error"):
        raise PeerError(address, str(fields["error"]), status)
    size, md5 = fields.get("size"), fields.get("contentMd5")
    return Stored(
        size=size if type(size) is int else None,
        etag=etag.strip('"') or str(fields.get("eTag") or ""),
        md5=md5 if isinstance(md5, str) else "",
        unchanged=status == 204,
    )


def parse_deleted(address: str, answer: object) -> int:
    """Read the answer to a delete: the size in bytes of what was there, 0 when there was nothing."""
    size = 0 if answer is None else _object(address, answer).get("size", 0)
    return size if type(size) is int and size >= 0 else 0


def stored_name(disposition: str) -> str:
    """Return the file name in a Content-Disposition header, without folders, or ""."""
    parsed = parse_disposition(disposition)
    return (parsed.filename or "") if parsed is not None else ""


def seconds_of(http_date: str) -> float | None:
    """Return seconds since 1970 of an HTTP date, None when it is none."""
    try:
        return parsedate_to_datetime(http_date).timestamp()
    except ValueError:
        return None


def error_text(answer: object) -> str:
    """Return what a JSON error body says in `error`, or ""."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, str) else ""


def _object(address: str, answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise PeerError(address, "the answer is no JSON object")
    return answer


def _address(address: str, value: object) -> str:
    try:
        return parse_address(str(value))
    except BadRequest as error:
        raise PeerError(address, f"named a server in an odd way: {error}") from error


def _location(address: str, fields: dict[str, Any]) -> Location:
    url = _address(address, fields.get("url"))
    return Location(url, _address(address, fields.get("publicUrl") or url), str(fields.get("dataCenter") or ""))
