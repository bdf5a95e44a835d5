"""docs/operations.md is typed again: the commands of its `console` blocks, in their order, in one shell.

What comes is compared with what the document shows.  Where that is another each time (ids, times, sizes, process
numbers, the width of a table's columns) both are brought into one form first; `…` in the document is whatever
stands there, and a line with nothing else is any number of lines.  Commands that only look are repeated until they
show what is expected, as a person does; the others are typed once.  The ports are replaced by free ones.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.cluster.masters import TYPED, Scratch
from tests.cluster.processes import LIMIT, wait_until

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "operations.md"
TOOLS = ("bash", "curl", "dd", "prlimit", "sqlite3", "tail")
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LOOKS = re.compile(
    r"curl -s (?!.*-X )|grep|(?:for .*; do )?weedtw (?:cluster )?status|"
    r"weedtw shell (?!.*(?:-apply|volume\.move|volume\.delete|volume\.mark|volume\.vacuum))"
)
_VARIES = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+Z|\+\d{4})"), "TIME"),
    (re.compile(r"\b(\d+),[0-9a-f]{9,}\b"), r"\1,FID"),
    (re.compile(r"^[0-9a-f]{8}(?= +\S+:\d+ )", re.MULTILINE), "NODE"),
    (re.compile(r"\b\d+\.\d s ago"), "AGO"),
    (re.compile(r"(?<= )\d+/\d+(?= |$)", re.MULTILINE), "LOG"),
    (re.compile(r"\bterm \d+"), "TERM"),
    (re.compile(r"(\b(?:leader|follower|candidate|stopped|no member)) +\d+ "), r"\1 TERM "),
    (re.compile(r"\b\d+(\.\d+)? (B|KiB|MiB|GiB|TiB)\b"), "SIZE"),
    (re.compile(r"\(\d+ bytes\)"), "BYTES"),
    (re.compile(r"\bprocess \d+"), "PROCESS"),
    (re.compile(r"weedtw \d[\w.+]*"), "VERSION"),
    (re.compile(r"^ +\S+ of \S+ \(\d+%\)\n", re.MULTILINE), ""),  # how far a copy has come, on a slow machine
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" +$", re.MULTILINE), ""),
)


@attrs.frozen
class Typed:
    """One command, and what the document shows of its answer."""

    line: int  # of the document
    command: str
    answer: str


def commands(text: str) -> Iterator[Typed]:
    """What the console blocks of a document hold, in order."""
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1)) + 1
        found: list[list[str]] = []
        begins: list[int] = []
        for number, line in enumerate(block[1].splitlines(), first):
            if line.startswith("$ "):
                found.append([line[2:]])
                begins.append(number)
            else:
                assert found, f"{DOCUMENT.name}:{number}: a console block begins with a command"
                found[-1].append(line)
        for number, (command, *answer) in zip(begins, found, strict=True):
            yield Typed(number, command, "\n".join(answer))


def in_one_form(text: str) -> str:
    """A text without what is another each time."""
    for pattern, instead in _VARIES:
        text = pattern.sub(instead, text)
    return text.strip("\n")


def is_as_shown(came: str, shown: str) -> bool:
    """Whether an answer is the one of the document."""
    parts: list[str] = []
    for line in in_one_form(shown).split("\n"):
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(map(re.escape, line.split("…"))) + "\n")
    return re.fullmatch("".join(parts), in_one_form(came) + "\n") is not None


@attrs.define(eq=False)
class Shell:
    """A shell in a scratch folder, in which the ports of the document are other ones."""

    scratch: Scratch
    process: "subprocess.Popen[str]" = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        folder = str(self.scratch.folder)
        self.process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "PATH": path, "HOME": folder, "COLUMNS": "100", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )

    def type(self, command: str) -> str:
        """Type a command; what it says, with the ports of the document."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        end = "--- this was all ---"
        self.process.stdin.write(f"{self.scratch.line(command)}\necho; echo '{end}'\n")
        self.process.stdin.flush()
        watch = threading.Timer(2 * LIMIT, self.end)  # a command that does not end ends the shell
        watch.start()
        said: list[str] = []
        for line in self.process.stdout:
            if line == f"{end}\n":
                watch.cancel()
                return self._as_typed("".join(said).rstrip("\n"))
            said.append(line)
        watch.cancel()
        raise AssertionError(f"the shell has ended at {command}:\n{''.join(said)}")

    def _as_typed(self, text: str) -> str:
        for first in TYPED:
            for number in range(int(first), int(first) + 10):
                text = re.sub(rf"\b{self.scratch.port(number)}\b", str(number), text)
        return text

    def end(self) -> None:
        """Kill the shell, and what it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"types {', '.join(TOOLS)}")
def test_everything_that_is_typed_answers_as_the_document_shows(scratch: Scratch) -> None:
    shell = Shell(scratch)
    typed = list(commands(DOCUMENT.read_text(encoding="utf-8")))
    assert len(typed) > 50
    try:
        for each in typed:
            came = [shell.type(each.command)]
            sys.stdout.write(f"$ {each.command}\n{came[0]}\n")  # pytest shows it when the test fails

            def matches(each: Typed = each, came: list[str] = came) -> bool:
                if is_as_shown(came[-1], each.answer):
                    return True
                came.append(shell.type(each.command))
                return False

            if is_as_shown(came[-1], each.answer):
                continue
            told = f"{DOCUMENT.name}:{each.line}: {each.command}"
            assert _LOOKS.match(each.command), f"{told} says\n{came[-1]}\nand not\n{each.answer}"
            try:
                wait_until(matches, told, limit=LIMIT / 10)  # each look takes its time as well
            except AssertionError as error:
                raise AssertionError(f"{error}\nit says\n{came[-1]}\nand not\n{each.answer}") from None
    finally:
        shell.end()


def test_each_alert_has_a_section_with_something_to_type() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rules = (ROOT / "etc" / "alerts.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(alerts) > 5
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE))
    for alert in alerts:
        assert alert in sections, f"{alert} has a section"
        assert f'runbook: "docs/operations.md#{alert.lower()}"\n' in rules, f"{alert} leads to its section"
        assert _BLOCK.search(sections[alert]), f"the section of {alert} has something to type"
    told = {name for name in sections if name.startswith("Weedtw")}
    assert told == set(alerts), "no section is of an alert that there is not"


def test_what_is_typed_stands_in_blocks_that_are_run_or_are_said_not_to_be() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    kinds = set(re.findall(r"^```(\w*)\n(?=.)", text, re.MULTILINE)) - {""}
    assert kinds <= {"console", "sh", "text", "toml"}
    assert "blocks of `sh`" in " ".join(text.split()), "it says which are not run"
    for each in re.findall(r"^```(?:sh|text|toml)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        assert not re.search(r"^\$ ", each, re.MULTILINE), f"this looks as if it was run:\n{each}"


def test_what_varies_is_compared_in_one_form() -> None:
    assert is_as_shown(
        "NODE   ADDRESS\n0a408e56  h:1  leader  12  9/9", "NODE ADDRESS\nffffffff  h:1  leader  1  8/10"
    )
    assert is_as_shown("1,0187f40212 of 3.2 KiB", "1,01aaaaaaaa of 17 B")
    assert is_as_shown("first\nsecond\nlast", "first\n…\nlast")
    assert is_as_shown("first\nlast", "first\n…\nlast")
    assert is_as_shown("it took 3 s", "it took … s")
    assert is_as_shown("", "")
    assert not is_as_shown("2 files", "3 files")
    assert not is_as_shown("first\nsecond", "first")
    assert not is_as_shown("something", "")
    assert [each.command for each in commands("```console\n$ a\nb\n$ c\n```\n```sh\nd\n```\n")] == ["a", "c"]
