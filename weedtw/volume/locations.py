"""Where the copies of a volume are, asked from the masters and remembered for a moment."""

import re
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from weedtw.errors import PeerError, Unavailable, Unreachable, VolumeNotFound
from weedtw.http.agent import PeerAgent

LIFETIME = 10.0  # seconds an answer is used for
IMPATIENCE = 1.0  # seconds that a master has to answer while there is another one to ask
_MOST = 50_000  # volumes remembered
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


@attrs.frozen
class Location:
    """A server that holds a copy."""

    url: str  # "host:port", as the servers reach each other
    public_url: str  # "host:port", as clients from outside reach it


@attrs.frozen
class _Known:
    locations: tuple[Location, ...]
    until: float


@attrs.define(eq=False)
class Locations:
    """Answers lookups for one server; `masters` gives the addresses to ask, best first."""

    peers: PeerAgent
    masters: Callable[[], tuple[str, ...]]
    clock: IReactorTime
    _known: dict[int, _Known] = attrs.field(factory=dict, init=False)
    _asking: dict[int, list[Deferred[tuple[Location, ...]]]] = attrs.field(factory=dict, init=False)

    async def find(self, volume_id: int, *, fresh: bool = False) -> tuple[Location, ...]:
        """At least one location; raises VolumeNotFound, and Unavailable when no master can say.

        While no master answers, an old answer has to do.  With `fresh` nothing that was remembered is used.
        """
        known = self._known.get(volume_id)
        if known is not None and not fresh and self.clock.seconds() < known.until:
            return known.locations
        try:
            return await self._shared(volume_id)
        except Unavailable:
            if known is None or fresh:
                raise
            return known.locations  # without a master, what was true is the best guess

    def at_hand(self, volume_id: int) -> tuple[Location, ...]:
        """What `find` would answer at once; nothing when it would have to ask."""
        known = self._known.get(volume_id)
        return known.locations if known is not None and self.clock.seconds() < known.until else ()

    def _shared(self, volume_id: int) -> Deferred[tuple[Location, ...]]:
        """The answer of the masters; whoever asks while somebody asks already gets the same one."""
        is_first = volume_id not in self._asking
        waiting = self._asking.setdefault(volume_id, [])
        answer: Deferred[tuple[Location, ...]] = Deferred(waiting.remove)
        waiting.append(answer)
        if is_first:
            Deferred.fromCoroutine(self._look_up(volume_id))
        return answer

    async def _look_up(self, volume_id: int) -> None:
        """Ask for all who wait; goes on when any of them gives up."""
        result: tuple[Location, ...] | Failure
        try:
            result = await self._ask(volume_id)
        except Exception:  # noqa: BLE001 - it is theirs who wait
            result = Failure()
        else:
            self._remember(volume_id, result)
        waiting = self._asking.pop(volume_id)
        while waiting:
            waiting.pop(0).callback(result)

    def forget(self, volume_id: int) -> None:
        """Ask anew next time: what was remembered proved wrong."""
        known = self._known.get(volume_id)
        if known is not None:
            self._known[volume_id] = attrs.evolve(known, until=0.0)

    def _remember(self, volume_id: int, locations: tuple[Location, ...]) -> None:
        self._known.pop(volume_id, None)
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]  # the one that was learned first
        self._known[volume_id] = _Known(locations, self.clock.seconds() + LIFETIME)

    async def _ask(self, volume_id: int) -> tuple[Location, ...]:
        """What the first master says that knows; one that does not answer soon is asked again after the others."""
        problems: dict[str, str] = {}
        masters = self.masters()
        for patience in (IMPATIENCE, None) if len(masters) > 1 else (None,):
            slow = []
            for master in masters:
                try:
                    return await self._ask_one(master, volume_id, patience)
                except PeerError as error:
                    problems[master] = str(error)
                    if error.status is None and not isinstance(error, Unreachable):
                        slow.append(master)
            masters = tuple(slow)
        reasons = "; ".join(problems.values()) or "none is known"
        raise Unavailable(f"no master can say where volume {volume_id} is ({reasons})")

    async def _ask_one(self, master: str, volume_id: int, patience: float | None) -> tuple[Location, ...]:
        try:
            answer = await self.peers.get_json(master, "/dir/lookup", {"volumeId": volume_id}, timeout=patience)
            locations = _locations(master, answer)
        except PeerError as error:
            if error.status != 404:
                raise
            locations = ()
        if not locations:
            self._known.pop(volume_id, None)
            raise VolumeNotFound(volume_id)
        return locations


def _locations(master: str, answer: dict[str, Any]) -> tuple[Location, ...]:
    listed = answer.get("locations") or []
    if not isinstance(listed, list):
        raise PeerError(master, "the answer to a lookup holds no list of locations")
    return tuple(_location(master, entry) for entry in listed)


def _location(master: str, entry: Any) -> Location:
    url = entry.get("url") if isinstance(entry, dict) else None
    if not isinstance(url, str) or not _ADDRESS.fullmatch(url):
        raise PeerError(master, f"the answer to a lookup names a server in an odd way: {entry!r:.80}")
    public = entry.get("publicUrl")
    return Location(url, public if isinstance(public, str) and _ADDRESS.fullmatch(public) else url)
