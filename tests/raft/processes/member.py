"""One member of a cluster as a process of its own: a register over `RaftNode`, `SqliteStorage` and `Transport`.

    python -m tests.raft.processes.member '{"path": "…/raft.sqlite3", …}'

It prints its two ports when it listens: for other members, and for commands.  A command is a JSON object on a line,
answered by one with the same `id`.  The options are those of `Options`.
"""

import json
import random
import sys
from typing import Any

import attrs
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineReceiver

from tests.raft.processes.register import Register
from weedtw.errors import NotLeader, WeedError
from weedtw.raft.core import Settings
from weedtw.raft.dial import Connect, plain_connector
from weedtw.raft.disk import DiskThread
from weedtw.raft.interface import Timing, elapsed
from weedtw.raft.node import RaftNode
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.transport import Transport

reactor: Any = installed_reactor


@attrs.frozen
class Options:
    """How the process is told what to do."""

    path: str
    address: str  # as other members know it
    routes: dict[str, str] = attrs.Factory(dict)  # where to dial instead, by address
    settings: dict[str, int] = attrs.Factory(dict)
    timing: dict[str, float] = attrs.Factory(dict)
    blind: bool = False  # answers reads from what it has, whoever leads: what a lease is there to prevent


class Member:
    """The node with its state, and what can be asked of it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.register = Register()
        storage = SqliteStorage.open(options.path)
        self.node = RaftNode(
            storage.identity,
            storage,
            self.register,
            make_transport=self._transport,
            disk=DiskThread(reactor),
            clock=reactor,
            monotonic=elapsed,
            rng=random.Random(),
            settings=Settings(**options.settings),
            timing=Timing(**options.timing),  # type: ignore[arg-type]
            stopped=lambda error: reactor.stop(),
        )

    def _transport(self, node: RaftNode) -> Transport:
        plain = plain_connector(reactor)

        def connect(address: str) -> Any:
            return plain(self.options.routes.get(address, address))

        connector: Connect = connect
        return Transport(node, self.options.address, connect=connector, clock=reactor, rng=random.Random())

    def start(self) -> None:
        self.node.startService()
        reactor.addSystemEventTrigger("before", "shutdown", self.node.stopService)
        listening = Factory.forProtocol(self.node._transport.inbound)
        commands = Factory.forProtocol(lambda: Commands(self))
        ports = [
            reactor.listenTCP(0, listening, interface="127.0.0.1"),
            reactor.listenTCP(0, commands, interface="127.0.0.1"),
        ]
        print(*(port.getHost().port for port in ports), flush=True)  # noqa: T201 - the test reads it

    # ------------------------------------------------------------------ commands

    async def do(self, command: dict[str, Any]) -> object:
        return await getattr(self, f"do_{command['do']}")(command)

    async def do_set(self, command: dict[str, Any]) -> object:
        return await self.node.propose(json.dumps(["set", command["key"], command["value"]]).encode())

    async def do_add(self, command: dict[str, Any]) -> object:
        return await self.node.propose(json.dumps(["add", command["key"], command["value"]]).encode())

    async def do_get(self, command: dict[str, Any]) -> object:
        if self.options.blind:
            return self.register.get(command["key"])
        if command["how"] == "index":
            await self.node.read_index()
        elif not self.node.has_lease():
            raise NotLeader(self.node.core.leader)
        return self.register.get(command["key"])

    async def do_status(self, command: dict[str, Any]) -> object:
        status = self.node.status()
        return {
            "node": status.node,
            "role": status.role,
            "term": status.term,
            "leader": status.leader,
            "applied": status.applied,
            "lease": status.has_lease,
            "connected": sorted(status.connected),
        }


class Commands(LineReceiver):
    """Takes commands, answers each when it is done."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, member: Member) -> None:
        self.member = member

    def lineReceived(self, line: bytes) -> None:
        command = json.loads(line)
        Deferred.fromCoroutine(self._answer(command))

    async def _answer(self, command: dict[str, Any]) -> None:
        try:
            answer = {"id": command["id"], "value": await self.member.do(command)}
        except WeedError as error:
            leader = error.leader if isinstance(error, NotLeader) else None
            answer = {"id": command["id"], "error": type(error).__name__, "text": str(error), "leader": leader}
        self.sendLine(json.dumps(answer).encode())


def main() -> None:
    """Run until told to stop."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    member = Member(Options(**json.loads(sys.argv[1])))
    reactor.callWhenRunning(member.start)
    reactor.run()


if __name__ == "__main__":
    main()
