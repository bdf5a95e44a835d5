"""Times to live: text, bytes, seconds."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadTtl
from weedtw.formats.ttl import NO_TTL, Ttl

TTLS = st.builds(Ttl, st.integers(1, 255), st.integers(1, 6))


class TtlTests(SynchronousTestCase):
    def test_normalised_as_seaweedfs_does(self) -> None:
        for text, normal in [
            ("60m", "1h"),
            ("24h", "1d"),
            ("7d", "1w"),
            ("30d", "1M"),
            ("365d", "1y"),
            ("300m", "5h"),
            ("90m", "90m"),
            ("3", "3m"),
            ("256m", "4h"),
            ("400d", "57w"),
            ("3m", "3m"),
            ("4h", "4h"),
            ("5d", "5d"),
            ("6w", "6w"),
            ("7M", "7M"),
            ("8y", "8y"),
            ("255y", "255y"),
        ]:
            self.assertEqual(str(Ttl.parse(text)), normal)

    def test_no_limit(self) -> None:
        for text in ("", "0", "0m", "0y", "000"):
            self.assertEqual(Ttl.parse(text), NO_TTL)
        self.assertFalse(NO_TTL)
        self.assertEqual((str(NO_TTL), NO_TTL.seconds, NO_TTL.to_bytes(), NO_TTL.to_uint32()), ("", 0, b"\0\0", 0))

    def test_refused(self) -> None:
        for text in ["m", "xx", "3q", "-3m", "+3m", "3.5h", "3mm", "3 m", " 3m", "3m\n", "0x3m", "٣m", "256y"]:
            error = self.assertRaises(BadTtl, Ttl.parse, text)
            self.assertEqual(error.text, text)
        self.assertRaises(BadTtl, Ttl.parse, "9" * 5000)

    def test_bytes(self) -> None:
        self.assertEqual(Ttl.parse("5m").to_bytes(), b"\x05\x01")
        self.assertEqual(Ttl.parse("2d").to_bytes(), b"\x02\x03")
        self.assertEqual(Ttl.parse("5m").to_uint32(), 0x0501)
        self.assertEqual(Ttl.from_bytes(memoryview(b"\x02\x03")), Ttl(2, 3))

    def test_bytes_refused(self) -> None:
        for data in (b"", b"\x05", b"\x05\x01\x00", b"\x05\x07", b"\x00\xff"):
            self.assertRaises(BadTtl, Ttl.from_bytes, data)
        for value in (-1, 0x10000, 0x0507):
            self.assertRaises(BadTtl, Ttl.from_uint32, value)

    def test_half_a_limit_is_none(self) -> None:
        self.assertEqual(Ttl.from_bytes(b"\x05\x00"), NO_TTL)
        self.assertEqual(Ttl.from_bytes(b"\x00\x03"), NO_TTL)

    def test_seconds(self) -> None:
        day = 86400
        units = {"m": 60, "h": 3600, "d": day, "w": 7 * day, "M": 30 * day, "y": 365 * day}
        for letter, seconds in units.items():
            self.assertEqual(Ttl.parse(f"1{letter}").seconds, seconds)

    def test_only_what_two_bytes_hold(self) -> None:
        for count, unit in ((256, 1), (-1, 1), (1, 7), (1, -1)):
            self.assertRaises(ValueError, Ttl, count, unit)

    @given(TTLS)
    def test_round_trip(self, ttl: Ttl) -> None:
        self.assertEqual(Ttl.from_bytes(ttl.to_bytes()), ttl)
        self.assertEqual(Ttl.from_uint32(ttl.to_uint32()), ttl)
        self.assertEqual(Ttl.parse(str(ttl)).seconds, ttl.seconds)

    @given(st.integers(1, 255 * 365 * 24 * 60))
    def test_cut_down_by_less_than_a_unit(self, minutes: int) -> None:
        ttl = Ttl.parse(str(minutes))
        self.assertTrue(0 <= minutes * 60 - ttl.seconds < ttl.seconds / ttl.count)
