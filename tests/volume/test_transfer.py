"""A volume that is copied from one server to another, and all that may come in between."""

import errno
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed

from weedtw.formats.needle import Needle
from weedtw.storage.fileops import DiskSpace, FileOps
from weedtw.volume import transfer

COOKIE = 0x637037D6
ensure = pytest_twisted.ensureDeferred


@attrs.define(eq=False)
class Line:
    """The way to other servers, which breaks after so many pieces of data, and notes what was asked."""

    agent: Any
    pieces: int = 1 << 30
    offsets: list[int] = attrs.Factory(list)

    def request(self, method: bytes, url: bytes, *rest: Any) -> "Deferred[Any]":
        parts = urlsplit(url.decode())
        if parts.path == "/admin/copy/data":
            if not self.pieces:
                return fail(ResponseFailed([Failure(ConnectionLost())]))
            self.pieces -= 1
            self.offsets.append(int(parse_qs(parts.query)["offset"][0]))
        answer: Deferred[Any] = self.agent.request(method, url, *rest)
        return answer


@attrs.define(eq=False)
class Pair:
    """Two servers, and volume 3 on the first."""

    cluster: Any
    source: Any
    target: Any
    line: Line

    async def take(self, **more: Any) -> Any:
        query = {"volume": 3, "from": self.source.address, **more}
        return await self.cluster.ask("POST", self.target, "/admin/copy/take", query=query)

    async def state(self, server: Any) -> Any:
        return (await self.cluster.ask("GET", server, "/admin/copy/state", query={"volume": 3, "sum": "true"})).json

    def write(self, key: int, data: bytes) -> None:
        self.source.store.find(3).write(Needle(COOKIE, key, data))

    @property
    def names(self) -> list[str]:
        folder = self.target.store.locations[0].folder
        return sorted(name for name in os.listdir(folder) if name.startswith("pics_3"))

    async def check(self) -> None:
        """Both have the same, byte by byte."""
        ours, theirs = await self.state(self.source), await self.state(self.target)
        for name in ("collection", "size", "indexSize", "revision", "sum", "files"):
            assert ours[name] == theirs[name], name
        source, target = self.source.store.find(3), self.target.store.find(3)
        keys = [key for key, _ in source.generation.needles.items()]
        assert keys == [key for key, _ in target.generation.needles.items()]
        for key in keys:
            assert target.read(key, COOKIE).data == source.read(key, COOKIE).data


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PIECE", 1000)


@pytest_twisted.async_yield_fixture
async def pair(cluster: Any) -> Any:
    source, target = await cluster.start(2)
    await cluster.volume(3, [source], replication="001", collection="pics")
    api = target._api
    line = Line(api.proxy.peers.agent)
    by_line = attrs.evolve(api.proxy.peers, agent=line)
    api._transfer = transfer.Transfer(target.store, api.run, by_line).app.resource()
    made = Pair(cluster, source, target, line)
    for key in range(1, 9):
        made.write(key, os.urandom(500))
    yield made


@ensure
async def test_piece_by_piece_until_both_are_the_same(cluster: Any, pair: Pair) -> None:
    pair.source.store.find(3).delete(2, COOKIE)
    answer = await pair.take()
    assert (answer.status, answer.json["mounted"]) == (200, True)
    size = pair.source.store.find(3).generation.dat_size
    assert pair.line.offsets == list(range(0, size, 1000))
    assert pair.names == ["pics_3.dat", "pics_3.idx", "pics_3.vif"]
    await pair.check()


@ensure
async def test_interrupted_in_the_middle_it_goes_on_from_there(cluster: Any, pair: Pair) -> None:
    pair.line.pieces = 2
    answer = await pair.take()
    assert answer.status >= 500, answer
    assert pair.source.address in answer.error
    assert pair.names == ["pics_3.dat.copying"]
    assert pair.target.store.at_hand(3) is None, "it is no volume yet"
    pair.write(20, b"written meanwhile")
    pair.line.pieces = 1 << 30
    pair.line.offsets.clear()
    assert (await pair.take()).status == 200
    assert pair.line.offsets[0] == 2000
    await pair.check()


@ensure
async def test_vacuumed_meanwhile_it_begins_anew(cluster: Any, pair: Pair) -> None:
    pair.line.pieces = 3
    assert (await pair.take()).status >= 500
    for key in (1, 2, 3):
        pair.source.store.find(3).delete(key, COOKIE)
    pair.source.store.find(3).is_compared = True
    pair.source.store.compact(3)
    pair.source.store.commit(3)
    pair.line.pieces = 1 << 30
    pair.line.offsets.clear()
    assert (await pair.take()).status == 200
    assert pair.line.offsets[0] == 0
    await pair.check()


@ensure
async def test_first_a_pass_that_is_not_believed_then_the_rest(cluster: Any, pair: Pair) -> None:
    answer = await pair.take(mount="false")
    size = pair.source.store.find(3).generation.dat_size
    assert (answer.status, answer.json) == (200, {"size": size, "mounted": False})
    assert pair.target.store.at_hand(3) is None
    progress = await pair.cluster.ask("GET", pair.target, "/admin/copy/progress", query={"volume": 3})
    assert progress.json == {"bytes": 0, "size": 0}, "none is coming now"
    pair.write(30, b"after the first pass")
    pair.line.offsets.clear()
    assert (await pair.take()).status == 200
    assert pair.line.offsets == [size], "only what is new"
    await pair.check()


@ensure
async def test_a_wrong_byte_is_found_and_all_is_fetched_again(cluster: Any, pair: Pair) -> None:
    assert (await pair.take(mount="false")).status == 200
    path = os.path.join(pair.target.store.locations[0].folder, "pics_3.dat.copying")
    with open(path, "r+b") as file:
        file.seek(1234)
        byte = file.read(1)
        file.seek(1234)
        file.write(bytes([byte[0] ^ 1]))
    pair.line.offsets.clear()
    assert (await pair.take()).status == 200
    assert pair.line.offsets[0] == 0
    await pair.check()


@ensure
async def test_a_copy_that_is_longer_than_the_volume_begins_anew(cluster: Any, pair: Pair) -> None:
    assert (await pair.take(mount="false")).status == 200
    with open(os.path.join(pair.target.store.locations[0].folder, "pics_3.dat.copying"), "ab") as file:
        file.write(b"x" * 5000)
    assert (await pair.take()).status == 200
    await pair.check()


@ensure
async def test_a_source_that_tells_a_wrong_length(cluster: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    true = transfer._state_of
    for wrong, says in ((+800, "gives no data of volume 3"), (-800, "changes faster than it can be copied")):

        def lies(volume: Any, *, summed: bool = False, wrong: int = wrong) -> dict[str, Any]:
            state = true(volume, summed=summed)
            return {**state, "size": state["size"] + wrong}

        monkeypatch.setattr(transfer, "_state_of", lies)
        answer = await pair.take()
        assert answer.status >= 400, answer
        assert says in answer.error
        assert pair.target.store.at_hand(3) is None
    monkeypatch.setattr(transfer, "_state_of", true)
    assert (await pair.take()).status == 200
    await pair.check()


@ensure
async def test_a_source_that_makes_no_sense(cluster: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    true = transfer._state_of
    for change in ({"size": "7"}, {"collection": "../x"}, {"header": "zz"}, {"vif": "{"}):

        def lies(volume: Any, *, summed: bool = False, change: dict[str, Any] = change) -> dict[str, Any]:
            return {**true(volume, summed=summed), **change}

        monkeypatch.setattr(transfer, "_state_of", lies)
        answer = await pair.take()
        assert answer.status >= 400, change
        assert "makes no sense" in answer.error, change
        assert pair.target.store.at_hand(3) is None


@ensure
async def test_no_room(cluster: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(FileOps, "disk_space", lambda _self, _path: DiskSpace(1 << 40, 1000))
        answer = await pair.take()
        assert answer.status == 406, answer
        assert "1000 bytes free, volume 3 takes" in answer.error
    assert pair.names == []
    assert (await pair.take()).status == 200
    await pair.check()


@ensure
async def test_the_disk_fills_up_in_the_middle(cluster: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    true, calls = FileOps.pwritev, 0

    def full(_: FileOps, fd: int, buffers: Sequence[Any], offset: int) -> int:
        nonlocal calls
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".copying"):
            calls += 1
            if calls == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return true(fd, buffers, offset)

    monkeypatch.setattr(FileOps, "pwritev", full)
    answer = await pair.take()
    assert answer.status == 500, answer
    assert "No space left on device" in answer.error
    assert pair.target.store.at_hand(3) is None
    assert pair.names == ["pics_3.dat.copying"]
    pair.line.offsets.clear()
    assert (await pair.take()).status == 200
    assert pair.line.offsets[0] == 2000
    await pair.check()


@ensure
async def test_refused_where_there_is_one_or_none(cluster: Any, pair: Pair) -> None:
    answer = await pair.take(**{"from": pair.target.address, "volume": 4})
    assert answer.status >= 400, "the source has no such volume"
    assert pair.names == []
    assert (await pair.take(**{"from": "nowhere"})).status >= 400
    assert (await pair.take()).status == 200
    answer = await pair.take()
    assert (answer.status, "is there already" in answer.error) == (409, True)
    await pair.check()


@ensure
async def test_one_at_a_time(cluster: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    gate: Deferred[None] = Deferred()
    waits: Deferred[None] = Deferred()
    true = transfer.Transfer._fetch

    async def fetch(own: Any, *rest: Any) -> None:
        if not waits.called:
            waits.callback(None)
        await gate
        await true(own, *rest)

    monkeypatch.setattr(transfer.Transfer, "_fetch", fetch)
    first = Deferred.fromCoroutine(pair.take())
    await waits
    answer = await pair.take()
    assert (answer.status, "coming in already" in answer.error) == (409, True)
    dropped = await pair.cluster.ask("POST", pair.target, "/admin/copy/drop", query={"volume": 3})
    assert (dropped.status, "end that first" in dropped.error) == (409, True)
    gate.callback(None)
    assert (await first).status == 200
    await pair.check()


@ensure
async def test_what_has_come_is_dropped(cluster: Any, pair: Pair) -> None:
    assert (await pair.take(mount="false")).status == 200
    for count in (1, 0):
        answer = await pair.cluster.ask("POST", pair.target, "/admin/copy/drop", query={"volume": 3})
        assert answer.json == {"dropped": count}
    assert pair.names == []


@ensure
async def test_frozen_and_thawed(cluster: Any, pair: Pair) -> None:
    ask, volume = pair.cluster.ask, pair.source.store.find(3)
    assert (await ask("POST", pair.source, "/admin/copy/freeze", query={"volume": 3})).status == 200
    assert "being moved" in volume.read_only_reason
    assert (await pair.take()).status == 200
    assert pair.target.store.find(3).read_only_reason == "", "the copy takes writes"
    assert (await ask("POST", pair.source, "/admin/copy/thaw", query={"volume": 3})).status == 200
    assert volume.read_only_reason == ""
    await ask("POST", pair.source, "/admin/volume/readonly", query={"volume": 3})
    for step in ("freeze", "thaw"):
        assert (await ask("POST", pair.source, f"/admin/copy/{step}", query={"volume": 3})).status == 200
    assert "operator" in volume.read_only_reason, "what an operator has set stays"


@ensure
async def test_released_only_if_it_is_what_was_compared(cluster: Any, pair: Pair) -> None:
    state = await pair.state(pair.source)
    query = {"volume": 3, **{name: state[name] for name in ("size", "indexSize", "revision")}}
    pair.write(40, b"since")
    answer = await pair.cluster.ask("POST", pair.source, "/admin/copy/release", query=query)
    assert (answer.status, "has changed since it was compared" in answer.error) == (409, True)
    assert pair.source.store.find(3).read_only_reason == "", "it goes on taking writes"
    state = await pair.state(pair.source)
    query.update({name: state[name] for name in ("size", "indexSize", "revision")})
    assert (await pair.cluster.ask("POST", pair.source, "/admin/copy/release", query=query)).status == 200
    assert pair.source.store.at_hand(3) is None
