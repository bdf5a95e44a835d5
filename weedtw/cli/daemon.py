"""Starting a daemon and stopping it, the same under `twist` and under `weedtw`.

A daemon takes its ports and locks before the reactor runs.  What keeps it from starting is one line on
standard error and exit status 1, or 2 when the fault is in the options; a signal stops it in order and leaves
status 0.
"""

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from twisted.application.service import MultiService
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from weedtw.cli.notify import Supervisor
from weedtw.errors import WeedError


class DaemonService(Protocol):
    """A daemon's service: Twisted's IService, and the steps before it starts.  Each raises WeedError."""

    def bind(self) -> None:
        """Take the port, and change nothing."""

    def hold(self) -> None:
        """Lock the folders, and make those that are not there."""

    def prepare(self) -> None:
        """Open what is in the folders; nothing may have been started when it raises."""

    def setServiceParent(self, parent: Any) -> Any:
        """Become a child of a collection of services."""


CANNOT_START = 1
MISUSED = 2


def give_up(program: str, error: Exception, status: int = CANNOT_START) -> NoReturn:
    """End the process with one line that says why."""
    text = " ".join(str(error).split())
    print(f"{program}: {text}", file=sys.stderr, flush=True)
    raise SystemExit(status)


class Daemon(MultiService):
    """One or two services that are prepared together, before the first of them starts."""

    log = Logger()

    def __init__(
        self,
        program: str,
        services: Sequence[DaemonService],
        notes: Sequence[str],
        reactor: Any,
        reload: Callable[[], None] | None = None,
    ) -> None:
        """`reload` is what SIGHUP does; None: it ends the daemon, as SIGTERM does."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._program = program
        self._services = services
        self._notes = notes
        self._reactor = reactor
        self._stopped_by = 0  # the signal that came while the services started
        self._is_stopping = False
        self._supervisor = Supervisor(reactor)
        self._reload = reload
        for service in services:
            service.setServiceParent(self)

    def startService(self) -> None:
        """Prepare all, or end the process; then start all, and stop them in order when a signal comes."""
        for note in self._notes:
            self.log.info("{note}", note=note)
        _on_signals(_leave)
        try:
            for service in self._services:  # all of each step first: what fails must leave nothing new behind
                service.bind()
            for service in self._services:
                service.hold()
            for service in self._services:
                service.prepare()
        except (WeedError, CannotListenError, OSError) as error:
            give_up(self._program, error)
        _on_signals(self._stop_soon)
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._running)

    def _running(self) -> None:
        """Take the signals over from the reactor.

        Its own ways stop it as well, but `twist` then kills itself with the signal that came, which looks like a
        crash to what started it.
        """
        _on_signals(self._stop)
        if self._reload is not None:
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload_now))
        self._supervisor.ready()
        if self._stopped_by:
            self._stop(self._stopped_by)

    def stopService(self) -> Any:
        """Stop the services, last first; a Deferred."""
        self._supervisor.stopping()
        stopped = super().stopService()  # type: ignore[no-untyped-call]
        return stopped.addBoth(self._ended)

    def _reload_now(self) -> None:
        assert self._reload is not None
        try:
            self._reload()
        except WeedError as error:
            reason = str(error)
            self.log.warn("received SIGHUP, and go on with the certificates of before: {reason}", reason=reason)
        else:
            self.log.info("received SIGHUP: the certificates were read again")

    def _ended(self, result: object) -> object:
        self._supervisor.stopped()
        return result

    def _stop_soon(self, number: int, *_: object) -> None:
        """Between the first service's start and the reactor's there is nothing yet that could be stopped."""
        self._stopped_by = number

    def _stop(self, number: int, *_: object) -> None:
        _on_signals(signal.SIG_IGN)  # stopping is bounded; once is enough
        if self._is_stopping:  # two signals came at once: Python calls for both what was set when they came
            return
        self._is_stopping = True
        self.log.info("received {name}, stopping", name=signal.Signals(number).name)
        self._reactor.callFromThread(self._reactor.stop)


def _leave(*_: object) -> NoReturn:
    """While the folders are being opened, which may take long: what is on the disk survives an end at any time."""
    raise SystemExit(0)


def _on_signals(act: Callable[..., None] | signal.Handlers) -> None:
    """What the signals do that end a process; one that is ignored, as nohup does with SIGHUP, stays ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, act)
