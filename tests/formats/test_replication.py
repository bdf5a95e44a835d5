"""Replication: three digits, one byte."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadReplication
from weedtw.formats.replication import NO_REPLICATION, ReplicaPlacement


class ReplicaPlacementTests(SynchronousTestCase):
    def test_digits(self) -> None:
        for text, byte, copies in [
            ("000", 0, 1),
            ("001", 1, 2),
            ("010", 10, 2),
            ("100", 100, 2),
            ("110", 110, 3),
            ("200", 200, 3),
            ("012", 12, 4),
            ("255", 255, 13),
        ]:
            placement = ReplicaPlacement.parse(text)
            self.assertEqual((placement.byte, placement.copies, str(placement)), (byte, copies, text))
        self.assertEqual(ReplicaPlacement.parse("120"), ReplicaPlacement(other_dcs=1, other_racks=2, same_rack=0))
        self.assertEqual(NO_REPLICATION.copies, 1)

    def test_refused(self) -> None:
        for text in ["", "1", "01", "0000", "0x1", "-01", " 01", "001\n", "٠٠١", "256", "300", "999", "a01"]:
            error = self.assertRaises(BadReplication, ReplicaPlacement.parse, text)
            self.assertIn(text.strip(), error.text)

    def test_never_more_than_a_byte_holds(self) -> None:
        self.assertRaises(BadReplication, ReplicaPlacement.from_byte, 256)
        self.assertRaises(BadReplication, ReplicaPlacement.from_byte, -1)
        self.assertRaises(BadReplication, ReplicaPlacement, 2, 6, 0)
        self.assertRaises(ValueError, ReplicaPlacement, 0, 0, 10)

    @given(st.integers(0, 255))
    def test_round_trip(self, byte: int) -> None:
        placement = ReplicaPlacement.from_byte(byte)
        self.assertEqual(placement.byte, byte)
        self.assertEqual(ReplicaPlacement.parse(str(placement)), placement)
