"""What a volume does when all goes well: write, overwrite, read, delete, expire, stop and go on."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import (
    CookieMismatch,
    Damaged,
    NeedleNotFound,
    ReadOnlyVolume,
    StorageError,
    VolumeFull,
)
from weedtw.formats.idx import ROW_SIZES
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.storage.names import VolumeFiles
from weedtw.storage.testing import ManualClock, scratch
from weedtw.storage.volume import Volume

FULL = Needle(
    0xC00C1E, 5, b"some data", name=b"a.txt", mime=b"text/plain", last_modified=1_700_000_000, pairs=b'{"A":"b"}'
)


class VolumeCase(SynchronousTestCase):
    ttl = Ttl()
    width = 4

    def setUp(self) -> None:
        self.folder = scratch(self)
        self.clock = ManualClock()
        self.files = VolumeFiles(self.folder, self.folder, "pics", 3)
        self.volume = Volume.create(
            self.folder,
            None,
            "pics",
            3,
            replication=ReplicaPlacement.parse("001"),
            ttl=self.ttl,
            offset_width=self.width,
            clock=self.clock,
        )

    def reopen(self) -> Volume:
        self.volume.close()
        self.volume = Volume.open(self.files, clock=self.clock)
        self.assertEqual(self.volume.repairs, ())
        return self.volume

    def data(self, key: int, cookie: int) -> bytes:
        return bytes(self.volume.read(key, cookie).data)


class WritingTests(VolumeCase):
    def test_reads_back_what_was_written(self) -> None:
        written = self.volume.write(FULL)
        self.assertEqual((written.offset, written.unchanged, written.etag), (8, False, f"{FULL.checksum:08x}"))
        for _ in range(2):
            needle = self.volume.read(5, 0xC00C1E)
            self.assertEqual(
                (bytes(needle.data), needle.name, needle.mime, needle.last_modified, needle.pairs),
                (b"some data", b"a.txt", b"text/plain", 1_700_000_000, b'{"A":"b"}'),
            )
            self.reopen()

    def test_files_are_those_of_seaweedfs(self) -> None:
        self.assertEqual(sorted(os.listdir(self.folder)), ["pics_3.dat", "pics_3.idx", "pics_3.vif"])
        self.assertEqual(Path(self.files.dat).read_bytes(), b"\3\1\0\0\0\0\0\0")
        self.assertEqual(Path(self.files.idx).read_bytes(), b"")
        self.assertIn('"bytesOffset":  4', Path(self.files.vif).read_text())

    def test_records_begin_at_multiples_of_8_and_tile_the_file(self) -> None:
        for size in range(40):
            written = self.volume.write(Needle(1, size + 1, b"x" * size))
            self.assertEqual(written.offset % 8, 0)
        self.assertEqual(os.path.getsize(self.files.dat) % 8, 0)
        self.assertEqual(os.path.getsize(self.files.dat), self.volume.info().size)
        self.assertEqual(os.path.getsize(self.files.idx), 40 * ROW_SIZES[self.width])

    def test_time_of_append_always_rises(self) -> None:
        times = []
        for key in range(1, 5):
            self.volume.write(Needle(1, key, b"x"))
            times.append(self.volume.read(key, 1).append_at_ns)
        self.clock.advance(-1000)
        self.reopen().write(Needle(1, 9, b"x"))
        times.append(self.volume.read(9, 1).append_at_ns)
        self.assertEqual(times[0], int(1_800_000_000e9))
        self.assertEqual(times, [times[0] + step for step in range(5)])

    def test_large_data(self) -> None:
        data = os.urandom(3 << 20)
        self.volume.write(Needle(1, 1, data))
        self.assertEqual(self.data(1, 1), data)
        self.assertIsNone(self.volume.try_read_cached(1, 1))

    def test_a_memoryview_is_data(self) -> None:
        self.volume.write(Needle(1, 1, memoryview(b"--data--")[2:6]))
        self.assertEqual(self.data(1, 1), b"data")

    def test_every_key(self) -> None:
        for key in (0, 1, 2**32, 2**64 - 1):
            self.volume.write(Needle(2**32 - 1, key, b"x"))
        self.reopen()
        for key in (0, 1, 2**32, 2**64 - 1):
            self.assertEqual(self.data(key, 2**32 - 1), b"x")
        self.assertEqual(self.volume.info().max_key, 2**64 - 1)


class OverwritingTests(VolumeCase):
    def test_the_cookie_must_be_the_same(self) -> None:
        self.volume.write(FULL)
        self.assertRaises(CookieMismatch, self.volume.write, Needle(1, 5, b"other"))
        self.assertEqual(self.data(5, 0xC00C1E), b"some data")

    def test_last_write_holds(self) -> None:
        for data in (b"one", b"two", b"", b"four"):
            self.volume.write(Needle(1, 5, data))
            self.assertEqual(self.data(5, 1), data)
        self.assertEqual(bytes(self.reopen().read(5, 1).data), b"four")

    def test_after_a_deletion_any_cookie_will_do(self) -> None:
        self.volume.write(Needle(1, 5, b"one"))
        self.volume.delete(5, 1)
        self.volume.write(Needle(2, 5, b"two"))
        self.assertEqual(self.data(5, 2), b"two")
        self.assertRaises(CookieMismatch, self.volume.read, 5, 1)

    def test_the_very_same_is_not_written_again(self) -> None:
        first = self.volume.write(FULL)
        again = self.volume.write(FULL)
        self.assertTrue(again.unchanged)
        self.assertEqual(
            (again.offset, again.size, again.etag, again.undo), (first.offset, first.size, first.etag, None)
        )
        self.assertEqual(self.volume.info().file_count, 1)

    def test_other_metadata_is_written(self) -> None:
        self.volume.write(FULL)
        for change in (
            {"name": b"b.txt"},
            {"mime": b"text/html!"},
            {"pairs": b'{"A":"c"}'},
            {"last_modified": 1},
            {"is_gzipped": True},
            {"is_manifest": True},
            {"last_modified": None},
        ):
            self.assertFalse(self.volume.write(attrs.evolve(FULL, **change)).unchanged, change)
            self.assertFalse(self.volume.write(FULL).unchanged, change)

    def test_the_time_of_the_upload_makes_no_difference(self) -> None:
        self.volume.write(FULL)
        later = attrs.evolve(FULL, last_modified=1_700_000_009)
        self.assertTrue(self.volume.write(later, time_given=False).unchanged)
        self.assertFalse(self.volume.write(later).unchanged)

    def test_an_empty_file_again(self) -> None:
        self.volume.write(Needle(1, 5, b"", last_modified=7))
        self.assertTrue(self.volume.write(Needle(1, 5, b"", last_modified=7)).unchanged)
        self.assertTrue(self.volume.write(Needle(1, 5, b""), time_given=False).unchanged)
        self.assertFalse(self.volume.write(Needle(1, 5, b"", last_modified=8)).unchanged)

    def test_a_damaged_file_is_written_again(self) -> None:
        written = self.volume.write(FULL)
        with open(self.files.dat, "r+b") as file:
            file.seek(written.offset + 22)
            file.write(b"?")
        self.assertRaises(Damaged, self.volume.read, 5, 0xC00C1E)
        self.assertFalse(self.volume.write(FULL).unchanged)
        self.assertEqual(self.data(5, 0xC00C1E), b"some data")


class ReadingTests(VolumeCase):
    def test_wrong_cookie(self) -> None:
        for data in (b"data", b""):
            self.volume.write(Needle(1, 5, data))
            self.assertRaises(CookieMismatch, self.volume.read, 5, 2)
            self.assertRaises(CookieMismatch, self.volume.try_read_cached, 5, 2)
            self.assertRaises(CookieMismatch, self.volume.delete, 5, 2)

    def test_what_is_not_there(self) -> None:
        self.assertRaises(NeedleNotFound, self.volume.read, 5, 1)
        self.assertRaises(NeedleNotFound, self.volume.try_read_cached, 5, 1)
        self.assertIsNone(self.volume.delete(5, 1))

    def test_without_verifying(self) -> None:
        written = self.volume.write(FULL)
        with open(self.files.dat, "r+b") as file:
            file.seek(written.offset + 20)
            file.write(b"S")
        self.assertRaises(Damaged, self.volume.read, 5, 0xC00C1E)
        self.assertEqual(bytes(self.volume.read(5, 0xC00C1E, verify=False).data), b"Some data")

    def test_another_record_in_its_place(self) -> None:
        first = self.volume.write(Needle(1, 5, b"one"))
        second = self.volume.write(Needle(1, 6, b"two"))
        content = bytearray(Path(self.files.dat).read_bytes())
        content[second.offset :] = content[first.offset : second.offset]
        Path(self.files.dat).write_bytes(content)
        error = self.assertRaises(Damaged, self.volume.read, 6, 1)
        self.assertIn(self.files.dat, str(error))

    def test_a_file_cut_short_behind_our_back(self) -> None:
        self.volume.write(FULL)
        os.truncate(self.files.dat, 20)
        self.assertRaises(Damaged, self.volume.read, 5, 0xC00C1E)
        self.assertRaises(Damaged, self.volume.read, 5, 0xC00C1E, verify=False)

    def test_closed(self) -> None:
        self.volume.write(FULL)
        self.volume.close()
        self.volume.close()
        self.assertRaises(StorageError, self.volume.read, 5, 0xC00C1E)
        self.assertRaises(StorageError, self.volume.write, FULL)

    def test_no_descriptor_is_left_open(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            self.reopen()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class DeletingTests(VolumeCase):
    def test_deleted_is_gone_for_good(self) -> None:
        written = self.volume.write(FULL)
        deleted = self.volume.delete(5, 0xC00C1E)
        assert deleted is not None
        self.assertEqual(deleted.size, written.size)
        for _ in range(2):
            self.assertRaises(NeedleNotFound, self.volume.read, 5, 0xC00C1E)
            self.assertIsNone(self.volume.delete(5, 0xC00C1E))
            self.assertEqual(bytes(self.volume.read(5, 0xC00C1E, read_deleted=True).data), b"some data")
            self.reopen()

    def test_an_empty_file_is_told_from_none(self) -> None:
        self.volume.write(Needle(1, 5, b""))
        deleted = self.volume.delete(5, 1)
        assert deleted is not None
        self.assertEqual(deleted.size, 0)

    def test_the_record_carries_the_crc(self) -> None:
        self.volume.write(FULL)
        size = self.volume.info().size
        self.volume.delete(5, 0xC00C1E)
        record = Path(self.files.dat).read_bytes()[size:]
        self.assertEqual(len(record), 32)
        self.assertEqual(record[:4], (0xC00C1E).to_bytes(4))
        self.assertEqual(record[12:20], bytes(4) + FULL.checksum.to_bytes(4))

    def test_counters(self) -> None:
        one = self.volume.write(Needle(1, 1, b"one"))
        self.volume.write(Needle(1, 2, b"two"))
        self.volume.write(Needle(1, 1, b"one again"))
        two = self.volume.delete(2, 1)
        assert two is not None
        for _ in range(2):
            stat = self.volume.info()
            self.assertEqual((stat.file_count, stat.delete_count), (3, 2))
            self.assertEqual(stat.deleted_bytes, one.size + two.size)
            self.assertGreater(self.volume.garbage_ratio(), 0.4)
            self.reopen()


class TtlTests(VolumeCase):
    ttl = Ttl.parse("5m")

    def test_files_take_the_volumes(self) -> None:
        self.volume.write(FULL)
        self.volume.write(Needle(1, 6, b""))
        self.assertEqual(self.volume.read(5, 0xC00C1E).ttl, self.ttl)
        self.clock.advance(299)
        self.assertEqual(self.data(6, 1), b"")
        self.clock.advance(1.1)
        for key, cookie in ((5, 0xC00C1E), (6, 1)):
            self.assertRaises(NeedleNotFound, self.volume.read, key, cookie)
            self.assertRaises(NeedleNotFound, self.volume.try_read_cached, key, cookie)

    def test_the_very_same_renews(self) -> None:
        self.volume.write(FULL)
        self.clock.advance(200)
        self.assertFalse(self.volume.write(FULL).unchanged)
        self.clock.advance(200)
        self.assertEqual(self.data(5, 0xC00C1E), b"some data")


class OwnTtlTests(VolumeCase):
    def test_its_own(self) -> None:
        self.volume.write(Needle(1, 1, b"short", ttl=Ttl.parse("1m")))
        self.volume.write(Needle(1, 2, b"", ttl=Ttl.parse("1m")))
        self.volume.write(Needle(1, 3, b"for ever"))
        self.clock.advance(59)
        self.assertEqual(self.data(1, 1), b"short")
        self.clock.advance(2)
        self.assertRaises(NeedleNotFound, self.volume.read, 1, 1)
        self.assertRaises(NeedleNotFound, self.volume.read, 2, 1)
        self.assertEqual(self.data(3, 1), b"for ever")


class ReadOnlyTests(VolumeCase):
    def test_operator(self) -> None:
        told: list[str] = []
        self.volume.on_change = lambda volume: told.append(volume.read_only_reason)
        self.volume.write(FULL)
        self.volume.set_read_only("moving house", persist=True)
        self.assertRaises(ReadOnlyVolume, self.volume.write, Needle(1, 9, b"x"))
        self.assertRaises(ReadOnlyVolume, self.volume.delete, 5, 0xC00C1E)
        self.assertEqual(self.data(5, 0xC00C1E), b"some data")
        self.assertEqual((self.volume.info().read_only, self.volume.info().read_only_reason), (True, "moving house"))
        self.reopen()
        self.assertTrue(self.volume.info().read_only)
        self.volume.set_read_only(None, persist=True)
        self.volume.write(Needle(1, 9, b"x"))
        self.assertFalse(self.reopen().info().read_only)
        self.assertEqual(told, ["moving house"])

    def test_not_persisted(self) -> None:
        self.volume.set_read_only("for now")
        self.assertTrue(self.volume.info().read_only)
        self.assertFalse(self.reopen().info().read_only)

    def test_deletions_pass_when_room_is_low(self) -> None:
        self.volume.write(FULL)
        self.volume.set_read_only("little room", cause="low space")
        self.assertRaises(ReadOnlyVolume, self.volume.write, Needle(1, 9, b"x"))
        self.assertIsNotNone(self.volume.delete(5, 0xC00C1E))


class LimitTests(VolumeCase):
    def test_the_end_of_what_rows_can_address(self) -> None:
        self.volume.write(FULL)
        self.volume.close()
        for width, limit in ((4, 32 << 30), (5, 8 << 40)):
            files = VolumeFiles(self.folder, self.folder, "", 100 + width)
            volume = Volume.create(
                self.folder,
                None,
                "",
                100 + width,
                replication=ReplicaPlacement(),
                offset_width=width,
                clock=self.clock,
            )
            generation = volume.generation
            # A sparse file: the kernel keeps no blocks for what was never written.
            generation.dat_size = limit - 64
            first = volume.write(Needle(1, 1, b"x"))
            self.assertEqual(first.offset, limit - 64)
            error = self.assertRaises(VolumeFull, volume.write, Needle(1, 2, b"x"))
            self.assertIn(files.dat, str(error))
            self.assertEqual(bytes(volume.read(1, 1).data), b"x")
            self.assertFalse(volume.info().read_only)
            volume.drop()


class ThreadsTests(VolumeCase):
    def test_readers_and_writers_at_once(self) -> None:
        # Threads take turns a hundred times as often as they would: else readers that find nothing keep writers
        # waiting, which give their turn away at each write.
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(5e-5)
        stop = threading.Event()

        def content(key: int, turn: int) -> bytes:
            return f"{key} {turn} ".encode() * (key % 50 + 1)

        def write(start: int) -> None:
            for turn in range(3):
                for key in range(start, start + 700):
                    self.volume.write(Needle(key, key, content(key, turn)))
                    if key % 7 == 0:
                        self.volume.delete(key, key)

        def read() -> int:
            seen = 0
            while not stop.is_set():
                for key in range(1, 3000, 13):
                    try:
                        data = self.data(key, key)
                    except NeedleNotFound:
                        continue
                    assert data in {content(key, turn) for turn in range(3)}
                    seen += 1
            return seen

        with ThreadPoolExecutor(5) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            writers = [threads.submit(write, 1 + 1000 * number) for number in range(3)]
            try:
                for writer in writers:
                    writer.result()
            finally:
                stop.set()
            self.assertGreater(min(reader.result() for reader in readers), 0)
        self.reopen()
        for start in (1, 1001, 2001):
            for key in range(start, start + 700):
                if key % 7 == 0:
                    self.assertRaises(NeedleNotFound, self.volume.read, key, key)
                else:
                    self.assertEqual(self.data(key, key), content(key, 2))


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["write", "write", "delete", "revert", "reopen", "rebuild"]),
                st.integers(1, 6),
                st.binary(max_size=40),
            ),
            max_size=30,
        ),
        st.sampled_from([4, 5]),
    )
    def test_behaves_like_a_dict(self, steps: list[tuple[str, int, bytes]], width: int) -> None:
        folder, clock = scratch(self), ManualClock()
        files = VolumeFiles(folder, folder, "", 1)
        volume = Volume.create(folder, None, "", 1, replication=ReplicaPlacement(), offset_width=width, clock=clock)
        model: dict[int, bytes] = {}
        for name, key, data in steps:
            if name == "write":
                volume.write(Needle(key, key, data))
                model[key] = data
            elif name == "delete":
                self.assertEqual(volume.delete(key, key) is not None, key in model)
                model.pop(key, None)
            elif name == "revert":
                undo = volume.write(Needle(key, key, data + b"!")).undo
                if undo is not None:
                    self.assertTrue(volume.revert(undo))
            else:
                volume.close()
                if name == "rebuild":
                    os.unlink(files.idx)
                volume = Volume.open(files, clock=clock)
            for known in range(1, 7):
                if known in model:
                    self.assertEqual(bytes(volume.read(known, known).data), model[known])
                else:
                    self.assertRaises(NeedleNotFound, volume.read, known, known)
        volume.close()
