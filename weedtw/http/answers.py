"""Another server's answers as they come over a connection: bytes in, a whole answer or BadMessage out.  Pure.

As strict as `head.py` is with requests: what could be read in two ways is not read at all.
"""

import re

import attrs

from weedtw.errors import BadMessage
from weedtw.http.framing import ChunkedFraming, Framing, LengthFraming
from weedtw.http.head import END, HEAD

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_NO_BODY = frozenset({204, 304})


@attrs.frozen
class Answer:
    """A whole answer; `fields` are its header lines as they came."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    keep_alive: bool  # whether the connection can carry another request

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, given in lower case; None when it was not sent."""
        return next((value for each, value in self.fields if each.lower() == name), None)


class AnswerReader:
    """Reads the answer to one request with `method`; its body may have `limit` bytes.

    Answers before the last one (100 Continue) are dropped.  The end of a connection ends no body: an answer without
    a length is refused, for whoever reads it could not tell whether it is whole.
    """

    def __init__(self, method: bytes, limit: int) -> None:
        self._method = method
        self._limit = limit
        self._in = b""  # an unfinished head
        self._status = 0
        self._fields: tuple[tuple[bytes, bytes], ...] = ()
        self._keep_alive = False
        self._framing: Framing | None = None
        self._size = 0
        self._pieces: list[bytes | memoryview] = []

    def feed(self, data: bytes) -> Answer | None:
        """The answer, once it is whole; raises BadMessage."""
        if self._framing is not None:
            return self._take_body(data)
        self._in += data
        while (end := self._in.find(END)) >= 0:
            block, self._in = self._in[:end], self._in[end + len(END) :]
            length = self._read_head(block)
            if self._status < 200:
                continue
            if length == 0:
                return self._whole(b"", self._in)
            self._framing = ChunkedFraming() if length is None else LengthFraming(length)
            rest, self._in = self._in, b""
            return self._take_body(rest)
        if len(self._in) > HEAD:
            raise BadMessage(f"the head of the answer is larger than {HEAD} bytes")
        return None

    @property
    def rest(self) -> bytes:
        """What came behind the whole answer."""
        return self._in if self._framing is None else self._framing.rest

    def _read_head(self, block: bytes) -> int | None:
        """Take status and fields; the length of the body in bytes, None for a chunked one."""
        if _CONTROL.search(block):
            raise BadMessage("a stray byte in the head of the answer")
        first, *lines = block.split(b"\r\n")
        status_line = _STATUS_LINE.fullmatch(first)
        if status_line is None:
            raise BadMessage("the answer is not HTTP")
        self._status = int(status_line[2])
        if self._status == 101:
            raise BadMessage("the answer turns to another protocol")
        self._fields = tuple(map(_field, lines))
        names: dict[bytes, list[bytes]] = {}
        for name, value in self._fields:
            names.setdefault(name.lower(), []).append(value)
        connection = b",".join(names.get(b"connection", [])).lower()
        self._keep_alive = status_line[1] == b"1" and b"close" not in connection
        return self._body_length(names)

    def _body_length(self, names: dict[bytes, list[bytes]]) -> int | None:
        if self._method == b"HEAD" or self._status < 200 or self._status in _NO_BODY:
            return 0
        lengths, codings = names.get(b"content-length", []), names.get(b"transfer-encoding", [])
        if codings:
            if lengths or [coding.lower() for coding in codings] != [b"chunked"]:
                raise BadMessage("the answer's Transfer-Encoding is not chunked alone")
            return None
        if len(lengths) != 1 or not _DIGITS.fullmatch(lengths[0]):
            raise BadMessage("the length of the answer is not one number")
        length = int(lengths[0])
        self._check_size(length)
        return length

    def _take_body(self, data: bytes) -> Answer | None:
        assert self._framing is not None
        if not data:
            return None
        for piece in self._framing.feed(data):
            self._size += len(piece)
            self._check_size(self._size)
            self._pieces.append(piece)
        return self._whole(b"".join(self._pieces), self._framing.rest) if self._framing.done else None

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise BadMessage(f"the answer is longer than {self._limit} bytes")

    def _whole(self, body: bytes, rest: bytes) -> Answer:
        """`rest` came behind the answer unasked: such a connection is not used again."""
        return Answer(self._status, self._fields, body, self._keep_alive and not rest)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name):
        raise BadMessage("a header line of the answer is folded or has no proper name")
    return name, value.strip(b" \t")
