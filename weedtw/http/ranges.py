"""Byte ranges as RFC 9110 §14 has them.  Pure.

`parse_ranges` gives the ranges to serve, None when the whole file is the answer, or raises RangeNotSatisfiable.
One range is a 206 with Content-Range; several are a 206 of type multipart/byteranges, laid out by `byteranges`.
"""

import re
from collections.abc import Sequence

import attrs

from weedtw.errors import RangeNotSatisfiable

MOST_RANGES = 64  # more are taken for an attack, and the Range header for absent

_UNIT = re.compile(r"[ \t]*bytes=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_BEYOND = 10**19  # stands for numbers of 20 digits and more: beyond any file


@attrs.frozen(order=True)
class ByteRange:
    """The bytes from `start` up to, without, `stop`; never empty."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """The value of Content-Range for this part of a file of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_ranges(header: str | None, size: int) -> tuple[ByteRange, ...] | None:
    """The ranges of a file of `size` bytes that a Range header asks for, in its order; None: serve the whole file.

    The whole file is the answer to no header, another unit than bytes, and one without ranges.  It also is when the
    ranges are more than MOST_RANGES or together ask for more than the file holds: sending bytes twice serves no one.
    Raises RangeNotSatisfiable when no range lies within the file, and, as SeaweedFS, when one is malformed (§14.2
    leaves it to the server).
    """
    unit = _UNIT.fullmatch(header) if header is not None else None
    if unit is None:
        return None
    specs = [text for text in (part.strip(" \t") for part in unit[1].split(",")) if text]
    if not specs or len(specs) > MOST_RANGES:
        return None
    ranges: list[ByteRange] = []
    empty_but_asked = False
    for text in specs:
        bounds = _bounds(text)
        if bounds is None:
            raise RangeNotSatisfiable(size)
        first, last = bounds
        if first is None:  # the last `last` bytes, or all of a shorter file
            start, stop = max(0, size - last), size
            empty_but_asked = empty_but_asked or (size == 0 and last > 0)
        else:
            start, stop = first, min(last + 1, size)
        if start < stop:
            ranges.append(ByteRange(start, stop))
    if not ranges:
        if empty_but_asked:
            return None  # satisfiable, but no Content-Range can say so
        raise RangeNotSatisfiable(size)
    if sum(part.length for part in ranges) > size:
        return None
    return tuple(ranges)


def _bounds(text: str) -> tuple[int | None, int] | None:
    """(first, last) as asked for, (None, count) for a suffix; None when that is no range."""
    spec = _SPEC.fullmatch(text)
    if spec is None:
        return None
    first, last = (_number(digits) for digits in spec.groups())
    if first is None:
        return None if last is None else (None, last)
    if last is None:
        return first, _BEYOND
    return (first, last) if first <= last else None


def _number(digits: str) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) < 20 else _BEYOND


@attrs.frozen
class Layout:
    """A multipart/byteranges body: each range behind its `heads` entry, and `tail` after the last."""

    content_type: str
    ranges: tuple[ByteRange, ...]
    heads: tuple[bytes, ...]
    tail: bytes

    @property
    def length(self) -> int:
        """The length of the whole body in bytes."""
        return sum(map(len, self.heads)) + sum(part.length for part in self.ranges) + len(self.tail)


def byteranges(ranges: Sequence[ByteRange], size: int, content_type: str, boundary: str) -> Layout:
    """Lay out several ranges of a file of `size` bytes and type `content_type` ("" for none).

    `boundary` should be random; it must consist of letters and digits.
    """
    assert boundary.isascii()
    assert boundary.isalnum()
    typed = f"Content-Type: {_one_line(content_type)}\r\n" if content_type else ""
    heads: list[bytes] = []
    for part in ranges:
        break_before = "\r\n" if heads else ""
        head = f"{break_before}--{boundary}\r\n{typed}Content-Range: {part.content_range(size)}\r\n\r\n"
        heads.append(head.encode("latin-1", "replace"))
    tail = f"\r\n--{boundary}--\r\n".encode()
    return Layout(f"multipart/byteranges; boundary={boundary}", tuple(ranges), tuple(heads), tail)


def _one_line(text: str) -> str:
    return "".join(c for c in text if c.isprintable())
