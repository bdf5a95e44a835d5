"""Large files on the hot path: the same bytes as on the other way, whatever the client, the disk and the cache do."""

import errno
import os
import random
import re
import socket
from typing import Any

import attrs
import pytest
import pytest_twisted
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as installed_reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.volume.test_hot import KLEIN, LAST, READERS, _Count, request, talk
from weedtw.storage.fileops import FileOps
from weedtw.volume.outflow import RecordFlow
from weedtw.volume.service import VolumeService

reactor: Any = installed_reactor
SIZE = 3_000_001
PATH = "/3,010a0b0c0d"
LARGE = random.Random(8).randbytes(SIZE)
_DATE = re.compile(rb"(?<=\r\nDate: )[^\r]*")


@pytest_twisted.async_yield_fixture
async def server(cluster: Any) -> Any:
    [started] = await cluster.start()
    await cluster.volume(3, [started])
    await cluster.post(started, PATH, LARGE, "large.bin", "application/octet-stream")
    yield started


def parts(server: VolumeService) -> Any:
    """What answers reads on the hot path."""
    assert server._site is not None
    hot: Any = server._site.hot
    return hot.answer.__self__.reads


async def until(holds: Any) -> None:
    for _ in range(3000):
        if holds():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not come about")


async def whole(server: VolumeService) -> bytes:
    head, _, rest = (await talk(server, request("GET", PATH) + LAST)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest[SIZE:].startswith(b"HTTP/1.1 200 OK\r\n")  # what was asked for behind it
    return rest[:SIZE]


@pytest_twisted.ensureDeferred
async def test_it_is_answered_as_on_the_other_way(server: VolumeService) -> None:
    downloads = parts(server).server.downloads
    counted = _Count(server)
    for path in (PATH, PATH + ".png", PATH + "?dl=1", PATH[:-1] + "e", PATH + ".bin", PATH + "?proxied=true"):
        for method in ("GET", "HEAD"):
            for lines in READERS:
                hot = await talk(server, request(method, path, *lines) + LAST)
                slow = await talk(server, request(method, path, KLEIN.decode().strip(), *lines) + LAST)
                assert _DATE.sub(b"", hot) == _DATE.sub(b"", slow), (method, path, lines)
    assert counted.count >= 9
    assert downloads.used == 0


@pytest_twisted.ensureDeferred
async def test_what_is_not_cached_is_read_in_threads(server: VolumeService, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = FileOps.pread_cached_into
    asked: list[bool] = []

    def at_times(self: FileOps, fd: int, buffer: memoryview, offset: int) -> int:
        asked.append(len(asked) % 2 == 0)
        return cached(self, fd, buffer, offset) if asked[-1] else len(buffer) // 2

    monkeypatch.setattr(FileOps, "pread_cached_into", at_times)
    counted = _Count(server)
    assert await whole(server) == LARGE
    assert counted.count == 1
    assert asked.count(False) >= 3


@pytest.mark.parametrize("sent", [0, OSError(errno.EINVAL, "not here")])
@pytest_twisted.ensureDeferred
async def test_a_file_system_that_sends_nothing_by_itself(
    server: VolumeService, monkeypatch: pytest.MonkeyPatch, sent: int | OSError
) -> None:
    asked: list[int] = []

    def sendfile(_out: int, _fd: int, offset: int, _count: int) -> int:
        asked.append(offset)
        if isinstance(sent, OSError):
            raise sent
        return sent

    monkeypatch.setattr(os, "sendfile", sendfile)
    assert await whole(server) == LARGE
    assert len(asked) >= 6


@pytest_twisted.ensureDeferred
async def test_damage_cuts_the_connection(server: VolumeService, logged_failures: Any) -> None:
    volume = server.store.find(3)
    place = volume.generation.needles.find(1)
    assert place is not None
    volume.generation.dat.write([bytes(100)], place.offset + 1_000_000)
    downloads, counted = parts(server).server.downloads, _Count(server)
    before = server._api.damaged_reads if server._api is not None else 0
    heard = await talk(server, request("GET", PATH) + LAST)
    assert counted.count == 1
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(heard.partition(b"\r\n\r\n")[2]) < SIZE
    assert server._api is not None
    assert server._api.damaged_reads == before + 1
    assert len(logged_failures) == 1
    logged_failures.clear()
    assert downloads.used == 0


@pytest_twisted.ensureDeferred
async def test_clients_that_read_slowly_or_leave(server: VolumeService) -> None:
    host, _, port = server.address.rpartition(":")
    reads = parts(server)

    def slow() -> bytes:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            client.settimeout(60)
            client.connect((host, int(port)))
            client.sendall(request("GET", PATH) + LAST)
            return b"".join(iter(lambda: client.recv(50_000), b""))

    def leaving() -> bytes:
        with socket.create_connection((host, int(port)), timeout=60) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            client.sendall(request("GET", PATH))
            return client.recv(1000)

    heard = await deferToThread(slow)
    assert heard.partition(b"\r\n\r\n")[2][:SIZE] == LARGE
    for _ in range(20):
        assert (await deferToThread(leaving)).startswith(b"HTTP/1.1 200 OK\r\n")
    await until(lambda: reads.server.downloads.used == 0)
    assert len(reads._spare) <= 16
    assert await whole(server) == LARGE


@pytest_twisted.ensureDeferred
async def test_no_more_is_sent_at_once_than_is_allowed(server: VolumeService) -> None:
    downloads = parts(server).server.downloads
    downloads.limit = SIZE
    counted = _Count(server)
    downloads.used = 1  # by somebody else
    assert (await talk(server, request("GET", PATH) + LAST)).startswith(b"HTTP/1.1 503 ")
    downloads.used = 0
    assert counted.count == 0
    assert await whole(server) == LARGE
    assert (counted.count, downloads.used) == (1, 0)


@attrs.define
class Held:
    """A source in memory, of which every `lacking`th read finds nothing in the cache."""

    data: bytes
    lacking: int
    checksum: int = attrs.Factory(lambda self: crc32c(self.data), takes_self=True)
    reads: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def place(self, start: int) -> tuple[int, int]:
        return 7, 100 + start

    def pread(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]

    def pread_cached(self, start: int, buffer: memoryview) -> bool:
        self.reads += 1
        if self.reads % self.lacking == 0:
            return False
        buffer[:] = self.data[start : start + len(buffer)]
        return True


async def at_once(work: Any, *arguments: Any) -> Any:
    return work(*arguments)


@given(st.integers(1, 1_600_000), st.integers(2, 5), st.lists(st.integers(0, 700_000), max_size=20))
def test_what_is_put_back_is_given_again(size: int, lacking: int, takes: list[int]) -> None:
    source, spare, ends = Held(LARGE[:size], lacking), [], []  # type: ignore[var-annotated]
    flow = RecordFlow(b"", source, "it", at_once, spare, ends.append)
    received = bytearray()
    while True:
        piece = flow.piece()
        if piece is None:
            assert flow.fetch().called
            continue
        if not piece:
            break
        assert flow.place == (7, 100 + len(received))
        taken = min(takes.pop() if takes else len(piece), len(piece))
        received += piece[:taken]
        if taken < len(piece):
            flow.put_back(len(piece) - taken)
            assert flow._buffer is None  # somebody else may have it
            for buffer in spare:
                buffer[:] = bytes(len(buffer))
    assert received == source.data
    flow.end(None)
    assert ends == [None]
    assert len(spare) <= 1
