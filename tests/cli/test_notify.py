"""systemd is told how a daemon is."""

import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster.processes import LIMIT, WEEDTW, free_ports
from weedtw.cli.notify import Supervisor


class SupervisorTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.clock = Clock()

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(1000).decode())
            except BlockingIOError:
                return found

    def test_without_a_watchdog(self) -> None:
        supervisor = Supervisor(self.clock, {"NOTIFY_SOCKET": self.path})
        supervisor.ready()
        self.clock.advance(1000)
        supervisor.stopping()
        supervisor.stopped()
        self.assertEqual(self.heard(), [f"READY=1\nMAINPID={os.getpid()}", "STOPPING=1"])

    def test_with_one(self) -> None:
        supervisor = Supervisor(self.clock, {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "10000000"})
        supervisor.ready()
        self.assertEqual(self.heard()[1:], ["WATCHDOG=1"])
        self.clock.pump([1.0] * 10)
        self.assertEqual(self.heard(), ["WATCHDOG=1", "WATCHDOG=1"])
        supervisor.stopped()
        self.clock.pump([1.0] * 10)
        self.assertEqual(self.heard(), [])

    def test_a_watchdog_of_somebody_else(self) -> None:
        environment = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}
        Supervisor(self.clock, environment).ready()
        self.assertEqual(len(self.heard()), 1)

    def test_nobody_wants_to_know(self) -> None:
        supervisor = Supervisor(self.clock, {})
        supervisor.ready()
        supervisor.stopping()
        self.assertEqual(self.heard(), [])

    def test_nobody_listens_any_more(self) -> None:
        os.unlink(self.path)
        with capturedLogs() as events:
            Supervisor(self.clock, {"NOTIFY_SOCKET": self.path}).ready()
        [event] = events
        self.assertEqual(event["log_level"], LogLevel.warn)


@pytest.mark.process
@pytest.mark.parametrize("program", ["master", "volume"])
def test_a_daemon(tmp_path: Path, program: str) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(path)
        heard.settimeout(LIMIT)
        folder = "-mdir=." if program == "master" else "-dir=."
        [port] = free_ports(1)
        words = [*WEEDTW, program, f"-port={port}", "-ip=127.0.0.1", folder]
        environment = {**os.environ, "NOTIFY_SOCKET": path}
        process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        try:
            assert heard.recv(1000).decode() == f"READY=1\nMAINPID={process.pid}"
            process.send_signal(signal.SIGTERM)
            assert heard.recv(1000) == b"STOPPING=1"
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
            process.wait(LIMIT)
