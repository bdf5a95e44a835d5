"""Uploads of what comes only once and has no known length: iterators, pipes, and those that fail on the way."""

import gzip
import io
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from weedtw.client import Uploaded
from weedtw.client.contents import Content
from weedtw.client.cuts import STREAM_CHUNK
from weedtw.errors import BadRequest, PeerError, StorageError

if TYPE_CHECKING:
    from tests.client.conftest import Cluster

CONTENT = bytes(range(256)) * 1000
SIZES = [1, 0, 99_999, 1, 130_000, 0]  # of pieces: some in several chunks, some several in one, some empty


def _pieces(sizes: list[int] | None = None) -> Iterator[bytes]:
    """CONTENT in pieces of these sizes, and a last one with what is left."""
    offset = 0
    for size in sizes or SIZES:
        yield CONTENT[offset : offset + size]
        offset += size
    yield CONTENT[offset:]


async def _slowly(cluster: "Cluster", pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        await cluster.turns(0)
        yield piece


def _whole(cluster: "Cluster", uploaded: Uploaded) -> bytes:
    """What a file holds, and that there is nothing else on the servers."""
    files = cluster.files
    content = files.pop(f"/{uploaded.fid}")
    if uploaded.chunks:
        manifest = json.loads(content)
        assert manifest["size"] == uploaded.size
        content = b"".join(files.pop(f"/{one['fid']}") for one in manifest["chunks"])
    assert files == {}
    assert len(content) == uploaded.size
    return content


@ensureDeferred
@pytest.mark.parametrize("most", [0, 256_000, 300_000])
async def test_what_fits_into_a_chunk_is_one_file(cluster: "Cluster", most: int) -> None:
    client = cluster.client()
    contents: list[Content] = [_pieces(), _slowly(cluster, _pieces()), [CONTENT], [bytearray(CONTENT), b""]]
    for content in contents:
        uploaded = await client.upload(content, name="x.png", max_bytes=most)
        assert uploaded.chunks == ()
        assert _whole(cluster, uploaded) == CONTENT
        await client.delete(uploaded.fid)
    assert b'filename="x.png"\r\nContent-Type: image/png' in cluster.volumes[1].asked("POST")[0].body


@ensureDeferred
async def test_more_than_a_chunk_is_chunks_and_a_manifest(cluster: "Cluster") -> None:
    client = cluster.client()
    for content in (_pieces(), _slowly(cluster, _pieces()), [CONTENT], _pieces([100_000, 100_000])):
        uploaded = await client.upload(content, name="big", max_bytes=100_000)
        assert [(one.offset, one.size) for one in uploaded.chunks] == [
            (0, 100_000),
            (100_000, 100_000),
            (200_000, 56_000),
        ]
        assert _whole(cluster, uploaded) == CONTENT
        for chunk in uploaded.chunks:
            await client.delete(chunk.fid)
        await client.delete(uploaded.fid)
    assert any(b'filename="big-3"' in one.body for volume in cluster.volumes for one in volume.asked("POST"))


@ensureDeferred
async def test_a_chunk_that_is_just_full_is_followed_by_nothing(cluster: "Cluster") -> None:
    uploaded = await cluster.client().upload(_pieces([128_000]), max_bytes=128_000)
    assert [one.size for one in uploaded.chunks] == [128_000, 128_000]
    assert _whole(cluster, uploaded) == CONTENT


@ensureDeferred
async def test_a_stream_without_bytes_is_an_empty_file(cluster: "Cluster") -> None:
    for content in ([], [b"", b""]):
        uploaded = await cluster.client().upload(content)
        assert (uploaded.size, uploaded.chunks) == (0, ())
        assert cluster.files[f"/{uploaded.fid}"] == b""


@ensureDeferred
async def test_a_stream_is_split_also_when_nobody_asked_for_it(cluster: "Cluster") -> None:
    uploaded = await cluster.client().upload(iter([bytes(STREAM_CHUNK), b"x"]))
    assert [one.size for one in uploaded.chunks] == [STREAM_CHUNK, 1]


@ensureDeferred
async def test_no_more_is_read_than_is_on_its_way(cluster: "Cluster") -> None:
    read: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(10_000)
            yield bytes(10_000)

    for volume in cluster.volumes:
        volume.faults.append(lambda request: cluster.silence if request.method == "POST" else None)
    upload = Deferred.fromCoroutine(cluster.client(answer_timeout=60.0).upload(endless(), max_bytes=100_000))
    while sum(len(volume.asked("POST")) for volume in cluster.volumes) < 3:
        await cluster.turns(0)
    await cluster.turns(0.1)
    assert sum(read) == 3 * 100_000 + 10_000  # the last to know whether there is another chunk
    upload.cancel()
    with pytest.raises(CancelledError):
        await upload


@ensureDeferred
async def test_chunks_of_a_stream_are_sent_again(cluster: "Cluster") -> None:
    for volume in cluster.volumes:
        volume.fail_once(cluster.hang_up, "POST")
    uploaded = await cluster.client().upload(_pieces(), max_bytes=100_000)
    assert _whole(cluster, uploaded) == CONTENT


@ensureDeferred
@pytest.mark.parametrize("most", [0, 10_000])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_stream_that_fails_leaves_nothing_behind(cluster: "Cluster", most: int, waits: bool) -> None:
    def failing() -> Iterator[bytes]:
        yield from _pieces([25_000])
        raise ValueError("the tape is torn")

    content = _slowly(cluster, failing()) if waits else failing()
    with pytest.raises(StorageError) as raised:
        await cluster.client().upload(content, name="tape", max_bytes=most)
    assert str(raised.value) == (
        "the stream: broke off after 256000 bytes, so that nothing of it is kept: ValueError: the tape is torn"
    )
    assert isinstance(raised.value.__cause__, ValueError)
    assert cluster.files == {}
    stored = sum(len(volume.asked("POST")) for volume in cluster.volumes)
    assert stored > 0 if most else stored == 0


@ensureDeferred
async def test_an_iterator_is_closed_when_no_server_takes_it(cluster: "Cluster") -> None:
    closed: list[str] = []

    def plain() -> Iterator[bytes]:
        try:
            while True:
                yield CONTENT
        finally:
            closed.append(threading.current_thread().name)
            done.callback(None)

    async def waiting() -> AsyncIterator[bytes]:
        try:
            while True:
                yield CONTENT
        finally:
            await cluster.turns(0)
            closed.append("waiting")

    done: Deferred[None] = Deferred()
    for volume in cluster.volumes:
        volume.faults.append(lambda request: cluster.no(400, "no") if request.method == "POST" else None)
    for content in (plain(), waiting()):
        with pytest.raises(PeerError, match="no"):
            await cluster.client().upload(content, max_bytes=100_000)
    while len(closed) < 2:
        await cluster.turns(0)
    assert sorted(closed) == ["waiting", "weedtw-source"]
    assert cluster.files == {}


@ensureDeferred
async def test_a_pipe_is_read_to_its_end_and_left_open(cluster: "Cluster") -> None:
    for buffering in (-1, 0):
        reading, writing = os.pipe()
        with open(reading, "rb", buffering=buffering) as file:
            upload = Deferred.fromCoroutine(cluster.client().upload(file, max_bytes=100_000))
            await deferToThread(_write_and_close, writing)
            uploaded = await upload
            assert not file.closed
        assert uploaded.name == ""
        assert len(uploaded.chunks) == 3
        assert b"".join(cluster.files[f"/{chunk.fid}"] for chunk in uploaded.chunks) == CONTENT


def _write_and_close(descriptor: int) -> None:
    with open(descriptor, "wb") as file:
        file.write(CONTENT)


@ensureDeferred
async def test_a_pipe_on_which_nothing_comes_can_be_given_up(cluster: "Cluster") -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as file, open(writing, "wb"):
        upload = Deferred.fromCoroutine(cluster.client().upload(file))
        await cluster.turns(0)
        upload.cancel()
        with pytest.raises(CancelledError):
            await upload
    assert cluster.master.requests == []


@ensureDeferred
async def test_files_that_only_seem_to_be_seekable_are_streams(cluster: "Cluster") -> None:
    packed = io.BytesIO(gzip.compress(CONTENT))
    with gzip.open(packed) as unpacking, open(os.devnull, "rb") as nothing:
        for file, content in ((unpacking, CONTENT), (nothing, b"")):
            given: Any = file
            uploaded = await cluster.client().upload(given)
            assert cluster.files[f"/{uploaded.fid}"] == content


@ensureDeferred
async def test_what_holds_no_bytes_is_refused(cluster: "Cluster") -> None:
    client = cluster.client()
    text: Any = _TextPipe()
    with pytest.raises(BadRequest, match="pieces of type str, not bytes"):
        await client.upload(["text"])  # type: ignore[list-item]
    with pytest.raises(BadRequest, match="pieces of type str, not bytes"):
        await client.upload(text)
    with pytest.raises(BadRequest, match="neither bytes, nor a path"):
        await client.upload(5)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="make it blocking"):
        await client.upload(_Impatient())
    assert cluster.master.requests == []


class _TextPipe:
    def read(self, count: int) -> str:
        return ""


class _Impatient(io.RawIOBase):
    def read(self, size: int = -1) -> None:  # as one that does not block answers
        return None


@ensureDeferred
async def test_an_iterator_that_would_end_the_program_fails_the_upload(cluster: "Cluster") -> None:
    def leaving() -> Iterator[bytes]:
        yield CONTENT
        raise SystemExit(3)

    with pytest.raises(StorageError, match=r"SystemExit\(3\) ends no program from here"):
        await cluster.client().upload(leaving(), max_bytes=100_000)
    assert cluster.files == {}
