"""Which servers hold a volume, remembered for a while."""

from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime

from weedtw.client.answers import Location, parse_locations
from weedtw.client.masters import Masters
from weedtw.errors import PeerError, VolumeNotFound
from weedtw.formats.fileid import FileId

LIFETIME: Final = 60.0  # seconds
_MOST: Final = 100_000  # volumes remembered


@attrs.frozen
class _Known:
    """An answer and when it was given."""

    locations: tuple[Location, ...]
    since: float


@attrs.define(eq=False)
class Lookups:
    """Answers of `/dir/lookup`, each used for LIFETIME seconds unless forgotten before."""

    masters: Masters
    clock: IReactorTime
    _known: dict[int, _Known] = attrs.Factory(dict)

    async def find(self, volume_id: int) -> tuple[Location, ...]:
        """Return at least one location; raises VolumeNotFound, and Unavailable when no master can say."""
        known = self._known.get(volume_id)
        if known is not None and self.clock.seconds() - known.since < LIFETIME:
            return known.locations
        try:
            address, answer = await self.masters.ask("/dir/lookup", {"volumeId": str(volume_id)})
        except PeerError as error:
            self.forget(volume_id)
            if error.status == 404:
                raise VolumeNotFound(volume_id) from error
            raise
        locations = parse_locations(address, answer)
        if not locations:
            raise VolumeNotFound(volume_id)
        self.forget(volume_id)
        if len(self._known) >= _MOST:
            self.forget(next(iter(self._known)))  # the one that was learned first
        self._known[volume_id] = _Known(locations, self.clock.seconds())
        return locations

    async def token(self, fid: FileId, *, reads: bool) -> str:
        """The token that it takes to read a file, or to write or delete it; "" when the master gives none."""
        _, answer = await self.masters.ask("/dir/lookup", {"fileId": str(fid), "read": "yes" if reads else ""})
        return str(answer.get("auth") or "") if isinstance(answer, dict) else ""

    def remembers(self, volume_id: int) -> bool:
        """Whether the next `find` may be answered from memory."""
        return volume_id in self._known

    def forget(self, volume_id: int) -> None:
        """Ask anew next time: what was remembered proved wrong."""
        self._known.pop(volume_id, None)
