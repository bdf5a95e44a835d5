"""Masters on hosts of their own: who calls itself by which address, and who can be reached by it."""

from collections.abc import Iterator

import pytest

from tests.cluster.hosts import Host, Network, NoNamespaces
from tests.cluster.masters import Scratch, assign, check_cluster, get, ids, kill, put, wait_for_cluster
from tests.cluster.processes import LIMIT

pytestmark = pytest.mark.process


@pytest.fixture
def network(scratch: Scratch) -> Iterator[Network]:
    """A network with three hosts; the test asks from a fourth."""
    network = Network(scratch)
    try:
        try:
            network.begin()
            for number in (1, 2, 3):
                network.host(number)
        except NoNamespaces as error:
            pytest.skip(f"no network namespaces here: {error}")
        with network.switch.inside():
            yield network
    finally:
        kill(daemon for daemon in scratch.daemons if daemon.runs)
        network.end()


@pytest.fixture
def hosts(network: Network) -> list[Host]:
    return [network.host(number) for number in (1, 2, 3)]


def test_the_recipe_to_the_letter(hosts: list[Host]) -> None:
    """On one host, with the ports that are in the documentation and the defaults of those that are not."""
    host = hosts[0]
    with host.inside():
        masters = [
            host.start("weedtw master -port=9333 -mdir=./1"),
            host.start("weedtw master -port=9334 -mdir=./2 -peers=localhost:9333"),
            host.start("weedtw master -port=9335 -mdir=./3 -peers=localhost:9334"),
        ]
        host.start("weedtw volume -dir=./1 -port=8080")
        host.start("weedtw volume -dir=./2 -port=8081 -mserver=localhost:9334")
        host.start("weedtw volume -dir=./3 -port=8082 -mserver=localhost:9335")
        cluster = check_cluster(masters)
        fid = put(assign(masters, replication="002"), b"three times")
        for master, line in zip(masters, ("9333 -mdir=./1", "9334 -mdir=./2", "9335 -mdir=./3"), strict=True):
            master.restart(f"weedtw master -port={line}")
        assert check_cluster(masters) == cluster
        assert get(masters[0], fid) == b"three times"


@pytest.mark.parametrize("typed", ["by all", "by those that join"])
def test_addresses_are_found_out(hosts: list[Host], typed: str) -> None:
    """Without --ip a master goes by the address that leads to the first of the others."""
    if typed == "by all":
        peers = ["10.77.0.1:9333,10.77.0.2:9333,10.77.0.3:9333"] * 3
    else:
        peers = ["none -ip=10.77.0.1", "10.77.0.1:9333", "10.77.0.2:9333"]
    masters = [
        host.start(f"weedtw master -mdir=./{number} -peers={named}")
        for number, (host, named) in enumerate(zip(hosts, peers, strict=True), 1)
    ]
    hosts[0].start("weedtw volume -dir=./v -mserver=10.77.0.2:9333 -pulseSeconds=1")
    check_cluster(masters)
    addresses = ["10.77.0.1:9333", "10.77.0.2:9333", "10.77.0.3:9333"]
    assert [member["address"] for member in masters[0].believes()["members"]] == addresses
    for number, master in enumerate(masters, 1):  # the disk says who the others are
        master.restart(f"weedtw master -mdir=./{number}")
    check_cluster(masters)
    assert [member["address"] for member in masters[0].believes()["members"]] == addresses


def test_localhost_cannot_join_a_cluster_of_hosts(hosts: list[Host]) -> None:
    first = hosts[0].start("weedtw master -mdir=./1 -ip=10.77.0.1 -ip.bind=0.0.0.0")
    cluster = wait_for_cluster([first])
    hosts[0].start("weedtw volume -dir=./v -mserver=10.77.0.1:9333 -pulseSeconds=1")
    second = hosts[0].start("weedtw master -port=9334 -mdir=./2 -peers=localhost:9333")
    said = second.wait_to_say(f"cluster {cluster} has not taken it in")
    assert "this master calls itself localhost:9334" in said
    assert "the cluster has 10.77.0.1:9333" in said
    assert "--ip" in said
    assert ids([second]) == {""}
    second.restart("weedtw master -port=9334 -mdir=./2 -peers=10.77.0.1:9333")
    assert check_cluster([first, second]) == cluster


@pytest.mark.parametrize("options", ["-ip=localhost -peers=10.77.0.1:9333", "-peers=localhost:9333,10.77.0.2:9333"])
def test_localhost_beside_other_hosts_is_refused_at_once(hosts: list[Host], options: str) -> None:
    master = hosts[0].start(f"weedtw master -mdir=./1 {options}")
    assert master.process.wait(LIMIT) == 2
    assert "cannot be reached by masters on other hosts" in master.said
    assert not (master.folder / "1").exists()


def test_nobody_joins_a_cluster_of_localhost(hosts: list[Host]) -> None:
    """The original's trap; it ends when the first master is started with an address, and keeps its state."""
    first = hosts[0].start("weedtw master -mdir=./1 -ip.bind=0.0.0.0")
    cluster = wait_for_cluster([first])
    hosts[0].start("weedtw volume -dir=./v -mserver=10.77.0.1:9333 -pulseSeconds=1")
    second = hosts[1].start("weedtw master -mdir=./2 -peers=10.77.0.1:9333")
    said = second.wait_to_say(f"cluster {cluster} has not taken it in")
    assert "the cluster has a master that calls itself localhost:9333, which 10.77.0.2:9333 cannot reach" in said
    assert "--ip" in said
    first.restart("weedtw master -mdir=./1 -ip=10.77.0.1")
    assert check_cluster([first, second]) == cluster


def test_a_host_gets_another_address(network: Network, hosts: list[Host]) -> None:
    peers = "10.77.0.1:9333,10.77.0.2:9333,10.77.0.3:9333"
    masters = [host.start(f"weedtw master -mdir=./{n} -peers={peers}") for n, host in enumerate(hosts, 1)]
    hosts[0].start(f"weedtw volume -dir=./v -mserver={peers} -pulseSeconds=1")
    cluster = wait_for_cluster(masters)
    node = masters[2].believes()["node"]
    masters[2].kill()
    moved = network.host(4).start(f"weedtw master -mdir=./3 -peers={peers}")
    assert check_cluster([*masters[:2], moved]) == cluster
    assert moved.believes()["node"] == node
    assert "10.77.0.4:9333" in [member["address"] for member in masters[0].believes()["members"]]
