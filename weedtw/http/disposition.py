"""Content-Disposition, read and written (RFC 6266, RFC 7578, RFC 8187), and what may be a file's name.  Pure."""

import re
from urllib.parse import quote, unquote_to_bytes

import attrs

NAME_LIMIT = 255  # bytes of UTF-8 in a file name: what a needle can hold
_MOST_EXTENSION = 16  # bytes of an extension that outlives a name that is too long

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PARAMETER = re.compile(
    r"[ \t]*;[ \t]*(?:(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^;"\s]*)))?',
    re.DOTALL,
)
_ESCAPED = re.compile(r'\\(["\\])')  # other backslashes are those of a path on Windows
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE)
_SAFE = "!#$&+-.^_`|~"  # what RFC 8187 leaves unescaped beside letters and digits


@attrs.frozen
class Disposition:
    """A parsed header.  `filename` is cleaned (see `clean_name`); None when the header has none."""

    kind: str  # lower case: "form-data", "inline", "attachment"
    name: str | None = None  # of a form's field
    filename: str | None = None


def parse_disposition(value: str | bytes) -> Disposition | None:
    """Read a header; None when it is not one.  Bytes that are not UTF-8 are taken for Latin-1."""
    text = value if isinstance(value, str) else _decode(value)
    kind = _TOKEN.match(text.strip())
    if kind is None:
        return None
    text = text.strip()
    found = _parameters(text, kind.end())
    if found is None:
        return None
    filename = found.get("filename")
    extended = _EXTENDED.fullmatch(found.get("filename*", ""))
    if extended:
        raw = unquote_to_bytes(extended[2])
        filename = _decode(raw) if extended[1].lower() == "utf-8" else raw.decode("latin-1")
    return Disposition(
        kind=kind[0].lower(), name=found.get("name"), filename=None if filename is None else clean_name(filename)
    )


def _parameters(text: str, at: int) -> dict[str, str] | None:
    """The parameters from `at` on, the first of each name; None when they are malformed."""
    found: dict[str, str] = {}
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None:
            return None
        at = match.end()
        if match["name"] is not None:
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
            found.setdefault(match["name"].lower(), value)
    return found


def clean_name(text: str) -> str:
    """The last part of a path, without control characters and within NAME_LIMIT bytes; "" for `.` and `..`.

    What is too long loses the end of its stem: its extension tells what it is.
    """
    name = _CONTROL.sub("", text.replace("\\", "/").rpartition("/")[2])
    whole = name.encode("utf-8", "replace")
    if len(whole) > NAME_LIMIT:
        stem, dot, extension = whole.rpartition(b".")
        kept = dot + extension if stem and len(extension) <= _MOST_EXTENSION else b""
        name = (whole[: NAME_LIMIT - len(kept)] + kept).decode("utf-8", "ignore")
    else:
        name = whole.decode()
    return "" if name in (".", "..") else name


def render_disposition(kind: str, filename: str) -> str:
    """`inline; filename="…"`, with `filename*` beside it for names beyond ASCII; pure ASCII, safe in a header."""
    name = _CONTROL.sub("", filename.encode("utf-8", "replace").decode("utf-8"))
    if not name:
        return kind
    plain = "".join(c if c.isascii() else "_" for c in name).replace("\\", "\\\\").replace('"', '\\"')
    if name.isascii():
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_SAFE)}"


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
