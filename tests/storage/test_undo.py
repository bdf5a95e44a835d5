"""A write or deletion that failed elsewhere is taken back: what was there before is there again, for good."""

import os

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest, CookieMismatch, NeedleNotFound
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.storage.names import VolumeFiles
from weedtw.storage.testing import ManualClock, QuickOps, scratch
from weedtw.storage.undo import Undo
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume


class UndoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = scratch(self)
        self.clock = ManualClock()
        self.files = VolumeFiles(self.folder, self.folder, "", 3)
        self.volume = Volume.create(
            self.folder, None, "", 3, replication=ReplicaPlacement(), clock=self.clock, ops=QuickOps()
        )

    def write(self, data: bytes, cookie: int = 1) -> Undo:
        undo = self.volume.write(Needle(cookie, 5, data, name=b"n", last_modified=9)).undo
        assert undo is not None
        return Undo.parse(str(undo))  # as it comes back over the wire

    def delete(self) -> Undo:
        deleted = self.volume.delete(5, 1)
        assert deleted is not None
        return Undo.parse(str(deleted.undo))

    def check(self, data: bytes | None) -> None:
        """So it is now, after a restart, and after the index was lost."""
        for way in ("now", "restart", "rebuild"):
            if way != "now":
                self.volume.close()
                if way == "rebuild":
                    os.unlink(self.files.idx)
                self.volume = Volume.open(self.files, clock=self.clock, ops=QuickOps())
            if data is None:
                self.assertRaises(NeedleNotFound, self.volume.read, 5, 1)
            else:
                needle = self.volume.read(5, 1)
                self.assertEqual((bytes(needle.data), needle.last_modified), (data, 9))
                self.assertEqual(needle.name, b"n" if data else b"")

    def vacuum(self) -> None:
        compact(self.volume).commit()

    def test_a_first_write(self) -> None:
        self.assertTrue(self.volume.revert(self.write(b"new")))
        self.check(None)

    def test_an_overwrite(self) -> None:
        for before, after in ((b"old", b"new"), (b"", b"new"), (b"old", b"")):
            self.write(before)
            self.assertTrue(self.volume.revert(self.write(after)))
            self.check(before)

    def test_after_a_deletion(self) -> None:
        self.write(b"old")
        self.delete()
        self.assertTrue(self.volume.revert(self.write(b"new")))
        self.check(None)

    def test_a_deletion(self) -> None:
        for data in (b"old", b""):
            self.write(data)
            self.assertTrue(self.volume.revert(self.delete()))
            self.check(data)

    def test_a_later_write_stands(self) -> None:
        undo = self.write(b"one")
        self.write(b"two")
        self.assertFalse(self.volume.revert(undo))
        self.check(b"two")
        deletion = self.delete()
        self.write(b"three")
        self.assertFalse(self.volume.revert(deletion))
        self.check(b"three")

    def test_a_later_deletion_stands(self) -> None:
        undo = self.write(b"one")
        self.delete()
        self.assertFalse(self.volume.revert(undo))
        self.check(None)

    def test_twice_is_once(self) -> None:
        self.write(b"old")
        undo = self.write(b"new")
        self.assertTrue(self.volume.revert(undo))
        self.assertFalse(self.volume.revert(undo))
        self.check(b"old")
        undo = self.delete()
        self.assertTrue(self.volume.revert(undo))
        self.assertFalse(self.volume.revert(undo))
        self.check(b"old")

    def test_unchanged_has_nothing_to_undo(self) -> None:
        needle = Needle(1, 5, b"same")
        self.volume.write(needle)
        self.assertIsNone(self.volume.write(needle).undo)

    def test_a_vacuum_between_overwrite_and_undo(self) -> None:
        """The old content is gone when the vacuum began after the overwrite; the new one must go all the same."""
        self.write(b"old")
        undo = self.write(b"new")
        self.vacuum()
        self.assertTrue(self.volume.revert(undo))
        self.check(None)

    def test_an_overwrite_during_a_vacuum(self) -> None:
        self.volume.write(Needle(1, 4, b"something before it"))
        self.volume.delete(4, 1)
        self.write(b"old")
        compaction = compact(self.volume)
        undo = self.write(b"new")
        compaction.commit()
        self.assertTrue(self.volume.revert(undo))
        self.check(b"old")

    def test_a_deletion_during_a_vacuum(self) -> None:
        self.write(b"old")
        compaction = compact(self.volume)
        undo = self.delete()
        compaction.commit()
        self.assertTrue(self.volume.revert(undo))
        self.check(b"old")

    def test_a_deletion_before_a_vacuum_is_final(self) -> None:
        self.write(b"old")
        undo = self.delete()
        self.vacuum()
        self.assertFalse(self.volume.revert(undo))
        self.check(None)

    def test_what_was_expired_does_not_come_back(self) -> None:
        self.volume.write(Needle(1, 5, b"old", ttl=Ttl.parse("1m")))
        self.clock.advance(61)
        undo = self.write(b"new")
        self.assertTrue(self.volume.revert(undo))
        self.check(None)

    def test_the_cookie_is_free_again(self) -> None:
        self.volume.revert(self.write(b"new", cookie=7))
        self.assertRaises(NeedleNotFound, self.volume.read, 5, 7)
        self.write(b"other", cookie=1)
        self.assertRaises(CookieMismatch, self.volume.read, 5, 7)

    def test_text(self) -> None:
        undo = Undo(2**64 - 1, 2**32 - 1, 2**63, 8 << 40, 65535, 0, -1)
        self.assertEqual(Undo.parse(str(undo)), undo)
        for text in ("", "1.2.3", "a.b.c.d.e.f.g", "1.2.3.4.5.6.7.8", "1.2.3.4.5.6." + "7" * 30, "-1.2.3.4.5.6.7"):
            self.assertRaises(BadRequest, Undo.parse, text)
