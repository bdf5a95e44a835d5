"""Answering a GET or HEAD with a representation: preconditions, ranges, headers, and the bytes at the client's pace.

Nothing is said to the client before the first piece of the answer is there, so that what goes wrong until then is an
error answer; what goes wrong later cuts the connection.  Of a file in chunks any chunk may be missing: an answer that
is small is there as a whole before anything is said, a larger one breaks off behind what could be read.
"""

import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

import attrs

from weedtw.errors import PreconditionFailed, Unavailable
from weedtw.http.conditional import Conditions, Validators, Verdict, evaluate, format_date, range_applies
from weedtw.http.disposition import render_disposition
from weedtw.http.ranges import ByteRange, Layout, byteranges, parse_ranges
from weedtw.http.requests import Params, Request
from weedtw.http.spool import Budget
from weedtw.http.stream import send_pieces
from weedtw.volume.chunks import ChunkedContent
from weedtw.volume.contents import Content, Inflated, InMemory
from weedtw.volume.represent import Representation, plain_tag
from weedtw.volume.upload import unpack_pairs

LAST_DATE = 253402300799  # the end of the year 9999, beyond which there is no HTTP date
_MOST_RESTARTS = 4  # ranges of a gzip stream that is unpacked from its start for each
_AT_ONCE = 256 * 1024  # bytes of an answer in memory that are handed over in one piece
AHEAD = 1 << 20  # bytes of an answer from chunks that is read as a whole first: what one piece of a far chunk takes
ALL_AHEAD = 64 << 20  # bytes of all such answers under way, so that clients that stall cannot fill the memory
_OVERRIDES = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}
_NO_PAIR = frozenset(  # headers that say how this answer is framed, or what it is: a stored pair never does
    {
        "accept-ranges",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "location",
        "server",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
    }
)
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

Headers = list[tuple[str, str]]


@attrs.frozen(eq=False)
class Server:
    """Sends representations; `downloads` counts the bytes of the answers under way, `ahead` those read ahead."""

    downloads: Budget
    ahead: Budget = attrs.field(factory=lambda: Budget(ALL_AHEAD))

    async def serve(
        self,
        request: Request,
        query: Params,
        shown: Representation,
        *,
        modified: int | None,
        pairs: bytes = b"",
    ) -> bytes | None:
        """Answer with `shown`; raises PreconditionFailed, RangeNotSatisfiable, and what reading raises."""
        modified = modified if modified and 0 < modified <= LAST_DATE else None
        conditions = Conditions.of(request.header)
        validators = Validators(shown.etag, modified, plain_tag(shown.etag))
        verdict = evaluate(conditions, request.method.decode("ascii"), validators)
        if verdict is Verdict.FAILED:
            raise PreconditionFailed
        headers = common_headers(shown, modified)
        if verdict is Verdict.NOT_MODIFIED:
            _set(request, headers)
            request.setResponseCode(304)
            return b""
        headers += describing_headers(shown, query, pairs)
        size = shown.content.size
        ranges = None
        if request.method == b"GET" and not shown.is_gzip and range_applies(conditions, validators):
            ranges = parse_ranges(request.header("Range"), size)
            if ranges is not None and len(ranges) > _MOST_RESTARTS and isinstance(shown.content, Inflated):
                ranges = None
        if ranges is None:
            headers.append(("Content-Length", str(size)))
            return await self._send(request, 200, headers, [(b"", ByteRange(0, size))], b"", shown.content, size)
        if len(ranges) == 1:
            headers.append(("Content-Range", ranges[0].content_range(size)))
            headers.append(("Content-Length", str(ranges[0].length)))
            parts = [(b"", ranges[0])]
            return await self._send(request, 206, headers, parts, b"", shown.content, ranges[0].length)
        layout = byteranges(ranges, size, _value(headers, "Content-Type"), secrets.token_hex(16))
        return await self._send_several(request, headers, layout, shown.content)

    async def _send_several(
        self, request: Request, headers: Headers, layout: Layout, content: Content
    ) -> bytes | None:
        headers = [(name, value) for name, value in headers if name != "Content-Type"]
        headers += [("Content-Type", layout.content_type), ("Content-Length", str(layout.length))]
        parts = list(zip(layout.heads, layout.ranges, strict=True))
        return await self._send(request, 206, headers, parts, layout.tail, content, layout.length)

    async def _send(
        self,
        request: Request,
        status: int,
        headers: Headers,
        parts: list[tuple[bytes, ByteRange]],
        tail: bytes,
        content: Content,
        length: int,
    ) -> bytes | None:
        if request.method == b"HEAD":
            _begin(request, status, headers)
            return b""
        if not self.downloads.take(length):
            raise Unavailable("the server sends as many bytes as it may at once; try again")
        is_chunked = isinstance(content, ChunkedContent)
        ahead = length if is_chunked and length <= AHEAD and self.ahead.take(length) else 0
        try:
            if isinstance(content, InMemory) and length <= _AT_ONCE:
                view = memoryview(content.data)
                _begin(request, status, headers)
                return b"".join([p for head, part in parts for p in (head, view[part.start : part.stop])] + [tail])
            async with aclosing(_sequence(parts, tail, content)) as pieces:
                first = await (_all(pieces) if ahead else _first(pieces))
                _begin(request, status, headers)
                request.write(b"")
                await send_pieces(request, pieces, first, gently=is_chunked)
        finally:
            self.ahead.give(ahead)
            self.downloads.give(length)
        return None


async def _sequence(
    parts: Iterable[tuple[bytes, ByteRange]], tail: bytes, content: Content
) -> AsyncGenerator[bytes | memoryview, None]:
    for head, part in parts:
        async with aclosing(content.pieces(part.start, part.stop)) as pieces:
            before = head
            async for piece in pieces:
                yield before + piece if before else piece
                before = b""
    if tail:
        yield tail


async def _first(pieces: AsyncGenerator[bytes | memoryview, None]) -> bytes | memoryview:
    """The first piece, b"" when there is none.

    Not `anext(pieces, b"")`: in CPython 3.11 that takes no value sent to it, which is how Deferreds resume.
    """
    try:
        return await anext(pieces)
    except StopAsyncIteration:
        return b""


async def _all(pieces: AsyncGenerator[bytes | memoryview, None]) -> memoryview:
    """All the pieces as one."""
    whole = bytearray()
    async for piece in pieces:
        whole += piece
    return memoryview(whole)


def _begin(request: Request, status: int, headers: Headers) -> None:
    request.setResponseCode(status)
    _set(request, headers)


def _set(request: Request, headers: Headers) -> None:
    for name, value in headers:
        request.setHeader(name, value)


def _value(headers: Headers, name: str) -> str:
    return next((value for key, value in reversed(headers) if key == name), "")


def common_headers(shown: Representation, modified: int | None) -> Headers:
    """What a 304 says as well."""
    headers = [("ETag", shown.etag), ("Accept-Ranges", "bytes")]
    headers.append(("Vary", "Accept-Encoding, Origin" if shown.varies else "Origin"))
    if modified is not None:
        headers.append(("Last-Modified", format_date(modified)))
    return headers


def describing_headers(shown: Representation, query: Params, pairs: bytes) -> Headers:
    """What a 200 or 206 says besides, but for its length."""
    headers: Headers = [
        (name, _line(value))
        for name, value in unpack_pairs(bytes(pairs)).items()
        if name and _TOKEN.issuperset(name) and name.lower() not in _NO_PAIR
    ]
    headers.append(("Content-Type", _line(shown.mime)))
    if shown.is_guess:
        headers.append(("X-Content-Type-Options", "nosniff"))
    if shown.is_gzip:
        headers.append(("Content-Encoding", "gzip"))
    if shown.is_chunked:
        headers.append(("X-File-Store", "chunked"))
    kind = "attachment" if query.flag("dl") else "inline"
    if shown.name or kind == "attachment":
        headers.append(("Content-Disposition", render_disposition(kind, shown.name)))
    for parameter, value in query.values.items():
        name = _OVERRIDES.get(parameter.lower(), "")
        if name and value:
            headers.append((name, _line(value)))
    return headers


def _line(text: str) -> str:
    """The text without what would end, or break, a header line."""
    return "".join(character for character in text if character >= " " and character != "\x7f")
