"""Endpoints are answered alike before Klein is there and by Klein."""

import sys
import threading
from collections.abc import Callable
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest
from weedtw.http import routes
from weedtw.http.channel import make_site
from weedtw.http.requests import Request
from weedtw.http.responses import endpoint, json_response
from weedtw.http.routes import LATER, Routes, Warmth
from weedtw.http.testing import Answer, Wire


class Below:
    app = Routes()

    @app.route("/deep", methods=["GET", "POST"], head=False)
    @endpoint
    async def deep(self, request: Request) -> bytes:
        return json_response(request, "deep")


class App:
    app = Routes({"number": "[0-9]+"})

    def __init__(self) -> None:
        self.below = Below()
        self.held: Deferred[None] = Deferred()
        self.gone = False

    @app.route("/value", methods=["GET"])
    @endpoint
    async def value(self, request: Request) -> bytes:
        return json_response(request, {"n": 1})

    @app.route("/any")
    @endpoint
    async def any_method(self, request: Request) -> bytes:
        return json_response(request, request.method.decode())

    @app.route("/bad", methods=["GET"])
    @endpoint
    async def bad(self, request: Request) -> bytes:
        raise BadRequest("no")

    @app.route("/written", methods=["GET"])
    @endpoint
    async def written(self, request: Request) -> None:
        request.write(b"by itself")

    @app.route("/held", methods=["GET"])
    @endpoint
    async def holding(self, request: Request) -> bytes:
        try:
            await self.held
        except CancelledError:
            self.gone = True
            raise
        return json_response(request, "let go")

    @app.route("/<number:which>", methods=["GET"])
    @endpoint
    async def numbered(self, request: Request, which: str) -> bytes:
        return json_response(request, which)

    @app.route("/below/", branch=True)
    def branch(self, _request: Request) -> object:
        return self.below.app.resource()


class RoutesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.imported = threading.Event()
        self.patch(routes, "_imported", self.imported)
        self.app = App()
        self.wire = Wire(make_site(self.app.app.resource(), reactor=Clock(), body_limit=100, now=lambda: 1e9))

    def ask(self, target: str, method: str = "GET") -> Answer:
        wire = Wire(make_site(self.app.app.resource(), reactor=Clock(), body_limit=100, now=lambda: 1e9))
        wire.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        [answer] = wire.answers(method)
        return answer

    def test_alike(self) -> None:
        asked = [("/value", "GET"), ("/value?pretty=y", "GET"), ("/any", "PUT"), ("/bad", "GET"), ("/written", "GET")]
        asked += [("/below/deep", "GET"), ("/below/deep", "POST"), ("/value", "HEAD")]
        with patch.object(Routes, "klein", side_effect=AssertionError("Klein is not wanted yet")):
            before = [self.ask(target, method) for target, method in asked]
        self.imported.set()
        after = [self.ask(target, method) for target, method in asked]
        self.assertEqual(before, after)
        self.assertEqual([answer.status for answer in before], [200, 200, 200, 400, 200, 200, 200, 200])
        self.assertEqual(before[5].json, "deep")

    def test_klein_is_asked_for_what_is_not_a_plain_path(self) -> None:
        for target, method, status in (
            ("/17", "GET", 200),
            ("/nothing", "GET", 404),
            ("/value", "POST", 405),
            ("/below/nothing", "GET", 404),
            ("/below/deep", "DELETE", 405),
            ("/v%61lue", "GET", 200),
        ):
            self.imported.clear()
            self.assertEqual(self.ask(target, method).status, status, target)

    def test_a_client_that_leaves_cancels(self) -> None:
        self.wire.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        self.wire.leave()
        self.assertTrue(self.app.gone)
        self.assertFalse(self.imported.is_set())

    def test_an_answer_that_comes_later(self) -> None:
        self.wire.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(self.wire.received, b"")
        self.app.held.callback(None)
        self.wire.pump()
        [answer] = self.wire.answers()
        self.assertEqual((answer.status, answer.json), (200, "let go"))

    def test_methods(self) -> None:
        """GET takes HEAD along, if that is not said otherwise."""
        allowed = {rule.path: rule.methods for rule in (*App.app, *Below.app)}
        self.assertEqual(allowed["/value"], {"GET", "HEAD"})
        self.assertEqual(allowed["/deep"], {"GET", "POST"})
        self.assertIsNone(allowed["/any"])
        of_klein = {rule.rule: rule.methods for rule in Below.app.url_map.iter_rules()}
        self.assertNotIn("HEAD", of_klein["/deep"] or ())


class _Reactor(Clock):
    def callInThread(self, work: Callable[..., object], *args: object) -> None:
        work(*args)


class WarmthTests(SynchronousTestCase):
    def test_imports_after_a_while(self) -> None:
        imported = threading.Event()
        self.patch(routes, "_imported", imported)
        reactor = _Reactor()
        sys.modules.pop("colorsys", None)
        warmth = Warmth(reactor, "colorsys")
        warmth.start()
        reactor.advance(LATER / 2)
        self.assertFalse(imported.is_set())
        reactor.advance(LATER)
        self.assertTrue(imported.is_set())
        self.assertIn("colorsys", sys.modules)
        warmth.stop()

    def test_not_after_the_end(self) -> None:
        reactor = _Reactor()
        warmth = Warmth(reactor)
        warmth.start()
        warmth.stop()
        self.assertEqual(reactor.getDelayedCalls(), [])
