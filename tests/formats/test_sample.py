"""The sample: volumes that SeaweedFS 4.48 wrote, against the manifest that came with them."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from weedtw.formats import idx
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import Needle, etag, pack, record_length, unpack, unpack_around, unpack_header
from weedtw.formats.superblock import SuperBlock
from weedtw.formats.vif import VolumeInfo

SAMPLE = Path(__file__).parent.parent / "sample"
MANIFEST = json.loads((SAMPLE / "MANIFEST.json").read_text())
PATHS = [volume["path"] for volume in MANIFEST["volumes"]]
WIDTH = 5


def records(path: str) -> Iterator[tuple[int, memoryview, int]]:
    """Offset, bytes and version of every record of a volume; its file must end with the last one."""
    data = memoryview((SAMPLE / f"{path}.dat").read_bytes())
    block = SuperBlock.unpack(data, path=path)
    offset = block.size
    while offset < len(data):
        length = record_length(unpack_header(data[offset:], path=path)[2], block.version)
        yield offset, data[offset : offset + length], block.version
        offset += length
    assert offset == len(data), f"{path}: the records end at {offset}, the file at {len(data)}"


class VolumeTests(SynchronousTestCase):
    def test_the_manifest_covers_every_file(self) -> None:
        self.assertEqual(sorted(PATHS), sorted(str(p.relative_to(SAMPLE))[:-4] for p in SAMPLE.rglob("*.dat")))

    def test_super_blocks(self) -> None:
        for volume in MANIFEST["volumes"]:
            data = (SAMPLE / f"{volume['path']}.dat").read_bytes()
            block, said = SuperBlock.unpack(data, path=volume["path"]), volume["superblock"]
            self.assertEqual(
                (block.version, str(block.replication), str(block.ttl), block.compaction_revision, block.extra),
                (said["version"], said["rp"], said["ttl"], said["rev"], b""),
            )
            self.assertEqual(block.pack(), data[:8])

    def test_records_tile_and_pack_to_the_same_bytes(self) -> None:
        for volume in MANIFEST["volumes"]:
            found = list(records(volume["path"]))
            self.assertEqual(len(found), volume["records"])
            for _, record, version in found:
                needle = unpack(record, version, path=volume["path"])
                again = pack(needle, version)
                used = 16 + unpack_header(record)[2] + (12 if version == 3 else 4)
                self.assertEqual(len(again), len(record))
                self.assertEqual(again[:used], record[:used])

    def test_times_of_append_increase(self) -> None:
        for path in PATHS:
            times = [unpack(record, version).append_at_ns for _, record, version in records(path) if version == 3]
            self.assertEqual(times, sorted(set(times)))

    def test_index_rows(self) -> None:
        for volume in MANIFEST["volumes"]:
            path = volume["path"]
            data = (SAMPLE / f"{path}.idx").read_bytes()
            rows = idx.unpack_rows(data, WIDTH, path=path)
            self.assertEqual(len(rows.keys), volume["idx_rows"])
            triples = list(zip(rows.keys.tolist(), rows.offsets.tolist(), rows.sizes.tolist(), strict=True))
            for (offset, record, _), (key, at, size) in zip(records(path), triples, strict=True):
                stored = unpack_header(record)[1:]
                self.assertEqual((offset, *stored), (at, key, max(size, 0)))
            self.assertEqual(b"".join(idx.pack_row(key, at, size, WIDTH) for key, at, size in triples), data)

    def test_width_of_offsets_is_guessed(self) -> None:
        for volume in MANIFEST["volumes"]:
            data = (SAMPLE / f"{volume['path']}.idx").read_bytes()
            rows = zip(*(column.tolist() for column in idx.unpack_rows(data, WIDTH)), strict=True)
            narrow = b"".join(idx.pack_row(key, offset, size, 4) for key, offset, size in rows)
            for default in idx.OFFSET_WIDTHS:
                self.assertEqual(idx.guess_offset_width(data, volume["dat_bytes"], default=default), WIDTH)
                self.assertEqual(idx.guess_offset_width(narrow, volume["dat_bytes"], default=default), 4)

    def test_volume_information_byte_for_byte(self) -> None:
        for path in PATHS:
            text = (SAMPLE / f"{path}.vif").read_text()
            info = VolumeInfo.parse(text, path=path)
            self.assertEqual(info.bytes_offset, WIDTH)
            self.assertEqual(info.render(), text)


class FileTests(SynchronousTestCase):
    """Every entry of the manifest."""

    def setUp(self) -> None:
        self.found = {
            (path, offset): (record, version) for path in PATHS for offset, record, version in records(path)
        }

    def needle(self, entry: dict[str, Any]) -> Needle:
        record, version = self.found[entry["file"], entry["dat_offset"]]
        return unpack(record, version, path=entry["file"])

    def test_count(self) -> None:
        self.assertEqual(len(MANIFEST["files"]), 36)

    def test_ids(self) -> None:
        for entry in MANIFEST["files"]:
            fid, needle = FileId.parse(entry["fid"]), self.needle(entry)
            self.assertEqual((fid.key, fid.cookie), (needle.key, needle.cookie))
            self.assertEqual((fid.key, f"{fid.cookie:08x}"), (entry["key"], entry["cookie"]))
            self.assertEqual(FileId.parse(entry["canonical_fid"]), fid)
            self.assertEqual(f",{fid.needle}", str(fid).removeprefix(str(fid.volume_id)))

    def test_contents(self) -> None:
        for entry in MANIFEST["files"]:
            needle = self.needle(entry)
            data = gzip.decompress(needle.data) if entry["gzipped"] else bytes(needle.data)
            self.assertEqual((len(data), hashlib.md5(data).hexdigest()), (entry["size"], entry["md5"]))
            self.assertEqual(len(needle.data), entry["stored_data_size"])

    def test_metadata(self) -> None:
        for entry in MANIFEST["files"]:
            needle = self.needle(entry)
            version = self.found[entry["file"], entry["dat_offset"]][1]
            bare = version == 1 or not needle.data
            name = "" if bare else entry["name"]
            self.assertEqual((needle.name.decode(), needle.mime.decode()), (name, "" if bare else entry["mime"]))
            self.assertEqual(needle.last_modified, None if bare else entry["last_modified"])
            self.assertEqual(str(needle.ttl or ""), entry["ttl"])
            self.assertEqual(json.loads(needle.pairs or b"{}"), entry.get("pairs", {}))
            self.assertEqual(needle.is_manifest, entry["chunk_manifest"])
            if version != 1:
                self.assertEqual((needle.is_gzipped, needle.flags), (entry["gzipped"], int(entry["flags"], 16)))
            self.assertEqual(needle.append_at_ns, entry["append_at_ns"] if version == 3 else 0)

    def test_checksums(self) -> None:
        for entry in MANIFEST["files"]:
            needle = self.needle(entry)
            self.assertEqual(etag(needle.checksum), entry["stored_crc32c"])
            self.assertEqual(etag(needle.checksum), entry.get("etag", entry["stored_crc32c"]))  # deleted ones lack it
            self.assertEqual(Needle(needle.cookie, needle.key, needle.data).checksum, needle.checksum)

    def test_sizes(self) -> None:
        for entry in MANIFEST["files"]:
            record, _ = self.found[entry["file"], entry["dat_offset"]]
            self.assertEqual((unpack_header(record)[2], len(record)), (entry["needle_size"], entry["record_length"]))

    def test_without_reading_the_data(self) -> None:
        for entry in MANIFEST["files"]:
            record, version = self.found[entry["file"], entry["dat_offset"]]
            start = 16 if version == 1 or not entry["needle_size"] else 20
            around = unpack_around(record[:20], record[start + entry["stored_data_size"] :], version)
            whole = self.needle(entry)
            self.assertEqual((around.name, around.mime, around.pairs), (whole.name, whole.mime, whole.pairs))
            self.assertEqual((around.checksum, around.append_at_ns), (whole.checksum, whole.append_at_ns))

    def test_deletions(self) -> None:
        deleted = [entry for entry in MANIFEST["files"] if entry["deleted"]]
        self.assertEqual(len(deleted), 5)
        for entry in deleted:
            rows = idx.unpack_rows((SAMPLE / f"{entry['file']}.idx").read_bytes(), WIDTH)
            last = entry["idx_rows"][-1]
            self.assertEqual((int(rows.keys[last]), int(rows.sizes[last])), (entry["key"], idx.TOMBSTONE))
            record, version = self.found[entry["file"], int(rows.offsets[last])]
            deletion, needle = unpack(record, version), self.needle(entry)
            self.assertEqual(
                (deletion.key, deletion.cookie, deletion.checksum, bytes(deletion.data)),
                (needle.key, needle.cookie, needle.checksum, b""),
            )
