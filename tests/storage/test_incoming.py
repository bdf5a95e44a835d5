"""A copy that comes in: it is no volume before it is whole, goes on where it was, and a full disk costs nothing."""

import errno
import os
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config.model import MinFree
from weedtw.errors import NoRoom, StorageError, VolumeExists
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.storage.incoming import Incoming, checksum_of, find_arriving, remove_arriving
from weedtw.storage.location import DiskLocation
from weedtw.storage.store import Store
from weedtw.storage.testing import Crash, CrashingOps, Fault, FaultyOps, ManualClock, scratch
from weedtw.storage.volume import Volume

COLLECTION = "pics"


class IncomingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ManualClock()
        self.ops = FaultyOps()
        self.source = self.make_store(DiskLocation(scratch(self), clock=self.clock))
        self.source.create_volume(7, COLLECTION, ReplicaPlacement.parse("001"), Ttl.parse(""))
        volume = self.source.find(7)
        for key in range(1, 6):
            volume.write(Needle(9, key, b"content %d" % key))
        self.data = volume.generation.dat.read(volume.generation.dat_size, 0)
        self.rows = volume.index_rows()
        self.vif = volume.vif.render().encode()
        self.folder = scratch(self)
        self.target = self.make_store(self.location())

    def location(self, **settings: Any) -> DiskLocation:
        made = DiskLocation(settings.pop("folder", self.folder), clock=self.clock, ops=settings.pop("ops", self.ops))
        return attrs.evolve(made, **settings)

    def make_store(self, *locations: DiskLocation) -> Store:
        store = Store(locations, clock=self.clock)
        store.open()
        self.addCleanup(store.close)
        return store

    def begin(self, store: Store | None = None, **settings: Any) -> Incoming:
        wanted = {"needs": len(self.data) + len(self.rows), "disk_type": None, **settings}
        return Incoming.begin(store or self.target, 7, COLLECTION, **wanted)

    def whole(self) -> Incoming:
        incoming = self.begin()
        incoming.append(self.data)
        return incoming

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if name.startswith(COLLECTION))

    def check(self, volume: Volume) -> None:
        for key in range(1, 6):
            self.assertEqual(bytes(volume.read(key, 9).data), b"content %d" % key)
        self.assertEqual((volume.collection, str(volume.replication)), (COLLECTION, "001"))


class Coming(IncomingCase):
    def test_piece_by_piece(self) -> None:
        incoming = self.begin()
        for start in range(0, len(self.data), 50):
            incoming.append(self.data[start : start + 50])
        self.assertEqual(incoming.size, len(self.data))
        self.assertEqual(incoming.header(8), self.data[:8])
        self.assertEqual(incoming.checksum(), checksum_of(self.source.find(7).generation.dat, len(self.data)))
        self.assertEqual(self.names(), ["pics_7.dat.copying"])
        self.check(incoming.install(self.target, self.rows, self.vif))
        self.assertEqual(self.names(), ["pics_7.dat", "pics_7.idx", "pics_7.vif"])
        self.check(self.target.find(7))

    def test_no_volume_before_it_is_whole(self) -> None:
        self.whole()
        self.assertIsNone(self.target.at_hand(7))
        self.target.close()
        again = self.make_store(self.location())
        self.assertEqual((again.volumes(), again.problems), ([], []))

    def test_goes_on_where_it_was(self) -> None:
        self.begin().append(self.data[:100])
        self.target.close()
        again = self.make_store(self.location())
        incoming = self.begin(again)
        self.assertEqual(incoming.size, 100)
        incoming.append(self.data[100:])
        self.check(incoming.install(again, self.rows, self.vif))

    def test_goes_on_in_the_folder_where_it_began(self) -> None:
        second = scratch(self)
        self.begin().append(self.data[:100])
        self.target.close()
        both = self.make_store(self.location(folder=second, max_volumes=100), self.location(max_volumes=2))
        self.assertEqual(self.begin(both).location.folder, self.folder, "and not where most room is")

    def test_starts_over(self) -> None:
        incoming = self.begin()
        incoming.append(b"of another volume, and longer " * 20)
        incoming.start_over()
        self.assertEqual((incoming.size, incoming.header(8)), (0, b""))
        incoming.append(self.data)
        self.check(incoming.install(self.target, self.rows, self.vif))

    def test_a_volume_of_that_id_is_there(self) -> None:
        self.target.create_volume(7, COLLECTION, ReplicaPlacement.parse("000"), Ttl.parse(""))
        self.assertRaises(VolumeExists, self.begin)
        self.target.delete_volume(7)
        incoming = self.whole()
        self.target.create_volume(7, COLLECTION, ReplicaPlacement.parse("000"), Ttl.parse(""))
        self.target.find(7).write(Needle(1, 1, b"made meanwhile"))
        self.assertRaises(VolumeExists, incoming.install, self.target, self.rows, self.vif)
        self.assertEqual(bytes(self.target.find(7).read(1, 1).data), b"made meanwhile")

    def test_one_that_is_there_and_not_served(self) -> None:
        self.target.close()
        with open(os.path.join(self.folder, "pics_7.dat"), "wb") as file:
            file.write(b"\xff" * 100)
        again = self.make_store(self.location())
        self.assertEqual(len(again.problems), 1)
        self.assertRaises(VolumeExists, self.begin, again)

    def test_is_found_and_dropped(self) -> None:
        self.begin().append(self.data[:100])
        ((location, files),) = find_arriving(self.target, 7)
        self.assertEqual(find_arriving(self.target, 77), [])
        remove_arriving(files, location.ops)
        self.assertEqual((self.names(), find_arriving(self.target, 7)), ([], []))
        incoming = self.begin()
        self.assertEqual(incoming.size, 0)
        incoming.drop()
        self.assertEqual(self.names(), [])


class Refused(IncomingCase):
    def test_a_disk_without_room(self) -> None:
        self.ops.free = len(self.data) + len(self.rows) - 1
        error = self.assertRaises(NoRoom, self.begin)
        self.assertIn(f"has {self.ops.free} bytes free, volume 7 takes {self.ops.free + 1}", str(error))
        self.assertEqual(self.names(), [])
        self.ops.free += 1
        self.assertEqual(self.begin().size, 0)

    def test_what_is_here_already_needs_no_room(self) -> None:
        self.begin().append(self.data[:100])
        self.ops.free = len(self.data) + len(self.rows) - 100
        self.assertEqual(self.begin().size, 100)
        self.ops.free -= 1
        self.assertRaises(NoRoom, self.begin)
        self.assertEqual(self.names(), ["pics_7.dat.copying"], "it goes on when there is room again")

    def test_room_that_is_to_be_kept_free(self) -> None:
        self.target.close()
        store = self.make_store(self.location(min_free_space=MinFree(bytes=1000)))
        self.ops.free = len(self.data) + len(self.rows) + 999
        self.assertRaises(NoRoom, self.begin, store)
        self.ops.free += 1
        self.assertEqual(self.begin(store).size, 0)

    def test_no_slot_left(self) -> None:
        self.target.close()
        store = self.make_store(self.location(max_volumes=1))
        store.create_volume(1, "", ReplicaPlacement.parse("000"), Ttl.parse(""))
        self.assertRaises(NoRoom, self.begin, store)

    def test_the_disk_fills_up_in_the_middle(self) -> None:
        incoming = self.begin()
        incoming.append(self.data[:100])
        self.ops.faults.append(Fault("pwritev", errno.ENOSPC, ".copying", part=10))
        error = self.assertRaises(StorageError, incoming.append, self.data[100:])
        self.assertIn("No space left on device", str(error))
        self.assertEqual(incoming.size, 100, "what was written of the piece does not count")
        incoming.append(self.data[100:])
        self.check(incoming.install(self.target, self.rows, self.vif))

    def test_other_refusals_of_the_disk(self) -> None:
        incoming = self.whole()
        for call, act in (
            ("truncate", incoming.start_over),
            ("pread", incoming.checksum),
            ("unlink", incoming.drop),
            ("open", self.begin),
        ):
            self.ops.faults = [Fault(call, suffix=".copying")]
            self.assertIn("Input/output error", str(self.assertRaises(StorageError, act)), call)
        self.ops.faults = []
        self.check(incoming.install(self.target, self.rows, self.vif))

    def test_a_file_that_is_shorter_than_it_was(self) -> None:
        incoming = self.whole()
        os.truncate(incoming.files.arriving, 50)
        error = self.assertRaises(StorageError, incoming.checksum)
        self.assertIn(f"ends at 50, not at {len(self.data)}", str(error))

    def test_each_step_of_putting_it_in_place_may_fail(self) -> None:
        for call, suffix in (
            ("sync", ".copying"),
            ("open", ".idx.tmp"),
            ("rename", ".idx.tmp"),
            ("rename", ".vif.tmp"),
            ("rename", ".copying"),
        ):
            incoming = self.begin()
            if not incoming.size:
                incoming.append(self.data)
            self.ops.faults = [Fault(call, suffix=suffix)]
            self.assertRaises(StorageError, incoming.install, self.target, self.rows, self.vif)
            self.assertIsNone(self.target.at_hand(7), (call, suffix))
            self.assertIn("pics_7.dat.copying", self.names())
        self.ops.faults = []
        self.check(self.begin().install(self.target, self.rows, self.vif))


class Died(IncomingCase):
    def test_at_any_step_it_is_a_volume_or_none(self) -> None:
        whole = steps = 0
        while not whole:
            self.folder = scratch(self)
            ops = CrashingOps(steps)
            store = Store([self.location(ops=ops)], clock=self.clock)
            try:
                store.open()
                incoming = self.begin(store)
                incoming.append(self.data)
                incoming.install(store, self.rows, self.vif)
                whole = steps
            except Crash:
                pass
            for location in store.locations:
                for lock in location._locks:
                    lock.release()
            again = self.make_store(self.location(ops=FaultyOps()))
            self.assertEqual(again.problems, [], f"after {steps} steps")
            if again.at_hand(7) is None:
                incoming = self.begin(again)
                incoming.start_over()
                incoming.append(self.data)
                incoming.install(again, self.rows, self.vif)
            self.check(again.find(7))
            steps += 1
        self.assertGreater(whole, 5)
