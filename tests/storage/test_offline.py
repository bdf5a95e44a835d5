"""Index and data of a volume that no server has open: a disk that refuses leaves both as they were."""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged, StorageError
from weedtw.formats.idx import unpack_rows
from weedtw.storage import offline
from weedtw.storage.audit import audit
from weedtw.storage.contents import Contents
from weedtw.storage.fileops import Buffer, FileOps
from weedtw.storage.names import VolumeFiles
from weedtw.storage.testing import Fault, FaultyOps, ManualClock, scratch
from weedtw.storage.volume import Volume

SAMPLE = Path(__file__).parent.parent / "sample"
WIDTH = 5  # of the sample's offsets
Work = Callable[[FileOps], object]


class OfflineCase(SynchronousTestCase):
    """A copy of volume 1 of the sample."""

    def setUp(self) -> None:
        self.folder = Path(scratch(self))
        for suffix in (".dat", ".idx", ".vif"):
            shutil.copy(SAMPLE / f"1{suffix}", self.folder)
        self.files = VolumeFiles(str(self.folder), str(self.folder), "", 1)
        self.clock = ManualClock()

    def state(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def overwrite(self, offset: int, data: bytes) -> None:
        with open(self.files.dat, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def fix(self, ops: FileOps | None = None, *, deletions: bool = True) -> offline.Fixed:
        return offline.fix(self.files, now_ns=int(self.clock() * 1e9), deletions=deletions, ops=ops)

    def compact(self, ops: FileOps | None = None) -> offline.Compacted:
        return offline.compact_volume(self.files, self.clock, ops)


class FullDiskTests(OfflineCase):
    """Every call that changes something fails in turn."""

    def check_each_refusal(self, work: Work, calls: tuple[str, ...]) -> None:
        """Until one succeeds: a failure leaves what was there, and nothing else."""
        before = self.state()
        for call in calls:
            for skip in range(100):
                ops = FaultyOps()
                ops.faults.append(Fault(call, errno.ENOSPC, skip=skip))
                try:
                    work(ops)
                except StorageError as error:
                    self.assertIn("No space left on device", str(error))
                    self.assertEqual(self.state().keys(), before.keys(), f"{call} {skip}: {error}")
                    self.assertEqual(self.state(), before, f"{call} {skip}: {error}")
                else:
                    self.assertEqual(ops.faults[0].times, 1, f"{call} {skip} was refused, and nobody told")
                    self.assertNotEqual(self.state(), before)
                    self.put_back(before)
                    break
            else:
                self.fail(f"{call} never succeeded")

    def put_back(self, before: dict[str, bytes]) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        for name, content in before.items():
            (self.folder / name).write_bytes(content)

    def test_fix(self) -> None:
        os.truncate(self.files.idx, 17 * 3)  # or the new index is as the old one
        self.check_each_refusal(self.fix, ("pwritev", "sync", "rename"))

    def test_fix_a_write_that_is_cut_short(self) -> None:
        before = self.state()
        ops = FaultyOps()
        ops.faults.append(Fault("pwritev", errno.ENOSPC, suffix=".tmp", part=20))
        error = self.assertRaises(StorageError, self.fix, ops)
        self.assertIn("cannot be written: No space left on device; nothing was changed", str(error))
        self.assertEqual(self.state(), before)

    def test_compact(self) -> None:
        self.check_each_refusal(self.compact, ("pwritev", "sync"))

    def test_compact_with_something_to_keep(self) -> None:
        self.overwrite(624, b"\xa5" * 832)
        self.fix()
        self.check_each_refusal(self.compact, ("pwritev", "sync"))

    def test_a_volume_without_its_information_file(self) -> None:
        os.unlink(self.files.vif)
        before = self.state()
        for call in ("pwritev", "sync", "rename"):
            ops = FaultyOps()
            ops.faults.append(Fault(call, errno.ENOSPC, suffix=".vif.tmp" if call != "sync" else ".tmp"))
            error = self.assertRaises(StorageError, self.compact, ops)
            self.assertIn("No space left on device", str(error))
            self.assertEqual(self.state(), before, call)

    def test_what_was_kept_stays_when_the_new_data_holds(self) -> None:
        self.overwrite(624, b"\xa5" * 832)
        self.fix()
        ops = FaultyOps()
        ops.faults.append(Fault("unlink", errno.EIO, suffix=".cpc"))
        self.assertIn("the next start completes that", str(self.assertRaises(StorageError, self.compact, ops)))
        self.assertEqual(self.state()["1.dat.cut-1"], b"\xa5" * 832)
        Volume.open(self.files, clock=self.clock).close()
        self.assertNotIn("1.cpc", self.state())

    def test_compact_where_there_is_no_room(self) -> None:
        before = self.state()
        ops = FaultyOps()
        ops.free = 1000
        self.assertIn("1000 are free", str(self.assertRaises(StorageError, self.compact, ops)))
        self.assertEqual(self.state(), before)

    def test_the_next_vacuum_is_not_kept_out_by_one_that_could_not_begin(self) -> None:
        for suffix, call in ((".cpx", "open"), (".cpd", "pwritev")):
            ops = FaultyOps()
            ops.faults.append(Fault(call, errno.ENOSPC, suffix=suffix))
            error = self.assertRaises(StorageError, self.compact, ops)
            self.assertIn("cannot be made: No space left on device", str(error))
            self.assertEqual(sorted(self.state()), ["1.dat", "1.idx", "1.vif"])
        self.assertTrue(self.compact().is_sound)


class ImpatientOps(FileOps):
    """Somebody types Ctrl-C while a write of that number is made."""

    def __init__(self, number: int) -> None:
        self.left = number

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().pwritev(fd, buffers, offset)


class InterruptedTests(OfflineCase):
    """Ctrl-C at any write leaves what was there, and nothing else."""

    def test_at_every_write(self) -> None:
        self.overwrite(624, b"\xa5" * 832)
        self.fix()
        for work, at_least in ((self.fix, 1), (self.compact, 4)):  # what is kept, super block, records, rows
            before = self.state()
            for number in range(1, 100):
                try:
                    work(ImpatientOps(number))
                except KeyboardInterrupt:
                    self.assertEqual(self.state(), before, f"write {number}")
                else:
                    break
            self.assertLess(at_least, number)
            self.assertNotEqual(self.state(), before)


class CompactDamagedTests(OfflineCase):
    """What is damaged is told, and not lost."""

    def test_sound(self) -> None:
        done = self.compact()
        self.assertEqual((done.files, done.is_sound, done.gaps), (18, True, ()))

    def test_a_file_with_another_checksum_is_kept(self) -> None:
        self.overwrite(2600, b"\x55")
        record = Path(self.files.dat).read_bytes()[2568:3120]
        done = self.compact()
        assert done.damage is not None
        [finding] = done.damage.findings
        self.assertEqual(
            (finding.path, finding.what),
            (self.files.dat, "needle 11 is not as it was written: its data has another checksum"),
        )
        assert finding.offset is not None
        kept = Path(self.files.dat).read_bytes()[finding.offset :][: len(record)]
        self.assertEqual((kept, done.files, done.is_sound), (record, 18, False))

    def test_what_was_deleted_may_be_damaged(self) -> None:
        self.overwrite(2140 + 20, b"\x55\x55")  # needle c, deleted
        self.assertTrue(self.compact().is_sound)

    def test_what_is_no_record_is_kept_beside_the_data(self) -> None:
        garbage = b"\xa5" * 832
        self.overwrite(624, garbage)  # needle 2, to the byte
        self.assertEqual(self.fix().lost, (2,))
        done = self.compact()
        [gap] = done.gaps
        self.assertEqual(str(gap), f"832 bytes at 624 of the old data are no record; kept as {self.files.dat}.cut-1")
        self.assertEqual(Path(gap.path).read_bytes(), garbage)
        self.assertEqual((done.files, done.is_sound), (17, False))

    def test_noughts_are_told(self) -> None:
        self.overwrite(624, bytes(832))
        self.fix()
        done = self.compact()
        self.assertEqual([str(gap) for gap in done.gaps], ["832 bytes at 624 of the old data are nought, "
                                                           "where records should be"])  # fmt: skip
        self.assertFalse(done.is_sound)
        self.assertNotIn("1.dat.cut-1", self.state())

    def test_damage_that_is_in_the_way(self) -> None:
        self.overwrite(624, b"\xa5" * 832)
        before = self.state()
        self.assertRaises(Damaged, self.compact)
        self.assertEqual(self.state(), before)


class WithoutDeletionsTests(OfflineCase):
    """An index with a row for each file, and no others."""

    def keys(self) -> list[int]:
        return [int(key) for key in unpack_rows(Path(self.files.idx).read_bytes(), WIDTH).keys]

    def check_opens_as_it_is(self) -> None:
        rows = Path(self.files.idx).read_bytes()
        volume = Volume.open(self.files, clock=self.clock)
        self.assertEqual((volume.repairs, volume.read_only_reason), ((), ""))
        volume.close()
        self.assertEqual(Path(self.files.idx).read_bytes(), rows)

    def test_rows(self) -> None:
        done = self.fix(deletions=False)
        self.assertEqual((done.rows, done.files, len(set(self.keys()))), (18, 18, 18))
        self.assertNotIn(0xC, self.keys())  # deleted
        self.check_opens_as_it_is()

    def test_deletions_at_the_end_stay(self) -> None:
        volume = Volume.open(self.files, clock=self.clock)
        volume.delete(2, 0xA87D0B07)
        volume.close()
        done = self.fix(deletions=False)
        self.assertEqual((done.rows, done.files, self.keys()[-1]), (18, 17, 2))
        self.check_opens_as_it_is()


class WithoutDataTests(OfflineCase):
    def test_indexes_alone(self) -> None:
        self.assertEqual(offline.without_data(str(self.folder)), [])
        (self.folder / "pics_7.idx").touch()
        (self.folder / "notes.idx").touch()  # of nobody's volume
        self.assertEqual(offline.without_data(str(self.folder)), [str(self.folder / "pics_7.idx")])

    def test_data_in_a_remote_store(self) -> None:
        (self.folder / "7.idx").touch()
        (self.folder / "7.vif").write_text('{"version": 3, "files": [{"backendType": "s3"}]}')
        self.assertEqual(offline.without_data(str(self.folder)), [])


class UnreadableTests(OfflineCase):
    """A disk that gives an error where a sector was."""

    def failing(self, skip: int = 0) -> FaultyOps:
        ops = FaultyOps()
        ops.faults.append(Fault("pread", errno.EIO, suffix=".dat", skip=skip, times=1000))
        return ops

    def test_every_tool_names_the_file(self) -> None:
        before = self.state()
        now_ns = int(self.clock() * 1e9)
        said = f"{self.files.dat}: cannot be read: Input/output error"
        for skip in (0, 1):
            ops = self.failing(skip)
            self.assertEqual(str(self.assertRaises(StorageError, self.fix, ops)), said)
        self.assertEqual([str(one) for one in audit(self.files, now_ns=now_ns, ops=self.failing(1)).findings], [said])
        error = self.assertRaises(StorageError, Contents.open, self.files, now_ns=now_ns, ops=self.failing())
        self.assertEqual(str(error), said)
        self.assertIn("Input/output error", str(self.assertRaises(StorageError, self.compact, self.failing(1))))
        self.assertEqual(self.state(), before)

    def test_the_files_beside_it_are_exported(self) -> None:
        ops = FaultyOps()
        contents = Contents.open(self.files, now_ns=int(self.clock() * 1e9), ops=ops)
        ops.faults.append(Fault("pread", errno.EIO, skip=2))
        entries = list(contents)
        damaged = [entry.offset for entry in entries if isinstance(entry.needle, Damaged)]
        self.assertEqual((len(entries), damaged), (18, [1456]))

    def test_the_listing_of_deleted_files(self) -> None:
        contents = Contents.open(self.files, now_ns=int(self.clock() * 1e9), ops=(ops := FaultyOps()))
        ops.faults.append(Fault("pread", errno.EIO))
        self.assertIn("cannot be read", str(self.assertRaises(StorageError, list, contents.with_deleted())))
