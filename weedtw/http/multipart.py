"""The file, or the fields, in a multipart/form-data body (RFC 7578, RFC 2046 §5.1.1).  Pure.

The body is one buffer, in memory or mapped from a file; the file's content is a view into it, not a copy.

Lines end with CRLF.  A form whose first boundary line ends with a bare LF, as one typed into a script does, has that
end throughout: before each boundary, and so at the end of each part's content.
"""

import re
from collections.abc import Iterator
from typing import Final

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
_LINE_END = re.compile(rb"\r?\n")  # of a header
_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary"})


@attrs.frozen
class _Ends:
    """How the lines of one form end."""

    mark: bytes  # stands before a delimiter, and belongs to it
    line: "re.Pattern[bytes]"  # what may follow a boundary on its line
    last: "re.Pattern[bytes]"  # the same for the last boundary
    head: "re.Pattern[bytes]"  # where a part's head ends


# The hot path looks for the CRLFs of an empty line, so in such a form no other may end a head.
_CRLF: Final = _Ends(
    b"\r\n",
    re.compile(rb"[ \t]*\r\n"),
    re.compile(rb"--[ \t]*(?:\r?\n|\Z)"),
    re.compile(rb"\r\n\r\n"),
)
# A boundary line with a CRLF is none here: the content before it would get the CR.
_LF: Final = _Ends(
    b"\n",
    re.compile(rb"[ \t]*\n"),
    re.compile(rb"--[ \t]*(?:\n|\Z)"),
    re.compile(rb"\r?\n\r?\n"),
)


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
    parts = list(_parts(body, content_type))
    if not parts:
        raise BadRequest("the form has no parts")
    return next((part for part in parts if part.filename), parts[0])


def form_fields(body: bytes | memoryview, content_type: str) -> list[tuple[str, str]]:
    """(name, value) of each field, in their order; files, and parts without a name, are passed over.

    Raises BadRequest for anything that is not a whole, well-formed form, and for a value that is not UTF-8.
    """
    found: list[tuple[str, str]] = []
    for part in _parts(body, content_type):
        name = part.disposition.name
        if part.disposition.kind != "form-data" or not name or part.filename:
            continue
        try:
            found.append((name, str(part.data, "utf-8")))
        except UnicodeDecodeError:
            raise BadRequest(f"the value of the form's field {name[:40]!r} is not UTF-8") from None
    return found


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


def _parts(body: bytes | memoryview, content_type: str) -> Iterator[Part]:
    """The parts between delimiters; what stands before the first and after the last is passed over."""
    view, dashes = memoryview(body), b"--" + boundary_of(content_type).encode("ascii")
    ends, at, last = _first_delimiter(view, dashes)
    count = 0
    while not last:
        count += 1
        if count > PARTS:
            raise BadRequest(f"the form has more than {PARTS} parts")
        headers, start = _part_head(view, at, ends)
        # The line end of an empty line may be the one that begins the delimiter, hence that much back.
        end, at, last = _next_delimiter(view, start - len(ends.mark), dashes, ends)
        yield _part(headers, view[start : max(start, end)])


def _first_delimiter(view: memoryview, dashes: bytes) -> tuple[_Ends, int, bool]:
    """(how the form's lines end, where the first part begins, whether there is none)."""
    if bytes(view[: len(dashes)]) == dashes:
        found = _begin_after(view, len(dashes))
        if found is not None:
            return found
    delimiter = b"\n" + dashes
    for place in _places(view, delimiter, 0):
        found = _begin_after(view, place + len(delimiter))
        if found is not None:
            return found
    raise BadRequest("the boundary that Content-Type names is not in the form")


def _begin_after(view: memoryview, at: int) -> tuple[_Ends, int, bool] | None:
    for ends in (_CRLF, _LF):
        after = _after_boundary(view, at, ends)
        if after is not None:
            return ends, *after
    return None


def _next_delimiter(view: memoryview, at: int, dashes: bytes, ends: _Ends) -> tuple[int, int, bool]:
    """(where the delimiter begins, where its line ends, whether it is the last) of the first one from `at` on.

    Bytes that only begin like it, as `--boundaryX` does, are content.
    """
    delimiter = ends.mark + dashes
    for place in _places(view, delimiter, at):
        after = _after_boundary(view, place + len(delimiter), ends)
        if after is not None:
            return place, *after
    raise BadRequest("the form is cut off: its closing boundary is missing")


def _after_boundary(view: memoryview, at: int, ends: _Ends) -> tuple[int, bool] | None:
    """(end of a boundary's line, whether it is the last one); None when `at` is not behind a whole boundary."""
    rest = bytes(view[at : at + 256])  # more white space than that after a boundary is content
    end = ends.last.match(rest)
    if end:
        return at + end.end(), True
    end = ends.line.match(rest)
    return (at + end.end(), False) if end else None


def _places(view: memoryview, needle: bytes, at: int) -> Iterator[int]:
    """Wherever `needle` is from `at` on; in windows, since searching a view itself would copy all of it."""
    overlap = len(needle) - 1
    while at + len(needle) <= len(view):
        window = bytes(view[at : at + _WINDOW + overlap])
        found = window.find(needle)
        while found >= 0:
            yield at + found
            found = window.find(needle, found + 1)
        at += _WINDOW


def _part_head(view: memoryview, at: int, ends: _Ends) -> tuple[dict[str, str], int]:
    """(headers by lower-case name, where the content begins) of the part that begins at `at`."""
    skip = len(ends.mark)  # with the end of the boundary's line, no headers at all are an empty line as well
    block = bytes(view[at - skip : at + PART_HEAD])
    end = ends.head.search(block)
    if end is None:
        raise BadRequest(f"a part's header is not ended within {PART_HEAD} bytes")
    headers: dict[str, str] = {}
    for line in _unfolded(block[skip : end.start()]):
        name, colon, value = line.partition(b":")
        if not colon or not name.strip() or line[:1] in (b" ", b"\t"):
            raise BadRequest("a part's header line is malformed")
        headers.setdefault(name.strip().decode("latin-1").lower(), _text(value.strip(b" \t")))
    return headers, at - skip + end.end()


def _unfolded(block: bytes) -> list[bytes]:
    """The header lines of a block; one that begins with white space goes on with the line before it."""
    lines: list[bytes] = []
    for line in _LINE_END.split(block) if block else ():
        if lines and line[:1] in (b" ", b"\t"):
            lines[-1] = lines[-1].rstrip(b" \t") + b" " + line.strip(b" \t")
        else:
            lines.append(line)
    return lines


def _part(headers: dict[str, str], data: memoryview) -> Part:
    coding = headers.get("content-transfer-encoding", "").lower()
    if coding not in _AS_IT_IS:
        raise BadRequest(f"a part is encoded as {coding[:40]!r}; send its bytes as they are")
    # One that is malformed, as filename="a"b" is, names nothing; the content is not lost for it.
    disposition = parse_disposition(headers.get("content-disposition", "")) or Disposition("form-data")
    return Part(headers, disposition, data.toreadonly())


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
