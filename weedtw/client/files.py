"""Reading and deleting files by id: any server that holds the volume will do; when one fails, the next is tried."""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime

from weedtw.client.answers import FileInfo, Location, parse_deleted, seconds_of, stored_name
from weedtw.client.lookups import Lookups
from weedtw.client.parts import WHOLE, Part, parse_given, parse_size
from weedtw.client.patience import Patience
from weedtw.client.receiver import Write
from weedtw.client.wire import Reply, Wire, hint, passes
from weedtw.errors import AnswerTooLarge, NeedleNotFound, PeerError, RangeNotSatisfiable, Unavailable, WeedError
from weedtw.formats.fileid import FileId
from weedtw.http.tokens import bearer

_GOOD: Final = range(200, 300)
_UNAUTHORIZED: Final = 401


@attrs.frozen(auto_exc=True, slots=False)
class _WriterFailed(Exception):
    """Carries what the receiver of a body raised past the errors of the connection; never leaves this module."""

    error: BaseException


@attrs.define(eq=False)
class _Sink:
    """Counts what was handed on, and tells trouble of the receiver from trouble of the connection."""

    write: Write
    received: int = 0

    async def take(self, piece: bytes) -> None:
        self.received += len(piece)
        try:
            pending = self.write(piece)
            if pending is not None:
                await pending
        except Exception as error:
            raise _WriterFailed(error) from error


@attrs.define(eq=False)
class Files:
    """Requests for files, addressed by id."""

    lookups: Lookups
    wire: Wire
    clock: IReactorTime
    patience: float  # seconds for which a request is repeated
    public: bool = False  # use the servers' public addresses
    spread: Callable[[], float] = random.random
    _asked_for_tokens: set[bool] = attrs.field(factory=set, init=False)  # whether for reading

    async def head(self, fid: FileId) -> FileInfo:
        """Return what is known of a file without reading it; raises as `stream` does."""
        reply = await self._exchange(fid, "HEAD")
        reply.discard()
        return _file_info(reply)

    async def stream(
        self,
        fid: FileId,
        write: Write,
        begin: Callable[[FileInfo], Awaitable[None] | None] | None = None,
        part: Part = WHOLE,
    ) -> FileInfo:
        """Give the content of a file, or a part of it, to `write`, in order, each byte once.

        `begin` is told of the file before its first byte.  While an awaitable that `write` returned is pending,
        nothing more is read.  A connection that breaks off is resumed, at another server if need be, when the
        file's ETag shows that it is still the same.  Raises NotFound, PeerError, Unavailable, RangeNotSatisfiable
        when the file ends before the part begins, and whatever `begin` or `write` raises; `write` has then had part
        of the content at most.
        """
        reply = await self._exchange(fid, "GET", {} if part.is_whole else {"Range": part.header()})
        info, expected = _begun(reply, part)
        if begin is not None:
            try:
                pending = begin(info)
                if pending is not None:
                    await pending
            except Exception:
                reply.discard()
                raise
        sink = _Sink(write)
        try:
            await self._stream(fid, info, reply, sink, part, expected)
        except _WriterFailed as failed:
            raise failed.error from None
        if expected is not None and sink.received != expected:
            raise PeerError(info.url, f"sent {sink.received} bytes of the {expected} that it announced")
        return info

    async def read(self, fid: FileId, limit: int) -> bytes:
        """Return the content of a file; raises AnswerTooLarge beyond `limit` bytes, and as `stream` does."""
        pieces: list[bytes] = []
        received = 0

        def begin(info: FileInfo) -> None:
            if info.size is not None and info.size > limit:
                raise AnswerTooLarge(limit, info.size)

        def keep(piece: bytes) -> None:
            nonlocal received
            received += len(piece)
            if received > limit:
                raise AnswerTooLarge(limit)
            pieces.append(piece)

        await self.stream(fid, keep, begin)
        return b"".join(pieces)

    async def delete(self, fid: FileId) -> int:
        """Delete a file on all its copies, a manifest with its chunks; return the size in bytes the server names.

        Raises NotFound when it was not there, PeerError and Unavailable.
        """
        doubtful: list[WeedError] = []
        try:
            reply = await self._exchange(fid, "DELETE", doubtful=doubtful)
        except NeedleNotFound:
            if doubtful:
                return 0  # an earlier try got no answer; that it is gone now is what was wanted
            raise
        return parse_deleted(reply.address, await reply.json())

    async def _stream(
        self, fid: FileId, info: FileInfo, reply: Reply, sink: _Sink, part: Part, expected: int | None
    ) -> None:
        patience = Patience(self.clock, self.patience, self.spread)
        before = 0
        while True:
            try:
                await reply.stream(sink.take)
                return
            except PeerError as error:
                if expected is None or not info.etag or sink.received >= expected:
                    raise
                if sink.received > before:
                    patience = Patience(self.clock, self.patience, self.spread)
                before = sink.received
                self.lookups.forget(fid.volume_id)
                if not await patience.wait():
                    raise
                reply = await self._resumed(fid, info, part, before, error)

    async def _resumed(self, fid: FileId, info: FileInfo, part: Part, received: int, broken: PeerError) -> Reply:
        """Ask for the rest of what the first `received` bytes are here of; raises `broken` if the file changed."""
        try:
            reply = await self._exchange(fid, "GET", {"Range": part.header(received), "If-Range": info.etag})
        except RangeNotSatisfiable:
            raise broken from None
        given = parse_given(reply.header("Content-Range")) if reply.status == 206 else None
        if part.is_answered_by(given, received) and reply.header("ETag") == info.etag:
            return reply
        reply.discard()
        raise broken

    async def _exchange(
        self,
        fid: FileId,
        method: str,
        headers: Mapping[str, str] | None = None,
        doubtful: list[WeedError] | None = None,
    ) -> Reply:
        """Return the first good answer of a holder.  Tries that got no answer are noted in `doubtful`."""
        patience = Patience(self.clock, self.patience, self.spread)
        while True:
            remembered = self.lookups.remembers(fid.volume_id)
            errors: list[WeedError] = []
            for location in self._shuffled(await self.lookups.find(fid.volume_id)):
                try:
                    return await self._ask(location, fid, method, headers)
                except (PeerError, Unavailable, NeedleNotFound) as error:
                    errors.append(error)
            self.lookups.forget(fid.volume_id)
            troubles = [error for error in errors if not isinstance(error, NeedleNotFound)]
            if doubtful is not None:
                doubtful += [error for error in troubles if isinstance(error, PeerError) and error.status is None]
            if not troubles:
                if remembered:
                    continue  # the volume may have moved since
                raise errors[0]
            if not any(map(passes, troubles)) or not await patience.wait(hint(troubles)):
                raise troubles[0]

    async def _ask(self, location: Location, fid: FileId, method: str, headers: Mapping[str, str] | None) -> Reply:
        address = location.public_url if self.public else location.url
        reads = method != "DELETE"
        sent = {**(headers or {}), **(await self._token(fid, reads=reads) if reads in self._asked_for_tokens else {})}
        reply = await self.wire.exchange(method, address, f"/{fid}", headers=sent)
        if reply.status == _UNAUTHORIZED and reads not in self._asked_for_tokens:
            token = await self._token(fid, reads=reads)
            if token:
                self._asked_for_tokens.add(reads)
                reply.discard()
                reply = await self.wire.exchange(method, address, f"/{fid}", headers=sent | token)
        if reply.status in _GOOD:
            return reply
        error = await reply.error()
        if reply.status == 404:
            raise NeedleNotFound(fid.volume_id, fid.key) from error
        size = parse_size(reply.header("Content-Range")) if reply.status == 416 else None
        if size is not None:
            raise RangeNotSatisfiable(size) from error
        raise error

    async def _token(self, fid: FileId, *, reads: bool) -> dict[str, str]:
        return bearer(await self.lookups.token(fid, reads=reads))

    def _shuffled(self, locations: tuple[Location, ...]) -> list[Location]:
        """All locations, beginning anywhere, so that the copies share the load."""
        first = int(self.spread() * len(locations))
        return [*locations[first:], *locations[:first]]


def _begun(reply: Reply, part: Part) -> tuple[FileInfo, int | None]:
    """Read the head of an answer with content: what the file is, and how many bytes of it come, None: unsaid.

    Raises PeerError when it is another part that comes, or the whole file instead of one.
    """
    info = _file_info(reply)
    if part.is_whole:
        return info, info.size
    given = parse_given(reply.header("Content-Range")) if reply.status == 206 else None
    if given is None or not part.is_answered_by(given):
        reply.discard()
        raise PeerError(info.url, f"gave something else when asked for {part.header()}", reply.status)
    return attrs.evolve(info, size=given.size), given.stop - given.start


def _file_info(reply: Reply) -> FileInfo:
    """Read the head of an answer."""
    return FileInfo(
        url=reply.address,
        name=stored_name(reply.header("Content-Disposition")),
        mime=reply.header("Content-Type"),
        size=reply.length,
        etag=reply.header("ETag"),
        modified=seconds_of(reply.header("Last-Modified")),
        chunked=reply.header("X-File-Store") == "chunked",
    )
