"""The steps by which volumes are copied, moved, deleted, marked and compared, each of which may be run again.

Whoever dies in between, nothing is lost: a copy that comes in is no volume before it is whole and the same as the
other one, and a copy is deleted only when it still is what it was when another one was found to be the same.
"""

import time
from collections.abc import Iterable
from typing import Any, Final

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from weedtw.client.copies import LONG, POLL, Copies, Progress, is_same
from weedtw.client.inventory import Inventory, fetch
from weedtw.client.masters import Masters
from weedtw.client.plans import Step
from weedtw.client.surplus import Change, lacking
from weedtw.client.wire import Wire
from weedtw.config.security import NO_SECURITY, SecurityConfig
from weedtw.errors import ChangeRefused, Unavailable, WeedError
from weedtw.http.agent import PeerAgent, make_agent

TAKEN_UP_WITHIN: Final = 30.0  # seconds for the leader to hear of a copy
_MARGIN: Final = 120 * 10**9  # nanoseconds before a copy was begun that are compared after it
_KEYS_AT_ONCE: Final = 200  # that fit into the line of a request


@attrs.frozen
class Difference:
    """What two copies of a volume do not have in common."""

    volume_id: int
    first: str  # "host:port"
    second: str
    only_first: int  # files
    only_second: int
    unlike: int  # files of another size
    keys: tuple[int, ...] = attrs.field(default=(), eq=False)  # of all of them

    @property
    def count(self) -> int:
        """How many files it is about."""
        return self.only_first + self.only_second + self.unlike


@attrs.define(eq=False)
class Volumes:
    """Works on the volumes of one cluster."""

    masters: Masters
    wire: Wire
    reactor: Any
    own: PeerAgent | None = None
    copies: Copies = attrs.field(init=False)

    @copies.default
    def _ask(self) -> Copies:
        return Copies(self.wire, self.reactor)

    @classmethod
    def at(
        cls, masters: Iterable[str], reactor: Any, patience: float = 15.0, security: SecurityConfig = NO_SECURITY
    ) -> "Volumes":
        """With connections of its own; raises BadRequest for what is no address."""
        agent = make_agent(reactor, connect_timeout=3.0, security=security)
        wire = Wire(agent.agent, reactor, 30.0, 60.0)
        return cls(Masters.at(masters, wire, reactor, patience), wire, reactor, agent)

    async def close(self) -> None:
        """Close the connections."""
        if self.own is not None:
            await self.own.close()

    async def inventory(self) -> Inventory:
        """Who holds what, as the leader says; raises Unavailable, PeerError."""
        return await fetch(self.masters)

    async def do(self, step: Step, progress: Progress | None = None) -> str:
        """Carry out one step of a plan; what became of it, in words.  Raises WeedError."""
        if step.drops:
            return await self.remove_surplus(step.volume_id, step.target)
        work = self.move if step.moves else self.add_copy
        return await work(step.volume_id, step.source, step.target, progress)

    # -------------------------------------------------------------- copying

    async def add_copy(self, volume_id: int, source: str, target: str, progress: Progress | None = None) -> str:
        """Make one copy more of a volume that is short of some; what became of it, in words.

        Raises WeedError; what has come by then stays on the target, and is gone on with the next time.
        """
        since = int(time.time() * 1e9) - _MARGIN
        if await self.copies.state(target, volume_id) is None:
            await self.copies.take(volume_id, source, target, progress)
        if not await self._taken_up(volume_id, target):
            found = await self.inventory()
            if (volume_id, target) in found.quarantined:
                await self._release_same(volume_id, source, target)
                return "is not needed: all its copies have come back"
            raise Unavailable(f"{target} has its copy of volume {volume_id}, and the leader has not heard of it yet")
        found = await self.inventory()
        copies = found.copies_of(volume_id)
        if len(copies) >= copies[0][1].replication.copies:
            await self.copies.agree(volume_id, source, target, since)
        return "is there"

    async def move(self, volume_id: int, source: str, target: str, progress: Progress | None = None) -> str:
        """Move a copy from one server to another; what became of it, in words.

        The volume is copied while it is written to; then it takes no more writes, the rest is copied, both are
        compared, and the first is deleted.  Raises WeedError.  When it was interrupted, the same again ends it.
        """
        here, there = await self.copies.state(source, volume_id), await self.copies.state(target, volume_id)
        if here is None:
            if there is None:
                raise ChangeRefused(f"neither {source} nor {target} has a copy of volume {volume_id}")
            return "was moved already"
        if there is not None:
            found = await self.inventory()
            if found.quarantined.isdisjoint({(volume_id, target), (volume_id, source)}):
                raise ChangeRefused(f"{target} has a copy of volume {volume_id} already")
            await self.copies.post(source, "/admin/copy/freeze", volume_id)
        else:
            await self._bring(volume_id, source, target, progress)
        await self._release_same(volume_id, target, source)
        if not await self._taken_up(volume_id, target, one_too_many=False):
            raise Unavailable(f"volume {volume_id} is on {target}, and the leader has not heard of it yet")
        return "is moved"

    async def _bring(self, volume_id: int, source: str, target: str, progress: Progress | None) -> None:
        """The part of a move that may be taken back."""
        try:
            await self.copies.take(volume_id, source, target, progress, mount=False)
            await self.copies.post(source, "/admin/copy/freeze", volume_id)
            await self.copies.take(volume_id, source, target, progress)
        except (WeedError, CancelledError):
            try:
                if await self.copies.state(target, volume_id) is None:
                    await self.copies.post(source, "/admin/copy/thaw", volume_id)
            except WeedError as error:
                raise Unavailable(
                    f"volume {volume_id} is left read-only on {source}: {error}; the same command again goes on"
                ) from error
            raise

    async def _release_same(self, volume_id: int, kept: str, released: str) -> None:
        """Delete the copy at `released` if that at `kept` is the same, byte by byte; else raise ChangeRefused."""
        first, second = [await self.copies.check(server, volume_id) for server in (released, kept)]
        if not is_same(first, second):
            raise ChangeRefused(
                f"volume {volume_id} is not the same on {released} and {kept}, so neither is deleted; "
                f"look at both with volume.check.disk, and delete one with volume.delete"
            )
        await self.copies.release(released, volume_id, first)

    async def _taken_up(self, volume_id: int, server: str, *, one_too_many: bool = True) -> bool:
        """Wait until the leader counts that copy; False when it does not.

        With `one_too_many` that is so at once when it has all copies without it.
        """
        for _ in range(int(TAKEN_UP_WITHIN / POLL)):
            found = await self.inventory()
            if server in {holder.url for holder, _ in found.copies_of(volume_id)}:
                return True
            if one_too_many and (volume_id, server) in found.quarantined:
                return False
            await deferLater(self.reactor, POLL)
        return False

    # -------------------------------------------------------------- copies that are one too many

    async def remove_surplus(self, volume_id: int, server: str) -> str:
        """Remove a copy that is one too many, when all others have every file of it; what became of it, in words.

        Raises ChangeRefused when it is not one too many (any more) or has what another copy has not, and WeedError.
        """
        kept = await self._kept_without(volume_id, server)
        # Before it is compared: `release` looks whether it still is that.
        state = await self.copies.check(server, volume_id)
        missing = await self._missing(volume_id, server, state, kept)
        if missing and len(kept) > 1:
            for other in kept[1:]:
                await self.copies.agree(volume_id, kept[0], other, 1)
            missing = await self._missing(volume_id, server, state, kept)
        if missing:
            told = "; ".join(f"{where} {'; '.join(what)}" for where, what in missing.items())
            raise ChangeRefused(f"the copy on {server} is kept: {told}")
        if await self._kept_without(volume_id, server) != kept:
            raise ChangeRefused(f"volume {volume_id} has other copies than a moment ago; do it again")
        await self.copies.release(server, volume_id, state)
        for other in kept:  # what a move that was given up has left
            await self.copies.post(other, "/admin/copy/thaw", volume_id)
        for _ in range(int(TAKEN_UP_WITHIN / POLL)):
            holder = (await self.inventory()).holder(server)
            if holder is None or volume_id not in holder.copies:
                break
            await deferLater(self.reactor, POLL)
        return "has one copy less"

    async def _kept_without(self, volume_id: int, server: str) -> list[str]:
        """The servers whose copies count; raises ChangeRefused when they are too few without that one."""
        found = await self.inventory()
        copies = found.copies_of(volume_id)
        if (volume_id, server) not in found.quarantined or len(copies) < copies[0][1].replication.copies:
            raise ChangeRefused(f"the copy of volume {volume_id} on {server} is not one too many")
        return sorted(holder.url for holder, _ in copies)

    async def _missing(
        self, volume_id: int, server: str, state: dict[str, Any], kept: Iterable[str]
    ) -> dict[str, list[str]]:
        """What each of the others lacks of the copy on a server, in words."""
        missing: dict[str, list[str]] = {}
        theirs: dict[int, Change] | None = None
        for other in kept:
            there = await self.copies.check(other, volume_id)
            if is_same(state, there):
                continue
            theirs = await self.copies.changes(server, volume_id) if theirs is None else theirs
            absent = lacking(await self.copies.changes(other, volume_id), theirs)
            damaged = await self.copies.damaged(other, volume_id)
            said = [f"lacks {len(absent)} of its files"] if absent else []
            said += [f"has {len(damaged)} damaged files (volume.check.disk -slow)"] if damaged else []
            if said:
                missing[other] = said
        return missing

    # -------------------------------------------------------------- the rest

    async def heal(self, volume_id: int, server: str, keys: Iterable[int], others: Iterable[str]) -> int:
        """Have a server take damaged files from other copies; how many were."""
        others, healed = list(others), 0
        for key in keys:
            for other in others:
                query = {"with": other, "key": str(key)}
                if (await self.copies.post(server, "/admin/volume/heal", volume_id, query, within=60.0))["healed"]:
                    healed += 1
                    break
        return healed

    async def delete(self, volume_id: int, server: str) -> None:
        """Delete the copy on a server, with all its files."""
        await self.copies.post(server, "/admin/delete_volume", volume_id, within=60.0)

    async def mark(self, volume_id: int, server: str, *, writable: bool) -> None:
        """Have a copy take writes, or none."""
        await self.copies.post(server, f"/admin/volume/{'writable' if writable else 'readonly'}", volume_id)

    async def vacuum(self, threshold: float) -> None:
        """Have the leader remove what is deleted from all volumes with that share (0 to 1) of it."""
        query = {"garbageThreshold": f"{threshold:g}"}
        await self._ask_leader("/vol/vacuum", query, within=LONG)

    async def delete_collection(self, name: str) -> None:
        """Delete a collection with all its files."""
        await self._ask_leader("/col/delete", {"collection": name}, within=600.0)

    async def compare(self, volume_id: int, first: str, second: str) -> Difference:
        """Compare two copies by their indexes."""
        ours, theirs = await self.copies.live(first, volume_id), await self.copies.live(second, volume_id)
        unlike = {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]}
        return Difference(
            volume_id,
            first,
            second,
            only_first=len(ours.keys() - theirs.keys()),
            only_second=len(theirs.keys() - ours.keys()),
            unlike=len(unlike),
            keys=tuple(sorted((ours.keys() ^ theirs.keys()) | unlike)),
        )

    async def mend(self, found: Difference) -> int:
        """Have both copies take over what is newer on the other; how many files were."""
        if not found.keys:
            return await self.copies.agree(found.volume_id, found.first, found.second, 1)
        changed = 0
        for start in range(0, len(found.keys), _KEYS_AT_ONCE):
            keys = found.keys[start : start + _KEYS_AT_ONCE]
            changed += await self.copies.agree(found.volume_id, found.first, found.second, 1, keys)
        return changed

    async def _ask_leader(self, path: str, query: dict[str, str], within: float) -> None:
        await self.masters.ask("/cluster/status", {})
        master = self.masters.leader or self.masters.known[0]
        reply = await self.wire.exchange("POST", master, path, query, within=within)
        if reply.status >= 300:
            raise await reply.error()
        await reply.body(1 << 30)
