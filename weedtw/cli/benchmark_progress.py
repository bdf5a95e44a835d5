"""How far a phase of a benchmark is: a bar on a terminal, else a line a second.  Both on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from rich.progress import Progress

_EVERY: Final = 1.0  # seconds between lines, as `weed benchmark` has it
_REDRAWN: Final = 0.2  # seconds between two states of the bar


@attrs.frozen
class Reading:
    """How far a phase is, at a moment of the clock in seconds."""

    at: float
    done: int  # requests that have ended, failed ones as well
    failed: int
    size: int  # bytes of content moved


def line(title: str, total: int, before: Reading, now: Reading) -> str:
    """What has become of a phase of `total` requests, and how fast it was since `before`."""
    failed = f", {now.failed} failed" if now.failed else ""
    return f"{title}: {now.done} of {total}, {100 * now.done / total:.1f}%, {pace(before, now)}{failed}"


def pace(before: Reading, now: Reading) -> str:
    """How fast it went between two readings."""
    seconds = max(now.at - before.at, 1e-6)
    return f"{(now.done - before.done) / seconds:.1f}/s, {format_size((now.size - before.size) / seconds)}/s"


@contextmanager
def shown(reactor: Any, title: str, total: int, read: Callable[[], Reading]) -> Iterator[None]:
    """Show how far a phase is for as long as the block runs; `read` tells."""
    from twisted.internet.task import LoopingCall

    before = read()
    if not sys.stderr.isatty():

        def tell() -> None:
            nonlocal before
            now = read()
            print(line(title, total, before, now), file=sys.stderr, flush=True)
            before = now

        yield from _while_called(reactor, LoopingCall(tell), _EVERY)
        return
    progress = _bar()
    task = progress.add_task("", total=total, name=title, pace="")

    def draw() -> None:
        nonlocal before
        now = read()
        failed = f", {now.failed} failed" if now.failed else ""
        if now.at - before.at >= _EVERY:
            progress.update(task, pace=pace(before, now) + failed)
            before = now
        progress.update(task, completed=now.done)

    with progress:
        yield from _while_called(reactor, LoopingCall(draw), _REDRAWN)


def _while_called(reactor: Any, call: Any, seconds: float) -> Iterator[None]:
    call.clock = reactor
    call.start(seconds, now=False).addErrback(lambda _: None)  # nobody is there to see it any more
    try:
        yield
    finally:
        if call.running:
            call.stop()


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
        redirect_stdout=False,  # that is where the figures go, afterwards
    )
