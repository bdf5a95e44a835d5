"""Files in chunks of which one is missing or damaged: an error while one can be sent, later a broken answer."""

import json
import os
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_twisted
from klein import Klein
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadManifest
from weedtw.http.channel import make_site
from weedtw.http.http11 import Patience
from weedtw.http.requests import Request, query
from weedtw.http.responses import endpoint, json_errors
from weedtw.http.stream import send_pieces
from weedtw.http.testing import Wire
from weedtw.volume.serving import AHEAD

FID = "/3,10637037d6"
NEAR, FAR, LAST = "3,01637037d6", "4,02637037d6", "3,03637037d6"


async def store(cluster: Any, server: Any, *chunks: tuple[str, bytes]) -> bytes:
    """Store chunks and a manifest of them; what that stands for."""
    listed, whole = [], b""
    for fid, body in chunks:
        assert (await cluster.put(server, f"/{fid}", body, "a/b")).status == 201
        listed.append({"fid": fid, "offset": len(whole), "size": len(body)})
        whole += body
    document = json.dumps({"size": len(whole), "chunks": listed}).encode()
    assert (await cluster.put(server, FID + "?cm=true", document, "application/json")).status == 201
    return whole


def damage(server: Any, fid: str) -> None:
    """Flip a bit in the data of a file on disk."""
    volume_id, _, rest = fid.partition(",")
    volume = server.store.find(int(volume_id))
    place = volume.generation.needles.find(int(rest[:-8], 16))
    with open(volume.files.dat, "r+b") as file:
        file.seek(place.offset + 20 + place.size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


def read_to_the_end(address: str, version: str = "1.1", window: int = 0) -> tuple[bytes, bytes]:
    """(head, body) of the answer, as a client with a receive window of that many bytes gets it before the end.

    Raises ConnectionResetError when that is a reset.
    """
    host, _, port = address.rpartition(":")
    with socket.socket() as client:
        if window:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        client.settimeout(30)
        client.connect((host, int(port)))
        client.sendall(f"GET {FID} HTTP/{version}\r\nHost: x\r\n\r\n".encode())
        received = b""
        while piece := client.recv(16 * 1024):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


# ------------------------------------------------------------------ before anything is said


@pytest.mark.parametrize("gone", [NEAR, FAR, LAST])
@pytest.mark.parametrize("length", [5, 100_000])
@pytest_twisted.ensureDeferred
async def test_any_chunk_that_is_missing_is_an_error(cluster: Any, servers: Any, gone: str, length: int) -> None:
    whole = await store(cluster, servers[0], *((fid, os.urandom(length)) for fid in (NEAR, FAR, LAST)))
    assert (await cluster.get(servers[0], FID)).body == whole
    await cluster.delete(servers[0], f"/{gone}")
    for headers in ({}, {"Range": f"bytes=1-{3 * length - 2}"}, {"Range": f"bytes=0-1,{length}-,1-{length}"}):
        for server in servers:  # the second passes the request on
            read = await cluster.get(server, FID, **headers)
            assert (read.status, gone in read.error, "127.0.0.1" in read.error) == (500, True, False)
            assert (read.get("ETag"), read.get("Content-Range")) == (None, None)
    assert servers[0]._api.server.ahead.used == servers[0]._api.server.downloads.used == 0


@pytest_twisted.ensureDeferred
async def test_what_lies_in_other_chunks_can_be_read(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0], (NEAR, b"abc"), (FAR, b"defg"), (LAST, b"hi"))
    await cluster.delete(servers[0], f"/{FAR}")
    read = await cluster.get(servers[0], FID, Range="bytes=0-2,7-8")
    assert (read.status, b"abc" in read.body, b"hi" in read.body) == (206, True, True)
    assert (await cluster.get(servers[0], FID, Range="bytes=0-3")).status == 500


@pytest.mark.parametrize("length", [1000, 600_000])
@pytest.mark.parametrize("bad", [NEAR, FAR, LAST])
@pytest_twisted.ensureDeferred
async def test_any_chunk_that_is_damaged_is_an_error(
    cluster: Any, servers: Any, logged_failures: Any, bad: str, length: int
) -> None:
    """A chunk of more than 512 KiB is read piece by piece, and damage is found at its end."""
    bodies = {fid: os.urandom(length if fid == bad else 1000) for fid in (NEAR, FAR, LAST)}
    await store(cluster, servers[0], *bodies.items())
    damage(servers[1] if bad == FAR else servers[0], bad)
    read = await cluster.get(servers[0], FID)
    is_cut = bad == FAR and length > 512 * 1024  # the other server's answer is, which may have other reasons
    assert (read.status, bad in read.error) == (503 if is_cut else 500, True)
    assert str(cluster.folder) not in read.error
    assert len(logged_failures) == is_cut
    logged_failures.clear()


@pytest_twisted.ensureDeferred
async def test_small_answers_share_what_is_read_ahead(cluster: Any, servers: Any) -> None:
    """When others have used it up the first chunk is there before the head, as for a large file."""
    whole = await store(cluster, servers[0], (NEAR, os.urandom(300_000)), (LAST, os.urandom(300_000)))
    ahead = servers[0]._api.server.ahead
    assert ahead.take(ahead.limit)
    assert (await cluster.get(servers[0], FID)).body == whole
    await cluster.delete(servers[0], f"/{LAST}")
    head, body = await deferToThread(read_to_the_end, servers[0].address)
    assert (head.split()[1], body) == (b"200", whole[:300_000])
    ahead.give(ahead.limit)
    assert (await cluster.get(servers[0], FID)).status == 500
    assert ahead.used == 0


@pytest_twisted.ensureDeferred
async def test_the_log_says_whose_answer_that_was(cluster: Any, servers: Any) -> None:
    await store(cluster, servers[0], (NEAR, b"abc"), (FAR, b"defg"))
    await cluster.delete(servers[0], f"/{FAR}")
    with capturedLogs() as events:
        assert (await cluster.get(servers[0], FID)).status == 500
    [line] = [formatEvent(event) or "" for event in events if event["log_level"] >= LogLevel.warn]
    assert (FAR in line, servers[1].address in line) == (True, True)


# ------------------------------------------------------------------ on the way


@pytest.mark.parametrize("gone", [FAR, LAST])
@pytest.mark.parametrize("window", [0, 16 * 1024])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest_twisted.ensureDeferred
async def test_a_large_answer_breaks_off_behind_what_there_is(
    cluster: Any, servers: Any, gone: str, window: int, version: str
) -> None:
    first, second = os.urandom(AHEAD + 1), os.urandom(1000)
    other = LAST if gone == FAR else FAR
    whole = await store(cluster, servers[0], (NEAR, first), (other, second), (gone, b"the end"))
    await cluster.delete(servers[0], f"/{gone}")
    with capturedLogs() as events:
        head, body = await deferToThread(read_to_the_end, servers[0].address, version, window)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length: %d" % len(whole) in head
    assert body == first + second
    lines = [formatEvent(event) for event in events if event["log_level"] >= LogLevel.warn]
    assert [line for line in lines if "broken off" in line and gone in line]
    assert max(event["log_level"] for event in events) == LogLevel.warn
    assert servers[0]._api.server.downloads.used == 0
    with pytest.raises(Exception, match="broke off"):
        await cluster.get(servers[0], FID)


@pytest_twisted.ensureDeferred
async def test_damage_is_counted_where_the_answer_breaks_off(cluster: Any, servers: Any) -> None:
    first = os.urandom(AHEAD)
    await store(cluster, servers[0], (NEAR, first), (LAST, os.urandom(1000)))
    damage(servers[0], LAST)
    head, body = await deferToThread(read_to_the_end, servers[0].address)
    assert (head.split()[1], body) == (b"200", first)
    assert servers[0]._api.damaged_reads == 1


@pytest_twisted.ensureDeferred
async def test_a_large_file_without_chunks_is_cut_as_ever(cluster: Any, servers: Any, logged_failures: Any) -> None:
    assert (await cluster.put(servers[0], FID, os.urandom(3 << 20), "a/b")).status == 201
    damage(servers[0], FID[1:])
    with pytest.raises(ConnectionResetError):
        await deferToThread(read_to_the_end, servers[0].address)
    assert len(logged_failures) == 1
    logged_failures.clear()


# ------------------------------------------------------------------ how an answer breaks off


class App:
    app = Klein()
    json_errors(app)

    @app.route("/")
    @endpoint
    async def broken(self, request: Request) -> None:
        """Gives five bytes, of as many as the request says, and then fails."""
        parameters = query(request)

        async def pieces() -> AsyncGenerator[bytes, None]:
            yield b"abc"
            yield b"de"
            raise ValueError if parameters.flag("fault") else BadManifest("chunk 3,01 is missing")

        if "length" in parameters:
            request.setHeader("Content-Length", parameters.text("length"))
        await send_pieces(request, pieces(), gently=parameters.flag("gently"))


class BreakOffTests(SynchronousTestCase):
    logged: list[LogEvent] = []  # noqa: RUF012 - replaced for each test

    @pytest.fixture(autouse=True)
    def expect_failures(self, logged_failures: list[LogEvent]) -> None:
        self.logged = logged_failures

    def setUp(self) -> None:
        self.clock = Clock()
        self.site = make_site(
            App().app.resource(), reactor=self.clock, body_limit=100, patience=Patience(window=20, rate=1000)
        )

    def ask(self, parameters: str, **settings: Any) -> Wire:
        wire = Wire(self.site, **settings)
        wire.send(f"GET /?{parameters} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return wire

    def test_what_was_sent_arrives(self) -> None:
        wire = self.ask("length=10&gently=true", capacity=100_000)  # a client that takes nothing yet
        self.assertEqual(wire.end, "")
        wire.take(20)
        self.assertEqual(wire.end, "")
        wire.take()
        self.assertEqual(wire.end, "closed")
        self.assertTrue(wire.received.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertTrue(wire.received.endswith(b"\r\nContent-Length: 10\r\n\r\nabcde"))

    def test_who_never_takes_it_is_not_waited_for(self) -> None:
        wire = self.ask("length=10&gently=true", capacity=100_000)
        self.clock.advance(3600)
        self.assertEqual(wire.end, "aborted")

    def test_no_other_request_is_answered_on_that_connection(self) -> None:
        wire = Wire(self.site)
        wire.send(b"GET /?length=10&gently=true HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        self.assertEqual((wire.received.count(b"HTTP/1.1 200"), wire.end), (1, "closed"))

    def test_without_a_length_a_close_could_be_taken_for_the_end(self) -> None:
        self.assertEqual(self.ask("gently=true").end, "aborted")

    def test_so_it_could_when_all_bytes_were_given(self) -> None:
        self.assertEqual(self.ask("length=5&gently=true").end, "aborted")

    def test_it_has_to_be_asked_for(self) -> None:
        self.assertEqual(self.ask("length=10").end, "aborted")
        [failure] = self.flushLoggedErrors(BadManifest)
        self.assertIn("3,01", failure.getErrorMessage())
        self.logged.clear()

    def test_a_fault_of_ours_cuts_the_connection(self) -> None:
        self.assertEqual(self.ask("length=10&gently=true&fault=true").end, "aborted")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.logged.clear()
