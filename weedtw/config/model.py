"""What a daemon is told when it starts: one frozen object each, checked before anything is opened.

The objects are made from options and a TOML file by `weedtw.config.build`; they hold values, not texts:
seconds, bytes, placements.  A test may make one directly, every field has the default of its option.
"""

from typing import Literal, NamedTuple

import attrs

from weedtw.config.security import NO_SECURITY, SecurityConfig
from weedtw.formats.replication import ReplicaPlacement

ReadMode = Literal["local", "proxy", "redirect"]
IndexKind = Literal["memory", "lmdb"]


def join_address(host: str, port: int) -> str:
    """`host:port` as it stands in URLs and heartbeats; a bare IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Growth(NamedTuple):
    """How many volumes to make at once when none is writable, by the number of copies each one has."""

    copy_1: int = 7
    copy_2: int = 6
    copy_3: int = 3
    copy_other: int = 1

    def for_copies(self, copies: int) -> int:
        """Number of volumes to make at once when each has `copies` copies."""
        return {1: self.copy_1, 2: self.copy_2, 3: self.copy_3}.get(copies, self.copy_other)


@attrs.frozen
class MinFree:
    """The free space below which a folder takes no more writes: per cent of the disk, or bytes.

    Exactly one of the two counts; the other is zero.
    """

    percent: float = 1.0
    bytes: int = 0

    def is_low(self, *, free: int, total: int) -> bool:
        """Whether a disk of `total` bytes with `free` bytes left has too little left."""
        return free < (self.bytes or total * self.percent / 100)


@attrs.frozen(kw_only=True)
class MasterConfig:
    """Everything a master is told.  Times are seconds, sizes as their names say."""

    ip: str = "localhost"  # the name under which others reach us
    bind: str = "127.0.0.1"  # the interface we listen on
    port: int = 9333
    mdir: str = "."
    peers: tuple[str, ...] = ()  # host:port of other masters; ourselves left out
    named: tuple[str, ...] = ()  # all of --peers as they were typed, host:port each
    founder: bool = False  # whether --peers names this master itself, so that it may found a cluster with the others
    fast_election: bool = True  # whether to campaign at once when the leader's process is found to be gone
    volume_size_limit_mb: int = 30720
    default_replication: ReplicaPlacement = attrs.Factory(lambda: ReplicaPlacement.parse("000"))
    garbage_threshold: float = 0.3
    vacuum_interval: float = 840.0
    maintenance_interval: float = 0.0  # seconds between rounds; 0: none
    maintenance_grace: float = 900.0  # seconds that a copy is away before it is made anew
    maintenance_tasks: tuple[str, ...] = ("fix.replication", "vacuum")
    pulse_seconds: float = 5.0
    white_list: tuple[str, ...] = ()  # addresses and networks; empty: everybody
    file_size_limit_mb: int = 256
    growth: Growth = attrs.Factory(Growth)
    election_timeout: float = 0.5  # the shortest; each wait is drawn from here to twice as long
    heartbeat_interval: float = 0.1
    security: SecurityConfig = NO_SECURITY
    metrics_port: int = 0  # another port for /metrics; 0: none
    metrics_bind: str = ""  # the interface of that port; "": that of the other one
    port_option: str = "--port"  # what sets the port, for error messages

    @property
    def address(self) -> str:
        """`ip:port`, the name other servers know us by."""
        return join_address(self.ip, self.port)

    @property
    def volume_size_limit(self) -> int:
        """The size in bytes from which on a volume takes no new files."""
        return self.volume_size_limit_mb * 1024 * 1024


@attrs.frozen
class FolderConfig:
    """One `--dir` with what belongs to it."""

    path: str
    max_volumes: int = 8  # 0: as many as the disk has room for
    idx_path: str | None = None  # None: beside the data files
    disk_type: str = ""  # "" is a hard disk


@attrs.frozen(kw_only=True)
class VolumeConfig:
    """Everything a volume server is told.  Times are seconds, sizes as their names say."""

    ip: str = "localhost"  # the name under which others reach us
    bind: str = "127.0.0.1"  # the interface we listen on
    port: int = 8080
    public_url: str = ""  # host:port for clients outside; "": our address
    folders: tuple[FolderConfig, ...] = (FolderConfig("."),)
    masters: tuple[str, ...] = ("localhost:9333",)
    data_center: str = "DefaultDataCenter"
    rack: str = "DefaultRack"
    read_mode: ReadMode = "proxy"
    file_size_limit_mb: int = 256
    min_free_space: MinFree = MinFree()
    white_list: tuple[str, ...] = ()  # addresses and networks; empty: everybody
    fsync: bool = False
    index: IndexKind = "memory"  # where the maps from keys to places are kept
    offset_width: int = 4  # bytes an offset takes in the index of a new volume: 4 or 5
    idle_timeout: float = 30.0
    concurrent_upload_limit_mb: int = 0  # 0: no limit
    concurrent_download_limit_mb: int = 0  # 0: no limit
    hot_cache_mb: int = 64  # of small files kept ready to be sent; 0: none
    security: SecurityConfig = NO_SECURITY
    pulse_seconds: float = 5.0
    metrics_port: int = 0  # another port for /metrics; 0: none
    metrics_bind: str = ""  # the interface of that port; "": that of the other one
    port_option: str = "--port"  # what sets the port, for error messages

    @property
    def address(self) -> str:
        """`ip:port`, the name other servers know us by."""
        return join_address(self.ip, self.port)


@attrs.frozen(kw_only=True)
class ServerConfig:
    """A master and a volume server in one process, which reports to that master and its peers."""

    master: MasterConfig
    volume: VolumeConfig
