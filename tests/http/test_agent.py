"""Asking other servers, and everything they can do wrong."""

import contextlib
import gzip
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import pytest_twisted
from klein import Klein
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers

from weedtw.errors import Forbidden, PeerError, Unreachable
from weedtw.http.agent import PeerAgent, PeerResponse, make_agent
from weedtw.http.bodies import BuffersBody
from weedtw.http.channel import make_site
from weedtw.http.requests import Request
from weedtw.http.responses import endpoint, json_errors, json_response, uninterrupted
from weedtw.http.stream import send

reactor: Any = installed_reactor
BIG = bytes(range(251)) * 20_000  # 5 MB


class App:
    app = Klein()
    relay_to = ""

    def __init__(self, peers: PeerAgent) -> None:
        self.peers = peers
        self.gone: Deferred[None] = Deferred()
        self.asked: Deferred[None] = Deferred()
        self.client_gone: Deferred[None] = Deferred()
        self.relayed: Deferred[None] = Deferred()

    @app.route("/echo")
    @endpoint
    async def echo(self, request: Request) -> bytes:
        digest = hashlib.sha256(request.body).hexdigest()
        headers = {k.decode(): v[0].decode() for k, v in request.requestHeaders.getAllRawHeaders()}
        value = {"uri": request.uri.decode(), "size": len(request.body), "sha256": digest, "headers": headers}
        return json_response(request, value)

    @app.route("/denied")
    @endpoint
    async def denied(self, request: Request) -> bytes:
        raise Forbidden("1.2.3.4")

    @app.route("/list")
    @endpoint
    async def list(self, request: Request) -> bytes:
        return json_response(request, [1])

    @app.route("/big")
    @endpoint
    async def big(self, request: Request) -> None:
        request.setHeader("Content-Length", str(len(BIG)))
        await send(request, [BIG])

    @app.route("/endless")
    @endpoint
    async def endless(self, request: Request) -> None:
        request.notifyFinish().addErrback(lambda _: self.gone.callback(None))
        await send(request, (BIG for _ in range(1000)))

    @app.route("/relay-late")
    @endpoint
    async def relay_late(self, request: Request) -> bytes | None:
        """Goes on after its client has left, and only then has something to pass on."""
        response = await self.peers.request("GET", self.relay_to, "/endless")
        request.notifyFinish().addErrback(lambda _: self.client_gone.callback(None))
        await uninterrupted(self._relay_when_gone(request, response))
        return None

    async def _relay_when_gone(self, request: Request, response: PeerResponse) -> None:
        self.asked.callback(None)
        await self.client_gone
        await response.relay(request)
        self.relayed.callback(None)

    @app.route("/relay/<path>")
    @endpoint
    async def relay(self, request: Request, path: str) -> bytes | None:
        response = await self.peers.request("GET", self.relay_to, "/" + path)
        request.setResponseCode(response.status)
        if response.length is not None:
            request.setHeader("Content-Length", str(response.length))
        await response.relay(request)
        return None


json_errors(App.app)


@attrs.frozen
class Server:
    address: str
    app: App
    peers: PeerAgent


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    peers = make_agent(reactor, timeout=20.0)
    app = App(peers)
    site = make_site(app.app.resource(), reactor=reactor, body_limit=10 << 20)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    app.relay_to = f"127.0.0.1:{port.getHost().port}"
    try:
        yield Server(app.relay_to, app, peers)
    finally:
        await port.stopListening()
        await peers.close()
        await site.drain(5)


@pytest_twisted.ensureDeferred
async def test_json_there_and_back() -> None:
    async with serving() as server:
        peers, address = server.peers, server.address
        got = await peers.get_json(address, "/echo", {"a": "ä &", "n": 3, "none": None})
        assert got["uri"] == "/echo?a=%C3%A4+%26&n=3"
        assert got["headers"]["User-Agent"].startswith("weedtw/")
        posted = await peers.post_json(address, "/echo", value={"a": ["x" * 300_000]})
        assert posted["size"] == 300_011
        assert posted["headers"]["Content-Type"] == "application/json"
        assert (await peers.post_json(address, "/echo"))["size"] == 0
        for path, status, word in (
            ("/denied", 403, "1.2.3.4"),
            ("/nope", 404, "/nope"),
            ("/list", 200, "not a JSON"),
        ):
            with pytest.raises(PeerError, match=word) as caught:
                await peers.get_json(address, path)
            assert (caught.value.status, caught.value.address) == (status, address)


@pytest_twisted.ensureDeferred
async def test_bodies_of_several_buffers() -> None:
    async with serving() as server:
        buffers: list[bytes | memoryview] = [b"", BIG[:7], memoryview(BIG)[7:], b""]
        response = await server.peers.request("PUT", server.address, "/echo", body=buffers, headers={"X-A": "b"})
        assert response.status == 200
        body = await response.read()
        assert hashlib.sha256(BIG).hexdigest().encode() in body
        assert b'"X-A":"b"' in body


@pytest_twisted.ensureDeferred
async def test_connections_are_kept() -> None:
    async with serving() as server:
        for _ in range(5):
            await server.peers.get_json(server.address, "/echo")
        pool: Any = server.peers.pool
        assert [len(kept) for kept in pool._connections.values()] == [1]


@pytest_twisted.ensureDeferred
async def test_an_answer_longer_than_wanted() -> None:
    async with serving() as server:
        response = await server.peers.request("GET", server.address, "/endless")
        with pytest.raises(PeerError, match="longer than 100000 bytes"):
            await response.read(100_000)
        await server.app.gone


@pytest_twisted.ensureDeferred
async def test_an_answer_that_nobody_takes() -> None:
    async with serving() as server:
        response = await server.peers.request("GET", server.address, "/endless")
        response.drop()
        await server.app.gone
        assert (await server.peers.get_json(server.address, "/echo"))["uri"] == "/echo"


@pytest_twisted.ensureDeferred
async def test_relaying() -> None:
    async with serving() as server:
        response = await server.peers.request("GET", server.address, "/relay/big")
        assert response.length == len(BIG)
        assert await response.read() == BIG
        response = await server.peers.request("GET", server.address, "/relay/nope")
        assert response.status == 404
        assert b"nothing is served" in await response.read()


@pytest_twisted.ensureDeferred
async def test_relaying_to_a_client_that_leaves() -> None:
    async with serving() as server:
        response = await server.peers.request("GET", server.address, "/relay/endless")
        response.drop()
        await server.app.gone
        assert (await server.peers.get_json(server.address, "/echo"))["uri"] == "/echo"


@pytest_twisted.ensureDeferred
async def test_relaying_to_a_client_that_has_left() -> None:
    async with serving() as server:
        asked = Deferred.fromCoroutine(server.peers.request("GET", server.address, "/relay-late"))
        asked.addErrback(lambda failure: failure.trap(CancelledError) and None)
        await server.app.asked
        asked.cancel()
        await server.app.relayed
        await server.app.gone


@pytest_twisted.ensureDeferred
async def test_nobody_listens() -> None:
    port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    address = f"127.0.0.1:{port.getHost().port}"
    await port.stopListening()
    peers = make_agent(reactor)
    with pytest.raises(Unreachable, match="refused"):
        await peers.get_json(address, "/")
    for strange in ("", "localhost", "a b:1", "a:1/x", "user@host:1", "a:1\r\n", "a:x", "a:0", "a:70000"):
        with pytest.raises(Unreachable):
            await peers.get_json(strange, "/")
    await peers.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_one_who_gives_up_before_there_is_a_connection_is_told_so(host: str) -> None:
    peers = make_agent(reactor)
    asked = Deferred.fromCoroutine(peers.get_json(f"{host}:9", "/"))
    asked.cancel()  # a name is still being looked up
    with pytest.raises(CancelledError):
        await asked
    await peers.close()


class Script(Protocol):
    """Answers the first bytes of each connection with the next of `answers`, and closes if it says so."""

    answers: list[tuple[bytes, bool]]
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        if self.answers:
            text, close = self.answers.pop(0)
            self.transport.write(text)
            if close:
                self.transport.loseConnection()


@contextlib.asynccontextmanager
async def scripted(*answers: tuple[bytes, bool]) -> AsyncIterator[tuple[PeerAgent, str]]:
    factory = Factory.forProtocol(type("Scripted", (Script,), {"answers": list(answers)}))
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    peers = make_agent(reactor, timeout=0.3)
    yield peers, f"127.0.0.1:{port.getHost().port}"
    await peers.close()
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_connections_come_and_go_without_a_word() -> None:
    with capturedLogs() as logged:
        async with scripted((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", True)) as (peers, address):
            assert await peers.get_json(address, "/") == {}
    said = [formatEvent(event) or "" for event in logged]
    assert not [line for line in said if "HTTP11ClientFactory" in line], said


@pytest_twisted.ensureDeferred
async def test_answers_that_are_none() -> None:
    gzipped = gzip.compress(b'{"a": 1}')
    for text, close, reason in (
        (b"", True, "."),
        (b"", False, "no answer within 0.3 s"),
        (b"garbage\r\n\r\n", False, "."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", True, "broke off after 2 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", False, "stalled for 0.3 s after 2 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope", False, "not a JSON object"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nnope", False, "answered 500"),
        (b"HTTP/1.1 302 Go\r\nLocation: http://a/\r\nContent-Length: 4\r\n\r\nnope", False, "not a JSON object"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(gzipped), gzipped),
            False,
            "not a JSON object",
        ),
    ):
        async with scripted((text, close)) as (peers, address):
            with pytest.raises(PeerError, match=reason) as caught:
                await peers.get_json(address, "/")
            assert not isinstance(caught.value, Unreachable)


@pytest_twisted.ensureDeferred
async def test_what_is_not_idempotent_is_sent_once() -> None:
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with scripted((ok, False), (b"", True), (ok, False)) as (peers, address):
        await peers.post_json(address, "/")
        with pytest.raises(PeerError):
            await peers.post_json(address, "/")
        assert await peers.post_json(address, "/") == {}


class FakeResponse:
    """A response whose body comes as the test says."""

    code = 200
    length = 10
    headers = Headers()

    def __init__(self) -> None:
        self.protocol: Any = None
        self.lost = 0

    def deliverBody(self, protocol: Protocol) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)

    def loseConnection(self) -> None:
        self.lost += 1
        self.protocol.connectionLost(Failure(PeerError("", "closed")))


class TimeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.answer: Deferred[Any] = Deferred()
        self.peers = PeerAgent(agent=self, clock=self.clock, timeout=5.0)  # type: ignore[arg-type]

    def request(self, *_: object) -> Deferred[Any]:
        return self.answer

    def ask(self) -> Deferred[dict[str, Any]]:
        return Deferred.fromCoroutine(self.peers.get_json("a:1", "/"))

    def test_no_answer(self) -> None:
        asked = self.ask()
        self.clock.advance(4.9)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        self.assertIn("no answer within 5 s", str(self.failureResultOf(asked, PeerError).value))

    def test_a_body_that_stalls(self) -> None:
        response = FakeResponse()
        self.answer = succeed(response)
        asked = self.ask()
        for _ in range(5):
            self.clock.advance(4.9)
            response.protocol.dataReceived(b" ")
        self.assertNoResult(asked)
        self.clock.advance(5.1)
        self.assertIn("stalled for 5 s after 5 bytes", str(self.failureResultOf(asked, PeerError).value))
        self.assertEqual(response.lost, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_body_that_ends(self) -> None:
        response = FakeResponse()
        self.answer = succeed(response)
        asked = self.ask()
        response.protocol.dataReceived(b'{"a":')
        response.protocol.dataReceived(b"1}")
        response.protocol.connectionLost(Failure(ResponseDone()))
        self.assertEqual(self.successResultOf(asked), {"a": 1})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_giving_up_before_the_answer(self) -> None:
        for error in (CancelledError(), ConnectingCancelledError(None), ResponseFailed([Failure(CancelledError())])):
            self.answer = Deferred(lambda d, e=error: d.errback(Failure(e)))  # type: ignore[misc]
            asked = self.ask()
            asked.cancel()
            self.failureResultOf(asked, CancelledError)

    def test_no_connection_in_time(self) -> None:
        self.answer = Deferred(lambda d: d.errback(Failure(ConnectingCancelledError(None))))
        asked = self.ask()
        self.clock.advance(5)
        self.assertIn("no connection within 5 s", str(self.failureResultOf(asked, Unreachable).value))

    def test_giving_up(self) -> None:
        response = FakeResponse()
        self.answer = succeed(response)
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(response.lost, 1)

    def test_refused(self) -> None:
        self.answer.errback(Failure(Refused()))
        self.failureResultOf(self.ask(), Unreachable)


class Consumer:
    """Pauses its producer after every write."""

    def __init__(self) -> None:
        self.body: Any = None
        self.got: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.got.append(data)
        self.body.pauseProducing()


class BuffersBodyTests(SynchronousTestCase):
    def test_pieces_at_the_consumers_pace(self) -> None:
        consumer = Consumer()
        consumer.body = BuffersBody([b"a" * 150_000, b"", memoryview(b"b")])
        self.assertEqual(consumer.body.length, 150_001)
        done = consumer.body.startProducing(consumer)
        for count in (1, 2, 3, 4):
            self.assertEqual(len(consumer.got), count)
            self.assertNoResult(done)
            consumer.body.resumeProducing()
        self.successResultOf(done)
        self.assertEqual(b"".join(consumer.got), b"a" * 150_000 + b"b")

    def test_stopping(self) -> None:
        consumer = Consumer()
        consumer.body = BuffersBody([b"a" * 150_000])
        done = consumer.body.startProducing(consumer)
        consumer.body.stopProducing()
        consumer.body.resumeProducing()
        self.assertEqual(len(consumer.got), 1)
        self.assertNoResult(done)
