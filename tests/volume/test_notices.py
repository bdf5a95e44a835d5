"""What the log says of volumes that take no writes, each thing once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config import MinFree
from weedtw.formats.needle import Needle
from weedtw.storage.fileops import DiskSpace
from weedtw.storage.location import DiskLocation
from weedtw.storage.report import VolumeStat
from weedtw.storage.store import ChangeKind, Store
from weedtw.storage.testing import ManualClock, QuickOps, scratch
from weedtw.volume.notices import Notices


class Disk(QuickOps):
    """A disk of a terabyte, of which as much is free as a test says."""

    free = 1 << 30

    def disk_space(self, folder: str) -> DiskSpace:
        return DiskSpace(1 << 40, self.free)


class NoticeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = scratch(self)
        self.disk = Disk()
        self.open()

    def open(self) -> None:
        clock = ManualClock()
        location = DiskLocation(self.folder, 30, None, MinFree(percent=0, bytes=1 << 20), clock=clock, ops=self.disk)
        self.store = Store([location], clock=clock, changed=self.changed)
        self.notices = Notices(self.store)
        self.store.open()
        self.addCleanup(self.store.close)

    def changed(self, kind: ChangeKind, stat: VolumeStat) -> None:
        if kind == "changed":
            self.notices.changed(stat.id)

    @contextmanager
    def said(self, *lines: tuple[LogLevel, str]) -> Iterator[None]:
        with capturedLogs() as events:
            yield
        self.assertEqual([(event["log_level"], formatEvent(event)) for event in events], list(lines))

    def look(self) -> None:
        self.store.check_disks()
        self.notices.looked_at_disks()

    def test_one_line_a_folder_when_room_ends_and_one_when_it_is_back(self) -> None:
        for volume_id in range(1, 6):
            self.store.create_volume(volume_id)
        self.disk.free = 1000
        low = (
            f"{self.folder} is read-only, with its 5 volumes: the disk has 1000 B left, "
            "less than is to be kept free (--minFreeSpace)"
        )
        with self.said((LogLevel.warn, low)):
            self.look()
            self.look()
        self.assertTrue(all(volume.read_only_reason for volume in self.store.volumes()))
        self.disk.free = 5 << 30
        with self.said((LogLevel.info, f"{self.folder} takes writes again: the disk has 5.0 GiB left")):
            self.look()
            self.look()
        self.assertFalse(any(volume.read_only_reason for volume in self.store.volumes()))

    def test_a_volume_of_its_own_reason_is_told_beside_the_folder(self) -> None:
        volume = self.store.create_volume(3)
        self.disk.free = 1000
        self.look()
        with self.said((LogLevel.warn, "volume 3 is read-only: set read-only by an operator")):
            volume.set_read_only("set read-only by an operator")
            self.disk.free = 5 << 30
            self.store.check_disks()
        with self.said():
            volume.set_read_only(None)

    def test_a_damaged_volume_is_told_at_every_start(self) -> None:
        volume = self.store.create_volume(3)
        for key in range(1, 4):
            volume.write(Needle(key, key, b"x" * 100))
        self.store.create_volume(4).set_read_only("set read-only by an operator", persist=True)
        dat, idx = volume.files.dat, volume.files.idx
        self.store.close()
        os.unlink(idx)
        with open(dat, "r+b") as file:
            file.seek(8)
            file.write(bytes(range(1, 41)))
        self.open()
        reason = self.store.find(3).read_only_reason
        self.assertIn("whole records follow", reason)
        with self.said((LogLevel.warn, f"volume 3 is read-only: {reason}")):
            self.notices.opened()
