"""Folders and the volumes in them: taken by one process, opened, shared out, watched for room, deleted."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config.model import MinFree
from weedtw.errors import (
    BadCollection,
    FolderInUse,
    NeedleNotFound,
    NoRoom,
    ReadOnlyVolume,
    StorageError,
    VolumeNotFound,
    WriteFailed,
)
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.storage.location import DiskLocation, FreeSpaceFloor
from weedtw.storage.report import VolumeStat
from weedtw.storage.store import Store
from weedtw.storage.testing import Crash, CrashingOps, Fault, FaultyOps, ManualClock, QuickOps, scratch


class StoreCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folders = [scratch(self), scratch(self)]
        self.clock = ManualClock()
        self.changes: list[tuple[str, int, str]] = []
        self.ops = FaultyOps()
        self.stores: list[Store] = []
        self.addCleanup(lambda: [store.close() for store in self.stores])

    def changed(self, kind: str, stat: VolumeStat) -> None:
        self.changes.append((kind, stat.id, stat.read_only_reason))

    def location(self, number: int = 0, **settings: Any) -> DiskLocation:
        return attrs.evolve(DiskLocation(self.folders[number], clock=self.clock, ops=self.ops), **settings)

    def store(self, *locations: DiskLocation) -> Store:
        store = Store(locations or (self.location(),), clock=self.clock, changed=self.changed)
        self.stores.append(store)
        store.open()
        return store

    def abandon(self, location: DiskLocation) -> None:
        """The process that held it is dead: its locks are free, and it never gets to close anything."""
        for lock in location._locks:
            lock.release()
        self.stores.clear()

    def names(self, number: int = 0) -> list[str]:
        return sorted(name for name in os.listdir(self.folders[number]) if not name.startswith("."))


class FolderTests(StoreCase):
    def test_a_second_one_in_the_same_process(self) -> None:
        self.store()
        error = self.assertRaises(FolderInUse, self.store)
        self.assertIn(self.folders[0], str(error))
        self.assertIn(f"process {os.getpid()}", str(error))

    def test_free_again_when_closed(self) -> None:
        self.store().close()
        self.assertEqual(self.store().locations[0].folder, self.folders[0])

    def test_none_is_held_when_one_cannot_be(self) -> None:
        self.store(self.location(1))
        self.assertRaises(FolderInUse, self.store, self.location(0), self.location(1))
        self.store(self.location(0))

    def test_the_same_folder_twice(self) -> None:
        link = os.path.join(self.folders[1], "link")
        os.symlink(self.folders[0], link)
        error = self.assertRaises(
            StorageError, self.store, self.location(), attrs.evolve(self.location(), folder=link)
        )
        self.assertIn("twice", str(error))

    def test_a_folder_that_cannot_be_used(self) -> None:
        file = os.path.join(self.folders[0], "file")
        Path(file).write_text("")
        for path, reason in (
            (os.path.join(self.folders[0], "nowhere", "deeper"), "no such folder"),
            (file, "not a folder"),
            ("/proc", "cannot be written"),
        ):
            location = attrs.evolve(self.location(), folder=path)
            error = self.assertRaises(StorageError, self.store, location)
            self.assertIn(reason, str(error))
            self.assertIn(path, str(error))

    def test_folders_are_made_in_those_that_are_there(self) -> None:
        above = self.folders[0]
        first, index = os.path.join(above, "1"), os.path.join(above, "1", "idx")
        second, typo = os.path.join(above, "2"), os.path.join(above, "typo", "3")
        location = attrs.evolve(self.location(), folder=first, idx_folder=index)
        others = [attrs.evolve(self.location(), folder=folder) for folder in (second, typo)]
        error = self.assertRaises(StorageError, self.store, location, *others)
        self.assertIn(f"{typo}: there is no such folder, and no {os.path.join(above, 'typo')}", str(error))
        self.assertEqual(os.listdir(above), [])  # all, or none
        store = self.store(location, others[0])
        self.assertEqual(store.made, [first, index, second])
        store.create_volume(1).write(Needle(1, 1, b"x"))
        store.close()
        again = [attrs.evolve(one) for one in (location, others[0])]
        self.assertEqual(self.store(*again).made, [])

    def test_an_index_folder_for_both(self) -> None:
        index = scratch(self)
        store = self.store(self.location(0, idx_folder=index), self.location(1, idx_folder=index))
        for volume_id in range(1, 5):
            store.create_volume(volume_id).write(Needle(1, 1, b"%d" % volume_id))
        self.assertEqual(sorted(os.listdir(index))[1:], ["1.idx", "2.idx", "3.idx", "4.idx"])
        error = self.assertRaises(
            FolderInUse, self.store, attrs.evolve(self.location(), folder=scratch(self), idx_folder=index)
        )
        self.assertIn(index, str(error))
        store.close()
        store = self.store(self.location(0, idx_folder=index), self.location(1, idx_folder=index))
        self.assertEqual(store.problems, [])
        self.assertEqual([bytes(v.read(1, 1).data) for v in store.volumes()], [b"1", b"2", b"3", b"4"])

    def test_an_index_folder_that_is_a_data_folder_too(self) -> None:
        for first, second in ((0, 1), (1, 0)):
            index = self.folders[0]
            store = self.store(self.location(first, idx_folder=index), self.location(second, idx_folder=index))
            store.create_volume(1 + first).write(Needle(1, 1, b"x"))
            store.create_volume(3 + first).write(Needle(1, 1, b"x"))
            store.close()
            store = self.store(self.location(first, idx_folder=index), self.location(second, idx_folder=index))
            self.assertEqual((store.problems, store.repairs), ([], []))
            self.assertEqual({bytes(volume.read(1, 1).data) for volume in store.volumes()}, {b"x"})
            store.close()

    def test_uuid(self) -> None:
        store = self.store(self.location(0), self.location(1))
        first, second = store.uuids
        self.assertNotEqual(first, second)
        path = Path(self.folders[0], "vol_dir.uuid")
        self.assertEqual((path.read_text(), len(first)), (first, 36))
        store.close()
        path.write_text(first + "\n")
        self.assertEqual(self.store(self.location(0), self.location(1)).uuids, (first, second))
        self.stores[-1].close()
        path.write_text("")
        self.assertEqual(len(self.store().uuids[0]), 36)

    def test_a_uuid_that_is_none(self) -> None:
        path = Path(self.folders[0], "vol_dir.uuid")
        for content in (b"\xff\x00rubbish", b"x" * 101, b"two\nlines"):
            path.write_bytes(content)
            error = self.assertRaises(StorageError, self.store)
            self.assertIn("vol_dir.uuid: this is not the id of a folder; remove it", str(error))
        path.unlink()
        self.store()

    def test_a_broken_disk(self) -> None:
        self.ops.faults.append(Fault("open", errno.ENOSPC, suffix=".uuid.tmp"))
        error = self.assertRaises(StorageError, self.store)
        self.assertIn("No space left", str(error))
        self.store()


@pytest.mark.process
def test_another_process_is_named(tmp_path: Path) -> None:
    program = (
        "import sys, time; from weedtw.storage.store import Store; from weedtw.storage.location import DiskLocation\n"
        "Store([DiskLocation(sys.argv[1], clock=time.time)], clock=time.time).open(); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        clock = ManualClock()
        with pytest.raises(FolderInUse, match=f"process {child.pid}"):
            Store([DiskLocation(str(tmp_path), clock=clock)], clock=clock).open()
    finally:
        child.kill()
        child.wait(30)
        for stream in (child.stdin, child.stdout):
            assert stream is not None
            stream.close()
    # The lock died with its process.
    store = Store([DiskLocation(str(tmp_path), clock=clock)], clock=clock)
    store.open()
    store.close()


class VolumesTests(StoreCase):
    def test_made_found_and_opened_again(self) -> None:
        store = self.store()
        volume = store.create_volume(7, "pics", ReplicaPlacement.parse("001"), Ttl.parse("1d"))
        volume.write(Needle(1, 1, b"x"))
        self.assertIs(store.find(7), volume)
        store.create_volume(8)
        store.close()
        store = self.store()
        self.assertEqual(
            [(stat.id, stat.collection, stat.ttl) for stat in store.stats()], [(7, "pics", "1d"), (8, "", "")]
        )
        self.assertEqual(bytes(store.find(7).read(1, 1).data), b"x")
        self.assertEqual((store.repairs, store.problems, store.max_key), ([], [], 1))
        error = self.assertRaises(VolumeNotFound, store.find, 9)
        self.assertIn("9", str(error))
        self.assertEqual(self.changes, [("added", 7, ""), ("added", 8, "")])

    def test_made_twice(self) -> None:
        store = self.store()
        volume = store.create_volume(7, "pics")
        self.assertIs(store.create_volume(7, "pics"), volume)
        for collection, replication, ttl in (
            ("other", ReplicaPlacement(), Ttl()),
            ("pics", ReplicaPlacement.parse("001"), Ttl()),
            ("pics", ReplicaPlacement(), Ttl.parse("3m")),
        ):
            self.assertRaises(StorageError, store.create_volume, 7, collection, replication, ttl)
        self.assertEqual(self.changes, [("added", 7, "")])

    def test_names_that_leave_the_folder(self) -> None:
        store = self.store()
        for name in ("../x", "a/b", "..", "\0"):
            self.assertRaises(BadCollection, store.create_volume, 7, name)
            self.assertRaises(BadCollection, store.delete_collection, name)
        for volume_id in (0, -1, 2**32):
            self.assertRaises(StorageError, store.create_volume, volume_id)
        self.assertEqual(self.names(), ["vol_dir.uuid"])

    def test_collections_with_underscores(self) -> None:
        store = self.store()
        for collection in ("a_b", "a_", "ä.-b", ""):
            store.create_volume(len(store.volumes()) + 1, collection)
        store.close()
        found = {(volume.id, volume.collection) for volume in self.store().volumes()}
        self.assertEqual(found, {(1, "a_b"), (2, "a_"), (3, "ä.-b"), (4, "")})

    def test_where_most_room_is(self) -> None:
        store = self.store(self.location(0, max_volumes=2), self.location(1, max_volumes=4))
        for volume_id in range(1, 7):
            store.create_volume(volume_id)
        self.assertEqual([len(location.volumes) for location in store.locations], [2, 4])
        self.assertEqual([volume.disk_id for volume in store.volumes()][:2], [1, 1])
        self.assertRaises(NoRoom, store.create_volume, 7)
        self.assertEqual(store.max_volumes, 6)

    def test_as_many_as_there_is_room_for(self) -> None:
        self.ops.free = 10_500
        store = self.store(self.location(0, max_volumes=0))
        store.volume_size_limit = 1000
        self.assertEqual(store.max_volumes, 10)
        for volume_id in range(1, 4):
            store.create_volume(volume_id)
        # Each of the three may still grow to the limit, so the sum stays.
        self.assertEqual(store.max_volumes, 10)
        self.ops.free = 2500
        self.assertEqual(store.max_volumes, 3)
        self.assertRaises(NoRoom, store.create_volume, 4)

    def test_a_disk_type(self) -> None:
        store = self.store(self.location(0), self.location(1, disk_type="ssd"))
        self.assertEqual(store.create_volume(1, disk_type="ssd").info().disk_type, "ssd")
        self.assertEqual(store.create_volume(2, disk_type="").info().disk_type, "")
        self.assertRaises(NoRoom, store.create_volume, 3, disk_type="tape")

    def test_files_that_are_none_of_ours(self) -> None:
        for name in ("notes.txt", "x.dat", "007.dat", "99999999999.dat", "_3.idx", "3.dat.tmp", "5.dat"):
            Path(self.folders[0], name).write_bytes(b"")
        store = self.store()
        self.assertEqual((store.volumes(), store.problems), ([], []))
        store.create_volume(5)

    def test_what_cannot_be_opened_is_reported(self) -> None:
        Path(self.folders[0], "3.dat").write_bytes(b"\x09" * 100)
        Path(self.folders[0], "3.idx").write_bytes(b"")
        Path(self.folders[0], "4.vif").write_bytes(b"{}")
        Path(self.folders[0], "5.dat").write_bytes(b"\3" + bytes(7))
        Path(self.folders[0], "5.vif").write_bytes(b"{}")
        Path(self.folders[0], "6.vif").write_bytes(b"{}")
        Path(self.folders[0], "6.ecx").write_bytes(b"{}")
        Path(self.folders[0], "7.dat").write_bytes(b"\3" + bytes(7))
        Path(self.folders[0], "7.idx").write_bytes(b"")
        Path(self.folders[0], "7.note").write_bytes(b"")
        store = self.store()
        self.assertEqual([volume.id for volume in store.volumes()], [5])
        reasons = {problem.volume_id: problem.reason for problem in store.problems}
        self.assertEqual(set(reasons), {3, 4, 6, 7})
        for volume_id, word in ((3, "version 9"), (4, "no .dat"), (6, "erasure"), (7, ".note")):
            self.assertIn(word, reasons[volume_id])
            error = self.assertRaises(StorageError, store.create_volume, volume_id)
            self.assertIn("not served", str(error))

    def test_a_lone_dat_is_a_volume(self) -> None:
        store = self.store()
        store.create_volume(7, "pics").write(Needle(1, 1, b"x"))
        store.close()
        for suffix in (".idx", ".vif"):
            os.unlink(os.path.join(self.folders[0], "pics_7" + suffix))
        store = self.store()
        self.assertEqual(bytes(store.find(7).read(1, 1).data), b"x")
        self.assertEqual({repair.kind for repair in store.repairs}, {"index-rebuilt", "info-made"})

    def test_two_of_one_id(self) -> None:
        """One is served; the other stays as it is."""
        big = self.store(self.location(1))
        big.create_volume(7, "pics").write(Needle(1, 1, b"the one with more in it"))
        big.close()
        small = self.store(self.location(0))
        small.create_volume(7).write(Needle(1, 1, b"small"))
        small.close()
        before = {name: Path(self.folders[0], name).read_bytes() for name in self.names(0)}
        store = self.store(self.location(0), self.location(1))
        self.assertEqual([(volume.id, volume.collection) for volume in store.volumes()], [(7, "pics")])
        [problem] = store.problems
        self.assertEqual(problem.path, os.path.join(self.folders[0], "7.dat"))
        self.assertIn(os.path.join(self.folders[1], "pics_7.dat"), problem.reason)
        self.assertEqual({name: Path(self.folders[0], name).read_bytes() for name in self.names(0)}, before)

    def test_threads_that_make_the_same(self) -> None:
        store = self.store(self.location(0, ops=QuickOps(), max_volumes=100))
        start = threading.Barrier(8)

        def make(number: int) -> int:
            start.wait(30)
            return id(store.create_volume(number % 2 + 1))

        with ThreadPoolExecutor(8) as threads:
            self.assertEqual(len(set(threads.map(make, range(8)))), 2)


class DeletingTests(StoreCase):
    def test_all_its_files_go(self) -> None:
        store = self.store()
        volume = store.create_volume(7, "pics")
        volume.write(Needle(1, 1, b"x"))
        store.create_volume(8)
        for name in ("pics_7.sdx", "pics_7.dat.cut-1", "pics_7.cpd"):
            Path(self.folders[0], name).write_bytes(b"")
        Path(self.folders[0], "pics_7.ldb").mkdir()
        stat = store.delete_volume(7)
        self.assertEqual((stat.id, stat.file_count), (7, 1))
        self.assertEqual(self.names(), ["8.dat", "8.idx", "8.vif", "vol_dir.uuid"])
        self.assertRaises(VolumeNotFound, store.find, 7)
        self.assertRaises(VolumeNotFound, store.delete_volume, 7)
        self.assertRaises(StorageError, volume.read, 1, 1)
        self.assertRaises(StorageError, volume.write, Needle(1, 1, b"x"))
        self.assertEqual(self.changes[-1], ("removed", 7, ""))

    def test_a_collection(self) -> None:
        store = self.store()
        for volume_id, collection in enumerate(["a", "b", "a", ""], 1):
            store.create_volume(volume_id, collection)
        self.assertEqual([stat.id for stat in store.delete_collection("a")], [1, 3])
        self.assertEqual([volume.id for volume in store.volumes()], [2, 4])
        self.assertEqual(store.delete_collection("nobody"), [])
        self.assertRaises(StorageError, store.delete_collection, "")

    def test_a_crash_at_every_step(self) -> None:
        """Either the volume is still there, whole, or it is gone; never a part that looks like a volume."""
        seen = set()
        steps = 0
        while True:
            folder = scratch(self)
            quick = DiskLocation(folder, clock=self.clock, ops=QuickOps())
            store = self.store(quick)
            store.create_volume(7, "pics").write(Needle(1, 1, b"x"))
            store.close()
            location = DiskLocation(folder, clock=self.clock, ops=QuickOps())
            store = self.store(location)
            store.find(7).ops = CrashingOps(steps)
            try:
                store.delete_volume(7)
                finished = True
            except Crash:
                finished = False
            self.abandon(location)
            store = self.store(DiskLocation(folder, clock=self.clock, ops=QuickOps()))
            self.assertEqual(store.problems, [])
            seen.add(len(store.volumes()))
            for volume in store.volumes():
                self.assertEqual(bytes(volume.read(1, 1).data), b"x")
            if not store.volumes():
                self.assertEqual([name for name in os.listdir(folder) if "pics" in name], [])
                store.create_volume(7, "pics")
            store.close()
            if finished:
                break
            steps += 1
        self.assertEqual(seen, {0, 1})
        self.assertGreater(steps, 4)

    def test_a_crash_at_every_step_of_making_one(self) -> None:
        steps = 0
        while True:
            folder = scratch(self)
            location = DiskLocation(folder, clock=self.clock, ops=QuickOps())
            store = self.store(location)
            location.ops = CrashingOps(steps, torn=True)
            try:
                store.create_volume(7, "pics")
                finished = True
            except Crash:
                finished = False
            self.abandon(location)
            store = self.store(DiskLocation(folder, clock=self.clock, ops=QuickOps()))
            self.assertEqual(store.problems, [])
            store.create_volume(7, "pics").write(Needle(1, 1, b"x"))
            store.close()
            if finished:
                break
            steps += 1
        self.assertGreater(steps, 8)

    def test_volumes_whose_time_is_over(self) -> None:
        store = self.store()
        for volume_id, ttl in ((1, "5m"), (2, "5m"), (3, ""), (4, "1d"), (5, "5m")):
            volume = store.create_volume(volume_id, ttl=Ttl.parse(ttl))
            if volume_id != 5:  # it holds nothing: it has not begun to age
                volume.write(Needle(1, 1, b"x"))
        self.clock.advance(200)
        store.find(2).write(Needle(1, 2, b"x"))
        self.clock.advance(131)
        self.assertEqual([stat.id for stat in store.remove_expired()], [1])
        self.assertEqual([volume.id for volume in store.volumes()], [2, 3, 4, 5])
        self.clock.advance(200)
        self.assertEqual([stat.id for stat in store.remove_expired()], [2])
        self.assertEqual(self.changes[-1], ("removed", 2, "its time to live is over"))


class RoomTests(StoreCase):
    def test_little_room_stops_writes(self) -> None:
        floors: list[tuple[FreeSpaceFloor, int]] = [
            (MinFree(percent=0, bytes=5000), 4999),
            (MinFree(percent=0.0001), 1000),
        ]
        for number, (floor, low) in enumerate(floors):
            store = self.store(self.location(number, min_free_space=floor))
            volume = store.create_volume(1)
            volume.write(Needle(1, 1, b"x"))
            self.ops.free = low
            store.check_disks()
            self.assertIn("room", self.assertRaises(ReadOnlyVolume, volume.write, Needle(1, 2, b"x")).reason)
            self.assertRaises(NoRoom, store.create_volume, 2)
            volume.delete(1, 1)
            store.check_disks()
            self.ops.free = None
            store.check_disks()
            volume.write(Needle(1, 2, b"x"))
            self.assertEqual([kind for kind, _, _ in self.changes], ["added", "changed", "changed"])
            self.changes.clear()

    def test_low_from_the_start(self) -> None:
        store = self.store()
        store.create_volume(1)
        store.close()
        self.ops.free = 10
        store = self.store(self.location(0, min_free_space=MinFree(percent=0, bytes=11)))
        self.assertTrue(store.find(1).info().read_only)

    def test_a_full_disk_is_left_when_there_is_room(self) -> None:
        store = self.store()
        volume = store.create_volume(1)
        self.ops.faults.append(Fault("pwritev", errno.ENOSPC, suffix=".dat"))
        self.assertRaises(WriteFailed, volume.write, Needle(1, 1, b"x"))
        self.ops.free = 1000
        store.check_disks()
        self.assertTrue(volume.info().read_only)
        self.ops.free = 1 << 30
        store.check_disks()
        self.assertFalse(volume.info().read_only)
        self.assertEqual([reason for _, _, reason in self.changes], ["", "the disk is full", ""])
        self.assertRaises(NeedleNotFound, volume.read, 1, 1)

    def test_one_bad_folder_does_not_keep_the_others_from_being_looked_at(self) -> None:
        store = self.store(*(self.location(number, min_free_space=MinFree(percent=0, bytes=11)) for number in (0, 1)))
        volumes = [store.create_volume(number) for number in (1, 2)]
        gone = next(volume for volume in volumes if volume.files.folder == self.folders[0])
        other = next(volume for volume in volumes if volume is not gone)
        shutil.rmtree(self.folders[0])
        self.ops.free = 10
        self.assertRaises(StorageError, store.check_disks)
        self.assertIn("was removed", gone.info().read_only_reason)
        self.assertIn("room", other.info().read_only_reason)

    def test_spaces(self) -> None:
        [space] = self.store().spaces()
        self.assertEqual((space.folder, space.total), (self.folders[0], space.used + space.free))


class VacuumTests(StoreCase):
    def test_in_steps(self) -> None:
        store = self.store()
        volume = store.create_volume(1)
        volume.write(Needle(1, 1, b"gone"))
        volume.write(Needle(1, 2, b"kept"))
        volume.delete(1, 1)
        self.assertGreater(volume.garbage_ratio(), 0.4)
        store.compact(1)
        stat = store.commit(1)
        self.assertEqual((stat.compact_revision, stat.file_count), (1, 1))
        self.assertEqual(bytes(volume.read(2, 1).data), b"kept")
        self.assertRaises(StorageError, store.commit, 1)

    def test_given_up(self) -> None:
        store = self.store()
        store.create_volume(1)
        store.compact(1)
        self.assertIn("1.cpd", self.names())
        store.cleanup(1)
        store.cleanup(1)
        self.assertNotIn("1.cpd", self.names())
        self.assertRaises(StorageError, store.commit, 1)
        self.assertRaises(VolumeNotFound, store.compact, 2)

    def test_begun_anew(self) -> None:
        store = self.store()
        store.create_volume(1).write(Needle(1, 1, b"x"))
        store.compact(1)
        store.compact(1)
        store.commit(1)
        self.assertEqual(store.find(1).info().compact_revision, 1)

    def test_deleted_meanwhile(self) -> None:
        store = self.store()
        store.create_volume(1)
        store.compact(1)
        store.delete_volume(1)
        self.assertEqual(self.names(), ["vol_dir.uuid"])
        self.assertRaises(VolumeNotFound, store.commit, 1)
