"""The client in scripts: the one that waits, and the example of the documents."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.masters import Daemon, Scratch, assign, wait_for_cluster, wait_for_leader
from tests.cluster.processes import LIMIT

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent.parent
SCRIPT = """
import sys, threading
from weedtw.client import BlockingClient, Placement
from weedtw.errors import NotFound

masters = sys.argv[1].split(",")
with BlockingClient(masters, patience=60) as client, BlockingClient(masters[1:], patience=60) as other:
    stored = client.upload(b"hello", name="hello.txt", placement=Placement(replication="001"))
    assert other.read(stored.fid) == b"hello"
    assert client.head(stored.fid).name == "hello.txt"
    large = client.upload(bytes(3_000_000), name="large", max_bytes=1_000_000)
    assert len(large.chunks) == 3
    assert client.read(large.fid) == bytes(3_000_000)
    path, info = client.download(large.fid, ".", overwrite=True)
    assert info.size == 3_000_000
    assert len(client.lookup(stored.fid.volume_id)) == 2
    assert client.assign(3).count == 3
    assert client.status().leader is not None
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(client.read(stored.fid))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [b"hello"] * 8
    client.delete(stored.fid)
    try:
        client.read(stored.fid)
    except NotFound as error:
        print("gone:", error)
"""


@pytest.fixture
def masters(scratch: Scratch) -> list[Daemon]:
    peers = ",".join(f"127.0.0.1:{port}" for port in (9333, 9334, 9335))
    started = [
        scratch.start(f"weedtw master -port={p} -mdir=./{p} -ip=127.0.0.1 -peers={peers}") for p in (9333, 9334, 9335)
    ]
    for n in (0, 1):
        scratch.start(f"weedtw volume -port=808{n} -dir=./v{n} -ip=127.0.0.1 -mserver={peers}")
    wait_for_cluster(started)
    assign(started, replication="001")
    return started


def run(scratch: Scratch, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, *words],
        cwd=scratch.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert ran.returncode == 0, ran
    return ran.stdout


def test_one_that_waits(scratch: Scratch, masters: list[Daemon]) -> None:
    addresses = ",".join(master.address for master in masters)
    assert run(scratch, "-c", SCRIPT, addresses).startswith("gone:")
    wait_for_leader(masters).kill()
    assert run(scratch, "-c", SCRIPT, addresses).startswith("gone:")


def test_the_example(scratch: Scratch, masters: list[Daemon]) -> None:
    pictures = scratch.folder / "pictures"
    (pictures / "b").mkdir(parents=True)
    for n in range(6):
        (pictures / "b" / f"{n}.png").write_bytes(b"picture %d" % n)
    (pictures / "notes.txt").write_text("no picture")
    addresses = ",".join(master.address for master in masters)
    example = str(ROOT / "docs" / "example_client.py")
    assert len(run(scratch, example, addresses, "pictures", "index.json").splitlines()) == 6
    assert run(scratch, example, addresses, "pictures", "index.json") == ""
    index = json.loads((scratch.folder / "index.json").read_text())
    assert sorted(index) == [f"b/{n}.png" for n in range(6)]
