"""Byte ranges, against a slow second reading of RFC 9110 §14."""

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import RangeNotSatisfiable
from weedtw.http.ranges import MOST_RANGES, ByteRange, byteranges, parse_ranges

ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
NUMBERS = st.one_of(st.just(""), st.integers(0, 40).map(str), st.sampled_from(["007", "9" * 19, "9" * 30, "x", "-1"]))
SPECS = st.one_of(st.builds("{}-{}".format, NUMBERS, NUMBERS), st.sampled_from(["", " ", "-", "1", "a-b", "1-2-3"]))


def cut(header: str | None, data: bytes = ALPHABET) -> list[bytes] | None:
    ranges = parse_ranges(header, len(data))
    return None if ranges is None else [data[part.start : part.stop] for part in ranges]


class ParseTests(SynchronousTestCase):
    def test_one(self) -> None:
        for header, content in (
            ("bytes=0-4", b"abcde"),
            ("bytes=-3", b"xyz"),
            ("bytes=20-", b"uvwxyz"),
            ("bytes=24-1000", b"yz"),
            ("bytes=25-25", b"z"),
            ("bytes=-100", ALPHABET),
            ("bytes=0-", ALPHABET),
            ("BYTES=0-0", b"a"),
            ("bytes= 0-0 ", b"a"),
            ("bytes=0-0,50-60", b"a"),
            ("bytes=,,0-0,", b"a"),
            ("bytes=00-00", b"a"),
            ("bytes=0-" + "9" * 5000, ALPHABET),
        ):
            self.assertEqual(cut(header), [content], header)

    def test_several_in_their_order(self) -> None:
        self.assertEqual(cut("bytes=20-, 0-1"), [b"uvwxyz", b"ab"])
        self.assertEqual(cut("bytes=0-1,1-2"), [b"ab", b"bc"])

    def test_what_is_no_range_request(self) -> None:
        for header in (
            None,
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "lines=0-4",
            "bytes 0-4",
            "bytes =0-4",
        ):
            self.assertIsNone(cut(header), header)

    def test_what_is_no_range(self) -> None:
        for text in ("5-2", "0-1,5-2", "-", "a-b", "0-1;2-3", "0x1-2", "--1", "1 - 2", "\u0661-\u0662"):
            with self.assertRaises(RangeNotSatisfiable, msg=text):
                cut(f"bytes={text}")

    def test_nothing_within_the_file(self) -> None:
        for header in ("bytes=26-", "bytes=30-40", "bytes=-0", "bytes=-0,26-", "bytes=" + "9" * 5000 + "-"):
            with self.assertRaises(RangeNotSatisfiable) as caught:
                cut(header)
            self.assertEqual(caught.exception.size, 26)

    def test_asking_for_more_than_there_is(self) -> None:
        for header in ("bytes=0-20,5-25", "bytes=0-,0-", "bytes=0-25,0-0", "bytes=" + "0-0," * (MOST_RANGES + 1)):
            self.assertIsNone(cut(header), header)

    def test_an_empty_file(self) -> None:
        self.assertRaises(RangeNotSatisfiable, cut, "bytes=0-", b"")
        self.assertRaises(RangeNotSatisfiable, cut, "bytes=-0", b"")
        self.assertIsNone(cut("bytes=-5", b""))

    @given(st.lists(SPECS, max_size=5), st.integers(0, 30))
    @example(["0-0"], 1)
    def test_as_a_slow_second_reading_has_it(self, specs: list[str], size: int) -> None:
        header = "bytes=" + ",".join(specs)
        try:
            ranges = parse_ranges(header, size)
        except RangeNotSatisfiable:
            ranges = ()
        self.assertEqual(ranges, slowly([spec.strip() for spec in specs if spec.strip()], size), header)

    @given(st.text() | st.text("0123456789-, "), st.integers(0, 30) | st.integers(0, 2**63))
    @example("0-4,7-", 10)
    def test_any_text(self, text: str, size: int) -> None:
        for header in (text, "bytes=" + text):
            try:
                ranges = parse_ranges(header, size)
            except RangeNotSatisfiable:
                continue
            for part in ranges or ():
                self.assertTrue(0 <= part.start < part.stop <= size)


def slowly(specs: list[str], size: int) -> tuple[ByteRange, ...] | None:
    """Position by position; () stands for a 416."""
    found = []
    whole_of_nothing = False
    for spec in specs:
        first, dash, last = spec.partition("-")
        if not dash or not (first or last) or not all(not n or (n.isascii() and n.isdigit()) for n in (first, last)):
            return ()
        if first and last and int(first) > int(last):
            return ()
        if first:
            inside = [at for at in range(size) if int(first) <= at and (not last or at <= int(last))]
        else:
            inside = [at for at in range(size) if at >= size - int(last)]
            whole_of_nothing = whole_of_nothing or (size == 0 and int(last) > 0)
        if inside:
            found.append(ByteRange(inside[0], inside[-1] + 1))
    if not specs or (not found and whole_of_nothing) or sum(part.length for part in found) > size:
        return None
    return tuple(found)


class LayoutTests(SynchronousTestCase):
    def test_content_range(self) -> None:
        self.assertEqual(ByteRange(20, 26).content_range(26), "bytes 20-25/26")

    def test_multipart(self) -> None:
        layout = byteranges([ByteRange(0, 2), ByteRange(20, 26)], 26, "text/plain", "sep")
        body = b"".join(
            head + ALPHABET[r.start : r.stop] for head, r in zip(layout.heads, layout.ranges, strict=True)
        )
        body += layout.tail
        self.assertEqual(layout.content_type, "multipart/byteranges; boundary=sep")
        self.assertEqual(len(body), layout.length)
        self.assertEqual(
            body.split(b"\r\n"),
            [
                b"--sep",
                b"Content-Type: text/plain",
                b"Content-Range: bytes 0-1/26",
                b"",
                b"ab",
                b"--sep",
                b"Content-Type: text/plain",
                b"Content-Range: bytes 20-25/26",
                b"",
                b"uvwxyz",
                b"--sep--",
                b"",
            ],
        )

    def test_a_type_cannot_break_out(self) -> None:
        layout = byteranges([ByteRange(0, 1), ByteRange(2, 3)], 3, "a/b\r\nX: y", "sep")
        self.assertNotIn(b"\r\nX", layout.heads[0])
        self.assertNotIn(b"Content-Type", byteranges([ByteRange(0, 1)], 3, "", "sep").heads[0])
