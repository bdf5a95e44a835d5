"""Starting and stopping, with a reactor of memory and services that only remember."""

import io
import signal
import sys
from collections.abc import Callable
from typing import cast

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactor
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.daemon import Daemon
from weedtw.errors import FolderInUse


class Remembering(Service):
    """A daemon's service that writes down what is asked of it."""

    def __init__(self, name: str, diary: list[str], error: Exception | None = None) -> None:
        self.setName(name)
        self.diary = diary
        self.error = error
        self.stopped: Deferred[None] = Deferred()

    def bind(self) -> None:
        self.diary.append(f"bind {self.name}")

    def hold(self) -> None:
        self.diary.append(f"hold {self.name}")

    def prepare(self) -> None:
        self.diary.append(f"prepare {self.name}")
        if self.error:
            raise self.error

    def startService(self) -> None:
        super().startService()
        self.diary.append(f"start {self.name}")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.diary.append(f"stop {self.name}")
        return self.stopped


@attrs.define
class Signals:
    """Stands in for the module `signal`: handlers by number."""

    handlers: dict[int, object] = attrs.Factory(dict)

    def signal(self, number: int, what: object) -> None:
        self.handlers[number] = what

    def getsignal(self, number: int) -> object:
        return self.handlers.get(number, signal.SIG_DFL)

    def send(self, number: int) -> None:
        """What the operating system does when it delivers a signal."""
        act = self.handlers[number]
        assert callable(act)
        act(number, None)


class StoppableReactor(MemoryReactor):
    """A reactor that remembers when it was told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1

    def callFromThread(self, what: Callable[[], object]) -> None:
        what()


class DaemonTests(SynchronousTestCase):
    """One daemon of two services."""

    def setUp(self) -> None:
        self.reactor = StoppableReactor()
        self.diary: list[str] = []
        self.signals = Signals()
        for name in ("signal", "getsignal"):
            self.patch(signal, name, getattr(self.signals, name))

    def daemon(self, error: Exception | None = None, notes: tuple[str, ...] = ()) -> Daemon:
        self.services = [Remembering("a", self.diary), Remembering("b", self.diary, error)]
        return Daemon("weedtw test", self.services, notes, self.reactor)

    def begin(self, daemon: Daemon) -> None:
        daemon.startService()
        for what, args, kw in self.reactor.whenRunningHooks:
            what(*args, **kw)

    def test_all_are_prepared_before_one_starts(self) -> None:
        self.begin(self.daemon())
        steps = ["bind a", "bind b", "hold a", "hold b", "prepare a", "prepare b", "start a", "start b"]
        self.assertEqual(self.diary, steps)

    def test_stop_waits_for_all(self) -> None:
        daemon = self.daemon()
        self.begin(daemon)
        done = daemon.stopService()
        self.assertNoResult(done)
        self.services[0].stopped.callback(None)
        self.assertNoResult(done)
        self.services[1].stopped.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.diary[8:], ["stop b", "stop a"])

    def test_what_cannot_start_ends_in_one_line(self) -> None:
        for error, line in (
            (FolderInUse("/d", "another weedtw uses it"), "weedtw test: /d: another weedtw uses it\n"),
            (CannotListenError("127.0.0.1", 80, OSError(98, "Address already in use")), None),
            (PermissionError(13, "Permission denied", "/d"), "weedtw test: [Errno 13] Permission denied: '/d'\n"),
        ):
            err = io.StringIO()
            self.patch(sys, "stderr", err)
            with self.assertRaises(SystemExit) as caught:
                self.daemon(error).startService()
            self.assertEqual(caught.exception.code, 1)
            self.assertEqual(err.getvalue().count("\n"), 1)
            if line:
                self.assertEqual(err.getvalue(), line)
        self.assertNotIn("start a", self.diary)

    def test_signal_stops_once(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.signals.handlers.clear()
            self.reactor = StoppableReactor()
            self.begin(self.daemon())
            self.signals.send(number)
            self.assertEqual(self.reactor.stops, 1)
            for any_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self.assertIs(self.signals.handlers[any_number], signal.SIG_IGN)

    def test_signals_that_come_at_once_stop_once(self) -> None:
        """Python has noted the second before the first could change what is done about it."""
        self.begin(self.daemon())
        act = self.signals.handlers[signal.SIGTERM]
        assert callable(act)
        for _ in range(2):
            act(signal.SIGTERM, None)
        self.assertEqual(self.reactor.stops, 1)

    def test_signal_while_folders_are_opened(self) -> None:
        daemon = self.daemon()
        self.services[1].prepare = lambda: self.signals.send(signal.SIGTERM)  # type: ignore[method-assign]
        with self.assertRaises(SystemExit) as caught:
            daemon.startService()
        self.assertEqual(caught.exception.code, 0)
        self.assertEqual(self.diary[4:], ["prepare a"])

    def test_signal_before_the_reactor_runs(self) -> None:
        daemon = self.daemon()
        daemon.startService()
        self.signals.send(signal.SIGINT)
        self.assertEqual(self.reactor.stops, 0)
        for what, args, kw in self.reactor.whenRunningHooks:
            what(*args, **kw)
        self.assertEqual(self.reactor.stops, 1)

    def test_nohup_is_respected(self) -> None:
        self.signals.handlers[signal.SIGHUP] = signal.SIG_IGN
        self.begin(self.daemon())
        self.assertIs(self.signals.handlers[signal.SIGHUP], signal.SIG_IGN)
        self.assertIsNot(self.signals.handlers[signal.SIGTERM], signal.SIG_IGN)

    def test_notes_are_logged(self) -> None:
        seen: list[LogEvent] = []
        observer = cast(ILogObserver, seen.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.begin(self.daemon(notes=("--port.grpc has no effect",)))
        self.assertEqual([event["note"] for event in seen if "note" in event], ["--port.grpc has no effect"])
