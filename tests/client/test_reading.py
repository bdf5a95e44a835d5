"""Files as iterators: what they yield, when they read, and that a loop left early lets the connection go."""

import contextlib
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred

from weedtw.client import Reading
from weedtw.errors import BadFileId, BadRequest, NeedleNotFound, PeerError, RangeNotSatisfiable

if TYPE_CHECKING:
    from tests.client.conftest import Cluster

CONTENT = bytes(range(256)) * 4000
LONG = CONTENT * 8  # more than the buffers of a connection hold
FID = "1,01deadbeef"
PATH = f"/{FID}"


def _store(cluster: "Cluster", *, copies: int = 1, content: bytes = CONTENT) -> None:
    cluster.master.holders["1"] = cluster.volumes[:copies]
    for volume in cluster.volumes[:copies]:
        volume.files[PATH] = content


async def _all(reading: Reading) -> bytes:
    return b"".join([piece async for piece in reading])


async def _until(cluster: "Cluster", holds: Callable[[], bool]) -> None:
    """Turn the reactor until that is so; the test's own limit is what ends it otherwise."""
    while not holds():
        await cluster.turns(0)


@ensureDeferred
async def test_the_pieces_are_the_file(cluster: "Cluster") -> None:
    _store(cluster)
    client = cluster.client()
    pieces = [piece async for piece in client.open(FID)]
    assert b"".join(pieces) == CONTENT
    assert len(pieces) > 1
    assert all(pieces)
    assert await _all(client.open(FID)) == CONTENT
    assert cluster.volumes[0].connected == 1  # kept, and used again


@ensureDeferred
@pytest.mark.parametrize(
    ("start", "stop", "asked"),
    [
        (0, 1, "bytes=0-0"),
        (1000, 500_000, "bytes=1000-499999"),
        (1_023_999, None, "bytes=1023999-"),
        (1000, 2_000_000, "bytes=1000-1999999"),  # more than there is
    ],
)
async def test_a_part_is_what_a_slice_would_be(cluster: "Cluster", start: int, stop: int | None, asked: str) -> None:
    _store(cluster)
    reading = cluster.client().open(FID, start, stop)
    info = await reading.info()
    assert (info.size, info.name) == (len(CONTENT), "x.txt")
    assert await _all(reading) == CONTENT[start:stop]
    (request,) = cluster.volumes[0].asked("GET")
    assert request.headers["range"] == asked


@ensureDeferred
async def test_a_part_that_is_not_there_is_an_error(cluster: "Cluster") -> None:
    _store(cluster)
    client = cluster.client()
    with pytest.raises(RangeNotSatisfiable) as raised:
        await _all(client.open(FID, len(CONTENT)))
    assert raised.value.size == len(CONTENT)
    for start, stop in ((-1, None), (5, 5), (5, 4)):
        with pytest.raises(BadRequest):
            client.open(FID, start, stop)
    with pytest.raises(BadFileId):
        client.open("not a file id")
    with pytest.raises(NeedleNotFound):
        await _all(client.open("1,02deadbeef"))


@ensureDeferred
@pytest.mark.parametrize("given", ["", "bytes 5-9/100", "bytes 10-30/100", "bytes 10-5/100", "nonsense"])
async def test_a_server_that_gives_another_part_is_not_believed(cluster: "Cluster", given: str) -> None:
    _store(cluster)
    cluster.volumes[0].fail_once(cluster.answer(206, b"12345", {"Content-Range": given}))
    with pytest.raises(PeerError, match="something else when asked for bytes=10-19"):
        await _all(cluster.client().open(FID, 10, 20))


@ensureDeferred
async def test_a_server_that_gives_all_instead_of_a_part_is_an_error(cluster: "Cluster") -> None:
    _store(cluster)
    cluster.volumes[0].fail_once(cluster.answer(200, CONTENT))
    with pytest.raises(PeerError, match="something else"):
        await _all(cluster.client().open(FID, 10))


@ensureDeferred
async def test_a_part_that_breaks_off_is_resumed_elsewhere_and_ends_where_it_should(cluster: "Cluster") -> None:
    _store(cluster, copies=2)
    headers = {"ETag": '"0badcafe"', "Content-Range": f"bytes 1000-899999/{len(CONTENT)}"}
    cut = cluster.answer(206, CONTENT[1000:500_000], headers, announced=899_000, cut=True)
    for volume in cluster.volumes:
        volume.faults.append(lambda request: None if "if-range" in request.headers else cut)
    assert await _all(cluster.client().open(FID, 1000, 900_000)) == CONTENT[1000:900_000]
    resumed = [one for volume in cluster.volumes for one in volume.asked("GET") if "if-range" in one.headers]
    assert [one.headers["range"] for one in resumed] == ["bytes=500000-899999"]


@ensureDeferred
async def test_content_shorter_than_announced_is_an_error_at_the_end(cluster: "Cluster") -> None:
    _store(cluster)
    cluster.volumes[0].fail_once(cluster.answer(200, CONTENT[:500_000], announced=len(CONTENT), cut=True), "GET")
    reading = cluster.client().open(FID)
    received: list[bytes] = []

    async def read() -> None:
        async for piece in reading:
            received.append(piece)  # noqa: PERF401 - what came before the error is what is looked at

    with pytest.raises(PeerError, match="broke off after 500000 bytes"):
        await read()
    assert b"".join(received) == CONTENT[:500_000]
    assert await reading.piece() == b""  # it is told once; there is nothing more


@ensureDeferred
async def test_an_empty_file_has_no_pieces(cluster: "Cluster") -> None:
    _store(cluster, content=b"")
    reading = cluster.client().open(FID)
    assert [piece async for piece in reading] == []
    assert (await reading.info()).size == 0


@ensureDeferred
async def test_a_reader_that_takes_its_time_holds_the_connection_up(cluster: "Cluster") -> None:
    _store(cluster, content=LONG)
    received: list[bytes] = []
    async for piece in cluster.client(idle_timeout=0.1).open(FID):
        if not received:
            await cluster.turns(0.3)  # longer than the idle limit: it is the reader that is slow, not the server
        received.append(piece)
    assert b"".join(received) == LONG
    assert max(map(len, received)) < 1_000_000


@ensureDeferred
async def test_nothing_is_asked_before_it_is_wanted(cluster: "Cluster") -> None:
    _store(cluster)
    client = cluster.client()
    client.open(FID)
    async with client.open(FID):
        pass
    assert cluster.master.requests == []


@ensureDeferred
async def test_leaving_a_loop_early_closes_the_connection(cluster: "Cluster") -> None:
    _store(cluster, content=LONG)
    client = cluster.client()

    async def in_a_block() -> None:
        async with client.open(FID) as reading:
            async for _ in reading:
                break

    async def by_hand() -> None:
        reading = client.open(FID)
        await reading.piece()
        await reading.close()
        assert await _all(reading) == b""

    async def forgotten() -> None:
        async for _ in client.open(FID):
            break

    async def before_the_first_piece() -> None:
        async with client.open(FID) as reading:
            await reading.info()

    async def by_an_error() -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with client.open(FID) as reading:
                async for _ in reading:
                    raise ZeroDivisionError

    volume = cluster.volumes[0]
    for made, leave in enumerate((in_a_block, by_hand, forgotten, before_the_first_piece, by_an_error), 1):
        await leave()
        gc.collect()
        await _until(cluster, lambda: not volume.connections)
        assert volume.connected == made


@ensureDeferred
async def test_cancelling_who_waits_for_a_piece_closes_the_connection(cluster: "Cluster") -> None:
    _store(cluster)
    cluster.volumes[0].fail_once(cluster.answer(200, b"and then", announced=100), "GET")
    reading = cluster.client(idle_timeout=60.0).open(FID)
    assert await reading.piece() == b"and then"
    waiting = Deferred.fromCoroutine(reading.piece())
    with pytest.raises(RuntimeError, match="waited for already"):
        await reading.piece()
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await _until(cluster, lambda: not cluster.volumes[0].connections)
