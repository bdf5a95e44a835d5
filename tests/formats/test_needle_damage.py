"""Damaged needle records: always `Damaged`, always with the file's name, never anything else."""

import os
import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged
from weedtw.formats.needle import Needle, data_location, pack, record_length, unpack, unpack_around, unpack_header
from weedtw.formats.ttl import Ttl

FULL = Needle(
    0xAABBCCDD,
    0x1234,
    b"some data here",
    name=b"a.txt",
    mime=b"text/plain",
    last_modified=1_000_000_000,
    ttl=Ttl.parse("3M"),
    pairs=b'{"A":"b"}',
    append_at_ns=77,
)
PATH = "/data/9.dat"


def changed(at: int, new: str, version: int = 3) -> bytes:
    """The full record with other bytes (in hexadecimal) at one place."""
    record = bytearray(pack(FULL, version))
    data = bytes.fromhex(new)
    record[at : at + len(data)] = data
    return bytes(record)


class DamageTests(SynchronousTestCase):
    def check_damaged(self, record: bytes, words: str, version: int = 3) -> None:
        error = self.assertRaises(Damaged, unpack, record, version, path=PATH)
        self.assertIn(words, error.reason)
        self.assertIn(PATH, str(error))

    def test_size_fields(self) -> None:
        flags = 20 + len(FULL.data)
        self.check_damaged(changed(12, "ffffffff"), "needle 1234: its size is -1")
        self.check_damaged(changed(12, "80000000"), "its size is -2147483648")
        self.check_damaged(changed(12, "7fffffff"), "cut off")
        self.check_damaged(changed(12, "00000003"), "cut off within data_size")
        self.check_damaged(changed(16, "00000033"), "data of 51 bytes runs past the end of its body of 54")
        self.check_damaged(changed(16, "ffffffff"), "data of 4294967295 bytes runs past")
        self.check_damaged(changed(flags + 1, "ff"), "name runs past the end of its body")
        self.check_damaged(changed(flags + 7, "ff"), "mime type runs past")
        self.check_damaged(changed(flags + 25, "ffff"), "pairs runs past")
        self.check_damaged(changed(flags + 1, "22"), "mime type runs past")

    def test_body_that_ends_within_a_field(self) -> None:
        flags = 20 + len(FULL.data)
        words = ["name", "name", "mime type", "mime type", "modification time", "time to live", "pairs", "pairs"]
        ends = [flags + 1, flags + 3, flags + 7, flags + 9, flags + 20, flags + 24, flags + 26, flags + 30]
        for end, word in zip(ends, words, strict=True):
            self.check_damaged(changed(12, f"{end - 16:08x}"), f"its {word} runs past")

    def test_time_to_live(self) -> None:
        self.check_damaged(changed(20 + len(FULL.data) + 24, "07"), "time to live is unreadable")

    def test_crc(self) -> None:
        self.check_damaged(changed(20, "53"), "needle 1234: its data has crc")
        for version in (1, 2):
            self.check_damaged(changed(25, "00", version), "stored is", version)
        crc = len(pack(FULL)) - record_length(0, 3) + 16
        self.assertNotEqual(changed(crc, "00000000"), pack(FULL))
        unread = unpack(changed(20, "53"), 3, path=PATH, verify=False)
        self.assertEqual((unread.data, unread.checksum), (b"Some data here", FULL.checksum))

    def test_cut_off_anywhere(self) -> None:
        for version in (1, 2, 3):
            for needle in (FULL, Needle(1, 2, b"")):
                record = pack(needle, version)
                size = unpack_header(record)[2]
                whole = 16 + size + (12 if version == 3 else 4)
                for end in range(whole):
                    for part in (record[:end], memoryview(record)[:end]):
                        error = self.assertRaises(Damaged, unpack, part, version, path=PATH)
                        self.assertEqual(error.path, PATH)
                for end in range(whole, len(record)):
                    self.assertEqual(unpack(record[:end], version).data, needle.data)

    def test_parts_cut_off(self) -> None:
        record = pack(FULL)
        for end in range(16):
            self.assertRaises(Damaged, unpack_header, record[:end], path=PATH)
        for end in range(20):
            self.assertRaises(Damaged, data_location, record[:end], 3, path=PATH)
        rest = record[20 + len(FULL.data) :]
        for end in range(54 - 4 - len(FULL.data) + 12):
            self.assertRaises(Damaged, unpack_around, record[:20], rest[:end], 3, path=PATH)

    def test_one_bit_flipped(self) -> None:
        """A flipped bit is Damaged, or gives a needle with the data unharmed."""
        for version in (1, 2, 3):
            record = pack(FULL, version)
            for bit in range(len(record) * 8):
                flipped = bytearray(record)
                flipped[bit // 8] ^= 1 << bit % 8
                try:
                    needle = unpack(flipped, version, path=PATH)
                except Damaged as error:
                    self.assertEqual(error.path, PATH)
                else:
                    self.assertEqual(needle.data, FULL.data)

    @given(st.binary(max_size=200), st.sampled_from((1, 2, 3)), st.booleans())
    def test_any_bytes(self, record: bytes, version: int, verify: bool) -> None:
        try:
            unpack(record, version, path=PATH, verify=verify)
        except Damaged as error:
            self.assertEqual(error.path, PATH)

    @given(st.binary(max_size=90), st.sampled_from((1, 2, 3)), st.integers(0, 100))
    def test_any_body(self, body: bytes, version: int, size: int) -> None:
        record = pack(Needle(1, 2, b""), 1)[:12] + size.to_bytes(4) + body
        try:
            needle = unpack(memoryview(record), version, path=PATH, verify=False)
        except Damaged as error:
            self.assertEqual(error.path, PATH)
        else:
            self.assertLessEqual(len(needle.data), size)

    def test_many_random_changes(self) -> None:
        seed = int(os.environ.get("WEEDTW_SEED") or random.SystemRandom().randrange(1 << 32))
        rng = random.Random(seed)
        record = pack(FULL)
        for _ in range(3000):
            broken = bytearray(record)
            for _ in range(rng.randrange(1, 6)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            del broken[rng.randrange(len(broken) + 1) :]
            try:
                needle = unpack(broken, 3, path=PATH)
            except Damaged as error:
                self.assertEqual(error.path, PATH)
            except Exception as error:
                raise AssertionError(f"WEEDTW_SEED={seed}: {broken.hex()}") from error
            else:  # one without data may be a deletion, which carries the checksum of what it deletes
                self.assertIn(needle.data, (FULL.data, b""), f"WEEDTW_SEED={seed}: {broken.hex()}")
