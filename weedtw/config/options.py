"""The table of options: from it come the command lines, the TOML keys, the help and the checks.

Names and meanings are SeaweedFS's.  Three lists follow the table: options of SeaweedFS that are taken but
change nothing here (a start script need not be edited for them), options that are refused because ignoring
them would be a lie, and families that belong to parts of SeaweedFS which weedtw does not have.
"""

from collections.abc import Mapping

import attrs

from weedtw.config import kinds
from weedtw.config.kinds import Kind
from weedtw.formats.replication import ReplicaPlacement

MASTER = "master"
VOLUME = "volume"
LOG = "log"


@attrs.frozen
class Option:
    """One option: its name, what it takes, its default as it would be typed, and one line of help.

    `aliases` are older names for the same thing.  An empty default means that the program works it out.
    """

    name: str
    kind: Kind
    default: str
    help: str
    aliases: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name in a TOML file, where a dot would open a table: `ip.bind` is `ipBind`."""
        return toml_key(self.name)


def toml_key(name: str) -> str:
    """`ip.bind` becomes `ipBind`; a name without dots stays as it is."""
    first, *rest = name.split(".")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


REPLICATION = Kind(
    "three digits (copies in other data centers, on other racks, on other servers of the rack) such as 001",
    lambda text: ReplicaPlacement.parse(text or "000"),
)

INDEX = Kind(
    "memory or lmdb (which leveldb, leveldbMedium and leveldbLarge mean as well)",
    lambda text: (
        "lmdb" if text in {"leveldb", "leveldbMedium", "leveldbLarge"} else kinds.choice("memory", "lmdb").parse(text)
    ),
)

_SHARED = (
    Option("ip", kinds.HOST, "", "address by which others reach this server; empty: found out, see below"),
    Option("ip.bind", kinds.INTERFACE, "", "address to listen on; empty: the same as --ip"),
    Option("whiteList", kinds.WHITE_LIST, "", "addresses and networks that may write; empty: everybody"),
    Option("metricsPort", kinds.integer(0, 65535, "a port number"), "0", "another port for /metrics; 0: none"),
    Option("metricsIp", kinds.INTERFACE, "", "address of that port; empty: the same as --ip.bind"),
)

MASTER_OPTIONS = (
    Option("port", kinds.PORT, "9333", "port to listen on"),
    *_SHARED,
    Option("mdir", kinds.PATH, ".", "folder of the master's own state; keep it on a disk that survives a reboot"),
    Option("peers", kinds.PEERS, "", "all masters, or some of a cluster to join; none: this one alone"),
    Option("volumeSizeLimitMB", kinds.integer(1, 8 * 1024 * 1024), "30720", "size at which a volume is full"),
    Option("defaultReplication", REPLICATION, "000", "replication of files that do not ask for one"),
    Option("garbageThreshold", kinds.number(0, 1), "0.3", "share of deleted bytes that calls for a vacuum"),
    Option("vacuumIntervalSeconds", kinds.integer(1, 31_536_000), "840", "seconds between searches for garbage"),
    Option("fileSizeLimitMB", kinds.integer(1, 4095), "256", "largest file that /submit takes"),
    Option("volumeGrowth", kinds.GROWTH, "7,6,3,1", "volumes made at once with 1, 2, 3 and more copies"),
    Option("pulseSeconds", kinds.duration(0.1, 3600), "5", "time between heartbeats of a volume server"),
    Option(
        "electionTimeout",
        kinds.duration(0.1, 600),
        "500ms",
        "how long a master waits for the leader before it calls an election; drawn from here to twice as long",
    ),
    Option("heartbeatInterval", kinds.duration(0.02, 60), "100ms", "time between the leader's signs of life"),
    Option(
        "noFastElection",
        kinds.BOOL,
        "false",
        "wait for --electionTimeout also when the leader's process is found to be gone",
    ),
    Option("maintenance.interval", kinds.duration(0, 31_536_000), "0", "time between maintenance rounds; 0: none"),
    Option(
        "maintenance.grace", kinds.duration(0, 31_536_000), "15m", "how long a copy is away before it is made anew"
    ),
    Option("maintenance.replication", kinds.BOOL, "true", "make missing copies, and remove those too many"),
    Option("maintenance.vacuum", kinds.BOOL, "true", "give back the room of deleted files"),
    Option("maintenance.balance", kinds.BOOL, "false", "move volumes until servers are as full as each other"),
)

VOLUME_OPTIONS = (
    Option("port", kinds.PORT, "8080", "port to listen on"),
    *_SHARED,
    Option("publicUrl", kinds.PUBLIC_URL, "", "host:port that clients are given; empty: --ip and --port"),
    Option(
        "dir",
        kinds.list_of(kinds.PATH, "a list of folders such as ./1,./2"),
        ".",
        "folders of the data files; keep them on disks that survive a reboot",
    ),
    Option("dir.idx", kinds.list_of(kinds.PATH, "one folder, or one for each --dir"), "", "folder of the .idx files"),
    Option(
        "max",
        kinds.list_of(kinds.integer(0, 10_000_000), "one count of volumes, or one for each --dir, such as 7,20"),
        "8",
        "most volumes in a folder; 0: as many as the disk has room for",
    ),
    Option("disk", kinds.list_of(kinds.NAME, "one of hdd, ssd or a word, or one for each --dir"), "", "kind of disk"),
    Option(
        "minFreeSpace",
        kinds.MIN_FREE,
        "1",
        "free space below which a folder turns read-only: per cent of the disk up to 100, or a size such as 10GiB",
        ("minFreeSpacePercent",),
    ),
    Option("mserver", kinds.SERVERS, "localhost:9333", "masters to report to; any of them will do", ("master",)),
    Option("dataCenter", kinds.NAME, "DefaultDataCenter", "name of the data center this server stands in"),
    Option("rack", kinds.NAME, "DefaultRack", "name of the rack this server stands in"),
    Option(
        "readMode",
        kinds.choice("local", "proxy", "redirect"),
        "proxy",
        "a file on another server: local answers 404, proxy fetches it, redirect sends the client there",
    ),
    Option(
        "index",
        INDEX,
        "memory",
        "map from keys to places: memory takes at most 17 bytes a file; lmdb is on disk, and needs the package lmdb",
    ),
    Option("offsetBytes", kinds.choice("4", "5"), "4", "offset size of new volumes: 4 (up to 32 GB) or 5 (8 TB)"),
    Option("fsync", kinds.BOOL, "false", "answer a write only when it is on the disk"),
    Option("fileSizeLimitMB", kinds.integer(1, 4095), "256", "largest file that is taken"),
    Option("idleTimeout", kinds.duration(1, 86400), "30", "seconds after which an idle connection is closed"),
    Option("concurrentUploadLimitMB", kinds.integer(0, 1 << 30), "0", "most megabytes coming in at a time; 0: any"),
    Option("concurrentDownloadLimitMB", kinds.integer(0, 1 << 30), "0", "most megabytes going out at a time; 0: any"),
    Option("hotCacheMB", kinds.integer(0, 1 << 20), "64", "megabytes of small files kept ready to be sent; 0: none"),
    Option("pulseSeconds", kinds.duration(0.1, 3600), "5", "time between two heartbeats"),
)

LOG_OPTIONS = (
    Option("logFormat", kinds.choice("text", "json"), "text", "lines for people, or one JSON object a line"),
    Option("logLevel", kinds.choice("debug", "info", "warn", "error"), "info", "the least important lines to show"),
)

OPTIONS: Mapping[str, tuple[Option, ...]] = {MASTER: MASTER_OPTIONS, VOLUME: VOLUME_OPTIONS, LOG: LOG_OPTIONS}

# ------------------------------------------------------------------ taken, without effect


@attrs.frozen
class Ignored:
    """An option of SeaweedFS that is taken and noted in the log; `why` says what weedtw does instead."""

    name: str
    why: str
    flag: bool = False


_IGNORED = (
    Ignored("port.grpc", "one port serves everything"),
    Ignored("cpuprofile", "profiles are taken from outside, with py-spy for example"),
    Ignored("memprofile", "profiles are taken from outside, with py-spy for example"),
    Ignored("debug", "profiles are taken from outside, with py-spy for example", flag=True),
    Ignored("debug.port", "profiles are taken from outside, with py-spy for example"),
)

IGNORED: Mapping[str, tuple[Ignored, ...]] = {
    MASTER: (
        *_IGNORED,
        Ignored("metrics.address", "metrics are not pushed"),
        Ignored("metrics.intervalSeconds", "metrics are not pushed"),
        Ignored("telemetry", "nothing is ever reported to anybody", flag=True),
        Ignored("telemetry.url", "nothing is ever reported to anybody"),
        Ignored("raftHashicorp", "there is one consensus, weedtw's own", flag=True),
        Ignored("raftBootstrap", "state on disk always wins, so nothing needs to be bootstrapped", flag=True),
        Ignored("resumeState", "state on disk is always resumed", flag=True),
        Ignored("volumePreallocate", "volumes grow as they are written", flag=True),
        Ignored("maxParallelVacuumPerServer", "a volume server vacuums one volume at a time"),
    ),
    VOLUME: (
        *_IGNORED,
        Ignored("pprof", "profiles are taken from outside, with py-spy for example", flag=True),
        Ignored("compactionMBps", "vacuums are not throttled"),
        Ignored("maintenanceMBps", "vacuums are not throttled"),
        Ignored("hasSlowRead", "a read that would wait for the disk never holds up others", flag=True),
        Ignored("readBufferSizeMB", "large files are streamed in small pieces"),
        Ignored("index.leveldbTimeout", "an index on disk stays open"),
        Ignored("inflightUploadDataTimeout", "an idle connection is closed after --idleTimeout"),
        Ignored("inflightDownloadDataTimeout", "an idle connection is closed after --idleTimeout"),
        Ignored("preStopSeconds", "a stopping server leaves the writable set at once"),
        Ignored("volume.allowUntrustedRemoteEndpoints", "there is no remote storage", flag=True),
    ),
    LOG: (
        Ignored("v", "use --logLevel"),
        Ignored("logtostderr", "the log goes to standard error", flag=True),
        Ignored("alsologtostderr", "the log goes to standard error", flag=True),
        Ignored("stderrthreshold", "use --logLevel"),
        Ignored("logdir", "the log goes to standard error"),
    ),
}

# ------------------------------------------------------------------ refused


@attrs.frozen
class Refused:
    """An option of SeaweedFS that weedtw does not have.  A flag passes when it says what is so anyway."""

    name: str
    why: str
    flag: bool = False
    passes: bool = False


REFUSED: Mapping[str, tuple[Refused, ...]] = {
    MASTER: (
        Refused("disableHttp", "weedtw speaks HTTP only", flag=True),
        Refused("vacuumDeleteEmptyAfterSeconds", "weedtw does not delete empty volumes by itself"),
    ),
    VOLUME: (
        Refused("port.public", "weedtw has one port; to keep writers out, see --whiteList"),
        Refused("id", "weedtw knows a volume server by its address and the vol_dir.uuid of its folders"),
        Refused("tags", "weedtw does not place volumes by tags"),
        Refused("images.fix.orientation", "weedtw stores pictures as they come", flag=True),
    ),
    LOG: (),
}

SERVER_REFUSED = (
    Refused("master", "to run a volume server alone use the volume command", flag=True, passes=True),
    Refused("volume", "to run a master alone use the master command", flag=True, passes=True),
)

FAMILIES: Mapping[str, str] = {
    "filer": "filer",
    "s3": "S3 gateway",
    "iam": "IAM service",
    "webdav": "WebDAV gateway",
    "sftp": "SFTP server",
    "mq": "message queue",
}
