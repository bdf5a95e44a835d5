"""A cluster of processes, with proxies between them, and clients that ask it for things."""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ClientFactory, ProcessProtocol
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from tests.raft.processes.proxy import Proxy
from tests.raft.waiting import LIMIT
from weedtw.raft.membership import Member, Membership
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity


class Refused(Exception):
    """The member has answered that it does not do it; nothing has come of it."""


class Unknown(Exception):
    """Nobody knows what became of it."""


DEFINITE = frozenset({"NotLeader", "TooBusy", "BadRequest", "Unavailable"})


class Life(ProcessProtocol):
    """One life of a member: from its start to its end."""

    def __init__(self) -> None:
        self.said = b""
        self.errors: list[bytes] = []
        self.ports: Deferred[list[int]] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.said += data
        if self.said.endswith(b"\n") and not self.ports.called:
            self.ports.callback([int(port) for port in self.said.split()])

    def errReceived(self, data: bytes) -> None:
        self.errors.append(data)

    def processEnded(self, reason: Failure) -> None:
        if not self.ports.called:
            self.ports.errback(Failure(RuntimeError(b"".join(self.errors).decode())))
        self.ended.callback(None)


class Process:
    """A member, through all its lives."""

    life: Life
    transport: Any
    commands: int  # the port

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.path = os.path.join(cluster.folder, f"{name}.sqlite3")
        self.alive = self.paused = False
        self.logs: list[bytes] = []

    async def start(self) -> None:
        cluster = self.cluster
        options = {
            "path": self.path,
            "address": cluster.addresses[self.name],
            "routes": cluster.routes(self.name),
            **cluster.options,
        }
        self.life = Life()
        self.life.errors = self.logs
        self.alive, self.paused = True, False
        arguments = [sys.executable, "-m", "tests.raft.processes.member", json.dumps(options)]
        self.transport = cluster.reactor.spawnProcess(self.life, sys.executable, arguments, env=os.environ)
        port, self.commands = await self.life.ports
        for (_, to), proxy in cluster.proxies.items():
            if to == self.name:
                proxy.target = port

    def signal(self, number: int) -> None:
        try:
            self.transport.signalProcess(number)
        except ProcessExitedAlready:
            assert not self.alive, b"".join(self.logs).decode()

    async def kill(self) -> None:
        """kill -9."""
        self.alive = False
        self.signal(signal.SIGKILL)
        await self.life.ended

    def pause(self) -> None:
        self.paused = True
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.paused = False
        self.signal(signal.SIGCONT)


class Cluster:
    """`count` members, each with a proxy to every other."""

    def __init__(self, reactor: Any, folder: str, count: int = 3, **options: Any) -> None:
        self.reactor = reactor
        self.folder = folder
        self.options = options
        names = [f"n{number}" for number in range(1, count + 1)]
        # Nobody listens at these; they only name the members, and the proxies' addresses stand in for them.
        self.addresses = {name: f"127.0.0.1:{number}" for number, name in enumerate(names, start=1)}
        self.proxies = {(at, to): Proxy(reactor) for at in names for to in names if at != to}
        self.processes = {name: Process(self, name) for name in names}
        founders = Membership({name: Member(address) for name, address in self.addresses.items()})
        for process in self.processes.values():
            SqliteStorage.create(process.path, Identity("cluster", process.name), founders).close()

    async def start(self) -> None:
        await gatherResults([Deferred.fromCoroutine(process.start()) for process in self.processes.values()])

    def routes(self, name: str) -> dict[str, str]:
        """Where a member dials instead."""
        return {self.addresses[to]: proxy.address for (at, to), proxy in self.proxies.items() if at == name}

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.alive:
                await process.kill()
        for proxy in self.proxies.values():
            await proxy.close()

    async def leader(self, *, besides: str = "") -> Process:
        """The member that leads with a lease; waits for it."""
        found = await self.until(lambda seen: any(s["lease"] and s["node"] != besides for s in seen), everybody=False)
        return next(self.processes[s["node"]] for s in found if s["lease"] and s["node"] != besides)

    async def until(self, condition: Callable[[list[Any]], bool], *, everybody: bool = True) -> list[Any]:
        """What all say of themselves (or those that answer, if not `everybody`), once it is as it should be."""
        gives_up = self.reactor.seconds() + LIMIT
        while True:
            asked = [p for p in self.processes.values() if p.alive and not p.paused]
            answers = [await self._status(process) for process in asked]
            seen = [answer for answer in answers if answer is not None]
            if (len(seen) == len(self.processes) or not everybody) and condition(seen):
                return seen
            assert self.reactor.seconds() < gives_up, f"it did not come about: {seen}\n{self.logs()}"
            await deferLater(self.reactor, 0.02)

    async def _status(self, process: Process) -> Any:
        client = Client(self.reactor, process.commands)
        try:
            return await client.ask("status")
        except (Refused, Unknown):
            return None
        finally:
            client.close()

    def logs(self) -> str:
        """What the members logged last."""
        return "\n".join(f"{p.name}:\n{b''.join(p.logs)[-3000:].decode()}" for p in self.processes.values())


class Client(LineReceiver):
    """A connection to one member; after anything unusual, use a new one."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20
    transport: Any

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._asked: dict[int, Deferred[Any]] = {}
        self._ready: Deferred[None] = Deferred()
        self._number = 0
        self._lost = False
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: self  # type: ignore[method-assign]
        factory.clientConnectionFailed = lambda connector, reason: self.connectionLost(reason)  # type: ignore[method-assign]
        self._connector = reactor.connectTCP("127.0.0.1", port, factory)

    @property
    def lost(self) -> bool:
        return self._lost

    def connectionMade(self) -> None:
        self._ready.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self._lost = True
        if not self._ready.called:
            self._ready.errback(Failure(Refused("cannot connect")))
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            waiting.errback(Failure(Unknown("connection lost")))

    def lineReceived(self, line: bytes) -> None:
        answer = json.loads(line)
        waiting = self._asked.pop(answer["id"], None)
        if waiting is None:
            return  # given up meanwhile
        if "error" not in answer:
            waiting.callback(answer["value"])
        else:
            kind = Refused if answer["error"] in DEFINITE else Unknown
            waiting.errback(Failure(kind(f"{answer['error']}: {answer['text']}")))

    async def ask(self, what: str, *, patience: float = 1.0, **arguments: Any) -> Any:
        """The answer; raises `Refused` when nothing came of it, or `Unknown`, also after `patience` seconds."""
        await self._ready
        return await self.send(what, patience=patience, **arguments)

    def send(self, what: str, *, patience: float = 1.0, **arguments: Any) -> "Deferred[Any]":
        """Ask on a connection that is ready."""
        self._number += 1
        number = self._number
        waiting: Deferred[Any] = Deferred()
        self._asked[number] = waiting
        self.sendLine(json.dumps({"id": number, "do": what, **arguments}).encode())

        timer = self._reactor.callLater(patience, self._give_up, number)

        def done(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        return waiting.addBoth(done)

    def _give_up(self, number: int) -> None:
        waiting = self._asked.pop(number, None)
        if waiting is not None:
            waiting.errback(Failure(Unknown("no answer")))

    def close(self) -> None:
        self._connector.disconnect()
