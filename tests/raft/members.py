"""A cluster of `RaftNode`s on a `Clock`: stores in memory, a network in memory, disks that do as they are told."""

import json
import random
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.raft.logged import LoggedTestCase
from tests.raft.wires import Network
from weedtw.errors import ChangeRefused, WeedError
from weedtw.raft.core import Settings
from weedtw.raft.interface import Changed, Timing
from weedtw.raft.membership import AddLearner, Membership, Promote
from weedtw.raft.membership import Member as Voter
from weedtw.raft.messages import Message, Snapshot
from weedtw.raft.node import RaftNode
from weedtw.raft.storage import Identity, MemoryStorage, StoredState
from weedtw.raft.transport import Transport

STEP = 0.005  # seconds
WRITE = 0.002


class Machine:
    """A list of the commands that it was given; knows a few that go wrong."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.restored = 0
        self.broken = False  # raises at everything

    def apply(self, index: int, data: bytes) -> object:
        command = data.decode()
        if command == "refuse":
            raise ChangeRefused("not this one")
        if command == "divide":
            raise ZeroDivisionError
        self.commands.append(command)
        return f"{command} at {index}"

    def snapshot(self) -> bytes:
        if self.broken:
            raise ZeroDivisionError
        return json.dumps(self.commands).encode()

    def restore(self, data: bytes) -> None:
        if self.broken:
            raise ZeroDivisionError
        self.restored += 1
        self.commands = json.loads(data) if data else []


@attrs.define(eq=False, slots=False)
class HeldDisk:
    """A disk whose writes take `write` seconds, or until they are let go."""

    clock: Clock
    write: float = WRITE
    held: bool = False
    running: bool = False
    _waiting: list[Callable[[], None]] = attrs.Factory(list)

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        assert not self._waiting
        self.running = False

    def run(self, call: Callable[[], None]) -> "Deferred[None]":
        assert self.running
        done: Deferred[None] = Deferred()

        def do() -> None:
            maybeDeferred(call).chainDeferred(done)

        def written() -> None:
            if self.held:
                self._waiting.append(do)
            else:
                do()

        self.clock.callLater(self.write, written)
        return done

    def let_go(self) -> None:
        self.held = False
        waiting, self._waiting = self._waiting, []
        for do in waiting:
            do()


class Listening(Transport):
    """Remembers what was sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: list[Message] = []

    def send(self, messages: Any) -> None:
        messages = list(messages)
        self.sent += messages
        super().send(messages)


class Member:
    """One node and what surrounds it; `node` is that of its latest life."""

    node: RaftNode
    machine: Machine
    disk: HeldDisk
    transport: Listening

    def __init__(self, cluster: "Cluster", name: str, storage: MemoryStorage) -> None:
        self.cluster = cluster
        self.name = name
        self.address = f"{name}:1"
        self.storage = storage
        self.stopped: list[WeedError] = []
        self.events: list[Changed] = []
        self.asleep = 0.0  # seconds that the reactor has slept through, on this node's clock

    def make(self) -> "Member":
        cluster = self.cluster
        self.machine = Machine()
        self.disk = HeldDisk(cluster.clock)
        self.node = RaftNode(
            Identity("cluster", self.name),
            self.storage,
            self.machine,
            make_transport=self._transport,
            disk=self.disk,
            clock=cluster.clock,
            monotonic=lambda: cluster.clock.seconds() + self.asleep,
            rng=random.Random(cluster.rng.random()),
            settings=cluster.settings,
            timing=cluster.timing,
            stopped=self.stopped.append,
        )
        self.node.observe(self.events.append)
        return self

    def _transport(self, node: RaftNode) -> Transport:
        network = self.cluster.network
        self.transport = Listening(
            node,
            self.address,
            connect=network.connector(self.address),
            clock=self.cluster.clock,
            rng=random.Random(self.cluster.rng.random()),
        )
        return self.transport

    def start(self) -> "Member":
        self.make()
        self.cluster.network.listening[self.address] = self.transport.inbound
        self.node.startService()
        return self

    def kill(self) -> None:
        """kill -9: the store keeps what was saved."""
        self.node._ticker.stop()
        self.node.running = 0
        self.disk.running = False
        self.disk.run = lambda call: Deferred()  # type: ignore[method-assign]
        self.transport.stop()
        self.cluster.network.kill(self.address)

    @property
    def leads(self) -> bool:
        return self.node.core.role.name == "leader"


class Cluster:
    """Members by name."""

    def __init__(
        self, *names: str, settings: Settings | None = None, timing: Timing | None = None, seed: int = 1
    ) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.rng = random.Random(seed)
        self.settings = settings or Settings()
        self.timing = timing or Timing()
        founders = Membership({name: Voter(f"{name}:1") for name in names})
        state = StoredState(snapshot=Snapshot(membership=founders))
        self.members = {name: Member(self, name, MemoryStorage(state)).start() for name in names}

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    def run(self, seconds: float) -> None:
        self.network.run(seconds, step=STEP)

    def until(self, condition: Callable[[], object], limit: float = 30.0) -> float:
        """Let time pass until `condition()`; returns how much has."""
        began = self.clock.seconds()
        while not condition():
            assert self.clock.seconds() - began < limit, "it did not come about"
            self.run(STEP)
        return self.clock.seconds() - began

    def leader(self) -> Member:
        """The one leader that serves; waits for it."""
        found: list[Member] = []

        def look() -> bool:
            found[:] = [m for m in self.members.values() if m.node.running and m.leads and m.node.has_lease()]
            return len(found) == 1

        self.until(look)
        return found[0]

    def followers(self) -> list[Member]:
        leader = self.leader()
        return [member for member in self.members.values() if member is not leader and member.node.running]

    def cut(self, member: Member) -> None:
        """No packets go to or from a member; connections stay as they are."""
        self.network.cut.add(member.address)

    def part(self, *parts: list[Member]) -> None:
        """No packets go from one part to another."""
        self.network.parts[:] = [{member.address for member in part} for part in parts]

    def mend(self) -> None:
        """Everything can be reached again."""
        self.network.mend()

    def newcomer(self, name: str) -> Member:
        """A node without state, known to nobody."""
        self.members[name] = Member(self, name, MemoryStorage()).start()
        return self.members[name]

    def join(self, name: str, *, vote: bool = True) -> Member:
        """A newcomer, added by the leader."""
        newcomer = self.newcomer(name)
        leader = self.leader().node
        added = leader.change(AddLearner(name, newcomer.address))
        self.until(lambda: added.called)
        if vote:
            promoted = leader.change(Promote(name))
            self.until(lambda: promoted.called)
        return newcomer


class NodeTest(LoggedTestCase):
    def fails(self, kind: type[Exception], waiting: "Deferred[Any]") -> Any:
        """The error with which a request has failed."""
        failure: Failure = self.failureResultOf(waiting, kind)
        return failure.value

    def done(self, cluster: Cluster, waiting: "Deferred[Any]") -> Any:
        """The answer to a request; waits for it."""
        answers: list[Any] = []
        waiting.addBoth(answers.append)
        cluster.until(lambda: answers)
        if isinstance(answers[0], Failure):
            answers[0].raiseException()
        return answers[0]
