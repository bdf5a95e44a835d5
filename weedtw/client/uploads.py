"""Storing one file, whole or in chunks under a manifest, so that a failure leaves nothing behind.

A file in chunks is several files, one for each of the `cuts`, and one more that lists them:

    {"name": str, "mime": str, "size": bytes, "chunks": [{"fid": str, "offset": bytes, "size": bytes}, …]}

which is written with `cm=true`; the volume servers read and delete it as the whole.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from weedtw.client.answers import Assignment, Stored, parse_stored
from weedtw.client.assign import Placement, assign
from weedtw.client.bodies import FormBody
from weedtw.client.cuts import Cut, Cuts
from weedtw.client.gather import each
from weedtw.client.masters import Masters
from weedtw.client.patience import Patience
from weedtw.client.sources import MemorySource, Source
from weedtw.client.wire import Wire, hint, passes
from weedtw.errors import PeerError, Unavailable, Unreachable, WeedError
from weedtw.formats.fileid import FileId
from weedtw.http.tokens import bearer

CHUNKS_AT_ONCE: Final = 3
_TRIES_PER_ID: Final = 2  # before another id, on another volume perhaps, is asked for
_MOST_REFUSALS: Final = 3  # answers of 500 and above, other than "later", that are believed to be bad luck
_GOOD: Final = range(200, 300)
_ELSEWHERE: Final = frozenset({404, 408, 409, 429})  # no volume here, or it takes no writes now: another may


@attrs.frozen
class Chunk:
    """One piece of a file in chunks; offset and size in bytes."""

    fid: FileId
    offset: int
    size: int


@attrs.frozen
class Uploaded:
    """A file that is stored, on as many servers as its replication asks for."""

    fid: FileId
    url: str  # "host:port" of a server that has it
    public_url: str
    name: str
    size: int  # bytes of content
    etag: str
    chunks: tuple[Chunk, ...] = ()


@attrs.define(eq=False)
class Upload:
    """One file on its way; made for one `run`."""

    masters: Masters
    wire: Wire
    clock: IReactorTime
    patience: float  # seconds for which each piece is tried again
    cuts: Cuts
    name: str
    mime: str
    placement: Placement
    progress: Callable[[int], None]  # told the bytes that moved; fewer than none when they have to move again
    public: bool = False  # use the servers' public addresses
    spread: Callable[[], float] = random.random
    _placed: dict[FileId, str] = attrs.field(factory=dict, init=False)  # what may hold bytes, and where
    _tokens: dict[FileId, str] = attrs.field(factory=dict, init=False)  # as they came with the ids
    _log = Logger()

    async def run(self) -> Uploaded:
        """Store the file.  On any failure, cancellation included, what was stored of it is deleted again.

        Raises StorageError when the content cannot be read, Unavailable when no server took it in time, PeerError
        when one refused it.
        """
        try:
            first = await self.cuts.take()
            assert first is not None  # empty content is a file, too
            if self.cuts.more:
                uploaded = await self._in_chunks(first)
            else:
                uploaded = await self._store(first.source, first.start, first.count, self.name, self.mime)
        except Exception:
            await self._drop(list(self._placed))
            raise
        kept = {uploaded.fid, *(chunk.fid for chunk in uploaded.chunks)}
        await self._drop([fid for fid in self._placed if fid not in kept])
        return uploaded

    async def _in_chunks(self, first: Cut) -> Uploaded:
        """Store them all, each taken when there is time for it: no more are held in memory than are on their way."""
        chunks: list[Chunk] = []

        def turns() -> Iterator[Cut | None]:
            yield first
            while self.cuts.more:
                yield None  # whichever is the next then

        async def store(cut: Cut | None) -> None:
            cut = cut or await self.cuts.take()
            if cut is None:
                return
            name = f"{self.name}-{cut.number}"
            stored = await self._store(cut.source, cut.start, cut.count, name, "application/octet-stream")
            chunks.append(Chunk(stored.fid, cut.offset, cut.count))

        await each(turns(), store, CHUNKS_AT_ONCE)
        chunks.sort(key=lambda chunk: chunk.offset)
        size = sum(chunk.size for chunk in chunks)
        manifest = MemorySource(memoryview(self._manifest(chunks, size)))
        stored = await self._store(manifest, 0, manifest.size, self.name, "application/json", {"cm": "true"})
        return attrs.evolve(stored, size=size, chunks=tuple(chunks))

    def _manifest(self, chunks: list[Chunk], size: int) -> bytes:
        listed = [{"fid": str(chunk.fid), "offset": chunk.offset, "size": chunk.size} for chunk in chunks]
        manifest = {"name": self.name, "mime": self.mime, "size": size, "chunks": listed}
        return json.dumps(manifest, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    async def _store(
        self, source: Source, offset: int, count: int, name: str, mime: str, query: Mapping[str, str] | None = None
    ) -> Uploaded:
        """Store `count` bytes under one id: the one assigned at first or, when its server fails, another."""
        patience = Patience(self.clock, self.patience, self.spread)
        assigned: Assignment | None = None
        tries = refusals = 0
        while True:
            if assigned is None:
                assigned, tries = await assign(self.masters, self.placement), 0
            address = assigned.public_url if self.public else assigned.url
            self._tokens[assigned.fid] = assigned.auth
            form = FormBody.of(source, offset, count, name=name, mime=mime, moved=self.progress)
            try:
                stored = await self._send(address, assigned.fid, form, {"ttl": self.placement.ttl, **(query or {})})
            except (PeerError, Unavailable) as error:
                self.progress(-form.produced)
                tries += 1
                refusals += not passes(error)
                if _final(error) or refusals >= _MOST_REFUSALS or not await patience.wait(hint([error])):
                    raise
                if isinstance(error, Unreachable) or tries >= _TRIES_PER_ID or not passes(error):
                    assigned = None
                continue
            return Uploaded(assigned.fid, assigned.url, assigned.public_url, name, count, stored.etag)

    async def _send(self, address: str, fid: FileId, form: FormBody, query: Mapping[str, str]) -> Stored:
        """Send once; raises PeerError when the server did not store exactly what was sent."""
        known_before = fid in self._placed
        self._placed[fid] = address
        try:
            reply = await self.wire.exchange("POST", address, f"/{fid}", query, self._token(fid), form)
        except Unreachable:
            if not known_before:
                del self._placed[fid]
            raise
        if reply.status not in _GOOD:
            raise await reply.error()
        stored = parse_stored(address, reply.status, reply.header("ETag"), await reply.json())
        if stored.size is not None and stored.size != form.count:
            raise PeerError(address, f"says that it stored {stored.size} bytes of {form.count}", reply.status)
        if stored.md5 and stored.md5 != form.md5:
            raise PeerError(address, "stored other bytes than were sent: they were damaged on the way", 500)
        return stored

    def _token(self, fid: FileId) -> dict[str, str]:
        return bearer(self._tokens.get(fid, ""))

    async def _drop(self, fids: list[FileId]) -> None:
        """Delete what is not wanted; what cannot be deleted is logged, for the failure before matters more."""

        async def drop(fid: FileId) -> None:
            address = self._placed[fid]
            try:
                reply = await self.wire.exchange("DELETE", address, f"/{fid}", headers=self._token(fid))
                if reply.status not in _GOOD and reply.status != 404:
                    raise await reply.error()
                await reply.json()
            except WeedError as error:
                self._log.warn("{fid} of a try that failed may stay behind: {error}", fid=fid, error=error)
            else:
                del self._placed[fid]

        await each(fids, drop, CHUNKS_AT_ONCE)


def _final(error: WeedError) -> bool:
    """Whether a server refused for good: the request itself is wrong, or too large."""
    if not isinstance(error, PeerError) or error.status is None:
        return False
    return error.status < 500 and error.status not in _ELSEWHERE
