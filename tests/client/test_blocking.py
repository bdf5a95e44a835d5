"""The client that waits: what it reads of iterators in the thread that calls, and its own iterator."""

import io
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from weedtw.client import BlockingClient, Uploaded
from weedtw.errors import NeedleNotFound, StorageError

if TYPE_CHECKING:
    from tests.client.conftest import Cluster

CONTENT = bytes(range(256)) * 1000
LONG = CONTENT * 32  # more than the buffers of a connection hold
FID = "1,01deadbeef"
PATH = f"/{FID}"


def pieces() -> Iterator[bytes]:
    for offset in range(0, len(CONTENT), 60_000):
        yield CONTENT[offset : offset + 60_000]


async def _slowly(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _write_and_close(descriptor: int) -> None:
    with open(descriptor, "wb") as file:
        file.write(CONTENT)


@ensureDeferred
async def test_one_that_waits_reads_in_a_loop_too(cluster: "Cluster") -> None:
    volume = cluster.volumes[0]
    volume.files[PATH] = LONG

    def script(client: BlockingClient) -> tuple[bytes, bytes, int | None]:
        whole = b"".join(client.open(FID))
        with client.open(FID, 10, 20) as reading:
            size = reading.info().size
            part = b"".join(reading)
        for _ in client.open(FID):
            break
        with pytest.raises(NeedleNotFound):
            list(client.open("1,02deadbeef"))
        return whole, part, size

    assert await _in_thread(cluster, script) == (LONG, LONG[10:20], len(LONG))
    while volume.connections:
        await cluster.turns(0)


@ensureDeferred
async def test_one_that_waits_reads_iterators_in_its_own_thread(cluster: "Cluster") -> None:
    threads: set[int] = set()

    def numbered() -> Iterator[bytes]:
        for piece in pieces():
            threads.add(threading.get_ident())
            yield piece

    def script(client: BlockingClient) -> tuple[Uploaded, int]:
        return client.upload(numbered(), max_bytes=100_000), threading.get_ident()

    uploaded, thread = await _in_thread(cluster, script)
    assert threads == {thread}
    assert b"".join(cluster.files[f"/{chunk.fid}"] for chunk in uploaded.chunks) == CONTENT


@ensureDeferred
async def test_one_that_waits_uploads_what_it_downloads(cluster: "Cluster") -> None:
    cluster.volumes[0].files["/1,01deadbeef"] = CONTENT * 4

    def script(client: BlockingClient) -> Uploaded:
        with pytest.raises(StorageError, match="the stream: broke off after 0 bytes") as raised:
            client.upload(client.open("1,09deadbeef"))
        assert isinstance(raised.value.__cause__, NeedleNotFound)
        return client.upload(client.open("1,01deadbeef"))

    uploaded = await _in_thread(cluster, script)
    assert cluster.files[f"/{uploaded.fid}"] == CONTENT * 4


@ensureDeferred
async def test_one_that_waits_reads_pipes_and_async_iterators(cluster: "Cluster") -> None:
    def script(client: BlockingClient) -> None:
        reading, writing = os.pipe()
        with open(reading, "rb") as file:
            threading.Thread(target=_write_and_close, args=(writing,)).start()
            assert client.upload(file, max_bytes=200_000).size == len(CONTENT)
        assert client.upload(_slowly(pieces())).size == len(CONTENT)
        assert client.upload(io.BytesIO(CONTENT)).size == len(CONTENT)
        with pytest.raises(StorageError, match="ValueError: torn"):
            client.upload(_torn())

    await _in_thread(cluster, script)


def _torn() -> Iterator[bytes]:
    yield b"x"
    raise ValueError("torn")


@ensureDeferred
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
async def test_ctrl_c_while_the_iterator_runs_undoes_what_was_stored(
    cluster: "Cluster", end: type[BaseException]
) -> None:
    def interrupted() -> Iterator[bytes]:
        yield from pieces()
        while not cluster.files:
            yield b"more"
        raise end

    def script(client: BlockingClient) -> None:
        with pytest.raises(end):
            client.upload(interrupted(), max_bytes=50_000)
        assert cluster.files == {}

    await _in_thread(cluster, script)
    assert any(volume.asked("DELETE") for volume in cluster.volumes)


async def _in_thread(cluster: "Cluster", script: Callable[[BlockingClient], Any]) -> Any:
    """Run a script with a client of its own in another thread, as the reactor runs in this one."""
    from twisted.internet import reactor  # noqa: PLC0415 - the one that pytest-twisted runs

    def run() -> Any:
        with BlockingClient([cluster.master.address], reactor=reactor, patience=3.0) as client:
            return script(client)

    return await deferToThread(run)
