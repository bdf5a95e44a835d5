"""What the commands for files have in common: their options, the reactor, and how results are shown.

Results go to standard output, one line each; errors and progress to standard error.  The exit status is 0 only
when everything succeeded, 1 when something failed, 2 when the command line made no sense, 130 after Ctrl-C.
"""

import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from weedtw import __version__
from weedtw.cli.report import Report, drop_output, printable, say
from weedtw.cli.spelling import Switch, misuse, plain
from weedtw.errors import StorageError, WeedError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from weedtw.client import Client

FAILED: Final = 1
INTERRUPTED: Final = 130
FILES_AT_ONCE: Final = 4
PATIENCE: Final = 15.0  # seconds; longer than a new leader takes, shorter than a person waits for a prompt
HELP_SETTINGS: Final = {"help_option_names": ["--help", "-help", "-h"]}
_FAREWELL: Final = 5.0  # seconds after Ctrl-C in which what was begun may be undone

T = TypeVar("T")
Work = Callable[["Client", Report], Awaitable[None]]
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def command(about: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command with a help text; `-h` and `-help` ask for it too, and `--version` for the version."""

    def make(function: Callable[..., Any]) -> click.Command:
        made = click.command(help=about, context_settings=HELP_SETTINGS)(function)
        made.params.append(version_option())
        return made

    return make


def version_option() -> click.Option:
    """`--version`, which every command takes."""

    def tell(context: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked:
            say(f"weedtw {__version__}")
            context.exit()

    return click.Option(
        ["--version", "-version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=tell,
        help="Print the version and end.",
    )


def option(parameter: str, *names: str, **settings: Any) -> _Decorator:
    """An option that may be written `--name value`, `--name=value` and, as Go has it, `-name value`."""
    spelt = [spelling for name in names for spelling in (f"--{name}", f"-{name}")]
    return click.option(*spelt, parameter, **settings)


def switch(parameter: str, name: str, text: str, *, default: bool = False) -> _Decorator:
    """A flag that can be turned off as well, as Go has it: `-write=false`."""
    return option(parameter, name, type=Switch(), default=default, show_default=True, metavar="true|false", help=text)


def masters_option(*others: str) -> _Decorator:
    """`--master`, under other names too."""
    return option(
        "masters",
        "master",
        *others,
        default="localhost:9333",
        show_default=True,
        metavar="HOST:PORT,...",
        help="Addresses of masters, with commas between them; one that works is enough.",
    )


def json_option(text: str) -> _Decorator:
    """`--json`."""
    return option("as_json", "json", is_flag=True, help=text)


def invoke(made: click.Command, program: str, arguments: Sequence[str]) -> int:
    """Run a click command with these words; the exit status.  A misuse is one line on standard error."""
    try:
        status = made.main(plain(arguments, made), prog_name=program, standalone_mode=False)
    except click.ClickException as error:
        print(f"{program}: {printable(misuse(error))} See {program} --help.", file=sys.stderr)
        return error.exit_code
    return int(status or 0)


def run(program: str, masters: str, report: Report, work: Work, **settings: Any) -> int:
    """Run the reactor until `work` is done; the exit status.  `settings` are those of Client."""
    from twisted.internet.defer import CancelledError, Deferred
    from twisted.internet.task import deferLater

    from weedtw.client import Client
    from weedtw.config.security import found

    async def whole(reactor: Any) -> None:
        await deferLater(reactor, 0.0)  # the reactor minds signals from here on
        try:
            keys = found()
            client = Client(masters.split(","), reactor, patience=PATIENCE, security=keys, **settings)
            try:
                await work(client, report)
            finally:
                await client.close()
        except WeedError as error:
            report.failed("", str(error))
        except CancelledError:
            report.failed("", "interrupted")
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:  # `weedtw upload … | head`: nobody reads the results any more
            drop_output()
            raise SystemExit(FAILED) from None
        if report.failures:
            raise SystemExit(FAILED)

    def main(reactor: Any) -> "Deferred[None]":
        running = Deferred.fromCoroutine(whole(reactor))
        end_with(reactor, running, signal.SIG_DFL)
        return running

    return react_with(program, report, main)


def react_with(program: str, report: Report, main: "Callable[[Any], Deferred[None]]") -> int:
    """Run the reactor until what `main` returns has fired; the exit status."""
    from twisted.internet.task import react

    report.listen_to_log()
    try:
        with report:
            react(main)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    except KeyboardInterrupt:  # before the reactor ran
        return INTERRUPTED
    raise AssertionError(f"{program}: the reactor ended without a status")


def end_with(reactor: Any, running: Any, again: signal.Handlers) -> None:
    """When a signal ends the reactor, cancel `running` and give it time to undo what it had begun.

    `again` is what a second Ctrl-C does from then on.
    """
    from twisted.internet.defer import Deferred

    ended: Deferred[None] = Deferred()

    def over(result: object) -> object:
        if not ended.called:
            ended.callback(None)
        return result

    def shut_down() -> "Deferred[None] | None":
        if ended.called:
            return None
        signal.signal(signal.SIGINT, again)
        reactor.callLater(_FAREWELL, over, None)
        running.cancel()
        return ended

    running.addBoth(over)
    reactor.addSystemEventTrigger("before", "shutdown", shut_down)


async def in_order(
    items: Iterable[T], work: Callable[[T], Awaitable[Callable[[], None]]], at_once: int = FILES_AT_ONCE
) -> None:
    """Await `work` of every item, several at a time, and call what each returns in the order of the items.

    When results cannot be shown any more (nobody reads them, or the disk that takes them is full) nothing new is
    begun, but what is under way comes to its end before the error is raised: cancelled, it would leave halves behind
    that then have to be deleted.
    """
    from weedtw.client.gather import each

    finished: dict[int, Callable[[], None]] = {}
    shown = 0
    unread: BrokenPipeError | StorageError | None = None

    async def one(numbered: tuple[int, T]) -> None:
        nonlocal shown, unread
        index, item = numbered
        if unread is not None:
            return
        finished[index] = await work(item)
        try:
            while shown in finished and unread is None:
                finished.pop(shown)()
                shown += 1
        except (BrokenPipeError, StorageError) as error:
            unread = error

    await each(enumerate(items), one, at_once)
    if unread is not None:
        raise unread
