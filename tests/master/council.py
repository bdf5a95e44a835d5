"""Masters that agree by Raft, on a clock: stores and a network in memory, and nothing of HTTP."""

import random
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.master.scene import Peers
from tests.raft.logged import LoggedTestCase
from tests.raft.members import STEP, HeldDisk
from tests.raft.wires import Network
from weedtw.errors import WeedError
from weedtw.master.consensus import RaftLedger
from weedtw.master.members import Members
from weedtw.raft.core import Settings
from weedtw.raft.interface import Timing
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Snapshot
from weedtw.raft.node import RaftNode
from weedtw.raft.storage import Identity, MemoryStorage, StoredState
from weedtw.raft.transport import Transport

CLUSTER = "0b1e0000-0000-4000-8000-000000000001"
LIMIT = 60.0  # seconds


class Master:
    """One master, whose name is `a` for node `node-a` at `a:9333`; its parts are those of its latest life."""

    ledger: RaftLedger
    node: RaftNode
    members: Members
    disk: HeldDisk

    def __init__(self, council: "Council", name: str, storage: MemoryStorage) -> None:
        self.council = council
        self.id = f"node-{name}"
        self.address = f"{name}:9333"
        self.storage = storage
        self.stopped: list[WeedError] = []
        self.asleep = 0.0  # seconds for which the process has stood still, on its clock that nobody stops

    def start(self) -> "Master":
        council, clock = self.council, self.council.clock
        made: list[Transport] = []
        self.ledger = RaftLedger(self.id)
        self.disk = HeldDisk(clock)

        def make_transport(node: RaftNode) -> Transport:
            made.append(
                Transport(
                    node,
                    self.address,
                    connect=council.network.connector(self.address),
                    clock=clock,
                    rng=random.Random(council.rng.random()),
                )
            )
            return made[0]

        self.node = RaftNode(
            Identity(CLUSTER, self.id),
            self.storage,
            self.ledger.machine,
            make_transport=make_transport,
            disk=self.disk,
            clock=clock,
            monotonic=lambda: clock.seconds() + self.asleep,
            rng=random.Random(council.rng.random()),
            settings=Settings(),
            timing=council.timing,
            stopped=self.stopped.append,
        )
        self.ledger.attach(self.node, made[0])
        council.network.listening[self.address] = made[0].inbound
        self.members = Members(self.ledger, council.peers, clock)  # type: ignore[arg-type]
        self.node.startService()
        self.members.start()
        return self

    def kill(self) -> None:
        """The process ends; what was stored is kept."""
        self.members.stop()
        self.node._ticker.stop()
        self.node.running = 0
        self.disk.running = False
        self.disk.run = lambda call: Deferred()  # type: ignore[method-assign]
        assert self.ledger.transport is not None
        self.ledger.transport.stop()
        self.council.network.kill(self.address)

    def move(self, address: str) -> "Master":
        """The same master, started again elsewhere."""
        self.address = address
        return self.start()


class Council:
    """Masters by name."""

    def __init__(self, names: str, *, timing: Timing | None = None, seed: int = 1) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.peers = Peers()
        self.rng = random.Random(seed)
        self.timing = timing or Timing()
        founders = Membership({f"node-{name}": Member(f"{name}:9333") for name in names})
        state = StoredState(snapshot=Snapshot(membership=founders))
        self.masters = {name: Master(self, name, MemoryStorage(state)).start() for name in names}

    def __getitem__(self, name: str) -> Master:
        return self.masters[name]

    def newcomer(self, name: str) -> Master:
        """A master that has been told by a cluster to begin as its member."""
        self.masters[name] = Master(self, name, MemoryStorage()).start()
        return self.masters[name]

    def run(self, seconds: float) -> None:
        self.network.run(seconds, step=STEP)

    def until(self, condition: Callable[[], object]) -> None:
        """Let time pass until something is the case."""
        began = self.clock.seconds()
        while not condition():
            assert self.clock.seconds() - began < LIMIT, "it did not come about"
            self.run(STEP)

    def leader(self) -> Master:
        """The one that decides; waits for it."""
        self.until(lambda: any(master.ledger.is_leader for master in self.masters.values()))
        (leader,) = [master for master in self.masters.values() if master.ledger.is_leader]
        return leader

    def followers(self) -> list[Master]:
        leader = self.leader()
        return [master for master in self.masters.values() if master is not leader and master.node.running]


class CouncilTest(LoggedTestCase):
    """Lets time pass until an answer is there."""

    def ask(self, council: Council, work: Coroutine[Any, Any, Any]) -> Any:
        """What came of it."""
        answers: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(answers.append)
        council.until(lambda: answers)
        if isinstance(answers[0], Failure):
            answers[0].raiseException()
        return answers[0]

    def refusal(self, council: Council, kind: type[WeedError], work: Coroutine[Any, Any, Any]) -> str:
        """The words with which it was refused."""
        with self.assertRaises(kind) as caught:
            self.ask(council, work)
        return str(caught.exception)
