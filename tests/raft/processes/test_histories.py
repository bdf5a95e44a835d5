"""Real processes in trouble, and clients whose history must be that of one register.

    WEEDTW_HISTORY_SECONDS=600 WEEDTW_HISTORY_SEED=7 python -m pytest -s tests/raft/processes

The seed decides what clients ask and what befalls the members; when things happen is up to the machine.
"""

import os
import random
from collections import Counter
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.raft.processes.cluster import Client, Cluster, Process, Refused, Unknown
from tests.raft.processes.linearizable import Operation, violation
from tests.raft.waiting import reactor

SECONDS = float(os.environ.get("WEEDTW_HISTORY_SECONDS", "10"))
SEED = int(os.environ.get("WEEDTW_HISTORY_SEED", random.randrange(2**32)))
CLIENTS = 8
KEY_LIFE = 1.5  # seconds for which a key is used: searching long histories takes long

pytestmark = pytest.mark.process


def pause(seconds: float) -> "Deferred[None]":
    """What a client or a fault does in between: nothing waits for this."""
    return deferLater(reactor, seconds, lambda: None)


@attrs.define
class History:
    """What all clients did and were told."""

    cluster: Cluster
    rng: random.Random
    operations: list[Operation] = attrs.Factory(list)
    counts: Counter[str] = attrs.Factory(Counter)
    began: float = attrs.Factory(reactor.seconds)
    _numbers: int = 0

    @property
    def now(self) -> float:
        return float(reactor.seconds()) - self.began

    async def client(self, *, stubborn: bool) -> None:
        """Do one thing after the other.  The stubborn wait for an answer for long, also from one that is paused."""
        rng = random.Random(self.rng.random())
        client: Client | None = None
        process = rng.choice(list(self.cluster.processes.values()))
        while self.now < SECONDS:
            if client is None or client.lost:
                process = rng.choice(list(self.cluster.processes.values()))
                client = Client(reactor, process.commands)
            try:
                await self.one(client, rng, patience=4.0 if stubborn else 0.5)
            except Refused:
                if rng.random() < (0.2 if stubborn else 0.7):
                    client.close()
                    client = None
                await pause(rng.random() * 0.03)
            except Unknown:
                client.close()
                client = None
        if client is not None:
            client.close()

    async def one(self, client: Client, rng: random.Random, patience: float) -> None:
        """Do one thing, and remember what is known of it."""
        self._numbers += 1
        how = rng.choice(("lease", "lease", "index", "set", "set", "add"))
        verb = how if how in ("set", "add") else "get"
        key = f"key {int(self.now / KEY_LIFE)}{rng.choice('ab')}"
        number = self._numbers if verb != "get" else 0
        called = self.now
        try:
            answer = await client.ask(verb, key=key, value=number, how=how, patience=patience)
        except Unknown:
            self.counts[f"{how} unknown"] += 1
            if verb != "get":
                self.operations.append(Operation(verb, key, number, called))
            raise
        except Refused:
            self.counts[f"{how} refused"] += 1
            raise
        self.counts[how] += 1
        self.operations.append(Operation(verb, key, number, called, self.now, answer))


@attrs.define
class Trouble:
    """What befalls the members, one thing after the other."""

    history: History
    rng: random.Random

    async def run(self) -> None:
        while self.history.now < SECONDS - 2:
            await pause(self.rng.uniform(0.1, 0.7))
            kind = self.rng.choice(("kill", "kill", "pause", "pause", "isolate", "half", "swallow", "hang_up"))
            self.history.counts[kind] += 1
            await getattr(self, kind)(await self.victim())

    async def victim(self) -> Process:
        if self.rng.random() < 0.7:
            return await self.history.cluster.leader()
        return self.rng.choice(list(self.history.cluster.processes.values()))

    async def kill(self, victim: Process) -> None:
        await victim.kill()
        await pause(self.rng.uniform(0, 1))
        await victim.start()

    async def pause(self, victim: Process) -> None:
        victim.pause()
        await pause(self.rng.choice((0.1, 0.5, 1.5, 2.5)))
        victim.resume()

    async def isolate(self, victim: Process) -> None:
        """No connection to or from it."""
        await self.network(victim.name, "sever", to=True, of=True)

    async def half(self, victim: Process) -> None:
        """It speaks and is not spoken to, or the other way round."""
        to = self.rng.random() < 0.5
        await self.network(victim.name, self.rng.choice(("sever", "swallow")), to=to, of=not to)

    async def swallow(self, victim: Process) -> None:
        """Connections stand, and nothing arrives."""
        await self.network(victim.name, "swallow", to=True, of=True)

    async def hang_up(self, victim: Process) -> None:
        """All of its connections break, and can be made again at once."""
        for pair, proxy in self.history.cluster.proxies.items():
            if victim.name in pair:
                proxy.hang_up()

    async def network(self, name: str, what: str, *, to: bool, of: bool) -> None:
        proxies = [
            p
            for (at, there), p in self.history.cluster.proxies.items()
            if (of and at == name) or (to and there == name)
        ]
        for proxy in proxies:
            getattr(proxy, what)()
        await pause(self.rng.uniform(0.3, 2))
        for proxy in proxies:
            proxy.mend()


@pytest_twisted.ensureDeferred
async def test_a_history_under_fire(tmp_path: Any, request: Any) -> None:
    rng = random.Random(SEED)
    cluster = Cluster(reactor, str(tmp_path))
    await cluster.start()
    try:
        await cluster.leader()
        history = History(cluster, rng)
        clients = [history.client(stubborn=number % 2 == 1) for number in range(CLIENTS)]
        trouble = Trouble(history, random.Random(rng.random())).run()
        await gatherResults([Deferred.fromCoroutine(each) for each in (*clients, trouble)], consumeErrors=True)
        assert violation(history.operations) is None, f"WEEDTW_HISTORY_SEED={SEED}: {worst(history)}"
        for how in ("lease", "index", "set", "add"):
            assert history.counts[how] > 3 * SECONDS, (SEED, history.counts)
        await check_all_is_well(cluster)
    finally:
        await cluster.stop()
    request.config.pluginmanager.get_plugin("terminalreporter").write_line(
        f"seed {SEED}, {len(history.operations)} operations: {dict(sorted(history.counts.items()))}"
    )


def worst(history: History) -> str:
    """The key that cannot be explained, with all that happened to it."""
    key = violation(history.operations)
    return "\n".join(map(str, sorted((o for o in history.operations if o.key == key), key=lambda o: o.called)))


async def check_all_is_well(cluster: Cluster) -> None:
    """Nobody has stopped, all are connected again, and what one writes all apply."""
    leader = await cluster.leader()
    client = Client(reactor, leader.commands)
    await client.ask("set", key="end", value=1, patience=10)
    client.close()

    def well(seen: list[dict[str, Any]]) -> bool:
        connected = all(len(status["connected"]) == len(cluster.processes) - 1 for status in seen)
        return connected and len({status["applied"] for status in seen}) == 1

    await cluster.until(well)


@attrs.define
class Resumed:
    """A leader that was paused until another led, with reads waiting for it."""

    cluster: Cluster
    answers: list[Any] = attrs.Factory(list)

    async def run(self, number: int) -> None:
        old = await self.cluster.leader()
        to_old = Client(reactor, old.commands)
        await to_old.ask("set", key="k", value=2 * number, patience=10)
        old.pause()
        other = await self.cluster.leader(besides=old.name)
        to_other = Client(reactor, other.commands)
        await to_other.ask("set", key="k", value=2 * number + 1, patience=10)
        to_other.close()
        # They lie in its socket when it wakes up: the first thing it may do is answer them.
        reads = [to_old.send("get", key="k", how=how, patience=10) for how in ("lease", "lease", "index")]
        old.resume()
        for read in reads:
            try:
                self.answers.append(await read)
            except (Refused, Unknown) as error:
                self.answers.append(str(error))
        to_old.close()

    def stale(self) -> bool:
        return any(isinstance(answer, int) and answer % 2 == 0 for answer in self.answers)


@pytest_twisted.ensureDeferred
async def test_a_resumed_leader_serves_no_stale_read(tmp_path: Any) -> None:
    resumed = Resumed(Cluster(reactor, str(tmp_path)))
    await resumed.cluster.start()
    try:
        for number in range(2):
            await resumed.run(number)
    finally:
        await resumed.cluster.stop()
    assert not resumed.stale(), resumed.answers
    assert len(resumed.answers) == 6


@pytest_twisted.ensureDeferred
async def test_without_a_lease_it_would(tmp_path: Any) -> None:
    """That the test above can fail."""
    resumed = Resumed(Cluster(reactor, str(tmp_path), blind=True))
    await resumed.cluster.start()
    try:
        for number in range(10):
            await resumed.run(number)
            if resumed.stale():
                break
    finally:
        await resumed.cluster.stop()
    assert resumed.stale(), resumed.answers
