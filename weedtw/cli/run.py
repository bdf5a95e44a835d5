"""`weedtw master|volume|server`: the daemon with its own reactor and its own log."""

import re
import sys
from collections.abc import Sequence
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    globalLogBeginner,
    textFileLogObserver,
)
from zope.interface import provider

from weedtw import __version__
from weedtw.cli.daemon import MISUSED, give_up
from weedtw.cli.jsonlog import json_observer
from weedtw.cli.remembered import members_on_disk
from weedtw.cli.usage import help_text
from weedtw.config.load import Loaded, load
from weedtw.config.network import OwnNetwork
from weedtw.config.vocabulary import Program
from weedtw.errors import WeedError

_OF_A_PORT = re.compile(r"Site starting on [0-9]+|\(TCP Port [0-9]+ Closed\)")


def run(program: Program, arguments: Sequence[str]) -> int:
    """Run a daemon until a signal ends it; the exit status.  What keeps it from starting raises SystemExit."""
    command = f"weedtw {program}"
    try:
        loaded = load(program, arguments, OwnNetwork(), remembered=members_on_disk)
    except WeedError as error:
        give_up(command, error, MISUSED)
    if not isinstance(loaded, Loaded):
        print(help_text(program, command, log=True) if loaded.asks_help else f"weedtw {__version__}")
        return 0
    _begin_logging(loaded)
    if not loaded.speaks_tls:
        _leave_out_tls()
    from twisted.internet import reactor

    from weedtw.cli.services import make_daemon

    daemon = make_daemon(command, loaded, reactor)
    daemon.startService()
    reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    reactor.run()
    return 0


def _leave_out_tls() -> None:
    """Let Twisted find itself on a machine without pyOpenSSL, which nothing will ask for in this process.

    Else it imports it, and cryptography with it: a tenth of the time that a daemon takes to start.
    """
    sys.modules.setdefault("OpenSSL", None)  # type: ignore[arg-type]  # Python's way to say so


def _begin_logging(loaded: Loaded) -> None:
    make_observer = json_observer if loaded.log_format == "json" else textFileLogObserver
    predicates: list[ILogFilterPredicate] = [shown_from(loaded.log_level)]
    if loaded.log_level != "debug":
        predicates.append(no_ports)
    observer = FilteringLogObserver(make_observer(sys.stderr), predicates)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


@provider(ILogFilterPredicate)
def no_ports(event: LogEvent) -> Any:
    """Leave out Twisted's lines about ports, which have no level of their own.

    One of them stood before the reason when a daemon had taken its port and could not start for another.
    """
    text = str(event.get("log_text", "")) if event.get("log_namespace") == "log_legacy" else ""
    return PredicateResult.no if _OF_A_PORT.fullmatch(text) else PredicateResult.maybe


def shown_from(level: str) -> LogLevelFilterPredicate:
    """What is shown with that `--logLevel`.

    Twisted's line for each attempt to connect again, every few seconds for as long as a master is away, is a detail
    here: the volume server says itself that its master is away.
    """
    shown = LogLevelFilterPredicate(LogLevel.levelWithName(level))
    if level == "info":
        shown.setLogLevelForNamespace("twisted.application._client_service", LogLevel.warn)
    return shown
