"""Files in chunks, here and elsewhere."""

import json
import os
import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogLevel, capturedLogs, formatEvent

from weedtw.formats.fileid import FileId
from weedtw.volume.manifest import Manifest
from weedtw.volume.needles import Needles

FID = "/3,10637037d6"
ONE, TWO, THREE = "3,01637037d6", "4,02637037d6", "3,03637037d6"


async def store(cluster: Any, server: Any, *chunks: tuple[str, bytes], path: str = FID, **more: Any) -> Any:
    """Store chunks and a manifest of them."""
    listed, at = [], 0
    for fid, body in chunks:
        assert (await cluster.put(server, f"/{fid}", body, "application/octet-stream")).status == 201
        listed.append({"fid": fid, "offset": at, "size": len(body)})
        at += len(body)
    document = {"name": "whole.bin", "mime": "video/x", "size": at, "chunks": listed} | more
    return await cluster.put(server, path + "?cm=true", json.dumps(document).encode(), "application/json")


@pytest_twisted.ensureDeferred
async def test_a_whole_of_near_and_far_chunks(cluster: Any, servers: Any) -> None:
    parts = [os.urandom(3 << 20), os.urandom((2 << 20) + 5), b"", os.urandom(100)]
    stored = await store(
        cluster, servers[0], (ONE, parts[0]), (TWO, parts[1]), ("4,05637037d6", b""), (THREE, parts[3])
    )
    assert stored.status == 201
    whole = b"".join(parts)
    for server in servers:
        read = await cluster.get(server, FID)
        assert (read.status, read.body == whole, read["Content-Length"]) == (200, True, str(len(whole)))
        assert (read["X-File-Store"], read["Content-Type"]) == ("chunked", "video/x")
        assert "whole.bin" in read["Content-Disposition"]
        assert (await cluster.head(server, FID))["Content-Length"] == str(len(whole))
        for start, stop in ((0, 1), (3145720, 3145740), (3145728, 5242885), (5242880, 5242985), (0, len(whole))):
            read = await cluster.get(server, FID, Range=f"bytes={start}-{stop - 1}")
            assert (read.status, read.body == whole[start:stop]) == (206, True), (start, stop)
    assert (await cluster.get(servers[0], FID, Range=f"bytes={len(whole)}-")).status == 416


@pytest_twisted.ensureDeferred
async def test_compressed_chunks_count_by_their_content(cluster: Any, servers: Any) -> None:
    text = b"words and words and " * 5000
    for fid in (ONE, TWO):
        await cluster.put(servers[0], f"/{fid}", text, "text/plain")
    listed = [{"fid": ONE, "offset": 0, "size": len(text)}, {"fid": TWO, "offset": len(text), "size": len(text)}]
    document = json.dumps({"size": 2 * len(text), "chunks": listed}).encode()
    await cluster.put(servers[0], FID + "?cm=true", document, "application/json")
    assert (await cluster.get(servers[0], FID)).body == text * 2
    read = await cluster.get(servers[0], FID, Range=f"bytes={len(text) - 3}-{len(text) + 2}")
    assert read.body == text[-3:] + text[:3]


@pytest_twisted.ensureDeferred
async def test_the_manifest_itself(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0], (ONE, b"abc"), path=FID)
    itself = await cluster.get(servers[0], FID + "?cm=false")
    assert (itself.json["size"], itself.get("X-File-Store")) == (3, None)


@pytest_twisted.ensureDeferred
async def test_deleting_deletes_near_and_far_chunks(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0], (ONE, b"abc"), (TWO, b"defg"))
    await cluster.delete(servers[0], f"/{ONE}")  # one that is gone already is no obstacle
    assert (await cluster.delete(servers[1], FID)).json == {"size": 7}
    for path in (FID, f"/{ONE}", f"/{TWO}"):
        assert (await cluster.get(servers[0], path)).status == 404


@pytest_twisted.ensureDeferred
async def test_many_chunks_are_deleted_a_few_at_a_time(
    cluster: Any, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest may name half a million."""
    await store(cluster, servers[0], *((f"3,{key:x}637037d6", b"abc") for key in range(0x100, 0x128)))
    at_once = most = 0
    original = Needles._delete_chunk

    async def counted(self: Needles, file_id: FileId) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            await original(self, file_id)
        finally:
            at_once -= 1

    monkeypatch.setattr(Needles, "_delete_chunk", counted)
    assert (await cluster.delete(servers[0], FID)).status == 202
    assert (most, at_once) == (8, 0)
    assert servers[0].store.find(3).info().delete_count == 41


@pytest_twisted.ensureDeferred
async def test_a_long_manifest_is_read_in_a_thread(
    cluster: Any, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[bool] = []
    original = Manifest.parse.__func__  # type: ignore[attr-defined]

    def watched(cls: type[Manifest], text: bytes) -> Manifest:
        readers.append(threading.current_thread() is threading.main_thread())
        parsed: Manifest = original(cls, text)
        return parsed

    monkeypatch.setattr(Manifest, "parse", classmethod(watched))
    for length, on_the_spot in ((10, True), (70_000, False)):
        readers.clear()
        await store(cluster, servers[0], (ONE, b"abc"), more="x" * length)
        assert (await cluster.get(servers[0], FID)).body == b"abc"
        assert (await cluster.delete(servers[0], FID)).status == 202
        assert readers == [on_the_spot] * 2


@pytest_twisted.ensureDeferred
async def test_names_and_types_that_fit_no_header(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0], (ONE, b"abc"), name="../" + "n" * 70_000 + "\r\n", mime="text/" + "m" * 70_000)
    answer = await cluster.get(servers[0], FID)
    assert (answer.status, answer.body) == (200, b"abc")
    assert answer["Content-Disposition"] == f'inline; filename="{"n" * 255}"'
    assert answer["Content-Type"] == "application/octet-stream"


@pytest_twisted.ensureDeferred
async def test_only_the_manifest_is_deleted_on_request(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0], (ONE, b"abc"))
    assert (await cluster.delete(servers[0], FID + "?cm=false")).status == 202
    assert (await cluster.get(servers[0], f"/{ONE}")).body == b"abc"


@pytest_twisted.ensureDeferred
async def test_a_chunk_that_cannot_be_deleted_keeps_the_manifest(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0], (ONE, b"abc"), (TWO, b"defg"))
    address = servers[1].address
    await cluster.stop(servers[1])
    cluster.master.extra[4] = [address]
    answer = await cluster.delete(servers[0], FID)
    assert (answer.status, address in answer.error) == (503, False)
    assert (await cluster.get(servers[0], FID + "?cm=false")).status == 200


@pytest_twisted.ensureDeferred
async def test_what_is_no_manifest_is_read_as_it_is_and_can_be_deleted(cluster: Any, servers: Any) -> None:
    for body in (b"no json", b"[1, 2]", b'{"chunks":"x"}', b'{"size":1,"chu', b"x" * 70_000):
        assert (await cluster.put(servers[0], FID + "?cm=true", body, "application/json")).status == 201
        for server in servers:
            read = await cluster.get(server, FID)
            assert (read.status, read.body, read.get("X-File-Store")) == (200, body, None)
            assert (read["Content-Length"], read["Content-Type"]) == (str(len(body)), "application/json")
        head = await cluster.head(servers[0], FID)
        assert (head.status, head["Content-Length"]) == (200, str(len(body)))
        part = await cluster.get(servers[0], FID, Range="bytes=2-4")
        assert (part.status, part.body) == (206, body[2:5])
        deleted = await cluster.delete(servers[0], FID)
        assert (deleted.status, deleted.json) == (202, {"size": len(body)})
        assert (await cluster.get(servers[0], FID + "?cm=false")).status == 404


@pytest_twisted.ensureDeferred
async def test_the_log_says_once_that_it_is_no_manifest(cluster: Any, servers: Any) -> None:
    await cluster.put(servers[0], FID + "?cm=true", b"no json", "application/json")
    with capturedLogs() as events:
        for _ in range(20):
            assert (await cluster.get(servers[0], FID)).body == b"no json"
    [line] = [formatEvent(event) for event in events if event["log_level"] >= LogLevel.warn]
    assert FID[1:] in line
    assert "manifest" in line
    assert "it is not JSON" in line


@pytest_twisted.ensureDeferred
async def test_a_manifest_that_is_wrong_can_be_deleted(cluster: Any, servers: Any) -> None:
    for body in (b'{"chunks": [{"fid": "x", "size": 3}]}', b'{"size": 5, "chunks": []}'):
        assert (await cluster.put(servers[0], FID + "?cm=true", body, "application/json")).status == 201
        read = await cluster.get(servers[0], FID)
        assert (read.status, "manifest" in read.error) == (500, True)
        assert (await cluster.head(servers[0], FID)).status == 500
        assert (await cluster.get(servers[0], FID + "?cm=false")).body == body
        assert (await cluster.delete(servers[0], FID)).status == 202
        assert (await cluster.get(servers[0], FID + "?cm=false")).status == 404


@pytest_twisted.ensureDeferred
async def test_a_missing_chunk_is_an_error_without_addresses(cluster: Any, servers: Any) -> None:
    for gone in (ONE, TWO):
        first, second = (ONE, TWO) if gone == ONE else (TWO, ONE)
        await store(cluster, servers[0], (first, b"abc"), (second, b"defg"))
        await cluster.delete(servers[0], f"/{gone}")
        read = await cluster.get(servers[0], FID)
        assert (read.status, gone in read.error, "127.0.0.1" in read.error) == (500, True, False)
        rest = await cluster.get(servers[0], FID, Range="bytes=3-")
        assert (rest.status, rest.body) == (206, b"defg")


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_gone_is_a_matter_of_time(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0], (TWO, b"abc"))
    address = servers[1].address
    await cluster.stop(servers[1])
    cluster.master.extra[4] = [address]
    read = await cluster.get(servers[0], FID)
    assert (read.status, TWO in read.error, address in read.error) == (503, True, False)


@pytest_twisted.ensureDeferred
async def test_chunks_of_another_size_are_not_served(cluster: Any, servers: Any) -> None:
    for fid in (ONE, TWO):
        await store(cluster, servers[0], (fid, b"abcdef"))
        for body in (b"abc", b"abcdefgh"):
            await cluster.put(servers[0], f"/{fid}", body, "a/b")
            read = await cluster.get(servers[0], FID)
            assert (read.status, fid in read.error) == (500, True)


@pytest_twisted.ensureDeferred
async def test_manifests_of_manifests_do_not_go_in_circles(cluster: Any, servers: Any) -> None:
    for own, other in ((FID[1:], FID[1:]), (FID[1:], TWO)):
        for path, chunk in ((own, other), (other, own)):
            document = json.dumps({"size": 5, "chunks": [{"fid": chunk, "offset": 0, "size": 5}]}).encode()
            await cluster.put(servers[0], f"/{path}?cm=true", document, "application/json")
        assert (await cluster.get(servers[0], f"/{own}")).status == 500
        assert (await cluster.delete(servers[0], f"/{own}")).status in {202, 404}
        assert (await cluster.get(servers[0], f"/{own}?cm=false")).status == 404


@pytest_twisted.ensureDeferred
async def test_a_chunk_with_another_cookie_is_not_deleted(cluster: Any, servers: Any) -> None:
    await cluster.put(servers[0], f"/{ONE}", b"mine", "a/b")
    chunk = {"fid": "3,01637037d7", "offset": 0, "size": 4}
    document = json.dumps({"size": 4, "chunks": [chunk]}).encode()
    await cluster.put(servers[0], FID + "?cm=true", document, "application/json")
    assert (await cluster.get(servers[0], FID)).status == 500
    assert (await cluster.delete(servers[0], FID)).status == 202
    assert (await cluster.get(servers[0], f"/{ONE}")).body == b"mine"


@pytest_twisted.ensureDeferred
async def test_an_empty_manifest_is_an_empty_file(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0])
    read = await cluster.get(servers[0], FID)
    assert (read.status, read.body, read["Content-Length"]) == (200, b"", "0")
    assert (await cluster.delete(servers[0], FID)).status == 202
