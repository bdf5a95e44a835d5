"""The shell on real daemons: lost copies come back, bit by bit, and whoever dies meanwhile takes nothing away."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import attrs
import pytest

from tests.cluster.masters import Daemon, Scratch, assign, get, put, wait_for_cluster, wait_for_leader
from tests.cluster.processes import HOST, LIMIT, WEEDTW, request, wait_until

pytestmark = pytest.mark.process


@attrs.define(eq=False)
class House:
    """Three masters, and volume servers on two racks."""

    scratch: Scratch
    masters: list[Daemon]
    servers: list[Daemon]
    files: dict[str, bytes] = attrs.Factory(dict)

    @classmethod
    def build(cls, scratch: Scratch, racks: str) -> "House":
        peers = ",".join(f"{HOST}:{port}" for port in (9333, 9334, 9335))
        masters = [
            scratch.start(f"weedtw master -ip={HOST} -port={port} -mdir=./m{port} -peers={peers} -pulseSeconds=1")
            for port in (9333, 9334, 9335)
        ]
        wait_for_cluster(masters)
        servers = [
            scratch.start(
                f"weedtw volume -ip={HOST} -port={8080 + number} -dir=./v{number} -mserver={peers} -rack=r{rack} "
                "-pulseSeconds=1 -max=20"
            )
            for number, rack in enumerate(racks)
        ]
        for server in servers:
            wait_until(
                lambda server=server: (answer := server.ask("/readyz")) is not None and answer.status == 200,  # type: ignore[misc]
                f"{server.line} is there",
            )
        return cls(scratch, masters, servers)

    def write(self, count: int, **wish: object) -> None:
        for _ in range(count):
            content = os.urandom(20_000)
            self.files[put(assign(self.masters, **wish), content)] = content

    def shell(self, text: str) -> "subprocess.Popen[str]":
        masters = ",".join(master.address for master in self.masters)
        words = [*WEEDTW, "shell", f"-master={masters}", "-c", text]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, text: str, status: int = 0) -> str:
        shell = self.shell(text)
        said, _ = shell.communicate(timeout=2 * LIMIT)
        assert shell.returncode == status, said
        return said

    def folder(self, number: int) -> Path:
        return self.scratch.folder / f"v{number}"

    def holders(self, master: Daemon, volume: str) -> set[str]:
        answer = master.ask(f"/dir/lookup?volumeId={volume}")
        return {one["url"] for one in answer.json().get("locations", ())} if answer is not None else set()

    def check_files(self) -> None:
        """Every copy has every file."""
        master = wait_for_leader([one for one in self.masters if one.runs])
        for fid, content in self.files.items():
            holders = self.holders(master, fid.partition(",")[0])
            assert holders, fid
            for holder in holders:
                answer = request("GET", f"{holder}/{fid}?proxied=true")
                assert (answer.status, answer.body == content) == (200, True), (holder, fid)


def test_lost_copies_come_back_under_writes_while_the_leader_dies(scratch: Scratch) -> None:
    house = House.build(scratch, "11122")
    house.write(12, replication="001", collection="one")
    house.write(12, replication="010", collection="ten")
    victim = house.servers[0]
    volumes = [path.stem for path in house.folder(0).glob("*.dat")]
    victim.kill()
    shutil.rmtree(house.folder(0))
    assert volumes, "the victim held something"

    end, written = threading.Event(), []

    def write_on() -> None:
        while not end.wait(0.02):
            content = os.urandom(5000)
            written.append((put(assign(house.masters, collection="other"), content), content))

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        leader = wait_for_leader(house.masters)
        assert "would copy" in house.run("volume.fix.replication")
        shell = house.shell("volume.fix.replication -force")
        assert shell.stdout is not None
        first = shell.stdout.readline()
        assert first.startswith("1/"), first
        leader.kill()
        rest, _ = shell.communicate(timeout=2 * LIMIT)
        again = house.run("volume.fix.replication -force; volume.check.disk")
        assert "nothing to do" in again, (first, rest, again)
        assert ", 0 differed" in again
    finally:
        end.set()
        writer.join(LIMIT)
    assert written
    house.files.update(written)
    house.check_files()
    for name in volumes:
        if name.startswith(("one_", "ten_")):
            copies = [house.folder(number) / name for number in range(1, 5)]
            for suffix in (".dat", ".idx"):
                found = [
                    path.with_suffix(suffix).read_bytes() for path in copies if path.with_suffix(suffix).exists()
                ]
                assert len(found) == 2, (name, suffix)
                assert found[0] == found[1], (name, suffix)


def test_a_volume_is_moved_while_everybody_dies(scratch: Scratch) -> None:
    house = House.build(scratch, "11")
    house.write(10, collection="moved")
    (fid, *_) = house.files
    volume = fid.partition(",")[0]
    master = wait_for_leader(house.masters)
    source_address = next(iter(house.holders(master, volume)))
    source = next(one for one in house.servers if one.address == source_address)
    target = next(one for one in house.servers if one is not source)
    move = f"volume.move -volumeId={volume} -source={source.address} -target={target.address}"

    # A first pass was made, the source is marked, and the shell is gone; then both servers die.
    taken = request("POST", f"{target.address}/admin/copy/take?volume={volume}&from={source.address}&mount=false")
    assert taken.status == 200, taken
    assert request("POST", f"{source.address}/admin/copy/freeze?volume={volume}").status == 200
    for server in (source, target):
        server.restart()
    wait_until(lambda: house.holders(master, volume) == {source.address}, "the source is there again")
    wait_until(lambda: (answer := target.ask("/readyz")) is not None and answer.status == 200, "the target is")
    assert request("GET", f"{target.address}/admin/copy/state?volume={volume}").status == 404

    # The copy is whole, and not yet believed; the shell is gone again.
    taken = request("POST", f"{target.address}/admin/copy/take?volume={volume}&from={source.address}")
    assert taken.status == 200, taken
    assert house.holders(master, volume) == {source.address}
    changed = request("POST", f"{source.address}/admin/copy/release?volume={volume}&size=8&indexSize=0&revision=0")
    assert changed.status == 409
    said = house.run(f"{move}; {move}")
    assert "is moved" in said
    assert "was moved already" in said
    assert house.holders(master, volume) == {target.address}
    house.check_files()
    url = f"{target.address}/{fid}"
    assert request("PUT", url, b"written since").status == 201, "it takes writes again"
    assert get(master, fid) == b"written since"


def test_the_lock_outlives_its_leader_and_expires(scratch: Scratch) -> None:
    house = House.build(scratch, "")
    leader = wait_for_leader(house.masters)
    taken = request("POST", f"{leader.address}/cluster/lock?holder=a%20test")
    assert taken.status == 200, taken
    assert "the admin lock is held by a test" in house.run("volume.balance -apply", status=1)
    leader.kill()
    wait_for_leader([one for one in house.masters if one.runs], other_than=leader)
    assert "the admin lock is held by a test" in house.run("volume.balance -apply", status=1)

    def is_free() -> bool:
        shell = house.shell("lock")
        shell.communicate(timeout=LIMIT)
        return shell.returncode == 0

    wait_until(is_free, "the lock expires")
