"""The file in a multipart/form-data body (RFC 7578, RFC 2046 §5.1.1).  Pure.

The body is one buffer, in memory or mapped from a file; the file's content is a view into it, not a copy.
"""

import re
from collections.abc import Iterator

import attrs

from weedtw.errors import BadRequest
from weedtw.http.disposition import Disposition, parse_disposition

PART_HEAD = 16 * 1024  # bytes of one part's header lines
PARTS = 1000  # parts looked at
BOUNDARY = 70  # characters
_WINDOW = 1 << 20  # bytes searched at once

_TYPE = re.compile(r"[ \t]*multipart/form-data[ \t]*;(.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'[ \t]*([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))[ \t]*(?:;|$)', re.DOTALL)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_LINE_END = re.compile(rb"[ \t]*\r\n")  # what may follow a boundary on its line
_FINAL_END = re.compile(rb"--[ \t]*(?:\r\n|\Z)")
_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary"})


@attrs.frozen
class Part:
    """One part of a form: its headers by lower-case name, and its content as a view of the body."""

    headers: dict[str, str]
    disposition: Disposition
    data: memoryview

    @property
    def filename(self) -> str:
        """The file name without any path; "" when it has none."""
        return self.disposition.filename or ""

    @property
    def content_type(self) -> str:
        """The type that the part claims; "" when it claims none."""
        return self.headers.get("content-type", "")


def is_form(content_type: str | None) -> bool:
    """Whether this is the type of a multipart form."""
    return (content_type or "").partition(";")[0].strip(" \t").lower() == "multipart/form-data"


def first_file(body: bytes | memoryview, content_type: str) -> Part:
    """The first part that has a file name, or the first of all when none has.

    Raises BadRequest for anything that is not a whole, well-formed form with at least one part.
    """
    parts = list(_parts(memoryview(body), b"--" + boundary_of(content_type).encode("ascii")))
    if not parts:
        raise BadRequest("the form has no parts")
    return next((part for part in parts if part.filename), parts[0])


def boundary_of(content_type: str) -> str:
    """The boundary that a Content-Type of multipart/form-data names; raises BadRequest."""
    match = _TYPE.fullmatch(content_type)
    at, text = 0, match[1] if match else ""
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        if parameter is None:
            break
        at = parameter.end()
        if parameter[1].lower() == "boundary":
            value = parameter[3] if parameter[2] is None else re.sub(r"\\(.)", r"\1", parameter[2])
            if not _BOUNDARY.fullmatch(value):
                break
            return value
    raise BadRequest("Content-Type is not multipart/form-data with a proper boundary")


def _parts(view: memoryview, dashes: bytes) -> Iterator[Part]:
    """The parts between delimiters; what stands before the first and after the last is passed over."""
    at, last = _first_delimiter(view, dashes)
    count = 0
    while not last:
        count += 1
        if count > PARTS:
            raise BadRequest(f"the form has more than {PARTS} parts")
        headers, start = _part_head(view, at)
        # The CRLF that ends an empty head may be the one that begins the delimiter, hence the two bytes back.
        end, at, last = _next_delimiter(view, start - 2, b"\r\n" + dashes)
        yield _part(headers, view[start : max(start, end)])


def _first_delimiter(view: memoryview, dashes: bytes) -> tuple[int, bool]:
    """(where the first part begins, whether there is none)."""
    after = _after_delimiter(view, 0, dashes) if bytes(view[: len(dashes)]) == dashes else None
    if after is not None:
        return after
    _, at, last = _next_delimiter(view, 0, b"\r\n" + dashes)
    return at, last


def _next_delimiter(view: memoryview, at: int, delimiter: bytes) -> tuple[int, int, bool]:
    """(where the delimiter begins, where its line ends, whether it is the last) of the first one from `at` on.

    Bytes that only begin like it, as `--boundaryX` does, are content.
    """
    while True:
        found = _find(view, delimiter, at)
        if found < 0:
            raise BadRequest("the form is cut off: its closing boundary is missing")
        after = _after_delimiter(view, found, delimiter)
        if after is not None:
            return found, *after
        at = found + 2


def _after_delimiter(view: memoryview, at: int, delimiter: bytes) -> tuple[int, bool] | None:
    """(end of the delimiter's line, whether it is the last one); None when more than a delimiter stands there."""
    at += len(delimiter)
    rest = bytes(view[at : at + 256])  # more white space than that after a boundary is content
    end = _FINAL_END.match(rest)
    if end:
        return at + end.end(), True
    end = _LINE_END.match(rest)
    return (at + end.end(), False) if end else None


def _find(view: memoryview, needle: bytes, at: int) -> int:
    """As bytes.find, for a view: in windows, since searching a view itself would copy all of it."""
    overlap = len(needle) - 1
    while at + len(needle) <= len(view):
        found = bytes(view[at : at + _WINDOW + overlap]).find(needle)
        if found >= 0:
            return at + found
        at += _WINDOW
    return -1


def _part_head(view: memoryview, at: int) -> tuple[dict[str, str], int]:
    """(headers by lower-case name, where the content begins) of the part that begins at `at`."""
    if bytes(view[at : at + 2]) == b"\r\n":  # no headers at all
        return {}, at + 2
    block = bytes(view[at : at + PART_HEAD])
    end = block.find(b"\r\n\r\n")
    if end < 0:
        raise BadRequest(f"a part's header is not ended within {PART_HEAD} bytes")
    headers: dict[str, str] = {}
    for line in block[:end].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not name.strip() or line[:1] in (b" ", b"\t"):
            raise BadRequest("a part's header line is malformed")
        headers.setdefault(name.strip().decode("latin-1").lower(), _text(value.strip(b" \t")))
    return headers, at + end + 4


def _part(headers: dict[str, str], data: memoryview) -> Part:
    coding = headers.get("content-transfer-encoding", "").lower()
    if coding not in _AS_IT_IS:
        raise BadRequest(f"a part is encoded as {coding[:40]!r}; send its bytes as they are")
    value = headers.get("content-disposition")
    disposition = Disposition("form-data") if value is None else parse_disposition(value)
    if disposition is None:
        raise BadRequest("a part's Content-Disposition is malformed")
    return Part(headers, disposition, data.toreadonly())


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
