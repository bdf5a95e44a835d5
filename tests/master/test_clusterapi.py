"""The endpoints about the masters themselves, over real connections."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol

from tests.master.stage import Stage, reactor, until
from tests.raft.wires import Script

NOWHERE = "127.0.0.1:1"


@pytest_twisted.async_yield_fixture
async def newcomer(tmp_path: Path) -> AsyncIterator[Stage]:
    """A master that looks for a cluster where nobody is."""
    made = Stage(tmp_path / "newcomer")
    made.folder.mkdir()
    made.start(peers=(NOWHERE,), named=(NOWHERE,))
    yield made
    await made.close()


async def error(stage: Stage, method: str, path: str, status: int, body: bytes | None = None) -> str:
    """The words of a refusal, which must have that status."""
    answer = await stage.ask(method, path, body)
    assert answer.status == status, (path, answer.status, answer.body)
    return answer.error


# ------------------------------------------------------------------ a master alone


@ensureDeferred
async def test_what_a_master_believes(stage: Stage) -> None:
    told = await stage.get("/cluster/members")
    ledger = stage.master.ledger
    assert (told["cluster"], told["node"]) == (ledger.cluster_id, ledger.node_id)
    assert (told["role"], told["hasLease"], told["reason"], told["founding"]) == ("LEADER", True, "", None)
    assert [row["address"] for row in told["members"]] == [stage.master.address]
    assert (await stage.ask("HEAD", "/cluster/members")).status == 200
    assert (await stage.ask("POST", "/cluster/members", b"")).status == 405


@ensureDeferred
async def test_what_cannot_be_is_a_400(stage: Stage) -> None:
    own = stage.master.address
    for path, words in (
        ("join", "node is missing"),
        ("join?node=n", "address is missing"),
        ("join?node=n&address=nonsense", "nonsense"),
        ("join?node=n&address=10.0.0.1:9333", "--ip"),
        (f"join?node=n&address={own}", "is connected"),
        ("add", "address is missing"),
        ("add?address=nonsense", "nonsense"),
        (f"add?address={NOWHERE}", f"no master at {NOWHERE} can be asked to join"),
        (f"add?address={own}", "belongs to cluster"),
        ("remove", "node is missing"),
        ("remove?node=nobody", f"there are {stage.master.ledger.node_id} at {own}"),
        (f"remove?node={own}", "last voter"),
        (f"rename?node={own}", "address is missing"),
        ("transfer", "no other voter"),
        ("transfer?to=nobody", "is not the id or the address of a master"),
        ("invite?masters=a:1", "belongs to cluster"),
    ):
        said = await error(stage, "POST", f"/cluster/{path}", 400)
        assert words in said, (path, said)
    for path in ("join", "add", "remove", "rename", "transfer", "invite", "found"):
        assert (await stage.ask("GET", f"/cluster/{path}")).status == 405, path
    assert (await stage.get("/cluster/members"))["members"][0]["address"] == own


@ensureDeferred
async def test_a_member_founds_nothing_more(stage: Stage) -> None:
    step = {"step": "promise", "masters": ["a:1", "b:1"], "ballot": [1, "n"]}
    said = await error(stage, "POST", "/cluster/found", 503, json.dumps(step).encode())
    assert stage.master.ledger.cluster_id in said


@ensureDeferred
async def test_the_white_list_guards_what_changes_something(stage: Stage) -> None:
    await stage.stop()
    stage.start(white_list=("10.0.0.0/8",))
    await stage.lead()
    for path in ("join", "add", "remove", "rename", "transfer", "invite", "found"):
        assert "127.0.0.1" in await error(stage, "POST", f"/cluster/{path}", 403), path
    for path in ("members", "status", "healthz"):
        assert (await stage.ask("GET", f"/cluster/{path}")).status == 200, path


@ensureDeferred
async def test_another_address_is_written_down_unless_the_master_itself_says_otherwise(stage: Stage) -> None:
    own = stage.master.address
    other = f"localhost:{own.rpartition(':')[2]}"
    answer = await stage.ask("POST", f"/cluster/rename?node={own}&address={other}")
    assert answer.status == 200, answer.body
    node = stage.master.ledger.node
    assert node is not None
    await until(lambda: [member.address for member in node.core.log.membership.members.values()] == [own])


# ------------------------------------------------------------------ a master that belongs to no cluster


@ensureDeferred
async def test_it_answers_and_says_what_it_waits_for(newcomer: Stage) -> None:
    told = await newcomer.get("/cluster/members")
    assert (told["role"], told["cluster"], told["members"]) == ("JOINING", "", [])
    await until(lambda: NOWHERE in newcomer.master.entrance.reason)  # type: ignore[union-attr]
    assert NOWHERE in (await newcomer.get("/cluster/members"))["reason"]
    assert await newcomer.get("/cluster/status") == {"IsLeader": False, "Leader": ""}
    for path in ("/healthz", "/cluster/healthz", "/", "/dir/status"):
        assert (await newcomer.ask("GET", path)).status == 200, path
    asked = [
        *(("GET", path) for path in ("/dir/assign", "/dir/lookup?volumeId=3", "/3,01637037d6", "/vol/grow?count=1")),
        *(("POST", f"/cluster/{path}") for path in ("remove?node=n", "join?node=n&address=127.0.0.1:9", "transfer")),
        *(("GET", "/readyz"), ("POST", "/cluster/forget?server=a:1")),
    ]
    # Each of them waits for a leader for a while: all do at once.
    answers = await gatherResults([Deferred.fromCoroutine(newcomer.ask(method, path)) for method, path in asked])
    for (method, path), answer in zip(asked, answers, strict=True):
        assert (answer.status, answer.headers["retry-after"]) == (503, "1"), (path, answer.body)
        assert method == "POST" or "not in a cluster yet" in answer.error, path


@ensureDeferred
async def test_steps_of_founding_that_make_no_sense(newcomer: Stage) -> None:
    good = {"step": "promise", "masters": [NOWHERE, newcomer.master.address], "ballot": [1, "n"], "birth": None}
    for wrong in (
        b"",
        b"{",
        b"[]",
        b"7",
        b'"\xff"',
        *(
            json.dumps(good | change).encode()
            for change in (
                {"step": "dance"},
                {"masters": None},
                {"masters": ["a b"]},
                {"masters": ["a:1"] * 200},
                {"ballot": [1]},
                {"ballot": [-1, "n"]},
                {"ballot": [True, "n"]},
                {"step": "accept"},
                {"step": "born", "birth": {}},
                {"step": "accept", "birth": {"cluster": "x", "members": {}}},
            )
        ),
    ):
        assert await error(newcomer, "POST", "/cluster/found", 400, wrong), wrong
    assert (await newcomer.get("/cluster/members"))["cluster"] == ""


@ensureDeferred
async def test_other_masters_are_told_to_come_later(newcomer: Stage) -> None:
    host, _, port = newcomer.master.address.rpartition(":")
    caller = Script()
    await connectProtocol(HostnameEndpoint(reactor, host, int(port)), caller)
    assert caller.transport is not None
    caller.transport.write(b'RAFT/1 {"cluster":"c","node":"n","address":"a:1"}\r\n')
    await until(lambda: caller.ended)
    assert caller.got.startswith(b"refused ")
    assert b"belongs to no cluster yet" in caller.got


@ensureDeferred
async def test_it_is_invited_joins_and_is_removed(stage: Stage, newcomer: Stage) -> None:
    address = newcomer.master.address
    assert (await stage.ask("POST", f"/cluster/add?address={address}")).status == 200
    await until(lambda: newcomer.master.ledger.cluster_id == stage.master.ledger.cluster_id)
    await until(lambda: len(stage.master.ledger.node.core.log.membership.voters) == 2)  # type: ignore[union-attr]
    await until(lambda: newcomer.master.ledger.leader_address == stage.master.address)
    assert (await newcomer.get("/cluster/status"))["Peers"] == [stage.master.address]
    assert (await newcomer.get("/dir/status"))["TopologyId"] == stage.master.ledger.cluster_id
    answer = await newcomer.ask("POST", f"/cluster/remove?node={address}")  # passed on to the leader
    assert answer.status == 200, answer.body
    assert [row["address"] for row in answer.json["members"]] == [stage.master.address]
    assert (await stage.ask("GET", "/readyz")).status == 200


# ------------------------------------------------------------------ the admin lock


@ensureDeferred
async def test_one_at_a_time_has_the_lock(stage: Stage) -> None:
    token = json.loads((await stage.ask("POST", "/cluster/lock?holder=me", b"")).body)["token"]
    assert (await stage.get("/cluster/lock"))["holder"] == "me"
    assert "held by me" in await error(stage, "POST", "/cluster/lock?holder=you", 423, b"")
    assert "held by me" in await error(stage, "POST", "/cluster/unlock?token=x", 423, b"")
    assert "held by me" in await error(stage, "POST", "/cluster/maintain?task=balance&apply=true", 423, b"")
    again = await stage.ask("POST", f"/cluster/lock?holder=me&token={token}", b"")
    assert json.loads(again.body)["token"] == token
    assert (await stage.ask("POST", f"/cluster/unlock?token={token}", b"")).status == 200
    assert await stage.get("/cluster/lock") == {"holder": "", "seconds": 0.0}
    assert (await stage.ask("POST", "/cluster/lock?holder=you", b"")).status == 200


@ensureDeferred
async def test_maintenance_on_demand(stage: Stage) -> None:
    assert "none of fix.replication" in await error(stage, "POST", "/cluster/maintain?task=x", 400, b"")
    assert "task is missing" in await error(stage, "POST", "/cluster/maintain", 400, b"")
    for task in ("fix.replication", "balance", "vacuum"):
        for apply in ("false", "true"):
            answer = await stage.ask("POST", f"/cluster/maintain?task={task}&apply={apply}", b"")
            done = ["vacuum"] if (task, apply) == ("vacuum", "true") else []
            assert json.loads(answer.body) == {"steps": [], "done": done, "problems": []}, answer.body
    assert (await stage.get("/cluster/lock"))["holder"] == "", "it was let go"
