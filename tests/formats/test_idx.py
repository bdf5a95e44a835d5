"""Index rows, of both kinds."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged
from weedtw.formats import idx
from weedtw.formats.needle import record_length

WIDTHS = st.sampled_from(idx.OFFSET_WIDTHS)
ROW = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(-1, 2**31 - 1))


def index_of_a_volume(sizes: list[int], keys: list[int], width: int) -> tuple[bytes, int]:
    """The index of records written one after the other, and the length of their .dat file."""
    rows, end = b"", 8
    for key, size in zip(keys, sizes, strict=True):
        rows += idx.pack_row(key, end, size, width)
        end += record_length(max(size, 0), 3)
    return rows, end


class RowTests(SynchronousTestCase):
    def test_golden(self) -> None:
        self.assertEqual(idx.pack_row(0x0C, 2136, 65, 5), bytes.fromhex("000000000000000c 0000010b 00 00000041"))
        self.assertEqual(idx.pack_row(0x0C, 2136, 65, 4), bytes.fromhex("000000000000000c 0000010b 00000041"))
        self.assertEqual(idx.pack_row(1, 8, idx.TOMBSTONE, 4), bytes.fromhex("0000000000000001 00000001 ffffffff"))

    def test_fifth_byte_follows_the_low_four(self) -> None:
        row = idx.pack_row(1, 32 * 2**30 + 8, 5, 5)
        self.assertEqual(row, bytes.fromhex("0000000000000001 00000001 01 00000005"))
        self.assertEqual(idx.unpack_rows(row, 5).offsets.tolist(), [32 * 2**30 + 8])

    def test_limits(self) -> None:
        for width, limit in ((4, 32 * 2**30), (5, 8 * 2**40)):
            self.assertEqual(idx.max_volume_size(width), limit)
            row = idx.pack_row(2**64 - 1, limit - 8, 2**31 - 1, width)
            keys, offsets, sizes = idx.unpack_rows(row, width)
            self.assertEqual((int(keys[0]), int(offsets[0]), int(sizes[0])), (2**64 - 1, limit - 8, 2**31 - 1))
            for offset in (limit, limit + 8, -8, 4):
                self.assertRaises(ValueError, idx.pack_row, 1, offset, 0, width)

    def test_columns_are_native(self) -> None:
        for width in idx.OFFSET_WIDTHS:
            for data in (b"", idx.pack_row(1, 8, 0, width)):
                keys, offsets, sizes = idx.unpack_rows(memoryview(data), width)
                self.assertEqual((keys.dtype, offsets.dtype, sizes.dtype), (np.uint64, np.int64, np.int32))
                self.assertEqual(len(keys), len(data) // idx.ROW_SIZES[width])
                self.assertTrue(all(c.flags.c_contiguous and c.flags.writeable for c in (keys, offsets, sizes)))

    def test_part_of_a_row_is_damage(self) -> None:
        error = self.assertRaises(Damaged, idx.unpack_rows, bytes(18), 5, path="/data/9.idx")
        self.assertEqual(error.path, "/data/9.idx")
        self.assertIn("rows of 17", error.reason)

    @given(WIDTHS, st.lists(ROW, max_size=30))
    def test_round_trip(self, width: int, rows: list[tuple[int, int, int]]) -> None:
        data = b"".join(idx.pack_row(key, units * 8, size, width) for key, units, size in rows)
        keys, offsets, sizes = idx.unpack_rows(data, width)
        self.assertEqual(
            list(zip(keys.tolist(), offsets.tolist(), sizes.tolist(), strict=True)),
            [(key, units * 8, size) for key, units, size in rows],
        )


class GuessTests(SynchronousTestCase):
    def test_nothing_to_go_by(self) -> None:
        self.assertEqual(idx.guess_offset_width(b"", 8), 4)
        self.assertEqual(idx.guess_offset_width(b"", 8, default=5), 5)

    @given(
        WIDTHS,
        WIDTHS,
        st.lists(st.tuples(st.integers(1, 2**64 - 1), st.sampled_from((-1, 0, 5, 29, 587, 5000))), min_size=1),
    )
    def test_whole_indexes(self, width: int, default: int, rows: list[tuple[int, int]]) -> None:
        data, dat_size = index_of_a_volume([size for _, size in rows], [key for key, _ in rows], width)
        self.assertEqual(idx.guess_offset_width(data, dat_size, default=default), width)

    def test_length_that_fits_both(self) -> None:
        for width, count in ((4, 17), (5, 16)):
            data, dat_size = index_of_a_volume([29] * count, list(range(1, count + 1)), width)
            self.assertEqual(len(data), 272)
            for default in idx.OFFSET_WIDTHS:
                self.assertEqual(idx.guess_offset_width(data, dat_size, default=default), width)

    def test_torn_and_long(self) -> None:
        rng = random.Random(20)
        for width in idx.OFFSET_WIDTHS:
            for count in (8, 100, 6000):
                sizes = [rng.choice((-1, 0, 29, 587)) for _ in range(count)]
                data, dat_size = index_of_a_volume(sizes, [rng.getrandbits(40) for _ in sizes], width)
                for cut in range(1, 17):
                    self.assertEqual(idx.guess_offset_width(data[:-cut], dat_size), width)
                self.assertEqual(idx.guess_offset_width(data + bytes(7), dat_size), width)

    def test_deletions_without_a_record(self) -> None:
        rows = b"".join(idx.pack_row(key, 0, idx.TOMBSTONE, 5) for key in range(1, 17))
        self.assertEqual(idx.guess_offset_width(rows, 8), 5)

    @given(st.binary(max_size=200), st.integers(0, 2**50))
    def test_any_bytes(self, data: bytes, dat_size: int) -> None:
        self.assertIn(idx.guess_offset_width(data, dat_size), idx.OFFSET_WIDTHS)
