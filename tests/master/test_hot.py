"""The master's hot path and the other way answer alike."""

import json
import re
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

from tests.master.stage import Stage
from weedtw.formats.fileid import FileId
from weedtw.http.testing import Wire
from weedtw.master.hot import Cookies

KLEIN = "X-Weedtw-Path: klein"


def ask(path: str, *lines: str, method: str = "GET") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: a", *lines, "")).encode()


_OWN = re.compile(rb'"fid": ?"[^"]*"|Date: [^\r]*')


async def answer(stage: Stage, said: bytes) -> bytes:
    """What a connection of its own brings."""
    site: Any = stage.master._site
    wire = Wire(site)
    wire.send(said)
    for _ in range(1000):
        if wire.received:
            break
        done: Deferred[None] = Deferred()
        stage.master.reactor.callLater(0.005, done.callback, None)
        await done
        wire.pump()
    return bytes(wire.received)


@pytest_twisted.ensureDeferred
async def test_ids_and_locations_are_answered_alike(stage: Stage) -> None:
    await stage.add()
    first = json.loads((await answer(stage, ask("/dir/assign"))).partition(b"\r\n\r\n")[2])
    volume = first["fid"].partition(",")[0]
    hot: Any = stage.master._site.hot  # type: ignore[union-attr]
    counted: list[object] = []
    once = hot.answer

    def counting(*arguments: Any) -> Any:
        reply = once(*arguments)
        counted.append(reply)
        return reply

    hot.answer = counting
    queries = (
        "",
        "?count=3",
        "?collection=",
        "?replication=000",
        "?count=0",
        "?replication=9",
        "?ttl=x",
        "?pretty=y",
    )
    paths = [f"/dir/assign{query}" for query in queries]
    paths += [f"/dir/lookup?{query}" for query in (f"volumeId={volume}", f"fileId={first['fid']}", "volumeId=99999")]
    paths += [
        "/dir/lookup?volumeId=0",
        "/dir/lookup?volumeId=",
        "/dir/lookup",
        f"/dir/lookup?volumeId={volume}&pretty=y",
    ]
    for path in paths:
        for lines in ((), ("User-Agent: x",), ("X-Weedtw-Forwarded: a b",)):
            both = [await answer(stage, ask(path, *lines, *more)) for more in ((), (KLEIN,))]
            assert _OWN.sub(b"", both[0]) == _OWN.sub(b"", both[1]), (path, lines)
    assert sum(reply is not None for reply in counted) >= 10


@pytest_twisted.ensureDeferred
async def test_no_id_comes_twice(stage: Stage) -> None:
    await stage.add()
    await answer(stage, ask("/dir/assign"))
    several = await answer(stage, ask("/dir/assign") * 500)
    one = [await answer(stage, ask("/dir/assign", KLEIN)) for _ in range(20)]
    found = re.findall(rb'"fid":"([^"]*)"', several + b"".join(one))
    keys = [fid.partition(b",")[2][:-8] for fid in found]
    assert len(keys) == len(set(keys)) == 520


@pytest_twisted.ensureDeferred
async def test_an_id_has_whole_bytes(stage: Stage) -> None:
    await stage.add()
    await answer(stage, ask("/dir/assign"))
    keys: Any = stage.master.cluster.keys
    for key in (1, 0xF, 0x10, 0xFF, 0x100, 0xFFFF, 1 << 59, (1 << 63) - 5):
        keys._next, keys._last = key, key + (1 << 20)
        [fid] = re.findall(rb'"fid":"([^"]*)"', await answer(stage, ask("/dir/assign")))
        parsed = FileId.parse(fid.decode())
        assert (parsed.key, str(parsed)) == (key, fid.decode())


def test_cookies_differ() -> None:
    make = Cookies()
    made = [make() for _ in range(5000)]
    assert len(set(made)) > 4990
    assert all(0 <= cookie < 1 << 32 for cookie in made)
    assert max(made) > 1 << 31
