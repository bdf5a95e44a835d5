"""A disk that refuses: an error for the caller, the volume as it was, and no writes where they cannot be trusted."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged, NeedleNotFound, ReadOnlyVolume, StorageError, WriteFailed
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.storage.names import VolumeFiles
from weedtw.storage.testing import Fault, FaultyOps, ManualClock, PowerCutOps, scratch
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume


class FailingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = scratch(self)
        self.clock = ManualClock()
        self.ops = FaultyOps()
        self.files = VolumeFiles(self.folder, self.folder, "", 3)
        self.volume = Volume.create(
            self.folder, None, "", 3, replication=ReplicaPlacement(), clock=self.clock, ops=self.ops
        )
        self.volume.write(Needle(1, 1, b"before"))
        self.told: list[str] = []
        self.volume.on_change = lambda volume: self.told.append(volume.read_only_reason)

    def contents(self) -> tuple[bytes, bytes]:
        return Path(self.files.dat).read_bytes(), Path(self.files.idx).read_bytes()

    def check_reopened(self, wanted: dict[int, bytes], missing: set[int]) -> None:
        self.volume.close()
        volume = Volume.open(self.files, clock=self.clock)
        self.assertEqual(volume.repairs, ())
        for key, data in wanted.items():
            self.assertEqual(bytes(volume.read(key, 1).data), data)
        for key in missing:
            self.assertRaises(NeedleNotFound, volume.read, key, 1)
        volume.close()


class WritingTests(FailingCase):
    def test_nothing_is_left_of_a_write_that_failed(self) -> None:
        before, stat = self.contents(), self.volume.info()
        for suffix in (".dat", ".idx"):
            for part in (None, 0, 1, 7):
                for error in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                    for change in ("write", "overwrite", "delete"):
                        if part == 0:
                            continue
                        self.ops.faults[:] = [Fault("pwritev", error, suffix=suffix, part=part)]
                        with self.assertRaises(WriteFailed) as caught:
                            if change == "delete":
                                self.volume.delete(1, 1)
                            else:
                                self.volume.write(Needle(1, 2 if change == "write" else 1, b"new data"))
                        self.assertIn(os.strerror(error), str(caught.exception))
                        self.assertEqual(self.contents(), before)
                        self.assertEqual(bytes(self.volume.read(1, 1).data), b"before")
                        self.assertRaises(NeedleNotFound, self.volume.read, 2, 1)
                        self.volume.set_read_only(None, cause="full disk")
                        self.volume.set_read_only(None, cause="failing disk")
                        self.assertEqual(self.volume.info(), stat)
        self.volume.write(Needle(1, 2, b"after"))
        self.check_reopened({1: b"before", 2: b"after"}, {3})

    def test_a_short_write_is_completed_when_there_is_room_after_all(self) -> None:
        self.ops.faults[:] = [Fault("pwritev", suffix=".dat", part=5, then_fails=False)]
        self.volume.write(Needle(1, 2, b"after"))
        self.assertEqual(bytes(self.volume.read(2, 1).data), b"after")
        self.assertIsNone(self.ops.faults[0].part)

    def test_a_full_disk_stops_writes_until_there_is_room(self) -> None:
        self.ops.faults[:] = [Fault("pwritev", errno.ENOSPC, suffix=".dat")]
        self.assertRaises(WriteFailed, self.volume.write, Needle(1, 2, b"x"))
        self.assertEqual(self.told, ["the disk is full"])
        error = self.assertRaises(ReadOnlyVolume, self.volume.write, Needle(1, 2, b"x"))
        self.assertIn("the disk is full", str(error))
        self.assertEqual(bytes(self.volume.read(1, 1).data), b"before")
        self.volume.set_read_only(None, cause="full disk")
        self.assertEqual(self.told, ["the disk is full", ""])
        self.volume.write(Needle(1, 2, b"x"))

    def test_an_io_error_does_not_stop_writes(self) -> None:
        self.ops.faults[:] = [Fault("pwritev", errno.EIO, suffix=".dat")]
        self.assertRaises(WriteFailed, self.volume.write, Needle(1, 2, b"x"))
        self.volume.write(Needle(1, 2, b"x"))
        self.assertEqual(self.told, [])

    def test_but_several_in_a_row_do(self) -> None:
        for refusals in (2, 2, 3):  # with a write between them that succeeds
            self.assertEqual(self.told, [])
            self.ops.faults[:] = [Fault("pwritev", errno.EIO, suffix=".dat", times=refusals)]
            for _ in range(refusals):
                self.assertRaises(WriteFailed, self.volume.write, Needle(1, 2, b"x"))
            if refusals < 3:
                self.volume.write(Needle(1, 2, b"%d" % len(self.ops.calls)))
        self.assertEqual(self.told, ["the disk refuses writes: Input/output error"])
        self.assertRaises(ReadOnlyVolume, self.volume.write, Needle(1, 2, b"x"))
        self.assertRaises(ReadOnlyVolume, self.volume.delete, 1, 1)

    def test_an_error_that_stays_does_at_once(self) -> None:
        for error in (errno.EFBIG, errno.EROFS):
            self.told.clear()
            self.ops.faults[:] = [Fault("pwritev", error, suffix=".dat")]
            self.assertRaises(WriteFailed, self.volume.write, Needle(1, 2, b"x"))
            self.assertEqual(self.told, [f"the disk refuses writes: {os.strerror(error)}"])
            self.volume.set_read_only(None, cause="failing disk")

    def test_what_cannot_be_cut_back_stops_writes(self) -> None:
        self.ops.faults[:] = [Fault("pwritev", suffix=".idx", part=3), Fault("truncate", suffix=".dat")]
        self.assertRaises(WriteFailed, self.volume.write, Needle(1, 2, b"half of it"))
        [reason] = self.told
        self.assertIn("could not be taken back", reason)
        self.assertRaises(ReadOnlyVolume, self.volume.write, Needle(1, 3, b"x"))
        self.assertRaises(ReadOnlyVolume, self.volume.delete, 1, 1)
        self.assertEqual(bytes(self.volume.read(1, 1).data), b"before")
        # The record itself is whole, so the next start finds it; what matters is that it opens and goes on.
        self.volume.close()
        volume = Volume.open(self.files, clock=self.clock)
        self.assertEqual(volume.read_only_reason, "")
        self.assertEqual(bytes(volume.read(1, 1).data), b"before")
        volume.write(Needle(1, 3, b"x"))

    def test_a_disk_that_cannot_be_read(self) -> None:
        self.ops.faults[:] = [Fault("pread", suffix=".dat", times=3)]
        self.assertRaises(Damaged, self.volume.read, 1, 1)
        self.assertRaises(WriteFailed, self.volume.write, Needle(1, 1, b"other"))
        self.assertRaises(WriteFailed, self.volume.delete, 1, 1)
        self.assertEqual(bytes(self.volume.read(1, 1).data), b"before")


class LostFilesTests(FailingCase):
    """Files that somebody takes away, or puts in the place of others, while the volume is open."""

    def lost(self) -> str:
        self.volume.check_files()
        return self.volume.read_only_reason

    def test_removed(self) -> None:
        for ending in (".dat", ".idx"):
            self.setUp()
            self.assertEqual(self.lost(), "")
            os.unlink(os.path.join(self.folder, "3" + ending))
            self.assertIn("was removed or replaced while it was in use", self.lost())
            self.assertEqual(self.told, [self.volume.read_only_reason])
            self.assertRaises(ReadOnlyVolume, self.volume.write, Needle(1, 2, b"lost"))
            self.assertRaises(ReadOnlyVolume, self.volume.delete, 1, 1)
            self.assertEqual(bytes(self.volume.read(1, 1).data), b"before")

    def test_replaced(self) -> None:
        content = Path(self.files.dat).read_bytes()
        os.unlink(self.files.dat)
        Path(self.files.dat).write_bytes(content)
        self.assertIn("was removed or replaced", self.lost())

    def test_the_folder_goes_and_comes_back(self) -> None:
        os.rename(self.folder, self.folder + ".away")
        self.assertIn("was removed or replaced", self.lost())
        os.rename(self.folder + ".away", self.folder)
        self.assertEqual(self.lost(), "")
        self.volume.write(Needle(1, 2, b"x"))

    def test_a_vacuum_keeps_its_hands_off(self) -> None:
        """Whoever put another file there, perhaps from a backup, meant it."""
        os.unlink(self.files.dat)
        Path(self.files.dat).write_bytes(b"of somebody else")
        self.assertIn("was removed or replaced", self.lost())
        self.assertRaises(ReadOnlyVolume, compact, self.volume)
        self.volume.close()
        self.assertEqual(Path(self.files.dat).read_bytes(), b"of somebody else")

    def test_a_vacuum_whose_names_are_not_done_is_no_loss(self) -> None:
        compaction = compact(self.volume)
        self.ops.faults[:] = [Fault("rename", suffix=".cpd"), Fault("rename", suffix=".dat")]
        self.assertRaises(WriteFailed, compaction.commit)
        self.assertEqual(self.lost(), "")

    def test_a_folder_that_cannot_be_looked_at(self) -> None:
        self.ops.faults[:] = [Fault("is_at", errno.EIO, suffix=".dat")]
        self.assertRaises(StorageError, self.volume.check_files)
        self.assertEqual(self.lost(), "")

    def test_a_closed_volume(self) -> None:
        self.volume.close()
        os.unlink(self.files.dat)
        self.volume.check_files()
        self.assertEqual(self.told, [])


class SyncTests(FailingCase):
    def syncs(self) -> int:
        return sum(call == "sync" and path.endswith(".dat") for call, path in self.ops.calls)

    def test_only_who_asks_waits_for_the_disk(self) -> None:
        before = self.syncs()
        self.volume.write(Needle(1, 2, b"x"))
        self.assertEqual(self.syncs(), before)
        self.volume.write(Needle(1, 3, b"x"), fsync=True)
        self.assertEqual(self.syncs(), before + 1)
        self.volume.delete(3, 1, fsync=True)
        self.volume.write(Needle(1, 2, b"x"), fsync=True)
        self.assertEqual(self.syncs(), before + 3)

    def test_many_writers_share_one(self) -> None:
        slow = threading.Event()
        original = self.ops.sync

        def sync(fd: int) -> None:
            slow.wait(30)
            original(fd)

        self.ops.sync = sync  # type: ignore[method-assign]
        before = self.syncs()
        with ThreadPoolExecutor(40) as threads:
            first = threads.submit(self.volume.write, Needle(1, 100, b"x"), fsync=True)
            others = [threads.submit(self.volume.write, Needle(1, key, b"x"), fsync=True) for key in range(101, 139)]
            while not all(self.volume.has(key) for key in range(100, 139)):
                threading.Event().wait(0.001)
            slow.set()
            for result in (first, *others):
                result.result(30)
        # One that was under way, one for those who came meanwhile, and perhaps one for who came in between.
        self.assertLessEqual(self.syncs() - before, 3)

    def test_a_sync_that_fails_stops_writes(self) -> None:
        self.ops.faults[:] = [Fault("sync", suffix=".dat")]
        self.assertRaises(WriteFailed, self.volume.write, Needle(1, 2, b"x"), fsync=True)
        [reason] = self.told
        self.assertIn("fsync failed", reason)
        self.assertRaises(ReadOnlyVolume, self.volume.write, Needle(1, 3, b"x"))
        self.assertRaises(WriteFailed, self.volume.sync)
        self.assertEqual(bytes(self.volume.read(1, 1).data), b"before")
        self.volume.close()

    def test_what_was_acknowledged_survives_a_power_cut(self) -> None:
        folder, after = scratch(self), scratch(self)
        ops = PowerCutOps(folder)
        volume = Volume.create(folder, None, "", 3, replication=ReplicaPlacement(), clock=self.clock, ops=ops)
        volume.write(Needle(1, 1, b"acknowledged", name=b"a"), fsync=True)
        volume.write(Needle(1, 2, b"", last_modified=5), fsync=True)
        volume.write(Needle(1, 3, b"gone"))
        volume.delete(3, 1, fsync=True)
        volume.write(Needle(1, 4, b"never synced"))
        ops.cut(after)
        files = VolumeFiles(after, after, "", 3)
        survived = Volume.open(files, clock=self.clock)
        self.assertEqual(survived.repairs, ())
        self.assertEqual(bytes(survived.read(1, 1).data), b"acknowledged")
        self.assertEqual(bytes(survived.read(2, 1).data), b"")
        self.assertRaises(NeedleNotFound, survived.read, 3, 1)
        self.assertRaises(NeedleNotFound, survived.read, 4, 1)
