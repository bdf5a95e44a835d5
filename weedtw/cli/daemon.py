"""Starting a daemon and stopping it, the same under `twist` and under `weedtw`.

A daemon takes its locks and ports before the reactor runs.  What keeps it from starting is one line on
standard error and exit status 1; a signal stops it in order and leaves status 0.
"""

import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from twisted.application.service import MultiService
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from weedtw.errors import WeedError


class DaemonService(Protocol):
    """A daemon's service: Twisted's IService, and `prepare`."""

    def prepare(self) -> None:
        """Take locks and bind sockets; raises WeedError, and then nothing may have been started."""

    def setServiceParent(self, parent: Any) -> Any:
        """Become a child of a collection of services."""


def give_up(program: str, error: Exception) -> NoReturn:
    """End the process with one line that says why, and status 1."""
    text = " ".join(str(error).split())
    print(f"{program}: {text}", file=sys.stderr, flush=True)
    raise SystemExit(1)


class Daemon(MultiService):
    """One or two services that are prepared together, before the first of them starts."""

    log = Logger()

    def __init__(self, program: str, services: Sequence[DaemonService], notes: Sequence[str], reactor: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._program = program
        self._services = services
        self._notes = notes
        self._reactor = reactor
        for service in services:
            service.setServiceParent(self)

    def startService(self) -> None:
        """Prepare all, or end the process; then start all, and stop them in order when a signal comes."""
        for note in self._notes:
            self.log.info("{note}", note=note)
        try:
            for service in self._services:
                service.prepare()
        except (WeedError, CannotListenError, OSError) as error:
            give_up(self._program, error)
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._stop_on_signals)

    def _stop_on_signals(self) -> None:
        """Take over the signals that end a process.

        Twisted's own handlers stop as well, but `twist` then kills itself with the signal that it received,
        which looks like a crash to what started it.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup has it ignored: leave that alone
            signal.signal(signal.SIGHUP, self._stop)

    def _stop(self, number: int, *_: object) -> None:
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, signal.SIG_IGN)  # stopping is bounded; once is enough
        self.log.info("received {name}, stopping", name=signal.Signals(number).name)
        self._reactor.callFromThread(self._reactor.stop)
