"""Masters come, go and are replaced, while clients go on."""

import json
import shutil

import pytest

from tests.cluster.clients import Clients, check_order, check_unique, rounds, seed
from tests.cluster.masters import Daemon, Scratch, assign, get, put, wait_for_cluster, wait_for_leader
from tests.cluster.processes import HOST, wait_until

pytestmark = pytest.mark.process


def remove(asked: Daemon, gone: Daemon) -> None:
    """End a membership; it may have to be asked again when the lead changes meanwhile."""

    def is_removed() -> bool:
        answer = asked.ask(f"/cluster/remove?node={gone.address}", method="POST")
        members = asked.believes().get("members", [])
        assert answer is None or answer.status in {200, 400, 503}, answer
        return bool(members) and gone.address not in {member["address"] for member in members}

    wait_until(is_removed, f"{gone.address} is removed")


def test_from_one_to_three_to_five_to_three(scratch: Scratch) -> None:
    seed()
    first = scratch.start(f"weedtw master -ip={HOST} -port=9333 -mdir=./9333")
    scratch.start(f"weedtw volume -ip={HOST} -port=8080 -dir=./v -max=60 -mserver={HOST}:9333 -pulseSeconds=1")
    masters = [first]
    with Clients(masters, 4, scratch.folder / "history.jsonl", ({}, {"count": 100})) as clients:
        cluster = wait_for_cluster(masters)
        clients.wait_for_more()
        for port, via in ((9334, 9333), (9335, 9334), (9336, 9333), (9337, 9335)):
            newcomer = scratch.start(f"weedtw master -ip={HOST} -port={port} -mdir=./{port} -peers={HOST}:{via}")
            assert wait_for_cluster([*masters, newcomer]) == cluster
            assert wait_for_leader(masters) is first, "newcomers change no leader"
            masters.append(newcomer)
            clients.wait_for_more()

        for _ in range(rounds(1, 5)):
            for is_leader in (True, False):
                leader = wait_for_leader(masters)
                gone = leader if is_leader else next(master for master in masters if master is not leader)
                left = [master for master in masters if master is not gone]
                remove(left[0], gone)
                assert wait_for_cluster(left) == cluster
                gone.terminate()
                masters.remove(gone)
                clients.wait_for_more()

            dead = next(master for master in masters if master is not wait_for_leader(masters))
            before = dead.believes()["node"]
            dead.kill()
            shutil.rmtree(scratch.folder / dead.line.partition("-mdir=./")[2].split()[0])
            known = next(master for master in masters if master is not dead)
            dead.start(f"{dead.line.partition(' -peers')[0]} -peers={known.address}")
            assert wait_for_cluster(masters, size=3) == cluster
            assert dead.believes()["node"] != before, "a wiped disk is a new node"
            clients.wait_for_more()

            while len(masters) < 5 and rounds(1, 5) > 1:
                used = {each.port for each in masters}
                port = next(p for p in range(9333, 9343) if scratch.port(p) not in used)
                shutil.rmtree(scratch.folder / f"{scratch.port(port)}", ignore_errors=True)
                masters.append(
                    scratch.start(f"weedtw master -ip={HOST} -port={port} -mdir=./{port} -peers={masters[0].address}")
                )
                wait_for_cluster(masters)
    check_unique(clients.calls)
    check_order(clients.calls)


def test_the_volume_servers_follow_masters_that_they_were_never_told_of(scratch: Scratch) -> None:
    first = scratch.start(f"weedtw master -ip={HOST} -port=9333 -mdir=./9333")
    volume = scratch.start(f"weedtw volume -ip={HOST} -port=8080 -dir=./v -mserver={HOST}:9333 -pulseSeconds=1")
    newcomers = [
        scratch.start(f"weedtw master -ip={HOST} -port={port} -mdir=./{port} -peers={HOST}:9333")
        for port in (9334, 9335)
    ]
    masters = [first, *newcomers]
    wait_for_cluster(masters)
    others = masters[1:]

    def knows(master: Daemon) -> bool:
        status = master.ask("/dir/status")
        return status is not None and volume.address in json.dumps(status.json())

    wait_until(lambda: all(map(knows, others)), "the newcomers hear of the volume server")
    remove(others[0], first)
    first.terminate()
    wait_for_cluster(others)
    volume.restart()  # it remembers the masters; the one of its command line is gone
    wait_until(lambda: all(map(knows, others)), "it finds the masters that are left")
    members = {member["address"] for member in others[0].believes()["members"]}
    assert members == {other.address for other in others}
    assert get(others[0], put(assign(others), b"kept")) == b"kept"
