"""Long answers of the hot path: in order, at the client's pace, and ended once whatever happens."""

import re
from typing import Any

import pytest
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged
from weedtw.http.channel import make_site
from weedtw.http.hot import Hot, Meaning, Reply
from weedtw.http.http11 import Patience
from weedtw.http.outflow import Outflow
from weedtw.http.testing import Wire

PIECES, PIECE = 10, 5000
BODY = bytes(range(250)) * (PIECES * PIECE // 250)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class Flow(Outflow):
    """BODY in pieces of one buffer; the `late`th has to be fetched, and in place of the `broken`th comes an error."""

    def __init__(self, late: int = -1, broken: int = -1) -> None:
        self.head = HEAD
        self.given = 0
        self.put = memoryview(b"")  # what was put back
        self.late, self.broken = late, broken
        self.error: Exception = Damaged("it", "broken")
        self.fetching: Deferred[None] | None = None
        self.ends: list[Exception | None] = []
        self.buffer = memoryview(bytearray(PIECE))

    def piece(self) -> memoryview | None:
        assert not self.ends
        if self.put:
            self.buffer[: len(self.put)], count, self.put = self.put, len(self.put), memoryview(b"")
            return self.buffer[:count]
        if self.given == self.late:
            return None
        if self.given == self.broken:
            raise self.error
        self.buffer[:] = bytes(PIECE)  # nobody may have kept it
        if self.given == PIECES:
            return memoryview(b"")
        self.buffer[:] = BODY[self.given * PIECE : (self.given + 1) * PIECE]
        self.given += 1
        return self.buffer

    def put_back(self, count: int) -> None:
        at = self.given * PIECE
        self.put = memoryview(BODY)[at - count : at]
        self.buffer[:] = bytes(PIECE)

    def fetch(self) -> "Deferred[None]":
        assert self.fetching is None
        self.fetching = Deferred()
        return self.fetching

    def fetched(self) -> None:
        self.late = -1
        fetching, self.fetching = self.fetching, None
        assert fetching is not None
        fetching.callback(None)

    def end(self, error: Exception | None) -> None:
        self.ends.append(error)


class Spot:
    pattern = re.compile(rb"(GET) /(?:long|short) HTTP/1\.1\r\n")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def answer(self, line: "re.Match[bytes]", _meaning: Meaning, _body: bytes, _boundary: bytes) -> Reply:
        if b"long" in line[0]:
            return self.flow
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


LONG, SHORT = [b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % name for name in (b"long", b"short")]


class OutflowTests(SynchronousTestCase):
    logged: list[LogEvent] = []  # noqa: RUF012 - replaced for each test

    @pytest.fixture(autouse=True)
    def expect_failures(self, logged_failures: list[LogEvent]) -> None:
        self.logged = logged_failures

    def begin(self, flow: Flow, said: bytes = LONG, capacity: int | None = None) -> Wire:
        self.clock = Clock()
        patience = Patience(idle=30, head=20, window=10, rate=1000, linger=5)
        self.site = make_site(
            Klein().resource(), reactor=self.clock, body_limit=1000, patience=patience, now=lambda: 1e9
        )
        self.site.hot = Hot(Spot(flow))
        wire = Wire(self.site, capacity=capacity)
        wire.send(said)
        return wire

    def bodies(self, wire: Wire) -> list[bytes]:
        return [answer.body for answer in wire.answers()]

    def test_it_comes_in_order_among_others(self) -> None:
        flow = Flow()
        wire = self.begin(flow, SHORT + LONG + SHORT)
        self.assertEqual(self.bodies(wire), [b"ok", BODY, b"ok"])
        self.assertEqual(flow.ends, [None])
        wire.send(SHORT)
        self.assertEqual(self.bodies(wire), [b"ok"])
        self.assertFalse(wire.end)

    def test_no_more_is_made_than_the_client_takes(self) -> None:
        flow = Flow()
        wire = self.begin(flow, LONG + SHORT, capacity=1000)
        self.assertEqual(flow.given, 1)
        received = []
        while flow.given < PIECES:
            before = flow.given
            wire.take(1100)
            received.append(flow.given - before)
        self.assertLessEqual(max(received), 1)
        while not flow.ends or wire.transport.pending:
            wire.take(5000)
        self.assertEqual(self.bodies(wire), [BODY, b"ok"])

    def test_what_has_to_be_fetched_is_waited_for(self) -> None:
        for late in (0, 3, PIECES - 1):
            flow = Flow(late=late)
            wire = self.begin(flow, LONG + SHORT)
            self.assertEqual(self.bodies(wire), [])
            self.assertEqual(flow.given, late)
            self.clock.advance(1000)  # it is not the client that is awaited
            flow.fetched()
            wire.pump()
            self.assertEqual(self.bodies(wire), [BODY, b"ok"])
            self.assertEqual(flow.ends, [None])

    def test_an_error_in_the_middle_cuts_the_connection(self) -> None:
        flow = Flow(broken=4)
        wire = self.begin(flow, LONG + SHORT)
        self.assertEqual(wire.end, "aborted")
        self.assertEqual(flow.ends, [flow.error])

        flow = Flow(late=4)
        wire = self.begin(flow)
        assert flow.fetching is not None
        flow.fetching.errback(flow.error)
        self.assertEqual((wire.end, flow.ends), ("aborted", [flow.error]))
        self.assertEqual(len(self.flushLoggedErrors(Damaged)), 2)
        self.logged.clear()

    def test_a_client_that_leaves_ends_it(self) -> None:
        flow = Flow()
        wire = self.begin(flow, capacity=1000)
        wire.leave()
        self.assertEqual(flow.ends, [None])

        flow = Flow(late=2)
        self.begin(flow).leave()
        self.assertEqual(flow.ends, [None])
        flow.fetched()  # and what comes then is nobody's
        self.assertEqual(flow.ends, [None])

    def test_a_client_that_takes_nothing_is_cut(self) -> None:
        flow = Flow()
        wire = self.begin(flow, capacity=1000)
        for _ in range(600):
            self.clock.advance(1)
        self.assertEqual((wire.end, flow.ends), ("aborted", [None]))

    def test_a_server_that_stops_sends_all_of_it_first(self) -> None:
        flow = Flow()
        wire = self.begin(flow, LONG + SHORT, capacity=1000)
        drained: Any = self.site.drain(600)
        while not wire.end:
            wire.take(3000)
        self.assertEqual(self.bodies(wire), [BODY])
        self.assertEqual((wire.end, flow.ends), ("closed", [None]))
        self.successResultOf(drained)
