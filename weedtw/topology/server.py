"""One volume server as a master knows it."""

import attrs

from weedtw.formats.beat import Disk, VolumeReport


def host_of(address: str) -> str:
    """The host in `host:port`, an IPv6 one without its brackets."""
    return address.rpartition(":")[0].strip("[]")


@attrs.define(eq=False)
class Server:
    """A connected volume server; compared by identity, so that one that comes back is another."""

    address: str
    public_url: str
    data_center: str
    rack: str
    uuids: tuple[str, ...] = ()
    version: str = ""
    volumes: dict[int, VolumeReport] = attrs.Factory(dict)
    max_volumes: int = 0
    free_bytes: int = 0
    disks: tuple[Disk, ...] = ()
    reported: bool = False  # whether its full report has come in
    reserved: int = 0  # volumes being made on it right now

    @property
    def host(self) -> str:
        """The host it runs on."""
        return host_of(self.address)

    @property
    def free(self) -> int:
        """How many more volumes it may hold."""
        return max(0, self.max_volumes - len(self.volumes) - self.reserved)

    def slots(self, disk_type: str) -> tuple[int, int]:
        """(volumes on disks of that type, how many may be there); "" is a hard disk.

        Volumes being made count as used on every type: which disk takes them is not known before they are there.
        """
        if not self.disks:
            used = len(self.volumes) if disk_type == "" else 0
            return used + self.reserved, self.max_volumes if disk_type == "" else 0
        most = sum(disk.max_volumes for disk in self.disks if canonical_disk_type(disk.type) == disk_type)
        used = sum(1 for volume in self.volumes.values() if canonical_disk_type(volume.disk_type) == disk_type)
        return used + self.reserved, most


def canonical_disk_type(text: str) -> str:
    """The name of a disk type; "" for hard disks, which need not be named."""
    lowered = text.lower()
    return "" if lowered == "hdd" else lowered
