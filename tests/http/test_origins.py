"""Which requests are taken for the wish of another site's page."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.http.channel import make_site
from weedtw.http.guard import WhiteList, guarded
from weedtw.http.requests import Request
from weedtw.http.responses import endpoint, json_response
from weedtw.http.routes import Routes
from weedtw.http.testing import Wire

BROWSER = "User-Agent: Mozilla/5.0 (X11; Linux x86_64)"


class App:
    app = Routes()
    white_list = WhiteList()

    @app.route("/do", methods=["GET", "POST"])
    @endpoint
    @guarded
    async def do(self, request: Request) -> bytes:
        return json_response(request, "done")


class OriginTests(SynchronousTestCase):
    def ask(self, *lines: str, host: str = "10.0.0.7:9333") -> Any:
        site = make_site(App().app.resource(), reactor=Clock(), body_limit=100)
        site.names = frozenset({"weed-1.example"})
        wire = Wire(site)
        wire.send("\r\n".join(["GET /do HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode())
        [answer] = wire.answers()
        return answer

    def test_programs_are_let_pass_by_whatever_name(self) -> None:
        for host in ("10.0.0.7:9333", "weed-1.example:9333", "alias.example", "[::1]:9333", ""):
            self.assertEqual(self.ask(host=host).status, 200, host)
        self.assertEqual(self.ask("User-Agent: curl/8.5.0", host="alias.example").status, 200)

    def test_the_user_himself_and_our_own_pages(self) -> None:
        self.assertEqual(self.ask(BROWSER).status, 200)
        self.assertEqual(self.ask(BROWSER, "Sec-Fetch-Site: none").status, 200)
        self.assertEqual(self.ask(BROWSER, "Sec-Fetch-Site: same-origin", "Origin: http://10.0.0.7:9333").status, 200)
        self.assertEqual(self.ask(BROWSER, "Referer: http://10.0.0.7:9333/ui/index.html").status, 200)
        for host in ("weed-1.example:9333", "Weed-1.Example", "localhost:9333", "127.0.0.1", "[fd00::1]:9333"):
            self.assertEqual(self.ask(BROWSER, host=host).status, 200, host)

    def test_pages_of_others(self) -> None:
        for line in (
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
            "Sec-Fetch-Site: something",
            "Origin: null",
            "Origin: http://evil.example",
            "Origin: http://10.0.0.7:8080",
            "Origin: http://10.0.0.7:9333.evil.example",
            "Origin: http://[10.0.0.7:9333",
            "Referer: http://evil.example/10.0.0.7:9333",
        ):
            answer = self.ask(line)
            self.assertEqual(answer.status, 403, line)
            self.assertIn("is not an origin of this server", answer.json["error"])

    def test_a_name_that_was_given_our_address(self) -> None:
        for line in (BROWSER, "Origin: http://evil.example:9333", "Sec-Fetch-Site: same-origin"):
            for host in ("evil.example:9333", "localhost.evil.example:9333", "10.0.0.7.evil.example:9333", "[::1:80"):
                self.assertEqual(self.ask(line, host=host).status, 403, f"{line} {host}")
