"""Writes and deletes on all copies, or on none."""

import functools
import os
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from weedtw.errors import WriteFailed
from weedtw.storage.volume import Volume
from weedtw.volume import copies
from weedtw.volume.upload import EMPTY_AS_GZIP

reactor: Any = installed_reactor

FID = "/3,01637037d6"
KEY, COOKIE = 1, 0x637037D6
TEXT = b"words that repeat and repeat " * 100


@pytest_twisted.async_yield_fixture
async def pair(cluster: Any) -> Any:
    """Two servers with a copy each; the first is the one that orders changes."""
    made = sorted(await cluster.start(2), key=lambda server: server.address)
    await cluster.volume(3, made, replication="001")
    yield made


def needle(server: Any) -> Any:
    return server.store.find(3).read(KEY, COOKIE)


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await deferLater(reactor, 0.01)
    pytest.fail("waited in vain")


@pytest_twisted.ensureDeferred
async def test_both_copies_are_alike(cluster: Any, pair: Any) -> None:
    stored = await cluster.post(
        pair[0], FID + "?ttl=1d", TEXT, "ä ö.txt", "text/plain; charset=utf-8", Seaweed_Tag="é"
    )
    assert stored.status == 201
    one, two = map(needle, pair)
    for field in ("cookie", "name", "mime", "last_modified", "ttl", "pairs", "is_gzipped", "is_manifest", "checksum"):
        assert getattr(one, field) == getattr(two, field), field
    assert (one.data, one.is_gzipped, one.pairs) == (two.data, True, '{"Tag":"é"}'.encode())


@pytest_twisted.ensureDeferred
async def test_what_has_no_name_and_no_type_has_none_on_either(cluster: Any, pair: Any) -> None:
    noise = os.urandom(100)
    for body, kept in ((noise, noise), (b"", EMPTY_AS_GZIP)):
        assert (await cluster.put(pair[1], FID, body)).status == 201
        one, two = map(needle, pair)
        assert (one.name, one.mime, one.pairs, one.data) == (two.name, two.mime, two.pairs, two.data)
        assert (one.name, one.mime, one.pairs, one.data) == (b"", b"", b"", kept)


@pytest_twisted.ensureDeferred
async def test_unchanged_only_when_both_have_it(cluster: Any, pair: Any) -> None:
    assert (await cluster.put(pair[0], FID, b"x", "a/b")).status == 201
    assert (await cluster.put(pair[1], FID, b"x", "a/b")).status == 204
    pair[1].store.find(3).delete(KEY, COOKIE)
    assert (await cluster.put(pair[0], FID, b"x", "a/b")).status == 201
    assert needle(pair[1]).data == b"x"


@pytest_twisted.ensureDeferred
async def test_a_failed_copy_takes_the_write_off_the_other(
    cluster: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first write leaves nothing, an overwrite leaves what was there."""
    failing = pair[1].store.find(3)
    monkeypatch.setattr(pair[1]._api.needles, "brisk", None)  # all writes go through the one that fails

    def write(*_args: Any, **_options: Any) -> None:
        raise WriteFailed("3.dat", "no space left on device")

    working = failing.write
    for before in (None, b"before"):
        monkeypatch.setattr(failing, "write", working)
        if before is not None:
            assert (await cluster.put(pair[0], FID, before, "a/before", Seaweed_Tag="old")).status == 201
        monkeypatch.setattr(failing, "write", write)
        answer = await cluster.put(pair[0], FID, b"after", "a/after")
        assert (answer.status, "no space left" in answer.error) == (500, True)
        for server in pair:
            read = await cluster.get(server, FID)
            if before is None:
                assert read.status == 404
            else:
                assert (read.body, read["Content-Type"], read["Tag"]) == (before, "a/before", "old")


@pytest_twisted.ensureDeferred
async def test_a_failure_here_takes_the_write_off_the_other(
    cluster: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.put(pair[0], FID, b"before", "a/b")

    def write(*_args: Any, **_options: Any) -> None:
        raise WriteFailed("3.dat", "no space left on device")

    monkeypatch.setattr(pair[0].store.find(3), "write", write)
    assert (await cluster.put(pair[0], FID, b"after", "a/b")).status == 500
    assert [needle(server).data for server in pair] == [b"before", b"before"]


@pytest_twisted.ensureDeferred
async def test_a_dead_copy_fails_writes_and_deletes(cluster: Any, pair: Any) -> None:
    await cluster.put(pair[0], FID, b"before", "a/b")
    address = pair[1].address
    await cluster.stop(pair[1])
    answer = await cluster.put(pair[0], FID, b"after", "a/b")
    assert answer.status == 500
    assert needle(pair[0]).data == b"before"
    answer = await cluster.put(pair[0], FID, b"after", "a/b")  # by now the master knows too
    assert (answer.status, "1 of its 2" in answer.error, answer["Retry-After"]) == (503, True, "1")
    cluster.master.extra[3] = [address]
    assert (await cluster.delete(pair[0], FID)).status == 500
    assert needle(pair[0]).data == b"before"


@pytest_twisted.ensureDeferred
async def test_nor_are_there_any_without_the_copy_that_orders_them(cluster: Any, pair: Any) -> None:
    await cluster.put(pair[0], FID, b"before", "a/b")
    address = pair[0].address
    await cluster.stop(pair[0])
    cluster.master.extra[3] = [address]
    for change in (cluster.put(pair[1], FID, b"after", "a/b"), cluster.delete(pair[1], FID)):
        answer = await change
        assert (answer.status, answer["Retry-After"]) == (503, "1")
    assert needle(pair[1]).data == b"before"


@pytest_twisted.ensureDeferred
async def test_a_delete_that_fails_on_one_copy_restores_the_other(
    cluster: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.put(pair[0], FID, TEXT, "text/plain", Seaweed_Tag="x")

    def delete(*_args: Any, **_options: Any) -> None:
        raise WriteFailed("3.dat", "input/output error")

    monkeypatch.setattr(pair[1].store.find(3), "delete", delete)
    assert (await cluster.delete(pair[0], FID)).status == 500
    for server in pair:
        read = await cluster.get(server, FID)
        assert (read.body, read["Tag"]) == (TEXT, "x")


@pytest_twisted.ensureDeferred
async def test_a_delete_reaches_a_copy_that_alone_has_the_file(cluster: Any, pair: Any) -> None:
    await cluster.put(pair[0], FID + "?type=replicate", b"abc", "a/b")
    deleted = await cluster.delete(pair[1], FID)
    assert (deleted.status, deleted.json) == (202, {"size": 3})
    assert (await cluster.get(pair[0], FID)).status == 404
    assert (await cluster.delete(pair[1], FID)).json == {"size": 0}


@pytest_twisted.ensureDeferred
async def test_a_wrong_cookie_changes_nothing_anywhere(cluster: Any, pair: Any) -> None:
    await cluster.put(pair[0], FID, b"mine", "a/b")
    assert (await cluster.put(pair[1], "/3,01637037d7", b"stolen", "a/b")).status == 400
    assert (await cluster.delete(pair[1], "/3,01637037d7")).status == 400
    assert [needle(server).data for server in pair] == [b"mine", b"mine"]


@pytest_twisted.ensureDeferred
async def test_fsync_is_passed_on(cluster: Any, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From whichever server it comes, for deletions too."""
    asked: list[tuple[str, bool]] = []
    for name in ("write", "delete"):

        def spy(volume: Volume, *args: Any, name: str, real: Any, fsync: bool = False, **options: Any) -> Any:
            asked.append((name, fsync))
            return real(volume, *args, fsync=fsync, **options)

        monkeypatch.setattr(Volume, name, functools.partialmethod(spy, name=name, real=getattr(Volume, name)))
    for server in pair:
        for query, fsync in (("?fsync=true", True), ("", False)):
            asked.clear()
            assert (await cluster.put(server, FID + query, os.urandom(9), "a/b")).status == 201
            assert (await cluster.delete(server, FID + query)).status == 202
            if fsync:
                assert asked == [("write", True)] * 2 + [("delete", True)] * 2
            else:  # some of it may be done more briskly
                assert not any(synced for _, synced in asked)


@pytest_twisted.ensureDeferred
async def test_writes_through_one_server_come_in_one_order(cluster: Any, pair: Any) -> None:
    writes = [
        Deferred.fromCoroutine(cluster.put(pair[0], FID, b"%d" % number * 20_000, "a/b")) for number in range(10)
    ]
    for _, answer in await DeferredList(writes):
        assert answer.status == 201
    assert needle(pair[0]).data == needle(pair[1]).data


@pytest_twisted.ensureDeferred
async def test_changes_through_both_servers_at_once_leave_the_copies_alike(cluster: Any, pair: Any) -> None:
    assert (await cluster.put(pair[0], FID, b"before", "a/b")).status == 201
    for _ in range(5):
        changes = [
            Deferred.fromCoroutine(
                cluster.put(pair[number % 2], FID, b"%d" % number * 1000, "a/b")
                if number % 5
                else cluster.delete(pair[number % 2], FID)
            )
            for number in range(20)
        ]
        for _, answer in await DeferredList(changes, fireOnOneErrback=True):
            assert answer.status in {201, 202, 204, 404}
        first, second = [await cluster.get(server, FID) for server in pair]
        assert (first.status, first.body) == (second.status, second.body)
        assert (await cluster.put(pair[0], FID, b"again", "a/b")).status in {201, 204}


@pytest_twisted.ensureDeferred
async def test_a_change_is_answered_alike_whoever_is_asked(cluster: Any, pair: Any) -> None:
    for number, server in enumerate(pair):
        body = b"%d" % number * 10
        assert (await cluster.put(server, FID, body, "a/b", Content_MD5="wrong")).status == 400
        stored = await cluster.post(server, FID + "?ts=7", body, "a.b", "a/b", Seaweed_Tag="t")
        assert (stored.status, stored.json["name"], stored.json["size"]) == (201, "a.b", 10)
        assert stored["ETag"] == (await cluster.get(pair[1 - number], FID))["ETag"]
        assert {needle(each).last_modified for each in pair} == {7}
        assert {needle(each).pairs for each in pair} == {b'{"Tag":"t"}'}
    for server in pair:
        assert (await cluster.delete(server, "/3,0100000001")).status == 400  # another cookie
    for server in pair:
        await cluster.put(server, FID, b"x" * 10, "a/b")
        answer = await cluster.delete(server, FID)
        assert (answer.status, answer.json) == (202, {"size": 10})


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_does_not_leave_half_a_write(cluster: Any, pair: Any) -> None:
    """The write goes on to its end on both copies."""
    body = os.urandom(4 << 20)
    sent = Deferred.fromCoroutine(cluster.put(pair[0], FID, body, "a/b"))
    await until(lambda: pair[0].store.find(3).has(KEY) or pair[1].store.find(3).has(KEY))
    sent.cancel()
    sent.addErrback(lambda _: None)
    await until(lambda: all(server.store.find(3).has(KEY) for server in pair))
    assert needle(pair[0]).data == needle(pair[1]).data == body


class Deaf(Protocol):
    """A copy that takes a request and never answers."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += data


@pytest_twisted.ensureDeferred
async def test_a_copy_that_hangs_is_given_up(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "TIMEOUT", 0.2)
    monkeypatch.setattr(copies, "UNDO_DELAYS", (0.01,))
    (server,) = await cluster.start()
    await cluster.volume(3, [server], replication="001")
    factory = Factory.forProtocol(Deaf)
    factory.received = b""  # type: ignore[attr-defined]
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    cluster.master.extra[3] = [f"127.0.0.1:{port.getHost().port}"]
    answer = await cluster.put(server, FID, b"x", "a/b")
    assert (answer.status, "no answer within" in answer.error) == (500, True)
    assert (await cluster.get(server, FID)).status == 404
    await until(lambda: b"undo=" in factory.received)  # type: ignore[attr-defined]
    await until(lambda: not server.copies._asking)
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_copy_that_was_started_anew_can_still_drop_a_write(cluster: Any, pair: Any) -> None:
    """Its memory of the write is gone, the name that it gave the write is enough."""
    await cluster.put(pair[1], FID + "?type=replicate", b"before", "a/b")
    taken = await cluster.put(pair[1], FID + "?type=replicate&write=abc", b"after", "a/b")
    name = taken["X-Weedtw-Undo"]
    wrong = await cluster.delete(pair[1], f"/3,01637037d7?type=replicate&undo=none&of={name}")
    assert wrong.status == 400
    undone = await cluster.delete(pair[1], f"{FID}?type=replicate&undo=none&of={name}")
    assert (undone.status, undone.json) == (200, {"undone": True})
    assert needle(pair[1]).data == b"before"
    undone = await cluster.delete(pair[1], f"{FID}?type=replicate&undo=none&of={name}")
    assert undone.json == {"undone": False}


@pytest_twisted.ensureDeferred
async def test_the_word_to_drop_may_come_first(cluster: Any, pair: Any) -> None:
    assert (await cluster.delete(pair[1], f"{FID}?type=replicate&undo=abc")).json == {"undone": False}
    late = await cluster.put(pair[1], f"{FID}?type=replicate&write=abc", b"late", "a/b")
    assert late.status == 503
    assert (await cluster.get(pair[1], FID)).status == 404


@pytest_twisted.ensureDeferred
async def test_the_same_write_twice_is_done_once(cluster: Any, pair: Any) -> None:
    path = f"{FID}?type=replicate&write=abc"
    answers = [await cluster.put(pair[1], path, b"x", "a/b") for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert pair[1].store.find(3).info().file_count == 1


@pytest_twisted.ensureDeferred
async def test_a_volume_the_master_does_not_know_takes_no_writes(cluster: Any, pair: Any) -> None:
    for server in pair:
        cluster.master.held[server.address].clear()
    answer = await cluster.put(pair[0], FID, b"x", "a/b")
    assert (answer.status, "3" in answer.error) == (503, True)
    assert (await cluster.get(pair[0], FID)).status == 404


@pytest_twisted.ensureDeferred
async def test_damage_on_one_copy_is_read_from_the_other(cluster: Any, pair: Any) -> None:
    body = os.urandom(1000)
    await cluster.put(pair[0], FID, body, "a/b")
    volume = pair[0].store.find(3)
    with open(volume.files.dat, "r+b") as file:
        file.seek(volume.generation.needles.find(KEY).offset + 500)
        file.write(b"damage")
    read = await cluster.get(pair[0], FID)
    assert (read.status, read.body, read["Content-Type"]) == (200, body, "a/b")
    assert (pair[0]._api.damaged_reads, pair[0]._api.rescued_reads) == (1, 1)
    await cluster.stop(pair[1])
    assert (await cluster.get(pair[0], FID)).status == 500
