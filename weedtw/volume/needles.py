"""What writing and deleting a file does, on this server and on the other copies; free of HTTP.

Calls of storage run in threads.  A write that has begun is to be awaited to its end, whatever becomes of the
client: half of the copies with it and half without is what must not be.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from weedtw.errors import (
    BadManifest,
    BadRequest,
    CookieMismatch,
    Damaged,
    NeedleNotFound,
    StorageError,
    TooLarge,
    VolumeNotFound,
)
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import Needle, etag, known_part
from weedtw.storage.brisk import Appended
from weedtw.storage.fileops import Buffer
from weedtw.storage.undo import Undo
from weedtw.storage.volume import Volume, Written
from weedtw.volume.brisk import Brisk
from weedtw.volume.chunks import Chunks, read_manifest
from weedtw.volume.contents import Content, Run
from weedtw.volume.copies import Order, Step, new_write_id
from weedtw.volume.fanout import Fanout
from weedtw.volume.lane import Lanes
from weedtw.volume.locks import KeyLocks
from weedtw.volume.manifest import Manifest
from weedtw.volume.record import Opened, open_record
from weedtw.volume.replicate import Replicator, settled
from weedtw.volume.tickets import Tickets
from weedtw.volume.upload import Offer, Settled, make_needle, settle

SMALL = 8 * 1024  # bytes; so few are digested and compressed on the spot
_CHUNKS_AT_ONCE = 8  # chunks of one file that are deleted at the same time


@attrs.frozen
class Stored:
    """What became of an upload."""

    etag: str  # eight hexadecimal digits
    size: int  # bytes of content
    unchanged: bool  # every copy had the very same already
    undo: str = ""  # for the server that replicates


class Done(NamedTuple):
    """A write or delete that was done here, and how it is undone."""

    result: object  # Written, or the size that was deleted
    undo: Callable[[], Awaitable[None]]


@attrs.define(eq=False)
class Needles:
    """Writes and deletes; `limit` is the most bytes of content that a file may have."""

    log = Logger()

    find: Callable[[int], Volume]  # raises VolumeNotFound
    run: Run
    replicator: Replicator
    chunks: Chunks
    identity: Callable[[Opened], Awaitable[Content]]
    clock: IReactorTime
    now: Callable[[], float]  # the time of day, unix seconds
    limit: int
    fsync: bool = False
    brisk: Brisk | None = None  # None: every write is a thread's
    _locks: KeyLocks = attrs.field(factory=KeyLocks, init=False)
    _tickets: Tickets[Done] = attrs.field(init=False)
    _lanes: Lanes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tickets = Tickets(self.clock)
        self._lanes = Lanes(self.replicator.copies.hops)

    # ------------------------------------------------------------- whose turn it is

    async def orderer(self, file_id: FileId) -> str | None:
        """The address of the copy that puts changes of this file in order; None when this server may.

        Two servers that change a file at the same time would leave its copies different, each with the change that
        reached it last.  So what is, or was, there is changed through one copy only, the one with the lowest address.
        New files are written through any: an id is given to one client.  Raises VolumeNotFound, Unavailable.
        """
        volume = self.find(file_id.volume_id)
        copies = volume.replication.copies
        if copies == 1 or not volume.knows(file_id.key):
            return None
        others = await self.replicator.others(volume.id, copies)
        first = min((self.replicator.address, *others))
        return None if first == self.replicator.address else first

    # ------------------------------------------------------------- writing

    async def write(self, file_id: FileId, offer: Offer) -> Stored:
        """Store a file on every copy; raises VolumeNotFound when it is not for this server, and all a write may."""
        volume = self.find(file_id.volume_id)
        settled = await self._settled(offer)
        needle = make_needle(file_id, offer, settled, self.now())
        fsync = offer.fsync or self.fsync
        time_given = offer.modified is not None and offer.time_given

        async def own() -> Done:
            return await self._write_here(volume, needle, fsync=fsync, time_given=time_given)

        copies = volume.replication.copies
        if offer.is_replica or copies == 1:
            done = await (self._tickets.do(offer.write_id, own) if offer.write_id else own())
            unchanged = True
        else:
            others = await self.replicator.others(volume.id, copies)
            async with self._locks.hold((volume.id, file_id.key)):
                done, results = await self.replicator.write(
                    others, file_id, needle, fsync=fsync, time_given=time_given, own=Step(own, _undo_own)
                )
            unchanged = all(result.unchanged for result in results)
        written = done.result
        assert isinstance(written, Written)
        return Stored(written.etag, settled.plain_size, written.unchanged and unchanged, str(written.undo or ""))

    async def _settled(self, offer: Offer) -> Settled:
        if len(offer.data) <= SMALL and not offer.is_gzipped:
            return settle(offer, self.limit)
        settled = await self.run(settle, offer, self.limit)
        assert isinstance(settled, Settled)
        return settled

    async def _write_here(self, volume: Volume, needle: Needle, *, fsync: bool, time_given: bool) -> Done:
        written = None if fsync else self._at_once(volume, needle)
        if written is None:
            written = await self.run(volume.write, needle, fsync=fsync, time_given=time_given)
        return self._done(volume, written, fsync)

    def _at_once(self, volume: Volume, needle: Needle) -> Written | None:
        """Write a small new file here and now, if that can be."""
        known = known_part(needle)
        if self.brisk is None or known is None:
            return None
        appended = self.brisk.write(volume, needle.key, needle.cookie, needle.data, known)
        return None if appended is None else _written(appended, needle.key, needle.cookie)

    def begin_write(
        self, volume: Volume, order: Order, known: bytes, ended: Callable[[BaseException | None], None]
    ) -> Written | None:
        """Write a small new file of a replicated volume: here now, on the other copies meanwhile.

        `ended` is called, maybe before this returns, when all have it, or with what went wrong.  None, and nothing is
        done, when `write` must do it.  Raises what a write here raises.
        """
        copies = volume.replication.copies
        others = self.replicator.others_at_hand(volume.id)
        file_id = order.file_id
        key = (volume.id, file_id.key)
        if self.brisk is None or self.fsync or len(others) < copies - 1 or not self._locks.try_take(key):
            return None
        appended: Appended | None = None
        try:
            appended = self.brisk.write(volume, file_id.key, file_id.cookie, order.body, known)
        finally:
            if appended is None:
                self._locks.give(key)
        if appended is None:
            return None
        written = _written(appended, file_id.key, file_id.cookie)

        def over(error: BaseException | None) -> None:
            self._locks.give(key)
            ended(error)

        Fanout(self.replicator, self._lanes, order, self._done(volume, written, False), _undo_own, over).begin(others)
        return written

    def write_replica_at_once(
        self, volume: Volume, key: int, cookie: int, data: Buffer, known: bytes, write_id: str
    ) -> Written | None:
        """A write that another copy's server asks for, if it can be done here and now; raises what a write does."""
        if self.brisk is None or self.fsync or self._tickets.is_known(write_id):
            return None
        appended = self.brisk.write(volume, key, cookie, data, known)
        if appended is None:
            return None
        written = _written(appended, key, cookie)
        self._tickets.done(write_id, self._done(volume, written, False))
        return written

    def _done(self, volume: Volume, written: Written, fsync: bool) -> Done:
        return Done(written, partial(self._undo, volume, written, fsync))

    async def _undo(self, volume: Volume, written: Written, fsync: bool) -> None:
        if written.undo is not None:
            await self.run(volume.revert, written.undo, fsync=fsync)

    # ------------------------------------------------------------- deleting

    async def delete(
        self,
        file_id: FileId,
        *,
        fsync: bool = False,
        is_replica: bool = False,
        with_chunks: bool = True,
        write_id: str = "",
    ) -> int | None:
        """Delete a file from every copy, and the chunks of one in chunks; return the bytes of content it had.

        None when no copy had it.  Raises VolumeNotFound, CookieMismatch, Unavailable, ReplicationFailed, and what
        storage raises.
        """
        volume = self.find(file_id.volume_id)
        fsync = fsync or self.fsync
        size, manifest = await self._what_is_there(volume, file_id)
        if manifest is not None and with_chunks and not is_replica:
            await self._delete_chunks(manifest)

        async def own() -> Done:
            return await self._delete_here(volume, file_id, size, fsync=fsync)

        copies = volume.replication.copies
        if is_replica or copies == 1:
            done = await (self._tickets.do(write_id, own) if write_id else own())
            elsewhere = 0
        else:
            others = await self.replicator.others(volume.id, copies)
            async with self._locks.hold((volume.id, file_id.key)):
                done, results = await self.replicator.delete(others, file_id, fsync=fsync, own=Step(own, _undo_own))
            elsewhere = max(result.size for result in results)
        here = done.result
        assert here is None or isinstance(here, int)
        return here if here is not None else elsewhere or None

    def delete_at_once(self, volume: Volume, file_id: FileId, record_size: int, size: int, write_id: str) -> bool:
        """Delete a file from this copy only, if it can be done here and now; False, and nothing is done, if not.

        `record_size` is the size field of its record, `size` its bytes of content, and `write_id` the name that
        another copy's server gave this, empty if it was a client.  Raises what a delete does.
        """
        if self.brisk is None or self.fsync or (write_id and self._tickets.is_known(write_id)):
            return False
        if not self.brisk.delete(volume, file_id.key, file_id.cookie, record_size):
            return False
        if write_id:
            self._tickets.done(write_id, self._deleted(volume, file_id, size))
        return True

    def begin_delete(
        self,
        volume: Volume,
        file_id: FileId,
        record_size: int,
        size: int,
        ended: Callable[[BaseException | None], None],
    ) -> bool:
        """The same on all copies of a replicated volume, as `begin_write` does it; `ended` comes after True."""
        others = self.replicator.others_at_hand(volume.id)
        key = (volume.id, file_id.key)
        if len(others) < volume.replication.copies - 1 or min(others) < self.replicator.address:
            return False  # another copy puts changes in order, see `orderer`
        if not self._locks.try_take(key):
            return False
        done = False
        try:
            done = self.delete_at_once(volume, file_id, record_size, size, "")
        finally:
            if not done:
                self._locks.give(key)
        if not done:
            return False

        def over(error: BaseException | None) -> None:
            self._locks.give(key)
            ended(error)

        order = Order.delete(file_id, new_write_id(), fsync=False)
        own = self._deleted(volume, file_id, size)
        Fanout(self.replicator, self._lanes, order, own, _undo_own, over).begin(others)
        return True

    async def _delete_here(self, volume: Volume, file_id: FileId, size: int, *, fsync: bool) -> Done:
        deleted = await self.run(volume.delete, file_id.key, file_id.cookie, fsync=fsync)
        return self._deleted(volume, file_id, None if deleted is None else size)

    def _deleted(self, volume: Volume, file_id: FileId, size: int | None) -> Done:
        async def undo() -> None:
            if size is not None:
                await self.run(_restore, volume, file_id)

        return Done(size, undo)

    async def _what_is_there(self, volume: Volume, file_id: FileId) -> tuple[int, Manifest | None]:
        """(bytes of content, the manifest of a file in chunks); the size stored when the content is unreadable."""
        try:
            opened = await open_record(volume, file_id, self.run)
        except NeedleNotFound:
            return 0, None
        except Damaged:
            return 0, None  # it can be deleted all the same
        try:
            content = await self.identity(opened)
            if not opened.needle.is_manifest:
                return content.size, None
            manifest = await read_manifest(content, self.run)
        except (StorageError, TooLarge, BadManifest) as error:
            self.log.warn("{fid} is deleted though {reason}", fid=str(file_id), reason=str(error))
            return opened.stored.size, None
        return manifest.size, manifest

    async def _delete_chunks(self, manifest: Manifest) -> None:
        """Delete all chunks; raises what the first that failed raised, when all have been tried."""
        chunks = iter(manifest.chunks)
        failures: list[Exception] = []

        async def take_turns() -> None:
            for chunk in chunks:  # shared: each takes the next
                try:
                    await self._delete_chunk(chunk.file_id)
                except Exception as error:  # noqa: BLE001 - raised below
                    failures.append(error)

        await settled([take_turns() for _ in range(_CHUNKS_AT_ONCE)])
        if failures:
            raise failures[0]

    async def _delete_chunk(self, file_id: FileId) -> None:
        try:
            self.find(file_id.volume_id)
        except VolumeNotFound:
            await self.chunks.delete_remote(file_id)
            return
        try:
            await self.delete(file_id, with_chunks=False)  # manifests that name each other must not go in circles
        except CookieMismatch:
            self.log.warn("{fid} is not a chunk: its cookie is another", fid=str(file_id))

    # ------------------------------------------------------------- taking back

    async def take_back(self, file_id: FileId, write_id: str, undo_text: str) -> bool:
        """Undo what another server asked of this copy under `write_id`; False when there was nothing to undo.

        `undo_text` names the write for a server that was started anew since.  Raises BadRequest.
        """
        if await self._tickets.take_back(write_id, lambda done: done.undo()):
            return True
        if not undo_text:
            return False
        undo = Undo.parse(undo_text)
        if (undo.key, undo.cookie) != (file_id.key, file_id.cookie):
            raise BadRequest("the write to be undone is another file's")
        reverted = await self.run(self.find(file_id.volume_id).revert, undo, fsync=self.fsync)
        return bool(reverted)


def _written(appended: Appended, key: int, cookie: int) -> Written:
    return Written(appended.offset, appended.size, etag(appended.checksum), undo=appended.undo(key, cookie))


async def _undo_own(outcome: object) -> None:
    if isinstance(outcome, Done):
        await outcome.undo()


def _restore(volume: Volume, file_id: FileId) -> None:
    """Store again what was deleted, unless the key has been written since."""
    if not volume.has(file_id.key):
        needle = volume.read(file_id.key, file_id.cookie, read_deleted=True)
        volume.write(needle)
