"""What volume servers are asked about their copies of a volume, and to do with them."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from weedtw.client.surplus import Change, parse_changes
from weedtw.client.wire import Wire
from weedtw.errors import PeerError, WeedError
from weedtw.formats.idx import unpack_rows

Progress = Callable[[int, int], None]  # told of the bytes that have come, and of how many there are

LONG: Final = 24 * 3600.0  # seconds for a volume to be copied
SUM_WITHIN: Final = 3600.0  # seconds to read a volume through
POLL: Final = 0.5  # seconds
_REMEMBERED: Final = 15.0  # seconds, more than a volume server remembers where copies are
_SAME: Final = ("size", "indexSize", "revision", "sum")
_MOST_ROWS: Final = 1 << 32  # bytes


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two copies, as `Copies.check` has them, are the same to the byte."""
    return all(one[name] == other[name] for name in _SAME)


@attrs.frozen(eq=False)
class Copies:
    """Asks the volume servers of one cluster; everything raises WeedError."""

    wire: Wire
    reactor: Any

    async def post(
        self, server: str, path: str, volume_id: int, query: dict[str, str] | None = None, within: float = 30.0
    ) -> Any:
        """Ask a volume server to do something to a volume; raises WeedError."""
        asked = {"volume": str(volume_id), **(query or {})}
        reply = await self.wire.exchange("POST", server, path, asked, within=within)
        if reply.status >= 300:
            raise await reply.error()
        return await reply.json()

    async def release(self, server: str, volume_id: int, state: dict[str, Any]) -> None:
        """Delete the copy on a server if it still is as `state` says."""
        query = {name: str(state[name]) for name in _SAME[:-1]}
        await self.post(server, "/admin/copy/release", volume_id, query, within=60.0)

    async def state(self, server: str, volume_id: int) -> Any:
        """What the copy on a server is; None when it has none."""
        try:
            return await self.wire.json(server, "/admin/copy/state", {"volume": str(volume_id)})
        except PeerError as error:
            if error.status == 404:
                return None
            raise

    async def take(
        self, volume_id: int, source: str, target: str, progress: Progress | None, *, mount: bool = True
    ) -> None:
        """Have `target` fetch the copy of `source`, and serve it unless it is not to `mount` it."""

        async def look() -> None:
            answer = await self.wire.json(target, "/admin/copy/progress", {"volume": str(volume_id)}, within=5.0)
            if progress is not None and answer.get("size"):
                progress(int(answer["bytes"]), int(answer["size"]))

        def not_seen(failure: Failure) -> None:
            failure.trap(WeedError)  # the copying itself tells what is wrong

        loop = LoopingCall(lambda: Deferred.fromCoroutine(look()).addErrback(not_seen))
        loop.clock = self.reactor
        if progress is not None:
            loop.start(POLL, now=False)
        try:
            query = {"from": source, "mount": "true" if mount else "false"}
            await self.post(target, "/admin/copy/take", volume_id, query, within=LONG)
        finally:
            if loop.running:
                loop.stop()

    async def agree(self, volume_id: int, first: str, second: str, since: int, keys: Iterable[int] = ()) -> int:
        """Have both servers take over what is newer on the other; how many files were.

        Only what changed since that time (unix nanoseconds); of `keys` only, if there are some.
        """
        keys, changed = list(keys), 0
        for one, other in ((second, first), (first, second)):
            changed += await self._follow(volume_id, one, other, since, keys)
        return changed

    async def _follow(self, volume_id: int, one: str, other: str, since: int, keys: Iterable[int]) -> int:
        """Have one server take over what is newer on the other.

        It remembers for a while where copies are: one that has just come is not known to it at once.
        """
        named = ",".join(map(str, keys))
        query = {"with": other, "since": str(max(1, since)), **({"keys": named} if named else {})}
        until = self.reactor.seconds() + _REMEMBERED
        while True:
            try:
                answer = await self.post(one, "/admin/volume/agree", volume_id, query, within=600.0)
                return int(answer.get("changed", 0))
            except PeerError as error:
                if error.status != 400 or "has no copy of volume" not in error.reason:
                    raise
                if self.reactor.seconds() > until:
                    raise
            await deferLater(self.reactor, 1.0)

    async def check(self, server: str, volume_id: int) -> dict[str, Any]:
        """What the copy on a server is, with the sum of all its bytes, see `is_same`."""
        query = {"volume": str(volume_id), "sum": "true"}
        state: dict[str, Any] = await self.wire.json(server, "/admin/copy/state", query, within=SUM_WITHIN)
        return state

    async def changes(self, server: str, volume_id: int) -> dict[int, Change]:
        """The last change of every file of the copy on a server, by key."""
        query = {"volume": str(volume_id), "since": "0"}
        try:
            return parse_changes(await self.wire.json(server, "/admin/volume/changes", query, within=SUM_WITHIN))
        except (KeyError, TypeError, ValueError) as error:
            raise PeerError(server, f"the changes that it tells make no sense: {error!r}") from error

    async def damaged(self, server: str, volume_id: int) -> list[int]:
        """The keys of the files that are not as they were written in the copy on a server, which reads it all."""
        query = {"volume": str(volume_id)}
        answer = await self.wire.json(server, "/admin/volume/damaged", query, within=SUM_WITHIN)
        return list(map(int, answer["keys"]))

    async def live(self, server: str, volume_id: int) -> dict[int, int]:
        """The size of each file that is there, by key."""
        reply = await self.wire.exchange("GET", server, "/admin/volume/index", {"volume": str(volume_id)})
        if reply.status != 200:
            raise await reply.error()
        width = int(reply.header("X-Weedtw-Offset-Width") or 4)
        rows = unpack_rows(await reply.body(_MOST_ROWS), width)
        last = zip(rows.keys.tolist(), rows.offsets.tolist(), rows.sizes.tolist(), strict=True)
        live: dict[int, int] = {}
        for key, offset, size in last:
            if offset and size >= 0:
                live[key] = size
            else:
                live.pop(key, None)
        return live
