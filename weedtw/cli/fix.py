"""`weedtw fix`: the index of a volume from its data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import click

from weedtw.cli.folders import carry_out, chosen, held, miss_nothing, now_ns, volume_options
from weedtw.cli.report import Report
from weedtw.cli.session import command, invoke, option, switch
from weedtw.errors import Damaged, WeedError

if TYPE_CHECKING:
    from weedtw.storage.names import VolumeFiles

_ABOUT = """Make the index (.idx) of volumes anew from their data (.dat).

The volume server must not run. The old index is kept beside the new one, as .idx.cut-N. Nothing is done to the data;
what in it is no record is told. What a crash makes necessary a volume server does by itself: this is for an index
that weedtw verify finds wrong.

A volume that cannot be mended is no hindrance to the others. The exit status is 1 then, and when files are lost."""
_MOST_KEYS = 10
_ELSEWHERE = "weedtw has no {}: use the original's own command for such volumes."


@attrs.frozen
class _Wish:
    """How it is to be done."""

    offset_width: int | None
    deletions: bool
    ignores_errors: bool


@command(_ABOUT)
@click.argument("places", nargs=-1, metavar="[FOLDER|FILE.dat]...")
@option("named", "dir", metavar="FOLDER", help="The folder, if it is not named behind the options.")
@volume_options()
@option(
    "offset_width",
    "offsetBytes",
    type=click.Choice(["4", "5"]),
    help="Size of offsets in the index, where the old one does not tell: 4 (volumes up to 32 GB) or 5.",
)
@switch("deletions", "includeDeleted", "Have rows for what was deleted or overwritten, too.", default=True)
@switch("ignores_errors", "ignoreError", "End with status 0 all the same: errors are told, and are no failure.")
@option("remote", "remoteFile", is_flag=True, hidden=True)
@option("erasure", "ecx", is_flag=True, hidden=True)
def fix(
    places: tuple[str, ...],
    named: str | None,
    volume_id: int | None,
    collection: str | None,
    offset_width: str | None,
    deletions: bool,
    ignores_errors: bool,
    remote: bool,
    erasure: bool,
) -> int:
    """Make them and say so."""
    if remote or erasure:
        raise click.UsageError(_ELSEWHERE.format("remote tiers" if remote else "erasure coding"))
    report = Report("weedtw fix", bars=False)
    wish = _Wish(int(offset_width) if offset_width else None, deletions, ignores_errors)

    def work() -> None:
        for place in [named] if named else places or ["."]:
            try:
                volumes = chosen(place, collection, volume_id)
                if not (collection or volume_id):
                    miss_nothing(report, place, volumes)
                for folder in dict.fromkeys(files.folder for files in volumes):
                    with held(folder, volumes):
                        for files in volumes:
                            _fix_one(report, files, wish)
            except WeedError as error:
                report.failed("", str(error))
        if ignores_errors:
            report.failures = 0

    return carry_out(report, work)


def _fix_one(report: Report, files: "VolumeFiles", wish: _Wish) -> None:
    from weedtw.storage import offline

    try:
        done = offline.fix(files, now_ns=now_ns(), offset_width=wish.offset_width, deletions=wish.deletions)
    except Damaged as error:
        advice = "nothing was changed; take another copy of the volume, this one cannot be read"
        report.failed("", f"{error}; {advice}")
        return
    except WeedError as error:
        report.failed("", str(error))
        return
    kept = f"; the old one is {done.kept_as}" if done.kept_as else ""
    report.result(f"{files.idx}: {done.rows} rows for {done.files} files{kept}")
    if done.lost:
        keys = ", ".join(f"{key:x}" for key in done.lost[:_MOST_KEYS])
        more = ", …" if len(done.lost) > _MOST_KEYS else ""
        report.failed(files.idx, f"{len(done.lost)} files of the old index are not in the data: {keys}{more}")
    if done.doubt:
        report.failed(files.dat, done.doubt)


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(fix, "weedtw fix", arguments)
