"""Real processes, both ways: what keeps a daemon from starting is one line, and a signal ends it cleanly."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.process

BIN = os.path.dirname(sys.executable)
WAYS = {
    "twist": ([os.path.join(BIN, "twist")], "weed-"),
    "weedtw": ([sys.executable, "-m", "weedtw.cli.main"], ""),
}
DAEMONS = ("master", "volume", "server")
LIMIT = 60.0  # seconds; generous, for a machine that does something else as well


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(way: str, daemon: str, options: Sequence[str]) -> list[str]:
    words, prefix = WAYS[way]
    return [*words, prefix + daemon, *options]


def options_of(daemon: str, folder: Path) -> list[str]:
    """Options with which a daemon starts, on free ports, keeping its files in `folder`."""
    if daemon == "master":
        return ["--mdir", str(folder), "--port", str(free_port())]
    if daemon == "volume":
        return ["--dir", str(folder), "--mserver", f"localhost:{free_port()}", "--port", str(free_port())]
    return ["--dir", str(folder), "--master.port", str(free_port()), "--volume.port", str(free_port())]


def port_of(options: Sequence[str]) -> int:
    """The port in the last option; in a server it is the volume part's, which starts last."""
    return int(options[-1])


@contextmanager
def running(words: Sequence[str], port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on `port`; ended the hard way when the test did not end it."""
    with open(folder / "output.log", "ab") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for_answer(process, port, folder / "output.log")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(LIMIT)


def wait_for_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait for an HTTP answer, whatever it says: the port is bound long before."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode}:\n{log.read_text()}"
        try:
            with urlopen(f"http://127.0.0.1:{port}/status", timeout=LIMIT):
                return
        except HTTPError:
            return
        except URLError:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    pytest.fail(f"nothing answers on {port}:\n{log.read_text()}")


def refused(words: Sequence[str], folder: Path, status: int = 1) -> str:
    """The one line with which a process refuses to start."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("20")]  # log lines begin with the year
    assert done.returncode == status, done
    assert "Traceback" not in done.stdout + done.stderr
    assert len(lines) == 1, done
    return lines[0]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_unknown_option(way: str, tmp_path: Path) -> None:
    line = refused(command(way, "master", ["--prot", "9333"]), tmp_path, status=2)
    assert line.endswith("master: --prot: unknown option; did you mean --port?")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_port_in_use(way: str, daemon: str, tmp_path: Path) -> None:
    options = options_of(daemon, tmp_path)
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", port_of(options)))
        other.listen()
        line = refused(command(way, daemon, options), tmp_path)
    assert f"cannot listen on 127.0.0.1:{port_of(options)}" in line
    assert f"--{'volume.port' if daemon == 'server' else 'port'}: " in line
    assert os.listdir(tmp_path) == []  # no lock, no uuid, and above all no new cluster


@pytest.mark.parametrize("daemon", DAEMONS)
def test_file_in_place_of_folder(way: str, daemon: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    line = refused(command(way, daemon, options_of(daemon, tmp_path / "file" / "deeper")), tmp_path)
    assert str(tmp_path / "file") in line


@pytest.mark.parametrize("daemon", DAEMONS)
def test_folder_that_cannot_be_written(way: str, daemon: str, tmp_path: Path) -> None:
    """Root may write anywhere but in /proc, where nobody can."""
    line = refused(command(way, daemon, options_of(daemon, Path("/proc/self"))), tmp_path)
    assert "/proc/self" in line


@pytest.mark.parametrize("daemon", DAEMONS)
def test_folder_in_use(way: str, daemon: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    options = options_of(daemon, data)
    with running(command("weedtw", daemon, options), port_of(options), tmp_path):
        line = refused(command(way, daemon, options_of(daemon, data)), tmp_path)
    assert str(data) in line


@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it(way: str, daemon: str, number: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    options = options_of(daemon, data)
    with running(command(way, daemon, options), port_of(options), tmp_path) as process:
        process.send_signal(number)
        assert process.wait(LIMIT) == 0, (tmp_path / "output.log").read_text()
    log = (tmp_path / "output.log").read_text()
    assert "Traceback" not in log
    with running(command(way, daemon, options), port_of(options), tmp_path):
        pass  # the folder is free again, and what was left in it can be opened


def test_signal_while_it_starts(way: str, tmp_path: Path) -> None:
    """As soon as the port is bound, which is before the reactor runs."""
    data = tmp_path / "data"
    data.mkdir()
    options = options_of("server", data)
    log = tmp_path / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command(way, "server", options), cwd=tmp_path, stdout=output, stderr=output)
    deadline = time.monotonic() + LIMIT
    with closing(socket.socket()) as probe:
        while probe.connect_ex(("127.0.0.1", port_of(options))) != 0:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
    process.terminate()
    assert process.wait(LIMIT) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_server_serves(way: str, tmp_path: Path) -> None:
    options = options_of("server", tmp_path)
    master = options[3]
    with running(command(way, "server", options), port_of(options), tmp_path) as process:
        deadline = time.monotonic() + LIMIT
        while True:  # the port is open before its master has elected itself
            with urlopen(f"http://127.0.0.1:{master}/cluster/status", timeout=LIMIT) as answer:
                if json.load(answer)["IsLeader"] is True:
                    break
            assert time.monotonic() < deadline
        process.terminate()
        assert process.wait(LIMIT) == 0


def test_log_for_programs(tmp_path: Path) -> None:
    options = ["--logFormat=json", *options_of("master", tmp_path)]
    with running(command("weedtw", "master", options), port_of(options), tmp_path) as process:
        process.terminate()
        assert process.wait(LIMIT) == 0
    lines = [json.loads(line) for line in (tmp_path / "output.log").read_text().splitlines()]
    assert all(line["message"] and line["time"] and line["level"] and line["namespace"] for line in lines)
    (started,) = [line for line in lines if "keeps its state in" in line["message"]]
    assert (started["level"], started["namespace"]) == ("info", "weedtw.master.service.MasterService")
    assert started["fields"]["folder"] == str(tmp_path)


def test_closed_pipe(tmp_path: Path) -> None:
    """`weedtw help master | head -1` says nothing about pipes."""
    words = " ".join([*command("weedtw", "help", ["master"]), "| head -1"])
    done = subprocess.run(
        ["sh", "-c", words], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
