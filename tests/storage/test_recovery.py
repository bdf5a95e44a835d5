"""Whatever a crash leaves, the volume opens, loses nothing that was whole, and says what it mended."""

import os
import shutil
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import CookieMismatch, Damaged, NeedleNotFound, ReadOnlyVolume, StorageError
from weedtw.formats.idx import ROW_SIZES, pack_row
from weedtw.formats.needle import Needle, pack
from weedtw.formats.replication import ReplicaPlacement
from weedtw.storage.names import VolumeFiles
from weedtw.storage.testing import Crash, CrashingOps, Fault, FaultyOps, ManualClock, QuickOps, scratch
from weedtw.storage.volume import Volume

CONTENT = {1: b"one", 2: b"the second file" * 20, 3: b"", 4: b"the last but one", 5: b"the last" * 5}


class RecoveryCase(SynchronousTestCase):
    width = 4

    def setUp(self) -> None:
        self.folder = scratch(self)
        self.clock = ManualClock()
        self.files = VolumeFiles(self.folder, self.folder, "", 3)
        self.ends: list[tuple[int, int]] = []  # sizes of .dat and .idx after each file

    def make(self, content: dict[int, bytes] = CONTENT) -> None:
        volume = Volume.create(
            self.folder,
            None,
            "",
            3,
            replication=ReplicaPlacement(),
            offset_width=self.width,
            clock=self.clock,
            ops=QuickOps(),
        )
        for key, data in content.items():
            volume.write(Needle(key, key, data))
            self.ends.append((volume.generation.dat_size, volume.generation.idx_size))
        volume.close()
        self.dat, self.idx = Path(self.files.dat).read_bytes(), Path(self.files.idx).read_bytes()

    def put(self, dat: bytes, idx: bytes | None) -> None:
        """Put these contents in place of the files, and remove what earlier repairs kept."""
        for name in os.listdir(self.folder):
            if ".cut-" in name:
                os.unlink(os.path.join(self.folder, name))
        Path(self.files.dat).write_bytes(dat)
        if idx is None:
            Path(self.files.idx).unlink(missing_ok=True)
        else:
            Path(self.files.idx).write_bytes(idx)

    def open(self) -> Volume:
        return Volume.open(self.files, clock=self.clock, offset_width=self.width, ops=QuickOps())

    def check(self, volume: Volume, wanted: dict[int, bytes], missing: set[int] | None = None) -> None:
        for key, data in wanted.items():
            self.assertEqual(bytes(volume.read(key, key).data), data, key)
        for key in missing or ():
            self.assertRaises(NeedleNotFound, volume.read, key, key)

    def check_goes_on(self, volume: Volume, wanted: dict[int, bytes]) -> None:
        """It takes writes, and all is still there, without repairs, when it is opened again."""
        self.assertEqual(volume.read_only_reason, "")
        volume.write(Needle(99, 99, b"written afterwards"))
        self.check(volume, wanted)
        volume.close()
        again = self.open()
        self.assertEqual(again.repairs, ())
        self.check(again, {**wanted, 99: b"written afterwards"})
        again.close()

    def kept(self, suffix: str) -> list[bytes]:
        return [
            Path(self.folder, name).read_bytes()
            for name in sorted(os.listdir(self.folder))
            if name.startswith(f"3{suffix}.cut-")
        ]

    def first(self, count: int) -> dict[int, bytes]:
        return dict(list(CONTENT.items())[:count])


class TornTests(RecoveryCase):
    stride = 1  # 1: at every byte

    def test_dat_cut_at_every_byte(self) -> None:
        """With the index as it was before, as it was after, and without one."""
        self.make()
        for size in range(self.ends[1][0], len(self.dat), self.stride):
            whole = sum(end <= size for end, _ in self.ends)
            for idx in (self.idx, self.idx[: self.ends[whole - 1][1]], None):
                self.put(self.dat[:size], idx)
                volume = self.open()
                last = whole
                # A record that lacks only padding is completed.
                if {repair.kind for repair in volume.repairs} & {"padding-added"}:
                    last += 1
                    self.assertLessEqual(self.ends[whole][0] - size, 8)
                elif size > self.ends[whole - 1][0] and any(self.dat[self.ends[whole - 1][0] : size]):
                    self.assertEqual(self.kept(".dat"), [self.dat[self.ends[whole - 1][0] : size]])
                self.check(volume, self.first(last), set(CONTENT) - set(self.first(last)))
                self.check_goes_on(volume, self.first(last))

    def test_idx_cut_at_every_byte(self) -> None:
        self.make()
        for size in range(len(self.idx)):
            self.put(self.dat, self.idx[:size])
            volume = self.open()
            self.check(volume, CONTENT)
            kinds = {repair.kind for repair in volume.repairs}
            torn = size % ROW_SIZES[self.width] != 0
            self.assertEqual(kinds, {"rows-added", "row-cut"} if torn else {"rows-added"})
            self.assertEqual(Path(self.files.idx).read_bytes(), self.idx)
            self.check_goes_on(volume, CONTENT)

    def test_both_cut(self) -> None:
        self.make()
        for dat_size in range(self.ends[2][0], len(self.dat), 10 + self.stride):
            for idx_size in range(self.ends[0][1], len(self.idx), 4 + self.stride):
                self.put(self.dat[:dat_size], self.idx[:idx_size])
                whole = sum(end <= dat_size for end, _ in self.ends)
                volume = self.open()
                self.check(volume, self.first(whole))
                self.check_goes_on(volume, self.first(whole))

    def test_repairs_tell_their_numbers(self) -> None:
        self.make()
        self.put(self.dat[:-10], self.idx + b"abc")
        repairs = {repair.kind: repair for repair in self.open().repairs}
        self.assertEqual(set(repairs), {"tail-cut", "rows-dropped", "row-cut"})
        tail = repairs["tail-cut"]
        self.assertEqual(tail.size, len(self.dat) - 10 - self.ends[-2][0])
        self.assertEqual(Path(tail.kept_as).read_bytes(), self.dat[self.ends[-2][0] : -10])
        self.assertEqual((repairs["rows-dropped"].rows, repairs["row-cut"].size), (1, 3))
        self.assertIn(str(self.ends[-2][0]), str(tail))

    def test_zeros_at_the_end(self) -> None:
        """What a file system leaves when the power fails: the length is new, the content is not."""
        self.make()
        for count in (1, 7, 8, 16, 31, 32, 4096, 100_001):
            self.put(self.dat + bytes(count), self.idx)
            volume = self.open()
            self.assertEqual([repair.kind for repair in volume.repairs], ["tail-cut"])
            self.assertEqual(self.kept(".dat"), [])
            self.check_goes_on(volume, CONTENT)

    def test_zeros_where_the_index_says_records_are(self) -> None:
        self.make()
        for whole in (1, 2, 3, 4):
            end = self.ends[whole - 1][0]
            self.put(self.dat[:end] + bytes(len(self.dat) - end), self.idx)
            volume = self.open()
            self.assertEqual({repair.kind for repair in volume.repairs}, {"tail-cut", "rows-dropped"})
            self.check_goes_on(volume, self.first(whole))

    def test_zeros_in_the_index(self) -> None:
        self.make()
        for start in range(0, len(self.idx), ROW_SIZES[self.width]):
            self.put(self.dat, self.idx[:start] + bytes(len(self.idx) - start))
            self.check_goes_on(self.open(), CONTENT)
            self.put(
                self.dat, self.idx[:start] + bytes(ROW_SIZES[self.width]) + self.idx[start + ROW_SIZES[self.width] :]
            )
            self.check_goes_on(self.open(), CONTENT)

    def test_a_last_record_with_a_wrong_crc_that_the_index_does_not_know_is_torn(self) -> None:
        self.make()
        start = self.ends[-2][0]
        spoiled = bytearray(self.dat)
        spoiled[start + 25] ^= 1
        self.put(bytes(spoiled), self.idx[: self.ends[-2][1]])
        volume = self.open()
        self.assertEqual(self.kept(".dat"), [bytes(spoiled[start:])])
        self.check_goes_on(volume, self.first(4))

    def test_a_record_with_a_wrong_crc_that_the_index_knows_is_left(self) -> None:
        self.make()
        for whole in range(5):
            if not CONTENT[whole + 1]:
                continue
            start = self.ends[whole - 1][0] if whole else 8
            spoiled = bytearray(self.dat)
            spoiled[start + 21] ^= 1
            for idx in (self.idx, None):
                self.put(bytes(spoiled), idx)
                volume = self.open()
                self.assertEqual(self.kept(".dat"), [])
                self.assertRaises(Damaged, volume.read, whole + 1, whole + 1)
                others = {key: data for key, data in CONTENT.items() if key != whole + 1}
                self.check_goes_on(volume, others)


class WideTornTests(TornTests):
    width = 5
    stride = 7


class IndexTests(RecoveryCase):
    def test_missing(self) -> None:
        self.make()
        self.put(self.dat, None)
        volume = self.open()
        [repair] = volume.repairs
        self.assertEqual((repair.kind, repair.rows), ("index-rebuilt", 5))
        self.assertEqual(Path(self.files.idx).read_bytes(), self.idx)
        self.check_goes_on(volume, CONTENT)

    def test_of_other_data(self) -> None:
        """For example that of before a vacuum, or of another volume."""
        self.make()
        other = b"".join(pack_row(key, 8 + 8000 * key, 20000, self.width) for key in range(1, 9))
        swapped = self.idx[16:32] + self.idx[:12] + self.idx[28:32] + self.idx[32:]
        for idx, kinds in (
            (other, {"rows-dropped", "rows-added"}),  # not one row points into the data
            (b"\xff" * 160, {"rows-dropped", "rows-added"}),
            (swapped, {"index-rebuilt"}),
            (other[:16] + self.idx, {"index-rebuilt"}),
        ):
            self.put(self.dat, idx)
            volume = self.open()
            self.assertEqual({repair.kind for repair in volume.repairs}, kinds)
            self.assertEqual(self.kept(".idx"), [idx])
            self.assertEqual(Path(self.files.idx).read_bytes(), self.idx)
            self.check_goes_on(volume, CONTENT)

    def test_of_an_emptied_volume(self) -> None:
        self.make()
        self.put(self.dat[:8], self.idx)
        volume = self.open()
        self.assertEqual([(repair.kind, repair.rows) for repair in volume.repairs], [("rows-dropped", 5)])
        self.assertEqual(self.kept(".idx"), [self.idx])
        self.check(volume, {}, set(CONTENT))
        self.check_goes_on(volume, {})

    def test_history_is_kept(self) -> None:
        """A rebuilt index tells of overwrites and deletions as the old one did."""
        self.make()
        volume = self.open()
        volume.write(Needle(1, 1, b"one again"))
        volume.delete(2, 2)
        volume.delete(3, 3)
        volume.write(Needle(3, 3, b""))
        volume.write(Needle(4, 4, b""))
        stat = volume.info()
        volume.close()
        old = Path(self.files.idx).read_bytes()
        os.unlink(self.files.idx)
        again = self.open()
        self.assertEqual(Path(self.files.idx).read_bytes(), old)
        self.assertEqual(again.info(), stat)

    def test_index_in_a_folder_of_its_own(self) -> None:
        idx_folder = scratch(self)
        volume = Volume.create(self.folder, idx_folder, "", 3, replication=ReplicaPlacement(), clock=self.clock)
        volume.write(Needle(1, 1, b"one"))
        volume.close()
        self.assertEqual(os.listdir(idx_folder), ["3.idx"])
        files = VolumeFiles.locate(self.folder, idx_folder, "", 3)
        Path(files.idx).write_bytes(b"")
        self.check(Volume.open(files, clock=self.clock), {1: b"one"})
        self.assertFalse(os.path.exists(self.files.idx))


class DistrustTests(RecoveryCase):
    """What no crash explains is not touched; what can be read is."""

    def check_untouched(self, volume: Volume, readable: dict[int, bytes], missing: set[int]) -> None:
        before = {path.name: path.read_bytes() for path in Path(self.folder).iterdir()}
        self.assertNotEqual(volume.read_only_reason, "")
        self.assertRaises(ReadOnlyVolume, volume.write, Needle(9, 9, b"x"))
        self.assertRaises(ReadOnlyVolume, volume.delete, 1, 1)
        self.check(volume, readable, missing)
        volume.close()
        self.assertEqual({path.name: path.read_bytes() for path in Path(self.folder).iterdir()}, before)

    def test_garbage_between_records_that_the_index_does_not_know(self) -> None:
        self.make()
        middle = self.ends[1][0]
        for garbage in (b"\xff" * 64, b"\0" * 64, os.urandom(256), b"\x7f" * 8):
            dat = self.dat[:middle] + garbage + self.dat[middle:]
            for idx in (self.idx[: self.ends[1][1]], b"", None):
                self.put(dat, idx)
                volume = self.open()
                self.assertIn(f"from {middle} on", volume.read_only_reason)
                self.check_untouched(volume, CONTENT, set())
                self.assertEqual(Path(self.files.dat).read_bytes(), dat)

    def test_a_broken_header_before_records_that_the_index_does_not_know(self) -> None:
        self.make()
        dat = bytearray(self.dat)
        dat[self.ends[0][0] + 12] ^= 0x40  # the size of the second record
        self.put(bytes(dat), None)
        others = {key: data for key, data in CONTENT.items() if key != 2}
        self.check_untouched(self.open(), others, {2})
        # Now it looks like one torn record that reaches behind the end: what lies in it is not believed, nor cut.
        dat[self.ends[0][0] + 12 : self.ends[0][0] + 16] = (60_000).to_bytes(4)
        self.put(bytes(dat), None)
        self.check_untouched(self.open(), self.first(1), {2, 3, 4, 5})

    def test_a_broken_header_that_the_index_knows(self) -> None:
        self.make()
        dat = bytearray(self.dat)
        dat[self.ends[0][0] + 12] ^= 0xC0
        self.put(bytes(dat), self.idx)
        volume = self.open()
        others = {key: data for key, data in CONTENT.items() if key != 2}
        self.assertRaises(Damaged, volume.read, 2, 2)
        self.check_untouched(volume, others, set())

    def test_a_file_within_a_file_is_never_taken_for_one(self) -> None:
        """Somebody stores a .dat file: while it is being written the server dies."""
        inner = pack(Needle(666, 1, b"not what was stored", append_at_ns=int(1.8e18) + 10**9))
        self.make({1: b"one", 2: b"12345678901234567890" + bytes(4) + inner * 3 + b"end" * 200})
        for size in range(self.ends[0][0] + 200, len(self.dat), 8):
            self.put(self.dat[:size], self.idx[: self.ends[0][1]])
            volume = self.open()
            self.check(volume, {1: b"one"}, {2})
            volume.close()

    def test_files_that_may_not_be_written(self) -> None:
        self.make()
        ops = FaultyOps()

        class ReadOnlyDisk(FaultyOps):
            def open(self, path: str, flags: int) -> int:
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    raise OSError(30, "Read-only file system", path)
                return super().open(path, flags)

        ops = ReadOnlyDisk()
        volume = Volume.open(self.files, clock=self.clock, ops=ops)
        self.assertIn("may not be written", volume.read_only_reason)
        self.check(volume, CONTENT)
        self.assertEqual(volume.index_rows(), self.idx)

    def test_no_room_for_the_copy_of_what_is_to_be_cut(self) -> None:
        self.make()
        torn = self.dat[: -3 - 16]
        self.put(torn, self.idx)
        ops = FaultyOps()
        ops.faults.append(Fault("pwritev", 28, suffix=".cut-1"))
        volume = Volume.open(self.files, clock=self.clock, ops=ops)
        self.assertIn("No space left", volume.read_only_reason)
        self.check(volume, self.first(4), {5})
        volume.close()
        self.assertEqual(Path(self.files.dat).read_bytes(), torn)
        self.assertEqual(self.kept(".dat"), [])
        self.check_goes_on(self.open(), self.first(4))

    def test_a_key_that_index_and_data_disagree_on(self) -> None:
        """One of both was damaged; nobody can tell which."""
        self.make()
        start = self.ends[1][0]
        dat = bytearray(self.dat)
        dat[start + 10] ^= 1
        idx = bytearray(self.idx)
        idx[2 * ROW_SIZES[self.width] + 1] ^= 1
        others = {key: data for key, data in CONTENT.items() if key != 3}
        for spoiled_dat, spoiled_idx in ((bytes(dat), self.idx), (self.dat, bytes(idx))):
            self.put(spoiled_dat, spoiled_idx)
            volume = self.open()
            self.assertIn("1 of 5", volume.read_only_reason)
            self.check_untouched(volume, others, {1 << 40})


class FuzzTests(RecoveryCase):
    @settings(max_examples=120, deadline=None)
    @given(st.data())
    def test_damage_is_told_and_never_served(self, data: st.DataObject) -> None:
        """Bytes change, vanish and appear in any of the files: wrong data is never handed out as right."""
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        self.make()
        for path in (self.files.dat, self.files.idx, self.files.vif):
            content = bytearray(Path(path).read_bytes())
            for _ in range(data.draw(st.integers(0, 3))):
                place = data.draw(st.integers(0, len(content)))
                replaced = data.draw(st.integers(0, 40))
                content[place : place + replaced] = data.draw(st.binary(max_size=40))
            Path(path).write_bytes(content)
        try:
            volume = self.open()
        except StorageError as error:
            self.assertNotEqual(error.reason, "")
            return
        for key in range(7):
            try:
                found = bytes(volume.read(key, key).data)
            except (Damaged, NeedleNotFound, CookieMismatch):
                continue
            # A file of size 0 has no checksum; all others have.
            self.assertIn(found, (CONTENT.get(key), b""))
        if not volume.read_only_reason:
            volume.write(Needle(99, 99, b"afterwards"))
            volume.close()
            volume = self.open()
            self.assertEqual(bytes(volume.read(99, 99).data), b"afterwards")
        volume.close()

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def test_damage_to_one_file_costs_no_other(self, data: st.DataObject) -> None:
        """Bytes change within one record, and with it the index may be short, or lost."""
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        self.make()
        number = data.draw(st.integers(0, len(CONTENT) - 1))
        start = self.ends[number - 1][0] if number else 8
        end = self.ends[number][0]
        dat = bytearray(self.dat)
        place = data.draw(st.integers(start, end - 1))
        spoiled = data.draw(st.binary(min_size=1, max_size=min(30, end - place)))
        dat[place : place + len(spoiled)] = spoiled
        rows = data.draw(st.sampled_from([None, *range(0, len(self.idx) + 1, ROW_SIZES[self.width])]))
        self.put(bytes(dat), None if rows is None else self.idx[:rows])
        volume = self.open()
        damaged = number + 1
        # What claims to be longer than the rest of the file may have been torn: then nobody believes what is in it.
        claims = start + 16 + int.from_bytes(dat[start + 12 : start + 16], signed=True)
        indexed = rows is not None and rows == len(self.idx)
        for key, content in CONTENT.items():
            if key < damaged or (key > damaged and (indexed or claims <= len(dat))):
                self.assertEqual(bytes(volume.read(key, key).data), content)
        if volume.read_only_reason == "":
            for repair in volume.repairs:
                self.assertTrue(repair.kind != "tail-cut" or repair.kept_as or not any(dat[start:]))
        volume.close()


class NoVolumeTests(RecoveryCase):
    def test_no_dat(self) -> None:
        self.make()
        os.unlink(self.files.dat)
        error = self.assertRaises(StorageError, self.open)
        self.assertIn("no .dat", str(error))

    def test_unreadable_super_block(self) -> None:
        self.make()
        for start in (b"", b"\3\0\0\0\0\0\0", b"\4" + self.dat[1:], b"\3\0\0\x09" + self.dat[4:]):
            self.put(start, self.idx)
            error = self.assertRaises(Damaged, self.open)
            self.assertIn(self.files.dat, str(error))
            self.assertEqual(Path(self.files.dat).read_bytes(), start)

    def test_data_in_a_remote_store(self) -> None:
        self.make()
        text = Path(self.files.vif).read_text().replace('"files":  []', '"files":  [{"backendType": "s3"}]')
        Path(self.files.vif).write_text(text)
        self.assertIn("remote", str(self.assertRaises(StorageError, self.open)))

    def test_an_unreadable_disk(self) -> None:
        self.make()
        ops = FaultyOps()
        ops.faults.append(Fault("pread", suffix=".idx"))
        error = self.assertRaises(StorageError, Volume.open, self.files, clock=self.clock, ops=ops)
        self.assertIn("Input/output error", str(error))


class CrashInRecoveryTests(RecoveryCase):
    def test_a_crash_at_every_step_of_a_repair(self) -> None:
        self.make()
        shutil.copy(self.files.vif, self.files.vif + ".saved")
        half = self.ends[3][0] + 21
        for dat, idx, wanted in (
            (self.dat[:half], self.idx + b"abc", self.first(4)),
            (self.dat[:half], self.idx[:5], self.first(4)),
            (self.dat, None, CONTENT),
            (self.dat, self.idx[::-1], CONTENT),
        ):
            for torn in (False, True):
                steps = 0
                while True:
                    self.put(dat, idx)
                    os.unlink(self.files.vif)
                    ops = CrashingOps(steps, torn=torn)
                    try:
                        Volume.open(self.files, clock=self.clock, ops=ops).close()
                    except Crash:
                        self.check_goes_on(self.open(), wanted)
                        steps += 1
                    else:
                        break
                self.assertGreater(steps, 4)


class PropertyTests(RecoveryCase):
    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_any_cut_of_any_history(self, data: st.DataObject) -> None:
        """Every file that was whole in what is left of .dat reads as it was last written there."""
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        volume = Volume.create(
            self.folder,
            None,
            "",
            3,
            replication=ReplicaPlacement(),
            offset_width=self.width,
            clock=self.clock,
            ops=QuickOps(),
        )
        states: list[tuple[int, dict[int, bytes]]] = [(8, {})]
        for _ in range(data.draw(st.integers(0, 8))):
            key = data.draw(st.integers(1, 3))
            state = dict(states[-1][1])
            if data.draw(st.booleans()):
                state[key] = data.draw(st.binary(max_size=30))
                volume.write(Needle(key, key, state[key]))
            elif volume.delete(key, key) is not None:
                del state[key]
            states.append((volume.generation.dat_size, state))
        volume.close()
        dat, idx = Path(self.files.dat).read_bytes(), Path(self.files.idx).read_bytes()
        size = data.draw(st.integers(8, len(dat)))
        rows = data.draw(st.none() | st.integers(0, len(idx)))
        self.put(dat[:size], None if rows is None else idx[:rows])
        again = self.open()
        padding = any(repair.kind == "padding-added" for repair in again.repairs)
        wanted = [state for end, state in states if end <= (size + 8 if padding else size)][-1]
        self.check(again, wanted, {1, 2, 3} - set(wanted))
        self.assertEqual(again.read_only_reason, "")
        again.close()
