"""The form of a transcript: blocks of commands and the output that is expected of them.

    # Comments stand before commands.
    tick 1 10
    deliver
    ----
    > tick 1 10
    1 is pre-candidate of term 0
    …

A block ends with an empty line; `ok` stands for no output.  With several commands, each one's output stands under it.
"""

import attrs

from tests.raft.transcripts.interpreter import Interpreter

RULE = "----"


@attrs.frozen
class Block:
    """Comments, then commands and their output, if any."""

    line: int  # of its beginning, from 1
    comments: list[str]
    commands: list[str]


class BrokenTranscriptError(Exception):
    """A command that could not be carried out; says where it stands."""


def parse(text: str) -> list[Block]:
    """The blocks of a transcript, without their output."""
    blocks: list[Block] = []
    block: Block | None = None
    in_output = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            block, in_output = None, False
        elif in_output:
            continue
        else:
            if block is None:
                block = Block(number, [], [])
                blocks.append(block)
            if line == RULE:
                in_output = True
            elif line.startswith("#"):
                block.comments.append(line)
            else:
                block.commands.append(line)
    return blocks


def replay(text: str) -> str:
    """The transcript as it turns out now."""
    interpreter = Interpreter()
    pieces = []
    for block in parse(text):
        lines = [*block.comments]
        if block.commands:
            lines += [*block.commands, RULE]
            lines += _outcome(interpreter, block) or ["ok"]
        pieces.append("\n".join(lines) + "\n")
    return "\n".join(pieces)


def _outcome(interpreter: Interpreter, block: Block) -> list[str]:
    outcome: list[str] = []
    for command in block.commands:
        try:
            output = interpreter.run(command)
        except Exception as error:
            raise BrokenTranscriptError(f"block at line {block.line}: {command}: {error!r}") from error
        if output and len(block.commands) > 1:
            outcome.append(f"> {command}")
        outcome += output
    return outcome
