"""What is said in the heartbeat protocol, as values; `weedtw.formats.beat` turns them into lines."""

import attrs

from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl


@attrs.frozen
class VolumeReport:
    """One copy of a volume as its server sees it; sizes in bytes, `modified_at` in Unix seconds."""

    id: int
    collection: str
    size: int
    file_count: int
    delete_count: int
    deleted_bytes: int
    modified_at: int
    compact_revision: int
    version: int
    replication: ReplicaPlacement
    ttl: Ttl
    read_only: bool = False
    reason: str = ""  # why it is read-only
    disk_id: int = 0
    disk_type: str = ""  # "" is the same as "hdd"
    max_key: int = 0


@attrs.frozen
class Disk:
    """One folder of a volume server: where it is, and how many volumes it may hold."""

    id: int
    path: str
    type: str
    max_volumes: int
    free_bytes: int
    total_bytes: int


@attrs.frozen
class Hello:
    """Who a volume server is; its first line."""

    cluster: str | None  # the cluster it belongs to, None before it was ever welcomed
    address: str
    public_url: str
    data_center: str
    rack: str
    version: str
    uuids: tuple[str, ...]  # one for each folder
    pulse: float  # seconds between two pulses


@attrs.frozen
class Full:
    """One part of a report of everything a server holds; what no part names is no longer there."""

    seq: int
    part: int  # 1 .. parts
    parts: int
    volumes: tuple[VolumeReport, ...]
    max_volumes: int
    free_bytes: int
    disks: tuple[Disk, ...]
    max_file_key: int


@attrs.frozen
class Delta:
    """What appeared, went or changed its nature, sent at once."""

    seq: int
    new: tuple[VolumeReport, ...]
    gone: tuple[int, ...]
    changed: tuple[VolumeReport, ...]
    max_volumes: int
    max_file_key: int
    disks: tuple[Disk, ...] | None = None  # None: as reported before


@attrs.frozen
class Pulse:
    """A sign of life, with the volumes whose sizes moved since the last."""

    seq: int
    changed: tuple[VolumeReport, ...]
    max_volumes: int
    max_file_key: int
    disks: tuple[Disk, ...] | None = None


@attrs.frozen
class Bye:
    """The server stops on purpose."""


@attrs.frozen
class Welcome:
    """The master takes the server in; `full` asks for a full report."""

    cluster: str
    leader: str | None
    masters: tuple[str, ...]
    volume_size_limit: int
    full: bool = True


@attrs.frozen
class Refused:
    """The master does not take the server in and closes; the reason is for its operator."""

    reason: str


@attrs.frozen
class Ack:
    """The master has applied the report of that number."""

    seq: int
    leader: str | None
    masters: tuple[str, ...]
    volume_size_limit: int
    full: bool = False


@attrs.frozen
class Leader:
    """The lead has changed."""

    leader: str | None
    masters: tuple[str, ...]


Report = Full | Delta | Pulse | Bye
Answer = Welcome | Refused | Ack | Leader
