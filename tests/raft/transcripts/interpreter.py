"""Runs a transcript's commands; they are the functions of `events` and `requests`."""

from tests.raft.transcripts import events, requests  # noqa: F401 - importing them fills COMMANDS
from tests.raft.transcripts.cluster import Cluster
from tests.raft.transcripts.telling import Telling
from tests.raft.transcripts.vocabulary import COMMANDS


class Interpreter:
    """Runs one transcript's commands, one after the other."""

    def __init__(self) -> None:
        self.telling = Telling()
        self.cluster = Cluster(events.SHORT, self.telling)

    def run(self, line: str) -> list[str]:
        """Carry out one line; `quietly` before a command leaves out the details."""
        name, *arguments = line.split()
        self.telling.quiet = name == "quietly"
        if self.telling.quiet:
            name, *arguments = arguments
        if name not in COMMANDS:
            raise ValueError(f"there is no command {name!r}")
        COMMANDS[name](self.cluster, *arguments)
        self.cluster.check()
        return self.telling.taken()
