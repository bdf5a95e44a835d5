"""`weedtw upload -` and `weedtw download -o -`: files that come from a pipe and go into one."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.cluster.masters import Daemon, Scratch, assign, wait_for_cluster
from tests.cluster.processes import HOST, LIMIT, WEEDTW, request, wait_until

pytestmark = pytest.mark.process

CONTENT = os.urandom(2_500_000)
ASYNC = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from weedtw.client import Client

client = Client(sys.argv[1:], reactor)
Deferred.fromCoroutine(client.upload(sys.stdin.buffer)).addErrback(lambda failure: print(failure.value))
reactor.callLater(0.1, reactor.stop)
reactor.run()
"""


@pytest.fixture
def server(scratch: Scratch) -> Daemon:
    started = scratch.start("weedtw server -master.port=9333 -volume.port=8080 -dir=./v -ip=127.0.0.1")
    wait_for_cluster([started])
    assign([started])
    return started


def run(server: Daemon, *words: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command, *rest = words
    return subprocess.run(
        [*WEEDTW, command, "--master", server.address, *rest],
        input=given,
        capture_output=True,
        timeout=LIMIT,
        check=False,
        cwd=server.folder,
    )


def test_a_pipe_goes_in_and_comes_out_the_same(server: Daemon) -> None:
    stored = run(server, "upload", "-", "--name", "tape.bin", "--maxMB", "1", given=CONTENT)
    assert (stored.returncode, stored.stderr) == (0, b"")
    fid, _, name, *size = stored.stdout.decode().split()
    assert (name, size) == ("tape.bin", ["(2.4", "MiB,", "3", "chunks)"])
    small = run(server, "upload", "-", given=b"small").stdout.decode().split()
    assert small[2:] == ["-", "(5", "B)"]
    out = run(server, "download", "-o", "-", fid, "1,0badbadbad", small[0])
    assert (out.returncode, out.stdout) == (1, CONTENT + b"small")
    assert out.stderr.startswith(b"weedtw download: 1,0badbadbad: ")
    saved = run(server, "download", fid, "-o", "named")
    assert (saved.stdout.decode(), (server.folder / "named").read_bytes()) == (
        f"{fid}  ./named  (2.4 MiB)\n",
        CONTENT,
    )
    again = run(server, "download", fid, "-o", "named")
    assert again.stderr.decode() == f"weedtw download: {fid}: ./named: exists already; --force overwrites it\n"


def test_an_output_that_takes_no_more_is_one_line_or_none(server: Daemon) -> None:
    fid = run(server, "upload", "-", given=CONTENT).stdout.decode().split()[0]
    whole = [*WEEDTW, "download", "--master", server.address, "-o", "-", fid]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(whole, stdout=full, stderr=subprocess.PIPE, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (1, b"weedtw download: standard output: No space left on device\n")
    script = f"{' '.join(whole)} | head -c 10 | wc -c"
    piped = subprocess.run(["sh", "-c", script], capture_output=True, timeout=LIMIT, check=False)
    assert (piped.stdout.split(), piped.stderr) == ([b"10"], b"")


def test_ctrl_c_ends_an_upload_whose_pipe_stays_open_and_nothing_stays(server: Daemon) -> None:
    words = [*WEEDTW, "upload", "--master", server.address, "--maxMB", "1", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(CONTENT)
        process.stdin.flush()
        wait_until(lambda: _stored(server) >= 2, "two chunks are there")
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 130
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"weedtw upload: interrupted\n")
    assert not _stored(server)


def _stored(server: Daemon) -> int:
    """How many files there are."""
    port = re.search(r"-volume\.port=(\d+)", server.line)
    assert port is not None
    volumes = request("GET", f"{HOST}:{port[1]}/status").json()["Volumes"]
    return sum(int(one["FileCount"]) - int(one["DeleteCount"]) for one in volumes)


def test_a_closed_standard_input_is_an_error(server: Daemon) -> None:
    script = f"{' '.join(WEEDTW)} upload - --master {server.address} <&-"
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (1, b"weedtw upload: standard input: is closed\n")


def test_a_program_may_end_while_it_waits_for_standard_input(server: Daemon) -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASYNC, server.address],
            stdin=reading,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
