"""Copies that a kill -9 left different become the same again, and what is newer counts."""

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.task import deferLater

from weedtw.errors import StorageError
from weedtw.formats.needle import Needle
from weedtw.storage import changes
from weedtw.volume import agreement

reactor: Any = installed_reactor
COOKIE = 0x637037D6


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "DELAYS", (0.01,))
    monkeypatch.setattr(agreement, "RETRY", 0.01)
    monkeypatch.setattr(agreement, "SETTLED", 0)


@pytest_twisted.async_yield_fixture
async def pair(cluster: Any) -> Any:
    made = sorted(await cluster.start(2), key=lambda server: server.address)
    await cluster.volume(3, made, replication="001")
    yield made


def write(server: Any, key: int, data: bytes, **more: Any) -> None:
    server.store.find(3).write(Needle(COOKIE, key, data, **more))


def contents(server: Any) -> dict[int, bytes]:
    volume = server.store.find(3)
    return {key: bytes(volume.read(key, COOKIE).data) for key, _ in volume.generation.needles.items()}


async def compare(server: Any) -> None:
    """As after a start."""
    one = server._api.agreement
    one.stop()
    one.start()
    assert not server.store.find(3).is_compared
    for _ in range(2000):
        if server.store.find(3).is_compared:
            return
        await deferLater(reactor, 0.01)
    pytest.fail("waited in vain")


@pytest_twisted.ensureDeferred
async def test_either_takes_over_what_is_newer_on_the_other(cluster: Any, pair: Any) -> None:
    one, two = pair
    for server in pair:
        for key in range(1, 6):
            write(server, key, b"both")
    write(one, 2, b"newer on the first", name=b"n", mime=b"a/b", pairs=b'{"Tag":"x"}')
    write(two, 3, b"newer on the second", name=b"n", last_modified=5)
    one.store.find(3).delete(4, COOKIE)
    two.store.find(3).delete(5, COOKIE)
    write(one, 6, b"only on the first")
    write(two, 7, b"")
    await compare(one)
    wanted = {
        1: b"both",
        2: b"newer on the first",
        3: b"newer on the second",
        6: b"only on the first",
        7: b"",
    }
    assert [contents(server) for server in pair] == [wanted, wanted]
    for key in (2, 3):
        first, second = (server.store.find(3).read(key, COOKIE) for server in pair)
        for field in ("cookie", "name", "mime", "last_modified", "ttl", "pairs", "checksum"):
            assert getattr(first, field) == getattr(second, field), field
    counts = [server.store.find(3).info().file_count for server in pair]
    await compare(two)
    assert [server.store.find(3).info().file_count for server in pair] == counts


@pytest_twisted.ensureDeferred
async def test_a_write_that_was_undone_elsewhere_is_undone(cluster: Any, pair: Any) -> None:
    one, two = pair
    for server in pair:
        write(server, 1, b"before")
    for key in (1, 2):  # both have it, but the answer of the second was lost in its death
        for server in pair:
            write(server, key, b"failed")
    undone = one.store.find(3)
    assert undone.delete(2, COOKIE) is not None
    write(one, 1, b"before")
    await compare(two)
    assert [contents(server) for server in pair] == [{1: b"before"}] * 2


@pytest_twisted.ensureDeferred
async def test_what_is_fresh_is_left_to_its_write(cluster: Any, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "SETTLED", 3600 * 10**9)
    write(pair[0], 1, b"on its way")
    await compare(pair[1])
    assert [contents(server) for server in pair] == [{1: b"on its way"}, {}]


@pytest_twisted.ensureDeferred
async def test_no_vacuum_before_the_first_comparison(cluster: Any, pair: Any) -> None:
    one, two = pair
    write(one, 1, b"x")
    one.store.find(3).is_compared = False
    with pytest.raises(StorageError, match="not yet compared"):
        one.store.compact(3)
    held = cluster.master.held.pop(two.address)  # the other copy is not there
    one._api.agreement.start()
    for _ in range(10):
        await deferLater(reactor, 0.01)
    assert not one.store.find(3).is_compared
    cluster.master.held[two.address] = held
    for _ in range(2000):
        if one.store.find(3).is_compared:
            break
        await deferLater(reactor, 0.01)
    assert contents(two) == {1: b"x"}
    one.store.compact(3)


@pytest_twisted.ensureDeferred
async def test_a_change_meanwhile_stands(cluster: Any, pair: Any) -> None:
    one, two = pair
    write(two, 1, b"theirs")
    volume = one.store.find(3)
    known = changes.state_of(volume, 1).place
    write(one, 1, b"ours, just now")
    assert not volume.take_over(1, known, two.store.find(3).read(1, COOKIE))
    assert contents(one) == {1: b"ours, just now"}


@pytest_twisted.ensureDeferred
async def test_more_than_can_be_compared(cluster: Any, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST", 3)
    for key in range(1, 6):
        write(pair[0], key, b"x")
    await compare(pair[1])
    assert contents(pair[1]) == {}


@pytest_twisted.ensureDeferred
async def test_asked_by_others(cluster: Any, pair: Any) -> None:
    one, two = pair
    write(one, 1, b"x")
    listed = await cluster.get(one, "/admin/volume/changes?volume=3&since=0")
    [[key, cookie, size, _, stamp]] = listed.json["changes"]
    assert (key, cookie, size > 0) == (1, COOKIE, True)
    assert stamp <= listed.json["now"]
    later = await cluster.get(one, f"/admin/volume/changes?volume=3&since={stamp + 1}")
    assert later.json["changes"] == []
    assert (await cluster.get(one, "/admin/volume/needle?volume=3&key=2")).status == 404
    assert (await cluster.ask("POST", two, f"/admin/volume/agree?volume=3&with={one.address}&since=0")).json == {
        "changed": 1
    }
    assert (await cluster.ask("POST", two, "/admin/volume/agree?volume=3&with=10.0.0.1:80&since=0")).status == 400


def flip(server: Any, key: int) -> None:
    """A bit of a needle's data is another one on the disk of that server."""
    volume = server.store.find(3)
    place = volume.generation.needles.get(key)
    with open(volume.files.dat, "r+b") as file:
        file.seek(place.offset + 22)
        byte = file.read(1)
        file.seek(place.offset + 22)
        file.write(bytes([byte[0] ^ 1]))


async def damaged(cluster: Any, server: Any) -> list[int]:
    keys: list[int] = (await cluster.ask("GET", server, "/admin/volume/damaged", query={"volume": 3})).json["keys"]
    return keys


async def heal(cluster: Any, server: Any, other: Any, key: int) -> bool:
    query = {"volume": 3, "with": other.address, "key": key}
    healed: bool = (await cluster.ask("POST", server, "/admin/volume/heal", query=query)).json["healed"]
    return healed


@pytest_twisted.ensureDeferred
async def test_what_is_damaged_is_taken_from_the_other(cluster: Any, pair: Any) -> None:
    one, two = pair
    for server in pair:
        for key in range(1, 5):
            write(server, key, b"content %d" % key)
        server.store.find(3).delete(4, COOKIE)
    for key in (1, 3):
        flip(one, key)
    assert (await damaged(cluster, one), await damaged(cluster, two)) == ([1, 3], [])
    await compare(one)
    assert await damaged(cluster, one) == [1, 3], "the indexes and the checksums that are stored tell nothing"
    assert [await heal(cluster, one, two, key) for key in (1, 2, 3, 4, 5)] == [True, False, True, False, False]
    assert (await damaged(cluster, one), await damaged(cluster, two)) == ([], [])
    wanted = {key: b"content %d" % key for key in (1, 2, 3)}
    assert [contents(server) for server in pair] == [wanted, wanted]
    assert not await heal(cluster, two, one, 1), "it is not damaged there"


@pytest_twisted.ensureDeferred
async def test_what_is_damaged_everywhere_stays_as_it_is(cluster: Any, pair: Any) -> None:
    one, two = pair
    for server in pair:
        write(server, 1, b"content of the first")
        write(server, 2, b"content of the second")
        flip(server, 1)
    before = [server.store.find(3).generation.dat_size for server in pair]
    assert [await heal(cluster, one, two, 1), await heal(cluster, two, one, 1)] == [False, False]
    assert [server.store.find(3).generation.dat_size for server in pair] == before
    assert [await damaged(cluster, server) for server in pair] == [[1], [1]]
    answer = await cluster.ask("POST", one, "/admin/volume/heal", query={"volume": 3, "with": "a:1", "key": 1})
    assert (answer.status, answer.error) == (400, "a:1 has no copy of volume 3")


@pytest_twisted.ensureDeferred
async def test_named_keys_are_compared_however_many_others_there_are(
    cluster: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST", 3)
    one, two = pair
    for server in pair:
        for key in range(1, 9):
            write(server, key, b"both")
    write(one, 20, b"only on the first")
    one.store.find(3).delete(1, COOKIE)
    two.store.find(3).delete(2, COOKIE)
    write(two, 3, b"newer on the second")

    async def agree(server: Any, other: Any, **more: Any) -> Any:
        query = {"volume": 3, "with": other.address, "since": 1, **more}
        return await cluster.ask("POST", server, "/admin/volume/agree", query=query)

    assert "more than 3 changes" in (await agree(two, one)).error
    assert (await agree(two, one, keys="1,2,20,77")).json == {"changed": 2}
    assert (await agree(one, two, keys="1,2,20,77")).json == {"changed": 1}
    assert contents(two)[20] == b"only on the first"
    assert contents(one)[3] == b"both", "it was not named"
    assert (await agree(one, two, keys="3")).json == {"changed": 1}
    assert contents(one) == contents(two)
    assert contents(one).keys() == {3, 4, 5, 6, 7, 8, 20}
    for wrong in ("x", "1,-2", ",".join(["1"] * 1001)):
        assert (await agree(one, two, keys=wrong)).status == 400, wrong
