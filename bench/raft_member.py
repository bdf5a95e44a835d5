"""One member of a cluster under measurement: a counter over `RaftNode`, its SQLite file and its transport.

    python -m bench.raft_member '{"path": "…/raft.sqlite3", "address": "127.0.0.1:21001"}'

It takes commands on its standard input, a JSON object on a line with `id` and `do`, and answers each on its standard
output with the same `id`.  It ends with its input.
"""

import json
import random
import sys
import time
from collections import deque
from typing import Any

import attrs
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.stdio import StandardIO
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineReceiver

from weedtw.errors import WeedError
from weedtw.raft.dial import plain_connector
from weedtw.raft.disk import DiskThread
from weedtw.raft.interface import Changed, Timing, elapsed
from weedtw.raft.membership import NodeId
from weedtw.raft.messages import Message, TimeoutNow, VoteReply, VoteRequest
from weedtw.raft.node import RaftNode
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.transport import Transport

reactor: Any = installed_reactor


@attrs.frozen
class Options:
    """What the process is started with."""

    path: str
    address: str
    snapshot_every: int = Timing().snapshot_every


class Counter:
    """The replicated state: how many commands there were."""

    def __init__(self) -> None:
        self.value = 0

    def apply(self, index: int, data: bytes) -> object:  # noqa: ARG002 - the interface of a state machine
        self.value += 1
        return self.value

    def snapshot(self) -> bytes:
        return str(self.value).encode()

    def restore(self, data: bytes) -> None:
        self.value = int(data or b"0")


class WatchedNode(RaftNode):
    """Remembers when it heard what: the timeline of an election."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.timeline: deque[tuple[float, str]] = deque(maxlen=200)
        super().__init__(*arguments, **named)
        self.observe(self._changed)

    def note(self, what: str) -> None:
        self.timeline.append((time.monotonic(), what))

    def lost_contact(self, node: NodeId) -> None:
        self.note(f"lost {node}")
        super().lost_contact(node)

    def refused(self, node: NodeId) -> None:
        self.note(f"{node} refuses")
        super().refused(node)

    def received(self, message: Message) -> None:
        if isinstance(message, VoteRequest | VoteReply | TimeoutNow):
            pre = "pre-" if getattr(message, "pre", False) else ""
            said = {VoteRequest: "asks for a vote", TimeoutNow: "says: campaign"}.get(type(message))
            if isinstance(message, VoteReply):
                said = "votes yes" if message.granted else "votes no"
            self.note(f"{message.sender} {pre}{said}, term {message.term}")
        super().received(message)

    def _changed(self, changed: Changed) -> None:
        status = changed.status
        self.note(f"{status.role} in term {status.term}, leader {status.leader}")


class Member:
    """The node, and what can be asked of it."""

    def __init__(self, options: Options) -> None:
        began = time.monotonic()
        storage = SqliteStorage.open(options.path)
        self.counter = Counter()
        self.node = WatchedNode(
            storage.identity,
            storage,
            self.counter,
            make_transport=lambda node: Transport(
                node, options.address, connect=plain_connector(reactor), clock=reactor, rng=random.Random()
            ),
            disk=DiskThread(reactor),
            clock=reactor,
            monotonic=elapsed,
            rng=random.Random(),
            timing=Timing(snapshot_every=options.snapshot_every),
            stopped=lambda _: reactor.stop(),
        )
        self.loading = time.monotonic() - began
        self._port = int(options.address.rpartition(":")[2])

    def start(self) -> None:
        self.node.startService()
        reactor.addSystemEventTrigger("before", "shutdown", self.node.stopService)
        factory = Factory.forProtocol(self.node._transport.inbound)
        reactor.listenTCP(self._port, factory, interface="127.0.0.1")
        StandardIO(Commands(self))

    # ------------------------------------------------------------------ commands

    async def do_propose(self, command: dict[str, Any]) -> object:  # noqa: ARG002 - like all of them
        return await self.node.propose(b"x")

    async def do_status(self, command: dict[str, Any]) -> object:  # noqa: ARG002 - like all of them
        status = self.node.status()
        shown = {name: getattr(status, name) for name in ("node", "role", "term", "leader", "applied", "last_index")}
        return {**shown, "lease": status.has_lease, "connected": sorted(status.connected), "loading": self.loading}

    async def do_timeline(self, command: dict[str, Any]) -> object:
        return [[at, what] for at, what in self.node.timeline if at >= command["since"]]

    async def do_hand_over(self, command: dict[str, Any]) -> object:  # noqa: ARG002 - like all of them
        await self.node.hand_over()
        return None

    async def do_load(self, command: dict[str, Any]) -> object:
        """Keep `outstanding` proposals of `size` bytes under way until `count` are committed, or `seconds` are over.

        Answers with the seconds that each of them took, and all of them together.
        """
        data, spent, begun = b"x" * command["size"], [], 0
        began = time.monotonic()

        async def propose() -> None:
            nonlocal begun
            while begun < command["count"] and time.monotonic() - began < command["seconds"]:
                begun += 1
                asked = time.monotonic()
                await self.node.propose(data)
                spent.append(time.monotonic() - asked)

        for proposing in [Deferred.fromCoroutine(propose()) for _ in range(command["outstanding"])]:
            await proposing
        return {"seconds": time.monotonic() - began, "spent": spent}


class Commands(LineReceiver):
    """Takes commands, and answers each when it is done."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, member: Member) -> None:
        self._member = member

    def connectionMade(self) -> None:
        self._say({"id": 0, "value": self._member.loading})

    def lineReceived(self, line: bytes) -> None:
        command = json.loads(line)
        doing = Deferred.fromCoroutine(getattr(self._member, f"do_{command['do']}")(command))
        doing.addCallbacks(
            lambda value: self._say({"id": command["id"], "value": value}),
            lambda failure: self._say({"id": command["id"], "error": str(failure.value)}, failure.trap(WeedError)),
        )

    def connectionLost(self, reason: object = None) -> None:  # noqa: ARG002 - Twisted's signature
        if reactor.running:
            reactor.stop()

    def _say(self, answer: dict[str, Any], _: object = None) -> None:
        self.sendLine(json.dumps(answer).encode())  # type: ignore[no-untyped-call]


def main() -> None:
    """Run until the input ends."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    member = Member(Options(**json.loads(sys.argv[1])))
    reactor.callWhenRunning(member.start)
    reactor.run()


if __name__ == "__main__":
    main()
