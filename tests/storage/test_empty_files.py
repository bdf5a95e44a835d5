"""Files without data, deletions, and how a lost index is made again without mixing them up."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import CookieMismatch, NeedleNotFound
from weedtw.formats.needle import Needle, pack
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.superblock import SuperBlock
from weedtw.formats.ttl import Ttl
from weedtw.storage.names import VolumeFiles
from weedtw.storage.testing import ManualClock, QuickOps, scratch
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume

DATA = Needle(1, 5, b"data")
CRC_NOUGHT = bytes.fromhex("ab9be09b")  # the one text of four bytes with that checksum


class EmptyCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = scratch(self)
        self.clock = ManualClock()
        self.files = VolumeFiles(self.folder, self.folder, "", 3)

    def open(self) -> Volume:
        return Volume.open(self.files, clock=self.clock, ops=QuickOps())

    def found(self, volume: Volume, key: int = 5, cookie: int = 1) -> bytes | None:
        try:
            return bytes(volume.read(key, cookie).data)
        except NeedleNotFound:
            return None


class OwnTests(EmptyCase):
    """What we write ourselves is never ambiguous."""

    def setUp(self) -> None:
        super().setUp()
        self.volume = Volume.create(
            self.folder, None, "", 3, replication=ReplicaPlacement(), clock=self.clock, ops=QuickOps()
        )

    def rebuilt(self) -> Volume:
        self.volume.close()
        before = Path(self.files.idx).read_bytes()
        os.unlink(self.files.idx)
        self.volume = self.open()
        self.assertEqual(Path(self.files.idx).read_bytes(), before)
        return self.volume

    def test_every_short_history(self) -> None:
        """All sequences of four steps, without a time of modification too, rebuild to what they were."""
        steps = (b"", b"data", b"\0\0\0\0", None)
        wanted: dict[int, bytes | None] = {}
        for number in range(len(steps) ** 4):
            key = number + 1
            for place in range(4):
                step = steps[number // len(steps) ** place % len(steps)]
                if step is None:
                    self.volume.delete(key, 1)
                else:
                    self.volume.write(Needle(1, key, step, last_modified=0 if number % 2 else None))
                wanted[key] = step
        volume = self.rebuilt()
        self.assertEqual({key: self.found(volume, key) for key in wanted}, wanted)

    def test_time_and_ttl_are_kept(self) -> None:
        self.volume.write(Needle(1, 5, b"", last_modified=1_700_000_000, name=b"lost", mime=b"lost"))
        self.volume.write(Needle(1, 6, b"", ttl=Ttl.parse("3d")))
        volume = self.rebuilt()
        self.assertEqual(volume.read(5, 1).last_modified, 1_700_000_000)
        self.assertEqual(volume.read(6, 1).ttl, Ttl.parse("3d"))

    def test_a_vacuum_keeps_them(self) -> None:
        self.volume.write(Needle(1, 5, b""))
        self.volume.write(Needle(1, 6, b"x"))
        self.volume.delete(6, 1)
        compact(self.volume).commit()
        self.assertEqual(self.found(self.rebuilt()), b"")
        self.assertIsNone(self.found(self.volume, 6))

    def test_the_cookie_of_seaweedfs_vacuum_is_a_cookie_like_others(self) -> None:
        self.volume.write(Needle(0x12345678, 5, b""))
        self.assertEqual(self.found(self.rebuilt(), 5, 0x12345678), b"")

    def test_data_whose_crc_is_nought(self) -> None:
        zero = Needle(1, 5, CRC_NOUGHT)
        self.assertEqual(zero.checksum, 0)
        self.volume.write(zero)
        self.volume.delete(5, 1)
        self.assertIsNone(self.found(self.rebuilt()))


class ForeignTests(EmptyCase):
    """What SeaweedFS wrote is told by what its key held before."""

    def rebuild(self, *needles: Needle, version: int = 3) -> Volume:
        """A .dat with these records, as SeaweedFS would write them, and nothing else."""
        records = []
        for number, needle in enumerate(needles):
            stamped = Needle(
                needle.cookie,
                needle.key,
                needle.data,
                append_at_ns=int(1.7e18) + number,
                checksum=needle.checksum,
            )
            records.append(pack(stamped, version))
        Path(self.files.dat).write_bytes(SuperBlock(version=version).pack() + b"".join(records))
        Path(self.files.idx).unlink(missing_ok=True)
        return self.open()

    def deletion(self, checksum: int = 0, cookie: int = 1) -> Needle:
        return Needle(cookie, 5, b"", checksum=checksum)

    def test_a_first_record(self) -> None:
        self.assertEqual(self.found(self.rebuild(self.deletion())), b"")

    def test_a_deletion_carries_the_crc_of_what_it_deletes(self) -> None:
        for version in (1, 2, 3):
            volume = self.rebuild(DATA, self.deletion(DATA.checksum), version=version)
            self.assertIsNone(self.found(volume))
            volume = self.rebuild(DATA, self.deletion(DATA.checksum), self.deletion(), version=version)
            self.assertEqual(self.found(volume), b"", "a file without data after a deletion")

    def test_an_overwrite_without_data(self) -> None:
        self.assertEqual(self.found(self.rebuild(DATA, self.deletion())), b"")

    def test_a_deletion_with_another_cookie(self) -> None:
        """A filer deletes without knowing the cookie; it stands as 0 in the record, and so does the crc."""
        self.assertIsNone(self.found(self.rebuild(DATA, self.deletion(cookie=0))))
        self.assertIsNone(self.found(self.rebuild(self.deletion(), self.deletion(cookie=0))))

    def test_a_deletion_during_a_vacuum(self) -> None:
        self.assertIsNone(self.found(self.rebuild(DATA, self.deletion(cookie=0x12345678))))
        self.assertIsNone(self.found(self.rebuild(self.deletion(cookie=0x12345678)), cookie=0x12345678))

    def test_nothing_or_nothing_stays(self) -> None:
        """`Stored again` and `deleted` are the same bytes; a file too many does no harm, a lost one does."""
        self.assertEqual(self.found(self.rebuild(self.deletion(), self.deletion())), b"")

    def test_a_deletion_of_data_whose_crc_is_nought(self) -> None:
        self.assertIsNone(self.found(self.rebuild(Needle(1, 5, CRC_NOUGHT), self.deletion())))

    def test_the_masked_crc_of_old_releases(self) -> None:
        self.assertEqual(self.found(self.rebuild(self.deletion(0xA282EAD8))), b"")

    def test_what_the_index_knows_counts_as_before(self) -> None:
        volume = self.rebuild(DATA, self.deletion(DATA.checksum), self.deletion())
        volume.close()
        rows = Path(self.files.idx).read_bytes()
        for known in (0, 16, 32):
            Path(self.files.idx).write_bytes(rows[:known])
            volume = self.open()
            self.assertEqual(self.found(volume), b"")
            self.assertRaises(CookieMismatch, volume.read, 5, 2)
            volume.close()
