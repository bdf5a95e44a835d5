"""Passing requests on: kept connections, time, and what is known of a request whose answer does not come."""

import contextlib
import select
import socket
from collections.abc import AsyncIterator
from typing import Any

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest, PeerError, Unreachable
from weedtw.http.answers import Answer
from weedtw.http.hop import Question
from weedtw.http.hops import Errand, Hops
from weedtw.raft.dial import plain_connector

reactor: Any = installed_reactor
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = Question(b"GET", b"/vol/grow?count=1", ((b"X-Mark", b"m"),))
WIRE = b"GET /vol/grow?count=1 HTTP/1.1\r\nHost: a:1\r\nX-Mark: m\r\n\r\n"


class Wire(StringTransport):
    """The server's end of a connection."""

    aborted = False

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.streamed: Any = None

    def answer(self, data: bytes = OK) -> None:
        self.protocol.dataReceived(data)

    def lose(self, reason: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.streamed = producer

    def unregisterProducer(self) -> None:
        self.streamed = None


class Endpoint:
    """Every connection waits for the test to make it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[IProtocolFactory, Deferred[Any]]] = []

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        made: Deferred[Any] = Deferred()
        self.waiting.append((factory, made))
        return made

    def make(self) -> Wire:
        factory, made = self.waiting.pop(0)
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        wire = Wire(protocol)
        protocol.makeConnection(wire)
        made.callback(protocol)
        return wire


class HopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.hops = Hops(lambda _: self.endpoint, self.clock, idle=15.0, kept=2)  # type: ignore[arg-type,return-value]

    def send(self, question: Question = GET) -> Errand:
        return self.hops.send("a:1", question, connect_within=1.0, answer_within=10.0)

    def reason(self, errand: Errand, kind: type[PeerError]) -> str:
        error = self.failureResultOf(errand.done).value
        self.assertIs(type(error), kind)
        return str(error)

    def test_there_and_back_again_and_again(self) -> None:
        first = self.send()
        wire = self.endpoint.make()
        self.assertEqual(wire.value(), WIRE)
        wire.answer()
        self.assertEqual(self.successResultOf(first.done).body, b"ok")
        wire.clear()
        second = self.send(Question(b"POST", b"/x", (), b"a=b"))
        self.assertEqual(wire.value(), b"POST /x HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\na=b")
        wire.answer()
        self.assertEqual(self.successResultOf(second.done).status, 200)
        self.assertEqual(self.endpoint.waiting, [])

    def test_a_large_body_goes_at_the_pace_of_the_connection(self) -> None:
        errand = self.send(Question(b"PUT", b"/x", (), memoryview(b"x" * 200_000)))
        wire = self.endpoint.make()
        self.assertTrue(wire.value().endswith(b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000))
        self.assertIsNone(wire.streamed)
        wire.answer()
        self.successResultOf(errand.done)

    def test_an_answer_that_comes_before_all_was_sent_costs_the_connection(self) -> None:
        errand = self.send()
        wire = self.endpoint.make()
        wire.answer()
        self.successResultOf(errand.done)
        wire.write = lambda data: wire.streamed and wire.streamed.pauseProducing()  # type: ignore[method-assign]
        errand = self.send(Question(b"PUT", b"/x", (), b"x" * 200_000))
        self.assertIsNotNone(wire.streamed)
        wire.answer(OK.replace(b"200", b"403"))
        self.assertEqual(self.successResultOf(errand.done).status, 403)
        self.assertTrue(wire.aborted)

    def test_no_connection(self) -> None:
        errand = self.send()
        self.endpoint.waiting.pop()[1].errback(Failure(Refused()))
        self.assertIn("refused", self.reason(errand, Unreachable))
        errand = self.send()
        self.clock.advance(1.0)
        self.assertIn("no connection within 1 s", self.reason(errand, Unreachable))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_address(self) -> None:
        def connector(_: str) -> Any:
            raise BadRequest("no address")

        self.hops = Hops(connector, self.clock)
        self.assertIn("no address", self.reason(self.send(), Unreachable))

    def test_a_fault_of_ours_while_connecting_is_no_network_trouble(self) -> None:
        self.endpoint.connect = lambda factory: fail(ZeroDivisionError())  # type: ignore[method-assign]
        self.failureResultOf(self.send().done, ZeroDivisionError)

    def test_what_was_sent_and_not_answered_may_have_been_done(self) -> None:
        for end in (ConnectionDone(), ConnectionLost()):
            for part in (b"", OK[:-1]):
                errand = self.send()
                wire = self.endpoint.make()
                wire.answer(part) if part else None
                wire.lose(end)
                self.reason(errand, PeerError)
        self.assertEqual(self.endpoint.waiting, [])  # and was not sent again

    def test_the_same_on_a_kept_connection(self) -> None:
        self.send()
        wire = self.endpoint.make()
        wire.answer()
        errand = self.send()
        wire.lose()
        self.reason(errand, PeerError)
        self.assertEqual(self.endpoint.waiting, [])

    def test_an_answer_that_is_none(self) -> None:
        errand = self.send()
        wire = self.endpoint.make()
        wire.answer(b"garbage\r\n\r\n")
        self.assertIn("not HTTP", self.reason(errand, PeerError))
        self.assertTrue(wire.aborted)

    def test_no_answer_in_time(self) -> None:
        errand = self.send()
        wire = self.endpoint.make()
        wire.answer(OK[:-1])
        self.clock.advance(9.9)
        self.assertNoResult(errand.done)
        self.clock.advance(0.2)
        self.assertIn("no answer within 10 s", self.reason(errand, PeerError))
        self.assertTrue(wire.aborted)

    def test_hurrying(self) -> None:
        connecting, sent = self.send(), self.send()
        factory = self.endpoint.waiting.pop(0)
        wire = self.endpoint.make()
        for errand in (connecting, sent):
            errand.hurry(2.0, "b:1 leads now")
        self.assertIn("b:1 leads now", self.reason(connecting, Unreachable))
        self.assertTrue(factory[1].called)  # cancelled
        self.clock.advance(1.0)
        sent.hurry(5.0, "c:1 leads now")
        self.clock.advance(0.9)
        self.assertNoResult(sent.done)
        self.clock.advance(0.2)
        self.assertIn("b:1 leads now", self.reason(sent, PeerError))
        self.assertTrue(wire.aborted)

    def test_giving_up(self) -> None:
        errand = self.send()
        errand.done.cancel()
        self.failureResultOf(errand.done, CancelledError)
        self.assertTrue(self.endpoint.waiting.pop()[1].called)
        errand = self.send()
        wire = self.endpoint.make()
        errand.done.cancel()
        self.failureResultOf(errand.done, CancelledError)
        self.assertTrue(wire.aborted)
        wire.lose()
        errand.hurry(0.0, "")
        self.clock.advance(20)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_kept_connection_that_nobody_uses_is_closed(self) -> None:
        self.send()
        wire = self.endpoint.make()
        wire.answer()
        self.clock.advance(14.9)
        self.assertFalse(wire.disconnecting)
        self.clock.advance(0.2)
        self.assertTrue(wire.disconnecting)
        self.send()
        self.assertEqual(len(self.endpoint.waiting), 1)  # although its end has not been told yet
        wire.lose()

    def test_what_was_never_asked_for_ends_a_kept_connection(self) -> None:
        self.send()
        wire = self.endpoint.make()
        wire.answer()
        wire.answer()
        self.assertTrue(wire.disconnecting)
        self.send()
        self.assertEqual(len(self.endpoint.waiting), 1)

    def test_a_connection_that_the_other_side_wants_closed_is_not_kept(self) -> None:
        self.send()
        wire = self.endpoint.make()
        wire.answer(OK.replace(b"\r\nC", b"\r\nConnection: close\r\nC"))
        self.assertTrue(wire.disconnecting)

    def test_no_more_connections_are_kept_than_agreed_and_the_last_used_is_used_first(self) -> None:
        for _ in range(3):
            self.send()
        wires = [self.endpoint.make() for _ in range(3)]
        for wire in wires:
            wire.answer()
            wire.clear()
        self.assertEqual([wire.disconnecting for wire in wires], [False, False, True])
        self.send()
        self.assertEqual([wire.value() for wire in wires], [b"", WIRE, b""])

    def test_closing(self) -> None:
        kept, busy, connecting = self.send(), self.send(), self.send()
        first, second = self.endpoint.make(), self.endpoint.make()
        first.answer()
        closed = self.hops.close()
        third = self.endpoint.make()
        self.successResultOf(kept.done)
        self.assertIn("stopping", self.reason(busy, PeerError))
        self.reason(connecting, Unreachable)
        for wire in (first, second, third):
            self.assertNoResult(closed)
            self.assertTrue(wire.disconnecting)
            wire.lose()
        self.successResultOf(closed)
        self.successResultOf(self.hops.close())


# ------------------------------------------------------------------ real sockets


@attrs.define(eq=False)
class Other:
    """A server that answers requests with what `answers` holds, one each, None for none; it may close then."""

    answers: list[tuple[bytes | None, bool]]
    got: list[bytes] = attrs.Factory(list)
    connections: list[Any] = attrs.Factory(list)
    address: str = ""

    def take(self, connection: Any, data: bytes) -> None:
        self.got.append(data)
        answer, close = self.answers.pop(0)
        if answer is not None:
            connection.write(answer)
        if close:
            connection.loseConnection()


class OtherProtocol(Protocol):
    other: Other

    def connectionMade(self) -> None:
        self.other.connections.append(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.other.take(self.transport, data)


@contextlib.asynccontextmanager
async def other(*answers: tuple[bytes | None, bool]) -> AsyncIterator[tuple[Other, Hops]]:
    server = Other(list(answers))
    factory = Factory.forProtocol(type("Scripted", (OtherProtocol,), {"other": server}))
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    server.address = f"127.0.0.1:{port.getHost().port}"
    hops = Hops(plain_connector(reactor), reactor)
    try:
        yield server, hops
    finally:
        await hops.close()
        await port.stopListening()


async def ask(hops: Hops, server: Other) -> Answer | PeerError:
    try:
        return await hops.send(server.address, GET, connect_within=20.0, answer_within=20.0).done
    except PeerError as error:
        return error


@ensureDeferred
async def test_a_get_whose_connection_breaks_is_not_sent_again() -> None:
    async with other((OK, False), (None, True), (OK, False)) as (server, hops):
        assert isinstance(await ask(hops, server), Answer)
        error = await ask(hops, server)  # on the kept connection
        assert type(error) is PeerError
        assert len(server.got) == 2
        assert len(server.connections) == 1
        assert isinstance(await ask(hops, server), Answer)
        assert len(server.connections) == 2


@ensureDeferred
async def test_an_end_that_only_the_kernel_knows_of_is_noticed_before_anything_is_sent() -> None:
    async with other((OK, False), (OK, False)) as (server, hops):
        assert isinstance(await ask(hops, server), Answer)
        pause: Deferred[None] = deferLater(reactor, 0)
        await pause
        # In one turn of the reactor, as when a leader has died: it closes, and the next request is there already.
        server.connections[0].getHandle().shutdown(socket.SHUT_RDWR)
        [kept] = hops._open
        assert select.select([kept.transport.getHandle()], [], [], 20)[0]
        assert isinstance(await ask(hops, server), Answer)
        assert len(server.got) == 2


@ensureDeferred
async def test_nobody_listens() -> None:
    async with other() as (server, hops):
        nowhere = Other([], address="127.0.0.1:1")
        error = await ask(hops, nowhere)
        assert type(error) is Unreachable
        nowhere.address = "no address"
        assert type(await ask(hops, nowhere)) is Unreachable
        assert server.got == []
