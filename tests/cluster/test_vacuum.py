"""A vacuum in which somebody dies, at each step: no file is lost, none comes back, and the copies end up alike."""

import os
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from tests.cluster.masters import Daemon, Scratch, assign, put
from tests.cluster.processes import HOST, LIMIT, request, wait_until
from tests.cluster.vacuuming import DIED, GO_ON

pytestmark = pytest.mark.process

COLLECTION = "swept"


@attrs.define(eq=False)
class Pair:
    """A volume on two servers; `first` is the one that a master asks first to put the new files in place."""

    master: Daemon
    first: Daemon
    second: Daemon
    files: dict[str, bytes | None] = attrs.Factory(dict)  # what each holds; None is deleted
    volume: str = ""

    def make_garbage(self) -> None:
        """Write some files, and delete every other one."""
        for number in range(20):
            assigned = assign([self.master], collection=COLLECTION, replication="001")
            content = os.urandom(3000)
            self.files[put(assigned, content)] = content
            self.volume = assigned["fid"].partition(",")[0]
            if number % 2:
                assert request("DELETE", f"{assigned['url']}/{assigned['fid']}").status == 202
                self.files[assigned["fid"]] = None

    def vacuum(self) -> None:
        """Have all garbage removed, if all goes well."""
        answer = self.master.ask("/vol/vacuum?garbageThreshold=0.01")
        assert answer is not None
        assert answer.status == 200

    def vacuumed(self) -> bool:
        """Vacuum; whether nothing is left to do."""
        self.vacuum()
        return self.agree()

    def checked(self, server: Daemon) -> dict[str, Any]:
        """How much garbage it has, and how often it was vacuumed."""
        answer = request("POST", f"{server.address}/admin/vacuum/check?volume={self.volume}")
        assert answer.status == 200, answer
        checked: dict[str, Any] = answer.json()
        return checked

    def audit(self) -> None:
        """Each copy by itself has every file and no other, and nothing of a vacuum that did not end lies about."""
        for server in (self.first, self.second):
            for fid, content in self.files.items():
                answer = request("GET", f"{server.address}/{fid}?proxied=true")
                assert (answer.body if answer.status == 200 else None, answer.status) == (
                    content,
                    404 if content is None else 200,
                ), (server.line, fid)

    def wait_for_service(self) -> None:
        """Until the master has both servers."""
        wait_until(lambda: self.locations() == 2, "the master has both copies")

    def locations(self) -> int:
        """How many copies the master has."""
        answer = self.master.ask(f"/dir/lookup?volumeId={self.volume}")
        return len(answer.json().get("locations", ())) if answer is not None and answer.status == 200 else 0

    def agree(self) -> bool:
        """Whether both copies are without garbage, and were vacuumed as often as each other."""
        first, second = self.checked(self.first), self.checked(self.second)
        return bool(first == second and first["garbageRatio"] == 0)


@pytest.fixture
def pair(scratch: Scratch) -> Iterator[Pair]:
    line = f"weedtw master -ip={HOST} -port=9333 -mdir=./m -pulseSeconds=1 -vacuumIntervalSeconds=86400"
    master = scratch.start(line)
    first, second = (
        scratch.start(f"weedtw volume -ip={HOST} -port={port} -dir=./v{port} -mserver={HOST}:9333 -pulseSeconds=1")
        for port in (8080, 8081)
    )
    for server in (first, second):
        wait_until(
            lambda server=server: (answer := server.ask("/readyz")) is not None and answer.status == 200,  # type: ignore[misc]
            f"{server.line} is there",
        )
    request("GET", f"{master.address}/vol/grow?count=1&collection={COLLECTION}&replication=001")
    pair = Pair(master, first, second)
    pair.make_garbage()
    yield pair
    leftovers = [path.name for path in scratch.folder.glob("v*/*.cp?")]
    assert leftovers == []


# step -> whether the other copy is vacuumed all the same when the first, or the second, dies there
STEPS = {
    "compact-begins": (False, False),
    "compact-has-written": (False, False),
    "compact-is-done": (False, False),
    "commit-begins": (False, True),
    "commit-is-decided": (False, True),
    "commit-has-renamed-one": (False, True),
    "commit-is-done": (False, True),
}


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_server_dies_at_each_step(pair: Pair, which: str) -> None:
    """What was not done on both is done on both in the end; without being asked when only one copy stayed behind."""
    victim, other = (pair.first, pair.second) if which == "first" else (pair.second, pair.first)
    line = victim.line
    for step, is_vacuumed in STEPS.items():
        if which == "first" and step.startswith("compact"):
            continue  # nobody is first at that
        pair.make_garbage()
        victim.kill()
        victim.start(line.replace("weedtw", f"vacuuming {step}", 1))
        pair.wait_for_service()
        before = pair.checked(other)["revision"]
        wait_until(lambda: vacuumed_or_dead(pair, victim), "the vacuum gets that far")
        assert victim.process.wait(LIMIT) == DIED
        assert pair.checked(other)["revision"] - before == is_vacuumed[which == "second"], step
        victim.start(line)
        pair.wait_for_service()
        pair.audit()
        if is_vacuumed[which == "second"]:
            wait_until(pair.agree, f"the copies become alike after {step}")
        else:
            wait_until(lambda: vacuumed_or_dead(pair, victim) or pair.agree(), f"they are vacuumed after {step}")
        pair.audit()


def vacuumed_or_dead(pair: Pair, victim: Daemon) -> bool:
    """Vacuum, unless it has died of that; a server that has just started may not be ready for it."""
    if victim.runs:
        pair.vacuum()
    return not victim.runs


def test_the_master_dies_between_the_two(pair: Pair, scratch: Scratch) -> None:
    """The next one sees by the revisions that one copy stayed behind."""
    line = pair.first.line
    pair.first.kill()
    pair.first.start(line.replace("weedtw", "vacuuming commit-held", 1))
    pair.wait_for_service()

    def is_held() -> bool:
        pair.master.ask("/vol/vacuum?garbageThreshold=0.01", timeout=1)
        return bool(pair.checked(pair.first)["revision"])

    wait_until(is_held, "the first copy is in place")
    pair.master.kill()
    (scratch.folder / GO_ON).touch()
    assert [pair.checked(server)["revision"] for server in (pair.first, pair.second)] == [1, 0]
    pair.audit()
    pair.master.start()
    pair.wait_for_service()
    wait_until(pair.vacuumed, "the second copy catches up")
    assert [pair.checked(server)["revision"] for server in (pair.first, pair.second)] == [1, 1]
    pair.audit()


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_full_disk(pair: Pair, which: str) -> None:
    """No copy is vacuumed, both go on, and both are when there is room again."""
    victim = pair.first if which == "first" else pair.second
    line = victim.line
    victim.kill()
    victim.start(line.replace("weedtw", "vacuuming disk-full", 1))
    pair.wait_for_service()
    wait_until(lambda: not pair.vacuumed() and "No space left on device" in pair.master.said, "the disk is full")
    assert [pair.checked(server)["revision"] for server in (pair.first, pair.second)] == [0, 0]
    assert not any(pair.checked(server)["compacted"] for server in (pair.first, pair.second))
    pair.audit()
    pair.make_garbage()
    victim.terminate()
    victim.start(line)
    pair.wait_for_service()
    wait_until(pair.vacuumed, "both are vacuumed")
    pair.audit()
