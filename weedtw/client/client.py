"""The client: one object that knows the masters, and every operation on files as a coroutine."""

import mimetypes
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from weedtw.client.agreement import Agreement
from weedtw.client.answers import Assignment, FileInfo, Location, VolumeTail, parse_tail
from weedtw.client.assign import Placement, assign
from weedtw.client.beliefs import ask_all
from weedtw.client.contents import Content, open_content
from weedtw.client.files import Files
from weedtw.client.lookups import Lookups
from weedtw.client.masters import Masters
from weedtw.client.parts import Part
from weedtw.client.patience import Patience
from weedtw.client.reading import Reading
from weedtw.client.receiver import Write
from weedtw.client.saving import Saving, safe_name
from weedtw.client.status import ClusterStatus, cluster_status
from weedtw.client.uploads import Upload, Uploaded
from weedtw.client.wire import Wire
from weedtw.config.security import NO_SECURITY, SecurityConfig
from weedtw.formats.fileid import FileId
from weedtw.http.agent import PeerAgent, make_agent

PATIENCE: Final = 30.0  # seconds for which an operation is tried again
ANSWER: Final = 10.0  # seconds to wait for the head of an answer
IDLE: Final = 30.0  # seconds without a byte after which a transfer is given up
READ_LIMIT: Final = 256 * 1024 * 1024  # bytes that `read` holds in memory unless told otherwise
_CONNECT: Final = 5.0  # seconds
_TAIL_LIMIT: Final = 64 * 1024 * 1024  # bytes; servers give less at once
_CHANGED_WITHIN: Final = 15.0  # seconds; the leader itself gives up sooner

_TYPES: Final = mimetypes.MimeTypes()  # the standard library's own table, whatever this host's says


class Client:
    """Stores, reads and deletes files in a cluster.

    `masters` are addresses of the form "host:port"; one that works is enough, the others are learned from it, and
    every question goes to the leader first.  `reactor` gives sockets, threads and, unless `clock` does, the time.
    Whatever may safely be asked twice is tried again, with growing waits, for `patience` seconds when servers cannot
    be reached or say 503.  `public` addresses the volume servers as they are known outside the cluster.

    Every operation raises a WeedError: NotFound (VolumeNotFound, NeedleNotFound), Unavailable when it may succeed
    later, PeerError when a server refused it or failed, BadRequest for arguments that nobody would take.
    """

    def __init__(
        self,
        masters: Iterable[str],
        reactor: Any,
        *,
        agent: IAgent | None = None,
        clock: IReactorTime | None = None,
        patience: float = PATIENCE,
        answer_timeout: float = ANSWER,
        idle_timeout: float = IDLE,
        public: bool = False,
        security: SecurityConfig = NO_SECURITY,
    ) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = clock or reactor
        self._patience = patience
        self._public = public
        self._own: PeerAgent | None = None
        if agent is None:
            self._own = make_agent(reactor, connect_timeout=_CONNECT, security=security)
            agent = self._own.agent
        self._wire = Wire(agent, self._clock, answer_timeout, idle_timeout)
        self._masters = Masters.at(masters, self._wire, self._clock, patience)
        self._lookups = Lookups(self._masters, self._clock)
        self._files = Files(self._lookups, self._wire, self._clock, patience, public)

    async def close(self) -> None:
        """Close the connections that are kept for the next request."""
        if self._own is not None:
            await self._own.close()

    async def assign(self, count: int = 1, placement: Placement | None = None) -> Assignment:
        """Reserve `count` file ids on one volume, to be written by POST or PUT to the server named."""
        return await assign(self._masters, placement or Placement(), count)

    async def lookup(self, volume_id: int) -> tuple[Location, ...]:
        """Return the servers that hold a volume, remembered for a minute or until one of them denies it."""
        return await self._lookups.find(volume_id)

    async def upload(
        self,
        content: Content,
        *,
        name: str | None = None,
        mime: str = "",
        placement: Placement | None = None,
        max_bytes: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Uploaded:
        """Store bytes, a file given by its path (str or PathLike), a binary file object, or an iterator of bytes.

        `name` is the file's own unless given; `mime` is guessed from it.  Content longer than `max_bytes` (0: any) is
        stored in chunks of that length.  `progress` is told of bytes as they move, and of a negative number when some
        have to move again.  When it fails, nothing of it stays in the cluster.

        What comes only once (an iterable of bytes, an async one, a file object that cannot be sought in, such as a
        pipe) is read as it is sent, and memory holds three chunks of it, of 4 MiB when `max_bytes` is 0.  An iterator
        or a file that blocks is read in a thread of its own.  When it raises something, StorageError says so; one
        that was not read to its end is closed, a file object never is.
        """
        cuts = open_content(content, self._reactor, max_bytes)
        try:
            called = cuts.name if name is None else name
            return await Upload(
                self._masters,
                self._wire,
                self._clock,
                self._patience,
                cuts,
                called,
                mime or guess_type(called),
                placement or Placement(),
                progress or _ignore,
                self._public,
            ).run()
        finally:
            await cuts.close()

    async def head(self, fid: FileId | str) -> FileInfo:
        """Return a file's name, type, size and ETag."""
        return await self._files.head(_parsed(fid))

    async def read(self, fid: FileId | str, limit: int = READ_LIMIT) -> bytes:
        """Return a file's content; raises AnswerTooLarge beyond `limit` bytes."""
        return await self._files.read(_parsed(fid), limit)

    async def stream(
        self, fid: FileId | str, write: Write, begin: Callable[[FileInfo], Awaitable[None] | None] | None = None
    ) -> FileInfo:
        """Give a file's content to `write` piece by piece; see `Files.stream`."""
        return await self._files.stream(_parsed(fid), write, begin)

    def open(self, fid: FileId | str, start: int = 0, stop: int | None = None) -> Reading:
        """Return a file's content as an async iterator of bytes: from `start` up to, without, `stop` (None: the end).

        Nothing is asked before it is begun with, which then raises what is wrong: as `stream`, and
        RangeNotSatisfiable when the file is not longer than `start`.
        """
        parsed, part = _parsed(fid), Part(start, stop)
        return Reading(lambda write, begin: self._files.stream(parsed, write, begin, part), self._reactor)

    async def download(
        self,
        fid: FileId | str,
        folder: str,
        *,
        name: str = "",
        overwrite: bool = False,
        begin: Callable[[FileInfo], None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[str, FileInfo]:
        """Save a file in `folder` under a safe form of its stored name, or its id; return the path and what it is.

        `name` is another name for it there, which is taken as it is.  It appears when the file is complete and on
        disk, never before.  Raises StorageError when the name is taken, unless `overwrite`, and when the disk does
        not take the content.
        """
        parsed = _parsed(fid)
        saving: Saving | None = None

        def open_file(info: FileInfo) -> None:
            nonlocal saving
            called = name or safe_name(info.name, str(parsed))
            saving = Saving.create(folder, called, self._reactor, overwrite=overwrite)
            if begin is not None:
                begin(info)

        async def write(piece: bytes) -> None:
            assert saving is not None
            await saving.write(piece)
            if progress is not None:
                progress(len(piece))

        try:
            info = await self._files.stream(parsed, write, open_file)
        except Exception:
            if saving is not None:
                await saving.drop()
            raise
        assert saving is not None
        return await saving.keep(), info

    async def delete(self, fid: FileId | str) -> int:
        """Delete a file from all its copies; return the size the server names, in bytes."""
        return await self._files.delete(_parsed(fid))

    async def status(self) -> ClusterStatus:
        """Return the masters, the volume servers and the volumes, as the leader sees them."""
        return await cluster_status(self._masters)

    async def agreement(
        self,
        hints: Iterable[str] = (),
        until: Callable[[Agreement], object] | None = None,
        patience: float = 0.0,
    ) -> Agreement:
        """Ask every master what it believes of the cluster.

        They are asked again and again `until` that is so, for `patience` seconds at most; those at the addresses in
        `hints` as well, if there are any.  Nothing is raised for a master that does not answer: it is told of.
        """
        waits = Patience(self._clock, patience, random.random)
        while True:
            agreement = Agreement(await ask_all(self._wire, self._masters.known, hints))
            if until is None or until(agreement) or not await waits.wait():
                return agreement

    async def change_masters(self, master: str, what: str, query: Mapping[str, str]) -> None:
        """Have a master `add`, `remove` or `rename` another one, or `transfer` the lead; any hands it to the leader.

        It is asked once: when no answer comes, what became of it has to be looked at.  `query` is as docs/http_api.md
        has it.  Raises Unavailable when it may be possible later, PeerError.
        """
        reply = await self._wire.exchange("POST", master, f"/cluster/{what}", query, within=_CHANGED_WITHIN)
        if reply.status >= 300:
            raise await reply.error()
        await reply.json()

    async def volume_tail(self, volume_id: int, offset: int) -> VolumeTail:
        """Return some megabytes of a volume's data from `offset` on, fewer at its end, and what they are a piece of.

        Raises VolumeNotFound, PeerError, Unavailable.
        """
        [location, *_] = await self._lookups.find(volume_id)
        query = {"volume": str(volume_id), "offset": str(offset)}
        reply = await self._wire.exchange("GET", location.url, "/admin/volume/tail", query)
        if reply.status != 200:
            raise await reply.error()
        return parse_tail(location.url, await reply.body(_TAIL_LIMIT), reply.header)

    async def topology(self) -> Any:
        """Return the leader's `/dir/status`, as JSON gave it."""
        _, answer = await self._masters.ask("/dir/status", {})
        return answer


def guess_type(name: str) -> str:
    """Return the content type that a name's extension stands for, "" when none does."""
    kind, encoding = _TYPES.guess_type(os.path.basename(name), strict=True)
    if encoding is not None:
        return "application/gzip" if encoding == "gzip" else ""
    return kind or ""


def _parsed(fid: FileId | str) -> FileId:
    return fid if isinstance(fid, FileId) else FileId.parse(fid)


def _ignore(_moved: int) -> None:
    """Take no notice."""
