"""Who leads goes on leading, and what a cluster knew it knows after a restart."""

import itertools
import random

import pytest

from tests.cluster.clients import Clients, ask, check_order, check_unique, rounds, seed
from tests.cluster.masters import (
    Daemon,
    Scratch,
    assign,
    ids,
    leaders,
    terminate,
    wait_for_cluster,
    wait_for_leader,
)
from tests.cluster.processes import HOST, wait_until
from tests.cluster.test_ids import PEERS, three_masters

pytestmark = pytest.mark.process


def highest_volume(masters: list[Daemon]) -> int:
    """The highest volume id that the leader knows to be used."""
    return int(wait_for_leader(masters).ask("/cluster/status").json()["MaxVolumeId"])  # type: ignore[union-attr]


def test_followers_that_restart_or_freeze_change_no_leader(scratch: Scratch) -> None:
    chance = random.Random(seed())
    masters = three_masters(scratch)
    leader = wait_for_leader(masters)
    term = leader.believes()["term"]
    for _ in range(rounds(3, 30)):
        follower = chance.choice([master for master in masters if master is not leader])
        match chance.choice(["kill", "terminate", "freeze"]):
            case "kill":
                follower.restart()
            case "terminate":
                follower.terminate()
                follower.start()
            case _:
                follower.freeze()
                heard = leader.believes()["commit"]
                # Longer than an election timeout: the leader notices that it does not answer.
                wait_until(
                    lambda follower=follower: any(  # type: ignore[misc]
                        (member["lastContact"] or 0) > 1.5 for member in leader.believes()["members"]
                    ),
                    "the follower is missed",
                )
                assert leader.believes()["commit"] >= heard
                follower.thaw()
        wait_for_cluster(masters)
        believes = leader.believes()
        assert (believes["hasLease"], believes["term"]) == (True, term)


def test_a_rolling_restart_under_load_fails_nobody_who_asks_twice(scratch: Scratch) -> None:
    seed()
    masters = three_masters(scratch, volumes=2)
    with Clients(masters, 4, scratch.folder / "history.jsonl", ({}, {"count": 100})) as clients:
        for _ in range(rounds(1, 10)):
            for master in masters:
                clients.wait_for_more()
                master.terminate()
                clients.wait_for_more()
                master.start()
                wait_for_cluster(masters)
    check_unique(clients.calls)
    check_order(clients.calls)
    for number in range(clients.count):
        calls = sorted((call for call in clients.calls if call.client == number), key=lambda call: call.begin)
        for first, second in itertools.pairwise(calls):  # the second one goes to the next master
            assert 200 in {first.status, second.status}, (first, second)


def test_volume_ids_go_on_above_those_of_a_server_that_is_away(scratch: Scratch) -> None:
    masters = three_masters(scratch, volumes=1)
    far = scratch.start(
        f"weedtw volume -ip={HOST} -port=8085 -dir=./far -max=60 -mserver={PEERS} -pulseSeconds=1 -rack=far"
    )
    wait_until(
        lambda: ask(masters[0].address, {"count": 3, "rack": "far"}, path="/vol/grow").status == 200,
        "the far one grows",
    )
    highest = highest_volume(masters)
    far.kill()
    everybody = [daemon for daemon in scratch.daemons if daemon is not far]
    cluster = ids(masters)
    for daemon in everybody:
        daemon.kill()
    for daemon in everybody:
        daemon.start()
    wait_for_cluster(masters)
    assert ids(masters) == cluster
    wait_until(lambda: ask(masters[1].address, {"count": 2}, path="/vol/grow").status == 200, "volumes are made")

    def made() -> list[int]:
        status = masters[2].ask("/vol/status")
        assert status is not None
        places = status.json()["Volumes"]["DataCenters"].values()
        servers = [volumes for racks in places for servers in racks.values() for volumes in servers.values()]
        return [volume["Id"] for volumes in servers for volume in volumes]

    wait_until(
        lambda: sum(number > highest for number in made()) >= 2,
        f"two new volumes above {highest} are told everywhere",
    )
    missing = masters[0].ask(f"/dir/lookup?volumeId={highest}")
    assert missing is not None
    assert missing.status == 503, "a volume of a server that is away is expected back"
    assert "Retry-After" in missing.headers


def test_nobody_hears_of_a_missing_volume_while_the_lead_changes(scratch: Scratch) -> None:
    seed()
    masters = three_masters(scratch, volumes=2)
    fid = str(assign(masters, replication="001")["fid"])
    volume = fid.partition(",")[0]
    statuses: set[int] = set()
    for _ in range(rounds(2, 20)):
        leader = wait_for_leader(masters)
        others = [master for master in masters if master is not leader]
        leader.kill()
        rounds_led = 0
        while rounds_led < 20:  # from before another leads until a good while after
            rounds_led += bool(rounds_led or leaders(others))
            statuses |= {ask(master.address, {"volumeId": volume}, path="/dir/lookup").status for master in others}
        leader.start()
        while True:
            call = ask(leader.address, {"volumeId": volume}, path="/dir/lookup")
            statuses.add(call.status)
            if call.status == 200:
                break
        wait_for_cluster(masters)
    assert 200 in statuses
    assert statuses <= {0, 200, 503}, statuses
    terminate(scratch.daemons)
