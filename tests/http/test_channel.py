"""HTTP on one connection: framing, order, refusals, and what passes between channel and endpoint."""

import tempfile
from typing import Any

import pytest
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Forbidden, Unavailable, WriteFailed
from weedtw.http.channel import Site, make_site
from weedtw.http.requests import Request
from weedtw.http.responses import empty_response, endpoint, json_errors, json_response
from weedtw.http.testing import SEGMENT, Wire

GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"


class Echo:
    """Tells what it was asked; waits, fails or writes by hand when the path says so."""

    app = Klein()

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []
        self.seen: list[str] = []

    @app.route("/echo")
    @endpoint
    async def echo(self, request: Request) -> bytes:
        value = {"method": request.method.decode(), "uri": request.uri.decode(), "body": bytes(request.body).decode()}
        self.seen.append(value["uri"])
        return json_response(request, value)

    @app.route("/size")
    @endpoint
    async def size(self, request: Request) -> bytes:
        body = request.body
        return json_response(request, {"size": len(body), "sum": sum(body[:1000]), "readonly": body.readonly})

    @app.route("/wait")
    @endpoint
    async def wait(self, request: Request) -> bytes:
        self.waiting.append(Deferred())
        await self.waiting[-1]
        return json_response(request, {"waited": True})

    @app.route("/chunks")
    @endpoint
    async def chunks(self, request: Request) -> None:
        request.write(b"one,")
        request.write(b"two")

    @app.route("/short")
    @endpoint
    async def short(self, request: Request) -> bytes:
        request.setHeader("Content-Length", "10")
        return b"short"

    @app.route("/long")
    @endpoint
    async def long(self, request: Request) -> bytes:
        request.setHeader("Content-Length", "3")
        return b"longer"

    @app.route("/nothing")
    @endpoint
    async def nothing(self, request: Request) -> bytes:
        request.setHeader("Content-Length", "7")  # which a 204 never has
        return empty_response(request)

    @app.route("/unmodified")
    @endpoint
    async def unmodified(self, request: Request) -> bytes:
        request.setHeader("Content-Length", "7")  # which a 304 may have: that of the 200 it stands for
        request.setResponseCode(304)
        return b""

    @app.route("/get", methods=["GET"])
    @endpoint
    async def get(self, request: Request) -> bytes:
        return json_response(request, {})

    @app.route("/split")
    @endpoint
    async def split(self, request: Request) -> bytes:
        request.setHeader("X-Name", "a\r\nSet-Cookie: b=c\0d")
        return empty_response(request, 200)


json_errors(Echo.app)


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class ChannelTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.echo = Echo()

    def site(self, **settings: Any) -> Site:
        return make_site(self.echo.app.resource(), reactor=self.clock, **{"body_limit": 5000, **settings})

    def wire(self, **settings: Any) -> Wire:
        return Wire(self.site(**settings))

    def check_refused(self, wire: Wire, status: int, word: str) -> None:
        """The one answer is a JSON error with this status and word, and nothing more can come."""
        [answer] = wire.answers()
        self.assertEqual(answer.status, status, answer)
        self.assertIn(word, answer.json["error"])
        self.assertEqual(answer.headers["connection"], "close")
        self.assertTrue(wire.transport.half_closed)
        self.assertEqual(wire.received, b"")


class RequestTests(ChannelTestCase):
    def test_one_request(self) -> None:
        wire = self.wire()
        wire.send(GET)
        [answer] = wire.answers()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json, {"method": "GET", "uri": "/echo", "body": ""})
        self.assertRegex(answer.headers["server"], r"^weedtw/[0-9]")
        self.assertEqual(answer.headers["date"], "Thu, 01 Jan 1970 00:00:00 GMT")
        self.assertEqual(wire.end, "")

    def test_split_in_every_place(self) -> None:
        stream = post("/echo?n=1", b"hello") + b"GET /echo?n=2 HTTP/1.1\r\nHost: a\r\n\r\n"
        stream += b"POST /echo?n=3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        stream += b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\n"
        stream += post("/echo?n=4", b"last")
        for cut in range(1, len(stream)):
            wire = self.wire()
            wire.send(stream[:cut])
            wire.send(stream[cut:])
            self.assertEqual([a.json["body"] for a in wire.answers()], ["hello", "", "abcde", "last"], cut)
        wire = self.wire()
        for at in range(len(stream)):
            wire.send(stream[at : at + 1])
        self.assertEqual([a.json["uri"][-1] for a in wire.answers()], ["1", "2", "3", "4"])

    def test_pipelined_requests_wait_for_the_one_before(self) -> None:
        wire = self.wire()
        wire.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + GET + GET)
        self.assertEqual(wire.answers(), [])
        self.assertEqual(self.echo.seen, [])
        self.echo.waiting[0].callback(None)
        wire.pump()
        self.assertEqual([len(a.json) for a in wire.answers()], [1, 3, 3])

    def test_a_thousand_pipelined_requests_do_not_recurse(self) -> None:
        wire = self.wire()
        wire.send(GET * 3000)
        self.assertEqual(len(wire.answers()), 3000)

    def test_little_is_read_behind_a_request_that_is_being_answered(self) -> None:
        wire = self.wire()
        wire.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + GET * 5_000)
        self.assertFalse(wire.transport.reading)
        self.assertLess(len(GET) * 5_000 - len(wire.transport.inbox), 2 * SEGMENT)
        self.echo.waiting[0].callback(None)
        wire.pump()
        self.assertEqual(len(wire.answers()), 5_001)

    def test_head_has_no_body(self) -> None:
        wire = self.wire()
        wire.send(b"HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        head, get = wire.answers("HEAD", "GET")
        self.assertEqual(head.headers["content-length"], str(len(get.body) + 1))
        self.assertEqual(get.json["method"], "GET")

    def test_empty_lines_before_a_request_are_passed_over_within_reason(self) -> None:
        wire = self.wire()
        wire.send(b"\r\n\r\n" + GET)
        self.assertEqual(len(wire.answers()), 1)
        wire.send(b"\r\n" * 5)
        self.check_refused(wire, 400, "empty lines")

    def test_absolute_form(self) -> None:
        wire = self.wire()
        wire.send(b"GET http://example.com/echo?a=b HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(wire.answers()[0].json["uri"], "/echo?a=b")

    def test_without_length_an_answer_comes_in_chunks(self) -> None:
        wire = self.wire()
        wire.send(b"GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        chunked, after = wire.answers()
        self.assertEqual(chunked.headers["transfer-encoding"], "chunked")
        self.assertEqual(chunked.body, b"one,two")
        self.assertEqual(after.status, 200)

    def test_no_content_has_no_length(self) -> None:
        wire = self.wire()
        wire.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        nothing, after = wire.answers()
        self.assertEqual((nothing.status, nothing.body), (204, b""))
        self.assertNotIn("content-length", nothing.headers)
        self.assertEqual(after.status, 200)

    def test_not_modified_has_no_body(self) -> None:
        wire = self.wire()
        wire.send(b"GET /unmodified HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        unmodified, after = wire.answers()
        self.assertEqual((unmodified.status, unmodified.headers["content-length"]), (304, "7"))
        self.assertEqual(after.status, 200)

    def test_header_values_cannot_break_out(self) -> None:
        wire = self.wire()
        wire.send(b"GET /split HTTP/1.1\r\nHost: a\r\n\r\n")
        [answer] = wire.answers()
        self.assertNotIn("set-cookie", answer.headers)
        self.assertEqual(answer.headers["x-name"], "a Set-Cookie: b=cd")

    def test_a_body_of_another_length_than_announced_cuts_the_connection(self) -> None:
        for path in ("/short", "/long"):
            wire = self.wire()
            wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() + GET)
            self.assertEqual(wire.end, "aborted", path)
            self.assertEqual(wire.answers(), [])


class PersistenceTests(ChannelTestCase):
    def test_connection_close(self) -> None:
        for value in (b"close", b"Close", b"keep-alive, close", b"te ,close"):
            wire = self.wire()
            wire.send(b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: %s\r\n\r\n" % value + GET)
            [answer] = wire.answers()
            self.assertEqual(answer.headers["connection"], "close")
            self.assertEqual(wire.end, "closed")

    def test_http_1_0_closes(self) -> None:
        wire = self.wire()
        wire.send(b"GET /echo HTTP/1.0\r\n\r\n")
        [answer] = wire.answers()
        self.assertEqual((answer.status, wire.end), (200, "closed"))

    def test_http_1_0_keeps_alive_when_asked_and_the_length_is_known(self) -> None:
        wire = self.wire()
        wire.send(b"GET /echo HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        self.assertEqual(wire.answers()[0].headers["connection"], "keep-alive")
        self.assertEqual(wire.end, "")
        wire.send(b"GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        [answer] = wire.answers()
        self.assertEqual((answer.body, wire.end), (b"one,two", "closed"))
        self.assertNotIn("transfer-encoding", answer.headers)

    def test_a_client_that_leaves_ends_its_request(self) -> None:
        wire = self.wire()
        wire.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        wire.leave()
        self.assertTrue(self.echo.waiting[0].called)
        self.assertEqual(wire.transport.pending, b"")


class RefusalTests(ChannelTestCase):
    def test_what_is_no_request(self) -> None:
        for junk in (
            b"THIS IS NOT HTTP\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /echo HTTP/1.1\n",
            b"GET  /echo HTTP/1.1\r\n",
            b"GET /echo\r\n",
            b"GET /echo HTTP/1.1 x\r\n",
            b"G\xc3\x84T /echo HTTP/1.1\r\n",
            b"GET echo HTTP/1.1\r\nHost: a\r\n\r\n",
            b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
            b"GET /echo HTTP/1.1\r\n folded: a\r\nHost: a\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
            b"GET /echo HTTP/1.1\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nHost: a/b@c d\r\n\r\n",
        ):
            wire = self.wire()
            wire.send(junk)
            self.check_refused(wire, 400, "")
            self.assertEqual(self.echo.seen, [])

    def test_ambiguous_lengths(self) -> None:
        for headers in (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5",
            b"Content-Length: 5\r\nContent-Length: 5",
            b"Content-Length: 5, 5",
            b"Content-Length: +5",
            b"Content-Length: -5",
            b"Content-Length: 5_0",
            b"Content-Length: 0x5",
            b"Content-Length: \xd9\xa5",
            b"Content-Length:",
            b"Content-Length: " + b"9" * 5000,
        ):
            wire = self.wire()
            wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n\r\nhello")
            self.check_refused(wire, 400, "Content-Length")

    def test_other_transfer_codings(self) -> None:
        for coding in (
            b"identity",
            b"gzip, chunked",
            b"chunked, chunked",
            b"xchunked",
            b"chunked\r\nTransfer-Encoding: gzip",
        ):
            wire = self.wire()
            wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n")
            self.check_refused(wire, 501, "chunked")
        wire = self.wire()
        wire.send(b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        self.check_refused(wire, 400, "1.0")

    def test_bad_chunks(self) -> None:
        for chunks in (
            b"x\r\n",
            b"0x5\r\nhello\r\n",
            b"-5\r\n",
            b"+5\r\n",
            b"5_0\r\n",
            b"\r\n",
            b"ffffffffffffffff\r\n",
            b"5\nhello\r\n",
            b"5\r\nhellooo\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloX",
            b"5;\x01\r\n",
            b"5;" + b"e" * 300,
            b"0\r\nno colon\r\n",
        ):
            wire = self.wire()
            wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
            self.check_refused(wire, 400, "")
        wire = self.wire()
        wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 2000)
        self.check_refused(wire, 431, "trailers")

    def test_other_versions(self) -> None:
        wire = self.wire()
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.check_refused(wire, 505, "HTTP/1.1")

    def test_too_long_a_request_line(self) -> None:
        for line in (b"GET /" + b"a" * 8200, b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: a\r\n\r\n"):
            wire = self.wire()
            wire.send(line)
            self.check_refused(wire, 414, "8192")

    def test_too_many_or_too_large_headers(self) -> None:
        for headers in (b"X: y\r\n" * 101, b"X: " + b"y" * 33_000 + b"\r\n", (b"X: " + b"y" * 1000 + b"\r\n") * 40):
            for ended in (b"", b"\r\n"):
                wire = self.wire()
                wire.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n" + headers + ended)
                if ended or len(headers) > 32 * 1024:
                    self.check_refused(wire, 431, "")

    def test_a_drip_of_header_bytes_is_not_searched_from_the_start_each_time(self) -> None:
        wire = self.wire()
        wire.send(b"GET /echo HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in range(30_000):
            wire.send(b"y")
        wire.send(b"\r\n\r\n")
        self.assertEqual(len(wire.answers()), 1)

    def test_unknown_expectation(self) -> None:
        wire = self.wire()
        wire.send(post("/echo", b"", "Expect: miracles"))
        self.check_refused(wire, 417, "100-continue")

    def test_refusal_of_a_head_request_has_no_body(self) -> None:
        wire = self.wire(admission=deny)
        wire.send(b"HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        [answer] = wire.answers("HEAD")
        self.assertEqual((answer.status, answer.body, wire.received), (403, b"", b""))


def deny(request: Request) -> int | None:
    raise Forbidden(request.client_host)


class BodyTests(ChannelTestCase):
    def test_a_body_over_the_limit_is_refused_before_it_is_sent(self) -> None:
        wire = self.wire()
        wire.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5001\r\nExpect: 100-continue\r\n\r\n")
        [answer] = wire.answers()
        self.assertEqual((answer.status, answer.interim), (400, ()))
        self.assertIn("limit of 5000 bytes", answer.json["error"])

    def test_what_a_refused_client_still_sends_is_taken_so_that_it_reads_the_answer(self) -> None:
        wire = self.wire()
        wire.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
        self.check_refused(wire, 400, "limit")
        for _ in range(9):
            wire.send(b"x" * 1_000_000)
        self.assertEqual((len(wire.transport.inbox), wire.end), (0, ""))
        self.clock.advance(10)
        self.assertEqual(wire.end, "aborted")

    def test_but_not_without_end(self) -> None:
        wire = self.wire()
        wire.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n")
        for _ in range(300):
            wire.send(b"x" * (1 << 20))
            if wire.end:
                break
        self.assertEqual(wire.end, "aborted")

    def test_chunks_over_the_limit_are_cut_at_it(self) -> None:
        wire = self.wire()
        wire.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(b"1388\r\n" + b"x" * 5000 + b"\r\n")
        self.assertEqual(wire.answers(), [])
        wire.send(b"1\r\nx\r\n")
        self.check_refused(wire, 400, "limit")

    def test_exactly_the_limit(self) -> None:
        wire = self.wire()
        wire.send(post("/size", b"x" * 5000))
        self.assertEqual(wire.answers()[0].json["size"], 5000)

    def test_continue_is_said_before_the_body_is_taken(self) -> None:
        wire = self.wire()
        wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
        self.assertEqual(wire.received, b"HTTP/1.1 100 Continue\r\n\r\n")
        wire.send(b"hi")
        [answer] = wire.answers()
        self.assertEqual((answer.interim, answer.json["body"]), ((100,), "hi"))

    def test_continue_is_not_said_to_who_has_begun_or_speaks_1_0(self) -> None:
        wire = self.wire()
        wire.send(post("/echo", b"hi", "Expect: 100-continue"))
        self.assertEqual(wire.answers()[0].interim, ())
        wire = self.wire()
        wire.send(b"POST /echo HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(wire.received, b"")

    def test_admission_comes_before_the_body(self) -> None:
        wire = self.wire(admission=deny)
        wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        self.check_refused(wire, 403, "127.0.0.1")

    def test_admission_may_set_another_limit(self) -> None:
        wire = self.wire(admission=lambda request: 3 if request.path == b"/echo" else None)
        wire.send(post("/size", b"four"))
        self.assertEqual(wire.answers()[0].status, 200)
        wire.send(post("/echo", b"four"))
        self.check_refused(wire, 413, "3 bytes")
        wire = self.wire(admission=lambda request: 6000)
        wire.send(post("/size", b"x" * 6001))
        self.check_refused(wire, 400, "a file of 6001 bytes is over the limit of 6000 bytes")

    def test_a_large_body_goes_through_a_file(self) -> None:
        body = bytes(range(250)) * 20_000
        site = self.site(body_limit=len(body), spool_folder=tempfile.gettempdir())
        wire = Wire(site)
        wire.send(post("/size", body))
        self.assertEqual(wire.answers()[0].json, {"size": len(body), "sum": sum(body[:1000]), "readonly": True})
        self.assertEqual((site.room.in_flight.used, site.room.in_memory.used), (0, 0))

    def test_no_room_for_the_file(self) -> None:
        wire = self.wire(body_limit=1 << 22, spool_folder="/nowhere/at/all")
        wire.send(post("/size", b"x" * (1 << 21)))
        [answer] = wire.answers()
        self.assertEqual(answer.status, 500)
        self.assertIn("/nowhere/at/all", answer.json["error"])

    def test_bodies_in_flight_are_bounded_together(self) -> None:
        site = self.site(in_flight_limit=8000)
        first, second, third = Wire(site), Wire(site), Wire(site)
        first.send(post("/size", b"x" * 5000)[:-1])
        second.send(post("/size", b"x" * 5000)[:100])
        [answer] = second.answers()
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
        first.send(b"x")
        self.assertEqual(first.answers()[0].status, 200)
        third.send(post("/size", b"x" * 5000))
        self.assertEqual(third.answers()[0].status, 200)
        self.assertEqual(site.room.in_flight.used, 0)

    def test_chunks_in_flight_are_counted_as_they_come(self) -> None:
        site = self.site(in_flight_limit=4002)
        other, wire = Wire(site), Wire(site)
        other.send(post("/size", b"xx")[:-1])
        wire.send(b"POST /size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send((b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 4)
        self.assertEqual(site.room.in_flight.used, 4002)
        wire.send(b"1\r\nx\r\n")
        self.check_refused(wire, 503, "try again")
        self.assertEqual(site.room.in_flight.used, 2)

    def test_whoever_leaves_gives_back_what_was_reserved(self) -> None:
        site = self.site(in_flight_limit=8000)
        wire = Wire(site)
        wire.send(post("/size", b"x" * 5000)[:-1])
        self.assertEqual((site.room.in_flight.used, site.room.in_memory.used), (5000, 4999))
        wire.leave()
        self.assertEqual((site.room.in_flight.used, site.room.in_memory.used), (0, 0))


class PathTests(ChannelTestCase):
    def status(self, method: str, target: str) -> tuple[int, Any]:
        wire = self.wire()
        wire.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
        [answer] = wire.answers(method)
        return answer.status, answer.json if answer.body else None

    def test_unknown_paths(self) -> None:
        for target in ("/", "/no/such", "//echo", "/echo/", "/%00", "/../echo", "/echo%2f"):
            status, value = self.status("GET", target)
            self.assertEqual(status, 404, target)
            self.assertIn("nothing is served at", value["error"])

    def test_unknown_methods_name_the_method_and_what_is_allowed(self) -> None:
        for method in ("PATCH", "POST", "BREW"):
            wire = self.wire()
            wire.send(f"{method} /get HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            [answer] = wire.answers()
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
            self.assertIn(method, answer.json["error"])

    def test_every_method_reaches_an_endpoint_that_takes_all(self) -> None:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "x-own"):
            status, value = self.status(method, "/echo")
            self.assertEqual((status, value["method"]), (200, method))

    def test_a_path_that_is_not_utf_8(self) -> None:
        for target in ("/%ff", "/a%c3", "/\xff"):
            status, value = self.status("GET", target)
            self.assertEqual((status, value), (400, {"error": "the path is not UTF-8"}))

    def test_options_of_the_server(self) -> None:
        self.assertEqual(self.status("OPTIONS", "*")[0], 204)


class ErrorTests(ChannelTestCase):
    """What stands in `weedtw.errors` reaches the client through the channel, too."""

    logged: list[LogEvent] = []  # noqa: RUF012 - replaced for each test

    @pytest.fixture(autouse=True)
    def expect_failures(self, logged_failures: list[LogEvent]) -> None:
        self.logged = logged_failures

    def test_each(self) -> None:
        for error, status in ((Unavailable("later", 2.5), 503), (WriteFailed("/d", "full"), 500)):

            def fail(_: Request, error: Exception = error) -> int | None:
                raise error

            wire = self.wire(admission=fail)
            wire.send(GET)
            [answer] = wire.answers()
            self.assertEqual((answer.status, answer.json["error"]), (status, str(error)))
            self.assertEqual(answer.headers.get("retry-after"), "3" if status == 503 else None)

    def test_a_fault_of_ours_is_a_500_and_logged(self) -> None:
        def fail(_: Request) -> int | None:
            raise RuntimeError("what the client must not see")

        wire = self.wire(admission=fail)
        wire.send(GET)
        [answer] = wire.answers()
        self.assertEqual(answer.status, 500)
        self.assertNotIn("must not see", answer.json["error"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.logged.clear()
