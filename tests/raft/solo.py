"""One core, driven as its contract asks; everything that leaves it is kept, in the order in which it did."""

import random
from collections.abc import Callable, Sequence

from weedtw.raft.core import RaftCore, ReadState, Settings
from weedtw.raft.leader import Leader
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import (
    Append,
    AppendReply,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Message,
    Snapshot,
    VoteReply,
)
from weedtw.raft.storage import MemoryStorage, StoredState, Update
from weedtw.raft.tracker import Progress

SETTINGS = Settings(election=10, heartbeat=2)
LONG = 2 * SETTINGS.election  # ticks; every election timeout has run out by then


def entries(terms: Sequence[int], first: int = 1) -> tuple[Entry, ...]:
    """Commands of these terms, from index `first` on; the same place and term give the same command."""
    return tuple(Entry(index, term, data=b"%d@%d" % (index, term)) for index, term in enumerate(terms, start=first))


def membership(voters: str, learners: str = "") -> Membership:
    """A letter a node."""
    return Membership({node: Member(f"host{node}:9333", node in voters) for node in voters + learners})


class Solo:
    """Node 1 of a cluster whose other nodes are played by the test."""

    def __init__(
        self,
        voters: str = "123",
        log: Sequence[int] = (),
        *,
        term: int = 0,
        vote: str | None = None,
        commit: int = 0,
        learners: str = "",
        settings: Settings = SETTINGS,
        seed: int = 0,
    ) -> None:
        """Start with a log of these terms; no promise of an earlier life binds the node any more."""
        snapshot = Snapshot(membership=membership(voters, learners))
        self.storage = MemoryStorage(StoredState(HardState(term, vote, commit), snapshot, entries(log)))
        self.settings = settings
        self.seed = seed
        self.applied: list[Entry] = []
        self.restored: list[Snapshot] = []
        self.reads: list[ReadState] = []
        self.failed_reads: list[object] = []
        self.events: list[Update | Message | Entry] = []
        self.start()
        self.core.heard = None

    def start(self) -> None:
        """Begin a life from what is stored."""
        self.core = RaftCore("1", self.storage.load(), self.settings, random.Random(self.seed))
        self.applied.clear()
        self.restored.clear()
        self._pump()

    def do(self, action: Callable[[RaftCore], object]) -> list[Message]:
        """What it sends because of this input."""
        before = len(self.events)
        action(self.core)
        self._pump()
        return [event for event in self.events[before:] if not isinstance(event, Update | Entry)]

    def step(self, message: Message) -> list[Message]:
        """What it sends because of this message."""
        return self.do(lambda core: core.step(message))

    def tick(self, count: int = 1) -> list[Message]:
        """What it sends within these ticks."""
        sent: list[Message] = []
        for _ in range(count):
            sent += self.do(lambda core: core.tick())
        return sent

    def _pump(self) -> None:
        while self.core.has_ready():
            ready = self.core.ready()
            if ready.update is not None:
                self.storage.save(ready.update)
                self.events.append(ready.update)
            self.events += ready.messages
            self.events += ready.committed
            if ready.snapshot is not None:
                self.restored.append(ready.snapshot)
            self.applied += ready.committed
            self.reads += ready.reads
            self.failed_reads += ready.failed_reads
            self.core.advance(ready)

    # ------------------------------------------------------------------ shorthand

    @property
    def terms(self) -> list[int]:
        """Its log, by the terms of its entries."""
        return [self.core.log.term(index) or 0 for index in range(1, self.core.log.last_index + 1)]

    @property
    def hard_state(self) -> HardState:
        """What it has stored."""
        return self.storage.load().hard_state

    def progress(self, node: str) -> Progress:
        """What it knows of another node, as the leader."""
        role = self.core.role
        assert isinstance(role, Leader)
        return role.progress[node]

    def campaign(self) -> list[Message]:
        """Wait until it asks for pre-votes, and grant them; what it sends then."""
        while self.core.role.name != "pre-candidate":
            self.tick()
        return self.vote(granted=True, pre=True)

    def vote(self, *, granted: bool, pre: bool = False, voters: str = "2345") -> list[Message]:
        """The others' answers, until it has left its present role."""
        role, term = self.core.role, self.core.term + pre
        sent: list[Message] = []
        for node in voters:
            if node in self.core.log.membership.voters and self.core.role is role:
                sent += self.step(VoteReply(node, "1", term, granted=granted, pre=pre))
        return sent

    def lead(self) -> list[Message]:
        """Win an election; what it sends as the new leader."""
        self.campaign()
        return self.vote(granted=True)

    def acknowledge(self, node: str, index: int) -> list[Message]:
        """`node` has stored everything up to `index`."""
        return self.step(AppendReply(node, "1", self.core.term, index))

    def append(
        self, prev: tuple[int, int], terms: Sequence[int], *, term: int, commit: int = 0, leader: str = "2"
    ) -> list[Message]:
        """A leader's entries of these terms behind `prev`."""
        return self.step(Append(leader, "1", term, *prev, entries(terms, prev[0] + 1), commit))

    def beat(self, term: int, *, leader: str = "2", number: int = 1, commit: int = 0) -> list[Message]:
        """A leader's heartbeat."""
        return self.step(Heartbeat(leader, "1", term, commit, number))

    def answer_heartbeat(self, node: str) -> list[Message]:
        """`node` has heard the latest heartbeat."""
        latest = max(event.round for event in self.events if isinstance(event, Heartbeat) and event.to == node)
        return self.step(HeartbeatReply(node, "1", self.core.term, latest))
