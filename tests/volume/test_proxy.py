"""Requests for volumes that are elsewhere."""

import gzip
import os
from typing import Any

import pytest
import pytest_twisted

FID = "/3,01637037d6"
TEXT = b"words that repeat and repeat " * 100


async def outsider_and_holder(cluster: Any, **settings: Any) -> tuple[Any, Any]:
    outsider, holder = await cluster.start(2, **settings)
    await cluster.volume(3, [holder])
    return outsider, holder


@pytest_twisted.ensureDeferred
async def test_answers_come_as_they_are(cluster: Any) -> None:
    outsider, holder = await outsider_and_holder(cluster)
    await cluster.post(holder, FID, TEXT, "ä.txt", "text/plain", Seaweed_Owner="é")
    for headers, query in (
        ({}, ""),
        ({"Accept_Encoding": "gzip"}, ""),
        ({"Range": "bytes=3-99", "Accept_Encoding": "gzip"}, ""),
        ({"Range": "bytes=0-0,-1"}, ""),
        ({"Range": "bytes=99999-"}, ""),
        ({"If_None_Match": "*"}, ""),
        ({"If_Match": '"x"'}, ""),
        ({}, "?dl=true&response-content-type=text/x"),
        ({}, "_7"),
    ):
        for method in ("GET", "HEAD"):
            direct, passed = [
                await cluster.ask(method, server, FID + query, **headers) for server in (holder, outsider)
            ]
            for name in ("date", "content-type") if "0-0,-1" in str(headers) else ("date",):
                assert direct.headers.pop(name, None) is not None or direct.status == 304
                passed.headers.pop(name, None)
            assert passed.headers == direct.headers, (method, headers, query)
            assert passed.status == direct.status
            if "0-0,-1" not in str(headers):
                assert passed.body == direct.body


@pytest_twisted.ensureDeferred
async def test_large_answers_are_passed_on_whole(cluster: Any) -> None:
    outsider, holder = await outsider_and_holder(cluster)
    noise = os.urandom(6 << 20)
    await cluster.put(holder, FID, noise, "a/b")
    read = await cluster.get(outsider, FID)
    assert (read["Content-Length"], read.body == noise) == (str(len(noise)), True)


@pytest_twisted.ensureDeferred
async def test_writes_and_deletes_go_to_a_holder_and_from_there_to_all(cluster: Any) -> None:
    outsider, *holders = await cluster.start(3)
    await cluster.volume(3, holders, replication="001")
    written = await cluster.post(outsider, FID, TEXT, "a.txt", "text/plain")
    assert (written.status, written.json["size"]) == (201, len(TEXT))
    assert (await cluster.post(outsider, FID, TEXT, "a.txt", "text/plain")).status == 204
    for holder in holders:
        assert gzip.decompress((await cluster.get(holder, FID, Accept_Encoding="gzip")).body) == TEXT
    assert (await cluster.delete(outsider, "/3,01637037d7")).status == 400
    assert (await cluster.delete(outsider, FID)).json == {"size": len(TEXT)}
    for holder in holders:
        assert (await cluster.get(holder, FID)).status == 404
    large = os.urandom(5 << 20)
    assert (await cluster.put(outsider, FID, large, "a/b")).status == 201
    assert (await cluster.get(outsider, FID)).body == large


@pytest_twisted.ensureDeferred
async def test_a_request_goes_on_only_once(cluster: Any) -> None:
    """The master may be wrong: two servers that believe the other one has it must not play ball."""
    one, two = await cluster.start(2)
    cluster.master.extra[3] = [one.address, two.address]
    for method in ("GET", "PUT", "DELETE"):
        answer = await cluster.ask(method, one, FID, b"x" if method == "PUT" else None, Content_Type="a/b")
        assert answer.status == 404, method
    for headers, query in (({"X_Weedtw_Via": "x:1"}, ""), ({}, "?proxied=true")):
        before = cluster.master.lookups
        assert (await cluster.get(one, FID + query, **headers)).status == 404
        assert cluster.master.lookups == before
    assert (await cluster.put(one, FID + "?type=replicate", b"x", "a/b")).status == 404
    assert (await cluster.delete(one, FID + "?type=replicate")).status == 404


@pytest_twisted.ensureDeferred
async def test_a_dead_holder_is_passed_over(cluster: Any) -> None:
    outsider, *holders = await cluster.start(3)
    await cluster.volume(3, holders, replication="001")
    await cluster.put(holders[0], FID, b"x", "a/b")
    address = holders[0].address
    await cluster.stop(holders[0])
    cluster.master.extra[3] = [address]
    for _ in range(4):
        assert (await cluster.get(outsider, FID)).body == b"x"
    await cluster.stop(holders[1])
    answer = await cluster.get(outsider, FID)
    assert (answer.status, address in answer.error, answer["Retry-After"]) == (503, False, "1")


@pytest_twisted.ensureDeferred
async def test_a_damaged_holder_is_passed_over(cluster: Any) -> None:
    outsider, *holders = await cluster.start(3)
    await cluster.volume(3, holders, replication="001")
    body = bytes(range(256)) * 4
    await cluster.put(holders[0], FID, body, "a/b")
    for number, holder in enumerate(holders):
        volume = holder.store.find(3)
        with open(volume.files.dat, "r+b") as file:
            content = file.read()
            file.seek(content.index(bytes(range(256))) + 100)
            file.write(b"damage")
        for _ in range(4):  # whichever comes first
            answer = await cluster.get(outsider, FID)
            assert (answer.status, answer.body == body) == ((200, True), (500, False))[number]


@pytest_twisted.ensureDeferred
async def test_without_a_master_it_is_not_known_where_to_go(cluster: Any) -> None:
    (server,) = await cluster.start(masters=(cluster.master.address, "127.0.0.1:1"))
    cluster.master.address = "gone"
    await cluster.master.stop()
    assert (await cluster.get(server, FID)).status == 503
    cluster.master.start()


@pytest_twisted.ensureDeferred
async def test_local_answers_only_for_what_is_here(cluster: Any) -> None:
    outsider, holder = await outsider_and_holder(cluster, read_mode="local")
    await cluster.put(holder, FID, b"x", "a/b")
    for method in ("GET", "PUT", "DELETE"):
        answer = await cluster.ask(method, outsider, FID, b"y" if method == "PUT" else None, Content_Type="a/b")
        assert (answer.status, "volume 3" in answer.error) == (404, True)
    assert (await cluster.get(holder, FID)).body == b"x"


@pytest_twisted.ensureDeferred
async def test_redirect_names_the_place_and_keeps_the_query(cluster: Any) -> None:
    outsider, holder = await outsider_and_holder(cluster, read_mode="redirect")
    await cluster.put(holder, FID, b"x", "a/b")
    for method, query, joint in (
        ("GET", "?dl=true", "&"),
        ("HEAD", "", "?"),
        ("PUT", "?ts=5", "&"),
        ("DELETE", "", "?"),
    ):
        answer = await cluster.ask(
            method, outsider, FID + query, b"y" if method == "PUT" else None, Content_Type="a/b"
        )
        assert answer.status == 307
        assert answer["Location"] == f"http://{holder.address}{FID}{query}{joint}proxied=true"
    assert (await cluster.get(holder, FID + "?proxied=true")).body == b"x"


@pytest_twisted.ensureDeferred
async def test_an_answer_that_breaks_off_breaks_off(cluster: Any, logged_failures: Any) -> None:
    outsider, holder = await outsider_and_holder(cluster)
    await cluster.put(holder, FID, os.urandom(3 << 20), "a/b")
    volume = holder.store.find(3)
    with open(volume.files.dat, "r+b") as file:
        file.seek(2 << 20)
        file.write(b"damage")
    with pytest.raises(Exception, match="broke off"):
        await cluster.get(outsider, FID)
    logged_failures.clear()
