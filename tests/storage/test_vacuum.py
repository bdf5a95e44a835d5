"""A vacuum keeps all that is live, in any state, while the volume is in use, and a kill at any step loses nothing."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged, NeedleNotFound, ReadOnlyVolume, StorageError, WriteFailed
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import NO_TTL, Ttl
from weedtw.storage.fileops import FileOps
from weedtw.storage.names import VolumeFiles
from weedtw.storage.testing import (
    Crash,
    CrashingOps,
    Fault,
    FaultyOps,
    ManualClock,
    PowerCutOps,
    QuickOps,
    scratch,
)
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume

LEAVINGS = {".cpd", ".cpx", ".cpc", ".tmp"}


class VacuumCase(SynchronousTestCase):
    width = 5

    def setUp(self) -> None:
        self.folder = scratch(self)
        self.clock = ManualClock()
        self.files = VolumeFiles(self.folder, self.folder, "pics", 3)

    def make(self, ops: FileOps | None = None, ttl: Ttl = NO_TTL) -> Volume:
        return Volume.create(
            self.folder,
            None,
            "pics",
            3,
            replication=ReplicaPlacement.parse("010"),
            ttl=ttl,
            offset_width=self.width,
            clock=self.clock,
            ops=ops or QuickOps(),
        )

    def open(self, ops: FileOps | None = None) -> Volume:
        return Volume.open(self.files, clock=self.clock, ops=ops or QuickOps())

    def check(self, volume: Volume, wanted: dict[int, bytes | None]) -> None:
        for key, data in wanted.items():
            if data is None:
                self.assertRaises(NeedleNotFound, volume.read, key, key)
            else:
                self.assertEqual(bytes(volume.read(key, key).data), data, key)

    def check_no_leavings(self) -> None:
        self.assertEqual({Path(name).suffix for name in os.listdir(self.folder)} & LEAVINGS, set())


class KeepingTests(VacuumCase):
    def test_records_are_copied_to_the_byte_and_the_rest_is_gone(self) -> None:
        volume = self.make()
        for key in range(1, 50):
            volume.write(Needle(key, key, b"x" * key, name=b"n", pairs=b'{"a":"b"}'))
        for key in range(1, 50, 2):
            volume.delete(key, key)
        volume.write(Needle(2, 2, b"two again"))
        volume.write(Needle(4, 4, b""))
        before = {key: volume.read(key, key) for key in range(2, 50, 2)}
        size = volume.info().size
        compact(volume).commit()
        self.check_no_leavings()
        for _ in range(2):
            self.assertEqual({key: volume.read(key, key) for key in range(2, 50, 2)}, before)
            self.check(volume, dict.fromkeys(range(1, 50, 2)))
            stat = volume.info()
            self.assertEqual((stat.file_count, stat.delete_count, stat.deleted_bytes), (24, 0, 0))
            self.assertEqual((stat.compact_revision, stat.replication), (1, "010"))
            self.assertLess(stat.size, size)
            volume.close()
            volume = self.open()
            self.assertEqual(volume.repairs, ())
        volume.close()
        os.unlink(self.files.idx)
        self.assertEqual({key: self.open().read(key, key) for key in range(2, 50, 2)}, before)

    def test_only_what_is_expired_expires(self) -> None:
        volume = self.make()
        volume.write(Needle(1, 1, b"short", ttl=Ttl.parse("1m")))
        volume.write(Needle(2, 2, b"long", ttl=Ttl.parse("1h")))
        volume.write(Needle(3, 3, b"", ttl=Ttl.parse("1m")))
        volume.write(Needle(4, 4, b"", ttl=Ttl.parse("1h")))
        volume.write(Needle(5, 5, b"for ever"))
        self.clock.advance(61)
        compact(volume).commit()
        self.assertEqual(volume.info().file_count, 3)
        self.check(volume, {1: None, 2: b"long", 3: None, 4: b"", 5: b"for ever"})

    def test_in_a_volume_with_a_ttl(self) -> None:
        volume = self.make(ttl=Ttl.parse("5m"))
        volume.write(Needle(1, 1, b"old"))
        self.clock.advance(200)
        volume.write(Needle(2, 2, b"new"))
        self.clock.advance(101)
        compact(volume).commit()
        self.assertEqual(volume.info().file_count, 1)
        self.check(volume, {1: None, 2: b"new"})

    def test_nothing_to_keep(self) -> None:
        volume = self.make()
        compact(volume).commit()
        volume.write(Needle(1, 1, b"x"))
        volume.delete(1, 1)
        compact(volume).commit()
        self.assertEqual((volume.info().size, volume.info().compact_revision), (8, 2))
        volume.write(Needle(2, 2, b"y"))
        volume.close()
        self.check(self.open(), {1: None, 2: b"y"})

    def test_large_files(self) -> None:
        volume = self.make()
        data = {key: os.urandom(3 << 20) for key in range(1, 6)}
        for key, content in data.items():
            volume.write(Needle(key, key, content))
        volume.delete(3, 3)
        compact(volume).commit()
        self.check(volume, {**data, 3: None})

    def test_a_damaged_file_is_kept_as_it_is(self) -> None:
        volume = self.make()
        volume.write(Needle(1, 1, b"gone"))
        written = volume.write(Needle(2, 2, b"damaged"))
        volume.delete(1, 1)
        with open(self.files.dat, "r+b") as file:
            file.seek(written.offset + 20)
            file.write(b"D")
        compact(volume).commit()
        self.assertRaises(Damaged, volume.read, 2, 2)
        self.assertEqual(bytes(volume.read(2, 2, verify=False).data), b"Damaged")

    def test_the_revision_wraps(self) -> None:
        volume = self.make()
        volume.write(Needle(1, 1, b"x"))
        volume.close()
        content = bytearray(Path(self.files.dat).read_bytes())
        content[4:6] = b"\xff\xff"
        Path(self.files.dat).write_bytes(content)
        volume = self.open()
        compact(volume).commit()
        self.assertEqual(volume.info().compact_revision, 0)


class InUseTests(VacuumCase):
    def test_changes_between_compact_and_commit(self) -> None:
        volume = self.make()
        for key in range(1, 9):
            volume.write(Needle(key, key, b"before"))
        volume.delete(8, 8)
        compaction = compact(volume)
        volume.write(Needle(1, 1, b"overwritten"))
        volume.delete(2, 2)
        volume.write(Needle(3, 3, b""))
        volume.write(Needle(9, 9, b"new"))
        volume.write(Needle(10, 10, b"new and gone"))
        volume.delete(10, 10)
        volume.write(Needle(8, 8, b"back again"))
        compaction.commit()
        wanted = {1: b"overwritten", 2: None, 3: b"", 4: b"before", 8: b"back again", 9: b"new", 10: None}
        self.check(volume, wanted)
        volume.write(Needle(11, 11, b"afterwards"))
        volume.close()
        for idx in (True, False):
            if not idx:
                os.unlink(self.files.idx)
            volume = self.open()
            self.check(volume, {**wanted, 11: b"afterwards"})
            volume.close()

    def test_a_reader_holds_on_to_the_old_file(self) -> None:
        volume = self.make()
        volume.write(Needle(1, 1, b"gone"))
        volume.write(Needle(2, 2, b"two"))
        volume.delete(1, 1)
        generation = volume.generation
        place = generation.needles.get(2)
        assert place is not None
        compact(volume).commit()
        self.assertIsNot(volume.generation, generation)
        needle = generation.needle(place)
        assert needle is not None
        self.assertEqual(bytes(needle.data), b"two")
        descriptor = generation.dat.fd
        del generation
        self.assertRaises(OSError, os.fstat, descriptor)

    def test_busy_threads(self) -> None:
        volume = self.make()
        for key in range(1, 2001):
            volume.write(Needle(key, key, b"first" * (key % 9)))
        stop = threading.Event()

        def change(start: int) -> dict[int, bytes | None]:
            state: dict[int, bytes | None] = {}
            turn = 0
            while not stop.is_set() or turn < 2:
                turn += 1
                for key in range(start, 2001, 40):
                    if (key + turn) % 5 == 0:
                        volume.delete(key, key)
                        state[key] = None
                    else:
                        state[key] = f"{turn} ".encode() * (key % 7)
                        volume.write(Needle(key, key, state[key] or b""))
            return state

        def read() -> int:
            seen = 0
            while not stop.is_set():
                for key in range(20, 2001, 40):  # these nobody changes
                    data = b"first" * (key % 9)
                    assert volume.read(key, key).data == data
                    cached = volume.try_read_cached(key, key)
                    assert cached is None or cached.data == data
                    seen += 1
            return seen

        with ThreadPoolExecutor(4) as threads:
            changers = [threads.submit(change, start) for start in (1, 2)]
            reader = threads.submit(read)
            try:
                for _ in range(6):
                    compact(volume).commit()
            finally:
                stop.set()
            wanted: dict[int, bytes | None] = {}
            for changer in changers:
                wanted |= changer.result()
            self.assertGreater(reader.result(), 0)
        wanted |= {key: b"first" * (key % 9) for key in range(1, 2001) if key not in wanted}
        self.check(volume, wanted)
        self.assertEqual(volume.info().compact_revision, 6)
        volume.close()
        volume = self.open()
        self.assertEqual(volume.repairs, ())
        self.check(volume, wanted)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_history(self, data: st.DataObject) -> None:
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        volume = self.make()
        model: dict[int, bytes | None] = {}

        def change() -> None:
            for _ in range(data.draw(st.integers(0, 6))):
                key = data.draw(st.integers(1, 4))
                if data.draw(st.booleans()):
                    content = data.draw(st.binary(max_size=20))
                    volume.write(Needle(key, key, content))
                    model[key] = content
                else:
                    volume.delete(key, key)
                    model[key] = None

        change()
        compaction = compact(volume)
        change()
        if data.draw(st.booleans()):
            compaction.commit()
        else:
            compaction.cleanup()
        change()
        self.check(volume, model)
        volume.close()
        if data.draw(st.booleans()):
            os.unlink(self.files.idx)
        volume = self.open()
        self.check(volume, model)
        volume.close()
        self.check_no_leavings()


class RefusingTests(VacuumCase):
    def test_two_at_a_time(self) -> None:
        volume = self.make()
        first = compact(volume)
        self.assertIn("under way", str(self.assertRaises(StorageError, compact, volume)))
        first.cleanup()
        first.cleanup()
        self.check_no_leavings()
        compact(volume).commit()

    def test_a_volume_that_is_not_trusted(self) -> None:
        volume = self.make()
        volume.set_read_only("broken", cause="damage")
        self.assertRaises(ReadOnlyVolume, compact, volume)
        self.check_no_leavings()

    def test_little_room_is_no_reason_not_to_make_some(self) -> None:
        volume = self.make()
        volume.write(Needle(1, 1, b"x" * 1000))
        volume.write(Needle(1, 1, b"y"))
        before = os.path.getsize(self.files.dat)
        volume.set_read_only("little", cause="low space")
        compact(volume).commit()
        self.assertLess(os.path.getsize(self.files.dat), before - 900)
        self.check(volume, {1: b"y"})

    def test_not_enough_room_for_a_copy(self) -> None:
        ops = FaultyOps()
        volume = self.make(ops)
        volume.write(Needle(1, 1, b"x"))
        ops.free = 100
        self.assertIn("100 are free", str(self.assertRaises(StorageError, compact, volume)))
        self.check_no_leavings()

    def test_an_index_that_is_wrong(self) -> None:
        volume = self.make()
        first = volume.write(Needle(1, 1, b"one"))
        second = volume.write(Needle(2, 2, b"two"))
        content = bytearray(Path(self.files.dat).read_bytes())
        content[second.offset :] = content[first.offset : second.offset]
        Path(self.files.dat).write_bytes(content)
        self.assertRaises(Damaged, compact, volume)
        self.check_no_leavings()
        self.check(volume, {1: b"one"})

    def test_closed_meanwhile(self) -> None:
        volume = self.make()
        compaction = compact(volume)
        volume.close()
        self.assertRaises(StorageError, compaction.commit)
        self.open()
        self.check_no_leavings()

    def test_a_failing_disk(self) -> None:
        """At every call, of every kind: an error, and a volume that goes on."""
        self.assertEqual(self.check_failures(times=1), set())

    def test_a_disk_that_goes_on_failing(self) -> None:
        """Then the vacuum may be past taking back: no more writes before a restart, which says what counts."""
        reasons = self.check_failures(times=1000)
        self.assertTrue(any("a restart finishes it" in reason for reason in reasons), reasons)

    def check_failures(self, times: int) -> set[str]:
        """Every file is there, at once and after a restart; returns why volumes took no writes before that."""
        reasons = set()
        for call in ("open", "pread", "pwritev", "sync", "rename", "unlink", "sync_folder"):
            for skip in range(20):
                shutil.rmtree(self.folder)
                os.mkdir(self.folder)
                ops = FaultyOps()
                volume = self.make(ops)
                volume.write(Needle(1, 1, b"one"))
                volume.write(Needle(2, 2, b"two"))
                volume.delete(1, 1)
                ops.faults.append(Fault(call, skip=skip, times=times))
                failed = False
                try:
                    compaction = compact(volume)
                    volume.write(Needle(3, 3, b"three"))
                    compaction.commit()
                except (WriteFailed, StorageError):
                    failed = True
                ops.faults.clear()
                where = f"{call}, from the {skip + 1}th on, {times} times"
                wanted: dict[int, bytes | None] = {1: None, 2: b"two"}
                if volume.has(3):
                    wanted[3] = b"three"
                self.check(volume, wanted)
                if not volume.read_only_reason:
                    volume.write(Needle(4, 4, b"four"))
                    wanted[4] = b"four"
                else:
                    reasons.add(volume.read_only_reason)
                volume.close()
                volume = self.open()
                self.check(volume, wanted)
                self.assertEqual(volume.read_only_reason, "", where)
                self.check_no_leavings()
                volume.close()
                if not failed:
                    break
            else:
                self.fail(f"{call} is called too often")
        return reasons


def make_work(folder: str, clock: ManualClock, ops: FileOps) -> Volume:
    """A volume with something to keep and something to throw away."""
    volume = Volume.create(
        folder, None, "pics", 3, replication=ReplicaPlacement(), offset_width=5, clock=clock, ops=ops
    )
    for key in range(1, 7):
        volume.write(Needle(key, key, b"before %d" % key))
    volume.delete(1, 1)
    volume.write(Needle(2, 2, b"second"))
    volume.write(Needle(3, 3, b""))
    return volume


BEFORE: dict[int, bytes | None] = {1: None, 2: b"second", 3: b"", 4: b"before 4", 5: b"before 5", 6: b"before 6"}


def do_work(volume: Volume, acknowledged: dict[int, bytes | None]) -> None:
    """A vacuum with changes in the middle of it; what was acknowledged is noted."""
    compaction = compact(volume)
    volume.write(Needle(4, 4, b"meanwhile"), fsync=True)
    acknowledged[4] = b"meanwhile"
    volume.delete(5, 5, fsync=True)
    acknowledged[5] = None
    volume.write(Needle(8, 8, b""), fsync=True)
    acknowledged[8] = b""
    compaction.commit()
    volume.write(Needle(9, 9, b"afterwards"), fsync=True)
    acknowledged[9] = b"afterwards"


class CrashCase(VacuumCase):
    def run_until(self, ops: FileOps, acknowledged: dict[int, bytes | None]) -> bool:
        """Return whether it came to the end without dying."""
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        volume = make_work(self.folder, self.clock, QuickOps())
        volume.close()
        try:
            do_work(self.open(ops), acknowledged)
        except Crash:
            return False
        return True

    def check_after(self, acknowledged: dict[int, bytes | None]) -> None:
        volume = self.open()
        undecided = {4, 5, 8, 9} - set(acknowledged)
        self.check(volume, {key: data for key, data in (BEFORE | acknowledged).items() if key not in undecided})
        self.assertEqual(volume.read_only_reason, "")
        self.check_no_leavings()
        volume.write(Needle(10, 10, b"goes on"))
        compact(volume).commit()
        volume.close()
        volume = self.open()
        self.assertEqual(volume.repairs, ())
        self.check(volume, {**acknowledged, 10: b"goes on", 2: b"second", 3: b""})
        volume.close()

    def check_deaths_at_every_step(self) -> None:
        for torn in (False, True):
            steps = 0
            while True:
                acknowledged: dict[int, bytes | None] = {}
                finished = self.run_until(CrashingOps(steps, torn=torn), acknowledged)
                self.check_after(acknowledged)
                if finished:
                    break
                steps += 1
            self.assertGreater(steps, 25)


class CrashTests(CrashCase):
    def test_at_every_step(self) -> None:
        self.check_deaths_at_every_step()

    def test_power_cut_at_every_step(self) -> None:
        steps = 0
        while True:
            shutil.rmtree(self.folder)
            os.mkdir(self.folder)
            make_work(self.folder, self.clock, QuickOps()).close()
            ops = PowerCutOps(self.folder, steps)
            acknowledged: dict[int, bytes | None] = {}
            finished = True
            try:
                do_work(self.open(ops), acknowledged)
            except Crash:
                finished = False
            for name in os.listdir(self.folder):
                os.unlink(os.path.join(self.folder, name))
            ops.cut(self.folder)
            self.check_after(acknowledged)
            if finished:
                break
            steps += 1
        self.assertGreater(steps, 25)

    def test_a_crash_while_finishing_after_a_crash(self) -> None:
        first = 0
        tried = 0
        acknowledged: dict[int, bytes | None] = {}
        while not self.run_until(CrashingOps(first), acknowledged):
            leavings = {Path(name).suffix for name in os.listdir(self.folder)} & LEAVINGS
            for second in range(6 if leavings else 0):
                saved = scratch(self)
                shutil.copytree(self.folder, saved, dirs_exist_ok=True)
                try:
                    self.open(CrashingOps(second)).close()
                except Crash:
                    tried += 1
                self.check_after(acknowledged)
                shutil.rmtree(self.folder)
                shutil.copytree(saved, self.folder)
            first += 1
            acknowledged = {}
        self.assertGreater(tried, 10)

    def test_an_older_seaweedfs_died_between_its_renames(self) -> None:
        """No marker; .dat is new and .idx is old."""
        volume = make_work(self.folder, self.clock, QuickOps())
        volume.close()
        old = Path(self.files.idx).read_bytes()
        volume = self.open()
        compact(volume).commit()
        volume.close()
        os.rename(self.files.idx, self.files.compacted_idx)
        Path(self.files.idx).write_bytes(old)
        volume = self.open()
        self.assertEqual([repair.kind for repair in volume.repairs], ["swap-finished"])
        self.check(volume, BEFORE)
        volume.close()
        self.check_no_leavings()


@pytest.mark.process
class ForkTests(CrashCase):
    """The same with a process that really dies; needs no trust in our own simulation."""

    def run_until(self, ops: FileOps, acknowledged: dict[int, bytes | None]) -> bool:
        read_end, write_end = os.pipe()
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        make_work(self.folder, self.clock, QuickOps()).close()
        child = os.fork()
        if child == 0:  # pragma: no cover
            status = 1
            try:
                os.close(read_end)
                noted = _Reporting(write_end)
                do_work(self.open(ops), noted)
                status = 0
            finally:
                os._exit(status)
        os.close(write_end)
        with open(read_end, "rb") as acknowledgements:
            for line in acknowledgements:
                key, kind, content = line.rstrip(b"\n").split(b" ", 2)
                acknowledged[int(key)] = content if kind == b"+" else None
        _, status = os.waitpid(child, 0)
        return status == 0

    def test_at_every_step(self) -> None:
        self.check_deaths_at_every_step()


class _Reporting(dict[int, "bytes | None"]):
    """Says over a pipe what was acknowledged."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd

    def __setitem__(self, key: int, value: bytes | None) -> None:
        os.write(self.fd, b"%d - \n" % key if value is None else b"%d + %s\n" % (key, value))
