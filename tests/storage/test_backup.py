"""A copy of a volume that grows with it, from a server that these tests play."""

import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import PeerError, StorageError
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.superblock import SuperBlock
from weedtw.formats.ttl import Ttl
from weedtw.storage.backup import BackedUp, Own, Tail, back_up
from weedtw.storage.names import VolumeFiles
from weedtw.storage.testing import ManualClock, scratch
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume

PIECE = 100_000  # bytes that the server sends at a time


class BackupCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ManualClock()
        self.volume = self.make()
        folder = scratch(self)
        self.files = VolumeFiles(folder, folder, "", 3)
        self.moved: list[int] = []

    def make(self, replication: str = "001", ttl: str = "") -> Volume:
        volume = Volume.create(
            scratch(self),
            None,
            "",
            3,
            replication=ReplicaPlacement.parse(replication),
            ttl=Ttl.parse(ttl),
            clock=self.clock,
        )
        self.addCleanup(volume.close)
        return volume

    def write(self, *keys: int) -> None:
        for key in keys:
            self.clock.advance(1)
            self.volume.write(Needle(1, key, b"%d" % key * 50_000))

    async def fetch(self, offset: int) -> Tail:
        data = Path(self.volume.files.dat).read_bytes()
        return Tail(
            data[offset : offset + PIECE],
            len(data),
            self.volume.info().compact_revision,
            self.volume.info().offset_width,
        )

    def back_up(self, own: Own | None = None) -> BackedUp:
        now_ns = int(self.clock() * 1e9)
        work = back_up(self.files, self.fetch, now_ns, self.moved.append, own or Own())
        return self.successResultOf(Deferred.fromCoroutine(work))

    def refusal(self) -> str:
        work = back_up(self.files, self.fetch, int(self.clock() * 1e9), self.moved.append)
        return str(self.failureResultOf(Deferred.fromCoroutine(work), StorageError, PeerError).value)

    def copy(self) -> bytes:
        return Path(self.files.dat).read_bytes()

    def original(self) -> bytes:
        return Path(self.volume.files.dat).read_bytes()

    def superblock(self) -> SuperBlock:
        return SuperBlock.unpack(self.copy())


class GrowingTests(BackupCase):
    def test_all_and_then_what_is_new(self) -> None:
        self.write(1, 2, 3, 4)
        done = self.back_up()
        self.assertEqual((done.anew, done.copied, self.copy()), (True, len(self.original()), self.original()))
        self.write(5)
        done = self.back_up()
        self.assertEqual((done.anew, sum(self.moved), self.copy()), (False, done.size, self.original()))
        self.assertEqual(self.back_up().copied, 0)

    def test_an_interrupted_one(self) -> None:
        self.write(1, 2, 3, 4)
        self.back_up()
        os.truncate(self.files.dat, 70_001)
        self.back_up()
        self.assertEqual(self.copy(), self.original())

    def test_after_a_vacuum_all_of_it(self) -> None:
        self.write(1, 2, 3)
        self.back_up()
        old = self.copy()
        self.volume.delete(2, 1)
        compact(self.volume).commit()
        self.assertTrue(self.back_up().anew)
        self.assertEqual((self.copy(), Path(self.files.dat + ".before").read_bytes()), (self.original(), old))

    def test_another_volume_of_that_id(self) -> None:
        self.write(1, 2, 3)
        self.back_up()
        kept = self.copy()
        change: tuple[Callable[[], object], ...] = (lambda: None, lambda: self.write(7), lambda: self.write(8, 9, 10))
        self.volume = self.make()
        for one in change:
            one()
            self.assertIn("is no copy of what the server has now", self.refusal())
            self.assertEqual(self.copy(), kept)


class OwnTests(BackupCase):
    """A copy that has its own replication and time to live."""

    own = Own(ReplicaPlacement.parse("000"), Ttl.parse("3d"))

    def test_as_the_volume_has_it(self) -> None:
        self.volume = self.make("010", "5d")
        self.write(1)
        self.back_up()
        self.assertEqual((str(self.superblock().replication), str(self.superblock().ttl)), ("010", "5d"))

    def test_its_own(self) -> None:
        self.write(1, 2, 3)
        self.back_up(self.own)
        self.assertEqual((str(self.superblock().replication), str(self.superblock().ttl)), ("000", "3d"))
        self.assertEqual(self.copy()[8:], self.original()[8:])
        self.write(4)
        self.assertFalse(self.back_up(self.own).anew)
        self.assertEqual((str(self.superblock().replication), str(self.superblock().ttl)), ("000", "3d"))
        self.assertEqual(self.copy()[8:], self.original()[8:])

    def test_given_up_again(self) -> None:
        self.write(1)
        self.back_up(self.own)
        self.assertFalse(self.back_up().anew)
        self.assertEqual(self.copy(), self.original())

    def test_no_time_to_live(self) -> None:
        self.volume = self.make("000", "5d")
        self.write(1)
        self.back_up(Own(ttl=Ttl.parse("0")))
        self.assertEqual((str(self.superblock().replication), str(self.superblock().ttl)), ("000", ""))

    def test_after_a_vacuum(self) -> None:
        self.write(1, 2)
        self.back_up(self.own)
        self.volume.delete(1, 1)
        compact(self.volume).commit()
        self.assertTrue(self.back_up(self.own).anew)
        self.assertEqual((str(self.superblock().replication), self.superblock().compaction_revision), ("000", 1))
