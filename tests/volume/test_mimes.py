"""Types by extension, and what is worth compressing."""

import os

from twisted.trial.unittest import SynchronousTestCase

from weedtw.volume.mimes import essence, is_compressible, looks_like_text, type_of_name


class MimeTests(SynchronousTestCase):
    def test_types_do_not_depend_on_the_host(self) -> None:
        for name, kind in {
            "a.css": "text/css; charset=utf-8",
            "A.PNG": "image/png",
            "b.jpeg": "image/jpeg",
            "c.js": "text/javascript; charset=utf-8",
            "d.webp": "image/webp",
            "page.html": "text/html; charset=utf-8",
            "bill.docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "x.tar.gz": "application/gzip",
            "noextension": "",
            "": "",
            ".png": "",
            "x.nosuchthing": "",
        }.items():
            self.assertEqual(type_of_name(name), kind, name)

    def test_parameters_and_case_are_not_the_essence(self) -> None:
        self.assertEqual(essence(" Text/HTML ; charset=x"), "text/html")

    def test_texts_are_worth_compressing_and_pictures_are_not(self) -> None:
        for kind in ("text/plain; charset=utf-8", "application/xml", "application/atom+xml", "application/javascript",
                     "audio/x-wav", "TEXT/CSS", "image/svg+xml"):  # fmt: skip
            self.assertTrue(is_compressible(kind, b""), kind)
        for kind in ("image/png", "application/octet-stream", "application/json", "video/mp4", "x"):
            self.assertFalse(is_compressible(kind, b"text all the same"), kind)

    def test_without_a_type_the_first_bytes_tell(self) -> None:
        self.assertTrue(is_compressible("", "Grüße aus Köln\r\n\tund mehr".encode() * 40))
        self.assertFalse(is_compressible("", b"\x89PNG\r\n\x1a\n"))
        self.assertFalse(is_compressible("", os.urandom(2000)))
        self.assertFalse(is_compressible("", b""))

    def test_a_character_at_the_cut_does_not_matter(self) -> None:
        for lead in range(4):
            self.assertTrue(looks_like_text(b"x" * (510 + lead) + "日本".encode() * 10), lead)
        self.assertFalse(looks_like_text(b"x" * 511 + b"\xff" * 10 + b"\xfe"[:0]) and looks_like_text(b"\xff"))
