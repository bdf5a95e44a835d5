"""Pages that say how a server is."""

import io
import re

from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from weedtw.http.pages import FAVICON, FAVICON_TYPE, Facts, Link, Table, render_page


class PageTests(SynchronousTestCase):
    def page(self) -> str:
        facts = Facts("Cluster", [("Leader", Link("a:1", "http://a:1/?x=1&y=2")), ("Volumes", 3), ("Leads", True)])
        table = Table(
            "Servers", ["Name", "Free"], [["<script>alert(1)</script>", 7], [Link("x", "javascript:y"), 0.5]]
        )
        return render_page("weedtw & co", "a:1", [facts, table, Table("Nothing", ["A"], [])]).decode()

    def test_what_it_shows(self) -> None:
        page = self.page()
        self.assertIn('<html lang="en">', page)
        self.assertIn("<title>weedtw &amp; co · a:1</title>", page)
        self.assertIn('<a href="http://a:1/?x=1&amp;y=2">a:1</a>', page)
        self.assertIn('<td class="number">3</td>', page)
        self.assertIn("<td>yes</td>", page)
        self.assertIn('<p class="none">none</p>', page)

    def test_facts_stand_to_the_left_and_numbers_of_tables_to_the_right(self) -> None:
        page = self.page()
        self.assertIn("td.number { text-align: right", page)
        self.assertIn(".facts td.number { text-align: left }", page)
        facts, _, tables = page.partition("Servers</h2>")
        self.assertIn('<table class="facts">', facts)
        self.assertNotIn('<table class="facts">', tables)

    def test_nothing_breaks_out(self) -> None:
        page = self.page()
        self.assertNotIn("<script", page)
        self.assertIn("&lt;script&gt;", page)
        self.assertNotIn("javascript:", page)

    def test_nothing_is_loaded_from_elsewhere(self) -> None:
        page = render_page("t", "", [])
        self.assertEqual(re.findall(rb'(?:src|href)="([^"]*)"|url\(', page), [b"/favicon.ico"])
        self.assertNotIn(b"@import", page)

    def test_it_is_well_formed_enough(self) -> None:
        tags = re.findall(r"<(/?)(\w+)[^>]*>", self.page())
        void = {"meta", "link"}
        stack: list[str] = []
        for closing, name in tags:
            if closing:
                self.assertEqual(stack.pop(), name)
            elif name not in void:
                stack.append(name)
        self.assertEqual(stack, [])

    def test_light_and_dark(self) -> None:
        self.assertIn("prefers-color-scheme: dark", self.page())

    def test_favicon(self) -> None:
        with Image.open(io.BytesIO(FAVICON)) as icon:
            self.assertEqual((icon.format, icon.size, icon.mode), ("PNG", (32, 32), "RGBA"))
            icon.load()
        self.assertEqual(FAVICON_TYPE, "image/png")
