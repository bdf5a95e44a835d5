"""Chunk manifests: a small JSON file that stands for a large one, cut into chunks.  Pure.

    {"name": "whole.bin", "mime": "video/mp4", "size": 17,
     "chunks": [{"fid": "3,01637037d6", "offset": 0, "size": 10}, {"fid": "7,02a1b2c3d4", "offset": 10, "size": 7}]}

`size` and the chunks' `offset` and `size` are bytes of content.  The chunks, in any order, must cover the
whole without gaps or overlaps; only then can a range be cut out of it without looking at every chunk.

As for SeaweedFS, null stands for what is left out, a text that is not UTF-8 has replacement characters in it, and
what has not this form is no manifest: NotManifest, rather than one that is wrong.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Self

import attrs

from weedtw.errors import BadFileId, BadManifest, NotManifest
from weedtw.formats.fileid import FileId

MAX_MANIFEST = 32 * 1024 * 1024  # bytes of JSON: half a million chunks
_MAX_SIZE = 2**63 - 1


@attrs.frozen
class Chunk:
    """One piece of the whole: `size` bytes that stand at `offset`."""

    file_id: FileId
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The offset of the first byte behind the chunk."""
        return self.offset + self.size


@attrs.frozen
class Span:
    """The bytes [start, stop) of one chunk, counted from the chunk's own start."""

    chunk: Chunk
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the chunk."""
        return self.start == 0 and self.stop == self.chunk.size


@attrs.frozen
class Manifest:
    """A large file: what it is called, and its chunks in the order of their offsets."""

    name: str
    mime: str
    size: int  # bytes
    chunks: tuple[Chunk, ...]

    @classmethod
    def parse(cls, text: bytes | memoryview) -> Self:
        """Read a manifest; raises NotManifest and BadManifest."""
        if len(text) > MAX_MANIFEST:
            raise BadManifest(f"{len(text)} bytes are too many")
        try:
            parsed = json.loads(bytes(text).decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise NotManifest("it is not JSON") from None
        if parsed is None:
            parsed = {}
        if not isinstance(parsed, dict):
            raise NotManifest("it is not a JSON object")
        listed = [] if parsed.get("chunks") is None else parsed["chunks"]
        if not isinstance(listed, list):
            raise NotManifest("its chunks are not a list")
        chunks = sorted((_chunk(entry) for entry in listed), key=lambda chunk: (chunk.offset, chunk.end))
        end = _end_of(chunks)
        size = _count(parsed, "size") or end
        if size != end:
            raise BadManifest(f"it is to have {size} bytes, its chunks end at {end}")
        return cls(name=_text(parsed, "name"), mime=_text(parsed, "mime"), size=size, chunks=tuple(chunks))

    def spans(self, start: int, stop: int) -> Iterator[Span]:
        """The pieces of chunks that make up the bytes [start, stop)."""
        at = bisect_right(self.chunks, start, key=lambda chunk: chunk.end)
        for chunk in islice(self.chunks, at, None):
            if chunk.offset >= stop:
                return
            first, last = max(start, chunk.offset), min(stop, chunk.end)
            if first < last:
                yield Span(chunk, first - chunk.offset, last - chunk.offset)


def _end_of(chunks: list[Chunk]) -> int:
    """Where the last chunk ends; raises BadManifest when they do not lie end to end from 0 on."""
    at = 0
    for chunk in chunks:
        if chunk.offset != at:
            raise BadManifest(f"a chunk starts at {chunk.offset}, the one before it ends at {at}")
        at = chunk.end
    return at


def _chunk(entry: Any) -> Chunk:
    if not isinstance(entry, dict):
        raise NotManifest("a chunk is not a JSON object")
    try:
        file_id = FileId.parse(_text(entry, "fid"))
    except BadFileId as error:
        raise BadManifest(str(error)) from None
    return Chunk(file_id, _count(entry, "offset"), _count(entry, "size"))


def _count(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if value is None:
        return 0
    if type(value) is not int or not -_MAX_SIZE <= value <= _MAX_SIZE:
        raise NotManifest(f"{key} is {value!r:.40}, not a count of bytes")
    if value < 0:
        raise BadManifest(f"{key} is {value}, not a count of bytes")
    return value


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise NotManifest(f"{key} is {value!r:.40}, not a text")
    return value
