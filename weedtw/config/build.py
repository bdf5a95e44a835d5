"""Settings become the configuration objects: every value is read, then what must fit together is compared.

What was said on the command line beats the file, and both beat the defaults of the table.  All errors are
ConfigError, each one sentence that names the option where it was said and what it takes.
"""

import os.path
from collections.abc import Iterable
from typing import Any

import attrs

from weedtw.config import kinds
from weedtw.config.arguments import Settings
from weedtw.config.model import FolderConfig, MasterConfig, ServerConfig, VolumeConfig, join_address
from weedtw.config.network import Network
from weedtw.config.options import MASTER, OPTIONS, VOLUME, Option
from weedtw.errors import ConfigError, WeedError


@attrs.frozen
class Values:
    """One section's options, read: `values["port"]` is a number.  Reading raises ConfigError."""

    _read: dict[str, Any]
    _origins: dict[str, str]

    @classmethod
    def read(cls, section: str, settings: Settings) -> "Values":
        """Every option of a section, from what was said or else from its default."""
        read, origins = {}, {}
        for option in OPTIONS[section]:
            setting = settings.get((section, option.name))
            if setting is not None and (setting.text or option.default):
                origins[option.name] = setting.origin
                read[option.name] = _parse(option, setting.text, setting.origin)
            else:
                read[option.name] = _parse(option, option.default, option.name) if option.default else None
        return cls(read, origins)

    def __getitem__(self, name: str) -> Any:
        return self._read[name]

    def said(self, name: str) -> bool:
        """Whether somebody set it, or it is at its default."""
        return name in self._origins

    def error(self, name: str, reason: str) -> ConfigError:
        """An error about an option, named as it was said."""
        return ConfigError(self._origins.get(name, f"--{name}"), reason)


def _parse(option: Option, text: str, origin: str) -> Any:
    try:
        return option.kind.parse(text)
    except (ValueError, WeedError):
        raise ConfigError(origin, f"{text!r} is not {option.kind.takes}") from None


# ------------------------------------------------------------------ the three programs


def build_master(settings: Settings, network: Network) -> MasterConfig:
    """The configuration of `weedtw master`; raises ConfigError."""
    return _master(Values.read(MASTER, settings), network)


def build_volume(settings: Settings, network: Network) -> VolumeConfig:
    """The configuration of `weedtw volume`; raises ConfigError."""
    values = Values.read(VOLUME, settings)
    config = _volume(values, _advertised(values, values["mserver"], network))
    if config.address in config.masters:
        raise values.error(
            "mserver", f"{config.address} is this volume server itself; it takes the addresses of masters"
        )
    return config


def build_server(settings: Settings, network: Network) -> ServerConfig:
    """The configuration of `weedtw server`; raises ConfigError."""
    of_master, of_volume = Values.read(MASTER, settings), Values.read(VOLUME, settings)
    master = _master(of_master, network)
    volume = _volume(of_volume, of_volume["ip"] or master.ip)
    if master.port == volume.port:
        raise of_volume.error("port", f"{volume.port} is the master's port too; give --master.port or --volume.port")
    if not of_master.said("mdir"):
        master = attrs.evolve(master, mdir=volume.folders[0].path)
    white_list = volume.white_list
    if white_list:  # the master in this process must be able to make volumes
        white_list = tuple(dict.fromkeys((*white_list, *network.addresses(master.ip))))
    return ServerConfig(
        master=attrs.evolve(master, port_option="--master.port"),
        volume=attrs.evolve(volume, masters=(master.address,), white_list=white_list, port_option="--volume.port"),
    )


def _master(values: Values, network: Network) -> MasterConfig:
    peers = values["peers"] or ()
    ip = _advertised(values, peers, network)
    others = tuple(dict.fromkeys(peer for peer in peers if not _is_self(peer, ip, values["port"], network)))
    if values["heartbeatInterval"] * 2 > values["electionTimeout"]:
        raise values.error("heartbeatInterval", "too long; it takes at most half of --electionTimeout")
    return MasterConfig(
        ip=ip,
        bind=values["ip.bind"] or _interface(ip),
        port=values["port"],
        peers=others,
        named=tuple(dict.fromkeys(peers)),
        founder=len(others) < len(dict.fromkeys(peers)),
        mdir=os.path.expanduser(values["mdir"]),
        volume_size_limit_mb=values["volumeSizeLimitMB"],
        default_replication=values["defaultReplication"],
        garbage_threshold=values["garbageThreshold"],
        vacuum_interval=float(values["vacuumIntervalSeconds"]),
        pulse_seconds=values["pulseSeconds"],
        white_list=values["whiteList"] or (),
        file_size_limit_mb=values["fileSizeLimitMB"],
        growth=values["volumeGrowth"],
        election_timeout=values["electionTimeout"],
        heartbeat_interval=values["heartbeatInterval"],
    )


def _volume(values: Values, ip: str) -> VolumeConfig:
    return VolumeConfig(
        ip=ip,
        bind=values["ip.bind"] or _interface(ip),
        port=values["port"],
        public_url=values["publicUrl"] or join_address(ip, values["port"]),
        folders=_folders(values),
        masters=tuple(dict.fromkeys(values["mserver"])),
        data_center=values["dataCenter"] or "DefaultDataCenter",
        rack=values["rack"] or "DefaultRack",
        read_mode=values["readMode"],
        file_size_limit_mb=values["fileSizeLimitMB"],
        min_free_space=values["minFreeSpace"],
        white_list=values["whiteList"] or (),
        fsync=values["fsync"],
        offset_width=int(values["offsetBytes"]),
        idle_timeout=values["idleTimeout"],
        concurrent_upload_limit_mb=values["concurrentUploadLimitMB"],
        concurrent_download_limit_mb=values["concurrentDownloadLimitMB"],
        pulse_seconds=values["pulseSeconds"],
    )


# ------------------------------------------------------------------ folders


def _folders(values: Values) -> tuple[FolderConfig, ...]:
    paths = [os.path.expanduser(path) for path in values["dir"]]
    seen: dict[str, str] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            raise values.error("dir", f"{path} is named twice (as {seen[real]}); it takes different folders")
        seen[real] = path
    counts = _each(values, "max", len(paths))
    index = [path and os.path.expanduser(path) for path in _each(values, "dir.idx", len(paths))]
    disks = ["" if disk == "hdd" else disk for disk in _each(values, "disk", len(paths))]
    return tuple(
        FolderConfig(path, count, idx, disk or "")
        for path, count, idx, disk in zip(paths, counts, index, disks, strict=True)
    )


def _each(values: Values, name: str, folders: int) -> list[Any]:
    """One value for each folder: a single one is for all of them."""
    given = values[name]
    if not given:
        return [None] * folders
    if len(given) not in {1, folders}:
        reason = f"{len(given)} values for {folders} folders in --dir; it takes one, or one for each"
        raise values.error(name, reason)
    return list(given) if len(given) == folders else list(given) * folders


# ------------------------------------------------------------------ addresses


def _advertised(values: Values, towards: Iterable[str], network: Network) -> str:
    """`--ip`, or our address on the way to the first of the others, or `localhost` when they are all here."""
    if values["ip"]:
        return str(values["ip"])
    for address in towards:
        host, _ = kinds.split_address(address, 9333)
        source = None if kinds.is_loopback(host) else network.source(host)
        if source and not kinds.is_loopback(source):
            return source
    return "localhost"


def _interface(ip: str) -> str:
    """Where to listen when `--ip.bind` does not say: where the others come, and nowhere else."""
    return "127.0.0.1" if ip.rstrip(".").lower() == "localhost" else ip


def _is_self(peer: str, ip: str, port: int, network: Network) -> bool:
    host, peer_port = kinds.split_address(peer, 9333)
    if peer_port != port:
        return False
    both_here = kinds.is_loopback(host) and kinds.is_loopback(ip)
    return both_here or host == ip or bool(set(network.addresses(host)) & set(network.addresses(ip)))
