"""Asking every master what it believes, through any one of them."""

from typing import Any

import pytest
import pytest_twisted

from weedtw.client import Agreement, Client
from weedtw.client.beliefs import ANSWER_WITHIN, Belief, parse_belief
from weedtw.errors import PeerError, Unavailable

NOWHERE = "127.0.0.1:1"  # nothing can listen there without being root


def told(node: str, address: str, others: dict[str, str], **more: Any) -> dict[str, Any]:
    """An answer of `/cluster/members`; `others` are the addresses by node."""
    members = [
        {"node": n, "address": a, "voter": True, "connected": True, "lastContact": 0.5, "match": 4}
        for n, a in others.items()
    ]
    common = {"cluster": "c-1", "version": "weedtw 1", "role": "FOLLOWER", "term": 3, "lastIndex": 4, "commit": 4}
    return {**common, "node": node, "address": address, "members": members, **more}


def script(cluster: Any, stub: Any, answer: Any) -> None:
    """Let a stub answer `/cluster/members` so."""
    serve = stub.script
    stub.script = lambda seen: cluster.answer.json(answer) if seen.path == "/cluster/members" else serve(seen)


class Three:
    """Three masters of which each knows all; the first leads."""

    def __init__(self, cluster: Any) -> None:
        self.stubs = [cluster.master, cluster.another_master(), cluster.another_master()]
        self.addresses = {f"node-{n}": stub.address for n, stub in enumerate(self.stubs, 1)}
        leads = {"leader": "node-1", "leaderAddress": self.stubs[0].address}
        for (node, address), stub in zip(self.addresses.items(), self.stubs, strict=True):
            role = {"role": "LEADER", "hasLease": True} if node == "node-1" else {}
            script(cluster, stub, told(node, address, self.addresses, **leads, **role))


def by_node(found: Agreement) -> dict[str, Belief]:
    return {one.node: one for one in found.beliefs}


@pytest_twisted.ensureDeferred
async def test_all_are_found_through_any(cluster: Any) -> None:
    three = Three(cluster)
    for stub in three.stubs:
        found = await cluster.client(stub.address).agreement()
        assert sorted(by_node(found)) == ["node-1", "node-2", "node-3"]
        assert found.leader is not None
        assert found.leader.node == "node-1"
        assert found.remarks() == ()
        assert [one.last_contact for one in found.leader.members] == [0.5] * 3


@pytest_twisted.ensureDeferred
async def test_each_is_asked_once_and_shown_once(cluster: Any) -> None:
    three = Three(cluster)
    port = three.stubs[0].address.partition(":")[2]
    found = await cluster.client(f"localhost:{port}", *three.addresses.values()).agreement()
    assert [one.asked for one in found.beliefs] == sorted(three.addresses.values())
    assert len(three.stubs[1].asked("GET", "/cluster/members")) == 1


@pytest_twisted.ensureDeferred
async def test_those_that_do_not_answer(cluster: Any) -> None:
    three = Three(cluster)
    await three.stubs[1].stop()
    three.stubs[2].script = lambda seen: cluster.silence
    found = await cluster.client(three.stubs[0].address, NOWHERE).agreement()
    errors = {one.asked: (one.node, one.error) for one in found.beliefs if one.error}
    assert errors == {
        NOWHERE: ("", "refuses connections; is it running there?"),
        three.stubs[1].address: ("node-2", "refuses connections; is it running there?"),
        three.stubs[2].address: ("node-3", f"no answer within {ANSWER_WITHIN:g} s"),
    }


@pytest_twisted.ensureDeferred
async def test_a_member_that_has_moved_is_not_missed_where_it_was(cluster: Any) -> None:
    three = Three(cluster)
    stale = told("node-3", three.addresses["node-3"], {**three.addresses, "node-2": NOWHERE})
    script(cluster, three.stubs[2], stale)
    found = await cluster.client(three.stubs[0].address).agreement()
    assert len(found.beliefs) == 3
    assert any("goes by another membership" in line for line in found.remarks())
    named = await cluster.client(three.stubs[0].address, NOWHERE).agreement()
    assert len(named.beliefs) == 4


@pytest_twisted.ensureDeferred
async def test_others_that_found_a_cluster_are_asked(cluster: Any) -> None:
    second = cluster.another_master()
    waiting = {"role": "JOINING", "cluster": "", "reason": "it waits", "founding": {"list": [second.address]}}
    script(cluster, cluster.master, told("node-1", cluster.master.address, {}, **waiting))
    script(cluster, second, told("node-2", second.address, {}, **waiting))
    found = await cluster.client().agreement()
    assert sorted(by_node(found)) == ["node-1", "node-2"]


@pytest_twisted.ensureDeferred
async def test_another_kind_of_server(cluster: Any) -> None:
    found = await cluster.client().agreement()
    assert [one.error for one in found.beliefs] == ["does not answer as a master of weedtw does"]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"node": 1},
        {"term": "x"},
        {"members": [{"address": "nowhere"}]},
        {"members": [1]},
        {"founding": [1]},
    ],
)
def test_answers_that_make_no_sense(answer: object) -> None:
    with pytest.raises(PeerError, match="does not answer as a master of weedtw does"):
        parse_belief("a:1", answer)


@pytest_twisted.ensureDeferred
async def test_until_it_is_so(cluster: Any) -> None:
    three = Three(cluster)
    seen: list[Agreement] = []

    def holds(found: Agreement) -> bool:
        seen.append(found)
        return len(seen) == 3

    client: Client = cluster.client(three.stubs[0].address)
    await client.agreement(until=holds, patience=60.0)
    assert len(seen) == 3
    await client.agreement(until=lambda found: False, patience=0.0)


@pytest_twisted.ensureDeferred
async def test_a_change_is_asked_for_once(cluster: Any) -> None:
    asked: list[Any] = []

    def serve(seen: Any) -> Any:
        asked.append((seen.method, seen.path, seen.query))
        return answers.pop(0)

    answers = [cluster.answer.json({}), cluster.no(503, "not now"), cluster.no(400, "never"), cluster.hang_up]
    cluster.master.script = serve
    client: Client = cluster.client()
    await client.change_masters(cluster.master.address, "remove", {"node": "node-2"})
    for kind, saying in ((Unavailable, "not now"), (PeerError, "never"), (PeerError, "instead of answering")):
        with pytest.raises(kind, match=saying):
            await client.change_masters(cluster.master.address, "remove", {"node": "node-2"})
    assert asked == [("POST", "/cluster/remove", {"node": "node-2"})] * 4
