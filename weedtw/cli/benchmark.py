"""`weedtw benchmark`: write many small files, read them, and say how fast that was."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from weedtw.cli.report import Report, say
from weedtw.cli.session import command, invoke, json_option, masters_option, option, run, switch
from weedtw.errors import BadRequest, WeedError

if TYPE_CHECKING:
    from weedtw.cli.benchmark_files import Ids
    from weedtw.cli.benchmark_load import Load
    from weedtw.client import Client, Placement

_LARGEST: Final = 32 * 1024 * 1024  # bytes; a file is held in memory, as many times as requests are under way
_ABOUT = """Write many small files, read as many of them at random, and print rates and percentiles.

The options are those of SeaweedFS's benchmark. A write is what it is for a client: an id is asked for, then the
file is stored. What is read is compared with what was written. The files stay, in a collection of their own, unless
--cleanup is given. Ctrl-C ends it and prints what was measured so far. The exit status is 1 when any request
failed.

This program is one process: where it keeps a processor busy, several of them at once, on other machines if
possible, show what the servers can do."""


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    return invoke(benchmark, "weedtw benchmark", arguments)


@attrs.frozen
class Plan:
    """What to do."""

    at_once: int
    total: int
    size: int  # bytes
    collection: str
    replication: str
    write: bool
    read: bool
    write_only: bool
    read_only: bool
    in_order: bool
    check: bool
    delete_percent: int
    list_path: str
    fsync: bool
    cleanup: bool

    @property
    def writes(self) -> bool:
        """Whether files are written."""
        return self.write and not self.read_only

    @property
    def reads(self) -> bool:
        """Whether files are read."""
        return self.read and not self.write_only

    def mistake(self) -> str:
        """What makes no sense about it; "" when all does."""
        if not (self.writes or self.reads):
            return "Nothing is left to do: neither writes nor reads."
        if not self.writes and not self.list_path:
            return "Reading alone needs the ids of the files: name the file they are in with --list."
        if not self.writes and (self.cleanup or self.delete_percent):
            return "--cleanup and --deletePercent go with writing."
        if self.cleanup and not self.collection:
            return "--cleanup needs a --collection, for it deletes all of it."
        return ""

    def said(self) -> str:
        """What figures have to be read with."""
        where = f"collection {self.collection or '(default)'}, replication {self.replication or '(default)'}"
        return f"{self.total} files of {self.size} bytes and up to 63 more, {self.at_once} at a time, {where}"


@command(_ABOUT)
@masters_option()
@option(
    "at_once",
    "c",
    type=click.IntRange(1, 10_000),
    default=16,
    show_default=True,
    metavar="COUNT",
    help="Requests at a time.",
)
@option(
    "total",
    "n",
    type=click.IntRange(1),
    default=1024 * 1024,
    show_default=True,
    metavar="COUNT",
    help="Files to write, and then to read, in all.",
)
@option(
    "size",
    "size",
    type=click.IntRange(1, _LARGEST),
    default=1024,
    show_default=True,
    metavar="BYTES",
    help="Size of a file; each has up to 63 bytes more.",
)
@option("collection", "collection", default="benchmark", show_default=True, help="Collection to write to.")
@option("replication", "replication", default="000", show_default=True, help="Copies, such as 001.")
@switch("write", "write", "Write files.", default=True)
@switch("read", "read", "Read files.", default=True)
@switch("write_only", "writeOnly", "The same as --read=false.")
@switch("read_only", "readOnly", "The same as --write=false.")
@switch("in_order", "readSequentially", "Read in the order of the ids, not at random.")
@switch("check", "check", "Compare what is read with what was written; off for files of others.", default=True)
@option(
    "delete_percent",
    "deletePercent",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    metavar="PERCENT",
    help="Delete so many of a hundred files as soon as they are written.",
)
@option(
    "list_path", "list", default="", metavar="FILE", help="Write the ids to this file; read from it without writes."
)
@switch("fsync", "fsync", "Have every file on the disk before its write is answered.")
@switch("cleanup", "cleanup", "Delete the collection at the end, if it was not there before.")
@option("public", "usePublicUrl", is_flag=True, help="Address volume servers by their public addresses.")
@json_option("Print one JSON object per phase; times in milliseconds.")
def benchmark(masters: str, public: bool, as_json: bool, **words: Any) -> int:
    """Check what can be checked without a server, then begin."""
    from weedtw.cli.benchmark_files import Ids, read_list
    from weedtw.client import Placement

    plan = Plan(**words)
    if mistake := plan.mistake():
        raise click.UsageError(mistake)
    try:
        placement = Placement(plan.collection, plan.replication)
        ids = Ids() if plan.writes else read_list(plan.list_path)
    except WeedError as error:
        raise click.UsageError(f"{error}.") from error
    if not plan.writes and not ids:
        raise click.UsageError(f"{plan.list_path}: no ids are in it.")

    async def work(client: "Client", report: Report) -> None:
        await _work(client, report, plan, placement, ids, public)

    return run("weedtw benchmark", masters, Report("weedtw benchmark", as_json, bars=False), work, public=public)


async def _work(
    client: "Client", report: Report, plan: Plan, placement: "Placement", ids: "Ids", public: bool
) -> None:
    """Connect, do what is planned, and clean up."""
    from twisted.internet import reactor

    from weedtw.cli.benchmark_files import Contents
    from weedtw.cli.benchmark_load import Load, connections

    hops = connections(reactor, plan.at_once)
    load = Load(client, hops, placement, Contents(plan.size), plan.check, public, plan.fsync)
    try:
        was_there = await load.begin()
        if plan.cleanup and was_there:
            raise BadRequest(f"the collection {plan.collection} has volumes already: --cleanup would delete them")
        if not report.as_json:
            say(plan.said())
        try:
            await _phases(load, report, plan, ids, reactor)
        finally:
            if plan.cleanup:
                await load.drop_collection()
    finally:
        await hops.close()


async def _phases(load: "Load", report: Report, plan: Plan, ids: "Ids", reactor: Any) -> None:
    from weedtw.cli.benchmark_phases import Phases

    phases = Phases(
        load, reactor, time.perf_counter, report, plan.total, plan.at_once, plan.delete_percent, plan.in_order
    )
    if plan.writes:
        ids = await phases.write(plan.list_path)
    if plan.reads and ids:
        await phases.read(ids)
    elif plan.reads:
        report.failed("reads", "no file is there that could be read")
