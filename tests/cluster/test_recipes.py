"""The recipes of SeaweedFS's documentation, as typed: only the program's name is changed, and ports are free ones."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.masters import (
    Daemon,
    Scratch,
    assign,
    check_cluster,
    get,
    kill,
    leaders,
    put,
    terminate,
    wait_for_cluster,
    wait_for_leader,
)

pytestmark = pytest.mark.process

THREE_SERVERS = """
weedtw server -master.port=9333 -dir=./1 -volume.port=8080 -master.peers=localhost:9333,localhost:9334,localhost:9335
weedtw server -master.port=9334 -dir=./2 -volume.port=8081 -master.peers=localhost:9333,localhost:9334,localhost:9335
weedtw server -master.port=9335 -dir=./3 -volume.port=8082 -master.peers=localhost:9333,localhost:9334,localhost:9335
"""
ONE_BY_ONE = """
weedtw server -master.port=9333 -dir=./1 -volume.port=8080
weedtw server -master.port=9334 -dir=./2 -volume.port=8081 -master.peers=localhost:9333
weedtw server -master.port=9335 -dir=./3 -volume.port=8082 -master.peers=localhost:9334
"""
MASTERS = """
weedtw master -port=9333 -mdir=./1
weedtw master -port=9334 -mdir=./2 -peers=localhost:9333
weedtw master -port=9335 -mdir=./3 -peers=localhost:9334
"""
VOLUMES = """
weedtw volume -dir=./1 -port=8080
weedtw volume -dir=./2 -port=8081 -mserver=localhost:9334
weedtw volume -dir=./3 -port=8082 -mserver=localhost:9335
"""
SINCE_4 = """
weedtw -config_dir=./c master -ip=127.0.0.1 -port={port} -port.grpc=1{port} -mdir=./{port} -peers={peers}
-electionTimeout=3s -heartbeatInterval=300ms -volumeSizeLimitMB=32 -defaultReplication=000
"""

by_both = pytest.mark.parametrize("program", ["weedtw", "twist"])


def lines(recipe: str, program: str = "weedtw") -> list[str]:
    """The commands of a recipe, as they are typed for one of the two programs."""
    if program == "twist":
        recipe = re.sub(r" -([\w.]+)=", r" --\1 ", recipe.replace("weedtw ", "twist weed-"))
    return recipe.strip().splitlines()


# ------------------------------------------------------------------ three servers


@by_both
def test_three_servers_at_once(scratch: Scratch, program: str) -> None:
    check_cluster([scratch.start(line) for line in lines(THREE_SERVERS, program)])


def test_three_servers_one_after_the_other_in_another_order(scratch: Scratch) -> None:
    order = (2, 0, 1)
    typed = lines(THREE_SERVERS)
    first = scratch.start(typed[order[0]])
    first.wait_to_say("1 of the 3 masters .* are here, 2 are needed")
    second = scratch.start(typed[order[1]])
    cluster = check_cluster([first, second], 2)
    third = scratch.start(typed[order[2]])
    assert check_cluster([first, second, third]) == cluster


@by_both
def test_one_by_one(scratch: Scratch, program: str) -> None:
    servers: list[Daemon] = []
    clusters = set()
    for line in lines(ONE_BY_ONE, program):
        servers.append(scratch.start(line))
        clusters.add(wait_for_cluster(servers))
        assert leaders(servers) == servers[:1], "a newcomer changes nothing about who leads"
    clusters.add(check_cluster(servers))
    assert len(clusters) == 1


# ------------------------------------------------------------------ masters and volume servers apart


@pytest.mark.parametrize(("program", "end"), [("weedtw", terminate), ("twist", kill)])
def test_masters_and_volume_servers_apart_and_masters_restarted_without_peers(
    scratch: Scratch, program: str, end: Callable[[list[Daemon]], None]
) -> None:
    masters = [scratch.start(line) for line in lines(MASTERS, program)]
    first, *others = lines(VOLUMES, program)
    option = " --mserver " if program == "twist" else " -mserver="
    volumes = [scratch.start(f"{first}{option}localhost:9333"), *map(scratch.start, others)]  # what is the default
    cluster = check_cluster(masters)
    old = put(assign(masters), b"old")

    end(masters)
    for master, line in reversed(list(zip(masters, lines(MASTERS, program), strict=True))):
        master.start(scratch.line(re.sub(r" --?peers.*", "", line)))
    assert check_cluster(masters) == cluster
    assert {get(master, old) for master in masters} == {b"old"}
    assert all(volume.runs for volume in volumes)


def test_a_restart_by_the_whole_machine_keeps_the_cluster(scratch: Scratch) -> None:
    servers = [scratch.start(line) for line in lines(THREE_SERVERS)]
    cluster = check_cluster(servers)
    fid = put(assign(servers, replication="002"), b"kept")
    kill(servers)
    for server, line in zip(servers, lines(ONE_BY_ONE), strict=True):  # other peers than on disk: they do not count
        server.start(scratch.line(line))
    assert check_cluster(servers) == cluster
    assert {get(server, fid) for server in servers} == {b"kept"}


# ------------------------------------------------------------------ as SeaweedFS 4 starts them


@pytest.fixture(autouse=True)
def config_dir(tmp_path: Path) -> None:
    """A folder for -config_dir: SeaweedFS's, with nothing for weedtw in it."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "security.toml").touch()


def since_4(number: int, peers: str) -> str:
    """A master's command line."""
    return SINCE_4.strip().replace("\n", " ").format(port=9332 + number, peers=peers)


@pytest.mark.parametrize("grpc", ["", ".1{port}"], ids=["one port each", "gRPC ports too"])
def test_masters_as_seaweedfs_4_starts_them(scratch: Scratch, grpc: str) -> None:
    peers = ",".join(f"127.0.0.1:{port}{grpc.format(port=port)}" for port in (9333, 9334, 9335))
    masters = [scratch.start(since_4(number, peers)) for number in (1, 2, 3)]
    cluster = wait_for_cluster(masters)
    scratch.start("weedtw volume -ip=127.0.0.1 -port=8080 -dir=./v -mserver=" + peers)
    assert check_cluster(masters) == cluster
    answer = masters[0].ask("/cluster/status")
    assert answer is not None
    assert set(answer.json()) >= {"Leader", "Peers"}


@pytest.mark.parametrize("first_peers", ["none", "127.0.0.1:9333"])
def test_a_master_of_one_admits_those_who_name_it_and_stays_leader(scratch: Scratch, first_peers: str) -> None:
    first = scratch.start(since_4(1, first_peers))
    cluster = wait_for_cluster([first])
    scratch.start("weedtw volume -ip=127.0.0.1 -port=8080 -dir=./v -mserver=127.0.0.1:9333")
    fid = put(assign([first]), b"from before")
    term = first.believes()["term"]
    peers = "127.0.0.1:9333,127.0.0.1:9334,127.0.0.1:9335"
    masters = [first, *(scratch.start(since_4(number, peers)) for number in (2, 3))]
    assert wait_for_cluster(masters) == cluster
    assert wait_for_leader(masters) is first
    assert first.believes()["term"] == term, "it has led all the time"
    assert check_cluster(masters) == cluster
    assert {get(master, fid) for master in masters} == {b"from before"}
