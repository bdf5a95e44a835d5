"""`weedtw cluster` for masters that run: what is printed, and what the leader is asked, by scripted masters."""

import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from tests.client.conftest import Answer, Seen, Stub
from weedtw.cli import asking, main
from weedtw.cli.cluster_change import add_master, remove_master, rename_master, transfer_lead
from weedtw.cli.cluster_status import show_agreement, show_status
from weedtw.cli.report import Report
from weedtw.client import Agreement, Belief, Client, KnownMember
from weedtw.errors import BadRequest, PeerError, Unavailable

MEMBERS = tuple(
    KnownMember(f"{name * 8}-uuid", f"{name}:9333", voter, connected, contact, 12)
    for name, voter, connected, contact in (
        ("a", True, True, None),
        ("b", True, True, 0.04),
        ("c", True, False, None),
        ("d", False, True, 12.34),
    )
)


def belief(name: str, role: str = "FOLLOWER", **more: Any) -> Belief:
    fields: dict[str, Any] = {
        "node": f"{name * 8}-uuid",
        "address": f"{name}:9333",
        "cluster": "cluster-1",
        "version": "weedtw 1.0",
        "role": role,
        "term": 7,
        "leader": "aaaaaaaa-uuid",
        "leader_address": "a:9333",
        "commit": 11,
        "last_index": 12,
        "members": MEMBERS,
    }
    return Belief(f"{name}:9333", **{**fields, **more})


FOUND = Agreement(
    (
        belief("a", "LEADER", has_lease=True),
        belief("b", "PRE_CANDIDATE", leader="", leader_address=""),
        Belief("c:9333", error="refuses connections; is it running there?", node="cccccccc-uuid"),
        belief("d"),
        Belief(
            "e:9333", node="eeeeeeee-uuid", address="e:9333", version="weedtw 1.0", role="JOINING", reason="alone"
        ),
        belief("f", "CANDIDATE", term=6),
        Belief("g:9333", error="does not answer as a master of weedtw does"),
    )
)


def shown(found: Agreement, *, long: bool = False, as_json: bool = False) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        show_agreement(found, Report("weedtw cluster status", as_json, bars=False), long=long)
    return out.getvalue()


class TableTests(SynchronousTestCase):
    def test_the_whole_table(self) -> None:
        self.assertEqual(
            shown(FOUND).splitlines(),
            [
                "Masters of cluster cluster-1",
                "NODE      ADDRESS  ROLE             TERM  LEADER  LAST CONTACT    LOG  VERSION",
                "aaaaaaaa  a:9333   leader              7  a:9333                11/12  weedtw 1.0",
                "bbbbbbbb  b:9333   pre-candidate       7  none       0.0 s ago  11/12  weedtw 1.0",
                "cccccccc  c:9333   does not answer                       never",
                "dddddddd  d:9333   learner             7  a:9333    12.3 s ago  11/12  weedtw 1.0",
                "eeeeeeee  e:9333   joining             0  none                    0/0  weedtw 1.0",
                "ffffffff  f:9333   no member           6  a:9333                11/12  weedtw 1.0",
                "?         g:9333   does not answer",
                "",
                "a:9333 leads in term 7; 2 of 3 voters are here, none of them may fail",
                "c:9333: refuses connections; is it running there?",
                "g:9333: does not answer as a master of weedtw does",
                "e:9333 is not in a cluster yet: alone",
                "f:9333 (ffffffff) is no member of the cluster; stop it, and move its raft.sqlite3 away before it is "
                "started again",
                "they differ about who leads: a:9333 (a:9333, d:9333); nobody (b:9333)",
            ],
        )

    def test_node_ids_in_full(self) -> None:
        self.assertIn("\ncccccccc-uuid  c:9333   does not answer", shown(FOUND, long=True))

    def test_one_that_has_stopped(self) -> None:
        found = Agreement((belief("a", "LEADER", has_lease=True), belief("b", failed="no space left")))
        self.assertIn("\nbbbbbbbb  b:9333   stopped ", shown(found))

    def test_nobody_belongs_to_a_cluster(self) -> None:
        self.assertEqual(shown(Agreement((Belief("a:1", error="no answer within 2 s"),))).splitlines()[0], "Masters")

    def test_json_holds_everything(self) -> None:
        found = json.loads(shown(FOUND, as_json=True))
        self.assertEqual((found["cluster"], found["leader"]), ("cluster-1", "a:9333"))
        self.assertEqual(found["masters"][0]["members"][3]["last_contact"], 12.34)
        self.assertEqual(found["masters"][2]["error"], "refuses connections; is it running there?")
        self.assertEqual(found["remarks"], list(FOUND.remarks()))
        self.assertEqual(found["summary"], FOUND.summary())


class WordsTests(SynchronousTestCase):
    def weedtw(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main.main(["cluster", *words])
        return status, out.getvalue(), err.getvalue()

    def test_help(self) -> None:
        status, out, err = self.weedtw()
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(self.weedtw("--help"), (status, out, err))
        for name in ("status", "add", "remove", "transfer", "rename", "show", "recover"):
            self.assertIn(f"\n  {name} ", out)
            self.assertTrue(self.weedtw(name, "-h")[1].startswith(f"Usage: weedtw cluster {name} "))
            helped = io.StringIO()
            with redirect_stdout(helped):
                main.main(["help", "cluster", name])
            self.assertEqual(helped.getvalue(), self.weedtw(name, "--help")[1])
        self.assertNotIn("...", out.partition("Commands:")[2])  # nothing that had to be cut

    def test_misuse(self) -> None:
        for words, saying in (
            (("stauts",), "weedtw cluster: No such command 'stauts'."),
            (("remove",), "weedtw cluster remove: Missing argument 'NODE|ADDRESS'."),
            (("add", "a:1", "b:1"), "weedtw cluster add: Got unexpected extra argument (b:1)"),
            (("recover",), "weedtw cluster recover: --mdir has to be given."),
            (("status", "--lnog"), "weedtw cluster status: --lnog: unknown option; did you mean --long?"),
        ):
            status, out, err = self.weedtw(*words)
            self.assertEqual((status, out, err.count("\n")), (2, "", 1), words)
            self.assertTrue(err.startswith(saying), err)


class QuestionTests(SynchronousTestCase):
    def test_answers(self) -> None:
        for typed, meant in (("y\n", True), ("n\n", False), ("\n", False), ("", False), ("perhaps\ny\n", True)):
            self.patch(sys, "stdin", io.StringIO(typed))
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                self.assertIs(asking.confirmed("Really?"), meant)
            self.assertEqual(out.getvalue(), "")
            self.assertIn("Really? [y/N]: ", err.getvalue())


# ------------------------------------------------------------------ with masters that do as they are told


@attrs.define
class Masters:
    """Scripted masters of one cluster: `a` leads and does what is asked of it."""

    stubs: dict[str, Stub] = attrs.Factory(dict)
    voters: set[str] = attrs.Factory(set)
    leader: str = "a"
    waiting: dict[str, str] = attrs.Factory(dict)  # address: the newcomer that waits there
    asked: list[tuple[str, dict[str, str]]] = attrs.Factory(list)  # of the leader
    clients: list[Client] = attrs.Factory(list)
    printed: Callable[[], str] = str
    refusal: Answer | None = None
    renamed: dict[str, str] = attrs.Factory(dict)

    def start(self, names: str) -> None:
        for name in names:
            self.stubs[name] = Stub(lambda seen, name=name: self.serve(name, seen))  # type: ignore[misc]
        self.voters |= set(names)

    def address(self, name: str) -> str:
        return self.renamed.get(name, self.stubs[name].address)

    def node(self, name: str) -> str:
        return f"{name * 8}-uuid"

    def serve(self, name: str, seen: Seen) -> Answer:
        if seen.method == "POST":
            self.asked.append((seen.path, seen.query))
            if self.refusal is not None:
                return self.refusal
            self.change(seen.path.rpartition("/")[2], seen.query)
        return Answer.json(self.told(name))

    def change(self, what: str, query: dict[str, str]) -> None:
        names = {self.node(name): name for name in self.stubs}
        if what == "remove":
            self.voters.discard(names[query["node"]])
            if self.leader not in self.voters:
                self.leader = min(self.voters)
        elif what == "transfer":
            self.leader = names[query["to"]] if "to" in query else max(self.voters)
        elif what == "rename":
            self.renamed[names[query["node"]]] = query["address"]
        elif what == "add" and query["address"] in self.waiting:
            self.voters.add(self.waiting[query["address"]])

    def told(self, name: str) -> dict[str, Any]:
        common = {"node": self.node(name), "address": self.stubs[name].address, "version": "weedtw 1", "term": 1}
        if name not in self.voters:
            return {**common, "role": "JOINING", "reason": "it waits"}
        members = [
            {"node": self.node(one), "address": self.address(one), "voter": True, "connected": True, "match": 1}
            for one in sorted(self.voters)
        ]
        for member, one in zip(members, sorted(self.voters), strict=True):
            member["connected"] = bool(self.stubs[one]._port)
        leads = {"leader": self.node(self.leader), "leaderAddress": self.address(self.leader)} if self.leader else {}
        role = {"role": "LEADER", "hasLease": True} if name == self.leader else {"role": "FOLLOWER"}
        return {**common, "cluster": "c-1", "members": members, **leads, **role}

    def client(self, name: str = "b") -> Client:
        client = Client([self.stubs[name].address], reactor)
        self.clients.append(client)
        return client


@pytest_twisted.async_yield_fixture
async def masters(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Masters]:
    built = Masters(printed=lambda: capsys.readouterr().out)
    built.start("abc")
    yield built
    for client in built.clients:
        await client.close()
    for stub in built.stubs.values():
        await stub.stop()


@pytest.fixture
def report() -> Report:
    return Report("weedtw cluster", bars=False)


@pytest_twisted.ensureDeferred
async def test_status(masters: Masters, report: Report) -> None:
    await show_status(masters.client(), report)
    assert report.failures == 0
    assert "3 of 3 voters are here" in masters.printed()


@pytest_twisted.ensureDeferred
async def test_status_without_a_leader(masters: Masters, report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    masters.leader = ""
    await show_status(masters.client(), report)
    assert report.failures == 1
    assert "nobody leads" in masters.printed()


@pytest_twisted.ensureDeferred
async def test_remove(masters: Masters, report: Report) -> None:
    await remove_master(masters.client(), report, masters.stubs["c"].address, may=refuse)
    assert masters.asked == [("/cluster/remove", {"node": masters.node("c")})]
    assert len(masters.stubs["a"].asked("POST")) == 1
    assert "2 of 2 voters are here" in masters.printed()
    assert report.failures == 0


@pytest_twisted.ensureDeferred
async def test_remove_the_leader_that_was_named(masters: Masters, report: Report) -> None:
    await remove_master(masters.client("a"), report, "aaaa", may=refuse)
    assert "b leads" in masters.printed().replace(masters.stubs["b"].address, "b")


def refuse(danger: str) -> bool:
    raise AssertionError(danger)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("may", [True, False])
async def test_remove_at_the_cost_of_the_majority(may: bool, masters: Masters, report: Report) -> None:
    await masters.stubs["c"].stop()
    dangers: list[str] = []

    def confirm(danger: str) -> bool:
        dangers.append(danger)
        return may

    await remove_master(masters.client(), report, "bbbb", may=confirm)
    assert len(dangers) == 1
    assert masters.stubs["c"].address in dangers[0]
    assert len(masters.asked) == int(may)
    assert report.failures == int(not may)


@pytest_twisted.ensureDeferred
async def test_remove_a_dead_one(masters: Masters, report: Report) -> None:
    await masters.stubs["c"].stop()
    await remove_master(masters.client(), report, "cccc", may=refuse)
    printed = masters.printed()
    assert masters.stubs["c"].address not in printed
    assert "2 of 2 voters are here" in printed


@pytest_twisted.ensureDeferred
async def test_transfer(masters: Masters, report: Report) -> None:
    await transfer_lead(masters.client(), report, masters.stubs["b"].address)
    await transfer_lead(masters.client(), report, "")
    assert masters.asked == [("/cluster/transfer", {"to": masters.node("b")}), ("/cluster/transfer", {})]
    assert masters.leader == "c"


@pytest_twisted.ensureDeferred
async def test_rename(masters: Masters, report: Report) -> None:
    await rename_master(masters.client(), report, "cccc", "127.0.0.1:1")
    assert masters.asked == [("/cluster/rename", {"node": masters.node("c"), "address": "127.0.0.1:1"})]


@pytest_twisted.ensureDeferred
async def test_add(masters: Masters, report: Report) -> None:
    masters.stubs["d"] = Stub(lambda seen: masters.serve("d", seen))
    masters.waiting[masters.stubs["d"].address] = "d"
    await add_master(masters.client(), report, masters.stubs["d"].address)
    assert masters.asked == [("/cluster/add", {"address": masters.stubs["d"].address})]
    assert "4 of 4 voters are here" in masters.printed()
    assert report.failures == 0


@pytest_twisted.ensureDeferred
async def test_add_one_that_does_not_come(
    masters: Masters, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    masters.stubs["d"] = Stub(lambda seen: masters.serve("d", seen))
    await add_master(masters.client(), report, masters.stubs["d"].address, patience=0.0)
    assert report.failures == 1
    assert "was asked to join, and has no vote yet: it waits; weedtw cluster status" in capsys.readouterr().err


@pytest_twisted.ensureDeferred
async def test_what_the_leader_refuses(masters: Masters, report: Report) -> None:
    for status, kind in ((400, PeerError), (503, Unavailable)):
        masters.refusal = Answer.json({"error": "it cannot be"}, status)
        with pytest.raises(kind, match="it cannot be"):
            await transfer_lead(masters.client(), report, "bbbb")
    with pytest.raises(BadRequest, match="there are aaaaaaaa-uuid at"):
        await remove_master(masters.client(), report, "zzzz", may=refuse)


@pytest_twisted.ensureDeferred
async def test_nobody_to_ask(masters: Masters, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weedtw.cli.cluster_change.LEADER_WITHIN", 0.0)
    masters.leader = ""
    with pytest.raises(Unavailable, match="nobody leads; 3 of 3 voters are here"):
        await transfer_lead(masters.client(), report, "")


@pytest_twisted.ensureDeferred
async def test_a_leader_that_only_the_followers_reach(
    masters: Masters, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weedtw.cli.cluster_change.LEADER_WITHIN", 0.0)
    await masters.stubs["a"].stop()
    await rename_master(masters.client(), report, "cccc", "127.0.0.1:1")
    assert sum(len(masters.stubs[name].asked("POST")) for name in "bc") == 1  # whichever has the lower address
