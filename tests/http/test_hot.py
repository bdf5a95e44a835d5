"""The hot path on one connection: the same answers in the same order as on the other way, however the bytes come."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from klein import Klein
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.http.test_parsers import AMBIGUOUS
from weedtw.errors import CookieMismatch, Unavailable
from weedtw.http.channel import Site, make_site
from weedtw.http.hot import PLAIN, Hot, Later, Meaning, Reply, error_answer
from weedtw.http.requests import SERVER, Request
from weedtw.http.responses import endpoint, json_errors, json_response, render_json
from weedtw.http.testing import Wire


class Echo:
    """The other way."""

    app = Klein()
    json_errors(app)

    @app.route("/echo/<name>", methods=["GET", "PUT", "POST"])
    @endpoint
    async def echo(self, request: Request, name: str) -> bytes:
        return json_response(request, value(request.method, name, bytes(request.body)))


def value(method: bytes, name: str, body: bytes) -> dict[str, str]:
    return {"method": method.decode(), "name": name, "body": body.decode("latin-1")}


class Spot:
    """Answers as Echo does, at once, or when it is told to: a name that begins with `later` waits for `give`."""

    pattern = re.compile(rb"(GET|PUT|POST) /echo/([a-z]{1,50}) HTTP/1\.1\r\n")

    def __init__(self, date: Callable[[], bytes]) -> None:
        self.date = date
        self.answered = 0
        self.waiting: list[tuple[Later, bytes]] = []

    def answer(self, line: "re.Match[bytes]", meaning: Meaning, body: bytes, boundary: bytes) -> Reply:
        method: bytes = line[1]
        name: bytes = line[2]
        if not meaning.names <= {b"content-type"} or boundary or (method == b"GET" and body):
            return None
        self.answered += 1
        said = render_json(value(method, name.decode(), body))
        answer = (
            b"HTTP/1.1 200 OK\r\nServer: " + SERVER + b"\r\nDate: " + self.date() + b"\r\nCache-Control: no-store\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\nX-Content-Type-Options: nosniff\r\n\r\n"
            % len(said)
        ) + said
        if name.startswith(b"fail"):
            raise RuntimeError("out of order")
        if not name.startswith(b"later"):
            return answer
        later = Later()
        self.waiting.append((later, answer))
        if name == b"laternow":
            self.give()
        return later

    def give(self) -> None:
        later, answer = self.waiting.pop(0)
        later.give(answer)


def site(hot: bool, clock: Clock | None = None) -> tuple[Site, Spot]:
    made = make_site(Echo().app.resource(), reactor=clock or Clock(), body_limit=100_000, now=lambda: 1e9)
    spot = Spot(made.date)
    if hot:
        made.hot = Hot(spot)
    return made, spot


def get(name: str, *lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET /echo/{name} HTTP/1.1", "Host: a", *lines, "")).encode()


def put(name: str, body: bytes, *lines: str) -> bytes:
    head = (f"PUT /echo/{name} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *lines, "")
    return "".join(f"{line}\r\n" for line in head).encode() + body


def _lengths(size: int) -> tuple[str, ...]:
    """A length as clients may write it, and the hot path does not look for it."""
    digits = (
        f":{size}",
        f":  {size}",
        f":\t{size}",
        f": {size} ",
        f": {size}\t",
        f": 0000{size:03}",
        f": {size:020}",
    )
    return *(f"Content-Length{each}" for each in digits), f"CONTENT-LENGTH:{size}"


REQUESTS = [
    get("a"),
    get("bb", "Accept-Encoding: gzip"),
    get("a", "Connection: keep-alive"),
    get("a", "Connection: Keep-Alive"),
    get("c", "X-Odd: 1"),
    get("c", "Range: bytes=0-1"),
    get("c", "Accept: a", "Accept: b"),
    get("c", "User-Agent: x; boundary=y"),
    get("d%20e"),
    get("nothing/here"),
    get("q?x=1"),
    put("a", b"hello"),
    put("a", b"bye", "Content-Type: a/b"),
    put("a", b"", "Content-Type: a/b"),
    put("big", b"x" * 70_000),
    put("c", b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n"),
    put("c", b"abc", "Content-Type: multipart/form-data; boundary=abc"),
    put("c", b"abc", "Expect: 100-continue"),
    # Lengths that are written in another way: what they count is never the next request.
    *(
        f"{method} /echo/a HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n".encode() + get("smuggled", "X: " + "y" * 7)
        for method in ("GET", "HEAD", "DELETE", "PUT")
        for line in _lengths(len(get("smuggled", "X: " + "y" * 7)))
    ),
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\r\n" + get("a"),
    b"HEAD /echo/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"DELETE /echo/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a/echo/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /echo/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
]
LAST = [  # after which the connection ends
    get("a", "Connection: close"),
    b"GET /echo/a HTTP/1.0\r\n\r\n",
    b"GET /echo/a HTTP/1.1\r\n\r\n",  # no Host
    b"GET /echo/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /echo/a HTTP/1.1\r\nHost: a\r\n folded: 1\r\n\r\n",
    b"GET /echo/a HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET /echo/a HTTP/1.1\nHost: a\n\n",
    b"GET /echo/a HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    b"GET /echo/a HTTP/2.0\r\nHost: a\r\n\r\n",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nabc",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    b"PUT /echo/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /echo/a HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
    b"GET /echo/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"no HTTP at all\r\n\r\n",
]


def answered(hot: bool, pieces: list[bytes]) -> tuple[bytes, str, int]:
    """(all that came back, how it ended, requests that were answered hot)."""
    made, spot = site(hot)
    wire = Wire(made)
    for piece in pieces:
        wire.send(piece)
    return bytes(wire.received), wire.end, spot.answered


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in pairwise(places)]


class TestAlike(SynchronousTestCase):
    def test_each_request_twice(self) -> None:
        """The second time the block of header lines is known."""
        for request in REQUESTS + LAST:
            for pieces in ([request, request], [request * 2], [get("a") + request + get("a")]):
                self.assertEqual(answered(True, pieces)[:2], answered(False, pieces)[:2], request[:200])

    def test_after_one_that_looks_nearly_the_same(self) -> None:
        """What is remembered of one block is never used for another."""
        stream_of = [*REQUESTS, get("a", "Content-Length: 5"), put("a", b"hello")]
        made, _ = site(True)
        for request in [*stream_of, *LAST, *stream_of]:
            wire = Wire(made)
            wire.send(request)
            self.assertEqual((bytes(wire.received), wire.end), answered(False, [request])[:2], request[:200])

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.sampled_from(REQUESTS), max_size=6),
        st.sampled_from([b"", *LAST]),
        st.lists(st.integers(0, 1 << 20), max_size=8),
    )
    def test_whatever_comes_in_whatever_pieces(self, requests: list[bytes], last: bytes, cuts: list[int]) -> None:
        """Only whether `100 Continue` is worth while depends on how much of the body came with the head."""
        stream = b"".join(requests) + last
        outcomes = []
        for hot, pieces in ((True, split(stream, cuts)), (False, [stream])):
            received, end, _ = answered(hot, pieces)
            outcomes.append((received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), end))
        self.assertEqual(*outcomes)

    def test_nothing_is_smuggled(self) -> None:
        """What is refused on the other way is refused here, known header lines or not."""
        for stream in AMBIGUOUS:
            ambiguous = stream.replace(b" /a", b" /echo/a", 1)
            for before in (b"", put("a", b"hello") * 2, get("a") * 2):
                pieces = [before + ambiguous + get("smuggled")]
                received, end, _ = answered(True, pieces)
                self.assertEqual((received, end), answered(False, pieces)[:2], stream)
                self.assertNotIn(b"smuggled", received, stream)

    def test_usual_requests_are_hot(self) -> None:
        requests = [get("a"), get("b", "Accept-Encoding: gzip, br", "User-Agent: x"), put("a", b"hello")]
        self.assertEqual(answered(True, requests)[2], 3)
        self.assertEqual(answered(True, [b"".join(requests)])[2], 3)

    def test_a_body_that_comes_behind_its_head(self) -> None:
        whole = put("a", b"hello")
        self.assertEqual(answered(True, [whole[:-5], whole[-5:-2], whole[-2:] + get("a")])[2], 2)
        self.assertEqual(answered(True, [put("a", b"x" * 70_000)])[2], 0)

    def test_the_other_way_can_be_asked_for(self) -> None:
        self.assertEqual(answered(True, [get("a", "X-Weedtw-Path: klein")])[2], 0)

    def test_a_request_after_one_that_was_not_hot(self) -> None:
        self.assertEqual(answered(True, [get("a", "X-Odd: 1"), get("a")])[2], 1)
        self.assertEqual(answered(True, [get("a", "X-Odd: 1") + get("a")])[2], 1)


class TestMeaning(SynchronousTestCase):
    def test_what_differs_in_each_request_is_left_out(self) -> None:
        seen: list[tuple[Meaning, bytes, bytes]] = []

        class Seeing(Spot):
            def answer(self, line: "re.Match[bytes]", meaning: Meaning, body: bytes, boundary: bytes) -> Reply:
                seen.append((meaning, body, boundary))
                return b"x"

        hot = Hot(Seeing(lambda: b""))
        for number in range(3):
            kind = f"Content-Type: multipart/form-data; boundary=b{number}"
            self.assertEqual(hot.take(put("a", b"y" * number, kind), 0)[0], b"x")
            self.assertEqual(hot.take(put("a", b"y" * number, kind).replace(b"Host: a\r\n", b""), 0)[0], None)
        self.assertEqual([body for _, body, _ in seen], [b"", b"y", b"yy"])
        self.assertEqual([boundary for _, _, boundary in seen], [b"b0", b"b1", b"b2"])
        self.assertIs(seen[0][0], seen[2][0])
        self.assertEqual(seen[0][0].fields, {b"content-type": "multipart/form-data; boundary="})

    def test_memory_is_bounded(self) -> None:
        hot = Hot(Spot(lambda: b""))
        for number in range(3000):
            hot.take(get("a", f"User-Agent: {number}"), 0)
            hot.take(put("a", b"x", f"User-Agent: {number}"), 0)
        self.assertEqual(hot.take(get("a", "User-Agent: " + "x" * 5000), 0)[0], None)
        self.assertEqual(hot.take(put("a", b"x", "User-Agent: " + "x" * 5000), 0)[0], None)
        self.assertLess(max(map(len, (*hot._seen, *hot._sized))), 4096)
        self.assertLessEqual(len(hot._seen) + len(hot._sized), 2048)

    def test_plain(self) -> None:
        hot = Hot(Spot(lambda: b""))
        hot.take(get("a"), 0)
        self.assertIs(next(iter(hot._seen.values()))[1].names, PLAIN)  # type: ignore[union-attr]


class TestLater(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.site, self.spot = site(True, self.clock)
        self.wire = Wire(self.site)

    def names(self) -> list[str]:
        return [answer.json["name"] for answer in self.wire.answers()]

    def test_what_comes_behind_waits(self) -> None:
        self.wire.send(get("later") + get("b") + get("c", "X-Odd: 1"))
        self.wire.send(get("d"))
        self.assertEqual(self.names(), [])
        self.spot.give()
        self.wire.pump()
        self.assertEqual(self.names(), ["later", "b", "c", "d"])

    def test_an_answer_that_is_there_at_once(self) -> None:
        self.wire.send(get("a") + get("laternow") + get("b"))
        self.assertEqual(self.names(), ["a", "laternow", "b"])

    def test_a_client_that_leaves(self) -> None:
        self.wire.send(get("later"))
        [(later, _)] = self.spot.waiting
        self.wire.leave()
        self.assertTrue(later.gone)
        self.spot.give()

    def test_it_may_take_its_time(self) -> None:
        self.wire.send(get("later"))
        self.clock.advance(1000)
        self.spot.give()
        self.wire.pump()
        self.assertEqual((self.names(), self.wire.end), (["later"], ""))

    def test_a_server_that_stops_meanwhile(self) -> None:
        self.wire.send(get("later"))
        drained = self.site.drain(10)
        self.spot.give()
        self.wire.pump()
        [answer] = self.wire.answers()
        self.assertEqual((answer.headers["connection"], answer.json["name"]), ("close", "later"))
        self.assertEqual(self.wire.end, "closed")
        self.successResultOf(drained)


class TestFault(SynchronousTestCase):
    logged: list[LogEvent] = []  # noqa: RUF012 - replaced for each test

    @pytest.fixture(autouse=True)
    def expect_failures(self, logged_failures: list[LogEvent]) -> None:
        self.logged = logged_failures

    def test_a_fault_of_ours(self) -> None:
        """Nobody knows whether what was asked for was done; what was answered before is still sent."""
        wire = Wire(site(True)[0])
        wire.send(get("a"))
        wire.send(get("fail"))
        last = wire.answers()[-1]
        self.assertEqual((last.status, "internal error" in last.json["error"]), (500, True))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.logged.clear()


class TestManners(SynchronousTestCase):
    def test_an_idle_connection_is_closed(self) -> None:
        clock = Clock()
        wire = Wire(site(True, clock)[0])
        for _ in range(3):
            wire.send(get("a"))
            clock.advance(29)
            self.assertEqual(wire.end, "")
        clock.advance(1.1)
        self.assertEqual(wire.end, "closed")

    def test_whoever_takes_no_answers_gets_no_more_of_them(self) -> None:
        clock = Clock()
        made, spot = site(True, clock)
        wire = Wire(made, capacity=1000)
        for _ in range(100):
            wire.send(get("a") * 1000)
        self.assertLess(len(wire.transport.pending), 200_000)
        self.assertLess(spot.answered, 2000)
        for _ in range(10_000):
            wire.take()
            wire.pump()
            if spot.answered == 100_000:
                break
        wire.take()
        self.assertEqual(len(wire.answers()), 100_000)

    def test_whoever_takes_no_answers_is_cut_off(self) -> None:
        clock = Clock()
        wire = Wire(site(True, clock)[0], capacity=10)
        wire.send(get("a") * 1000)
        for _ in range(1000):
            clock.advance(1)
        self.assertEqual(wire.end, "aborted")

    def test_a_stopping_server(self) -> None:
        made, _ = site(True)
        wire = Wire(made)
        wire.send(get("a"))
        made.drain(10)
        self.assertEqual(wire.end, "closed")

    def test_errors_look_the_same(self) -> None:
        class Failing:
            app = Klein()
            json_errors(app)

            @app.route("/")
            @endpoint
            async def fail(self, _: Request) -> bytes:
                raise failure

        for failure in (Unavailable("no master"), CookieMismatch(3, 1)):
            made = make_site(Failing().app.resource(), reactor=Clock(), body_limit=1, now=lambda: 1e9)
            wire = Wire(made)
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(bytes(wire.received), error_answer(failure, made.date()))
