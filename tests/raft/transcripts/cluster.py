"""The nodes of a transcript and the network between them, in which a message moves only when it is told to."""

from collections.abc import Callable

from tests.raft.transcripts import words
from tests.raft.transcripts.node import Node
from tests.raft.transcripts.telling import Telling
from weedtw.raft.core import Settings
from weedtw.raft.leader import Leader
from weedtw.raft.messages import Entry, Message
from weedtw.raft.storage import StoredState

Selection = Callable[[Message], bool]


class Cluster:
    """Nodes by name.  However a transcript goes, two of Raft's promises are checked after every step."""

    def __init__(self, settings: Settings, telling: Telling) -> None:
        self.telling = telling
        self.begin(settings)

    def begin(self, settings: Settings) -> None:
        """Forget everything: another cluster."""
        self.settings = settings
        self.nodes: dict[str, Node] = {}
        self.flying: list[Message] = []  # oldest first
        self.cuts: set[tuple[str, str]] = set()  # (from, to)
        self._leaders: dict[int, str] = {}  # term -> who led it
        self._decided: dict[int, Entry] = {}  # index -> what was applied there first

    def add(self, name: str, state: StoredState, timeout: int) -> Node:
        """A node that is not started yet."""
        node = self.nodes[name] = Node(name, self.settings, state, timeout, self.telling)
        node.send = self._send
        node.check_applied = self._check_applied
        return node

    def node(self, name: str) -> Node:
        """By its name, which the transcript must have introduced."""
        if name not in self.nodes:
            raise ValueError(f"there is no node {name}")
        return self.nodes[name]

    def living(self) -> list[Node]:
        """The nodes that run, in order."""
        return [node for _, node in sorted(self.nodes.items()) if node.core is not None]

    # ------------------------------------------------------------------ messages

    def _send(self, message: Message) -> None:
        lost = (message.sender, message.to) in self.cuts
        arrow = "-x" if lost else "->"
        self.telling.detail(f"{message.sender} {arrow} {message.to} {words.message(message)}")
        if not lost:
            self.flying.append(message)

    def deliver(self, selection: Selection) -> None:
        """What is in flight now and selected arrives; what is sent in answer does not yet."""
        chosen = [message for message in self.flying if selection(message)]
        self.flying = [message for message in self.flying if not selection(message)]
        for message in chosen:
            self._arrive(message)

    def settle(self) -> None:
        """Deliver until nothing is in flight any more."""
        deliveries = 0
        while self.flying:
            self._arrive(self.flying.pop(0))
            deliveries += 1
            if deliveries > 10_000:
                raise ValueError("the cluster never comes to rest")

    def _arrive(self, message: Message) -> None:
        node = self.nodes.get(message.to)
        told = f"{message.to} <- {message.sender} {words.message(message)}"
        if node is None or node.core is None:
            self.telling.detail(f"{told}, but nobody is there")
            return
        self.telling.detail(told)
        node.input(lambda core: core.step(message))
        self.check()

    def drop(self, selection: Selection) -> None:
        """What is in flight and selected is lost."""
        for message in self.flying:
            if selection(message):
                self.telling.detail(f"{message.sender} -x {message.to} {words.message(message)}")
        self.flying = [message for message in self.flying if not selection(message)]

    def cut(self, links: set[tuple[str, str]]) -> None:
        """Nothing comes through these any more, not even what is under way."""
        self.cuts |= links
        self.drop(lambda message: (message.sender, message.to) in links)

    # ------------------------------------------------------------------ promises

    def check(self) -> None:
        """One leader a term (Raft paper, figure 3)."""
        for node in self.living():
            core = node.living()
            if isinstance(core.role, Leader) and self._leaders.setdefault(core.term, node.name) != node.name:
                raise AssertionError(f"{node.name} and {self._leaders[core.term]} both led term {core.term}")

    def _check_applied(self, entry: Entry) -> None:
        """Nobody applies another entry at an index (Raft paper, figure 3)."""
        decided = self._decided.setdefault(entry.index, entry)
        if decided != entry:
            raise AssertionError(f"{words.entry(entry)} was applied, and {words.entry(decided)} elsewhere")
