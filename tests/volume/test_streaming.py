"""Large answers at the pace of a slow client."""

import os
import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from weedtw.storage.fileops import FileOps

reactor: Any = installed_reactor
FID = "/3,01637037d6"
SIZE = 24 << 20


def small_window(address: str) -> socket.socket:
    """A connection whose receiver takes little at once."""
    host, _, port = address.rpartition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.connect((host, int(port)))
    client.sendall(f"GET {FID} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return client


def everything(client: socket.socket) -> bytes:
    client.settimeout(30)
    pieces = []
    while piece := client.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("through", ["the holder", "another server"])
@pytest_twisted.ensureDeferred
async def test_no_more_is_read_than_the_client_takes(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    outsider, holder = await cluster.start(2, file_size_limit_mb=32)
    await cluster.volume(3, [holder])
    noise = os.urandom(SIZE)
    await cluster.put(holder, FID, noise, "a/b")
    read = 0

    def pread(_ops: FileOps, fd: int, length: int, offset: int) -> bytes:
        nonlocal read
        read += length
        return os.pread(fd, length, offset)

    def pread_cached_into(_ops: FileOps, fd: int, buffer: memoryview, offset: int) -> int:
        nonlocal read
        read += len(buffer)
        return os.preadv(fd, [buffer], offset)

    monkeypatch.setattr(FileOps, "pread", pread)
    monkeypatch.setattr(FileOps, "pread_cached_into", pread_cached_into)
    server = holder if through == "the holder" else outsider
    client = await deferToThread(small_window, server.address)
    seen = -1
    while seen != read or read == 0:  # until nothing more is read by itself
        seen = read
        await deferLater(reactor, 0.2)
    assert read < SIZE - (1 << 20)
    answer = await deferToThread(everything, client)
    client.close()
    assert answer.partition(b"\r\n\r\n")[2] == noise


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_ends_the_reading(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (server,) = await cluster.start(file_size_limit_mb=32, concurrent_download_limit_mb=25)
    await cluster.volume(3, [server])
    await cluster.put(server, FID, os.urandom(SIZE), "a/b")
    for _ in range(3):
        client = await deferToThread(small_window, server.address)
        await deferToThread(client.recv, 1000)
        client.close()
        downloads = server._api.server.downloads
        while downloads.used:
            await deferLater(reactor, 0.01)
    assert (await cluster.get(server, FID)).status == 200
