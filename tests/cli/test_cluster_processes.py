"""`weedtw cluster` against masters that run and die, as a person would use it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.cluster.masters import (
    Daemon,
    Scratch,
    assign,
    get,
    kill,
    knows,
    put,
    terminate,
    wait_for_cluster,
    wait_for_leader,
)
from tests.cluster.processes import HOST, LIMIT, WEEDTW, wait_until

pytestmark = pytest.mark.process

PORTS = (9333, 9334, 9335)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    made = Scratch(tmp_path)
    yield made
    made.end()


@attrs.define
class Masters:
    """Three masters, and a shell."""

    scratch: Scratch
    daemons: list[Daemon]

    @classmethod
    def start(cls, scratch: Scratch) -> "Masters":
        peers = ",".join(f"{HOST}:{port}" for port in PORTS)
        lines = [f"weedtw master -ip={HOST} -port={port} -mdir=./{port} -peers={peers}" for port in PORTS]
        made = cls(scratch, [scratch.start(line) for line in lines])
        wait_for_cluster(made.daemons)
        return made

    def run(self, *words: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        """Type `weedtw cluster ...` in the scratch folder."""
        whole = [*WEEDTW, "cluster", *words]
        return subprocess.run(
            whole, input=typed, capture_output=True, text=True, timeout=LIMIT, check=False, cwd=self.scratch.folder
        )

    def ask(self, name: str, asked: Daemon, *words: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        """The same, for a command that asks a master."""
        return self.run(name, "--master", asked.address, *words, typed=typed)

    def status(self, asked: Daemon) -> dict[str, Any]:
        """`weedtw cluster status --json`."""
        found = json.loads(self.ask("status", asked, "--json").stdout)
        assert isinstance(found, dict)
        return found

    def mdir(self, daemon: Daemon) -> str:
        return str(daemon.port)


def addresses(status: dict[str, Any]) -> set[str]:
    return {one["address"] or one["asked"] for one in status["masters"]}


def test_status_and_changes(scratch: Scratch) -> None:
    masters = Masters.start(scratch)
    first, *others = masters.daemons
    done = masters.ask("status", first)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 of 3 voters are here, 1 of them may fail" in done.stdout
    assert addresses(masters.status(others[0])) == {daemon.address for daemon in masters.daemons}

    follower = next(one for one in masters.daemons if one is not wait_for_leader(masters.daemons))
    done = masters.ask("transfer", first, follower.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{follower.address} leads" in done.stdout
    assert wait_for_leader(masters.daemons) is follower
    done = masters.ask("transfer", first, follower.address)
    assert (done.returncode, done.stdout) == (1, "")
    assert "leads already" in done.stderr

    done = masters.ask("remove", first, follower.address)  # the leader
    assert (done.returncode, done.stderr) == (0, "")
    left = [one for one in masters.daemons if one is not follower]
    wait_for_cluster(left)
    follower.terminate()
    for file in Path(scratch.folder, masters.mdir(follower)).iterdir():
        file.unlink()
    nobody = f"-peers={HOST}:{scratch.port(9342)}"  # so that it waits
    follower.start(f"weedtw master -ip={HOST} -port={follower.port} -mdir=./{masters.mdir(follower)} {nobody}")
    wait_until(lambda: follower.believes().get("role") == "JOINING", "it waits for a cluster")
    assert masters.ask("status", follower).returncode == 1
    done = masters.ask("add", left[1], follower.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 of 3 voters are here" in done.stdout
    wait_for_cluster(masters.daemons)


def test_the_dead_are_told_of_and_removed(scratch: Scratch) -> None:
    masters = Masters.start(scratch)
    leader = wait_for_leader(masters.daemons)
    leader.kill()
    left = [one for one in masters.daemons if one is not leader]
    wait_for_leader(left)
    done = masters.ask("status", left[0])
    assert done.returncode == 0
    assert f"{leader.address}: refuses connections; is it running there?" in done.stdout
    assert "2 of 3 voters are here, none of them may fail" in done.stdout

    done = masters.ask("remove", left[0], left[0].address, typed="n\n")
    assert done.returncode == 1
    assert f"{leader.address} must come back or be removed first" in done.stderr
    assert len(left[1].believes()["members"]) == 3

    done = masters.ask("remove", left[0], leader.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 voters are here" in done.stdout
    wait_for_cluster(left)
    left[1].freeze()
    done = masters.ask("status", left[0])
    assert done.returncode == 1
    assert f"{left[1].address}: no answer within 2 s" in done.stdout
    left[1].thaw()


def test_show_while_it_runs_and_when_it_is_dead(scratch: Scratch) -> None:
    masters = Masters.start(scratch)
    volume = scratch.start(f"weedtw volume -ip={HOST} -port=8080 -dir=./v -max=8 -mserver={HOST}:9333")
    put(assign(masters.daemons), b"x")
    first = masters.daemons[0]
    seen = json.loads(masters.run("show", "--mdir", masters.mdir(first), "--json").stdout)
    assert seen["node"] == first.believes()["node"]
    assert seen["cluster"] == first.believes()["cluster"]
    assert [server["address"] for server in seen["latest"]["servers"]] == [volume.address]
    put(assign([first]), b"it has not noticed")
    first.kill()
    done = masters.run("show", "--mdir", masters.mdir(first))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Node     {seen['node']}" in done.stdout
    first.start()
    wait_for_cluster(masters.daemons)


def test_recover(scratch: Scratch) -> None:
    """Two of three are lost; the third goes on alone, the old ones join anew, and no id comes twice."""
    masters = Masters.start(scratch)
    first, *others = masters.daemons
    scratch.start(f"weedtw volume -ip={HOST} -port=8080 -dir=./v -max=8 -mserver={HOST}:9333 -pulseSeconds=1")
    before = [put(assign(masters.daemons), b"before") for _ in range(5)]
    cluster = wait_for_cluster(masters.daemons)
    node = first.believes()["node"]

    kill(others)
    wait_until(lambda: not first.believes()["hasLease"], "it leads no more")
    done = masters.ask("status", first)
    assert done.returncode == 1
    assert "1 of 3 voters is here, 2 are needed" in done.stdout
    done = masters.ask("remove", first, others[0].address)
    assert done.returncode == 1
    assert "nobody leads" in done.stderr
    done = masters.run("recover", "--mdir", masters.mdir(first), "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert "another process is using it" in done.stderr

    first.terminate()
    assert masters.run("recover", "--mdir", masters.mdir(first), typed="n\n").returncode == 1
    done = masters.run("recover", "--mdir", masters.mdir(first), typed="y\n")
    assert done.returncode == 0, done
    for one in others:
        assert f"{one.address}, node " in done.stdout
    done = masters.run("recover", "--mdir", masters.mdir(first), "--yes")
    assert done.returncode == 1
    assert "there is nothing to recover" in done.stderr

    first.start()
    assert wait_for_cluster([first]) == cluster
    assert first.believes()["node"] != node
    after = [put(assign([first]), b"after") for _ in range(5)]
    keys = {fid: int(fid.partition(",")[2][:-8], 16) for fid in (*before, *after)}
    assert min(keys[fid] for fid in after) > max(keys[fid] for fid in before)
    assert [get(first, fid) for fid in (*before, *after)] == [b"before"] * 5 + [b"after"] * 5

    scratch.may_fail = True  # from here on
    one, other = others
    one.start()  # with its old file, which is a mistake
    one.wait_to_say("the cluster has removed this master")
    status = masters.run("status", "--master", f"{first.address},{one.address}")
    assert "is no member of the cluster; stop it, and move its raft.sqlite3 away" in status.stdout
    assert f"{first.address} leads" in status.stdout
    if one.runs:
        one.kill()
    for daemon in others:
        for file in Path(scratch.folder, masters.mdir(daemon)).glob("raft.sqlite3*"):
            file.unlink()
        daemon.start(f"weedtw master -ip={HOST} -port={daemon.port} -mdir=./{daemon.port} -peers={first.address}")
    assert wait_for_cluster(masters.daemons) == cluster
    wait_until(lambda: knows(other, after[0]), "the volume server reports to those that joined anew")
    assert get(other, after[0]) == b"after"
    terminate(masters.daemons)


def test_those_that_a_recovery_left_behind(scratch: Scratch) -> None:
    """Started with their old files, against all advice, they are no second cluster but stop."""
    scratch.may_fail = True  # they cry out
    masters = Masters.start(scratch)
    first, *others = masters.daemons
    kill(masters.daemons)
    assert masters.run("recover", "--mdir", masters.mdir(first), "--yes").returncode == 0
    first.start()
    wait_for_cluster([first])
    for one in others:
        one.start()
    wait_until(lambda: all(one.believes().get("failed") for one in others), "they take part no more")
    assert not any(one.believes()["hasLease"] for one in others)
    assert "the cluster has gone on without this master" in others[0].believes()["failed"]
    answer = others[0].ask("/dir/assign")
    assert answer is not None
    assert answer.status == 503

    everybody = ",".join(one.address for one in masters.daemons)
    done = masters.run("status", "--master", everybody)
    assert done.returncode == 0
    assert f"{first.address} leads" in done.stdout
    for one in others:
        assert f"{one.address} has stopped taking part: " in done.stdout
        assert f"{one.address} ({one.believes()['node'][:8]}) is no member of the cluster; stop it" in done.stdout
    terminate(masters.daemons)
