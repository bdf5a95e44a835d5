"""From a configuration to the service that is run.

Each daemon's code is imported only when it is wanted: `weedtw volume` loads nothing of the master.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weedtw.cli.compiled import compiled
from weedtw.cli.daemon import Daemon, DaemonService
from weedtw.cli.lean import make_lean
from weedtw.cli.steady import make_steady
from weedtw.config import MasterConfig, ServerConfig, VolumeConfig
from weedtw.config.load import Loaded
from weedtw.http.routes import LATER

if TYPE_CHECKING:
    from weedtw.config.security import TlsFiles
    from weedtw.master.service import MasterService
    from weedtw.volume.service import VolumeService


def make_daemon(program: str, loaded: Loaded, reactor: Any) -> Daemon:
    """The daemon that a configuration describes; `program` is its name in error messages."""
    make_steady(reactor)
    make_lean(reactor)
    config = loaded.config
    services: dict[str, DaemonService] = {}
    told: dict[str, Any] = {}
    if isinstance(config, MasterConfig | ServerConfig):
        master = services["master"] = _master(config if isinstance(config, MasterConfig) else config.master, reactor)
        told["master"] = master.told
    if isinstance(config, VolumeConfig | ServerConfig):
        volume = services["volume"] = _volume(config if isinstance(config, VolumeConfig) else config.volume, reactor)
        told["volume"] = volume.told
    reactor.callWhenRunning(reactor.callLater, LATER, reactor.callInThread, compiled.keep)
    shared = config.volume if isinstance(config, ServerConfig) else config  # both are told the same there
    if shared.metrics_port:
        services["metrics"] = _metrics(shared.metrics_bind or shared.bind, shared.metrics_port, told, reactor)
    return Daemon(program, list(services.values()), loaded.notes, reactor, _reload_of(shared.security.tls))


def _reload_of(files: "TlsFiles | None") -> Callable[[], None] | None:
    """What SIGHUP does, where there are certificates."""
    if files is None:
        return None
    from weedtw.http.tls import keyring_of

    return lambda: keyring_of(files).reload()


def _metrics(bind: str, port: int, told: dict[str, Any], reactor: Any) -> DaemonService:
    from weedtw.http.metricsport import MetricsPort

    return MetricsPort(bind, port, told, reactor)


def _master(config: MasterConfig, reactor: Any) -> "MasterService":
    from weedtw.master.service import MasterService

    return MasterService(config, reactor)


def _volume(config: VolumeConfig, reactor: Any) -> "VolumeService":
    # numpy brings linear algebra, whose threads spin for a tenth of a second once it is imported: for nobody here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from weedtw.volume.service import VolumeService

    return VolumeService(config, reactor)
