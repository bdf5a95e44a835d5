"""Clients that others wrote for SeaweedFS, as PyPI has them, against three masters and two volume servers."""

import io
from pathlib import Path

import pytest

from tests.cluster.masters import Daemon, Scratch, wait_for_cluster, wait_for_leader
from tests.cluster.processes import HOST, wait_until

pyseaweed = pytest.importorskip("pyseaweed")
operation = pytest.importorskip("weed.operation")
master_module = pytest.importorskip("weed.master")

pytestmark = pytest.mark.process

MASTERS = """
weedtw master -port=9333 -mdir=./1 -ip=127.0.0.1 -peers=127.0.0.1:9333,127.0.0.1:9334,127.0.0.1:9335
weedtw master -port=9334 -mdir=./2 -ip=127.0.0.1 -peers=127.0.0.1:9333,127.0.0.1:9334,127.0.0.1:9335
weedtw master -port=9335 -mdir=./3 -ip=127.0.0.1 -peers=127.0.0.1:9333,127.0.0.1:9334,127.0.0.1:9335
"""
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def masters(scratch: Scratch) -> list[Daemon]:
    """Three masters, of which the first is a follower, with two volume servers."""
    started = [scratch.start(line) for line in MASTERS.strip().splitlines()]
    for n in (0, 1):
        scratch.start(f"weedtw volume -port=808{n} -dir=./v{n} -ip=127.0.0.1 -mserver=127.0.0.1:9333")
    wait_for_cluster(started)
    leader = wait_for_leader(started)
    started.sort(key=lambda master: master is leader)

    def is_assigned() -> bool:
        answer = started[0].ask("/dir/assign")
        return answer is not None and answer.status == 200

    wait_until(is_assigned, "an id")
    return started


@pytest.mark.parametrize("use_session", [False, True])
def test_pyseaweed(masters: list[Daemon], tmp_path: Path, use_session: bool) -> None:
    client = pyseaweed.SeaweedFS(HOST, masters[0].port, use_session=use_session)
    assert "weedtw" in client.version
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    of_path = client.upload_file(str(path))
    of_stream = client.upload_file(stream=io.BytesIO(CONTENT), name="file.bin", replication="001")
    for fid in (of_path, of_stream):
        assert client.get_file(fid) == CONTENT
        assert client.get_file_size(fid) == len(CONTENT)
        assert client.file_exists(fid)
        assert client.get_file_url(fid).endswith(fid)
        assert client.delete_file(fid)
        assert not client.file_exists(fid)
        assert client.get_file(fid) is None
    assert client.vacuum(0.01)


def test_python_weed(masters: list[Daemon]) -> None:
    base = f"http://{masters[0].address}"
    weed = operation.WeedOperation(base)
    stored = weed.put(io.BytesIO(CONTENT), file_name="file.bin")
    assert stored.ok(), stored
    assert weed.get_content(stored.fid) == CONTENT
    assert weed.exists(stored.fid)
    first, second, *_ = weed.acquire_new_fids(2)  # which gives three
    assert weed.put(io.BytesIO(b"first"), fid=first).ok()
    assert weed.put(io.BytesIO(b"second"), fid=second).ok()
    assert weed.crud_read(second).ok()
    assert weed.crud_update(io.BytesIO(b"changed"), second).ok()
    assert weed.get_content(second) == b"changed"
    assert weed.cp(first, second).ok()
    assert weed.get_content(second) == b"first"
    assert weed.delete(first).ok()
    assert not weed.exists(first)
    master = master_module.WeedMaster(base)
    assert master.get_status()["Topology"]["DataCenters"]
    assert master.lookup(second)["locations"]
    assert master.vacuum()
    # And with whichever master is left.
    masters[-1].kill()
    wait_for_leader(masters[:-1])
    again = operation.WeedOperation(f"http://{masters[1].address}")
    assert again.put(io.BytesIO(b"after"), file_name="after").ok()
