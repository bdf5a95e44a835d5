"""Pages that say how a server is."""

import base64
import hashlib
import io
import re

from klein import Klein
from PIL import Image
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.http.channel import make_site
from weedtw.http.page_parts import SCRIPT
from weedtw.http.pages import (
    FAVICON,
    FAVICON_TYPE,
    Facts,
    Link,
    Mark,
    Meter,
    Notice,
    Page,
    Part,
    Table,
    page_response,
)
from weedtw.http.requests import Request
from weedtw.http.testing import Answer, Wire

EVIL = "<script>alert(1)</script>"


def page(*parts: Part, title: str = "weedtw & co", subtitle: str = "a:1") -> Page:
    return Page(title, subtitle, "2026-05-01 03:12:44 UTC", parts)


def sample() -> Page:
    return page(
        Notice("good", "a:1 leads"),
        Facts("Cluster", [("Leader", Link("a:1", "http://a:1/?x=1&y=2")), ("Volumes", 3), ("Leads", True)]),
        Table(
            "Servers",
            ["Name", "Free", "Disk", "Marks"],
            [
                [EVIL, 7, Meter(EVIL, 0.5), (Mark("bad", EVIL, EVIL), "plain")],
                [Link("x", "javascript:y"), 0.5, "", ()],
            ],
        ),
        Table("Nothing", ["A"], [], EVIL),
    )


class PageTests(SynchronousTestCase):
    def test_what_it_shows(self) -> None:
        shown = sample().render().decode()
        self.assertIn('<html lang="en">', shown)
        self.assertIn("<title>weedtw &amp; co · a:1</title>", shown)
        self.assertIn('<a href="http://a:1/?x=1&amp;y=2">a:1</a>', shown)
        self.assertIn('<td class="number" data-name="">3</td>', shown)
        self.assertIn(">yes</td>", shown)
        self.assertIn('<p class="notice good">a:1 leads</p>', shown)
        self.assertIn("as of 2026-05-01 03:12:44 UTC", shown)

    def test_each_cell_knows_the_title_of_its_column(self) -> None:
        """On a phone it stands beside it."""
        shown = sample().render_middle().decode()
        self.assertEqual(re.findall(r'data-name="(\w+)"', shown), ["Name", "Free", "Disk", "Marks"] * 2)
        self.assertIn("content: attr(data-name)", sample().render().decode())

    def test_nothing_breaks_out(self) -> None:
        titled = page(Notice("bad", EVIL), title=EVIL, subtitle=EVIL)
        for hostile in (sample(), titled, page(Facts(EVIL, [(EVIL, EVIL)]))):
            shown = hostile.render().decode()
            self.assertNotIn("<script>", shown)
            self.assertEqual(shown.count("<script"), 1)  # its own
            self.assertIn("&lt;script&gt;", shown)
            self.assertNotIn("javascript:", shown)
        quoting = page(Table('"><b>', ['" onclick="x'], [[Mark("bad", "x", '" onclick="x')]]))
        self.assertNotIn('" onclick', quoting.render_middle().decode())

    def test_nothing_is_loaded_from_elsewhere(self) -> None:
        shown = page(title="t", subtitle="").render()
        self.assertEqual(re.findall(rb'(?:src|href)="([^"]*)"|url\(', shown), [b"/favicon.ico"])
        self.assertNotIn(b"@import", shown)
        self.assertNotIn(b"//", re.sub(rb"<script.*?</script>", b"", shown, flags=re.DOTALL))

    def test_it_is_well_formed_enough(self) -> None:
        shown = re.sub(r"<(script|style)\b.*?</\1>", "", sample().render().decode(), flags=re.DOTALL)
        void = {"meta", "link"}
        stack: list[str] = []
        for closing, name in re.findall(r"<(/?)(\w+)[^>]*>", shown):
            if closing:
                self.assertEqual(stack.pop(), name)
            elif name not in void:
                stack.append(name)
        self.assertEqual(stack, [])

    def test_light_and_dark(self) -> None:
        self.assertIn("prefers-color-scheme: dark", sample().render().decode())

    def test_without_javascript_the_browser_reloads_it(self) -> None:
        self.assertIn('<noscript><meta http-equiv="refresh"', sample().render().decode())

    def test_the_worst_notice_is_the_level_of_the_page(self) -> None:
        self.assertEqual(page().level, "dim")
        self.assertEqual(page(Notice("good", ""), Notice("warn", "")).level, "warn")
        self.assertEqual(page(Notice("bad", ""), Notice("warn", "")).level, "bad")
        self.assertIn(b'data-level="bad"', page(Notice("bad", "")).render_middle())

    def test_meters(self) -> None:
        levels = [Meter("", share, alarms=True).level for share in (0.5, 0.85, 0.95)]
        self.assertEqual(levels, ["good", "warn", "bad"])
        self.assertEqual(Meter("", 1.0).level, "good")
        self.assertEqual([Meter("", share).percent for share in (-1, 0.5, 7)], ["0.0", "50.0", "100.0"])

    def test_favicon(self) -> None:
        with Image.open(io.BytesIO(FAVICON)) as icon:
            self.assertEqual((icon.format, icon.size, icon.mode), ("PNG", (32, 32), "RGBA"))
            icon.load()
        self.assertEqual(FAVICON_TYPE, "image/png")


class AnsweredPages(SynchronousTestCase):
    """How they are sent."""

    def get(self, target: str) -> Answer:
        app = Klein()

        @app.route("/")
        def show(request: Request) -> bytes:
            return page_response(request, sample())

        wire = Wire(make_site(app.resource(), reactor=Clock(), body_limit=100))
        wire.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        [answer] = wire.answers()
        return answer

    def test_the_whole(self) -> None:
        answer = self.get("/")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertTrue(answer.body.startswith(b"<!DOCTYPE html>"))

    def test_no_script_but_its_own_may_run(self) -> None:
        """The policy names the script by its hash."""
        answer = self.get("/")
        (script,) = re.findall(rb"<script[^>]*>(.*?)</script>", answer.body, re.DOTALL)
        self.assertEqual(script.decode(), SCRIPT)
        digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
        policy = answer.headers["content-security-policy"]
        self.assertIn(f"script-src 'sha256-{digest}';", policy)
        self.assertIn("default-src 'none'", policy)

    def test_the_middle(self) -> None:
        answer = self.get("/?part=live")
        self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")
        self.assertTrue(answer.body.startswith(b'<div data-level="good"'))
        self.assertNotIn(b"<script", answer.body)
