"""Volume servers find their masters: from any one of them, before there are any, and after all of them have moved."""

import json
from collections.abc import Sequence

import pytest

from tests.cluster.masters import Daemon, Scratch, assign, get, kill, put, wait_for_cluster
from tests.cluster.processes import HOST, wait_until
from weedtw.volume.membership import FILE_NAME

pytestmark = pytest.mark.process

PEERS = "localhost:9333,localhost:9334,localhost:9335"


def has(master: Daemon, server: Daemon) -> bool:
    """Whether a master has a volume server in its topology."""
    answer = master.ask("/dir/status")
    return answer is not None and answer.status == 200 and f":{server.port}" in json.dumps(answer.json()["Topology"])


def check_all_have_all(masters: Sequence[Daemon], servers: Sequence[Daemon]) -> None:
    """Before long, every master has every volume server."""
    wait_until(
        lambda: all(has(master, server) for master in masters for server in servers),
        "all masters hear of all volume servers",
    )


def start_masters(scratch: Scratch) -> list[Daemon]:
    return [scratch.start(f"weedtw master -port={port} -mdir=./{port} -peers={PEERS}") for port in (9333, 9334, 9335)]


def test_any_one_master_is_enough_and_may_come_later(scratch: Scratch) -> None:
    """Each is told of another one; all are there before any master is."""
    servers = [
        scratch.start(f"weedtw volume -port={8080 + n} -dir=./v{n} -mserver=localhost:{9333 + n} -pulseSeconds=1")
        for n in range(3)
    ]
    for server in servers:
        server.wait_to_say("master localhost:.* cannot be reached; trying again")
    masters = start_masters(scratch)
    wait_for_cluster(masters)
    check_all_have_all(masters, servers)
    fid = put(assign(masters, replication="002"), b"on all three")
    assert [get(master, fid) for master in masters] == [b"on all three"] * 3


def test_a_server_waits_with_a_master_that_waits_for_the_others(scratch: Scratch) -> None:
    first = scratch.start(f"weedtw master -port=9333 -mdir=./9333 -peers={PEERS}")
    server = scratch.start("weedtw volume -port=8080 -dir=./v -mserver=localhost:9333 -pulseSeconds=1")
    server.wait_to_say("no reports to master localhost:.*: this master belongs to no cluster yet; asking again")
    masters = [
        first,
        *(scratch.start(f"weedtw master -port={port} -mdir=./{port} -peers={PEERS}") for port in (9334, 9335)),
    ]
    wait_for_cluster(masters)
    check_all_have_all(masters, [server])
    assert get(first, put(assign([first]), b"kept")) == b"kept"


def test_all_masters_come_back_at_other_addresses(scratch: Scratch) -> None:
    """One volume server lives through it; another one is down meanwhile, and comes back with what it remembers."""
    masters = start_masters(scratch)
    servers = [
        scratch.start(f"weedtw volume -port={8080 + n} -dir=./v{n} -mserver=localhost:9333 -pulseSeconds=1")
        for n in range(2)
    ]
    cluster = wait_for_cluster(masters)
    check_all_have_all(masters, servers)
    fid = put(assign(masters, replication="001"), b"before")
    before = {master.address for master in masters}
    remembered = scratch.folder / "v1" / FILE_NAME
    wait_until(lambda: len(json.loads(remembered.read_text())["masters"]) == 3, "it has them on disk")
    servers[1].kill()
    kill(masters)
    moved = ",".join(f"localhost:{scratch.port(port)}" for port in (9336, 9337, 9338))
    for typed, master in zip((9336, 9337, 9338), masters, strict=True):
        folder = master.line.partition("-mdir=")[2].split()[0]
        master.start(f"weedtw master -port={scratch.port(typed)} -mdir={folder} -peers={moved}")
    assert wait_for_cluster(masters) == cluster
    assert not before & {master.address for master in masters}
    check_all_have_all(masters, servers[:1])
    servers[1].start()
    check_all_have_all(masters, servers)
    assert get(masters[0], fid) == b"before"
    assert put(assign(masters, replication="001"), b"after") != fid
    addresses = {f"{master.address}".replace(HOST, "localhost") for master in masters}
    wait_until(lambda: set(json.loads(remembered.read_text())["masters"]) == addresses, "they are remembered")
