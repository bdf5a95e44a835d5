"""What the log says of volumes that take no writes: a line for each; when its disk lacks room, one for the folder."""

import attrs
from twisted.logger import Logger

from weedtw.errors import VolumeNotFound
from weedtw.formats.size import format_size
from weedtw.storage.store import Store
from weedtw.storage.volume import Volume


@attrs.define(eq=False)
class Notices:
    """Says each thing once, when it begins, and of disks also when it ends.  Call it from any thread."""

    log = Logger()

    store: Store
    _told: dict[int, str] = attrs.field(factory=dict, init=False)  # what was last known of each volume
    _low: set[str] = attrs.field(factory=set, init=False)  # folders that were said to have too little room

    def opened(self) -> None:
        """The volumes have been opened: tell which are damaged.  What an operator or the format wants is no news."""
        for volume in self.store.volumes():
            damage = volume.causes.reasons.get("damage")
            if damage:
                self.log.warn("volume {id} is read-only: {reason}", id=volume.id, reason=damage)
            self._told[volume.id] = _own_reason(volume)
        self.looked_at_disks()

    def changed(self, volume_id: int) -> None:
        """A volume turned read-only, or ceased to be, or is so for another reason."""
        try:
            volume = self.store.find(volume_id)
        except VolumeNotFound:  # deleted in this moment
            self._told.pop(volume_id, None)
            return
        reason = _own_reason(volume)
        if reason and reason != self._told.get(volume_id):
            self.log.warn("volume {id} is read-only: {reason}", id=volume_id, reason=reason)
        self._told[volume_id] = reason

    def looked_at_disks(self) -> None:
        """The room on the disks was looked at."""
        for location in self.store.locations:
            folder = location.folder
            if location.is_low and folder not in self._low:
                self._low.add(folder)
                self.log.warn(
                    "{folder} is read-only, with its {count} volumes: the disk has {free} left, "
                    "less than is to be kept free (--minFreeSpace)",
                    folder=folder,
                    count=len(location.volumes),
                    free=format_size(location.free),
                )
            elif not location.is_low and folder in self._low:
                self._low.discard(folder)
                self.log.info(
                    "{folder} takes writes again: the disk has {free} left",
                    folder=folder,
                    free=format_size(location.free),
                )


def _own_reason(volume: Volume) -> str:
    """Why a volume is read-only, apart from the room on its disk: that is told of the folder."""
    return volume.causes.apart_from("low space")
