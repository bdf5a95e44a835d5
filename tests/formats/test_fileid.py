"""File ids and the URL paths that carry them."""

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadFileId
from weedtw.formats.fileid import (
    FileId,
    format_needle_id,
    looks_like_file_path,
    parse_needle_id,
    parse_path,
    parse_volume_id,
)

FILE_IDS = st.builds(FileId, st.integers(1, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))


class FileIdTests(SynchronousTestCase):
    def test_canonical_text(self) -> None:
        for fid, text in [
            (FileId(1, 1, 0x63337E4B), "1,0163337e4b"),
            (FileId(3, 0x1234, 0), "3,123400000000"),
            (FileId(3, 0x123, 7), "3,012300000007"),
            (FileId(2**32 - 1, 2**64 - 1, 2**32 - 1), "4294967295,ffffffffffffffffffffffff"),
            (FileId(5, 0, 0xAABBCCDD), "5,00aabbccdd"),
        ]:
            self.assertEqual(str(fid), text)
            self.assertEqual(FileId.parse(text), fid)
            self.assertEqual(fid.needle, text.partition(",")[2])

    def test_spellings_of_one_id(self) -> None:
        fid = FileId(3, 1, 0x637037D6)
        for text in ["3,01637037d6", "3,1637037d6", "3,01637037D6", "03,01637037d6", "3,0000000000000001637037d6"]:
            self.assertEqual(FileId.parse(text), fid)

    def test_delta_is_decimal_and_added_to_the_key(self) -> None:
        self.assertEqual(FileId.parse("3,01637037d6_2"), FileId(3, 3, 0x637037D6))
        self.assertEqual(FileId.parse("3,01637037d6_10"), FileId(3, 11, 0x637037D6))
        self.assertEqual(FileId.parse("3,01637037d6_0"), FileId(3, 1, 0x637037D6))

    def test_delta_must_not_wrap_around(self) -> None:
        self.assertEqual(FileId.parse("3,fffffffffffffffe637037d6_1").key, 2**64 - 1)
        for delta in ("2", "18446744073709551615", "99999999999999999999"):
            error = self.assertRaises(BadFileId, FileId.parse, f"3,fffffffffffffffe637037d6_{delta}")
            self.assertIn("64 bits", str(error))

    def test_refused(self) -> None:
        for text in [
            "",
            ",",
            "3",
            "3,",
            ",01637037d6",
            "3,637037d6",  # no digit of a key
            "3,zz",
            "3,zzzzzzzzzzzz",
            "abc,01637037d6",
            "0,01637037d6",
            "-3,01637037d6",
            "+3,01637037d6",
            " 3,01637037d6",
            "3,01637037d6 ",
            "3,01637037d6\n",
            "3 ,01637037d6",
            "3,0x637037d6a",
            "3,01637037d6_",
            "3,01637037d6_-1",
            "3,01637037d6_1_1",
            "3,01637037d6_a",
            "3,01637037d6_111111111111111111111",
            "3,01637_037d6",
            "4294967296,01637037d6",
            "4294967297,01637037d6",  # not volume 1
            "99999999999999999999999,01637037d6",
            "3,10000000000000001637037d6",  # 25 digits
            "3,01637037d6,1",
            "٣,01637037d6",
            "3,٠١٦٣٧٠٣٧٦٦",
            "3,0163.7037d6",
        ]:
            error = self.assertRaises(BadFileId, FileId.parse, text)
            self.assertEqual(error.text, text)
            self.assertNotEqual(error.reason, "")

    @given(FILE_IDS)
    def test_round_trip(self, fid: FileId) -> None:
        self.assertEqual(FileId.parse(str(fid)), fid)
        self.assertEqual(len(fid.needle) % 2, 0)
        self.assertEqual(parse_path(f"/{fid}").file_id, fid)

    @given(st.text() | st.text("0123456789abcdefABCDEF_,", min_size=9, max_size=25))
    @example("01637037d6_2")
    def test_any_text_parses_or_is_refused(self, text: str) -> None:
        for wrapped in (text, f"3,{text}", f"{text},01637037d6"):
            try:
                fid = FileId.parse(wrapped)
            except BadFileId:
                continue
            self.assertEqual(FileId.parse(str(fid)), fid)

    def test_parts(self) -> None:
        self.assertEqual(format_needle_id(1, 2), "0100000002")
        self.assertEqual(parse_needle_id("0100000002_3"), (4, 2))
        self.assertEqual(parse_volume_id("4294967295"), 2**32 - 1)
        self.assertRaises(BadFileId, parse_volume_id, "4294967296")


class PathTests(SynchronousTestCase):
    fid = FileId(3, 1, 0x637037D6)

    def test_forms(self) -> None:
        for path, extension, filename in [
            ("/3,01637037d6", "", ""),
            ("/3,01637037d6.jpg", ".jpg", ""),
            ("/3,01637037d6.", "", ""),
            ("/3,01637037d6.tar.gz", ".gz", ""),
            ("/3/01637037d6", "", ""),
            ("/3/01637037d6.jpg", ".jpg", ""),
            ("/3/01637037d6/my photo.jpg", ".jpg", "my photo.jpg"),
            ("/3/01637037d6/naïve", "", "naïve"),
            ("/3/01637037d6/", "", ""),
            ("/3/01637037d6/a.b,c_1.PNG", ".PNG", "a.b,c_1.PNG"),
            ("/3/01637037d6/.profile", "", ".profile"),
        ]:
            parsed = parse_path(path)
            self.assertEqual((parsed.file_id, parsed.extension, parsed.filename), (self.fid, extension, filename))
            self.assertTrue(looks_like_file_path(path))

    def test_delta_and_extension(self) -> None:
        parsed = parse_path("/3,01637037d6_2.jpg")
        self.assertEqual((parsed.file_id.key, parsed.extension), (3, ".jpg"))

    def test_refused(self) -> None:
        for path in [
            "",
            "/",
            "//",
            "3,01637037d6",
            "/3",
            "/3/",
            "//3,01637037d6",
            "/3,01637037d6/",
            "/3,01637037d6/name.jpg",
            "/3/01637037d6.jpg/name.jpg",
            "/3/01637037d6/a/b",
            "/3/zz",
            "/../3,01637037d6",
            "/3,../01637037d6",
        ]:
            error = self.assertRaises(BadFileId, parse_path, path)
            self.assertEqual(error.text, path)

    def test_what_looks_like_a_file(self) -> None:
        for path in ["/3,zz", "/abc,01637037d6", "/3/zz", "/4294967297/zz.jpg", "/3/x/y"]:
            self.assertTrue(looks_like_file_path(path), path)
        for path in ["", "/", "/status", "/3", "/favicon.ico", "/dir/assign", "/a/b/c", "/3/x/y/z", "/admin/sync"]:
            self.assertFalse(looks_like_file_path(path), path)
