"""Real daemons for tests: started on free loopback ports, waited for by conditions, ended by their own pids."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

HOST = "127.0.0.1"
LIMIT = 60.0  # seconds for anything to become true; generous, for a machine that does something else as well
WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
WEEDTW = [sys.executable, "-m", "weedtw.cli.main"]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, all different, low enough that `weed` can add 10000 for its gRPC port.

    The search begins below those that the system gives to outgoing connections: one of these could take a port while
    its daemon is restarted.  So could another process of the same test run, each of which has a range of its own.
    """
    ports: list[int] = []
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 12000 + worker % 4 * 2500 + os.getpid() * 23 % 1500
    with ExitStack() as held:
        for port in range(first, 55000):
            pair = [held.enter_context(socket.socket()) for _ in range(2)]
            try:
                pair[0].bind((HOST, port))
                pair[1].bind((HOST, port + 10000))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("no free ports")


def wait_until(holds: Callable[[], object], what: str, *, limit: float = LIMIT) -> None:
    """Ask again and again until `holds()` is true."""
    pause = threading.Event()
    for _ in range(int(limit / 0.05)):
        if holds():
            return
        pause.wait(0.05)
    raise AssertionError(f"not within {limit:g} s: {what}")


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def request(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = LIMIT,
) -> Answer:
    """One request, redirects not followed; `url` without its scheme, `timeout` (seconds) for each step of it."""
    parts = urllib.parse.urlsplit(f"http://{url}")
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


def answers(url: str) -> bool:
    """Whether a GET there is a 200."""
    try:
        return request("GET", url).status == 200
    except OSError:
        return False


@contextmanager
def daemon(words: Sequence[str], folder: Path, ready: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a daemon until the end of the block, once `ready` (a URL) answers; it has to end by SIGTERM."""
    log = folder / f"{len(list(folder.glob('*.log')))}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, cwd=folder)
    try:
        wait_until(
            lambda: process.poll() is not None or answers(ready),
            f"{ready} answers\n{log.read_text(errors='replace')}",
        )
        assert process.poll() is None, log.read_text(errors="replace")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(LIMIT)
            pytest.fail(f"{' '.join(words)} did not end on SIGTERM:\n{log.read_text(errors='replace')}")


@attrs.frozen
class Cluster:
    """One master and some volume servers; addresses are `host:port`."""

    master: str
    volumes: list[str]

    def assign(self, **parameters: object) -> dict[str, Any]:
        """A file id, waited for until there is one."""
        query = urllib.parse.urlencode(parameters)
        found: list[dict[str, Any]] = []

        def assigned() -> bool:
            answer = request("GET", f"{self.master}/dir/assign?{query}")
            if answer.status == 200 and "fid" in answer.json():
                found.append(answer.json())
            return bool(found)

        wait_until(assigned, f"{self.master} assigns")
        return found[0]

    def put(self, body: bytes, headers: Mapping[str, str] | None = None, **parameters: object) -> str:
        """Store a file under a fresh id, which is returned."""
        assigned = self.assign(**parameters)
        answer = request("PUT", f"{assigned['url']}/{assigned['fid']}", body, headers)
        assert answer.status == 201, answer
        return str(assigned["fid"])

    def wait_for_volume_of(self, fid: str) -> None:
        """Until the master knows where that file's volume is."""
        url = f"{self.master}/dir/lookup?volumeId={fid.partition(',')[0]}"
        wait_until(lambda: request("GET", url).status == 200, f"{url} finds it")

    def get(self, fid: str) -> Answer:
        """Read a file from wherever it is."""
        answer = request("GET", f"{self.master}/dir/lookup?volumeId={fid.partition(',')[0]}")
        assert answer.status == 200, answer
        return request("GET", f"{answer.json()['locations'][0]['url']}/{fid}")


@contextmanager
def weedtw_cluster(folder: Path, data: Sequence[Path], *options: str) -> Iterator[Cluster]:
    """Our daemons over the given data folders."""
    ports = free_ports(1 + len(data))
    master = f"{HOST}:{ports[0]}"
    (folder / "m").mkdir(exist_ok=True)
    with ExitStack() as stack:
        words = [*WEEDTW, "master", f"-port={ports[0]}", "-ip=127.0.0.1", f"-mdir={folder / 'm'}"]
        stack.enter_context(daemon(words, folder, f"{master}/cluster/healthz"))
        for port, path in zip(ports[1:], data, strict=True):
            words = [
                *WEEDTW,
                "volume",
                f"-port={port}",
                "-ip=127.0.0.1",
                f"-dir={path}",
                f"-mserver={master}",
                *options,
            ]
            stack.enter_context(daemon(words, folder, f"{HOST}:{port}/healthz"))
        yield Cluster(master, [f"{HOST}:{port}" for port in ports[1:]])


@contextmanager
def weed_cluster(folder: Path, data: Sequence[Path]) -> Iterator[Cluster]:
    """SeaweedFS's daemons over the given data folders, on the loopback interface alone."""
    assert WEED is not None
    ports = free_ports(1 + len(data))
    master = f"{HOST}:{ports[0]}"
    (folder / "wm").mkdir(exist_ok=True)
    loopback = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    with ExitStack() as stack:
        words = [WEED, "master", *loopback, "-telemetry=false", "-peers=none", f"-port={ports[0]}"]
        words.append(f"-mdir={folder / 'wm'}")
        stack.enter_context(daemon(words, folder, f"{master}/cluster/healthz"))
        for port, path in zip(ports[1:], data, strict=True):
            words = [WEED, "volume", *loopback, f"-port={port}", f"-dir={path}", f"-master={master}", "-max=30"]
            stack.enter_context(daemon([*words, "-preStopSeconds=0"], folder, f"{HOST}:{port}/healthz"))
        yield Cluster(master, [f"{HOST}:{port}" for port in ports[1:]])
