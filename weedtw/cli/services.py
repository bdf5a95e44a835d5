"""From a configuration to the service that is run.

Each daemon's code is imported only when it is wanted: `weedtw volume` loads nothing of the master.
"""

from typing import Any

from weedtw.cli.daemon import Daemon, DaemonService
from weedtw.cli.lean import make_lean
from weedtw.cli.steady import make_steady
from weedtw.config import MasterConfig, ServerConfig, VolumeConfig
from weedtw.config.load import Loaded


def make_daemon(program: str, loaded: Loaded, reactor: Any) -> Daemon:
    """The daemon that a configuration describes; `program` is its name in error messages."""
    make_steady(reactor)
    make_lean(reactor)
    config = loaded.config
    services: list[DaemonService] = []
    if isinstance(config, MasterConfig | ServerConfig):
        services.append(_master(config if isinstance(config, MasterConfig) else config.master, reactor))
    if isinstance(config, VolumeConfig | ServerConfig):
        services.append(_volume(config if isinstance(config, VolumeConfig) else config.volume, reactor))
    return Daemon(program, services, loaded.notes, reactor)


def _master(config: MasterConfig, reactor: Any) -> DaemonService:
    from weedtw.master.service import MasterService

    return MasterService(config, reactor)


def _volume(config: VolumeConfig, reactor: Any) -> DaemonService:
    from weedtw.volume.service import VolumeService

    return VolumeService(config, reactor)
