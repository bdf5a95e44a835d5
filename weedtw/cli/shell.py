"""`weedtw shell`: looking after volumes, by commands that have the names of those of `weed shell`."""

import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from weedtw.cli.report import Report, drop_output, printable, say
from weedtw.cli.session import (
    FAILED,
    INTERRUPTED,
    PATIENCE,
    command,
    end_with,
    invoke,
    masters_option,
    option,
    react_with,
)
from weedtw.errors import WeedError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from weedtw.cli.shell_session import Session

_HISTORY: Final = os.path.join("~", ".weedtw_history")
_MOST_HISTORY: Final = 1000  # lines
_ENDS: Final = ("exit", "quit")
_ABOUT = """Look after volumes: list, repair, balance, move, delete, compare.

Without -c commands are read from the terminal, with completion and a history in ~/.weedtw_history, or line by line
from standard input. Type help for the commands, and help COMMAND for one of them. Ctrl-C ends the command that runs;
the same again goes on with it.

With -c the exit status is 1 when a command failed; those behind it are not run."""


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    return invoke(shell, "weedtw shell", arguments)


@command(_ABOUT)
@masters_option()
@option("text", "c", metavar="COMMANDS", default=None, help="Run these commands, with ; between them, and end.")
def shell(masters: str, text: str | None) -> int:
    """Run the reactor until the commands are done, or the person has had enough."""
    from twisted.internet.defer import CancelledError, Deferred
    from twisted.internet.task import deferLater

    from weedtw.cli.shell_commands import COMMANDS
    from weedtw.cli.shell_session import Session
    from weedtw.client import Client
    from weedtw.client.adminlock import AdminLock
    from weedtw.client.volumes import Volumes
    from weedtw.config.security import found

    report = Report("weedtw shell", bars=False)

    async def whole(reactor: Any) -> None:
        await deferLater(reactor, 0.0)
        try:
            addresses = masters.split(",")
            keys = found()
            volumes = Volumes.at(addresses, reactor, PATIENCE, keys)
            client = Client(addresses, reactor, patience=PATIENCE, security=keys)
            lock = AdminLock(
                volumes.masters, reactor, f"weedtw shell on {socket.gethostname()}, process {os.getpid()}"
            )
            session = Session(client, volumes, lock, report, COMMANDS, takes_lock=text is not None)
            try:
                await (_run_line(session, text) if text is not None else _converse(reactor, session))
            finally:
                await lock.release()
                await volumes.close()
                await client.close()
        except WeedError as error:
            report.failed("", str(error))
        except CancelledError:
            report.failed("", "interrupted; the same command again goes on")
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:  # `weedtw shell -c volume.list | head`: nobody reads the rest
            drop_output()
            raise SystemExit(FAILED) from None
        if report.failures and text is not None:
            raise SystemExit(FAILED)

    def start(reactor: Any) -> "Deferred[None]":
        running = Deferred.fromCoroutine(whole(reactor))
        if text is not None:
            end_with(reactor, running, signal.SIG_DFL)
        return running

    return react_with("weedtw shell", report, start)


def split_commands(text: str) -> list[list[str]]:
    """The words of each command of a line; raises ValueError for a quotation that does not end."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word and set(word) == {";"}:
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


async def _run_line(session: "Session", text: str) -> bool:
    """Run the commands of a line, up to the first that fails; whether the shell is to go on."""
    try:
        commands = split_commands(text)
    except ValueError as error:
        session.report.failed("", f"this cannot be read: {error}")
        return True
    for name, *words in commands:
        if name in _ENDS:
            return False
        before = session.report.failures
        try:
            await session.run(name, words)
        except WeedError as error:
            session.report.failed(name, str(error))
        if session.report.failures > before:
            break
    return True


# ------------------------------------------------------------------ with a person


async def _converse(reactor: Any, session: "Session") -> None:
    """Read a line, run it, and so on; Ctrl-C ends what runs, the end of input everything."""
    from twisted.internet.defer import CancelledError, Deferred

    running: list[Deferred[bool]] = []

    def interrupted(*_: object) -> None:
        if running:
            reactor.callFromThread(running[0].cancel)
        else:
            sys.stderr.write("\ntype exit, or Ctrl-D, to leave\n")

    signal.signal(signal.SIGINT, interrupted)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        _prepare_terminal(session.names())
        say("help tells what can be typed; changes need the lock (type lock)")
    while (line := await _typed(reactor, "> " if is_terminal else "")) is not None:
        running[:] = [Deferred.fromCoroutine(_run_line(session, line))]
        try:
            if not await running[0]:
                return
        except CancelledError:
            session.report.failed("", "interrupted; the same command again goes on")
        finally:
            running.clear()
    if is_terminal:
        say()


def _typed(reactor: Any, prompt: str) -> "Deferred[str | None]":
    """The next line, read in a thread of its own; None at the end."""
    from twisted.internet.defer import Deferred

    answer: Deferred[str | None] = Deferred()

    def read() -> None:
        try:
            line: str | None = input(prompt)
        except (EOFError, OSError):
            line = None
        reactor.callFromThread(answer.callback, line)

    threading.Thread(target=read, name="terminal", daemon=True).start()
    return answer


def _prepare_terminal(names: list[str]) -> None:
    """Completion by tabulator, and a history that is there again the next time."""
    try:
        import atexit
        import readline
    except ImportError:
        return  # a Python without it: lines can be typed all the same

    path = os.path.expanduser(_HISTORY)

    def complete(begun: str, number: int) -> str | None:
        fitting = [f"{name} " for name in names if name.startswith(begun)]
        return fitting[number] if number < len(fitting) else None

    def keep() -> None:
        try:
            readline.write_history_file(path)
        except OSError as error:
            sys.stderr.write(f"weedtw shell: {printable(path)}: {error.strerror or error}\n")

    readline.set_completer(complete)
    readline.set_completer_delims(" \t;")
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(_MOST_HISTORY)
    if os.path.exists(path):
        try:
            readline.read_history_file(path)
        except OSError as error:
            sys.stderr.write(f"weedtw shell: {printable(path)}: {error.strerror or error}\n")
    atexit.register(keep)
