"""The head of an HTTP/1.x request: bytes in, a value or BadMessage out.  Pure.

Strict where leniency lets one request be read as two (RFC 9112 §5.1, §6.3, §11.2): bare CR or LF, folded
lines, a space before the colon, repeated or combined Content-Length and Transfer-Encoding are refused.
"""

import re

import attrs

from weedtw.errors import BadMessage

REQUEST_LINE = 8 * 1024  # bytes, without its CRLF
HEAD = 32 * 1024  # bytes, request line and headers with their CRLFs
FIELDS = 100  # header lines
END = b"\r\n\r\n"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")
_TARGET = re.compile(rb"[\x21\x22\x24-\x7e\x80-\xff]+")  # no spaces, controls or fragment; raw UTF-8 gets encoded
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_ABSOLUTE = re.compile(rb"(?i:https?)://[^/?]*")
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")


@attrs.frozen
class RequestHead:
    """One request as announced.  `body_length` is in bytes: 0 without a body, None for a chunked one."""

    method: bytes
    target: bytes  # origin form ("/path?query") or "*", ASCII
    version: bytes  # b"HTTP/1.0" or b"HTTP/1.1"
    fields: tuple[tuple[bytes, bytes], ...]
    body_length: int | None
    keep_alive: bool  # what the client wants
    expects_continue: bool


def parse_head(block: bytes) -> RequestHead:
    """Read a head, given without the empty line that ends it; raises BadMessage."""
    if len(block) > HEAD:
        raise BadMessage(f"the head of the request is larger than {HEAD} bytes", 431)
    control = _CONTROL.search(block)
    if control:
        raise _stray(control[0])
    first, *lines = block.split(b"\r\n")
    method, target, version = _request_line(first)
    if len(lines) > FIELDS:
        raise BadMessage(f"more than {FIELDS} header lines", 431)
    fields = tuple(map(_field, lines))
    names = _by_name(fields)
    _check_host(names, version)
    connection = _tokens(names.get(b"connection", []))
    return RequestHead(
        method=method,
        target=_origin_form(method, target),
        version=version,
        fields=fields,
        body_length=_body_length(names, version),
        keep_alive=b"keep-alive" in connection if version == b"HTTP/1.0" else b"close" not in connection,
        expects_continue=_expects_continue(names, version),
    )


def check_beginning(block: bytes, checked: int = 0) -> None:
    """Raise BadMessage as soon as the bytes so far cannot become a head, rather than wait for its end.

    The first `checked` bytes of `block` have passed before.
    """
    line, ended, _ = block.partition(b"\r\n")
    if len(line) > REQUEST_LINE:
        raise BadMessage(f"the request line is longer than {REQUEST_LINE} bytes", 414)
    if ended and checked < len(line) + 2:
        _request_line(line)
    control = _CONTROL.search(block, max(0, checked - 1))
    if control and not (control[0] == b"\r" and control.end() == len(block)):  # a last CR may await its LF
        raise _stray(control[0])
    if len(block) > HEAD:
        raise BadMessage(f"the head of the request is larger than {HEAD} bytes", 431)


def _stray(control: bytes) -> BadMessage:
    return BadMessage(f"a stray byte 0x{control[0]:02x} in the head of the request")


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    if len(line) > REQUEST_LINE:
        raise BadMessage(f"the request line is longer than {REQUEST_LINE} bytes", 414)
    parts = line.split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise BadMessage("this is not an HTTP request")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version):
            raise BadMessage("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
        raise BadMessage("this is not an HTTP request")
    return method, target, version


def _origin_form(method: bytes, target: bytes) -> bytes:
    """The target as path and query in ASCII, whatever form it was sent in (RFC 9112 §3.2)."""
    target = _BEYOND_ASCII.sub(lambda found: b"%%%02X" % found[0][0], target)
    if target.startswith(b"/"):
        return target
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute:
        rest = target[absolute.end() :]
        return rest if rest.startswith(b"/") else b"/" + rest
    raise BadMessage(f"{target[:80].decode('latin-1')!r} is not a path that {method.decode()} can ask for")


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name):
        raise BadMessage("a header line is folded or has no proper name")
    return name, value.strip(b" \t")


def _by_name(fields: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, list[bytes]]:
    names: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        names.setdefault(name.lower(), []).append(value)
    return names


def _tokens(values: list[bytes]) -> set[bytes]:
    return {token.strip(b" \t").lower() for value in values for token in value.split(b",")}


def _check_host(names: dict[bytes, list[bytes]], version: bytes) -> None:
    hosts = names.get(b"host", [])
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise BadMessage("HTTP/1.1 wants exactly one Host header")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadMessage("the Host header is not a host")


def _body_length(names: dict[bytes, list[bytes]], version: bytes) -> int | None:
    lengths = names.get(b"content-length", [])
    codings = names.get(b"transfer-encoding", [])
    if codings:
        if lengths:
            raise BadMessage("both Content-Length and Transfer-Encoding")
        if version == b"HTTP/1.0":
            raise BadMessage("HTTP/1.0 has no Transfer-Encoding")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise BadMessage("the only Transfer-Encoding understood is chunked", 501)
        return None
    if not lengths:
        return 0
    if len(lengths) != 1 or not _DIGITS.fullmatch(lengths[0]):
        raise BadMessage("Content-Length is not one number")
    return int(lengths[0])


def _expects_continue(names: dict[bytes, list[bytes]], version: bytes) -> bool:
    expectations = names.get(b"expect")
    if not expectations or version == b"HTTP/1.0":
        return False
    if _tokens(expectations) != {b"100-continue"}:
        raise BadMessage("the only expectation understood is 100-continue", 417)
    return True
