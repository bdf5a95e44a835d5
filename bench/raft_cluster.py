"""Clusters of real processes on loopback, to be measured: started, killed, frozen, and asked."""

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater

from weedtw.raft.membership import Member, Membership
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity

POLL = 0.003  # seconds between two questions to a node that could not commit
PATIENCE = 60.0  # seconds until a measurement is given up
STEADY = 1.5  # seconds that connections must have lasted, for their end to be taken seriously at once


class Refused(Exception):
    """A member could not do it."""


class GaveUp(Exception):
    """What was waited for has not come."""


class Process(ProcessProtocol):
    """One member's process."""

    def __init__(self, reactor: Any, options: dict[str, Any], errors: IO[bytes]) -> None:
        self._asked: dict[int, Deferred[Any]] = {0: Deferred()}
        self._received = b""
        self._last = 0
        self.ready = self._asked[0]  # fires with the seconds that loading its state took
        self.ended: Deferred[None] = Deferred()
        self.began = time.monotonic()
        program = [sys.executable, "-m", "bench.raft_member", json.dumps(options)]
        self.transport: Any = reactor.spawnProcess(
            self, sys.executable, program, env=os.environ, childFDs={0: "w", 1: "r", 2: errors.fileno()}
        )

    def outReceived(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            waiting = self._asked.pop(answer["id"])
            if "error" in answer:
                waiting.errback(Refused(answer["error"]))
            else:
                waiting.callback(answer["value"])

    def processEnded(self, reason: object) -> None:  # noqa: ARG002 - Twisted's signature
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            waiting.errback(Refused("the process has ended"))
        self.ended.callback(None)

    def ask(self, what: str, **fields: object) -> "Deferred[Any]":
        """Give it a command; fires with the answer or fails with `Refused`."""
        self._last += 1
        waiting = self._asked[self._last] = Deferred()
        self.transport.write(json.dumps({"id": self._last, "do": what, **fields}).encode() + b"\n")
        return waiting

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.transport.pid is not None:
            os.kill(self.transport.pid, number)

    def memory(self) -> int:
        """Bytes of it that are in memory now."""
        with open(f"/proc/{self.transport.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@attrs.define(eq=False)
class Cluster:
    """`size` members with their files in `folder`."""

    reactor: Any
    folder: str
    size: int
    options: dict[str, Any] = attrs.Factory(dict)
    addresses: dict[str, str] = attrs.field(init=False)
    running: dict[str, Process] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        os.makedirs(self.folder)
        names = [f"n{number}" for number in range(1, self.size + 1)]
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, _ports(self.size), strict=True)}
        membership = Membership({name: Member(address) for name, address in self.addresses.items()})
        for name in names:
            SqliteStorage.create(self.path(name), Identity("bench", name), membership).close()

    def path(self, name: str) -> str:
        """A member's file."""
        return os.path.join(self.folder, f"{name}.sqlite3")

    def spawn(self, name: str) -> Process:
        """Start a member."""
        options = {"path": self.path(name), "address": self.addresses[name], **self.options}
        with open(os.path.join(self.folder, f"{name}.log"), "ab") as errors:
            process = self.running[name] = Process(self.reactor, options, errors)
        return process

    async def start(self) -> None:
        """Start those that do not run, and wait until all are at ease."""
        for name in self.addresses:
            if name not in self.running:
                await self.spawn(name).ready
        await self.settled()

    async def kill(self, name: str) -> None:
        """Kill a member, and wait for its end."""
        process = self.running.pop(name)
        process.signal(signal.SIGKILL)
        await process.ended

    async def stop(self) -> None:
        """Kill all."""
        for name in list(self.running):
            await self.kill(name)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await deferLater(self.reactor, seconds, lambda: None)

    async def until(self, what: str, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Ask all for their status until `condition` holds of what they say."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            seen = [await process.ask("status") for process in self.running.values()]
            if condition(seen):
                return seen
            await self.sleep(0.05)
        raise GaveUp(f"{what} has not come about in {PATIENCE:g} s; the logs are in {self.folder}")

    async def settled(self) -> None:
        """All are connected for a while, follow one leader and have applied all that there is."""

        def at_ease(seen: list[dict[str, Any]]) -> bool:
            return (
                len({(s["leader"], s["applied"], s["last_index"]) for s in seen}) == 1
                and seen[0]["applied"] == seen[0]["last_index"]
                and any(s["lease"] for s in seen)
                and all(len(s["connected"]) == self.size - 1 for s in seen)
            )

        await self.until("ease", at_ease)
        await self.sleep(STEADY if self.size > 1 else 0)
        await self.until("ease", at_ease)

    async def leader(self) -> str:
        """Who leads with a lease."""
        seen = await self.until("a leader", lambda seen: any(status["lease"] for status in seen))
        return next(str(status["node"]) for status in seen if status["lease"])

    async def timeline(self, names: Iterable[str], since: float) -> list[tuple[float, str, str]]:
        """What members have noted since then: seconds, who, what."""
        noted = []
        for name in names:
            events = await self.running[name].ask("timeline", since=since)
            noted += [(at - since, name, what) for at, what in events]
        return sorted(noted)

    def next_commit(self, names: Iterable[str]) -> "Deferred[float]":
        """Propose to these members, again and again, until one has committed; fires with the time by then."""
        committed: Deferred[float] = Deferred()
        end = time.monotonic() + PATIENCE

        async def probe(process: Process) -> None:
            while not committed.called:
                try:
                    await process.ask("propose")
                except Refused:
                    if time.monotonic() > end and not committed.called:
                        committed.errback(GaveUp(f"nothing was committed; the logs are in {self.folder}"))
                    await self.sleep(POLL)
                else:
                    if not committed.called:
                        committed.callback(time.monotonic())

        for name in names:
            Deferred.fromCoroutine(probe(self.running[name])).addErrback(lambda f: f.trap(ProcessExitedAlready))
        return committed


def _ports(count: int) -> list[int]:
    """Free ports from below the range that the kernel gives to callers: a dead member's must stay free."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports
