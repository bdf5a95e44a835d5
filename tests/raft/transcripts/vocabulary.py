"""How commands are named, and how they name nodes and messages.

NODES is one name, several with commas, or `all` (all that run).  SELECTION is `1->2`, `1->`, `->2` or nothing, then a
kind of message (the first word of its description) or nothing.
"""

from collections.abc import Callable

from tests.raft.transcripts import words
from tests.raft.transcripts.cluster import Cluster, Selection
from tests.raft.transcripts.node import Node
from weedtw.raft.messages import Message

Command = Callable[..., None]
COMMANDS: dict[str, Command] = {}


def command(function: Command) -> Command:
    """Let transcripts call it, by its name with `-` for `_`."""
    COMMANDS[function.__name__.replace("_", "-")] = function
    return function


def chosen(cluster: Cluster, nodes: str) -> list[Node]:
    """The nodes that NODES names."""
    return cluster.living() if nodes == "all" else [cluster.node(name) for name in nodes.split(",")]


def selection(arguments: tuple[str, ...]) -> Selection:
    """Whether a message is one that SELECTION names."""
    sender, receiver, kind = "", "", ""
    for argument in arguments:
        if "->" in argument:
            sender, receiver = argument.split("->")
        else:
            kind = argument

    def selected(message: Message) -> bool:
        return (
            message.sender == (sender or message.sender)
            and message.to == (receiver or message.to)
            and words.message(message).split()[0] == (kind or words.message(message).split()[0])
        )

    return selected
