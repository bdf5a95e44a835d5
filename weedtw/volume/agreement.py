"""Making copies of a volume the same again after one of their servers has died.

A server that is killed in the middle of a write leaves it on some copies and not on others, and nobody tells it
afterwards to drop what failed elsewhere.  So a server that has started compares what was changed in its last minute,
and since, with every other copy; both sides then take over what is newer on the other.  What was acknowledged is on
all copies, so that takes nothing from anybody; what failed was undone by a newer record, and so is undone here too;
and of what had no answer the newest counts.

This is done a few times in the first minute, for the other side may still be at undoing.  Until the first time the
volume is not vacuumed: that would forget deletions which the other copy has yet to hear of.

    GET  /admin/volume/changes?volume=&since=       {"now": ns, "changes": [[key, cookie, size, crc, ns], …]}
                                    or &keys=1,2    of those keys, whenever they were changed; for `agree` as well
    GET  /admin/volume/needle?volume=&key=          the record as it is in the .dat
    POST /admin/volume/agree?volume=&with=&since=   take over what is newer there: {"changed": 1}
    POST /admin/volume/heal?volume=&key=&with=      take one damaged file from there: {"healed": true}
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import BadRequest, Damaged, PeerError, StorageError, WeedError
from weedtw.formats.needle import unpack
from weedtw.http.agent import PeerAgent
from weedtw.storage.changes import Change, changes_of, changes_since, state_of
from weedtw.storage.soundness import is_sound
from weedtw.storage.store import Store
from weedtw.storage.volume import Volume
from weedtw.volume.contents import Run
from weedtw.volume.replicate import Replicator

DELAYS: Final = (1.0, 2.0, 4.0, 15.0, 40.0)  # seconds before each comparison, from the start or from the one before
RETRY: Final = 2.0  # seconds after these until a copy is asked that could not be; then twice as long, and so on
LONGEST: Final = 30.0  # seconds
MARGIN: Final = 60 * 10**9  # nanoseconds before a server's last change that are compared too: clocks differ
SETTLED: Final = 2 * 10**9  # nanoseconds for which a change is left to the write that it is part of
_MOST: Final = 64 << 20  # bytes of an answer
_TIMEOUT: Final = 30.0  # seconds for an answer


@attrs.define(eq=False)
class Agreement:
    """Compares this server's volumes with their other copies after a start."""

    log = Logger()

    store: Store
    run: Run
    peers: PeerAgent
    replicator: Replicator
    clock: IReactorTime
    mended: int = attrs.field(default=0, init=False)  # needles taken over from another copy
    _since: dict[int, int] = attrs.field(factory=dict, init=False)  # by volume: unix nanoseconds
    _working: Deferred[None] | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Begin with the volumes that are here now and have other copies."""
        for volume in self.store.volumes():
            if volume.replication.copies > 1 and volume.version == 3:
                self._since[volume.id] = max(0, volume.generation.last_append_at_ns - MARGIN)
                volume.is_compared = False
        self._working = Deferred.fromCoroutine(self._work())
        self._working.addErrback(self._ended)

    def stop(self) -> None:
        """Compare no more."""
        working, self._working = self._working, None
        if working is not None:
            working.cancel()

    def _ended(self, failure: Failure) -> None:
        if self._working is not None:
            self.log.failure("while comparing copies", failure)

    async def _work(self) -> None:
        waiting = set(self._since)
        for delay in DELAYS:
            await deferLater(self.clock, delay)
            await self._round(set(self._since), waiting)
        pause = RETRY
        while waiting:
            await deferLater(self.clock, pause)
            pause = min(2 * pause, LONGEST)
            await self._round(set(waiting), waiting)

    async def _round(self, volume_ids: set[int], waiting: set[int]) -> None:
        """Compare these volumes; those that could be leave `waiting`."""
        for volume_id in sorted(volume_ids):
            if await self._compare(volume_id):
                waiting.discard(volume_id)

    async def _compare(self, volume_id: int) -> bool:
        """Have all copies of one volume agree; whether all could be asked."""
        volume = self.store.at_hand(volume_id)
        if volume is None or volume.closed:
            return True
        try:
            others = await self.replicator.others(volume_id, volume.replication.copies)
            for other in others:
                await self._follow(volume, other, self._since[volume_id])
                query = {"volume": volume_id, "with": self.replicator.address, "since": self._since[volume_id]}
                await self.peers.post_json(other, "/admin/volume/agree", query, timeout=_TIMEOUT)
        except PeerError as error:
            if error.status is None or error.status >= 500:
                return False
            self.log.warn("volume {id} is not compared with its copies: {reason}", id=volume_id, reason=str(error))
        except (BadRequest, StorageError) as error:
            self.log.warn("volume {id} is not compared with its copies: {reason}", id=volume_id, reason=str(error))
        except WeedError:
            return False  # a copy, or the master, is not there yet
        volume.is_compared = True
        return True

    async def follow(self, volume: Volume, other: str, since_ns: int, keys: Sequence[int] = ()) -> int:
        """Take over what is newer in the copy at `other`, or only of those keys; return how much.

        Raises BadRequest when that has no copy, Unavailable, PeerError and StorageError.
        """
        if other not in await self.replicator.others(volume.id, volume.replication.copies):
            raise BadRequest(f"{other[:100]} has no copy of volume {volume.id}")
        return await self._follow(volume, other, since_ns, keys)

    async def heal(self, volume: Volume, other: str, key: int) -> bool:
        """Take a needle that is damaged here from the copy at `other`; False when it is not damaged, or not there.

        Raises as `follow` does.
        """
        if other not in await self.replicator.others(volume.id, volume.replication.copies):
            raise BadRequest(f"{other[:100]} has no copy of volume {volume.id}")
        generation = volume.generation
        place = generation.needles.get(key)
        if place is None or await self.run(is_sound, generation, key, place):
            return False
        return await self._take_over(volume, other, Change(key, 0, 0, 0, 0, place), Change(key, 0, 0, 0, 0))

    async def _follow(self, volume: Volume, other: str, since_ns: int, keys: Sequence[int] = ()) -> int:
        query = {"volume": volume.id, "since": since_ns, "keys": ",".join(map(str, keys)) or None}
        answer = await self.peers.get_json(other, "/admin/volume/changes", query, timeout=_TIMEOUT, limit=_MOST)
        settled, theirs = _parsed(other, answer)
        ours: Mapping[int, Change] = await (
            self.run(changes_of, volume, keys) if keys else self.run(changes_since, volume, since_ns)
        )
        changed = 0
        for their in theirs:
            if their.append_at_ns > settled:
                continue
            our = ours.get(their.key) or await self.run(state_of, volume, their.key)
            if not our.is_like(their) and our.append_at_ns < their.append_at_ns:
                changed += await self._take_over(volume, other, our, their)
        return changed

    async def _take_over(self, volume: Volume, other: str, our: Change, their: Change) -> bool:
        needle = None
        if their.size >= 0:
            query = {"volume": volume.id, "key": their.key}
            response = await self.peers.request("GET", other, "/admin/volume/needle", query, timeout=_TIMEOUT)
            record = await response.read(_MOST << 2)
            if response.status != 200:
                return False  # deleted since: the next comparison sees it
            try:
                needle = unpack(memoryview(record), volume.version, path=other)
            except Damaged as error:
                self.log.warn("volume {id}: {reason}", id=volume.id, reason=str(error))
                return False
            if needle.key != their.key or volume.has_expired(needle):
                return False
        done: bool = await self.run(volume.take_over, their.key, our.place, needle)
        if done:
            self.mended += 1
            self.log.warn(
                "volume {id}: needle {key} was not as on {other}, and {what}",
                id=volume.id,
                key=f"{their.key:x}",
                other=other,
                what="is deleted" if needle is None else "is taken from there",
            )
        return done


def _parsed(other: str, answer: Mapping[str, Any]) -> tuple[int, list[Change]]:
    """Up to when changes count, and the changes; raises PeerError."""
    try:
        return int(answer["now"]) - SETTLED, [Change.parse(value) for value in answer["changes"]]
    except (KeyError, TypeError, ValueError) as error:
        raise PeerError(other, f"the changes that it tells make no sense: {error}", 400) from error
