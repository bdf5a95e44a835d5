"""The first bytes of a .dat file."""

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.superblock import SuperBlock
from weedtw.formats.ttl import Ttl

SUPER_BLOCKS = st.builds(
    SuperBlock,
    version=st.sampled_from((1, 2, 3)),
    replication=st.builds(ReplicaPlacement.from_byte, st.integers(0, 255)),
    ttl=st.builds(Ttl, st.integers(1, 255), st.integers(1, 6)) | st.just(Ttl()),
    compaction_revision=st.integers(0, 2**16 - 1),
    extra=st.binary(max_size=40),
)


class SuperBlockTests(SynchronousTestCase):
    def test_golden(self) -> None:
        block = SuperBlock(3, ReplicaPlacement.parse("001"), Ttl.parse("2d"), 1)
        self.assertEqual(block.pack(), bytes.fromhex("03 01 02 03 0001 0000"))
        self.assertEqual(SuperBlock().pack(), bytes.fromhex("03 00 00 00 0000 0000"))

    def test_records_begin_aligned_behind_the_extra_part(self) -> None:
        block = SuperBlock(extra=b"abc")
        self.assertEqual(block.pack(), bytes.fromhex("03 00 00 00 0000 0003 616263 0000000000"))
        self.assertEqual(block.size, 16)

    def test_revision_wraps(self) -> None:
        self.assertEqual(SuperBlock.unpack(SuperBlock(compaction_revision=65536).pack()).compaction_revision, 0)

    def test_refused(self) -> None:
        for data, words in [
            ("", "0 bytes are too few"),
            ("03 00 00 00 0000 00", "7 bytes are too few"),
            ("00 00 00 00 0000 0000", "version 0"),
            ("04 00 00 00 0000 0000", "version 4"),
            ("ff ff ff ff ffff ffff", "version 255"),
            ("03 00 05 07 0000 0000", "time to live"),
            ("03 00 00 00 0000 0003 6162", "extra part of 3 bytes is cut off"),
        ]:
            error = self.assertRaises(Damaged, SuperBlock.unpack, bytes.fromhex(data), path="/data/9.dat")
            self.assertIn(words, error.reason)
            self.assertEqual(error.path, "/data/9.dat")

    def test_cannot_be_made_wrong(self) -> None:
        self.assertRaises(ValueError, SuperBlock, 4)
        self.assertRaises(ValueError, SuperBlock, extra=bytes(65536))

    @given(SUPER_BLOCKS, st.binary(max_size=8))
    def test_round_trip(self, block: SuperBlock, behind: bytes) -> None:
        packed = block.pack()
        self.assertEqual(len(packed), block.size)
        self.assertEqual(block.size % 8, 0)
        self.assertEqual(SuperBlock.unpack(memoryview(packed + behind)), block)

    @given(st.binary(max_size=64) | st.binary(min_size=8, max_size=20).map(lambda data: b"\3\0\0\0" + data[4:]))
    @example(b"\3\1\0\0\0\5\0\0")
    def test_any_bytes_are_read_or_damaged(self, data: bytes) -> None:
        try:
            block = SuperBlock.unpack(data, path="x")
        except Damaged:
            return
        self.assertEqual(SuperBlock.unpack(block.pack()), block)
