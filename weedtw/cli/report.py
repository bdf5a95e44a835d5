"""Showing what a command does: lines or JSON for results, one line for each error, bars on a terminal."""

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import attrs

from weedtw.errors import StorageError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def printable(text: str) -> str:
    """One line that cannot disturb a terminal, whatever a server or a file name put into it."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


@attrs.define(eq=False)
class Bar:
    """The progress of one file; does nothing where there is no terminal."""

    _progress: "Progress | None"
    _task: Any

    def total(self, size: int | None) -> None:
        """Say how long the file is, in bytes; None when that is not known."""
        if self._progress is not None:
            self._progress.update(self._task, total=size)

    def moved(self, count: int) -> None:
        """So many bytes went over the wire; fewer than none when some have to go again."""
        if self._progress is not None:
            self._progress.advance(self._task, count)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.remove_task(self._task)


@attrs.define(eq=False)
class Report:
    """Where a command writes.  As a context it shows bars, if standard error is a terminal and `bars` is wanted."""

    program: str
    as_json: bool = False
    bars: bool = True
    failures: int = 0
    _progress: "Progress | None" = None

    def __enter__(self) -> Self:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names hold what no terminal of this locale can show
        if self.bars and sys.stderr.isatty():
            self._progress = _make_progress()
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def bar(self, name: str, size: int | None = None) -> Bar:
        """Begin to show a file's progress."""
        if self._progress is None:
            return Bar(None, None)
        return Bar(self._progress, self._progress.add_task("", name=printable(name), total=size))

    def result(self, line: str, **fields: object) -> None:
        """Show a result: `fields` as one line of JSON when that was asked for, else `line`."""
        self._write(json.dumps(fields) if self.as_json else printable(line), error=False)

    def failed(self, subject: str, reason: str, **fields: object) -> None:
        """Show an error of one line, and let the command fail in the end; `fields` go with it into JSON."""
        self.failures += 1
        if self.as_json and fields:
            self._write(json.dumps({**fields, "error": reason}), error=False)
        said = reason if not subject or reason.startswith(f"{subject}: ") else f"{subject}: {reason}"
        self._write(f"{self.program}: {printable(said)}", error=True)

    def warn(self, subject: str, what: str) -> None:
        """Show what somebody should know, and is no failure."""
        self._write(f"{self.program}: {printable(f'{subject}: {what}')}", error=True)

    def listen_to_log(self) -> None:
        """Show what the library logs at level warning and above on standard error."""
        from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
        from zope.interface import provider

        @provider(ILogObserver)
        def show(event: LogEvent) -> None:
            level = event.get("log_level")
            if level is None or level < LogLevel.warn:
                return
            said = formatEvent(event)
            if level < LogLevel.critical:
                said = printable(said)
            elif event.get("log_failure") is not None and "Traceback" not in said:
                said += "\n" + event["log_failure"].getTraceback()
            self._write(f"{self.program}: {said}", error=True)

        globalLogBeginner.beginLoggingTo([show], redirectStandardIO=False, discardBuffer=True)

    def _write(self, text: str, *, error: bool) -> None:
        stream = sys.stderr if error else sys.stdout
        if self._progress is not None and stream.isatty():
            from rich.text import Text

            self._progress.console.print(Text(text), soft_wrap=True)  # above the bars, which stay below
        elif error:
            print(text, file=stream, flush=True)
        else:
            say(text)


def say(text: str = "") -> None:
    """Print on standard output at once; raises StorageError when that cannot be written, BrokenPipeError unread."""
    with _on_output():
        print(text, flush=True)


@contextmanager
def _on_output() -> Iterator[None]:
    """Make StorageError of what standard output raises; what it did not take is dropped, or it would fail again."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise StorageError("standard output", error.strerror or str(error)) from error


def drop_output() -> None:
    """From now on what is printed on standard output goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(console: "Console", title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print aligned columns under a title; a column that begins with `#` holds numbers."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in columns:
        grid.add_column(column.lstrip("#"), justify="right" if column.startswith("#") else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    with _on_output(), console.capture() as captured:
        console.print(grid)
    say("\n".join(line.rstrip() for line in captured.get().splitlines()))


def wide_console() -> "Console":
    """A console on standard output: the terminal's width on one, else as wide as its lines are."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=1000)


def _make_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        """Bytes a second; rich's own column counts in units of 1000."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("?" if speed is None else f"{format_size(speed)}/s", style="progress.data.speed")

    return Progress(
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        Speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
