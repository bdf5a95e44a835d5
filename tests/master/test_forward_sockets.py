"""Passing on over real connections: answers as they are, leaders that break off, and nothing done twice."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from tests.master.follower import Api, Cluster
from weedtw.http.agent import PeerAgent, PeerResponse, make_agent
from weedtw.http.channel import Site, make_site
from weedtw.http.hops import Hops
from weedtw.master.forward import Forwarder
from weedtw.raft.dial import plain_connector

reactor: Any = installed_reactor
BIG = bytes(range(251)) * 12_000  # 3 MB


@attrs.define(eq=False)
class Master:
    """The endpoints of a master on a port of their own."""

    cluster: Cluster
    hops: Hops
    api: Api
    site: Site
    port: Any

    @classmethod
    def start(cls) -> "Master":
        cluster, hops = Cluster(reactor), Hops(plain_connector(reactor), reactor)
        api = Api(cluster, Forwarder(cluster, hops))  # type: ignore[arg-type]
        site = make_site(api.app.resource(), reactor=reactor, body_limit=1 << 24)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        cluster.address = f"127.0.0.1:{port.getHost().port}"
        return cls(cluster, hops, api, site, port)

    async def stop(self) -> None:
        """Once is enough."""
        port, self.port = self.port, None
        if port is not None:
            await port.stopListening()
            await self.site.drain(0.01)
            await self.api.forwarder.close()


@attrs.define(eq=False)
class Masters:
    """Two of them: the follower is asked, the other one leads."""

    follower: Master
    leader: Master
    agent: PeerAgent

    async def ask(self, method: str, target: str, **more: Any) -> PeerResponse:
        return await self.agent.request(method, self.follower.cluster.address, target, timeout=60.0, **more)


@contextlib.asynccontextmanager
async def masters() -> AsyncIterator[Masters]:
    made = Masters(Master.start(), Master.start(), make_agent(reactor))
    made.leader.cluster.lead()
    made.follower.cluster.follow(made.leader.cluster.address)
    try:
        yield made
    finally:
        await made.agent.close()
        await made.follower.stop()
        await made.leader.stop()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        pause: Deferred[None] = deferLater(reactor, 0.01)
        await pause
    raise AssertionError("what was waited for did not come")


class FakeLeader(Protocol):
    """Keeps what it is asked, and does what the test says with the connection."""

    got: list[bytes]
    react: Callable[[Any], None]
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.got.append(data)
        type(self).react(self.transport)


@contextlib.asynccontextmanager
async def fake_leader(react: Callable[[Any], None]) -> AsyncIterator[tuple[str, list[bytes]]]:
    got: list[bytes] = []
    factory = Factory.forProtocol(type("Fake", (FakeLeader,), {"got": got, "react": staticmethod(react)}))
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    yield f"127.0.0.1:{port.getHost().port}", got
    await port.stopListening()


@ensureDeferred
async def test_answers_come_back_as_they_are() -> None:
    async with masters() as both:
        leader = both.leader.cluster.address
        assign = await both.ask("GET", "/dir/assign?count=3&pretty=y")
        assert await assign.read() == f'{{\n  "count": "3",\n  "at": "{leader}"\n}}\n'.encode()
        assert (assign.status, assign.header("Cache-Control")) == (200, "no-store")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        posted = await both.ask("POST", "/dir/assign?count=3", headers=form, body=[b"count=7"])
        assert b'"count":"7"' in await posted.read()
        for target, status, header, value in (
            ("/col/delete?collection=a", 204, "Content-Length", None),
            ("/col/delete?collection=full", 406, "Content-Type", "application/json"),
            ("/col/delete?collection=later", 503, "Retry-After", "7"),
            ("/col/delete?collection=moved", 308, "Location", "http://a:1/?x=%20"),
        ):
            answer = await both.ask("DELETE", target)
            await answer.read()
            assert (answer.status, answer.header(header)) == (status, value), target
        wrong = await both.ask("HEAD", "/submit")
        assert (wrong.status, wrong.header("Allow")) == (405, "POST")
        assert len(both.leader.api.asked) == 6
        assert both.follower.api.asked == []


@ensureDeferred
async def test_large_bodies() -> None:
    async with masters() as both:
        answer = await both.ask("POST", "/submit", body=[BIG])
        assert answer.status == 201
        assert hashlib.sha256(BIG).hexdigest().encode() in await answer.read()


@ensureDeferred
async def test_connections_are_kept_and_a_hundred_at_once_are_fine() -> None:
    async with masters() as both:
        for _ in range(5):
            await (await both.ask("GET", "/dir/assign")).read()
        assert len(both.follower.hops._open) == 1

        async def one() -> int:
            answer = await both.ask("GET", "/dir/assign")
            await answer.read()
            return answer.status

        assert await gatherResults([Deferred.fromCoroutine(one()) for _ in range(100)]) == [200] * 100


@ensureDeferred
async def test_a_leader_that_takes_the_request_and_closes_is_not_asked_again() -> None:
    for react in (lambda wire: wire.loseConnection(), lambda wire: wire.abortConnection()):
        async with masters() as both, fake_leader(react) as (address, got):
            both.follower.cluster.follow(address)
            answer = await both.ask("GET", "/vol/grow?count=1")
            assert answer.status == 503
            assert b"may or may not have been carried out" in await answer.read()
            assert len(got) == 1


@ensureDeferred
async def test_nor_on_a_kept_connection() -> None:
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]

    def react(wire: Any) -> None:
        if answers:
            wire.write(answers.pop())
        else:
            wire.loseConnection()

    async with masters() as both, fake_leader(react) as (address, got):
        both.follower.cluster.follow(address)
        assert await (await both.ask("GET", "/vol/grow?count=1")).read() == b"{}"
        assert (await both.ask("GET", "/vol/grow?count=1")).status == 503
        assert len(got) == 2


@ensureDeferred
async def test_a_silent_leader_is_left_when_another_leads() -> None:
    async with masters() as both, fake_leader(lambda _: None) as (address, got):
        both.follower.cluster.follow(address)
        asked = Deferred.fromCoroutine(both.ask("GET", "/dir/assign"))
        await until(lambda: bool(got))
        both.follower.cluster.follow(both.leader.cluster.address)
        answer = await asked
        assert answer.status == 503  # not repeated, though the new leader is there
        assert len(both.leader.api.asked) == 0
        assert (await both.ask("GET", "/dir/assign")).status == 200


@ensureDeferred
async def test_a_leader_that_is_gone_is_waited_out() -> None:
    async with masters() as both:
        heir = Master.start()
        heir.cluster.lead()
        try:
            assert (await both.ask("GET", "/dir/assign")).status == 200
            await both.leader.stop()
            asked = Deferred.fromCoroutine(both.ask("GET", "/dir/assign"))
            await until(lambda: both.follower.api.forwarder._held == 1)
            both.follower.cluster.follow(heir.cluster.address)
            assert heir.cluster.address.encode() in await (await asked).read()
        finally:
            await both.follower.hops.close()
            await heir.stop()


@ensureDeferred
async def test_a_client_that_leaves_does_not_stop_what_must_not_be_half_done() -> None:
    async with masters() as both:
        both.leader.api.gate = Deferred()
        asked = Deferred.fromCoroutine(both.ask("GET", "/vol/grow?count=1"))
        await until(lambda: bool(both.leader.api.asked))
        asked.addErrback(lambda _: None)
        asked.cancel()
        await until(lambda: not both.follower.hops._open)
        await until(lambda: both.leader.api.asked[0].is_gone)
        both.leader.api.gate.callback(None)
        await until(lambda: both.leader.api.grown == 1)
        assert len(both.leader.api.asked) == 1


@ensureDeferred
async def test_two_masters_that_take_each_other_for_the_leader() -> None:
    async with masters() as both:
        both.leader.cluster.follow(both.follower.cluster.address)
        answer = await both.ask("GET", "/dir/assign")
        assert answer.status == 503
        assert b"which should lead, says that it does not" in await answer.read()
