"""Finding a master that answers: leaders that change, fall silent, or are not there yet."""

from typing import TYPE_CHECKING

import pytest
from pytest_twisted import ensureDeferred

from weedtw.errors import BadRequest, PeerError, Unavailable, VolumeNotFound

if TYPE_CHECKING:
    from tests.client.conftest import Cluster

NOWHERE = "127.0.0.1:1"  # a port on which nothing can listen without being root


@ensureDeferred
async def test_an_assignment_names_ids_that_follow_each_other(cluster: "Cluster") -> None:
    assignment = await cluster.client().assign(3)
    assert [str(fid) for fid in assignment.ids()] == ["2,01deadbeef", "2,02deadbeef", "2,03deadbeef"]
    assert assignment.url == cluster.volumes[1].address


@ensureDeferred
async def test_the_leader_is_asked_although_only_a_follower_was_named(cluster: "Cluster") -> None:
    follower = cluster.another_master()
    follower.leader = cluster.master.address
    await cluster.client(follower.address).assign()
    assert follower.asked("GET", "/dir") == []
    assert len(cluster.master.asked("GET", "/dir/assign")) == 1


@ensureDeferred
async def test_a_dead_master_in_the_list_does_no_harm(cluster: "Cluster") -> None:
    await cluster.client(NOWHERE, cluster.master.address).assign()
    assert len(cluster.master.asked("GET", "/dir/assign")) == 1


@ensureDeferred
async def test_a_master_learned_from_another_takes_over_when_that_one_dies(cluster: "Cluster") -> None:
    heir = cluster.another_master()
    cluster.master.peers = [heir.address]
    heir.leader = cluster.master.address
    client = cluster.client()
    await client.assign()
    await cluster.master.stop()
    heir.leader = None
    await client.assign()
    assert len(heir.asked("GET", "/dir/assign")) == 1


@ensureDeferred
async def test_a_leader_that_falls_silent_is_left_for_another(cluster: "Cluster") -> None:
    heir = cluster.another_master()
    cluster.master.peers = [heir.address]
    client = cluster.client()
    await client.assign()
    cluster.master.script = lambda _: cluster.silence
    await client.assign()
    await client.assign()
    assert len(heir.asked("GET", "/dir/assign")) == 2


@ensureDeferred
async def test_while_there_is_no_leader_the_client_waits_for_one(cluster: "Cluster") -> None:
    cluster.master.refusals = [cluster.no(503, "no leader", **{"Retry-After": "0"}) for _ in range(3)]
    await cluster.client().assign()
    assert len(cluster.master.asked("GET", "/dir/assign")) == 4


@ensureDeferred
async def test_when_no_leader_comes_the_error_says_what_each_master_said(cluster: "Cluster") -> None:
    other = cluster.another_master()
    for master in (cluster.master, other):
        master.leader = ""
        master.refusals = [cluster.no(503, "no leader", **{"Retry-After": "0"}) for _ in range(50)]
    with pytest.raises(Unavailable) as raised:
        await cluster.client(cluster.master.address, other.address, patience=0.3).assign()
    said = str(raised.value)
    assert said.startswith("none of 2 masters can serve this now: ")
    assert f"{cluster.master.address}: no leader" in said
    assert f"{other.address}: no leader" in said


@ensureDeferred
async def test_masters_that_never_answered_are_not_waited_for_long(cluster: "Cluster") -> None:
    with pytest.raises(Unavailable, match="refuses connections"):
        await cluster.client(NOWHERE, patience=3600.0).assign()


@ensureDeferred
async def test_a_refusal_is_not_put_to_every_master(cluster: "Cluster") -> None:
    other = cluster.another_master()
    cluster.master.peers = [other.address]
    cluster.master.refusals = [cluster.no(406, "no room for 3 copies")]
    with pytest.raises(PeerError, match="no room for 3 copies") as raised:
        await cluster.client(patience=60.0).assign()
    assert raised.value.status == 406
    assert other.asked("GET", "/dir") == []


@ensureDeferred
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"not json",
        b'{"fid": "nonsense", "url": "a:1", "count": 1}',
        b'{"fid": "1,01deadbeef", "url": "no address", "count": 1}',
        b'{"fid": "1,01deadbeef", "url": "a:1", "count": 0}',
        b'{"fid": "1,01deadbeef", "url": "a:1", "count": "many"}',
        b'{"fid": "1,01deadbeef", "url": "a:1/../admin?x=", "count": 1}',
    ],
)
async def test_an_answer_that_makes_no_sense_is_an_error_that_names_who_gave_it(
    cluster: "Cluster", answer: bytes
) -> None:
    cluster.master.refusals = [cluster.answer(200, answer)]
    with pytest.raises(PeerError) as raised:
        await cluster.client().assign()
    assert raised.value.address == cluster.master.address


@ensureDeferred
async def test_a_status_that_makes_no_sense_is_passed_over(cluster: "Cluster") -> None:
    other = cluster.another_master()
    other.leader = "not an address"
    other.peers = ["neither is this", "[::1]:9333.19333"]
    other.refusals = []
    states = await cluster.client(other.address, patience=0.5)._masters.states()
    assert [(state.address, bool(state.error)) for state in states] == [(other.address, False), ("[::1]:9333", True)]


@ensureDeferred
async def test_lookups_are_remembered_and_forgotten(cluster: "Cluster") -> None:
    client = cluster.client()
    (location,) = await client.lookup(1)
    assert location.url == cluster.volumes[0].address
    await client.lookup(1)
    assert len(cluster.master.asked("GET", "/dir/lookup")) == 1
    with pytest.raises(VolumeNotFound, match="volume 99 not found"):
        await client.lookup(99)


@pytest.mark.parametrize(
    "address", ["", "localhost", "http://localhost:9333", "localhost:0", "localhost:99999", "a b:1"]
)
def test_an_address_that_is_none_is_refused_at_once(cluster: "Cluster", address: str) -> None:
    with pytest.raises(BadRequest, match="not an address"):
        cluster.client(address)
