"""One master and two volume servers of weedtw or of SeaweedFS, as processes of their own on loopback."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import attrs

HOST = "127.0.0.1"
LIMIT = 60.0  # seconds for a cluster to be ready
_TRIES = 100  # ids of volumes on the other server before one more volume is made
_TICK = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class System:
    """How the daemons of a system are started, and a header line that every request to it carries."""

    name: str
    master: Callable[[int, str], list[str]]  # port, folder
    volume: Callable[[int, int, str], list[str]]  # port, the master's port, folder
    header: str = ""

    def start(self, folder: str) -> "Running":
        """Start all three and wait until ids can be had with both replications."""
        master, *volumes = free_ports(3)
        running = Running(self, folder, f"{HOST}:{master}", [f"{HOST}:{port}" for port in volumes])
        try:
            running.run("master", self.master(master, running.folder_of("master")))
            for number, port in enumerate(volumes):
                running.run(f"volume{number}", self.volume(port, master, running.folder_of(f"volume{number}")))
            running.assign("replication=001")  # the first: it takes both volume servers
            running.assign("replication=000")
        except BaseException:
            running.stop()
            raise
        return running


@attrs.define
class Running:
    """A system that runs; addresses are `host:port`."""

    system: System
    folder: str
    master: str
    volumes: list[str]
    _processes: "dict[str, subprocess.Popen[bytes]]" = attrs.Factory(dict)

    def folder_of(self, name: str) -> str:
        """A daemon's folder, made if need be."""
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        return path

    def run(self, name: str, words: list[str]) -> None:
        """Start one daemon."""
        with open(os.path.join(self.folder, name + ".log"), "wb") as log:
            self._processes[name] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def assign(self, wish: str, server: int = 0) -> str:
        """A file id on that volume server; waits until it can be had."""
        until = time.monotonic() + LIMIT
        said: Any = "nothing"
        elsewhere = 0
        while time.monotonic() < until:
            try:
                said = self.ask(self.master, f"/dir/assign?{wish}")
                if said["url"] == self.volumes[server]:
                    return str(said["fid"])
                elsewhere += 1
                if elsewhere % _TRIES == 0:  # chance has put all volumes on the other
                    self.ask(self.master, f"/vol/grow?{wish}&count=1")
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                time.sleep(0.1)
        raise SystemExit(f"{self.system.name} gives out no ids: {said}; its logs are in {self.folder}")

    def ask(self, address: str, path: str) -> Any:
        """The JSON that a GET brings."""
        connection = http.client.HTTPConnection(address, timeout=20)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def cpu_seconds(self, address: str) -> float:
        """Seconds of processor time that the daemon at an address has used."""
        name = "master" if address == self.master else f"volume{self.volumes.index(address)}"
        with open(f"/proc/{self._processes[name].pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def stop(self) -> None:
        """End what was started."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def weedtw(path: str | None) -> System:
    """This project; `path` is the way on which it is to answer."""
    command = [sys.executable, "-m", "weedtw.cli.main"]
    place = [f"--ip={HOST}", f"--ip.bind={HOST}"]
    return System(
        "weedtw",
        lambda port, folder: [*command, "master", *place, f"--port={port}", f"--mdir={folder}"],
        lambda port, master, folder: [
            *(*command, "volume", *place, f"--port={port}", f"--mserver={HOST}:{master}"),
            *(f"--dir={folder}", "--max=30"),
        ],
        f"X-Weedtw-Path: {path}" if path else "",
    )


def seaweedfs(weed: str) -> System:
    """The original."""
    place = [f"-ip={HOST}", f"-ip.bind={HOST}"]
    return System(
        "weed",
        lambda port, folder: [weed, "master", *place, f"-port={port}", f"-mdir={folder}", "-telemetry=false"],
        lambda port, master, folder: [
            *(weed, "volume", *place, f"-port={port}", f"-master={HOST}:{master}", f"-dir={folder}", "-max=30")
        ],
    )


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, low enough that `weed` can add 10000 for its gRPC port."""
    ports: list[int] = []
    with ExitStack() as held:
        for port in range(15000 + os.getpid() % 5000, 22000):
            pair = [held.enter_context(socket.socket()) for _ in range(2)]
            try:
                pair[0].bind((HOST, port))
                pair[1].bind((HOST, port + 10000))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise SystemExit("no free ports")
