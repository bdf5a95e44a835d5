"""The hot path: the few requests that make up nearly all the load, answered without twisted.web and Klein.

`HttpChannel` shows the bytes at the start of a request to the site's `Hot` before it reads them itself.  What that
recognises it answers in one go; everything else, and whatever is unusual about a hot request (a header line that is
not known here, a connection that is not to be kept, a body that is not there in whole), is left to the channel
from the first byte on.  So the hot path never refuses anything, and never reads what the other way would refuse: the
header lines are understood by the same `parse_head`, once for each block of them, because a client repeats its block
to the byte.

A daemon's own part is a `Hotspot`: the request lines that it knows, and what it answers.
"""

import re
from collections.abc import Callable
from typing import Final, Protocol

import attrs
from twisted.web.http import RESPONSES

from weedtw.errors import BadMessage
from weedtw.http.accept import accepts_gzip
from weedtw.http.head import END, RequestHead, parse_head
from weedtw.http.origins import may_be_browser
from weedtw.http.outflow import Outflow
from weedtw.http.requests import SERVER
from weedtw.http.responses import error_headers, error_value, render_json, status_of

MOST_BODY: Final = 64 * 1024  # bytes; larger bodies are spooled
_END_LENGTH: Final = len(END)
_MOST_BLOCK: Final = 4 * 1024  # bytes of header lines
_MOST_MEANINGS: Final = 1024  # blocks of header lines remembered

# Header lines that change nothing about any answer to a hot request.
_WITHOUT_EFFECT: Final = frozenset(
    {
        *(b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"connection", b"content-length"),
        *(b"cookie", b"dnt", b"host", b"pragma", b"priority", b"referer", b"sec-fetch-dest", b"sec-fetch-mode"),
        *(b"sec-fetch-site", b"traceparent", b"tracestate", b"user-agent", b"x-forwarded-for", b"x-forwarded-proto"),
        *(b"x-real-ip", b"x-request-id"),
    }
)
_LINE: Final = b"GET / HTTP/1.1"  # stands for the request line, which the hotspot's pattern has checked
_LENGTH: Final = re.compile(rb"(?<=\r\nContent-Length: )[0-9]{1,6}(?=\r\n|\Z)", re.IGNORECASE)
_BOUNDARY: Final = re.compile(
    rb"(?<=\r\nContent-Type: multipart/form-data; boundary=)[0-9A-Za-z'+_\-]{1,70}(?=\r\n|\Z)", re.IGNORECASE
)


# Found faster so.  Written otherwise, the one is searched for, and with the other a form is not hot.
_LENGTH_LINE: Final = b"\r\nContent-Length: "
_BOUNDARY_IS: Final = b"; boundary="
_MOST_BEFORE: Final = 40  # bytes of a line before that


PLAIN: Final[frozenset[bytes]] = frozenset()  # the names of a Meaning without anything unusual


@attrs.frozen(slots=True)
class Meaning:
    """What a block of header lines says, of a request that may be hot; with what differs in each request left out."""

    takes_gzip: bool
    names: frozenset[bytes]  # of the lines that may have an effect, in lower case
    fields: dict[bytes, str]  # their values, by lower-case name
    from_browser: bool = False  # perhaps: so where pages of others must not do it, the other way has to look

    @classmethod
    def of(cls, head: RequestHead) -> "Meaning | None":
        """The meaning of a head; None when a request with it is not hot."""
        connection = [value.lower() for name, value in head.fields if name.lower() == b"connection"]
        if head.body_length is None or head.expects_continue or connection not in ([], [b"keep-alive"]):
            return None
        fields = {name.lower(): value.decode("utf-8", "replace") for name, value in head.fields}
        if len(fields) != len(head.fields):
            return None  # one that is repeated
        takes_gzip = accepts_gzip(fields.get(b"accept-encoding"))
        with_effect = {name: value for name, value in fields.items() if name not in _WITHOUT_EFFECT}
        names = frozenset(with_effect) if with_effect else PLAIN
        return cls(takes_gzip, names, with_effect, may_be_browser(fields))


_Seen = tuple[int, Meaning | None, bytes]  # the length of the body, what the lines mean, the boundary


class Later:
    """An answer that is not there yet.  The hotspot calls `give` once, with the answer; `gone` is set meanwhile when
    nobody waits for it any more.
    """

    __slots__ = ("_answer", "_taker", "gone")

    def __init__(self) -> None:
        self.gone = False
        self._answer: bytes | None = None
        self._taker: Callable[[bytes], None] | None = None

    def give(self, answer: bytes) -> None:
        """Here it is."""
        self._answer = answer
        taker, self._taker = self._taker, None
        if taker is not None:
            taker(answer)

    def take(self, taker: Callable[[bytes], None]) -> bytes | None:
        """The answer if it is there; else `taker` is called with it."""
        if self._answer is None:
            self._taker = taker
        return self._answer


# A whole answer; one that comes later; one that comes in pieces; or: this is not for the hot path.
Reply = bytes | Later | Outflow | None


def error_answer(error: BaseException, date: bytes) -> bytes:
    """The answer to a request that failed, as the other way gives it."""
    body = render_json(error_value(error))
    status = status_of(error)
    lines = [
        b"HTTP/1.1 %d %b" % (status, RESPONSES[status]),
        b"Server: " + SERVER,
        b"Date: " + date,
        *(b"%b: %b" % header for header in error_headers(error)),
        b"Cache-Control: no-store",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"X-Content-Type-Options: nosniff",
    ]
    return b"\r\n".join(lines) + END + body


class Hotspot(Protocol):
    """What a daemon answers on the hot path."""

    pattern: "re.Pattern[bytes]"
    """Matches a hot request's line from its method to its CRLF; its first group is the method."""

    def answer(self, line: "re.Match[bytes]", meaning: Meaning, body: bytes, boundary: bytes) -> Reply:
        """Answer a request; `boundary` is that of a multipart body, whose Content-Type lacks it.  Must not raise."""
        ...


class Hot:
    """Finds hot requests in what a client sends."""

    def __init__(self, hotspot: Hotspot) -> None:
        self.answer = hotspot.answer
        self.match = hotspot.pattern.match
        self._seen: dict[bytes, _Seen] = {}  # by block
        self._sized: dict[bytes, Meaning | None] = {}  # by block without the digits of the length, and a boundary

    def take(self, data: bytes, at: int) -> tuple[Reply, int]:
        """(the reply, where the request ends) of the request that begins at `at`; (None, `at`) if it is not hot."""
        line = self.match(data, at)
        if line is None:
            return None, at
        start = line.end() - 2  # the CRLF belongs to the block, too: so each header line has one before it
        stop = data.find(END, start)
        if stop < 0:
            return None, at
        block = data[start:stop]
        size, meaning, boundary = self._seen.get(block) or self._see(block)
        end = stop + _END_LENGTH
        if meaning is None:
            return None, at
        if size:
            start, end = end, end + size
            if size > MOST_BODY or len(data) < end:
                return None, at
            reply = self.answer(line, meaning, data[start:end], boundary)
        else:
            reply = self.answer(line, meaning, b"", boundary)
        return reply, (at if reply is None else end)

    def _see(self, block: bytes) -> "_Seen":
        if len(block) > _MOST_BLOCK:
            return 0, None, b""
        length = _LENGTH.search(block, max(0, block.find(_LENGTH_LINE)))
        if length is None:
            seen = 0, _meaning(block, is_sized=False), b""
        else:
            seen = int(length[0]), *self._of_sized(block, *length.span())
        if len(self._seen) >= _MOST_MEANINGS:
            self._seen.clear()
        self._seen[block] = seen
        return seen

    def _of_sized(self, block: bytes, first: int, last: int) -> tuple[Meaning | None, bytes]:
        """(meaning, boundary) of a block with the digits of a length between `first` and `last`.

        With most clients both differ from request to request, so a block is known without them.
        """
        hint = block.find(_BOUNDARY_IS)
        found = _BOUNDARY.search(block, max(0, hint - _MOST_BEFORE)) if hint >= 0 else None
        if found is None:
            boundary, whole, key = b"", block, block[:first] + block[last:]
        else:
            boundary = found[0]
            begin, end = found.span()
            whole = block[:begin] + block[end:]
            if first < begin:
                key = block[:first] + block[last:begin] + block[end:]
            else:
                key = block[:begin] + block[end:first] + block[last:]
        if key not in self._sized:
            if len(self._sized) >= _MOST_MEANINGS:
                self._sized.clear()
            self._sized[key] = _meaning(whole, is_sized=True)
        return self._sized[key], boundary


def _meaning(block: bytes, *, is_sized: bool) -> Meaning | None:
    """What a block of header lines says; None when a request with it is not hot.

    So it is when it has a length that `_LENGTH` did not find, written in another way: its body would be taken for the
    next request.
    """
    try:
        head = parse_head(_LINE + block)
    except BadMessage:
        return None  # the channel says what is wrong
    return Meaning.of(head) if is_sized or not head.body_length else None
