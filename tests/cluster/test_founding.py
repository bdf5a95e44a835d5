"""Masters without any state become one cluster, whatever their `--peers` say of each other, or wait and say why."""

import pytest

from tests.cluster.masters import Daemon, Scratch, assign, check_cluster, ids, kill, put, wait_for_cluster
from tests.cluster.processes import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def volume(scratch: Scratch) -> Daemon:
    """A volume server, so that there is something to assign."""
    return scratch.start("weedtw volume -port=8080 -dir=./v -mserver=localhost:9333 -pulseSeconds=1")


def start(scratch: Scratch, number: int, peers: str) -> Daemon:
    """Start master number 1, 2 …; peers are given by their numbers, and `none` is none."""
    named = ",".join(f"localhost:{9332 + int(peer)}" for peer in peers) if peers != "none" else peers
    return scratch.start(f"weedtw master -port={9332 + number} -mdir=./{number} -peers={named}")


@pytest.mark.parametrize(
    "peers",
    [
        pytest.param(["12", "12"], id="two"),
        pytest.param(["1234", "1234", "1234", "1234"], id="four"),
        pytest.param(["12", "123", "123"], id="one knows less"),
        pytest.param(["123", "12", "13"], id="one knows all"),
    ],
)
def test_at_once(scratch: Scratch, volume: Daemon, peers: list[str]) -> None:
    check_cluster([start(scratch, number, named) for number, named in enumerate(peers, 1)])


def test_in_another_order_and_spelling(scratch: Scratch, volume: Daemon) -> None:
    spellings = ("localhost:9333,127.0.0.1:9334", "LOCALHOST:9334,127.0.0.1:9333", "localhost:9334,Localhost:9333")
    check_cluster(
        [
            scratch.start(f"weedtw master -port={port} -mdir=./{port} -peers={peers},localhost:9335")
            for port, peers in zip((9333, 9334, 9335), spellings, strict=True)
        ]
    )


def test_half_of_an_even_number_waits(scratch: Scratch, volume: Daemon) -> None:
    masters = [start(scratch, number, "1234") for number in (1, 2)]
    for master in masters:
        master.wait_to_say("2 of the 4 masters .* are here, 3 are needed to found a cluster")
    assert ids(masters) == {""}
    masters.append(start(scratch, 3, "1234"))
    cluster = wait_for_cluster(masters)
    masters.append(start(scratch, 4, "1234"))
    assert check_cluster(masters) == cluster


def test_who_is_late_waits_for_those_who_founded(scratch: Scratch, volume: Daemon) -> None:
    founders = [start(scratch, number, "123") for number in (1, 2)]
    cluster = wait_for_cluster(founders)
    fid = put(assign(founders), b"first")
    kill(founders)
    late = start(scratch, 3, "123")
    late.wait_to_say("1 of the 3 masters .* are here")
    founders[0].start()
    late.wait_to_say(f"cluster {cluster} has not taken it in: .*majority")
    assert ids([late]) == {""}
    founders[1].start()
    assert check_cluster([*founders, late]) == cluster
    assert assign([late])["fid"] != fid


def test_no_two_know_the_same(scratch: Scratch, volume: Daemon) -> None:
    masters = [start(scratch, 1, "12"), start(scratch, 2, "23"), start(scratch, 3, "31")]
    for master in masters:
        master.wait_to_say("no agreement on a new cluster: .*its --peers are .*; give all the same --peers")
    assert ids(masters) == {""}
    masters[2].kill()
    masters[2].start(masters[2].line + f",localhost:{scratch.port(9334)}")  # now it knows all
    check_cluster(masters)


def test_each_names_only_the_other(scratch: Scratch, volume: Daemon) -> None:
    masters = [start(scratch, 1, "2"), start(scratch, 2, "1")]
    for master in masters:
        master.wait_to_say(
            rf"name all first masters, this one \(localhost:{master.port}\) included, in --peers of each"
        )
    assert ids(masters) == {""}
    masters[0].kill()
    masters[0].start(masters[0].line + f",localhost:{scratch.port(9333)}")
    check_cluster(masters)


def test_peers_of_which_some_are_gone(scratch: Scratch, volume: Daemon) -> None:
    first = start(scratch, 1, "none")
    cluster = wait_for_cluster([first])
    assert check_cluster([first, start(scratch, 2, "984213"), start(scratch, 3, "798")][:2]) == cluster


def test_killed_while_founding(scratch: Scratch, volume: Daemon) -> None:
    """Whatever each had promised is kept: those who come back make no second cluster."""
    masters = [start(scratch, number, "123") for number in (1, 2, 3)]
    promises = [scratch.folder / str(number) / "founding.json" for number in (1, 2, 3)]
    for turn in range(3):
        wait_until(
            lambda turn=turn: any(path.exists() for path in promises[turn:]) or any(ids(masters)),  # type: ignore[misc]
            "somebody has promised something",
        )
        kill(masters)
        for master in masters:
            master.start()
    check_cluster(masters)


def test_killed_while_joining(scratch: Scratch, volume: Daemon) -> None:
    """A newcomer that died half way leaves nobody behind, whatever it had got to."""
    first = start(scratch, 1, "none")
    cluster = wait_for_cluster([first])
    second = start(scratch, 2, "1")
    for _ in range(3):
        wait_until(lambda: f":{second.port}" in str(first.believes().get("members")), "the newcomer is admitted")
        second.restart()
    assert check_cluster([first, second]) == cluster


def test_a_newcomer_that_is_told_of_two_clusters(scratch: Scratch, volume: Daemon) -> None:
    first, second = start(scratch, 1, "none"), start(scratch, 2, "none")
    clusters = [wait_for_cluster([master]) for master in (first, second)]
    newcomer = start(scratch, 3, "12")
    said = newcomer.wait_to_say("the masters of --peers belong to different clusters")
    assert f"localhost:{first.port} to {clusters[0]}" in said
    assert f"localhost:{second.port} to {clusters[1]}" in said
    assert ids([newcomer]) == {""}
    second.kill()
    assert check_cluster([first, newcomer]) == clusters[0]
