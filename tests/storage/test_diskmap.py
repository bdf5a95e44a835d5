"""A volume whose map is on disk: it opens without reading the index again, and with any leaving of a crash."""

import os
import shutil
from pathlib import Path

import lmdb
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config.model import IndexKind
from weedtw.errors import NeedleNotFound
from weedtw.formats.idx import Rows
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.storage import diskmap
from weedtw.storage.diskmap import DiskMap
from weedtw.storage.fileops import FileOps
from weedtw.storage.lifecycle import remove_files
from weedtw.storage.mark import Mark
from weedtw.storage.names import VolumeFiles
from weedtw.storage.needlemap import NeedleMap
from weedtw.storage.testing import Crash, CrashingOps, ManualClock, PowerCutOps, QuickOps, scratch
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume


class DiskMapCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = scratch(self)
        self.clock = ManualClock()
        self.files = VolumeFiles(self.folder, self.folder, "pics", 3)
        self.patch(diskmap, "_SYNC", False)
        self.patch(diskmap, "_MERGE_AT", 3)
        self.patch(diskmap, "PIECE", 4)

    def make(self, ops: FileOps | None = None, index: IndexKind = "lmdb") -> Volume:
        return Volume.create(
            self.folder,
            None,
            "pics",
            3,
            replication=ReplicaPlacement(),
            clock=self.clock,
            ops=ops or QuickOps(),
            index=index,
        )

    def open(self, ops: FileOps | None = None, index: IndexKind = "lmdb") -> Volume:
        return Volume.open(self.files, clock=self.clock, ops=ops or QuickOps(), index=index)

    def fill(self, volume: Volume) -> dict[int, bytes | None]:
        wanted: dict[int, bytes | None] = {}
        for key in range(1, 31):
            wanted[key] = b"%d" % key
            volume.write(Needle(key, key, wanted[key] or b""))
        for key in range(2, 31, 3):
            volume.delete(key, key)
            wanted[key] = None
        for key in range(3, 31, 3):
            wanted[key] = b"again %d" % key
            volume.write(Needle(key, key, wanted[key] or b""))
        return wanted

    def check(self, volume: Volume, wanted: dict[int, bytes | None]) -> None:
        for key, data in wanted.items():
            try:
                found: bytes | None = bytes(volume.read(key, key).data)
            except NeedleNotFound:  # not assertRaises, which keeps the traceback, and with it the map open
                found = None
            self.assertEqual(found, data, key)

    def folders(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if ".lmdb" in name)


class OpeningTests(DiskMapCase):
    def test_only_what_is_new_is_entered(self) -> None:
        volume = self.make()
        wanted = self.fill(volume)
        stat = volume.info()
        volume.close()
        entered: list[int] = []
        enter = DiskMap.enter

        def counted(one: DiskMap, rows: Rows, mark: Mark) -> None:
            entered.append(len(rows.keys))
            enter(one, rows, mark)

        self.patch(DiskMap, "enter", counted)
        for _ in range(2):
            volume = self.open()
            self.assertIsInstance(volume.generation.needles, DiskMap)
            self.check(volume, wanted)
            self.assertEqual((volume.info(), volume.repairs), (stat, ()))
            volume.close()
        self.assertLess(sum(entered), 8)

    def test_the_folder_may_be_removed(self) -> None:
        volume = self.make()
        wanted, stat = self.fill(volume), volume.info()
        volume.close()
        shutil.rmtree(self.files.map_folder(0))
        volume = self.open()
        self.check(volume, wanted)
        self.assertEqual((volume.info(), volume.repairs), (stat, ()))

    def test_from_memory_and_back(self) -> None:
        volume = self.make(index="memory")
        wanted, stat = self.fill(volume), volume.info()
        volume.close()
        kinds: tuple[IndexKind, ...] = ("lmdb", "memory", "lmdb", "lmdb")
        for index in kinds:
            volume = self.open(index=index)
            self.check(volume, wanted)
            self.assertEqual((volume.info(), volume.repairs), (stat, ()))
            self.assertEqual(self.folders(), ["pics_3.lmdb-0"] if index == "lmdb" else [])
            volume.close()

    def test_used_without_it_meanwhile(self) -> None:
        volume = self.make()
        wanted = self.fill(volume)
        volume.close()
        saved = scratch(self)
        shutil.copytree(self.files.map_folder(0), saved, dirs_exist_ok=True)
        volume = self.open(index="memory")
        volume.write(Needle(40, 40, b"more"))
        volume.delete(1, 1)
        volume.close()
        shutil.copytree(saved, self.files.map_folder(0))
        volume = self.open()
        self.check(volume, wanted | {40: b"more", 1: None})

    def test_of_another_index(self) -> None:
        volume = self.make()
        self.fill(volume)
        volume.close()
        shutil.move(self.files.map_folder(0), self.folder + "/saved")
        for path in (self.files.dat, self.files.idx, self.files.vif):
            os.unlink(path)
        volume = self.make()
        for key in range(100, 160):
            volume.write(Needle(key, key, b"of the other"))
        volume.close()
        shutil.rmtree(self.files.map_folder(0))
        shutil.move(self.folder + "/saved", self.files.map_folder(0))
        volume = self.open()
        self.check(volume, {1: None, 100: b"of the other", 159: b"of the other"})

    def test_garbage_in_its_place(self) -> None:
        volume = self.make()
        wanted = self.fill(volume)
        volume.close()
        for content in (b"", b"garbage" * 5000):
            Path(self.files.map_folder(0), "data.mdb").write_bytes(content)
            volume = self.open()
            self.check(volume, wanted)
            volume.close()

    def test_where_none_can_be_made(self) -> None:
        volume = self.make(index="memory")
        wanted = self.fill(volume)
        volume.close()
        Path(self.files.map_folder(0)).write_bytes(b"a file")
        volume = self.open()
        self.assertIsInstance(volume.generation.needles, NeedleMap)
        self.check(volume, wanted)

    def test_damage_that_is_mended(self) -> None:
        for name, cut in ((".idx", 5), (".idx", 16), (".dat", 3), (".dat", 40)):
            shutil.rmtree(self.folder)
            os.mkdir(self.folder)
            volume = self.make()
            wanted = self.fill(volume)
            volume.close()
            path = self.files.idx if name == ".idx" else self.files.dat
            os.truncate(path, os.path.getsize(path) - cut)
            volume = self.open()
            self.assertNotEqual(volume.repairs, ())
            self.assertIsInstance(volume.generation.needles, DiskMap)
            if cut == 40:
                wanted[30] = b"30"  # what it held before the last write
            self.check(volume, wanted)
            volume.write(Needle(50, 50, b"goes on"))
            volume.close()
            volume = self.open()
            self.check(volume, wanted | {50: b"goes on"})
            self.assertEqual(volume.repairs, ())
            volume.close()

    def test_deleting_the_volume_removes_it(self) -> None:
        volume = self.make()
        self.fill(volume)
        volume.drop()
        remove_files(self.files, volume.ops)
        self.assertEqual(os.listdir(self.folder), [])


class MergingTests(DiskMapCase):
    def test_a_disk_that_takes_no_more(self) -> None:
        volume = self.make()
        wanted = self.fill(volume)
        needles = volume.generation.needles
        assert isinstance(needles, DiskMap)
        put = diskmap._put

        def full(*_: object, **__: object) -> None:
            raise lmdb.DiskError("No space left on device")

        self.patch(diskmap, "_put", full)
        for key in range(100, 120):
            wanted[key] = b"kept in memory"
            volume.write(Needle(key, key, b"kept in memory"))
        self.check(volume, wanted)
        self.patch(diskmap, "_put", put)
        for key in range(200, 250):
            volume.write(Needle(key, key, b"x"))
        self.check(volume, wanted)
        self.assertGreater(len(needles), 50)
        self.assertIsNotNone(needles.mark)
        volume.close()


class VacuumTests(DiskMapCase):
    def test_one_after_the_other(self) -> None:
        volume = self.make()
        wanted = self.fill(volume)
        for turn in range(1, 4):
            compaction = compact(volume)
            volume.write(Needle(1, 1, b"turn %d" % turn))
            volume.delete(4, 4)
            wanted |= {1: b"turn %d" % turn, 4: None}
            compaction.commit()
            self.assertIsInstance(volume.generation.needles, DiskMap)
            self.assertEqual(self.folders(), [f"pics_3.lmdb-{turn}"])
            self.check(volume, wanted)
        stat = volume.info()
        volume.close()
        volume = self.open()
        self.assertEqual((volume.info(), volume.repairs), (stat, ()))
        self.check(volume, wanted)

    def test_given_up(self) -> None:
        volume = self.make()
        wanted = self.fill(volume)
        for _ in range(2):
            compact(volume).cleanup()
            self.assertEqual(self.folders(), ["pics_3.lmdb-0"])
        self.check(volume, wanted)
        compact(volume).commit()
        self.check(volume, wanted)

    def test_an_overwrite_meanwhile_can_be_taken_back(self) -> None:
        volume = self.make()
        volume.write(Needle(1, 1, b"before"))
        compaction = compact(volume)
        written = volume.write(Needle(1, 1, b"after"))
        compaction.commit()
        assert written.undo is not None
        self.assertTrue(volume.revert(written.undo))
        self.check(volume, {1: b"before"})


class CrashTests(DiskMapCase):
    def work(self, volume: Volume, acknowledged: dict[int, bytes | None]) -> None:
        def write(key: int, data: bytes) -> None:
            acknowledged.pop(key, None)  # it is not known until the end of this
            volume.write(Needle(key, key, data), fsync=True)
            acknowledged[key] = data

        for key in range(1, 5):
            write(key, b"one")
        del acknowledged[2]
        volume.delete(2, 2, fsync=True)
        acknowledged[2] = None
        compaction = compact(volume)
        write(9, b"meanwhile")
        write(1, b"two")
        compaction.commit()
        for key in range(10, 13):
            write(key, b"three")

    def test_at_every_step(self) -> None:
        for power in (False, True):
            steps = 0
            while True:
                shutil.rmtree(self.folder)
                os.mkdir(self.folder)
                self.make().close()
                ops = PowerCutOps(self.folder, steps) if power else CrashingOps(steps, torn=True)
                acknowledged: dict[int, bytes | None] = {}
                finished = True
                volume = self.open(ops)
                try:
                    self.work(volume, acknowledged)
                except Crash:
                    finished = False
                volume.drop()
                del volume
                if isinstance(ops, PowerCutOps):  # the environment may have all that was ever put into it
                    for path in (self.files.dat, self.files.idx, self.files.vif):
                        Path(path).unlink(missing_ok=True)
                    for name in os.listdir(self.folder):
                        if ".lmdb" not in name:
                            os.unlink(os.path.join(self.folder, name))
                    ops.cut(self.folder)
                volume = self.open()
                self.check(volume, acknowledged)
                self.assertEqual(volume.read_only_reason, "")
                counters = volume.generation.needles.counters
                volume.close()
                volume = self.open(index="memory")
                self.assertEqual(volume.generation.needles.counters, counters)
                self.check(volume, acknowledged)
                volume.close()
                if finished:
                    break
                steps += 1
            self.assertGreater(steps, 30)


class PropertyTests(DiskMapCase):
    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def test_any_history_is_what_memory_makes_of_it(self, data: st.DataObject) -> None:
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        volume = self.make()
        model: dict[int, bytes | None] = {}
        for _ in range(data.draw(st.integers(0, 25))):
            name = data.draw(st.sampled_from(["write", "write", "write", "delete", "open", "vacuum", "forget"]))
            key = data.draw(st.integers(1, 6))
            if name == "write":
                model[key] = data.draw(st.binary(max_size=20))
                volume.write(Needle(key, key, model[key] or b""))
            elif name == "delete":
                volume.delete(key, key)
                model[key] = None
            elif name == "vacuum":
                compact(volume).commit()
            else:
                volume.close()
                if name == "forget":
                    shutil.rmtree(self.files.map_folder(volume_revision(self.files)), ignore_errors=True)
                volume = self.open()
        self.check(volume, model)
        counters = volume.generation.needles.counters
        volume.close()
        volume = self.open(index="memory")
        self.assertEqual(volume.generation.needles.counters, counters)
        self.check(volume, model)
        volume.close()


def volume_revision(files: VolumeFiles) -> int:
    """As the super block has it."""
    return int.from_bytes(Path(files.dat).read_bytes()[4:6])
