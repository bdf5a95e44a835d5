"""Forms with files, and the names files may have."""

from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest
from weedtw.http.disposition import NAME_LIMIT, clean_name, parse_disposition, render_disposition
from weedtw.http.multipart import Part, boundary_of, first_file, is_form

TYPE = "multipart/form-data; boundary=sep"


def form(*parts: tuple[str, bytes], boundary: str = "sep") -> bytes:
    """A form of (header lines, content)."""
    pieces = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def file_head(name: str) -> str:
    return f'Content-Disposition: form-data; name="file"; filename="{name}"'


class FirstFileTests(SynchronousTestCase):
    def take(self, body: bytes, content_type: str = TYPE) -> Part:
        return first_file(body, content_type)

    def test_a_file(self) -> None:
        head = file_head("a.txt") + "\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\ncontent-md5: x"
        part = self.take(form((head, b"hello")))
        self.assertEqual((part.filename, part.content_type, bytes(part.data)), ("a.txt", "text/plain", b"hello"))
        self.assertEqual((part.headers["content-encoding"], part.headers["content-md5"]), ("gzip", "x"))

    def test_fields_before_the_file_are_passed_over(self) -> None:
        field = 'Content-Disposition: form-data; name="d"'
        part = self.take(form((field, b"text"), (field + '; filename=""', b""), (file_head("b"), b"the file")))
        self.assertEqual((part.filename, bytes(part.data)), ("b", b"the file"))

    def test_without_a_file_the_first_part_counts(self) -> None:
        field = 'Content-Disposition: form-data; name="d"'
        part = self.take(form((field, b"one"), (field, b"two")))
        self.assertEqual((part.filename, bytes(part.data)), ("", b"one"))

    def test_the_content_is_a_view(self) -> None:
        body = bytearray(form((file_head("a"), b"x" * 100)))
        part = first_file(memoryview(body), TYPE)
        self.assertIs(part.data.obj, body)
        self.assertTrue(part.data.readonly)

    def test_content_that_looks_like_a_boundary(self) -> None:
        for content in (
            b"\r\n--sepp\r\n",
            b"\r\n--se",
            b"--sepp\r\n",
            b"-",
            b"\n--sep\n",
            b"\r\n-- sep\r\n",
            b"\r\n--sep-",
            b"\r\n--sep--x\r\n",
            b"\r\n--sep x\r\n",
            b"\r\n--sep\n",
            b"\r\n--sep" + b" " * 300 + b"\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"\r",
            b"",
        ):
            self.assertEqual(bytes(self.take(form((file_head("a"), content))).data), content, content)

    def test_white_space_after_a_boundary_belongs_to_it(self) -> None:
        body = form((file_head("a"), b"x")).replace(b"--sep\r\n", b"--sep \t\r\n").replace(b"--sep--", b"--sep-- ")
        self.assertEqual(bytes(self.take(body).data), b"x")

    def test_preamble_and_epilogue(self) -> None:
        body = form((file_head("a"), b"x"))
        for around in (b"hello\r\n" + body + b"bye", b"--sepp\r\n" + body, b"\r\n" + body, body[:-2]):
            self.assertEqual(bytes(self.take(around).data), b"x")

    def test_a_part_without_headers_or_content(self) -> None:
        part = self.take(b"--sep\r\n\r\nbare\r\n--sep--")
        self.assertEqual((part.filename, bytes(part.data)), ("", b"bare"))
        self.assertEqual(bytes(self.take(b"--sep\r\n\r\n--sep--").data), b"")
        self.assertEqual(bytes(self.take(b"--sep\r\nA: b\r\n\r\n--sep--").data), b"")

    def test_malformed(self) -> None:
        body = form((file_head("a"), b"content"))
        for bad in (
            b"",
            b"--sep--\r\n",
            b"no boundary at all",
            body[: body.index(b"content") + 3],
            body.replace(b"--sep--", b"--sep"),
            body.replace(b"\r\n", b"\n"),
            b"--sep\r\n" + b"X: y\r\n" * 10_000 + b"\r\n\r\n--sep--",
            b"--sep\r\nno colon\r\n\r\nx\r\n--sep--",
            b"--sep\r\n: no name\r\n\r\nx\r\n--sep--",
            b"--sep\r\nA: b\r\n folded\r\n\r\nx\r\n--sep--",
            form((file_head("a") + "\r\nContent-Transfer-Encoding: base64", b"eA==")),
            form(('Content-Disposition: form-data; filename="open', b"x")),
            form(("Content-Disposition: ", b"x")),
            form(*[("A: b", b"")] * 1001),
        ):
            self.assertRaises(BadRequest, self.take, bad)

    def test_boundaries(self) -> None:
        for content_type, boundary in (
            ("multipart/form-data; boundary=abc", "abc"),
            ('Multipart/Form-Data; charset=utf-8; Boundary="a b:c"', "a b:c"),
            ("multipart/form-data;boundary=----WebKitFormBoundary7MA4YWxk", "----WebKitFormBoundary7MA4YWxk"),
            (r'multipart/form-data; x="a\"; boundary=no"; boundary=yes', "yes"),
        ):
            self.assertTrue(is_form(content_type))
            self.assertEqual(boundary_of(content_type), boundary)
        for content_type in (
            "",
            "text/plain; boundary=a",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            'multipart/form-data; boundary="a ',
            'multipart/form-data; boundary="a "',
            "multipart/form-data; boundary=" + "a" * 71,
            'multipart/form-data; boundary="a\r\nb"',
            "multipart/form-data; boundary=\xe4",
        ):
            self.assertRaises(BadRequest, boundary_of, content_type)
        self.assertFalse(is_form(None))
        self.assertFalse(is_form("multipart/mixed; boundary=a"))

    def test_in_windows(self) -> None:
        for size in (0, 1, (1 << 20) - 200, *range((1 << 20) - 90, (1 << 20) - 70), 3 << 20):
            content = b"\r\n--se" * (size // 6) + b"x" * (size % 6)
            self.assertEqual(self.take(form((file_head("a"), content))).data, content)

    @given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.sampled_from(["sep", "-", "a b"]))
    @example([b"\r"], "sep")
    def test_whatever_the_content(self, contents: list[bytes], boundary: str) -> None:
        assume(not any(b"--" + boundary.encode() in content for content in contents))
        content_type = f'multipart/form-data; boundary="{boundary}"'
        for at, content in enumerate(contents):
            heads = [file_head("a") if n == at else "A: b" for n in range(len(contents))]
            body = form(*zip(heads, contents, strict=True), boundary=boundary)
            self.assertEqual(bytes(first_file(body, content_type).data), content)

    @given(st.lists(st.sampled_from([b"--sep", b"\r\n", b"--", b"A: b", file_head("a").encode(), b" ", b"x"])))
    @example([file_head("a").encode(), b"\r\n", b"\r\n", b"x", b"\r\n", b"--sep", b"\r\n"])
    @example([b"\r\n", b"\r\n", b"--sep", b"--sep"])
    def test_any_body(self, pieces: list[bytes]) -> None:
        middle = b"".join(pieces)
        for body in (middle, b"--sep\r\n" + middle, b"--sep\r\n" + middle + b"\r\n--sep--\r\n"):
            try:
                part = first_file(body, TYPE)
            except BadRequest:
                continue
            self.assertIn(bytes(part.data), middle)
            # What only begins like a delimiter is content; the file's last line ends where the next part begins.
            self.assertNotRegex(bytes(part.data) + b"\r\n", rb"\r\n--sep(?:--)?[ \t]*\r\n")

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        for body in (data, b"--sep\r\n" + data, b"--sep\r\n" + data + b"\r\n--sep--"):
            try:
                part = first_file(body, TYPE)
            except BadRequest:
                continue
            self.assertIn(bytes(part.data), body)


class DispositionTests(SynchronousTestCase):
    def test_reading(self) -> None:
        for value, name in (
            ('inline; filename="a b.txt"', "a b.txt"),
            ("attachment;filename=a.txt", "a.txt"),
            ('form-data; name="file"; filename="日本 語.txt"', "日本 語.txt"),
            (r'inline; filename="say \"hi\".txt"', 'say "hi".txt'),
            (r'inline; filename="C:\dir\new.txt"', "new.txt"),
            ('inline; filename="some/dir/x.txt"', "x.txt"),
            ("inline; filename=\"x\"; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
            ("inline; filename*=iso-8859-1'en'%A3.txt", "£.txt"),
            ("inline; filename*=utf-8''..%2f..%2fetc%2fpasswd", "passwd"),
            ('inline; filename="a;b=c"; x=y', "a;b=c"),
            ("inline; FileName=a", "a"),
            ('inline ; filename = "a" ;', "a"),
            ("inline; filename=", ""),
            ('inline; filename=".."', ""),
            ('inline; filename="dir/"', ""),
            ('inline; filename="a\r\nSet-Cookie: b"', "aSet-Cookie: b"),
            ("inline; filename=a; filename=b", "a"),
            ("inline", None),
            ("inline; x=y", None),
        ):
            disposition = parse_disposition(value)
            assert disposition is not None, value
            self.assertEqual(disposition.filename, name, value)
        for value in ("", ";", '"inline"', 'inline; filename="open', 'inline; filename="a"b', "inline filename=a"):
            self.assertIsNone(parse_disposition(value), value)
        latin = parse_disposition(b'inline; filename="\xe4.txt"; name="f"')
        assert latin is not None
        self.assertEqual((latin.kind, latin.name, latin.filename), ("inline", "f", "ä.txt"))

    def test_writing(self) -> None:
        for name, header in (
            ("a b.txt", 'inline; filename="a b.txt"'),
            ("", "inline"),
            ('q"\\', r'inline; filename="q\"\\"'),
            ("€.txt", "inline; filename=\"_.txt\"; filename*=UTF-8''%E2%82%AC.txt"),
            ("a\r\nb\0", 'inline; filename="ab"'),
        ):
            self.assertEqual(render_disposition("inline", name), header)

    @given(st.text())
    def test_names_survive_the_way(self, text: str) -> None:
        name = clean_name(text)
        header = render_disposition("attachment", name)
        self.assertTrue(header.isascii() and header.isprintable(), header)
        back: Any = parse_disposition(header)
        self.assertEqual(back.filename or "", name)

    @given(st.text())
    def test_clean_names(self, text: str) -> None:
        name = clean_name(text)
        self.assertNotIn(name, (".", ".."))
        self.assertFalse(set(name) & set("/\\\0\r\n"))
        self.assertLessEqual(len(name.encode()), NAME_LIMIT)
        self.assertEqual(clean_name(name), name)

    @given(st.one_of(st.text(), st.binary()))
    @example("../a\nb")
    def test_any_value(self, value: str | bytes) -> None:
        named = f'inline; filename="{value}"' if isinstance(value, str) else b'inline; filename="%b"' % value
        for header in (value, named):
            disposition = parse_disposition(header)
            if disposition is not None and disposition.filename:
                self.assertEqual(clean_name(disposition.filename), disposition.filename)
