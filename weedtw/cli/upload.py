"""`weedtw upload`: store files, whole folders if wanted, or standard input; what is large goes in chunks."""

import fnmatch
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

import click

from weedtw.cli.report import Report
from weedtw.cli.session import command, in_order, invoke, json_option, masters_option, option, run
from weedtw.errors import StorageError, WeedError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client, Placement

_MB = 1024 * 1024
_ABOUT = """Store files and print their ids.

Each FILE is stored under an id of its own. A file larger than --maxMB is stored in chunks, and the id printed
is that of the whole. With --dir, all files under a folder are stored, those whose names match --include. The
FILE - is standard input: it may be a pipe, is stored as it comes in, and under no name unless --name gives one."""
_INPUT = "-"


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    return invoke(upload, "weedtw upload", arguments)


@command(_ABOUT)
@click.argument("files", nargs=-1, metavar="FILE...")
@masters_option()
@option("collection", "collection", default="", help="Collection to store the files in.")
@option("replication", "replication", default="", help="Copies, such as 001; the master's default otherwise.")
@option("ttl", "ttl", default="", help="Time to live: 3m, 4h, 5d, 6w, 7M or 8y; for ever otherwise.")
@option(
    "max_mb",
    "maxMB",
    type=click.IntRange(0, 1024 * 1024),
    default=4,
    show_default=True,
    metavar="MB",
    help="Split files larger than this; 0 splits none.",
)
@option("folder", "dir", default="", metavar="FOLDER", help="Store all files under this folder.")
@option(
    "include",
    "include",
    multiple=True,
    metavar="PATTERN",
    help="With --dir: only names like this, such as '*.pdf'; may be given more than once.",
)
@option("name", "name", default="", help="For standard input: the name to store it under.")
@option("data_center", "dataCenter", default="", help="Data center for the first copy.")
@option("public", "usePublicUrl", is_flag=True, help="Address volume servers by their public addresses.")
@json_option("Print one JSON object per file: fileName, url, fid, size.")
def upload(
    files: tuple[str, ...],
    masters: str,
    collection: str,
    replication: str,
    ttl: str,
    max_mb: int,
    folder: str,
    include: tuple[str, ...],
    name: str,
    data_center: str,
    public: bool,
    as_json: bool,
) -> int:
    """Check what can be checked without a server, then store."""
    if not files and not folder:
        raise click.UsageError("Name at least one FILE, or a folder with --dir.")
    if include and not folder:
        raise click.UsageError("--include goes with --dir.")
    if files.count(_INPUT) > 1:
        raise click.UsageError("Standard input can be stored once.")
    if name and _INPUT not in files:
        raise click.UsageError("--name goes with the FILE -, which is standard input; other files have a name.")
    from weedtw.client import Placement

    report = Report("weedtw upload", as_json)
    try:
        placement = Placement(collection, replication, ttl, data_center)
    except WeedError as error:
        raise click.UsageError(f"{error}.") from error

    async def work(client: "Client", report: Report) -> None:
        async def store(path: str) -> Callable[[], None]:
            called = name if path == _INPUT else os.path.basename(path)
            return await _store(client, report, path, called, placement, max_mb * _MB)

        await in_order(_paths(files, folder, include, report), store)

    return run("weedtw upload", masters, report, work, public=public)


async def _store(
    client: "Client", report: Report, path: str, name: str, placement: "Placement", max_bytes: int
) -> Callable[[], None]:
    """Store one file; return what shows the outcome."""
    subject = "standard input" if path == _INPUT else path
    bar = report.bar(name or subject, None if path == _INPUT else _size(path))
    try:
        content = _standard_input() if path == _INPUT else path
        stored = await client.upload(content, name=name, placement=placement, max_bytes=max_bytes, progress=bar.moved)
    except WeedError as error:
        said = str(error)
        return lambda: report.failed(subject, said, fileName=name)
    finally:
        bar.close()
    url = f"{stored.url}/{stored.fid}"
    chunks = f", {len(stored.chunks)} chunks" if stored.chunks else ""
    return lambda: report.result(
        f"{stored.fid}  http://{url}  {name or _INPUT}  ({format_size(stored.size)}{chunks})",
        fileName=name,
        url=url,
        fid=str(stored.fid),
        size=stored.size,
    )


def _standard_input() -> BinaryIO:
    """Standard input without a buffer: a thread that waits in one keeps the interpreter from ending in good order."""
    if sys.stdin is None:  # it was closed, and its number stands for something of ours by now
        raise StorageError("standard input", "is closed")
    try:
        return open(0, "rb", buffering=0, closefd=False)
    except OSError as error:
        raise StorageError("standard input", error.strerror or str(error)) from error


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return None  # the upload says what is wrong


def _paths(files: tuple[str, ...], folder: str, include: tuple[str, ...], report: Report) -> Iterator[str]:
    """The files named, then those found, in order of their names; folders that cannot be read are reported."""
    yield from files
    if not folder:
        return
    if not os.path.isdir(folder):
        report.failed(folder, "is not a folder", fileName=folder)
        return

    def unreadable(error: OSError) -> None:
        report.failed(str(error.filename), error.strerror or "cannot be read", fileName=str(error.filename))

    for inside, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted(names):
            if not include or any(fnmatch.fnmatchcase(name, pattern) for pattern in include):
                yield os.path.join(inside, name)
