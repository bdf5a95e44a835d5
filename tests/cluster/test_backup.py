"""`weedtw backup` from a running server: only what is new, wherever it was interrupted, and all after a vacuum."""

import os
import shutil
import subprocess

import pytest

from tests.cluster.masters import Scratch, assign, wait_for_cluster
from tests.cluster.processes import LIMIT, WEEDTW, request, wait_until

pytestmark = pytest.mark.process


def test_a_copy_that_grows_with_its_volume(scratch: Scratch) -> None:
    master = scratch.start("weedtw master -port=9333 -mdir=./m -ip=127.0.0.1")
    volume = scratch.start("weedtw volume -port=8080 -dir=./v -ip=127.0.0.1 -max=1 -mserver=127.0.0.1:9333")
    wait_for_cluster([master])

    def write(body: bytes) -> str:
        fid = str(assign([master])["fid"])
        assert request("PUT", f"{volume.address}/{fid}", body).status == 201
        return fid

    def backup(status: int = 0) -> str:
        words = [*WEEDTW, "backup", f"-master={master.address}", "-volumeId=1", "-dir=b"]
        ran = subprocess.run(words, cwd=scratch.folder, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert ran.returncode == status, ran
        return ran.stdout + ran.stderr

    copy, original = scratch.folder / "b" / "1.dat", scratch.folder / "v" / "1.dat"
    fids = [write(os.urandom(200_000)) for _ in range(30)]
    assert "copied" in backup()
    assert copy.read_bytes() == original.read_bytes()
    write(b"one more")
    assert "added" in backup()
    assert copy.read_bytes() == original.read_bytes()
    os.truncate(copy, 1_000_003)  # as a kill in the middle leaves it
    assert "added" in backup()
    assert copy.read_bytes() == original.read_bytes()
    for fid in fids[:20]:
        assert request("DELETE", f"{volume.address}/{fid}").status == 202
    assert "added" in backup()
    vacuumed = master.ask("/vol/vacuum?garbageThreshold=0.1")
    assert vacuumed is not None
    assert vacuumed.status == 200
    assert "copied" in backup()
    assert copy.read_bytes() == original.read_bytes()
    assert (scratch.folder / "b" / "1.dat.before").exists()

    # A server that has lost its disk and makes the volume anew does not cost the copy.
    whole = copy.read_bytes()
    volume.kill()
    shutil.rmtree(scratch.folder / "v")
    volume.start()

    def is_made() -> bool:
        answer = volume.ask("/admin/assign_volume?volume=1", method="POST")
        return answer is not None and answer.status == 200

    wait_until(is_made, "a new volume 1")
    wait_until(lambda: "no copy of what the server has now" in backup(1), "the backup is refused")
    assert copy.read_bytes() == whole
    served = scratch.start("weedtw volume -port=8081 -dir=./b -ip=127.0.0.1 -mserver=127.0.0.1:9334")
    wait_until(lambda: (answer := served.ask(f"/{fids[25]}")) is not None and answer.status == 200, "the copy serves")
    answer = served.ask(f"/{fids[0]}")
    assert answer is not None
    assert answer.status == 404
