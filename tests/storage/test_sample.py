"""Volumes that SeaweedFS wrote are read to the byte, with and without their side files, and left as they are."""

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import CookieMismatch, NeedleNotFound, ReadOnlyVolume
from weedtw.formats.needle import Needle, etag
from weedtw.storage.names import VolumeFiles, parse_base
from weedtw.storage.testing import ManualClock, scratch
from weedtw.storage.volume import Volume

SAMPLE = Path(__file__).parent.parent / "sample"
MANIFEST: dict[str, Any] = json.loads((SAMPLE / "MANIFEST.json").read_text())
WRITTEN_AT = 1795405700.0  # just after the files were written: nothing is expired


class SampleCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = scratch(self)
        self.clock = ManualClock(WRITTEN_AT)

    def copy(self, path: str) -> VolumeFiles:
        """Copy a sample volume into the folder."""
        source = SAMPLE / path
        parsed = parse_base(source.name)
        assert parsed is not None
        for suffix in (".dat", ".idx", ".vif"):
            target = Path(self.folder) / (source.name + suffix)
            shutil.copyfile(source.parent / (source.name + suffix), target)
            os.chmod(target, 0o644)
        return VolumeFiles(self.folder, self.folder, *parsed)

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path(self.folder).iterdir()}

    def check_files(self, volume: Volume, path: str) -> None:
        """Every file of the manifest reads back, and deleted ones do not."""
        listed = [entry for entry in MANIFEST["files"] if entry["file"] == path]
        for entry in listed:
            key, cookie = entry["key"], int(entry["cookie"], 16)
            if entry["deleted"]:
                self.assertRaises(NeedleNotFound, volume.read, key, cookie)
                continue
            self.assertRaises(CookieMismatch, volume.read, key, cookie ^ 1)
            needle = volume.read(key, cookie)
            data = gzip.decompress(needle.data) if needle.is_gzipped else bytes(needle.data)
            self.assertEqual(hashlib.md5(data).hexdigest(), entry["md5"], entry["label"])
            self.assertEqual(len(data), entry["size"])
            self.assertEqual(etag(needle.checksum), entry["etag"])
            self.assertEqual(volume.try_read_cached(key, cookie), needle)
        self.assertNotEqual(listed, [])


class ReadingTests(SampleCase):
    def test_every_file_and_nothing_changed(self) -> None:
        for described in MANIFEST["volumes"]:
            files = self.copy(described["path"])
            before = self.contents()
            volume = Volume.open(files, clock=self.clock)
            self.assertEqual(volume.repairs, ())
            if any(entry["file"] == described["path"] for entry in MANIFEST["files"]):
                self.check_files(volume, described["path"])
            stat = volume.info()
            superblock = described["superblock"]
            self.assertEqual(
                (stat.version, stat.replication, stat.ttl, stat.compact_revision),
                (superblock["version"], superblock["rp"], superblock["ttl"], superblock["rev"]),
            )
            self.assertEqual(stat.size, described["dat_bytes"])
            self.assertEqual(stat.offset_width, 5)
            self.assertEqual(stat.read_only, superblock["version"] == 1)
            volume.close()
            self.assertEqual(self.contents(), before, described["path"])
            shutil.rmtree(self.folder)
            os.mkdir(self.folder)

    def test_counts_as_seaweedfs_counted(self) -> None:
        stat = Volume.open(self.copy("1"), clock=self.clock).info()
        self.assertEqual((stat.file_count, stat.delete_count, stat.deleted_bytes), (20, 2, 95))

    def test_without_vif(self) -> None:
        for path in ("1", "old_112", "old_113", "pics_2"):
            files = self.copy(path)
            os.unlink(files.vif)
            volume = Volume.open(files, clock=self.clock, offset_width=4)
            self.assertEqual([repair.kind for repair in volume.repairs], ["info-made"])
            self.assertEqual(volume.info().offset_width, 5)
            self.check_files(volume, path)
            volume.close()
            again = Volume.open(files, clock=self.clock, offset_width=4)
            self.assertEqual(again.repairs, ())
            self.assertEqual(again.vif.bytes_offset, 5)

    def test_without_index(self) -> None:
        for path in ("1", "3", "4", "old_112", "old_113", "pics_2", "up_per_6", "vacuumed/pics_2"):
            files = self.copy(path)
            index = Path(files.idx).read_bytes()
            os.unlink(files.idx)
            volume = Volume.open(files, clock=self.clock, offset_width=4)
            self.assertEqual([repair.kind for repair in volume.repairs], ["index-rebuilt"])
            self.assertEqual(Path(files.idx).read_bytes(), index, path)
            self.assertEqual(volume.read_only_reason == "", path != "old_113")
            volume.close()

    def test_without_index_and_vif(self) -> None:
        files = self.copy("1")
        os.unlink(files.idx)
        os.unlink(files.vif)
        volume = Volume.open(files, clock=self.clock, offset_width=4)
        self.assertEqual(volume.info().offset_width, 4)
        self.check_files(volume, "1")

    def test_a_wrong_vif_is_set_right(self) -> None:
        files = self.copy("1")
        text = Path(files.vif).read_text()
        Path(files.vif).write_text(text.replace('"bytesOffset":  5', '"bytesOffset":  4'))
        volume = Volume.open(files, clock=self.clock, offset_width=4)
        self.check_files(volume, "1")
        [repair] = volume.repairs
        self.assertEqual(repair.kind, "info-made")
        self.assertIn('"bytesOffset":  4', Path(repair.kept_as).read_text())
        self.assertEqual(Path(files.vif).read_text(), text)

    def test_an_unreadable_vif_is_made_anew(self) -> None:
        files = self.copy("1")
        Path(files.vif).write_text("{ not JSON")
        volume = Volume.open(files, clock=self.clock)
        self.check_files(volume, "1")
        self.assertEqual([repair.kind for repair in volume.repairs], ["info-made"])


class GoingOnTests(SampleCase):
    def test_a_deleted_file_can_be_read_on_request(self) -> None:
        volume = Volume.open(self.copy("1"), clock=self.clock)
        [entry] = [entry for entry in MANIFEST["files"] if entry["file"] == "1" and entry["deleted"]]
        key, cookie = entry["key"], int(entry["cookie"], 16)
        needle = volume.read(key, cookie, read_deleted=True)
        self.assertEqual(needle.name.decode(), entry["name"])
        self.assertRaises(NeedleNotFound, volume.read, key, cookie)

    def test_a_volume_with_a_ttl_expires(self) -> None:
        volume = Volume.open(self.copy("3"), clock=self.clock)
        self.check_files(volume, "3")
        self.clock.advance(300)
        for entry in MANIFEST["files"]:
            if entry["file"] == "3":
                self.assertRaises(NeedleNotFound, volume.read, entry["key"], int(entry["cookie"], 16))

    def test_version_2_is_written_and_version_1_is_not(self) -> None:
        files = self.copy("old_112")
        volume = Volume.open(files, clock=self.clock)
        volume.write(Needle(7, 1 << 40, b"new", name=b"n"))
        volume.write(Needle(8, (1 << 40) + 1, b""))
        volume.delete(1 << 40, 7)
        volume.close()
        os.unlink(files.idx)
        again = Volume.open(files, clock=self.clock)
        self.assertRaises(NeedleNotFound, again.read, 1 << 40, 7)
        self.assertEqual(bytes(again.read((1 << 40) + 1, 8).data), b"")
        self.check_files(again, "old_112")
        old = Volume.open(self.copy("old_113"), clock=self.clock)
        self.assertRaises(ReadOnlyVolume, old.write, Needle(7, 1, b"new"))
        self.assertRaises(ReadOnlyVolume, old.delete, 1, 7)
