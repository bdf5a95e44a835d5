"""`weedtw fix`: the index of a volume from its data."""

from collections.abc import Sequence

import click

from weedtw.cli.folders import carry_out, chosen, held, now_ns, volume_options
from weedtw.cli.report import Report
from weedtw.cli.session import command, invoke, option
from weedtw.errors import WeedError

_ABOUT = """Make the index (.idx) of volumes anew from their data (.dat).

The volume server must not run. The old index is kept beside the new one, as .idx.cut-N. Nothing is done to the data;
what in it is no record is told. What a crash makes necessary a volume server does by itself: this is for an index
that weedtw verify finds wrong."""


@command(_ABOUT)
@click.argument("folder", default=".", metavar="[FOLDER]")
@option("named", "dir", metavar="FOLDER", help="The folder, if it is not named behind the options.")
@volume_options()
@option(
    "offset_width",
    "offsetBytes",
    type=click.Choice(["4", "5"]),
    help="Size of offsets in the index, where the old one does not tell: 4 (volumes up to 32 GB) or 5.",
)
def fix(
    folder: str, named: str | None, volume_id: int | None, collection: str | None, offset_width: str | None
) -> int:
    """Make them and say so."""
    report = Report("weedtw fix", bars=False)
    folder = named or folder

    def work() -> None:
        from weedtw.storage import offline

        volumes = chosen(folder, collection, volume_id)
        with held(folder):
            for files in volumes:
                try:
                    done = offline.fix(
                        files, now_ns=now_ns(), offset_width=int(offset_width) if offset_width else None
                    )
                except WeedError as error:
                    report.failed("", str(error))
                    continue
                kept = f"; the old one is {done.kept_as}" if done.kept_as else ""
                report.result(f"{files.idx}: {done.rows} rows for {done.files} files{kept}")
                if done.lost:
                    keys = ", ".join(f"{key:x}" for key in done.lost[:10]) + (", …" if len(done.lost) > 10 else "")
                    report.failed(files.idx, f"{len(done.lost)} files of the old index are not in the data: {keys}")
                if done.doubt:
                    report.failed(files.dat, done.doubt)

    return carry_out(report, work)


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(fix, "weedtw fix", arguments)
