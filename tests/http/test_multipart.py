"""Forms with files, and the names files may have."""

import re
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest
from weedtw.http.disposition import NAME_LIMIT, clean_name, parse_disposition, render_disposition
from weedtw.http.multipart import Part, boundary_of, first_file, form_fields, is_form

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
            b"\n--sep--\n",
            b"\n--sep\r\n",
            b"\r\n--sep" + b" " * 300 + b"\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"\r",
            b"",
        ):
            self.assertEqual(bytes(self.take(form((file_head("a"), content))).data), content, content)

    def test_lines_that_end_with_lf(self) -> None:
        field = b'--sep\nContent-Disposition: form-data; name="d"\n\ntext\n'
        head = b"--sep\n%b\nContent-Type: text/plain\n\n" % file_head("a.txt").encode()
        for before in (b"", b"a preamble\n", b"\r\n", field, b"--sep \t\nA: b\n\n\n"):
            for content in (b"hello\nworld", b"", b"\n", b"a\r\nb\r\n", b"\n--sepp\n", b"--sepp\n", b"\n--sep\r\n"):
                for last in (b"\n--sep--\n", b"\n--sep--", b"\n--sep-- \t\nbye", b"\n--sep\nA: b\n\nx\n--sep--"):
                    part = self.take(before + head + content + last)
                    found = (part.filename, part.content_type, bytes(part.data))
                    self.assertEqual(found, ("a.txt", "text/plain", content), (before, last))
        self.assertEqual(bytes(self.take(b"--sep\n\nbare\n--sep--").data), b"bare")
        self.assertEqual(bytes(self.take(b"--sep\n\n--sep--").data), b"")
        self.assertEqual(bytes(self.take(b"--sep\nA: b\n\n--sep--").data), b"")

    def test_the_first_boundary_line_decides_how_lines_end(self) -> None:
        head = file_head("a").encode()
        for body in (
            b"before\n--sep\r\n%b\r\n\r\nx\ny\r\n--sep--",
            b"--sep\r\n%b\nA: b\r\n\r\nx\ny\r\n--sep--",
            b"--sep\r\n%b\r\n\r\nx\ny\r\n--sep--\n",
            b"before\r\n--sep\n%b\n\nx\ny\n--sep--",
            b"--sep\n%b\r\n\r\nx\ny\n--sep--\n",
        ):
            part = self.take(body % head)
            self.assertEqual((part.filename, bytes(part.data)), ("a", b"x\ny"), body)
        for body in (
            b"--sep\n%b\n\nx\r\n--sep--\r\n",
            b"--sep\r\n%b\n\nx\r\n--sep--\r\n",
            b"--sep\r\n%b\n\nx\r\n\r\ny\r\n--sep--\r\n",
            b"--sep\r\n%b\r\n\r\nx\n--sep--\n",
        ):
            self.assertRaises(BadRequest, self.take, body % head)

    def test_folded_header_lines(self) -> None:
        for end in ("\r\n", "\n"):
            head = (
                'Content-Disposition: form-data; name="x";',
                '\t filename="a',
                '  b.txt"',
                "Content-Type: text/x;",
                " ",
            )
            lines = (*head, "\tq=1", "", "hello", "--sep--", "")
            part = self.take(end.join(("--sep", *lines)).encode())
            self.assertEqual((part.filename, bytes(part.data)), ("a b.txt", b"hello"))
            self.assertEqual(part.content_type.split(), ["text/x;", "q=1"])
            for first in (" A: b", "\tA: b", " "):
                body = end.join(("--sep", first, "C: d", "", "x", "--sep--"))
                self.assertRaises(BadRequest, self.take, body.encode())

    def test_a_disposition_that_is_malformed_names_nothing(self) -> None:
        for value in (
            "",
            'form-data; filename="a"b.txt"',
            "form-data; filename=a b.txt",
            "form-data; name=x; filename",
            'form-data; filename="open',
            '"form-data"; filename=a',
        ):
            bad = f"Content-Disposition: {value}\r\nContent-Type: a/b"
            part = self.take(form((bad, b"the file")))
            self.assertEqual((part.filename, part.content_type, bytes(part.data)), ("", "a/b", b"the file"))
            self.assertEqual(bytes(self.take(form((bad, b"one"), (file_head("b"), b"two"))).data), b"two")

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
            body.replace(b"\r\n", b"\n").replace(b"--sep--", b"--sep"),
            body.replace(b"\r\n", b"\r"),
            b"--sep\n" + b"X: y\n" * 10_000 + b"\n\n--sep--",
            b"--sep\r\n" + b"X: y\r\n" * 10_000 + b"\r\n\r\n--sep--",
            b"--sep\r\nno colon\r\n\r\nx\r\n--sep--",
            b"--sep\r\n: no name\r\n\r\nx\r\n--sep--",
            b"--sep\r\n" + b" y\r\n" * 10_000 + b"\r\n--sep--",
            form((file_head("a") + "\r\nContent-Transfer-Encoding: base64", b"eA==")),
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

    def test_many_near_boundaries_do_not_make_it_slow(self) -> None:
        content = b"\r\n--sepp" * 400_000  # 17 s each if a window is copied for each of them
        for begin in (b"", content):
            self.assertEqual(self.take(begin + b"\r\n" + form((file_head("a"), content))).data, content)

    @given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.sampled_from(["sep", "-", "a b"]))
    @example([b"\r"], "sep")
    def test_whatever_the_content(self, contents: list[bytes], boundary: str) -> None:
        assume(not any(b"--" + boundary.encode() in content for content in contents))
        content_type = f'multipart/form-data; boundary="{boundary}"'
        for at, content in enumerate(contents):
            heads = [file_head("a") if n == at else "A: b" for n in range(len(contents))]
            body = form(*zip(heads, contents, strict=True), boundary=boundary)
            self.assertEqual(bytes(first_file(body, content_type).data), content)

    @given(
        st.lists(st.sampled_from([b"--sep", b"\r\n", b"\n", b"--", b"A: b", file_head("a").encode(), b" ", b"x"])),
        st.sampled_from([b"\r\n", b"\n"]),
    )
    @example([file_head("a").encode(), b"\r\n", b"\r\n", b"x", b"\r\n", b"--sep", b"\r\n"], b"\r\n")
    @example([b"\r\n", b"\r\n", b"--sep", b"--sep"], b"\r\n")
    @example([b"\n", b"x", b"\r\n", b"--sep", b"\r\n"], b"\n")
    def test_any_body(self, pieces: list[bytes], end: bytes) -> None:
        middle = b"".join(pieces)
        first = re.search(rb"(?:\A|\n)--sep(?:--)?[ \t]*(\r?\n|\Z)", middle)
        begun = b"--sep" + end + middle
        for body, lines_end in (
            (middle, first[1] if first else end),
            (begun, end),
            (begun + end + b"--sep--" + end, end),
        ):
            try:
                part = first_file(body, TYPE)
            except BadRequest:
                continue
            self.assertIn(bytes(part.data), middle)
            # What only begins like a delimiter is content; the file's last line ends where the next part begins.
            self.assertNotRegex(
                bytes(part.data) + lines_end, re.escape(lines_end) + rb"--sep(?:--)?[ \t]*" + re.escape(lines_end)
            )

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        for begin, end in ((b"", b""), *((b"--sep" + line, line + b"--sep--") for line in (b"\r\n", b"\n"))):
            for body in (begin + data, begin + data + end):
                try:
                    part = first_file(body, TYPE)
                    form_fields(body, TYPE)
                except BadRequest:
                    continue
                self.assertIn(bytes(part.data), body)


class FormFieldsTests(SynchronousTestCase):
    def test_fields_in_their_order(self) -> None:
        body = form(
            ('Content-Disposition: form-data; name="b"', b"1"),
            ("Content-Disposition: form-data; name=a\r\nContent-Type: text/plain", "\u20ac & x=y\r\n".encode()),
            ('Content-Disposition: form-data; name="b"; filename=""', b""),
        )
        self.assertEqual(form_fields(body, TYPE), [("b", "1"), ("a", "\u20ac & x=y\r\n"), ("b", "")])
        self.assertEqual(
            form_fields(b'--sep\nContent-Disposition: form-data; name="a"\n\nb\n--sep--\n', TYPE), [("a", "b")]
        )
        self.assertEqual(form_fields(b"--sep--\r\n", TYPE), [])

    def test_files_and_what_has_no_name_are_no_fields(self) -> None:
        for head in (
            file_head("a"),
            "Content-Disposition: form-data",
            'Content-Disposition: form-data; name=""',
            'Content-Disposition: attachment; name="a"',
            'Content-Disposition: form-data; name="a"b"',
            "Content-Type: text/plain",
        ):
            self.assertEqual(form_fields(form((head, b"\xff")), TYPE), [], head)

    def test_malformed(self) -> None:
        body = form(('Content-Disposition: form-data; name="field"', b"value"))
        for bad, kind in (
            (body[:-10], TYPE),
            (b"field=value", TYPE),
            (body, "multipart/form-data"),
            (body, TYPE + "x"),
            (body.replace(b"name", b"name\r\nx"), TYPE),
        ):
            self.assertRaises(BadRequest, form_fields, bad, kind)
        with self.assertRaises(BadRequest) as caught:
            form_fields(body.replace(b"value", b"\xff"), TYPE)
        self.assertIn("field", str(caught.exception))


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
