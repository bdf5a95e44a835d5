"""Masters as processes, killed at bad moments."""

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.master.stage import FakeVolumeServer, reactor, until
from weedtw.errors import PeerError, WeedError
from weedtw.formats.fileid import FileId
from weedtw.http.agent import make_agent

pytestmark = pytest.mark.process

WEEDTW = str(Path(sys.executable).with_name("weedtw"))
CLIENTS = 16
RESTARTS = 5


@attrs.define(eq=False)
class MasterProcess:
    """`weedtw master` on a folder and a port that stay the same."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        where = ["--ip", "127.0.0.1", "--port", str(self.port), "--mdir", str(self.folder)]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [WEEDTW, "master", *where], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    async def begin(self) -> None:
        """Start, and wait until it answers."""
        self.start()
        agent = make_agent(reactor)
        for _ in range(2000):
            try:
                (await agent.request("GET", self.address, "/healthz")).drop()
            except PeerError:
                pause: Deferred[None] = deferLater(reactor, 0.01)
                await pause
            else:
                break
        await agent.close()

    def end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None
        os.kill(process.pid, number)
        return process.wait(20)

    def close(self) -> None:
        if self._process is not None:
            self.end(signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@ensureDeferred
async def test_no_key_twice_over_restarts_after_kills_in_the_middle_of_assigns(tmp_path: Path) -> None:
    master, agent = MasterProcess(tmp_path, free_port()), make_agent(reactor)
    server = FakeVolumeServer("dc1", "r1", room=50)
    server.listen()
    keys: Counter[int] = Counter()

    async def assign_until_killed(count: int) -> None:
        while True:
            try:
                answer = await agent.get_json(master.address, "/dir/assign", {"count": count})
            except PeerError:
                return
            first = FileId.parse(answer["fid"]).key
            keys.update(range(first, first + answer["count"]))

    try:
        for _ in range(RESTARTS + 1):
            before = len(keys)
            await master.begin()
            await server.join(master.address)
            clients = [Deferred.fromCoroutine(assign_until_killed(1 + number % 7)) for number in range(CLIENTS)]
            await until(lambda before=before: len(keys) > before + 500)  # type: ignore[misc]
            master.end(signal.SIGKILL)
            await gatherResults(clients)
            await server.leave()
    finally:
        master.close()
        await server.close()
        await agent.close()
    assert len(keys) > 500 * RESTARTS
    assert [key for key, times in keys.items() if times > 1] == []


@ensureDeferred
async def test_no_volume_id_twice_when_a_master_is_killed_while_volumes_are_made(tmp_path: Path) -> None:
    master, agent = MasterProcess(tmp_path, free_port()), make_agent(reactor)
    servers = [FakeVolumeServer("dc1", "r1", room=500) for _ in range(2)]
    made: list[tuple[int, str]] = []

    async def grow(collection: str) -> None:
        try:
            await agent.get_json(master.address, "/vol/grow", {"count": 5, "collection": collection})
        except WeedError:
            return

    try:
        for server in servers:
            server.listen()
        for run in range(RESTARTS):
            await master.begin()
            for server in servers:
                await server.join(master.address)
            growing = [Deferred.fromCoroutine(grow(f"c{run}-{number}")) for number in range(4)]
            asked = sum(len(server.asked) for server in servers)
            await until(lambda asked=asked: sum(len(server.asked) for server in servers) > asked + 3)  # type: ignore[misc]
            master.end(signal.SIGKILL)
            await gatherResults(growing)
            for server in servers:
                await server.leave()
        for server in servers:
            made += [(number, each.collection) for number, each in server.volumes.items()]
    finally:
        master.close()
        for server in servers:
            await server.close()
        await agent.close()
    assert len(made) > 3 * RESTARTS
    assert len({number for number, _ in made}) == len(made)


@ensureDeferred
async def test_a_signal_ends_it_in_good_order(tmp_path: Path) -> None:
    master = MasterProcess(tmp_path, free_port())
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            await master.begin()
            assert master.end(number) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        master.close()


@ensureDeferred
async def test_a_second_master_on_the_folder_or_port_says_why_it_does_not_start(tmp_path: Path) -> None:
    master = MasterProcess(tmp_path, free_port())
    other = tmp_path / "other"
    try:
        await master.begin()
        for folder, port, named in ((tmp_path, free_port(), str(tmp_path)), (other, master.port, str(master.port))):
            command = [WEEDTW, "master", "--ip", "127.0.0.1", "--port", str(port)]
            done = subprocess.run([*command, "--mdir", str(folder)], capture_output=True, timeout=30, check=False)
            assert done.returncode == 1
            (line,) = done.stderr.decode().splitlines()[-1:]
            assert named in line
            assert b"Traceback" not in done.stderr
    finally:
        master.close()
