"""A cluster that is led through a scene by the commands of the transcripts, for tests that then look at its cores."""

from tests.raft.transcripts.interpreter import Interpreter
from weedtw.raft.core import RaftCore
from weedtw.raft.membership import Membership


class Stage:
    """Nodes 1 to `count`, voters; by default 1 leads them in term 1 and everybody is idle."""

    def __init__(self, count: int, *, led: bool = True) -> None:
        """Begin; without `led` nobody has been in any term."""
        self._interpreter = Interpreter()
        self.play(f"cluster {count}")
        if led:
            self.play("run 14")

    def play(self, *lines: str) -> list[str]:
        """Carry out these commands; what they told."""
        return [told for line in lines for told in self._interpreter.run(line)]

    def core(self, name: str) -> RaftCore:
        """A node's core."""
        return self._interpreter.cluster.node(name).living()

    def role(self, name: str) -> str:
        """What a node is."""
        return self.core(name).role.name

    def leaders(self) -> list[str]:
        """Who leads, in whatever term."""
        return [node.name for node in self._interpreter.cluster.living() if node.living().role.name == "leader"]

    def membership(self, name: str) -> Membership:
        """The one that a node goes by."""
        return self.core(name).log.membership

    def commit(self, name: str) -> int:
        """How far a node knows its log to be decided."""
        return self.core(name).log.commit

    def holds(self, name: str) -> str:
        """What a node's state machine was given."""
        return self._interpreter.cluster.node(name).state()
