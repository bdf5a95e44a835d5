"""What only real sockets show: resets, half closes, and a kernel that drops what a client has not read."""

import contextlib
import itertools
import select
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import attrs
import pytest_twisted
from klein import Klein
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from weedtw.http.channel import Site, make_site
from weedtw.http.http11 import Patience
from weedtw.http.listen import listen
from weedtw.http.requests import Request
from weedtw.http.responses import body_response, endpoint, json_errors, json_response
from weedtw.http.stream import send_pieces
from weedtw.http.taken import bytes_taken

reactor: Any = installed_reactor
MIB = 1 << 20
BIG = bytes(range(256)) * (32 * MIB // 256)
MADE = 250_001  # bytes of a piece: no part of BIG's period


class App:
    app = Klein()

    def __init__(self) -> None:
        self.waiting: Deferred[None] = Deferred()
        self.came: Deferred[None] = Deferred()
        self.made_ended: Deferred[None] = Deferred()

    @app.route("/size")
    @endpoint
    async def size(self, request: Request) -> bytes:
        return json_response(request, len(request.body))

    @app.route("/big")
    @endpoint
    async def big(self, request: Request) -> bytes:
        return body_response(request, BIG, "application/x-big")

    @app.route("/made")
    @endpoint
    async def made(self, request: Request) -> None:
        """As a file on the disk: one buffer for all pieces, used again as soon as it may be."""
        request.setHeader("Content-Length", str(len(BIG)))
        buffer = memoryview(bytearray(MADE))

        async def pieces() -> AsyncGenerator[memoryview, None]:
            try:
                for at in range(0, len(BIG), MADE):
                    piece = buffer[: len(BIG[at : at + MADE])]
                    piece[:] = BIG[at : at + MADE]
                    yield piece
                    buffer[:] = bytes(MADE)
            finally:
                self.made_ended.callback(None)

        await send_pieces(request, pieces())

    @app.route("/wait")
    @endpoint
    async def wait(self, request: Request) -> bytes:
        self.came.callback(None)
        await self.waiting
        return json_response(request, "waited")


json_errors(App.app)


class Beat(Protocol):
    """Says back what it gets."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@attrs.frozen
class Server:
    app: App
    site: Site
    port: Any
    number: int  # the port's: a port that listens no more does not tell

    async def talk(self, conversation: "Callable[[socket.socket], bytes]") -> bytes:
        """Run a blocking client in a thread of its own."""

        def connected() -> bytes:
            with socket.create_connection(("127.0.0.1", self.number), timeout=60) as client:
                return conversation(client)

        return await deferToThread(connected)


@contextlib.asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Server]:
    app = App()
    settings = {"body_limit": MIB, "protocols": {b"BEAT/1 ": Beat}, **settings}
    site = make_site(app.app.resource(), reactor=reactor, **settings)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        yield Server(app, site, port, port.getHost().port)
    finally:
        await maybeDeferred(port.stopListening)
        await site.drain(1)


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest_twisted.ensureDeferred
async def test_garbage_is_answered_and_the_connection_closed() -> None:
    def conversation(client: socket.socket) -> bytes:
        client.sendall(b"THIS IS NOT HTTP\r\n" + b"and more of it\r\n" * 10_000)
        return read_all(client)

    async with serving() as server:
        answer = await server.talk(conversation)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b'{"error":"this is not an HTTP request"}')


@pytest_twisted.ensureDeferred
async def test_a_client_that_sends_all_before_it_reads_still_gets_the_refusal() -> None:
    def conversation(client: socket.socket) -> bytes:
        client.sendall(b"PUT /size HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BIG))
        client.sendall(BIG)
        return read_all(client)

    async with serving() as server:
        answer = await server.talk(conversation)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"limit of 1048576 bytes" in answer


@pytest_twisted.ensureDeferred
async def test_large_bodies_both_ways() -> None:
    def upload(client: socket.socket) -> bytes:
        head = b"PUT /size HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        client.sendall(head % len(BIG))
        client.sendall(BIG)
        return read_all(client)

    def download(client: socket.socket) -> bytes:
        client.sendall(b"GET /big HTTP/1.0\r\n\r\n")
        return read_all(client)

    async with serving(body_limit=len(BIG)) as server:
        assert (await server.talk(upload)).endswith(b"\r\n\r\n%d" % len(BIG))
        assert (await server.talk(download)).endswith(b"\r\n\r\n" + BIG)
        assert server.site.room.in_flight.used == 0


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_nothing_is_cut() -> None:
    def conversation(client: socket.socket) -> bytes:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        ended = select.poll()
        ended.register(client, 0)  # errors and hang-ups only: the server's reset
        return b"cut" if ended.poll(50_000) else b"still there"

    async with serving(patience=Patience(window=0.2, rate=1)) as server:  # 32 MiB at that rate: a year
        assert await server.talk(conversation) == b"cut"


@pytest_twisted.ensureDeferred
async def test_the_kernel_tells_what_a_client_has_taken() -> None:
    transports: list[Any] = []
    seen = threading.Event()

    class Sink(Protocol):
        def connectionMade(self) -> None:
            transports.append(self.transport)

    def conversation(client: socket.socket) -> bytes:
        client.sendall(b"BEAT/1 ")
        received = bytearray()  # a socket with a time-out does not wait for all
        while len(received) < 100_000 and (more := client.recv(100_000)):
            received += more
        seen.wait(60)
        return bytes(received)

    async with serving(protocols={b"BEAT/1 ": Sink}) as server:
        talking = Deferred.fromCoroutine(server.talk(conversation))
        while not transports:
            await deferLater(reactor, 0)
        assert bytes_taken(transports[0]) == 0
        transports[0].write(bytes(100_000))
        while bytes_taken(transports[0]) != 100_000:  # acknowledgements may come a little later
            await deferLater(reactor, 0.001)
        seen.set()
        assert len(await talking) == 100_000
    assert bytes_taken(object()) is None


@pytest_twisted.ensureDeferred
async def test_a_crowd_that_comes_at_once() -> None:
    site = make_site(App().app.resource(), reactor=reactor, body_limit=MIB)
    port = listen(reactor, site, ip="127.0.0.1", bind="127.0.0.1", port=0, port_option="--port")

    def crowd() -> int:
        """All knock, and nobody is let in before everybody has."""
        clients = [
            socket.create_connection((port.getHost().host, port.getHost().port), timeout=20) for _ in range(200)
        ]
        reactor.callFromThread(port.startReading)
        try:
            for client in clients:
                client.sendall(b"GET /size HTTP/1.1\r\nHost: a\r\n\r\n")
            return sum(client.recv(100).startswith(b"HTTP/1.1 200 ") for client in clients)
        finally:
            for client in clients:
                client.close()

    try:
        assert await deferToThread(crowd) == 200
    finally:
        await maybeDeferred(port.stopListening)
        await site.drain(1)


@pytest_twisted.ensureDeferred
async def test_one_port_for_two_protocols() -> None:
    def beat(client: socket.socket) -> bytes:
        client.sendall(b"BEA")
        client.sendall(b"T/1 {}\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            answer += client.recv(100)
        return answer

    async with serving() as server:
        assert await server.talk(beat) == b"BEAT/1 {}\r\n"


@pytest_twisted.ensureDeferred
async def test_stopping_lets_a_request_finish() -> None:
    idle_ended = threading.Event()
    answered: Deferred[None] = Deferred()

    def idle(client: socket.socket) -> bytes:
        client.sendall(b"GET /size HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n0"):
            more = client.recv(65536)
            assert more, answer
            answer += more
        reactor.callFromThread(answered.callback, None)
        answer += read_all(client)
        idle_ended.set()
        return answer

    def waiting(client: socket.socket) -> bytes:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        return read_all(client)

    async with serving() as server:
        first = Deferred.fromCoroutine(server.talk(idle))
        second = Deferred.fromCoroutine(server.talk(waiting))
        await server.app.came
        await answered  # a client that had not come yet would be refused, and rightly
        await server.port.stopListening()
        drained = server.site.drain(30)
        assert (await first).endswith(b"\r\n\r\n0")
        assert idle_ended.is_set()
        assert not drained.called
        server.app.waiting.callback(None)
        answer = await second
        assert b"Connection: close" in answer
        assert answer.endswith(b'"waited"')
        await drained


@pytest_twisted.ensureDeferred
async def test_what_a_buffer_held_arrives_however_the_client_reads() -> None:
    def conversation(client: socket.socket) -> bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.sendall(
            b"GET /made HTTP/1.1\r\nHost: a\r\n\r\nGET /size HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        received = bytearray()
        sizes = itertools.cycle((1, 70_000, 4096, 1_000_000))
        while data := client.recv(next(sizes)):
            received += data
        return bytes(received)

    async with serving() as server:
        head, _, rest = (await server.talk(conversation)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest[: len(BIG)] == BIG
        assert rest[len(BIG) :].startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest.endswith(b"\r\n\r\n0")


@pytest_twisted.ensureDeferred
async def test_others_have_a_turn_while_one_takes_all_there_is() -> None:
    def greedy(client: socket.socket) -> bytes:
        client.sendall(b"GET /made HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return read_all(client)

    async with serving() as server:
        turns: list[None] = []
        other = LoopingCall(turns.append, None)
        other.start(0)
        answer = await server.talk(greedy)
        assert answer.endswith(BIG)
        other.stop()
        assert len(turns) > len(BIG) // (2 * MIB)


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_in_the_middle_ends_what_is_made_for_it() -> None:
    def conversation(client: socket.socket) -> bytes:
        client.sendall(b"GET /made HTTP/1.1\r\nHost: a\r\n\r\n")
        return client.recv(300_000)

    async with serving() as server:
        assert (await server.talk(conversation)).startswith(b"HTTP/1.1 200 OK\r\n")
        await server.app.made_ended
        assert not server.site.in_flight
