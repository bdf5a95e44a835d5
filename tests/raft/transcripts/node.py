"""One node of a transcript: a `RaftCore` driven over a `MemoryStorage` as its contract asks, every step told."""

import random
from collections.abc import Callable

from tests.raft.transcripts import words
from tests.raft.transcripts.telling import Telling
from weedtw.errors import InvariantBroken, WeedError
from weedtw.raft.core import RaftCore, Ready, Settings
from weedtw.raft.messages import Entry, EntryKind, Message, Snapshot
from weedtw.raft.storage import MemoryStorage, StoredState, Update


class FixedTimeout(random.Random):
    """Draws the election timeout that the transcript names, and shorter waits after it."""

    def __init__(self, ticks: int, settings: Settings) -> None:
        super().__init__(0)
        self.settings = settings
        self.ticks = ticks

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """What the core adds to its shortest timeout; nodes that differ in it differ in shorter waits too."""
        extra = self.ticks - self.settings.election
        if start < self.settings.election:
            return extra % start
        if not 0 <= extra < start:
            raise ValueError(f"no election timeout can be {self.ticks} ticks")
        return extra


class Node:
    """Alive while it has a core; its storage outlives every core."""

    def __init__(self, name: str, settings: Settings, state: StoredState, timeout: int, telling: Telling) -> None:
        self.name = name
        self.settings = settings
        self.storage = MemoryStorage(state)
        self.timeout = FixedTimeout(timeout, settings)
        self.telling = telling
        self.core: RaftCore | None = None
        self.commands: list[str] = []  # the state machine: what has been applied
        self.slow = False  # saves take until the transcript says that they are done
        self.saving: Ready | None = None
        self.send: Callable[[Message], None]
        self.check_applied: Callable[[Entry], None]
        self._seen: tuple[object, ...] = ()
        self._commit = 0

    def start(self) -> None:
        """Begin a life from what is stored."""
        self.core = RaftCore(self.name, self.storage.load(), self.settings, self.timeout)
        self.commands, self.saving = [], None
        self._commit, self._seen = self.core.log.commit, self._state(self.core)
        self.input(lambda core: None)

    def crash(self) -> None:
        """Forget all that is not stored."""
        self.core, self.saving = None, None

    def input(self, action: Callable[[RaftCore], object]) -> None:
        """Let the core react to something, and do what it then asks for."""
        core = self.living()
        try:
            action(core)
        except InvariantBroken:
            raise
        except WeedError as error:
            self.telling.news(f"{self.name} refuses: {error}")
        self.pump()

    def living(self) -> RaftCore:
        """Its core; a transcript that asks something of a dead node is wrong."""
        if self.core is None:
            raise ValueError(f"{self.name} is down")
        return self.core

    def saved(self) -> None:
        """A slow save is done."""
        ready, self.saving = self.saving, None
        if ready is None:
            raise ValueError(f"{self.name} is not saving anything")
        self._finish(ready)
        self.pump()

    # ------------------------------------------------------------------ the contract of `RaftCore`

    def pump(self) -> None:
        """Urgent messages first, then every ready() as far as the disk allows."""
        core = self.living()
        self._tell_changes()
        for message in core.urgent():
            self.send(message)
        while self.saving is None and core.has_ready():
            ready = core.ready()
            if ready.update is not None and self.slow:
                self.saving = ready
                self.telling.detail(f"{self.name} starts to store {self._update(ready.update)}")
            else:
                self._finish(ready)

    def _finish(self, ready: Ready) -> None:
        core = self.living()
        if ready.update is not None:
            told = self._update(ready.update)
            self.storage.save(ready.update)
            self.telling.detail(f"{self.name} stores {told}")
        for message in ready.messages:
            self.send(message)
        if ready.snapshot is not None:
            self._restore(ready.snapshot)
        if ready.committed:
            self.telling.detail(f"{self.name} applies {words.entries(ready.committed)}")
        for entry in ready.committed:
            self.check_applied(entry)
            if entry.kind is EntryKind.COMMAND:
                self.commands.append(entry.data.decode())
        for read in ready.reads:
            self.telling.news(f"{self.name} may answer {read.token} at {read.index}: {self.state()}")
        for token in ready.failed_reads:
            self.telling.news(f"{self.name} cannot answer {token}")
        core.advance(ready)
        self._tell_changes()

    def state(self) -> str:
        """The state machine's content."""
        return ",".join(self.commands)

    def _restore(self, snapshot: Snapshot) -> None:
        self.telling.news(f"{self.name} restores {words.snapshot(snapshot)}")
        self.commands = snapshot.data.decode().split(",") if snapshot.data else []

    # ------------------------------------------------------------------ telling

    def _update(self, update: Update) -> str:
        """What of an update is news to the disk."""
        told = []
        before, now = self.storage.state.hard_state, update.hard_state
        if now is not None and (now.term, now.vote) != (before.term, before.vote):
            told.append(f"term {now.term} vote {now.vote or 'none'}")
        if update.snapshot is not None:
            told.append(words.snapshot(update.snapshot))
            told.append("nothing of the old log" if update.replaces_log else f"the log from {update.keep_from} on")
        if update.entries:
            told.append(words.entries(update.entries))
        return "; ".join(told)

    def _tell_changes(self) -> None:
        core = self.living()
        state = self._state(core)
        if state != self._seen:
            self._seen = state
            role, term, leader = state
            follows = f"follows {leader or 'nobody'} in term {term}"
            self.telling.news(f"{self.name} {follows if role == 'follower' else f'is {role} of term {term}'}")
        if core.log.commit != self._commit:
            self._commit = core.log.commit
            self.telling.detail(f"{self.name} commits up to {self._commit}")

    def _state(self, core: RaftCore) -> tuple[object, ...]:
        return core.role.name, core.term, core.leader
