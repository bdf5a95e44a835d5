"""The Raft paper's figure 13, "InstallSnapshot RPC", one test per rule for its receiver."""

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.solo import Solo, entries, membership
from weedtw.errors import BadRequest
from weedtw.raft.messages import AppendReply, HeartbeatReply, Message, Snapshot, SnapshotChunk, SnapshotReply

STATE = b"everything"
NEW = membership("1234")


def chunk(start: int, stop: int, *, term: int = 2, index: int = 5, index_term: int = 1) -> SnapshotChunk:
    return SnapshotChunk("2", "1", term, index, index_term, NEW, start, len(STATE), STATE[start:stop])


class InstallSnapshot(SynchronousTestCase):
    """Figure 13; the file that it writes piece by piece is in memory here, until it is complete."""

    def test_1_an_older_term_is_refused(self) -> None:
        """A leader of the past is told the current term."""
        node = Solo(term=3)
        self.assertEqual(node.step(chunk(0, 10)), [HeartbeatReply("1", "2", 3, round=0)])
        self.assertEqual(node.core.log.snapshot, Snapshot(membership=membership("123")))

    def test_2_the_first_chunk_begins_a_snapshot(self) -> None:
        """One that is begun again, or another one, replaces what had come of it."""
        node = Solo()
        node.step(chunk(0, 4, index=3))
        self.assertEqual(node.step(chunk(0, 4)), [SnapshotReply("1", "2", 2, 5, 4)])

    def test_3_chunks_are_put_in_their_place(self) -> None:
        """Each where it belongs; one that does not follow is answered with how far the snapshot has come."""
        node = Solo()
        node.step(chunk(0, 4))
        self.assertEqual(node.step(chunk(0, 4)), [SnapshotReply("1", "2", 2, 5, 4)])
        self.assertEqual(node.step(chunk(8, 10)), [SnapshotReply("1", "2", 2, 5, 4)])
        self.assertEqual(node.step(chunk(4, 8)), [SnapshotReply("1", "2", 2, 5, 8)])

    def test_4_nothing_happens_before_the_last_chunk(self) -> None:
        """It is answered, and more is waited for."""
        node = Solo(log=[1, 1], term=1)
        node.step(chunk(0, 8))
        self.assertEqual((node.core.log.last_index, node.restored), (2, []))

    def test_5_it_is_saved(self) -> None:
        """On disk before it is confirmed, and instead of whatever stood in the log."""
        node = Solo(log=[1, 1], term=1)
        node.step(chunk(0, 8))
        self.assertEqual(node.step(chunk(8, 10)), [AppendReply("1", "2", 2, 5)])
        stored = node.storage.load()
        self.assertEqual((stored.snapshot, stored.entries), (Snapshot(5, 1, NEW, STATE), ()))

    def test_6_entries_behind_it_are_kept(self) -> None:
        """When the log holds the snapshot's last entry already, the snapshot brings only news of the commit."""
        node = Solo(log=[1, 1, 1, 1, 1, 1], term=1)
        sent: list[Message] = node.step(chunk(0, 4))
        self.assertEqual(sent, [AppendReply("1", "2", 2, 5)])
        self.assertEqual(node.storage.load().entries, entries([1] * 6))
        self.assertEqual((node.applied, node.restored), (list(entries([1] * 5)), []))

    def test_7_all_of_another_log_is_discarded(self) -> None:
        """Entries of another history go, also those behind the snapshot's end."""
        node = Solo(log=[1, 1, 2, 2, 2, 2], term=2)
        node.step(chunk(0, 10))
        self.assertEqual((node.core.log.last_index, node.core.log.last_term, node.storage.load().entries), (5, 1, ()))

    def test_8_the_state_machine_is_replaced(self) -> None:
        """By the snapshot's content, and the membership by the snapshot's; again after every restart."""
        node = Solo(log=[1, 1], term=1, commit=1)
        node.step(chunk(0, 10))
        self.assertEqual(node.restored, [Snapshot(5, 1, NEW, STATE)])
        self.assertEqual(node.core.log.membership, NEW)
        node.start()
        self.assertEqual(node.restored, [Snapshot(5, 1, NEW, STATE)])

    def test_a_snapshot_older_than_the_commit_is_not_taken(self) -> None:
        """It comes late: what it holds is here."""
        node = Solo(log=[1] * 6, term=1, commit=6)
        self.assertEqual(node.step(chunk(0, 10)), [AppendReply("1", "2", 2, 6)])
        self.assertEqual(node.restored, [])

    def test_one_that_is_too_long_is_refused(self) -> None:
        """Not in the figure: what is kept in memory has a bound."""
        node = Solo()
        with self.assertRaises(BadRequest):
            node.step(SnapshotChunk("2", "1", 2, 5, 1, NEW, 0, node.settings.max_snapshot + 1, b""))

    def test_nor_one_from_the_future(self) -> None:
        """Not in the figure: what it covers cannot be of a later term than the leader that sends it."""
        node = Solo()
        with self.assertRaises(BadRequest):
            node.step(SnapshotChunk("2", "1", 2, 5, 3, NEW, 0, 1, b"x"))
        self.assertEqual((node.restored, node.core.log.last_index), ([], 0))
