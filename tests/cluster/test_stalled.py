"""A thousand clients that stall, half of them readers of a large file: memory stays bounded, and each is ended."""

import os
import resource
import selectors
import socket
from collections.abc import Iterator

import pytest

from tests.cluster.masters import Daemon, Scratch, assign, put
from tests.cluster.processes import HOST, request, wait_until

pytestmark = pytest.mark.process

EACH = 500
LARGE = 8 << 20  # bytes of the file; all of it for each reader would be 4 GB
MEMORY = EACH * (1280 << 10)  # bytes that the server may grow by: a few pieces of 256 KiB for each reader


def memory(daemon: Daemon) -> int:
    """Bytes in memory that are the process's own: pages of files it has mapped are the kernel's to drop."""
    with open(f"/proc/{daemon.process.pid}/status") as file:
        kilobytes = next(line.split()[1] for line in file if line.startswith("RssAnon:"))
    return int(kilobytes) << 10


def files(daemon: Daemon) -> int:
    """How many files and connections it has open."""
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * EACH:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * EACH), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def stall(daemon: Daemon, said: bytes) -> socket.socket:
    """A client that says this and then nothing, and takes no more than its small buffer holds."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect((HOST, daemon.port))
    client.sendall(said)
    client.setblocking(False)
    return client


@pytest.mark.usefixtures("many_files")
def test_a_thousand(scratch: Scratch) -> None:
    master = scratch.start(f"weedtw master -ip={HOST} -port=9333 -mdir=./m -pulseSeconds=1")
    server = scratch.start(f"weedtw volume -ip={HOST} -port=8080 -dir=./v -mserver={HOST}:9333 -pulseSeconds=1")
    content = os.urandom(LARGE)
    large = put(assign([master]), content)
    small = put(assign([master]), b"small")
    for _ in range(3):
        assert request("GET", f"{server.address}/{large}").body == content
    before = memory(server), files(server)
    reading = f"GET /{large} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    sending = f"PUT /{small} HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n".encode() + bytes(2000)
    clients = [stall(server, said) for _ in range(EACH) for said in (reading, sending)]
    try:
        wait_until(lambda: files(server) >= before[1] + 2 * EACH - 50, "all of them are connected")
        most = 0

        def ended() -> bool:
            nonlocal most
            most = max(most, memory(server))
            assert request("GET", f"{server.address}/{small}").body == b"small"
            return files(server) <= before[1] + 20

        wait_until(ended, "all of them are ended", limit=180)
        assert most <= before[0] + MEMORY, f"it grew from {before[0]} to {most} bytes"
        assert is_over(clients)
    finally:
        for client in clients:
            client.close()
    assert request("GET", f"{server.address}/{large}").body == content


def is_over(clients: list[socket.socket]) -> bool:
    """Whether all of them find an end, or a refusal before it, when they come back to their connection."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        return len(selector.select(0)) == len(clients)
