"""`weedtw verify`: is everything in a folder as it was written?"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from weedtw.cli.folders import carry_out, chosen, is_served, miss_nothing, now_ns, volume_options
from weedtw.cli.report import Report, printable, say, table, wide_console
from weedtw.cli.session import command, invoke, json_option
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.storage.audit import Audited
    from weedtw.storage.names import VolumeFiles

_ABOUT = """Read every file in a folder of volumes and check it.

Each record must be whole and have the checksum that was written with it, and the index must lead to the last record
of each file. Nothing is changed. The exit status is 1 when something is not as it should be.

A volume server may run meanwhile; what it writes just then may look like damage."""

_COLUMNS = ("VOLUME", "#VERSION", "#SIZE", "#FILES", "#DELETED", "FOUND")
_AT_ONCE = 4


@command(_ABOUT)
@click.argument("folder", default=".", metavar="[FOLDER|FILE.dat]")
@volume_options()
@json_option("Print everything as one JSON object.")
def verify(folder: str, volume_id: int | None, collection: str | None, as_json: bool) -> int:
    """Check and print."""
    report = Report("weedtw verify", as_json)

    def work() -> None:
        volumes = chosen(folder, collection, volume_id)
        if not (collection or volume_id):
            miss_nothing(report, folder, volumes)
        if served := is_served(folder):
            report.warn(folder, f"{served}; what is being written now may look like damage")
        found = _audit_all(report, volumes)
        show(report, found)
        for one in found:
            if not one.is_sound:
                report.failed(*_verdict(one))

    return carry_out(report, work)


def _verdict(one: "Audited") -> tuple[str, str]:
    count = len(one.findings) + one.untold
    if all(finding.path == one.files.idx for finding in one.findings):
        return one.files.idx, f"the index is wrong ({count} in all); weedtw fix makes it anew from the data"
    return one.files.dat, f"damaged, or its index is wrong ({count} in all)"


def _audit_all(report: Report, volumes: "Sequence[VolumeFiles]") -> "list[Audited]":
    from weedtw.storage.audit import Audited, audit

    total = sum(os.path.getsize(files.dat) for files in volumes if os.path.exists(files.dat))
    bar = report.bar("verifying", total)

    def one(files: "VolumeFiles") -> Audited:
        return audit(files, now_ns=now_ns(), moved=bar.moved)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = list(threads.map(one, volumes))
    bar.close()
    return found


def show(report: Report, found: "Sequence[Audited]") -> None:
    """Print what was found."""
    if report.as_json:
        say(json.dumps([_as_json(one) for one in found], indent=2))
        return
    rows = (
        (
            one.files.base,
            str(one.version or "?"),
            format_size(one.size),
            str(one.live),
            str(one.deleted),
            "sound" if one.is_sound else f"{len(one.findings) + one.untold} wrong",
        )
        for one in found
    )
    table(wide_console(), "Volumes", _COLUMNS, rows)
    for one in found:
        show_findings(one)


def show_findings(found: "Audited") -> None:
    """Print what is wrong with one volume, a line each."""
    for finding in found.findings:
        say(printable(str(finding)))
    if found.untold:
        say(f"{found.files.base}: and {found.untold} more")


def _as_json(one: "Audited") -> dict[str, object]:
    return {
        "volume": one.files.volume_id,
        "collection": one.files.collection,
        "path": one.files.dat,
        "version": one.version,
        "size": one.size,
        "records": one.records,
        "files": one.live,
        "deleted": one.deleted,
        "sound": one.is_sound,
        "findings": [{"path": each.path, "offset": each.offset, "what": each.what} for each in one.findings],
        "more": one.untold,
    }


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(verify, "weedtw verify", arguments)
