"""Tokens: who gets in, and who does not."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config.security import SecurityConfig
from weedtw.formats.fileid import FileId
from weedtw.http.channel import make_site
from weedtw.http.requests import Request
from weedtw.http.responses import endpoint, json_response
from weedtw.http.routes import Routes
from weedtw.http.testing import Answer, Wire
from weedtw.http.tokens import Tokens

KEY, READ_KEY = "w" * 40, "r" * 40
NOW = 1_700_000_000
FID = FileId(3, 0x01, 0x637037D6)


class App:
    app = Routes()

    @app.route("/<path:_path>")
    @endpoint
    async def anything(self, request: Request, _path: str) -> bytes:
        return json_response(request, "let in")


def segment(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def forged(claims: Any, header: Any, key: str = KEY) -> str:
    body = segment(json.dumps(header).encode()) + "." + segment(json.dumps(claims).encode())
    return body + "." + segment(hmac.new(key.encode(), body.encode(), hashlib.sha256).digest())


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = NOW
        config = SecurityConfig(write_key=KEY, write_seconds=10, read_key=READ_KEY, read_seconds=60)
        self.tokens = Tokens(config, lambda: self.now)
        self.site = make_site(
            App().app.resource(),
            reactor=Clock(),
            body_limit=100,
            admission=lambda request: self.tokens.check(request, request.path.decode()),
        )

    def ask(self, method: str, target: str, *lines: str) -> Answer:
        wire = Wire(self.site)
        wire.send("\r\n".join([f"{method} {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode())
        [answer] = wire.answers(method)
        return answer

    def status(self, token: str, method: str = "DELETE", target: str = "/3,01637037d6") -> int:
        return self.ask(method, target, f"Authorization: Bearer {token}").status

    def test_a_token_opens_its_file(self) -> None:
        write, read = self.tokens.for_writing(FID), self.tokens.for_reading(FID)
        for target in ("/3,01637037d6", "/3/01637037d6", "/3,0000000000000001637037D6.jpg", "/3/01637037d6/a.jpg"):
            self.assertEqual(self.status(write, "DELETE", target), 200, target)
            self.assertEqual(self.status(write, "PUT", target), 200, target)
            self.assertEqual(self.status(read, "GET", target), 200, target)

    def test_and_those_counted_from_it(self) -> None:
        write = self.tokens.for_writing(FID)
        self.assertEqual(self.status(write, "PUT", "/3,01637037d6_7"), 200)
        self.assertEqual(self.status(write, "PUT", "/3,01637037d6_7.txt"), 200)
        self.assertEqual(self.status(write, "PUT", "/3,07637037d6"), 401)

    def test_wherever_it_is_brought(self) -> None:
        token = self.tokens.for_writing(FID)
        for target, line in (
            ("/3,01637037d6?jwt=" + token, "X: y"),
            ("/3,01637037d6?ts=1&jwt=" + token, "X: y"),
            ("/3,01637037d6", "Authorization: BEARER " + token),
            ("/3,01637037d6", "authorization: bearer " + token),
            ("/3,01637037d6", "Cookie: other=1; AT=" + token),
        ):
            self.assertEqual(self.ask("DELETE", target, line).status, 200, line)

    def test_no_token(self) -> None:
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            answer = self.ask(method, "/3,01637037d6")
            self.assertEqual(answer.status, 401)
            self.assertEqual(answer.headers["www-authenticate"], "Bearer")
        self.assertEqual(self.ask("GET", "/3,01637037d6").json, {"error": "not authorized: there is no token"})

    def test_one_for_another_file_or_another_deed(self) -> None:
        for other in (FileId(4, 1, 0x637037D6), FileId(3, 2, 0x637037D6), FileId(3, 1, 0x637037D7)):
            self.assertEqual(self.status(self.tokens.for_writing(other)), 401)
        self.assertEqual(self.status(self.tokens.for_reading(FID), "DELETE"), 401)
        self.assertEqual(self.status(self.tokens.for_writing(FID), "GET"), 401)

    def test_it_expires(self) -> None:
        token = self.tokens.for_writing(FID)
        self.now = NOW + 9
        self.assertEqual(self.status(token), 200)
        self.now = NOW + 10
        self.assertEqual(self.status(token), 401)

    def test_forged_ones(self) -> None:
        good = {"exp": NOW + 5, "fid": str(FID)}
        hs256 = {"alg": "HS256", "typ": "JWT"}
        self.assertEqual(self.status(forged(good, hs256)), 200)
        unsigned = segment(b'{"alg":"none"}') + "." + segment(json.dumps(good).encode()) + "."
        for token in (
            forged(good, hs256, "another key"),
            unsigned,
            forged(good, {"alg": "none"}),
            forged(good, {"alg": "HS512"}),
            forged({"fid": str(FID)}, hs256),
            forged({"exp": NOW + 5}, hs256),
            forged({"exp": "never", "fid": str(FID)}, hs256),
            forged({"exp": True, "fid": str(FID)}, hs256),
            forged({"exp": NOW + 5, "fid": 3}, hs256),
            forged({"exp": NOW + 5, "fid": "everything"}, hs256),
            forged([1], hs256),
            jwt.encode(good, KEY, "HS512"),
            "x",
            "a.b.c",
            "..",
            "\u00e9",
        ):
            self.assertEqual(self.status(token), 401, token)

    def test_as_seaweedfs_signs(self) -> None:
        """The same claims, and a short key is taken."""
        config = SecurityConfig(write_key="secret")
        token = Tokens(config, lambda: NOW).for_writing(FileId(5, 1, 0xC7A54E9B))
        self.assertEqual(jwt.decode(token, "secret", ["HS256"], {"verify_exp": False})["fid"], "5,01c7a54e9b")

    def test_without_keys_everybody_gets_in(self) -> None:
        self.tokens = Tokens(SecurityConfig(), lambda: self.now)
        self.assertEqual(self.ask("GET", "/3,01637037d6").status, 200)
        self.assertEqual((self.tokens.for_reading(FID), self.tokens.for_writing(FID)), ("", ""))

    def test_options_need_none(self) -> None:
        self.assertEqual(self.ask("OPTIONS", "/3,01637037d6").status, 200)
