"""Where a request body ends: by its announced length, or in chunks (RFC 9112 §6, §7.1).  Pure.

`feed` takes bytes as they come and returns the pieces of content in them; once `done` is true, `rest` holds
what came after the body.  Nothing is kept but an unfinished line.
"""

import re
from typing import Protocol

import attrs

from weedtw.errors import BadMessage

SIZE_LINE = 256  # bytes of a line with a chunk's size and extensions
TRAILERS = 8 * 1024  # bytes of all trailer lines together

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class Framing(Protocol):
    """What both ways of delimiting a body have in common."""

    done: bool
    rest: bytes

    def feed(self, data: bytes) -> list[bytes | memoryview]:
        """The pieces of content in `data`; raises BadMessage."""
        ...


@attrs.define
class LengthFraming:
    """A body of `left` bytes, more than none."""

    left: int
    done: bool = False
    rest: bytes = b""

    def feed(self, data: bytes) -> list[bytes | memoryview]:
        """The part of `data` that belongs to the body."""
        if len(data) < self.left:
            self.left -= len(data)
            return [data]
        piece: bytes | memoryview = data if len(data) == self.left else memoryview(data)[: self.left]
        self.done, self.rest, self.left = True, data[self.left :], 0
        return [piece]


@attrs.define
class ChunkedFraming:
    """A body in chunks.  Extensions and trailers are checked for form and dropped."""

    done: bool = False
    rest: bytes = b""
    _line: bytes = attrs.field(default=b"", init=False)  # an unfinished line
    _left: int = attrs.field(default=0, init=False)  # bytes of the chunk still to come
    _after_chunk: bool = attrs.field(default=False, init=False)  # a CRLF has to follow
    _in_trailers: bool = attrs.field(default=False, init=False)
    _trailer_bytes: int = attrs.field(default=0, init=False)

    def feed(self, data: bytes) -> list[bytes | memoryview]:
        """The contents of the chunks in `data`; raises BadMessage for bad sizes, ends and lines."""
        pieces: list[bytes | memoryview] = []
        view, at = memoryview(data), 0
        while at < len(data):
            if self._left:
                piece = view[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after_chunk = not self._left
                continue
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end + 1
            self._line += data[at:stop]
            at = stop
            if len(self._line) > (TRAILERS if self._in_trailers else SIZE_LINE):
                raise BadMessage("a line between chunks is too long")
            if end >= 0:
                self._line_ended()
                if self.done:
                    self.rest = data[at:]
                    break
            elif self._after_chunk and self._line != b"\r":
                raise BadMessage("a chunk is longer than its size says")
        return pieces

    def _line_ended(self) -> None:
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise BadMessage("a line between chunks does not end in CRLF")
        line = line[:-2]
        if self._after_chunk:
            if line:
                raise BadMessage("a chunk is longer than its size says")
            self._after_chunk = False
        elif self._in_trailers:
            self._trailer(line)
        else:
            size = _SIZE.fullmatch(line)
            if not size:
                raise BadMessage("a chunk size is not a hexadecimal number")
            self._left = int(size[1], 16)
            self._in_trailers = not self._left

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailer_bytes += len(line) + 2
        if self._trailer_bytes > TRAILERS:
            raise BadMessage("the trailers are too long", 431)
        if not _TRAILER.fullmatch(line):
            raise BadMessage("a trailer line is malformed")
