"""`weedtw compact`: a vacuum of a volume that no server has open."""

import time
from collections.abc import Sequence

import click

from weedtw.cli.folders import carry_out, dir_option, held, the_one, volume_options
from weedtw.cli.report import Report
from weedtw.cli.session import command, invoke, option
from weedtw.formats.size import format_size

_ABOUT = """Remove what was deleted or overwritten from a volume's files.

The volume server must not run. A kill at any moment leaves the volume as before, or compacted."""


@command(_ABOUT)
@dir_option("The folder with the volume.")
@volume_options()
@option("method", "method", type=click.Choice(["data", "index"]), help="Taken, and of no effect: both are looked at.")
def compact(folder: str, volume_id: int | None, collection: str | None, method: str | None) -> int:  # noqa: ARG001
    """Do it and say how much that was."""
    report = Report("weedtw compact", bars=False)

    def work() -> None:
        from weedtw.storage import offline

        files = the_one(folder, collection, volume_id)
        with held(folder):
            done = offline.compact_volume(files, time.time)
        for repair in done.repairs:
            report.warn("mended first", str(repair))
        saved = format_size(done.before - done.after)
        report.result(f"{files.dat}: {format_size(done.after)} with {done.files} files, {saved} less than before")

    return carry_out(report, work)


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(compact, "weedtw compact", arguments)
