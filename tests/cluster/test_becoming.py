"""What is on a master's disk decides what it is, whatever `--peers` says and wherever it comes back."""

import re
import shutil

import pytest

from tests.cluster.masters import (
    Daemon,
    Scratch,
    assign,
    check_cluster,
    get,
    ids,
    leaders,
    put,
    terminate,
    wait_for_cluster,
    wait_for_leader,
)
from tests.cluster.processes import wait_until

pytestmark = pytest.mark.process

PEERS = "localhost:9333,localhost:9334,localhost:9335"


@pytest.fixture
def masters(scratch: Scratch) -> list[Daemon]:
    """A cluster of three masters, and a volume server."""
    started = [scratch.start(f"weedtw master -port={9332 + n} -mdir=./{n} -peers={PEERS}") for n in (1, 2, 3)]
    scratch.start(f"weedtw volume -port=8080 -dir=./v -mserver={PEERS} -pulseSeconds=1")
    wait_for_cluster(started)
    return started


def followers(masters: list[Daemon]) -> list[Daemon]:
    """Those that do not lead now."""
    leader = wait_for_leader(masters)
    return [master for master in masters if master is not leader]


def check_says_stranger(master: Daemon, own: str, other: str) -> None:
    """It says that another master is of another cluster, what is on its own disk, and how to bring one over."""
    said = master.wait_to_say(f"the master at .* belongs to cluster {other}")
    assert re.search(rf"and this one to cluster {own}, as .*raft\.sqlite3 says", said)
    assert "to bring a master over, stop it, move its raft.sqlite3 away, and start it with --peers" in said


# ------------------------------------------------------------------ --peers and addresses that have changed


def test_peers_that_do_not_fit_the_disk(scratch: Scratch, masters: list[Daemon]) -> None:
    cluster = wait_for_cluster(masters)
    terminate(masters)
    for number, master in enumerate(masters, 1):
        master.start(scratch.line(f"weedtw master -port={9332 + number} -mdir=./{number} -peers=localhost:9342"))
    for master in masters:
        said = master.wait_to_say("the disk counts")
        assert scratch.line("--peers names localhost:9342") in said
        assert "'weedtw cluster add' and 'weedtw cluster remove' change the membership" in said
        assert all(str(other.port) in said for other in masters if other is not master)
    assert check_cluster(masters) == cluster


@pytest.mark.parametrize("whose", ["follower", "leader"])
def test_one_master_has_another_port(scratch: Scratch, masters: list[Daemon], whose: str) -> None:
    cluster = wait_for_cluster(masters)
    moved = followers(masters)[0] if whose == "follower" else wait_for_leader(masters)
    number, node = masters.index(moved) + 1, moved.believes()["node"]
    moved.restart(scratch.line(f"weedtw master -port=9340 -mdir=./{number}"))
    wait_until(
        lambda: all(moved.address.split(":")[1] in str(master.believes().get("members")) for master in masters),
        "all know the new address",
    )
    assert check_cluster(masters) == cluster
    assert moved.believes()["node"] == node


@pytest.mark.parametrize(
    "hints",
    [
        pytest.param(["localhost:9336,localhost:9337,localhost:9338"] * 3, id="all name all"),
        pytest.param(["none", "localhost:9336", "localhost:9337"], id="each names the one before"),
    ],
)
def test_all_masters_have_other_ports(scratch: Scratch, masters: list[Daemon], hints: list[str]) -> None:
    cluster = wait_for_cluster(masters)
    fid = put(assign(masters), b"before")
    nodes = [master.believes()["node"] for master in masters]
    terminate(masters)
    for number, (master, named) in enumerate(zip(masters, hints, strict=True), 1):
        master.start(scratch.line(f"weedtw master -port={9335 + number} -mdir=./{number} -peers={named}"))
    assert wait_for_cluster(masters) == cluster
    volume = scratch.daemons[3]
    volume.restart(scratch.line("weedtw volume -port=8080 -dir=./v -mserver=localhost:9336 -pulseSeconds=1"))
    assert check_cluster(masters) == cluster
    assert [master.believes()["node"] for master in masters] == nodes
    assert get(masters[0], fid) == b"before"


# ------------------------------------------------------------------ disks that were lost


def test_a_wiped_disk(scratch: Scratch, masters: list[Daemon]) -> None:
    cluster = wait_for_cluster(masters)
    for wiped in (followers(masters)[0], wait_for_leader(masters)):
        node = wiped.believes()["node"]
        wiped.kill()
        shutil.rmtree(scratch.folder / str(masters.index(wiped) + 1))
        wiped.start()
        wiped.wait_to_say(f"joined cluster {cluster}")
        assert wait_for_cluster(masters) == cluster
        assert wiped.believes()["node"] != node
        assert any(f"node {node} at localhost:{wiped.port} is replaced" in master.said for master in masters)
    assert check_cluster(masters) == cluster


def test_most_disks_wiped(scratch: Scratch, masters: list[Daemon]) -> None:
    """Those without a disk are a majority of the list, and found no second cluster while one knows the first."""
    cluster = wait_for_cluster(masters)
    terminate(masters)
    for number in (2, 3):
        shutil.rmtree(scratch.folder / str(number))
    masters[0].start()
    masters[0].wait_to_say("node .* of cluster")
    for wiped in masters[1:]:
        wiped.start()
        wiped.wait_to_say(f"cluster {cluster} has not taken it in: .*majority")
    assert ids(masters) == {cluster, ""}
    assert not leaders(masters)


def test_a_wiped_disk_and_no_peers(scratch: Scratch, masters: list[Daemon]) -> None:
    """The master cannot know better than to found a cluster; all say that there are two, and nobody mixes them."""
    cluster = wait_for_cluster(masters)
    wiped, *rest = followers(masters)
    rest.append(wait_for_leader(masters))
    number = masters.index(wiped) + 1
    wiped.kill()
    shutil.rmtree(scratch.folder / str(number))
    wiped.start(scratch.line(f"weedtw master -port={9332 + number} -mdir=./{number}"))
    other = wait_for_cluster([wiped])
    assert other != cluster
    for master in rest:
        check_says_stranger(master, cluster, other)
    wiped.wait_to_say(f"you are of cluster {cluster}, this is {other}")
    assert check_cluster(rest, 3) == cluster
    assert ids([wiped]) == {other}


# ------------------------------------------------------------------ disks that are somebody else's


def test_a_disk_of_another_cluster(scratch: Scratch, masters: list[Daemon]) -> None:
    cluster = wait_for_cluster(masters)
    stranger = scratch.start("weedtw master -port=9340 -mdir=./s")
    other = wait_for_cluster([stranger])
    terminate([stranger])
    replaced, *rest = followers(masters)
    rest.append(wait_for_leader(masters))
    replaced.kill()
    folder = scratch.folder / str(masters.index(replaced) + 1)
    shutil.rmtree(folder)
    shutil.move(scratch.folder / "s", folder)
    replaced.start()
    check_says_stranger(replaced, other, cluster)
    for master in rest:
        check_says_stranger(master, cluster, other)
    assert check_cluster(rest, 3) == cluster
    assert replaced.runs
    assert ids([replaced]) == {other}


def test_a_copy_of_a_members_disk(scratch: Scratch, masters: list[Daemon]) -> None:
    cluster = wait_for_cluster(masters)
    original = followers(masters)[0]
    number, node = masters.index(original) + 1, original.believes()["node"]
    terminate([original])
    shutil.copytree(scratch.folder / str(number), scratch.folder / "copy")
    original.start()
    wait_for_cluster(masters)
    copies = []
    for port in (9340, 9341):
        shutil.copytree(scratch.folder / "copy", scratch.folder / f"copy{port}")
        copies.append(scratch.start(f"weedtw master -port={port} -mdir=./copy{port} -peers={PEERS}"))
    for copy in copies:
        said = copy.wait_to_say("is a copy of that of the master at")
        assert f"localhost:{original.port}" in said
        assert node in said
        assert copy.believes()["role"] == "JOINING"
    assert check_cluster(masters) == cluster
    assert original.believes()["node"] == node


def test_the_original_comes_back_after_its_copy(scratch: Scratch, masters: list[Daemon]) -> None:
    """The copy runs as the member by then, and knows what the original does not: the original takes no part."""
    cluster = wait_for_cluster(masters)
    original = followers(masters)[0]
    rest = [master for master in masters if master is not original]
    terminate([original])
    shutil.copytree(scratch.folder / str(masters.index(original) + 1), scratch.folder / "copy")
    copy = scratch.start("weedtw master -port=9340 -mdir=./copy")
    assert wait_for_cluster([*rest, copy]) == cluster
    original.start()
    scratch.may_fail = True  # it stops with noise
    said = original.wait_to_say("takes no part in decisions any more: .* is a copy of that of the master at")
    assert f"localhost:{copy.port}" in said
    assert "Stop one of the two" in said
    assert check_cluster([*rest, copy]) == cluster
    copy.kill()
    assert check_cluster(rest, 3) == cluster
    assert original.believes()["failed"]


def test_a_removed_master_comes_back(scratch: Scratch, masters: list[Daemon]) -> None:
    cluster = wait_for_cluster(masters)
    removed = followers(masters)[0]
    rest = [master for master in masters if master is not removed]
    removed.kill()
    answer = rest[0].ask(f"/cluster/remove?node=localhost:{removed.port}", method="POST")
    assert answer is not None
    assert answer.status == 200
    wait_for_cluster(rest)
    removed.start()
    scratch.may_fail = True  # it may stop with noise
    said = removed.wait_to_say("the cluster has removed this master; to let it join anew, stop it, move .* away")
    assert re.search(r"raft\.sqlite3 away, and start it with --peers=localhost:\d+", said)
    assert check_cluster(rest) == cluster
    folder = scratch.folder / str(masters.index(removed) + 1)
    removed.kill()
    for path in folder.glob("raft.sqlite3*"):  # as it was told to
        path.rename(path.with_name(f"old {path.name}"))
    removed.start()
    assert check_cluster(masters) == cluster


# ------------------------------------------------------------------ two that begin by themselves


def test_two_clusters_that_are_told_of_each_other(scratch: Scratch) -> None:
    scratch.start("weedtw volume -port=8080 -dir=./v1 -mserver=localhost:9333 -pulseSeconds=1")
    scratch.start("weedtw volume -port=8081 -dir=./v2 -mserver=localhost:9334 -pulseSeconds=1")
    masters = [scratch.start(f"weedtw master -port={9332 + n} -mdir=./{n}") for n in (1, 2)]
    clusters = [wait_for_cluster([master]) for master in masters]
    assert len(set(clusters)) == 2
    for number, master in enumerate(masters, 1):
        master.restart(
            scratch.line(f"weedtw master -port={9332 + number} -mdir=./{number} -peers=localhost:9333,localhost:9334")
        )
    for master, own, other in zip(masters, clusters, reversed(clusters), strict=True):
        check_says_stranger(master, own, other)
    assert [check_cluster([master]) for master in masters] == clusters
    masters[1].kill()
    for path in (scratch.folder / "2").glob("raft.sqlite3*"):  # as they say
        path.rename(path.with_name(f"old {path.name}"))
    masters[1].start()
    assert wait_for_cluster(masters) == clusters[0]
