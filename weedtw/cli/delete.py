"""`weedtw delete`: delete files by their ids, on all their copies."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from weedtw.cli.report import Report
from weedtw.cli.session import command, in_order, invoke, json_option, masters_option, option, run
from weedtw.errors import WeedError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client

_ABOUT = """Delete files by their ids.

A file is deleted on all its copies; of a file stored in chunks, all chunks are. There is no way back."""


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    return invoke(delete, "weedtw delete", arguments)


@command(_ABOUT)
@click.argument("fids", nargs=-1, required=True, metavar="FID...")
@masters_option()
@option("public", "usePublicUrl", is_flag=True, help="Address volume servers by their public addresses.")
@json_option("Print one JSON object per file: fid, size.")
def delete(fids: tuple[str, ...], masters: str, public: bool, as_json: bool) -> int:
    """Delete every file, whether others fail or not."""

    async def work(client: "Client", report: Report) -> None:
        async def remove(fid: str) -> Callable[[], None]:
            try:
                size = await client.delete(fid)
            except WeedError as error:
                said = str(error)
                return lambda: report.failed(fid, said, fid=fid)
            return lambda: report.result(f"{fid}  deleted  ({format_size(size)})", fid=fid, size=size)

        await in_order(dict.fromkeys(fids), remove)

    return run("weedtw delete", masters, Report("weedtw delete", as_json, bars=False), work, public=public)
