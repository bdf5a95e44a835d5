"""How long a connection may take over things, how a server stops, and who gets a connection at all."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from weedtw.http.channel import Site, make_site
from weedtw.http.http11 import Patience
from weedtw.http.requests import Request
from weedtw.http.responses import body_response, endpoint, json_errors, json_response
from weedtw.http.stream import send, send_pieces
from weedtw.http.testing import SEGMENT, Wire

GET = b"GET /size HTTP/1.1\r\nHost: a\r\n\r\n"
BIG = bytes(range(256)) * 4096  # 1 MiB


class App:
    app = Klein()

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []
        self.streams_ended = 0

    @app.route("/size")
    @endpoint
    async def size(self, request: Request) -> bytes:
        return json_response(request, len(request.body))

    @app.route("/wait")
    @endpoint
    async def wait(self, request: Request) -> bytes:
        self.waiting.append(Deferred())
        await self.waiting[-1]
        return json_response(request, "waited")

    @app.route("/at-once")
    @endpoint
    async def at_once(self, request: Request) -> bytes:
        return body_response(request, BIG, "application/x-big")

    @app.route("/streamed")
    @endpoint
    async def streamed(self, request: Request) -> None:
        request.setHeader("Content-Length", str(len(BIG)))
        try:
            await send(request, [BIG[:1000], memoryview(BIG)[1000:]])
        finally:
            self.streams_ended += 1

    @app.route("/made")
    @endpoint
    async def made(self, request: Request) -> None:
        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                for _ in range(100):
                    yield BIG[:10_000]
            finally:
                self.streams_ended += 1

        await send_pieces(request, pieces())

    @app.route("/impatient")
    @endpoint
    async def impatient(self, request: Request) -> None:
        """Ends as soon as the transport tells its producer to stop, before the request knows why."""
        stopped: Deferred[None] = Deferred()
        request.registerProducer(StopsAtOnce(stopped), streaming=True)
        request.write(b"begun")
        await stopped


@implementer(IPushProducer)
class StopsAtOnce:
    def __init__(self, stopped: Deferred[None]) -> None:
        self.stopped = stopped

    def pauseProducing(self) -> None:
        """It has nothing to pause."""

    def resumeProducing(self) -> None:
        """Nor to resume."""

    def stopProducing(self) -> None:
        self.stopped.errback(CancelledError())


json_errors(App.app)


class TimeTestCase(SynchronousTestCase):
    patience = Patience(idle=30, head=20, window=10, rate=1000, linger=5)

    def setUp(self) -> None:
        self.clock = Clock()
        self.app = App()
        self.site = self.make_site()

    def make_site(self, protocols: dict[bytes, Callable[[], IProtocol]] | None = None) -> Site:
        return make_site(
            self.app.app.resource(),
            reactor=self.clock,
            body_limit=1 << 21,
            patience=self.patience,
            protocols=protocols,
        )

    def tearDown(self) -> None:
        self.clock.advance(1e6)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TimeOutTests(TimeTestCase):
    def test_a_connection_without_a_byte(self) -> None:
        wire = Wire(self.site)
        self.clock.advance(29)
        self.assertEqual(wire.end, "")
        self.clock.advance(1)
        self.assertEqual((wire.end, wire.received), ("closed", b""))

    def test_an_idle_connection(self) -> None:
        wire = Wire(self.site)
        for _ in range(5):
            self.clock.advance(29)
            wire.send(GET)
        self.assertEqual(len(wire.answers()), 5)
        self.clock.advance(29)
        self.assertEqual(wire.end, "")
        self.clock.advance(2)
        self.assertEqual((wire.end, wire.received), ("closed", b""))

    def test_a_drip_of_header_bytes(self) -> None:
        wire = Wire(self.site)
        for byte in GET[:19]:
            wire.send(bytes([byte]))
            self.clock.advance(1)
        self.assertEqual(wire.received, b"")
        self.clock.advance(2)
        wire.pump()
        [answer] = wire.answers()
        self.assertEqual((answer.status, answer.headers["connection"]), (408, "close"))
        self.clock.advance(5)
        self.assertEqual(wire.end, "aborted")

    def test_a_slow_head_behind_another_request(self) -> None:
        wire = Wire(self.site)
        wire.send(GET + GET[:5])
        self.assertEqual(len(wire.answers()), 1)
        self.clock.advance(20)
        wire.pump()
        self.assertEqual(wire.answers()[0].status, 408)

    def test_a_drip_of_body_bytes(self) -> None:
        wire = Wire(self.site)
        wire.send(b"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(10):
            wire.send(b"x" * 900)
            self.clock.advance(1)
        wire.pump()
        self.assertEqual(wire.answers()[0].status, 408)

    def test_a_body_that_is_slow_but_moves(self) -> None:
        wire = Wire(self.site)
        wire.send(b"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 110000\r\n\r\n")
        for _ in range(100):
            wire.send(b"x" * 1100)
            self.clock.advance(1)
        self.assertEqual(wire.answers()[0].json, 110000)

    def test_a_request_under_way_is_not_the_clients_time(self) -> None:
        wire = Wire(self.site)
        wire.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        self.clock.advance(10_000)
        self.app.waiting[0].callback(None)
        wire.pump()
        self.assertEqual(wire.answers()[0].json, "waited")

    def test_a_client_that_takes_nothing(self) -> None:
        for path in ("/at-once", "/streamed"):
            wire = Wire(self.site, capacity=100_000)
            wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            self.clock.advance(9)
            self.assertEqual(wire.end, "")
            self.clock.advance(3000)
            self.assertEqual(wire.end, "aborted", path)

    def test_a_client_that_takes_its_time(self) -> None:
        for path in ("/at-once", "/streamed"):
            wire = Wire(self.site, capacity=100_000)
            wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            for _ in range(600):
                wire.take(2000)
                self.clock.advance(1)
            [answer] = wire.answers()
            self.assertEqual(answer.body, BIG, path)

    def test_where_it_is_known_what_a_client_takes_nobody_stalls_for_long(self) -> None:
        self.site.taken = lambda transport: transport.taken
        for path in ("/at-once", "/streamed"):
            wire = Wire(self.site, capacity=100_000)
            wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            for _ in range(50):
                wire.take(1100)
                self.clock.advance(1)
            self.assertEqual(wire.end, "", path)
            self.clock.advance(self.patience.window - 1)
            self.assertEqual(wire.end, "", path)
            self.clock.advance(1)
            self.assertEqual(wire.end, "aborted", path)

    def test_a_client_that_takes_its_time_where_that_is_known(self) -> None:
        self.site.taken = lambda transport: transport.taken
        for path in ("/at-once", "/streamed"):
            wire = Wire(self.site, capacity=100_000)
            wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            for _ in range(900):
                wire.take(1300)
                self.clock.advance(1)
            [answer] = wire.answers()
            self.assertEqual(answer.body, BIG, path)

    def test_an_answer_is_not_written_ahead_of_the_client(self) -> None:
        wire = Wire(self.site, capacity=100_000)
        wire.send(b"GET /streamed HTTP/1.1\r\nHost: a\r\n\r\n")
        most = 0
        while not wire.answers():
            most = max(most, len(wire.transport.pending))
            wire.take(10_000)
        self.assertLess(most, 200_000)

    def test_a_stream_for_head_is_not_even_looked_at(self) -> None:
        wire = Wire(self.site, capacity=1000)
        wire.send(b"HEAD /streamed HTTP/1.1\r\nHost: a\r\n\r\n")
        wire.take()
        [answer] = wire.answers("HEAD")
        self.assertEqual((answer.headers["content-length"], self.app.streams_ended), (str(len(BIG)), 1))

    def test_a_client_that_leaves_a_stream_ends_it(self) -> None:
        for count, path in enumerate(("/streamed", "/made")):
            wire = Wire(self.site, capacity=100_000)
            wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            self.assertEqual(self.app.streams_ended, count)
            wire.leave()
            self.assertEqual(self.app.streams_ended, count + 1)

    def test_leaving_is_no_failure_whoever_hears_of_it_first(self) -> None:
        wire = Wire(self.site, capacity=1)
        wire.send(b"GET /impatient HTTP/1.1\r\nHost: a\r\n\r\n")
        wire.leave()  # nothing is logged: that is what is tested
        self.assertEqual(wire.end, "closed")

    def test_requests_are_not_read_while_answers_are_not_taken(self) -> None:
        wire = Wire(self.site, capacity=1000)
        wire.send(GET * 5_000)
        wire.pump()
        self.assertLess(len(GET) * 5_000 - len(wire.transport.inbox), 2 * SEGMENT)
        self.assertFalse(wire.transport.reading)
        taken = 0
        while taken < 5_000:
            wire.take(5000)
            wire.pump()
            taken += len(wire.answers())


class DrainTests(TimeTestCase):
    def test_idle_connections_are_closed_at_once(self) -> None:
        fresh, kept, begun = Wire(self.site), Wire(self.site), Wire(self.site)
        kept.send(GET)
        begun.send(GET[:7])
        self.successResultOf(self.site.drain(10))
        self.assertEqual([wire.end for wire in (fresh, kept, begun)], ["closed"] * 3)

    def test_requests_under_way_are_finished(self) -> None:
        waiting, uploading = Wire(self.site), Wire(self.site)
        waiting.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        uploading.send(b"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab")
        drained = self.site.drain(10)
        self.assertNoResult(drained)
        self.app.waiting[0].callback(None)
        waiting.pump()
        uploading.send(b"c")
        self.assertEqual([a.json for a in waiting.answers() + uploading.answers()], ["waited", 3])
        self.assertEqual((waiting.end, uploading.end), ("closed", "closed"))
        self.successResultOf(drained)

    def test_but_not_for_ever(self) -> None:
        wire = Wire(self.site)
        wire.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        drained = self.site.drain(10)
        self.clock.advance(9.9)
        self.assertNoResult(drained)
        self.clock.advance(0.2)
        self.successResultOf(drained)
        self.assertEqual(wire.end, "aborted")

    def test_a_connection_that_comes_late_is_closed(self) -> None:
        self.successResultOf(self.site.drain(10))
        self.assertEqual(Wire(self.site).end, "closed")

    def test_a_refused_client_that_hangs_on_is_not_waited_for_long(self) -> None:
        wire = Wire(self.site)
        wire.send(b"garbage\r\n")
        drained = self.site.drain(10)
        self.assertNoResult(drained)
        self.clock.advance(1)
        self.successResultOf(drained)

    def test_draining_twice(self) -> None:
        wire = Wire(self.site)
        wire.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        first, second = self.site.drain(10), self.site.drain(1)
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.clock.advance(1)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(wire.end, "aborted")


class Beat(Protocol):
    """Keeps what it gets, and tells when it ends."""

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.got.endswith(b"\r\n"):
            self.transport.write(b"heard\r\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True


class HandOverTests(TimeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.beats: list[Beat] = []
        self.site = self.make_site({b"BEAT/1 ": self.build, b"RAFT/1 ": self.build})

    def build(self) -> Beat:
        self.beats.append(Beat())
        return self.beats[-1]

    def test_split_in_every_place(self) -> None:
        for line in (b"BEAT/1 {}\r\n", b"RAFT/1 x\r\n"):
            for cut in range(1, len(line)):
                wire = Wire(self.site)
                wire.send(line[:cut])
                wire.send(line[cut:])
                self.assertEqual((self.beats[-1].got, bytes(wire.received)), (line, b"heard\r\n"))
                wire.leave()
                self.assertTrue(self.beats[-1].ended)

    def test_what_only_begins_like_a_prefix_is_http(self) -> None:
        for line in (b"BEAT /size HTTP/1.1\r\n", b"BEAT/2 x HTTP/1.1\r\n", b"B /size HTTP/1.1\r\n", b"beat/1 x\r\n"):
            wire = Wire(self.site)
            for byte in line + b"Host: a\r\n\r\n":
                wire.send(bytes([byte]))
            self.assertIn(wire.answers()[0].status, (200, 400), line)
            wire.leave()
        self.assertEqual(self.beats, [])

    def test_whoever_stops_within_a_prefix_is_not_waited_for(self) -> None:
        wire = Wire(self.site)
        for byte in b"BEAT":
            wire.send(bytes([byte]))
            self.clock.advance(7)
        self.clock.advance(3)
        self.assertEqual(wire.end, "closed")
        self.assertEqual(self.beats, [])

    def test_a_handed_over_connection_has_no_time_out_and_is_not_drained(self) -> None:
        wire = Wire(self.site)
        wire.send(b"BEAT/1 {}\r\n")
        self.clock.advance(100_000)
        self.successResultOf(self.site.drain(10))
        self.clock.advance(100)
        self.assertEqual(wire.end, "")


PIECES = st.one_of(
    st.sampled_from(
        [
            b"GET /size HTTP/1.1\r\n",
            b"POST /size HTTP/1.1\r\n",
            b"HEAD /wait HTTP/1.0\r\n",
            b"Host: a\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: close\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"BEAT/1 ",
            b"hello",
            b"\0",
        ]
    ),
    st.binary(max_size=40),
)


class FuzzTests(SynchronousTestCase):
    """Whatever comes: no exception, no growing memory, and every answer is one that a client can read."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(PIECES, max_size=30), st.randoms(use_true_random=False))
    def test_anything(self, pieces: list[bytes], random: Any) -> None:
        clock = Clock()
        site = make_site(App().app.resource(), reactor=clock, body_limit=100, protocols={b"BEAT/1 ": Protocol})
        wire = Wire(site)
        stream = b"".join(pieces)
        at = 0
        while at < len(stream) and not wire.end:
            step = random.randint(1, 50)
            wire.send(stream[at : at + step])
            at += step
        for answer in wire.answers():
            self.assertIn(answer.status, (200, 400, 404, 405, 408, 413, 414, 417, 431, 501, 503, 505))
        wire.leave()
        clock.advance(1e6)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual((site.room.in_flight.used, site.room.in_memory.used), (0, 0))
