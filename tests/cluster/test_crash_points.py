"""A master that dies at any write to its memory: what it told anybody holds, and it comes back."""

import random
from collections import Counter

import pytest

from tests.cluster.clients import Clients, ask, check_order, check_unique, rounds, seed
from tests.cluster.crashing import DIED
from tests.cluster.masters import Daemon, Scratch, wait_for_cluster
from tests.cluster.processes import HOST, LIMIT, wait_until

pytestmark = pytest.mark.process

LARGE = ({"count": 60_000}, {"count": 60_000, "collection": "other"}, {"count": 1})  # so that ranges are used up


def check_volumes(master: Daemon) -> None:
    """Every volume id stands for one volume: no server is quarantined for its claim, none holds one twice."""
    status = master.ask("/dir/status")
    assert status is not None
    assert "Quarantined" not in status.json(), status.json()["Quarantined"]
    layouts = status.json()["Topology"]["Layouts"] or []
    listed = Counter(volume for layout in layouts for volume in layout["writables"] or ())
    assert not [volume for volume, times in listed.items() if times > 1]


def grow(master: Daemon) -> None:
    """Make a volume, if the master lives to do it."""
    master.ask("/vol/grow?count=1&collection=grown", timeout=20)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_single_master(scratch: Scratch, when: str) -> None:
    number = seed()
    chance = random.Random(number)
    line = f"master -ip={HOST} -port=9333 -mdir=./m"
    master = scratch.start(f"weedtw {line}")
    scratch.start(f"weedtw volume -ip={HOST} -port=8080 -dir=./v -max=200 -mserver={HOST}:9333 -pulseSeconds=1")
    with Clients([master], 3, scratch.folder / "history.jsonl", LARGE) as clients:
        clients.wait_for_more(3)
        for point in chance.sample(range(1, 25), rounds(4, 24)):
            master.kill()
            master.start(scratch.line(f"crashing {point} {when} {line}"))
            while master.process.poll() is None:
                grow(master)
            assert master.process.wait(LIMIT) == DIED
            master.start(scratch.line(f"weedtw {line}"))
            clients.wait_for_more(3)
    check_unique(clients.calls)
    check_order(clients.calls)
    check_volumes(master)


def test_three_masters(scratch: Scratch) -> None:
    chance = random.Random(seed())
    lines = [
        f"master -ip={HOST} -port={port} -mdir=./{port} -peers={HOST}:9333,{HOST}:9334,{HOST}:9335"
        for port in (9333, 9334, 9335)
    ]
    masters = [scratch.start(f"weedtw {line}") for line in lines]
    scratch.start(f"weedtw volume -ip={HOST} -port=8080 -dir=./v -max=200 -mserver={HOST}:9333 -pulseSeconds=1")
    wait_for_cluster(masters)
    with Clients(masters, 3, scratch.folder / "history.jsonl", LARGE) as clients:
        clients.wait_for_more(3)
        for _ in range(rounds(3, 50)):
            which = chance.randrange(3)
            point, when = chance.randrange(1, 15), chance.choice(["before", "after"])
            masters[which].kill()
            masters[which].start(scratch.line(f"crashing {point} {when} {lines[which]}"))
            wait_until(lambda which=which: _is_dead_after_growth(masters, which), "it dies")  # type: ignore[misc]
            masters[which].start(scratch.line(f"weedtw {lines[which]}"))
            wait_for_cluster(masters)
            clients.wait_for_more(3)
    check_unique(clients.calls)
    check_order(clients.calls)
    for master in masters:
        check_volumes(master)
        assert ask(master.address, {}).status == 200


def _is_dead_after_growth(masters: list[Daemon], which: int) -> bool:
    """Give everybody something to write; whether that one has died of it."""
    grow(masters[which - 1])
    return masters[which].process.poll() == DIED
