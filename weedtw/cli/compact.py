"""`weedtw compact`: a vacuum of a volume that no server has open."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from weedtw.cli.folders import carry_out, dir_option, held, now_ns, the_one, volume_options
from weedtw.cli.report import Report
from weedtw.cli.session import command, invoke, option
from weedtw.cli.spelling import Count
from weedtw.cli.verify import show_findings
from weedtw.errors import Damaged
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.storage.names import VolumeFiles
    from weedtw.storage.offline import Compacted

_ABOUT = """Remove what was deleted or overwritten from a volume's files.

The volume server must not run. A kill at any moment leaves the volume as before, or compacted.

Nothing damaged is lost: a file whose data has another checksum is copied as it is, and what is no record at all is
kept beside the data, as .dat.cut-N. Both are told, and the exit status is 1."""


@command(_ABOUT)
@dir_option("The folder with the volume.")
@volume_options()
@option("method", "method", type=click.Choice(["data", "index"]), help="Taken, and of no effect: both are looked at.")
@option(
    "preallocated",
    "preallocateMB",
    type=Count(0),
    metavar="MB",
    help="Taken, and of no effect: the new data is as long as it has to be.",
)
def compact(
    folder: str,
    volume_id: int | None,
    collection: str | None,
    method: str | None,  # noqa: ARG001
    preallocated: int | None,
) -> int:
    """Do it and say how much that was."""
    report = Report("weedtw compact", bars=False)

    def work() -> None:
        from weedtw.storage import offline

        files = the_one(folder, collection, volume_id)
        if preallocated:
            report.warn("--preallocateMB", "has no effect: the new data is as long as it has to be")
        with held(folder, [files]):
            try:
                done = offline.compact_volume(files, time.time)
            except Damaged as error:
                _tell_refusal(report, files, error)
                return
        _tell(report, files, done)

    return carry_out(report, work)


def _tell(report: Report, files: "VolumeFiles", done: "Compacted") -> None:
    for repair in done.repairs:
        report.warn("mended first", str(repair))
    saved = format_size(done.before - done.after)
    report.result(f"{files.dat}: {format_size(done.after)} with {done.files} files, {saved} less than before")
    for gap in done.gaps:
        report.failed(files.dat, str(gap))
    if done.damage is not None and not done.damage.is_sound:
        show_findings(done.damage)
        count = len(done.damage.findings) + done.damage.untold
        what = f"what is damaged ({count} in all) was kept as it is"
        report.failed(
            files.dat,
            f"{what}; get it from another copy (weedtw shell, volume.check.disk -slow -apply), or delete it",
        )


def _tell_refusal(report: Report, files: "VolumeFiles", error: Damaged) -> None:
    """Show what is damaged, as verify does."""
    from weedtw.storage.audit import audit

    found = audit(files, now_ns=now_ns())
    show_findings(found)
    advice = "nothing was changed"
    if not found.is_sound:
        advice += "; take another copy of the volume"
    if found.version and not found.is_sound:
        advice += ", or make its index anew from what is there (weedtw fix) and compact it then"
    report.failed("", f"{error}; {advice}")


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(compact, "weedtw compact", arguments)
