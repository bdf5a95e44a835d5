"""Gzip as the volume server stores and serves it.  Pure; call it from a thread for more than a few KB.

A stored file is either as it was sent or one gzip stream (of one or more members) of that.  Nothing here
unpacks more than the limit it is given, so a small body that expands to gigabytes costs at most the limit.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from weedtw.errors import BadRequest, TooLarge

WORTH_IT = 0.9  # a compressed form is kept when it is smaller than this part of the original
SMALLEST = 128  # bytes; below this the header of gzip eats the gain
PIECE = 256 * 1024  # bytes of plain content handed on at once
_LEVEL = 6
_FREE_MEMBERS = 1000  # a stream may have that many; beyond, they must hold
_MEMBER_BYTES = 512  # this much content on average, or taking them apart would cost more than it yields
_AUTO_HEADER = 16 + zlib.MAX_WBITS  # zlib's way of saying: gzip, and nothing else


class NotGzip(Exception):
    """The bytes are not a whole gzip stream; the argument says where it goes wrong."""


def compress(data: bytes | memoryview) -> bytes | None:
    """The gzip form of `data`, or None when it would not be worth it.  Same bytes in, same bytes out."""
    if len(data) < SMALLEST:
        return None
    packed = gzip.compress(data, compresslevel=_LEVEL, mtime=0)
    return packed if len(packed) < len(data) * WORTH_IT else None


def _new_member() -> Any:  # zlib does not name the type of its decompressors
    return zlib.decompressobj(_AUTO_HEADER)


@attrs.define
class Inflater:
    """Takes a gzip stream piece by piece and gives its content, of which it keeps nothing; at most `limit` bytes.

    Members that follow each other are unpacked one after the other; zeros after the last are padding.
    """

    limit: int  # bytes of plain content
    size: int = attrs.field(default=0, init=False)  # bytes of plain content so far
    _member: Any = attrs.field(factory=_new_member, init=False)
    _is_inside: bool = attrs.field(default=False, init=False)  # of a member that has begun and not ended
    _members: int = attrs.field(default=0, init=False)  # that have ended

    def feed(self, piece: bytes | memoryview) -> Iterator[bytes]:
        """The plain content of the next piece, in pieces of at most PIECE bytes; raises NotGzip, TooLarge."""
        rest = bytes(piece)
        is_more = bool(rest)
        while is_more:
            if not self._is_inside:
                rest = rest.lstrip(b"\0") if self._members else rest
                if not rest:
                    return
                self._member, self._is_inside = _new_member(), True
            try:
                plain = self._member.decompress(rest, PIECE)
            except zlib.error as error:
                raise NotGzip(str(error)) from error
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            is_more = bool(rest) or len(plain) == PIECE  # zlib may hold back output when its input is used up
            self._count(len(plain))
            if plain:
                yield plain

    def finish(self) -> None:
        """Say that there are no more pieces; raises NotGzip when that is in the middle."""
        if self._is_inside or not self._members:
            raise NotGzip("it ends in the middle")

    def _count(self, plain: int) -> None:
        self.size += plain
        if self.size > self.limit:
            raise TooLarge(limit=self.limit)
        if self._member.eof:
            self._is_inside = False
            self._members += 1
            if self._members > _FREE_MEMBERS and self.size < self._members * _MEMBER_BYTES:
                raise NotGzip("too many members with next to nothing in them")


def inflate(pieces: Iterable[bytes | memoryview], limit: int) -> Iterator[bytes]:
    """Plain pieces from gzip pieces; raises NotGzip, and TooLarge beyond `limit` bytes."""
    inflater = Inflater(limit)
    for piece in pieces:
        yield from inflater.feed(piece)
    inflater.finish()


def plain_size(packed: bytes | memoryview, limit: int, observe: Callable[[bytes], object] | None = None) -> int:
    """How many bytes the gzip stream unpacks to; raises NotGzip, TooLarge.  Shows them to `observe`, keeps none."""
    size = 0
    for piece in inflate(_slices(packed), limit):
        size += len(piece)
        if observe is not None:
            observe(piece)
    return size


def unpack(packed: bytes | memoryview, limit: int) -> bytes:
    """The plain content of a gzip stream; raises NotGzip, TooLarge."""
    return b"".join(inflate(_slices(packed), limit))


def checked_plain_size(
    packed: bytes | memoryview, limit: int, observe: Callable[[bytes], object] | None = None
) -> int:
    """As plain_size, for what a client sent with `Content-Encoding: gzip`; raises BadRequest instead of NotGzip."""
    try:
        return plain_size(packed, limit, observe)
    except NotGzip as error:
        raise BadRequest(f"the body is not gzip, though its Content-Encoding says so: {error}") from error


def _slices(data: bytes | memoryview) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), PIECE):
        yield view[start : start + PIECE]
