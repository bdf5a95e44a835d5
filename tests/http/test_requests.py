"""Parameters, white lists, and bodies on their way in."""

import os
import tempfile
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from klein import Klein
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest, ConfigError, TooLarge, Unavailable, WriteFailed
from weedtw.http.channel import make_site
from weedtw.http.guard import WhiteList, guarded
from weedtw.http.requests import FIELD_LIMIT, FORM_LIMIT, Params, Request, params, parse_params, query
from weedtw.http.responses import endpoint, json_errors, json_response
from weedtw.http.spool import IN_MEMORY, Budget, Room, Spool
from weedtw.http.testing import Answer, Wire

QUERY_PIECES = ["a", "=", "&", "1", "-2", "0.5", "yes", "%ff", "%31", "é"]


class ParamsTests(SynchronousTestCase):
    def test_parsing(self) -> None:
        self.assertEqual(
            parse_params("a=1&b=x%20y+z&c=&d&a=2;b=3&%C3%B6=%E2%82%AC").values,
            {"a": "1", "b": "x y z", "c": "", "d": "", "ö": "€"},
        )
        self.assertEqual(parse_params("a=form", "a=url&b=url").values, {"a": "form", "b": "url"})
        self.assertRaises(BadRequest, parse_params, "a=%ff")
        self.assertRaises(BadRequest, parse_params, "&".join(f"a{n}=1" for n in range(FIELD_LIMIT + 1)))

    def test_text(self) -> None:
        found = Params({"a": "x", "empty": ""})
        self.assertEqual((found.text("a"), found.text("b"), found.text("b", "y")), ("x", "", "y"))
        self.assertEqual((found.required("a"), "a" in found, "b" in found), ("x", True, False))
        for name in ("empty", "missing"):
            self.check_complaint(name, found.required, name)

    def test_integers(self) -> None:
        found = Params({"n": "12", "zero": "0", "empty": "", "minus": "-3"})
        self.assertEqual([found.integer(name, 7) for name in ("n", "zero", "empty", "missing")], [12, 0, 7, 7])
        self.assertEqual(found.integer("minus", 0, least=-5), -3)
        self.assertEqual(found.integer("missing", -1, least=0), -1)
        self.assertEqual(found.required_integer("n"), 12)
        self.check_complaint("minus", found.integer, "minus", 0)
        self.check_complaint("n", found.integer, "n", 0, most=11)
        self.check_complaint("missing", found.required_integer, "missing")
        for text in ("x", "1.5", "1e3", "0x1", " 1", "1_0", "+1", "\u0661", "-", "9" * 20, "9" * 5000):
            self.check_complaint("n", Params({"n": text}).integer, "n", 0)

    def test_numbers(self) -> None:
        found = Params({"f": "0.25", "e": "1e-3", "empty": ""})
        self.assertEqual(
            [found.number(name, 0.5) for name in ("f", "e", "empty", "missing")], [0.25, 0.001, 0.5, 0.5]
        )
        for text in ("x", "nan", "-1", "0x1"):
            self.check_complaint("f", Params({"f": text}).number, "f", 0.0)
        self.check_complaint("f", found.number, "f", 0.0, most=0.2)

    def test_flags(self) -> None:
        for text in ("true", "1", "yes", "y", "on", "True", "T"):
            self.assertIs(Params({"b": text}).flag("b"), True)
        for text in ("false", "0", "no", "n", "off", "", "FALSE"):
            self.assertIs(Params({"b": text}).flag("b", True), False)
        self.assertIs(Params({}).flag("b", True), True)
        self.check_complaint("b", Params({"b": "maybe"}).flag, "b")

    def check_complaint(self, name: str, read: Any, *args: Any, **kwargs: Any) -> None:
        with self.assertRaises(BadRequest) as caught:
            read(*args, **kwargs)
        self.assertIn(name, str(caught.exception))
        self.assertLess(len(str(caught.exception)), 120)

    @given(
        st.text()
        | st.lists(st.sampled_from(["a", "=", "&", "1", "-2", "0.5", "yes", "%ff", "%31", "é"])).map("".join)
    )
    @example("a=1&b=x&c=1.5&d=-1")
    @example("a=%ff")
    def test_any_text(self, text: str) -> None:
        try:
            found = parse_params(text)
        except BadRequest:
            return
        for name in found.values:
            for kind, read in (
                (bool, found.flag),
                (int, lambda n: found.integer(n, 0)),
                (float, lambda n: found.number(n, 0.0)),
            ):
                try:
                    value = read(name)
                except BadRequest as refused:
                    self.assertTrue(str(refused).startswith(f"{name}="), refused)
                else:
                    self.assertIsInstance(value, kind)


class App:
    app = Klein()

    def __init__(self, white_list: WhiteList) -> None:
        self.white_list = white_list

    @app.route("/url")
    @endpoint
    async def url(self, request: Request) -> bytes:
        return json_response(request, query(request).values)

    @app.route("/form")
    @endpoint
    async def form(self, request: Request) -> bytes:
        return json_response(request, params(request).values)

    @app.route("/admin/<name>")
    @endpoint
    @guarded
    async def admin(self, request: Request, name: str) -> bytes:
        return json_response(request, name)


json_errors(App.app)
FORM = "application/x-www-form-urlencoded"
PARTS = "multipart/form-data; boundary=sep"


def parts(*fields: tuple[str, str], end: str = "\r\n") -> bytes:
    """A multipart form of (what follows `form-data; name=`, value)."""
    lines = [f"--sep{end}Content-Disposition: form-data; name={name}{end}{end}{value}{end}" for name, value in fields]
    return "".join([*lines, f"--sep--{end}"]).encode()


class RequestTestCase(SynchronousTestCase):
    def ask(self, target: str, body: bytes, kind: str = FORM, peer: str = "127.0.0.1", allow: str = "") -> Answer:
        resource = App(WhiteList.parse(allow.split(","))).app.resource()
        wire = Wire(make_site(resource, reactor=Clock(), body_limit=1 << 20), peer=peer)
        head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        wire.send(head.encode() + body)
        [answer] = wire.answers()
        return answer


class FormTests(RequestTestCase):
    def test_the_form_comes_before_the_url(self) -> None:
        for kind in (FORM, FORM.title() + "; charset=utf-8"):
            answer = self.ask("/form?a=url&c=d", b"a=form&b=%C3%A4", kind)
            self.assertEqual(answer.json, {"a": "form", "b": "ä", "c": "d"})

    def test_the_url_comes_before_a_form_in_parts(self) -> None:
        for end in ("\r\n", "\n"):
            body = parts(("a", "form"), ('"b"', "\u00e4 & c=x"), ("b", "second"), ("e", ""), end=end)
            for kind in (PARTS, PARTS.replace("multipart/form-data", "Multipart/Form-Data")):
                answer = self.ask("/form?a=url&c=d", body, kind)
                self.assertEqual(answer.json, {"a": "url", "b": "\u00e4 & c=x", "c": "d", "e": ""})

    def test_a_file_in_a_form_is_no_parameter(self) -> None:
        answer = self.ask("/form", parts(('a; filename="b.txt"', "file"), ("c", "d")), PARTS)
        self.assertEqual(answer.json, {"c": "d"})
        self.assertEqual(self.ask("/url?a=b", parts(("a", "form"), ("c", "d")), PARTS).json, {"a": "b"})
        self.assertEqual(self.ask("/url?a=b", b"no form", PARTS).json, {"a": "b"})

    def test_a_malformed_form_is_refused(self) -> None:
        body = parts(("a", "b"))
        for bad, kind in (
            (body[:-6], PARTS),
            (b"a=b", PARTS),
            (body, "multipart/form-data"),
            (body.replace(b"\r\nb", b"\r\n\xff"), PARTS),
            (parts(*[(f"a{number}", "") for number in range(FIELD_LIMIT + 1)]), PARTS),
        ):
            answer = self.ask("/form?a=b", bad, kind)
            self.assertEqual((answer.status, bool(answer.json["error"])), (400, True), bad)

    def test_an_empty_body_is_no_form(self) -> None:
        for kind in (FORM, PARTS, "multipart/form-data"):
            self.assertEqual(self.ask("/form?a=b", b"", kind).json, {"a": "b"})

    def test_a_file_is_no_form(self) -> None:
        self.assertEqual(self.ask("/url?a=b", b"a=form").json, {"a": "b"})
        for kind in ("text/plain", "application/octet-stream", ""):
            self.assertEqual(self.ask("/form?a=b", b"a=form", kind).json, {"a": "b"})

    def test_a_form_has_a_limit(self) -> None:
        answer = self.ask("/form", b"a=" + b"x" * FORM_LIMIT)
        self.assertEqual(answer.status, 413)
        self.assertEqual(self.ask("/form", parts(("a", "x" * FORM_LIMIT)), PARTS).status, 413)
        self.assertEqual(self.ask("/form", b"\xff=\xff").status, 400)


class GuardTests(RequestTestCase):
    def test_an_endpoint(self) -> None:
        self.assertEqual(self.ask("/admin/x", b"", allow="10.0.0.0/8", peer="10.1.2.3").json, "x")
        answer = self.ask("/admin/x", b"", allow="10.0.0.0/8", peer="11.1.2.3")
        self.assertEqual(answer.status, 403)
        self.assertIn("11.1.2.3", answer.json["error"])

    def test_lists(self) -> None:
        for entries, inside, outside in (
            ((), ("1.2.3.4", "::1", ""), ()),
            (("", " "), ("1.2.3.4",), ()),
            (("10.0.0.7",), ("10.0.0.7", "::ffff:10.0.0.7"), ("10.0.0.8", "127.0.0.1", "", "x")),
            (("10.0.0.9/8", "fd00::/8"), ("10.255.0.1", "fd12::1", "fd12::1%eth0"), ("11.0.0.1", "fe80::1")),
            (("localhost",), ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"), ("10.0.0.7",)),
            ((" 127.0.0.1 ",), ("127.0.0.1",), ("127.0.0.2", "::1")),
            (("::ffff:10.0.0.0/104",), ("10.1.1.1", "::ffff:10.1.1.1"), ("11.0.0.1",)),
            (("0.0.0.0/0",), ("1.2.3.4",), ("::1",)),
        ):
            white_list = WhiteList.parse(entries)
            for host in inside:
                self.assertTrue(white_list.allows(host), (entries, host))
            for host in outside:
                self.assertFalse(white_list.allows(host), (entries, host))

    def test_what_is_no_entry(self) -> None:
        for entry in ("example.com", "10.0.0", "10.0.0.0/33", "10.0.0.1:80", "*"):
            with self.assertRaises(ConfigError) as caught:
                WhiteList.parse(["127.0.0.1", entry])
            self.assertIn(entry, str(caught.exception))


class SpoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.room = Room(folder=tempfile.gettempdir())

    def nothing_is_held(self) -> None:
        self.assertEqual((self.room.in_flight.used, self.room.in_memory.used), (0, 0))

    def test_small_and_large(self) -> None:
        for size in (0, 1, IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY + 5):
            content = os.urandom(size)
            for announced in (None, size):
                spool = Spool(self.room, size, announced)
                for at in range(0, size, 70_001):
                    spool.write(content[at : at + 70_001])
                self.assertEqual((spool.view(), spool.size), (content, size))
                self.assertTrue(spool.view().readonly)
                self.assertLessEqual(self.room.in_memory.used, IN_MEMORY)
                self.assertEqual(spool.read(3) + spool.read(), content)
                spool.close()
                spool.close()
                self.nothing_is_held()

    def test_a_view_outlives_the_spool(self) -> None:
        for size in (1000, 2 * IN_MEMORY):
            content = os.urandom(size)
            spool = Spool(self.room, size)
            spool.write(content)
            view = spool.view()
            spool.close()
            self.assertEqual(view, content)

    def test_limits(self) -> None:
        self.assertRaises(TooLarge, Spool, self.room, 10, 11)
        spool = Spool(self.room, 10)
        spool.write(b"x" * 10)
        self.assertRaises(TooLarge, spool.write, b"x")
        spool.close()
        self.nothing_is_held()

    def test_one_for_all(self) -> None:
        self.room.in_flight.limit = 100
        first = Spool(self.room, 100, 60)
        self.assertRaises(Unavailable, Spool, self.room, 100, 41)
        second = Spool(self.room, 100)
        second.write(b"x" * 40)
        self.assertRaises(Unavailable, second.write, b"x")
        first.close()
        second.write(b"x" * 60)
        second.close()
        self.nothing_is_held()

    def test_what_is_larger_than_the_limit_comes_when_nothing_else_does(self) -> None:
        self.room.in_flight.limit = 100
        small = Spool(self.room, 1000, 1)
        self.assertRaises(Unavailable, Spool, self.room, 1000, 101)
        small.close()
        for announced in (500, None):
            large = Spool(self.room, 1000, announced)
            for _ in range(5):
                large.write(b"x" * 100)
            self.assertRaises(Unavailable, Spool, self.room, 1000, 1)
            large.close()
            self.nothing_is_held()

    def test_when_memory_is_used_up_small_bodies_go_to_files(self) -> None:
        self.room.in_memory.limit = 1500
        spools = [Spool(self.room, 1000, 1000) for _ in range(3)]
        for _ in range(10):
            for number, spool in enumerate(spools):
                spool.write(bytes([number]) * 100)
                self.assertLessEqual(self.room.in_memory.used, 1500)
        for number, spool in enumerate(spools):
            self.assertEqual(spool.view(), bytes([number]) * 1000)
            spool.close()
        self.nothing_is_held()

    def test_no_file_is_left_and_no_descriptor(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            before = len(os.listdir("/proc/self/fd"))
            spool = Spool(Room(folder=folder), 1 << 22)
            spool.write(b"x" * (2 * IN_MEMORY))
            self.assertEqual(os.listdir(folder), [])
            spool.view()
            spool.close()
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_no_folder(self) -> None:
        spool = Spool(Room(folder="/nowhere/at/all"), 1 << 22)
        self.assertRaises(WriteFailed, spool.write, b"x" * (2 * IN_MEMORY))
        spool.close()

    def test_as_a_file(self) -> None:
        spool = Spool(self.room, 100)
        spool.write(b"0123456789")
        self.assertEqual((spool.seek(4), spool.read(2), spool.tell()), (4, b"45", 6))
        self.assertEqual((spool.seek(-1, os.SEEK_END), spool.read()), (9, b"9"))
        self.assertEqual((spool.seek(-3, os.SEEK_CUR), spool.seek(99), spool.read()), (7, 10, b""))
        spool.close()

    def test_a_budget_never_goes_below_nothing(self) -> None:
        budget = Budget(10)
        self.assertTrue(budget.take(10))
        self.assertFalse(budget.take(1))
        budget.give(10)
        self.assertRaises(AssertionError, budget.give, 1)
