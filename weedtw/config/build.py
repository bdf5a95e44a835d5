"""Settings become the configuration objects: every value is read, then what must fit together is compared.

What was said on the command line beats the file, and both beat the defaults of the table.  All errors are
ConfigError, each one sentence that names the option where it was said and what it takes.
"""

import os.path
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import attrs

from weedtw.config import addresses, kinds
from weedtw.config.arguments import Settings
from weedtw.config.model import FolderConfig, IndexKind, MasterConfig, ServerConfig, VolumeConfig, join_address
from weedtw.config.network import Network
from weedtw.config.options import MASTER, OPTIONS, VOLUME, Option
from weedtw.errors import ConfigError, WeedError

TICK = 0.02  # seconds; consensus counts its time in these
_UNREACHABLE = "cannot be reached by masters on other hosts"


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


Remembered = Callable[[str], tuple[str, ...]]  # from a master's folder, the addresses of the masters in it


def build_master(settings: Settings, network: Network, remembered: Remembered) -> MasterConfig:
    """The configuration of `weedtw master`; raises ConfigError."""
    values = Values.read(MASTER, settings)
    return _master(values, network, lambda: remembered(values["mdir"]))


def build_volume(settings: Settings, network: Network, _: Remembered) -> VolumeConfig:
    """The configuration of `weedtw volume`; raises ConfigError."""
    values = Values.read(VOLUME, settings)
    config = _volume(values, values["ip"] or addresses.advertised(values["mserver"], network))
    if config.address in config.masters:
        raise values.error(
            "mserver", f"{config.address} is this volume server itself; it takes the addresses of masters"
        )
    return config


def build_server(settings: Settings, network: Network, remembered: Remembered) -> ServerConfig:
    """The configuration of `weedtw server`; raises ConfigError."""
    of_master, of_volume = Values.read(MASTER, settings), Values.read(VOLUME, settings)
    mdir = of_master["mdir"] if of_master.said("mdir") else of_volume["dir"][0]
    master = _master(of_master, network, lambda: remembered(mdir))
    volume = _volume(of_volume, of_volume["ip"] or master.ip)
    if master.port == volume.port:
        raise of_volume.error("port", f"{volume.port} is the master's port too; give --master.port or --volume.port")
    if not of_master.said("mdir"):
        master = attrs.evolve(master, mdir=volume.folders[0].path)
    masters = (master.address, *master.peers)
    white_list = volume.white_list
    if white_list:  # the masters, whichever leads, must be able to make volumes
        hosts = [kinds.split_address(address, addresses.DEFAULT_PORT)[0] for address in masters]
        white_list = tuple(
            dict.fromkeys((*white_list, *(found for host in hosts for found in network.addresses(host))))
        )
    return ServerConfig(
        master=attrs.evolve(master, port_option="--master.port"),
        volume=attrs.evolve(volume, masters=masters, white_list=white_list, port_option="--volume.port"),
    )


def _master(values: Values, network: Network, remembered: Callable[[], tuple[str, ...]]) -> MasterConfig:
    named: tuple[str, ...] = tuple(dict.fromkeys(values["peers"] or ()))
    port, chosen = values["port"], bool(values["ip"])
    ip = values["ip"] or addresses.advertised(addresses.own_first(named or remembered(), port, network), network)
    others = tuple(peer for peer in named if not addresses.is_self(peer, ip, port, network, chosen=chosen))
    _check_reach(values, ip, others, network)
    _check_timing(values)
    return MasterConfig(
        ip=ip,
        bind=values["ip.bind"] or addresses.interface(ip),
        port=port,
        peers=others,
        named=named,
        founder=len(others) < len(named),
        fast_election=not values["noFastElection"],
        mdir=os.path.expanduser(values["mdir"]),
        volume_size_limit_mb=values["volumeSizeLimitMB"],
        default_replication=values["defaultReplication"],
        garbage_threshold=values["garbageThreshold"],
        vacuum_interval=float(values["vacuumIntervalSeconds"]),
        maintenance_interval=values["maintenance.interval"],
        maintenance_grace=values["maintenance.grace"],
        maintenance_tasks=tuple(
            task
            for task, option in (("fix.replication", "replication"), ("vacuum", "vacuum"), ("balance", "balance"))
            if values[f"maintenance.{option}"]
        ),
        pulse_seconds=values["pulseSeconds"],
        white_list=values["whiteList"] or (),
        file_size_limit_mb=values["fileSizeLimitMB"],
        growth=values["volumeGrowth"],
        election_timeout=values["electionTimeout"],
        heartbeat_interval=values["heartbeatInterval"],
        metrics_port=values["metricsPort"],
        metrics_bind=values["metricsIp"] or "",
    )


def _volume(values: Values, ip: str) -> VolumeConfig:
    return VolumeConfig(
        ip=ip,
        bind=values["ip.bind"] or addresses.interface(ip),
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
        index=_index(values),
        offset_width=int(values["offsetBytes"]),
        idle_timeout=values["idleTimeout"],
        concurrent_upload_limit_mb=values["concurrentUploadLimitMB"],
        concurrent_download_limit_mb=values["concurrentDownloadLimitMB"],
        hot_cache_mb=values["hotCacheMB"],
        pulse_seconds=values["pulseSeconds"],
        metrics_port=values["metricsPort"],
        metrics_bind=values["metricsIp"] or "",
    )


def _index(values: Values) -> IndexKind:
    """Where maps are kept; raises ConfigError when what that takes is not installed."""
    kind: IndexKind = values["index"]
    if kind == "lmdb" and find_spec("lmdb") is None:
        raise values.error("index", "lmdb needs the package lmdb, which is not installed: pip install 'weedtw[lmdb]'")
    return kind


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


# ------------------------------------------------------------------ masters


def _check_reach(values: Values, ip: str, others: tuple[str, ...], network: Network) -> None:
    """Raise ConfigError when masters on other hosts could not reach this one, or one that is named with it.

    A loopback address means another machine to everybody who reads it.
    """
    far = [peer for peer in others if addresses.is_elsewhere(peer, network)]
    if not far:
        return
    if kinds.is_loopback(ip) and values["ip"]:
        reason = f"{ip} {_UNREACHABLE}, such as {far[0]}; it takes the address by which they reach this one"
        raise values.error("ip", reason)
    if kinds.is_loopback(ip):
        reason = f"{far[0]} cannot be found from here, so there is no telling by which address it would reach this"
        raise values.error("peers", f"{reason} master; give --ip")
    near = [peer for peer in values["peers"] if addresses.is_loopback(peer)]
    if near and len(others) < len(set(values["peers"])):
        own = join_address(ip, values["port"])
        reason = f"{near[0]} stands beside {far[0]}, but a master that calls itself localhost {_UNREACHABLE}; "
        raise values.error(
            "peers", f"{reason}name each by the address that it has for the others, its --ip (here: {own})"
        )


def _check_timing(values: Values) -> None:
    """Raise ConfigError unless a follower can miss a heartbeat, and a leader's lease lasts from one to the next."""
    timeout, interval = values["electionTimeout"], values["heartbeatInterval"]
    heartbeat = max(1, round(interval / TICK))
    least = 2 * heartbeat + 3
    if round(timeout / TICK) >= least:
        return
    name = "heartbeatInterval" if not values.said("electionTimeout") else "electionTimeout"
    raise values.error(
        name,
        f"an election timeout of {kinds.spell(timeout)} is too short for heartbeats every {kinds.spell(interval)}; "
        f"they take one of at least {kinds.spell(round(least * TICK, 3))}",
    )
