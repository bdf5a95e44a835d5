"""Where the copies of a volume are, asked from the masters and remembered for a moment."""

import re
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from weedtw.errors import PeerError, Unavailable, VolumeNotFound
from weedtw.http.agent import PeerAgent

LIFETIME = 10.0  # seconds an answer is used for
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

        With `fresh` nothing that was remembered is used.
        """
        known = self._known.get(volume_id)
        if known is not None and not fresh and self.clock.seconds() < known.until:
            return known.locations
        if volume_id in self._asking:  # somebody asks already: that answer is as fresh as ours would be
            return await self._share(self._asking[volume_id])
        self._asking[volume_id] = []
        try:
            found = await self._ask(volume_id)
        except BaseException as error:
            if not isinstance(error, VolumeNotFound | Unavailable):
                error = Unavailable("the lookup was given up; try again")
            self._settle(volume_id, Failure(error))
            raise
        self._remember(volume_id, found)
        self._settle(volume_id, found)
        return found

    async def _share(self, waiting: list[Deferred[tuple[Location, ...]]]) -> tuple[Location, ...]:
        answer: Deferred[tuple[Location, ...]] = Deferred(waiting.remove)
        waiting.append(answer)
        return await answer

    def forget(self, volume_id: int) -> None:
        """Ask anew next time: what was remembered proved wrong."""
        self._known.pop(volume_id, None)

    def _settle(self, volume_id: int, result: tuple[Location, ...] | Failure) -> None:
        waiting = self._asking.pop(volume_id)
        while waiting:
            waiting.pop().callback(result)

    def _remember(self, volume_id: int, locations: tuple[Location, ...]) -> None:
        self.forget(volume_id)
        if len(self._known) >= _MOST:
            self.forget(next(iter(self._known)))  # the one that was learned first
        self._known[volume_id] = _Known(locations, self.clock.seconds() + LIFETIME)

    async def _ask(self, volume_id: int) -> tuple[Location, ...]:
        self.forget(volume_id)
        problems: list[str] = []
        for master in self.masters():
            try:
                answer = await self.peers.get_json(master, "/dir/lookup", {"volumeId": volume_id})
                locations = _locations(master, answer)
            except PeerError as error:
                if error.status == 404:
                    raise VolumeNotFound(volume_id) from error
                problems.append(str(error))
                continue
            if not locations:
                raise VolumeNotFound(volume_id)
            return locations
        raise Unavailable(f"no master can say where volume {volume_id} is ({'; '.join(problems) or 'none is known'})")


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
