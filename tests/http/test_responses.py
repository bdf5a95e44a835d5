"""What endpoints answer, and what their errors become."""

import json
from typing import Any

import pytest
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from weedtw import errors
from weedtw.http.channel import make_site
from weedtw.http.requests import Request
from weedtw.http.responses import (
    STATUS,
    empty_response,
    endpoint,
    error_headers,
    html_response,
    json_errors,
    json_response,
    redirect_response,
    render_json,
    status_of,
    uninterrupted,
)
from weedtw.http.testing import Answer, Wire

LIKELY = {
    errors.BadFileId("no comma", "x"): 400,
    errors.TooLarge(10, 11): 400,
    errors.BadDigest("Content-MD5 does not match"): 400,
    errors.BadMessage("too long", 414): 414,
    errors.Forbidden("10.0.0.1"): 403,
    errors.VolumeNotFound(3): 404,
    errors.NeedleNotFound(3, 255): 404,
    errors.PathNotFound("/x"): 404,
    errors.VolumeExists("/d/5.dat", "volume 5 is there already"): 409,
    errors.MethodNotAllowed("PATCH", ("GET", "POST")): 405,
    errors.NoRoom("no server left"): 406,
    errors.ReadOnlyVolume("/d/1.dat", "full"): 409,
    errors.PreconditionFailed(): 412,
    errors.RangeNotSatisfiable(26): 416,
    errors.Damaged("/d/1.dat", "checksum"): 500,
    errors.WriteFailed("/d/1.dat", "I/O error"): 500,
    errors.ReplicationFailed(("a:1: refused",)): 500,
    errors.PeerError("a:1", "refused"): 502,
    errors.Unreachable("a:1", "refused"): 502,
    errors.Unavailable("no leader"): 503,
    errors.NotLeader("b"): 503,
    errors.TooBusy("too much is uncommitted"): 503,
    errors.MaybeCommitted(7, "the leader has changed"): 503,
    errors.ChangeRefused("b is no member"): 409,
    errors.Locked("weedtw shell on a", 12.0): 423,
    errors.StoreFailed("/d/raft.db", "I/O error"): 500,
    errors.VolumeFull("/d/1.dat", "32 GB"): 507,
}


class App:
    app = Klein()

    def __init__(self) -> None:
        self.error: BaseException = RuntimeError()
        self.held: list[Deferred[None]] = []
        self.done: list[str] = []

    @app.route("/value")
    @endpoint
    async def value(self, request: Request) -> bytes:
        return json_response(request, {"name": "日本 <語>", "n": [1, 2.5, None, True]}, 201)

    @app.route("/raise")
    @endpoint
    async def fail(self, request: Request) -> bytes:
        for name in ("Content-Encoding", "Content-Disposition", "Content-Range", "ETag", "Last-Modified"):
            request.setHeader(name, "of the file that did not come")
        request.setHeader("Access-Control-Allow-Origin", "*")
        raise self.error

    @app.route("/late")
    @endpoint
    async def late(self, request: Request) -> bytes:
        request.write(b"half of ")
        raise self.error

    @app.route("/unjson")
    @endpoint
    async def unjson(self, request: Request) -> bytes:
        return json_response(request, {"bytes": b"x"})

    @app.route("/page")
    @endpoint
    async def page(self, request: Request) -> bytes:
        return html_response(request, "<html>ö</html>")

    @app.route("/healthz")
    @endpoint
    async def healthz(self, request: Request) -> bytes:
        return empty_response(request, 200)

    @app.route("/moved")
    @endpoint
    async def moved(self, request: Request) -> bytes:
        return redirect_response(request, "http://a:1/3,01?x=<y>&z=1")

    @app.route("/hold")
    @endpoint
    async def hold(self, request: Request) -> bytes:
        self.held.append(Deferred())
        await self.held[-1]
        self.done.append("held")
        return json_response(request, {})

    @app.route("/endure")
    @endpoint
    async def endure(self, request: Request) -> bytes:
        async def work() -> str:
            self.held.append(Deferred())
            await self.held[-1]
            self.done.append("endured")
            return "result"

        return json_response(request, await uninterrupted(work()))

    @app.route("/cancelled")
    @endpoint
    async def cancelled(self, request: Request) -> bytes:
        raise CancelledError

    @app.route("/branch/")
    @endpoint
    async def branch(self, request: Request) -> bytes:
        return json_response(request, "the branch itself")

    @app.route("/bare")
    def bare(self, request: Request) -> bytes:
        raise self.error


json_errors(App.app)


class AnswerTestCase(SynchronousTestCase):
    logged: list[LogEvent] = []  # noqa: RUF012 - replaced for each test

    @pytest.fixture(autouse=True)
    def expect_failures(self, logged_failures: list[LogEvent]) -> None:
        self.logged = logged_failures

    def setUp(self) -> None:
        self.app = App()
        self.wire = Wire(make_site(self.app.app.resource(), reactor=Clock(), body_limit=100))

    def get(self, target: str) -> Answer:
        self.wire.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        [answer] = self.wire.answers()
        return answer

    def expect_logged(self, kind: type[Exception]) -> None:
        self.assertEqual(len(self.flushLoggedErrors(kind)), 1)
        self.logged.clear()


class JsonTests(AnswerTestCase):
    def test_on_one_line(self) -> None:
        answer = self.get("/value")
        self.assertEqual(answer.status, 201)
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.body.decode(), '{"name":"日本 <語>","n":[1,2.5,null,true]}')

    def test_pretty(self) -> None:
        plain = self.get("/value").json
        for query in ("pretty=y", "pretty=1", "a=b&pretty=true"):
            answer = self.get(f"/value?{query}")
            self.assertEqual(answer.body.count(b"\n"), 9)
            self.assertEqual(answer.json, plain)
        for query in ("", "pretty=", "prettyy=1", "a=pretty", "%ff=pretty&pretty=y"):
            self.assertNotIn(b"\n", self.get(f"/value?{query}").body)

    def test_what_json_cannot_say(self) -> None:
        self.assertEqual(self.get("/unjson").status, 500)
        self.expect_logged(TypeError)
        self.assertRaises(ValueError, render_json, float("nan"))


class ErrorTests(AnswerTestCase):
    def test_the_table(self) -> None:
        for error, status in LIKELY.items():
            self.app.error = error
            answer = self.get("/raise")
            self.assertEqual((answer.status, answer.json), (status, {"error": str(error)}), error)
            self.assertEqual(answer.headers["content-type"], "application/json")
            self.assertGreater(len(answer.json["error"]), 5)
            self.assertEqual("retry-after" in answer.headers, status == 503)

    def test_every_error_that_a_request_can_meet_has_a_status(self) -> None:
        for kind in STATUS:
            self.assertTrue(issubclass(kind, errors.WeedError))
        self.assertEqual(status_of(errors.ConfigError("port", "taken")), 500)

    def test_headers_of_the_body_that_did_not_come_are_gone(self) -> None:
        self.app.error = errors.RangeNotSatisfiable(26)
        headers = self.get("/raise").headers
        self.assertEqual(headers["content-range"], "bytes */26")
        self.assertEqual(headers["access-control-allow-origin"], "*")
        for name in ("content-encoding", "content-disposition", "etag", "last-modified"):
            self.assertNotIn(name, headers)

    def test_headers_of_errors(self) -> None:
        for after, header in ((0.0, b"1"), (1.0, b"1"), (1.2, b"2"), (30.0, b"30")):
            self.assertEqual(error_headers(errors.Unavailable("x", after)), [(b"Retry-After", header)])
        self.app.error = errors.MethodNotAllowed("PATCH", ("GET", "POST"))
        self.assertEqual(self.get("/raise").headers["allow"], "GET, POST")

    def test_the_unforeseen_stays_inside(self) -> None:
        for path in ("/raise", "/bare"):
            self.app.error = RuntimeError("password=hunter2")
            answer = self.get(path)
            self.assertEqual(answer.status, 500)
            self.assertEqual(list(answer.json), ["error"])
            self.assertNotIn(b"hunter2", answer.body)
            self.expect_logged(RuntimeError)

    def test_outside_of_endpoint_too(self) -> None:
        self.app.error = errors.NoRoom("none")
        self.assertEqual(self.get("/bare").status, 406)

    def test_an_error_within_a_body_cuts_the_connection(self) -> None:
        for error, logged in ((errors.Damaged("/d", "torn"), errors.Damaged), (OSError(), OSError)):
            self.setUp()
            self.app.error = error
            self.wire.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(self.wire.end, "aborted")
            self.assertFalse(self.wire.received.endswith(b"0\r\n\r\n"))
            self.expect_logged(logged)

    def test_a_cancelled_endpoint_whose_client_is_there(self) -> None:
        self.assertEqual(self.get("/cancelled").status, 503)


class OtherAnswerTests(AnswerTestCase):
    def test_page(self) -> None:
        answer = self.get("/page")
        self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")
        self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
        self.assertEqual(answer.body, "<html>ö</html>".encode())

    def test_empty(self) -> None:
        answer = self.get("/healthz")
        self.assertEqual((answer.status, answer.body, answer.headers["content-length"]), (200, b"", "0"))

    def test_a_branch_without_its_slash_is_another_path(self) -> None:
        self.assertEqual(self.get("/branch/").json, "the branch itself")
        answer = self.get("/branch")
        self.assertEqual((answer.status, answer.json), (404, {"error": "nothing is served at '/branch'"}))

    def test_redirect(self) -> None:
        answer = self.get("/moved")
        self.assertEqual((answer.status, answer.headers["location"]), (308, "http://a:1/3,01?x=<y>&z=1"))
        self.assertIn(b"x=&lt;y&gt;&amp;z=1", answer.body)


class LeavingTests(AnswerTestCase):
    def leave_during(self, path: str) -> None:
        self.wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self.wire.leave()

    def test_the_endpoint_is_cancelled(self) -> None:
        self.leave_during("/hold")
        self.assertTrue(self.app.held[0].called)
        self.assertEqual(self.app.done, [])

    def test_but_not_what_must_not_be_interrupted(self) -> None:
        self.leave_during("/endure")
        self.assertFalse(self.app.held[0].called)
        self.app.held[0].callback(None)
        self.assertEqual(self.app.done, ["endured"])

    def test_what_it_comes_to_is_logged_if_it_fails(self) -> None:
        with capturedLogs() as events:
            self.leave_during("/endure")
            self.app.held[0].errback(errors.WriteFailed("/d", "full"))
        self.assertIn("/d: full", [event.get("reason") for event in events])

    def test_and_so_is_a_fault_of_ours(self) -> None:
        self.leave_during("/endure")
        self.app.held[0].errback(RuntimeError())
        self.expect_logged(RuntimeError)

    def test_uninterrupted_gives_result_and_error(self) -> None:
        self.wire.send(b"GET /endure HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        self.app.held[0].callback(None)
        self.wire.pump()
        self.app.held[1].errback(errors.WriteFailed("/d", "full"))
        self.wire.pump()
        answers: list[Any] = [answer.json for answer in self.wire.answers()]
        self.assertEqual(answers, ["result", {"error": "/d: full"}])

    def test_json_is_what_the_standard_library_reads(self) -> None:
        value = {"a": ["\u2028", "\0", '"\\']}
        self.assertEqual(json.loads(render_json(value)), value)
        self.assertEqual(json.loads(render_json(value, pretty=True)), value)
