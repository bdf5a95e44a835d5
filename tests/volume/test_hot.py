"""The hot path and the other way answer alike: the same requests to two volumes, one on each way."""

import gzip
import random
import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from weedtw.storage.glance import glance
from weedtw.storage.vacuum import compact
from weedtw.volume.ready import Ready
from weedtw.volume.service import VolumeService

reactor: Any = installed_reactor
RANDOM = random.Random(5).randbytes(1024)
TEXT = b"many words that go on and on, " * 30
_TIMES = re.compile(rb"\r\n(Date|Last-Modified): [^\r]*")
LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
KLEIN = b"X-Weedtw-Path: klein\r\n"


class _Talk(Protocol):
    """Says something, and hears until the other side closes."""

    transport: Any

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.heard = b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.said)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self.heard)


async def talk(server: VolumeService, said: bytes) -> bytes:
    host, _, port = server.address.rpartition(":")
    endpoint = HostnameEndpoint(reactor, host, int(port))
    connected = await connectProtocol(endpoint, _Talk(said))
    heard: bytes = await connected.done
    return heard


def request(method: str, path: str, *lines: str, body: bytes | None = None) -> bytes:
    length = [] if body is None else [f"Content-Length: {len(body)}"]
    head = [f"{method} {path} HTTP/1.1", "Host: a", *lines, *length, ""]
    return "".join(f"{line}\r\n" for line in head).encode() + (body or b"")


def form(path: str, body: bytes, *part: str, boundary: str = "b7", end: bytes = b"--\r\n") -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"--{boundary}", *part, ""))
    whole = head.encode() + body + f"\r\n--{boundary}".encode() + end
    return request("POST", path, f"Content-Type: multipart/form-data; boundary={boundary}", body=whole)


def named(name: str, kind: str = "") -> list[str]:
    lines = [f'Content-Disposition: form-data; name="file"; filename="{name}"']
    return lines + ([f"Content-Type: {kind}"] if kind else [])


def _writes(number: int) -> list[bytes]:
    """What is written under the keys from `number` on, one request each."""
    bodies = [RANDOM, RANDOM[:1], TEXT, TEXT[:100], b"", RANDOM * 30, TEXT * 20, b"\r\n--b7", gzip.compress(TEXT)]
    made: list[bytes] = []

    def path(extension: str = "") -> str:
        return f"/V,{number + len(made):x}0a0b0c0d{extension}"

    for body in bodies:
        for kind in ("", "text/plain", "application/octet-stream", "image/png", "a/b; c=\u00e9"):
            lines = [f"Content-Type: {kind}"] if kind else []
            made.append(request("PUT", path(), *lines, body=body))
            made.append(request("POST", path(), *lines, body=body))
            made.append(form(path(), body, *named("some.txt" if len(made) % 2 else "some.bin", kind)))
        made.append(form(path(), body, *named("\u00fc ber.js")))
        made.append(form(path(), body, *named("..")))
        made.append(form(path(), body, 'Content-Disposition: form-data; name="x"'))
        made.append(form(path(), body, boundary="x"))
        made.append(form(path(), body, *named("a.b"), end=b"--"))
        made.append(form(path(), body, *named("a.b"), end=b"--\r\nepilogue"))
        made.append(form(path(), body, *named("a.b"), "Content-Transfer-Encoding: base64"))
        made.append(form(path(), body, *named("a.gz"), "Content-Encoding: gzip"))
        made.append(request("PUT", path(), "Content-MD5: wrong", body=body))
        made.append(request("PUT", path(), "Seaweed-Tag: t", body=body))
        made.append(request("PUT", path(), 'Content-Disposition: inline; filename="d.e"', body=body))
        made.append(request("PUT", path(".jpg"), body=body))
        made.append(request("PUT", path("?ts=77"), body=body))
        made.append(request("PUT", path("?ttl=3d"), body=body))
        made.append(request("PUT", path("?type=replicate&write=" + f"{len(made):032x}" + "&ts=77"), body=body))
        made.append(request("PUT", path("?fsync=true"), body=body))
        made.append(request("PUT", path("_3"), body=body))
        made.append(request("PUT", path(), "Expect: 100-continue", body=body))
    made.append(request("PUT", "/V,zz", body=b"x"))
    made.append(request("PUT", "/0,010a0b0c0d", body=b"x"))
    made.append(request("PUT", "/V,ffffffffffffffff0a0b0c0d_9", body=b"x"))
    made.append(request("PUT", "/77,010a0b0c0d?proxied=true", body=b"x"))
    return made


def _paths(writes: list[bytes]) -> list[str]:
    found = [re.search(rb"/V,[0-9a-f]+", write) for write in writes]
    return sorted({match[0].decode() for match in found if match})


READERS: list[tuple[str, ...]] = [
    (),
    ("Accept-Encoding: gzip",),
    ("Accept-Encoding: gzip;q=0, br",),
    ("Range: bytes=0-9",),
    ("Range: bytes=-5", "Accept-Encoding: gzip"),
    ("Range: bytes=10-99999999",),
    ("Range: bytes=99999999-",),
    ("Range: lines=1-2",),
    ("Range: bytes=0-9", 'If-Range: "x"'),
    ("If-None-Match: *",),
    ("If-None-Match: *", "Range: bytes=0-9"),
    ('If-None-Match: "x", W/"y"', "Range: bytes=1-2"),
    ("If-None-Match: \u00e9",),
    ("If-Modified-Since: Sun, 29 Nov 2099 06:01:51 GMT", "Accept-Encoding: gzip"),
    ("If-Modified-Since: Thu, 01 Jan 1970 00:00:01 GMT",),
    ("If-Modified-Since: yesterday",),
    ("If-Match: *",),
    ("Origin: http://a",),
    ("Cookie: x", "User-Agent: y"),
]


@pytest_twisted.async_yield_fixture
async def server(cluster: Any) -> Any:
    [started] = await cluster.start()
    await cluster.volume(3, [started])
    await cluster.volume(4, [started])
    yield started


class _Count:
    """How many requests the hot path has answered."""

    def __init__(self, server: VolumeService) -> None:
        self.count = 0
        assert server._site is not None
        hot: Any = server._site.hot
        assert hot is not None
        answer = hot.answer

        def counting(*arguments: Any) -> Any:
            reply = answer(*arguments)
            self.count += reply is not None
            return reply

        hot.answer = counting


async def _compare(server: VolumeService, requests: list[bytes]) -> None:
    """Send each request to volume 3, and on the other way to volume 4."""
    for asked in requests:
        hot = await talk(server, asked.replace(b"/V,", b"/3,") + LAST)
        forced = asked.replace(b"/V,", b"/4,").replace(b"Host: a\r\n", b"Host: a\r\n" + KLEIN, 1)
        forced = forced.replace(b"write=0", b"write=f")  # an id of its own
        slow = (await talk(server, forced + LAST)).replace(b"/4,", b"/3,").replace(b"volume 4", b"volume 3")
        strip = re.compile(rb"(?<=X-Weedtw-Undo: )[0-9.]*")
        assert strip.sub(b"", _TIMES.sub(b"", hot)) == strip.sub(b"", _TIMES.sub(b"", slow)), asked[:300]


@pytest_twisted.ensureDeferred
async def test_writes_reads_and_deletes_are_answered_alike(server: VolumeService) -> None:
    counted = _Count(server)
    writes = _writes(1)
    await _compare(server, writes)
    wrote = counted.count
    paths = _paths(writes)
    await _compare(server, [request("GET", path, *lines) for path in paths for lines in READERS[:2]])
    await _compare(
        server,
        [
            request("GET", path + end)
            for path in paths[::9]
            for end in (".png", ".x", "?dl=1", "/a", "?proxied=true", "?proxied=no")
        ],
    )
    await _compare(server, [request("HEAD", path, *lines) for path in paths[::5] for lines in READERS])
    await _compare(server, [request("GET", path, *lines) for path in paths[::7] for lines in READERS])
    await _compare(server, [request("GET", path[:-1] + "e") for path in paths[::9]])  # another cookie
    await _compare(server, writes[::11])  # they are there already
    read = counted.count
    replicated = [f"{path}?type=replicate&write={number + 10**9:032x}" for number, path in enumerate(paths[1::3])]
    await _compare(server, [request("DELETE", path[:-1] + "e") for path in paths[::9]])  # another cookie
    await _compare(server, [request("DELETE", path) for path in [*paths[::3], *replicated, *paths[::6], *replicated]])
    await _compare(server, [request("DELETE", paths[2] + "?cm=false"), request("DELETE", paths[5], body=b"x")])
    assert counted.count > read + len(paths) // 4
    hot, slow = [server.store.find(volume).generation for volume in (3, 4)]
    assert hot.needles.counters == slow.needles.counters
    assert hot.dat_size == slow.dat_size
    await _compare(server, [request("GET", path) for path in paths[::2]])
    assert wrote > len(writes) // 3
    assert counted.count > wrote + len(paths)


@pytest_twisted.ensureDeferred
async def test_the_records_are_alike(server: VolumeService) -> None:
    writes = _writes(1)
    await _compare(server, writes)
    hot, slow = server.store.find(3), server.store.find(4)
    keys = [key for key, _ in hot.generation.needles.items()]
    assert sorted(keys) == sorted(key for key, _ in slow.generation.needles.items())
    for key in keys:
        first, second = [volume.read(key, 0x0A0B0C0D) for volume in (hot, slow)]
        for name in ("data", "name", "mime", "pairs", "flags", "ttl", "checksum"):
            assert getattr(first, name) == getattr(second, name), (key, name)
        assert abs((first.last_modified or 0) - (second.last_modified or 0)) <= 60
    assert hot.info().size == slow.info().size
    assert hot.info().content_bytes == slow.info().content_bytes


@pytest_twisted.ensureDeferred
async def test_reading_the_same_file_on_both_ways(server: VolumeService, cluster: Any) -> None:
    """Here even the times are the same."""
    files = [("/3,1000000a0b0c0d", "a.bin", "", RANDOM), ("/3,1000010a0b0c0d", "b.txt", "text/plain", TEXT)]
    for path, name, kind, body in files:
        assert (await cluster.post(server, path, body, name, kind)).status == 201
    date = re.compile(rb"(?<=\r\nDate: )[^\r]*")
    for path, *_ in files * 3:  # from the third time on they are kept ready
        for method in ("GET", "HEAD"):
            for lines in READERS:
                hot = await talk(server, request(method, path, *lines) + LAST)
                slow = await talk(server, request(method, path, "X-Weedtw-Path: klein", *lines) + LAST)
                assert date.sub(b"", hot) == date.sub(b"", slow)


@pytest_twisted.ensureDeferred
async def test_what_is_kept_ready_is_what_is_there(server: VolumeService, cluster: Any) -> None:
    assert server._site is not None
    hot: Any = server._site.hot
    ready: Ready = hot.answer.__self__.reads.ready

    async def read(path: str, *lines: str) -> tuple[int, bytes]:
        answers = [await talk(server, request("GET", path, *lines) + LAST) for _ in range(3)]
        assert len({_TIMES.sub(b"", answer) for answer in answers}) == 1
        head, _, rest = answers[0].partition(b"\r\n\r\n")
        return int(head[9:12]), rest.partition(b"HTTP/1.1 200 OK")[0]

    await cluster.put(server, "/3,010a0b0c0d", RANDOM)
    await cluster.put(server, "/3,020a0b0c0d", b"other")
    assert await read("/3,010a0b0c0d") == (200, RANDOM)
    kept = ready.size
    assert len(RANDOM) < kept < 2 * len(RANDOM)
    assert (await read("/3,010a0b0c0e"))[0] == 404  # another cookie
    assert await read("/3,010a0b0c0d") == (200, RANDOM)
    await cluster.put(server, "/3,010a0b0c0d", RANDOM[::-1])
    assert await read("/3,010a0b0c0d") == (200, RANDOM[::-1])
    assert ready.size == kept
    assert await read("/3,020a0b0c0d") == (200, b"other")
    await cluster.delete(server, "/3,020a0b0c0d")
    assert await read("/3,010a0b0c0d") == (200, RANDOM[::-1])  # that another was deleted changes nothing about it
    assert (await read("/3,020a0b0c0d"))[0] == 404
    await cluster.put(server, "/3,020a0b0c0d", b"again")
    assert await read("/3,020a0b0c0d") == (200, b"again")

    compact(server.store.find(3)).commit()
    assert await read("/3,010a0b0c0d") == (200, RANDOM[::-1])
    await cluster.delete(server, "/3,010a0b0c0d")
    assert (await read("/3,010a0b0c0d"))[0] == 404

    await cluster.post(server, "/3,030a0b0c0d", TEXT, "a.txt", "text/plain")  # it is stored compressed
    status, packed = await read("/3,030a0b0c0d", "Accept-Encoding: gzip")
    assert (status, gzip.decompress(packed)) == (200, TEXT)
    assert await read("/3,030a0b0c0d") == (200, TEXT)


@pytest_twisted.ensureDeferred
async def test_what_is_no_simple_record_is_left_to_the_other_way(server: VolumeService, cluster: Any) -> None:
    volume = server.store.find(3)
    await cluster.put(server, "/3,010a0b0c0d", RANDOM)
    seen = glance(volume, 1, 0x0A0B0C0D, 1 << 19)
    assert seen is not None
    assert bytes(seen.data) == RANDOM
    assert glance(volume, 1, 0x0A0B0C0E, 1 << 19) is None
    assert glance(volume, 2, 0x0A0B0C0D, 1 << 19) is None
    assert glance(volume, 1, 0x0A0B0C0D, 1000) is None
    await cluster.put(server, "/3,030a0b0c0d?ttl=3d", RANDOM)
    assert glance(volume, 3, 0x0A0B0C0D, 1 << 19) is None
    place = volume.generation.needles.find(1)
    assert place is not None
    volume.generation.dat.write([b"\0"], place.offset + 40)
    assert glance(volume, 1, 0x0A0B0C0D, 1 << 19) is None
    assert (await cluster.get(server, "/3,010a0b0c0d")).status == 500


@pytest_twisted.ensureDeferred
async def test_a_slow_disk_is_waited_for_in_threads(
    server: VolumeService, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = _Count(server)
    assert server._api is not None
    brisk = server._api.needles.brisk
    assert brisk is not None
    now = [100.0]
    monkeypatch.setattr(brisk, "monotonic", lambda: now[0])
    write = server.store.find(3).ops.pwritev

    def slowly(*arguments: Any) -> int:
        now[0] += 0.1
        return write(*arguments)

    monkeypatch.setattr(server.store.find(3).ops, "pwritev", slowly)
    for number, hot in ((1, 1), (2, 2), (3, 2), (5, 2)):
        assert (await cluster.put(server, f"/3,0{number}0a0b0c0d", RANDOM)).status == 201
        assert counted.count == hot
    now[0] += 10
    assert (await cluster.put(server, "/3,040a0b0c0d", RANDOM)).status == 201
    assert counted.count == 3


@pytest_twisted.ensureDeferred
async def test_with_a_white_list_or_fsync_writes_go_the_other_way(cluster: Any) -> None:
    for settings in ({"white_list": ("127.0.0.1",)}, {"fsync": True}):
        [started] = await cluster.start(**settings)
        await cluster.volume(len(cluster.servers), [started])
        counted = _Count(started)
        path = f"/{len(cluster.servers)},010a0b0c0d"
        assert (await cluster.put(started, path, RANDOM)).status == 201
        assert counted.count == 0
        assert (await cluster.get(started, path)).body == RANDOM
        assert counted.count == 1


@pytest_twisted.ensureDeferred
async def test_writes_and_deletes_reach_both_copies_on_the_hot_path(cluster: Any) -> None:
    first, second = sorted(await cluster.start(2), key=lambda server: server.address)
    await cluster.volume(3, [first, second], replication="001")
    paths = [f"/3,{number:02x}0a0b0c0d" for number in range(1, 60)]
    await talk(first, request("PUT", paths[0], body=RANDOM) + LAST)  # from now on it is known where the copies are
    counted = _Count(first)
    answered = await talk(first, b"".join(request("PUT", path, body=RANDOM) for path in paths[1:]) + LAST)
    assert answered.count(b"HTTP/1.1 201 Created") == len(paths) - 1
    assert counted.count >= len(paths) - 1
    volumes = [server.store.find(3) for server in (first, second)]
    for key in range(1, 60):
        assert [volume.read(key, 0x0A0B0C0D).data for volume in volumes] == [RANDOM, RANDOM]
    counts = [counted, _Count(second)]
    answered = await talk(first, b"".join(request("DELETE", path) for path in paths[::2]) + LAST)
    assert answered.count(b'{"size":1024}') == len(paths[::2])
    assert [count.count >= len(paths[::2]) for count in counts] == [True, True]
    for key in range(1, 60):
        assert [volume.has(key) for volume in volumes] == [key % 2 == 0] * 2
    answered = await talk(second, request("DELETE", paths[1]) + LAST)  # which is not the one that puts them in order
    assert b'{"size":1024}' in answered
    assert not any(volume.has(2) for volume in volumes)
