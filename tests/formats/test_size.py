"""Sizes for people."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.formats.size import format_size


class SizeTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        for count, text in (
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 52, "1023.9 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (5 << 50, "5.0 PiB"),
            (5000 << 50, "5000.0 PiB"),
        ):
            self.assertEqual(format_size(count), text)

    @given(st.integers(0, (1 << 60) - (1 << 55)))
    def test_a_number_below_the_next_unit(self, count: int) -> None:
        self.assertLess(float(format_size(count).partition(" ")[0]), 1024)
