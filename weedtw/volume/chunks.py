"""Reading and deleting the chunks behind a manifest, wherever they are.

Chunks of volumes that are here are read from disk, others by HTTP in pieces: ranges of at most PIECE bytes, one
after the other, so that memory stays bounded and a slow client slows the reading.  What goes wrong with a chunk
is told to the client without the addresses of servers; the log has them.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Protocol

import attrs
from twisted.logger import Logger

from weedtw.errors import (
    BadManifest,
    Damaged,
    NotFound,
    NotManifest,
    PeerError,
    Unavailable,
    VolumeNotFound,
    WeedError,
)
from weedtw.formats.fileid import FileId
from weedtw.http.agent import PeerAgent, PeerResponse
from weedtw.http.tokens import Tokens
from weedtw.raft.complaints import Complaints
from weedtw.storage.volume import Volume
from weedtw.volume.contents import Content, Run, gather
from weedtw.volume.locations import Locations
from weedtw.volume.manifest import MAX_MANIFEST, Manifest, Span
from weedtw.volume.record import Opened, open_for_reader

PIECE = 1 << 20  # bytes asked of another server at once
TIMEOUT = 15.0  # seconds for each piece
_PARSED_ON_THE_SPOT = 64 * 1024  # bytes of a manifest; a longer one takes up to seconds


class Volumes(Protocol):
    """The volumes of this server."""

    def find(self, volume_id: int) -> Volume:
        """The volume; raises VolumeNotFound."""


@attrs.frozen(eq=False)
class Chunks:
    """Reaches chunks; `identity` gives the plain content of a file that was opened here."""

    log = Logger()

    address: str  # of this server
    volumes: Volumes
    run: Run
    peers: PeerAgent
    locations: Locations
    identity: Callable[[Opened], Awaitable[Content]]
    tokens: Tokens
    complaints: Complaints

    async def manifest_of(self, opened: Opened) -> Manifest | None:
        """The manifest that a file consists of; None, and a word in the log, when it has not the form of one.

        Raises as `read_manifest`.
        """
        try:
            return await read_manifest(await self.identity(opened), self.run)
        except NotManifest as error:
            what = f"stored as a chunk manifest (cm=true), but read as it is: {error.reason}"
            self.complaints.complain(f"file {opened.file_id}", what)
            return None

    async def pieces(self, span: Span) -> AsyncGenerator[bytes | memoryview, None]:
        """The bytes of the span; raises Unavailable, and BadManifest and Damaged, which name the chunk.

        BadManifest says that the chunk is not what the manifest says, or is damaged elsewhere.
        """
        file_id = span.chunk.file_id
        try:
            source = await self._open(span)
            async with aclosing(source):
                async for piece in source:
                    yield piece
        except NotFound as error:
            reason = str(error.__cause__ or error)  # the answer of a server, if it is not this one
            self.log.warn("chunk {fid} is missing: {reason}", fid=str(file_id), reason=reason)
            raise BadManifest(f"chunk {file_id} is missing") from error
        except Damaged as error:
            self.log.warn("chunk {fid} is damaged here: {reason}", fid=str(file_id), reason=str(error))
            raise Damaged(f"chunk {file_id}", error.reason) from error
        except PeerError as error:
            self.log.warn("chunk {fid} cannot be read: {reason}", fid=str(file_id), reason=str(error))
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                raise BadManifest(f"chunk {file_id} is damaged") from error
            raise Unavailable(f"chunk {file_id} cannot be read now") from error

    async def _open(self, span: Span) -> AsyncGenerator[bytes | memoryview, None]:
        try:
            volume = self.volumes.find(span.chunk.file_id.volume_id)
        except VolumeNotFound:
            return self._remote(span)
        return await self._local(volume, span)

    async def _local(self, volume: Volume, span: Span) -> AsyncGenerator[bytes | memoryview, None]:
        opened = await open_for_reader(volume, span.chunk.file_id, self.run)
        if opened.needle.is_manifest:
            raise BadManifest(f"chunk {span.chunk.file_id} is a manifest itself")
        content = await self.identity(opened)
        _check_size(span, content.size)
        return content.pieces(span.start, span.stop)

    async def _remote(self, span: Span) -> AsyncGenerator[bytes | memoryview, None]:
        for start in range(span.start, span.stop, PIECE):
            yield await self._remote_piece(span, start, min(start + PIECE, span.stop))

    async def _remote_piece(self, span: Span, start: int, stop: int) -> bytes:
        file_id = span.chunk.file_id
        problem: WeedError = VolumeNotFound(file_id.volume_id)
        for location in await self.locations.find(file_id.volume_id):
            if location.url == self.address:
                continue
            try:
                response = await self.peers.request(
                    "GET",
                    location.url,
                    f"/{file_id}",
                    {"cm": "false"},
                    headers={"Range": f"bytes={start}-{stop - 1}", **self.tokens.headers(file_id, writes=False)},
                    timeout=TIMEOUT,
                )
                return await _range_of(response, span, start, stop)
            except PeerError as error:
                problem = error
                self.locations.forget(file_id.volume_id)
        if isinstance(problem, PeerError) and problem.status == 404:
            raise NotFound from problem
        raise problem

    # ------------------------------------------------------------- deleting

    async def delete_remote(self, file_id: FileId) -> None:
        """Delete a chunk of a volume that is not here, on all its copies; one that is gone already is fine.

        Raises Unavailable.
        """
        try:
            locations = await self.locations.find(file_id.volume_id)
        except VolumeNotFound:
            return
        problems: list[str] = []
        for location in locations:
            try:
                response = await self.peers.request(
                    "DELETE",
                    location.url,
                    f"/{file_id}",
                    {"cm": "false"},
                    headers=self.tokens.headers(file_id, writes=True),
                    timeout=TIMEOUT,
                )
                body = await response.read()
            except PeerError as error:
                problems.append(str(error))
                continue
            if response.status < 300 or response.status == 404:
                return
            problems.append(f"{location.url} answered {response.status}: {body[:200].decode('utf-8', 'replace')}")
        self.log.warn("chunk {fid} cannot be deleted: {problems}", fid=str(file_id), problems="; ".join(problems))
        raise Unavailable(f"chunk {file_id} cannot be deleted now; the file and its other chunks may be left")


async def read_manifest(content: Content, run: Run) -> Manifest:
    """The manifest that a file consists of; raises NotManifest, BadManifest, TooLarge, and what reading raises."""
    text = await gather(content, MAX_MANIFEST)
    if len(text) <= _PARSED_ON_THE_SPOT:
        return Manifest.parse(text)
    manifest: Manifest = await run(Manifest.parse, text)
    return manifest


@attrs.frozen(eq=False)
class ChunkedContent:
    """What a manifest stands for."""

    manifest: Manifest
    chunks: Chunks

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return self.manifest.size

    async def pieces(self, start: int, stop: int) -> AsyncGenerator[bytes | memoryview, None]:
        """The bytes [start, stop), across the seams."""
        for span in self.manifest.spans(start, stop):
            async with aclosing(self.chunks.pieces(span)) as pieces:
                async for piece in pieces:
                    yield piece


def _check_size(span: Span, size: int) -> None:
    if size != span.chunk.size:
        raise BadManifest(f"chunk {span.chunk.file_id} has {size} bytes, not {span.chunk.size}")


async def _range_of(response: PeerResponse, span: Span, start: int, stop: int) -> bytes:
    """The body of an answer to a range request; raises PeerError for another answer, BadManifest for another size."""
    if response.status == 416:
        response.drop()
        raise BadManifest(f"chunk {span.chunk.file_id} is shorter than {span.chunk.size} bytes")
    if response.status not in {200, 206}:
        response.drop()
        raise PeerError(response.address, f"answered {response.status}", response.status)
    total = (response.header("Content-Range") or "").rpartition("/")[2]
    if response.status == 206 and total.isascii() and total.isdigit():
        _check_size(span, int(total))
    body = await response.read(PIECE)
    if response.status == 200:
        _check_size(span, len(body))
    if len(body) != stop - start:
        raise PeerError(response.address, f"sent {len(body)} bytes where {stop - start} were asked for")
    return body
