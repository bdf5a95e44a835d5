"""`weedtw download`: fetch files by their ids and save them under the names they were stored with."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from weedtw.cli.report import Report
from weedtw.cli.session import command, in_order, invoke, json_option, masters_option, option, run
from weedtw.errors import WeedError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client, FileInfo

_ABOUT = """Fetch files by their ids.

Each file is saved in --dir under the name it was stored with, without any folders in it, or under its id when
it has none. A file appears under that name when it is complete. Files stored in chunks are fetched as one."""


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    return invoke(download, "weedtw download", arguments)


@command(_ABOUT)
@click.argument("fids", nargs=-1, required=True, metavar="FID...")
@masters_option("server")
@option("folder", "dir", default=".", show_default=True, metavar="FOLDER", help="Folder to save the files in.")
@option("force", "force", is_flag=True, help="Overwrite files of the same name.")
@option("public", "usePublicUrl", is_flag=True, help="Address volume servers by their public addresses.")
@json_option("Print one JSON object per file: fid, path, size.")
def download(fids: tuple[str, ...], masters: str, folder: str, force: bool, public: bool, as_json: bool) -> int:
    """Fetch every file, whether others fail or not."""
    if not os.path.isdir(folder):
        raise click.UsageError(f"--dir: {folder} is not a folder.")

    async def work(client: "Client", report: Report) -> None:
        async def fetch(fid: str) -> Callable[[], None]:
            return await _fetch(client, report, fid, folder, force)

        await in_order(dict.fromkeys(fids), fetch)

    return run("weedtw download", masters, Report("weedtw download", as_json), work, public=public)


async def _fetch(client: "Client", report: Report, fid: str, folder: str, force: bool) -> Callable[[], None]:
    """Save one file; return what shows the outcome."""
    bar = report.bar(fid)

    def begin(info: "FileInfo") -> None:
        bar.total(info.size)

    try:
        path, _ = await client.download(fid, folder, overwrite=force, begin=begin, progress=bar.moved)
    except WeedError as error:
        said = str(error)
        return lambda: report.failed(fid, said, fid=fid)
    finally:
        bar.close()
    size = os.stat(path).st_size
    return lambda: report.result(f"{fid}  {path}  ({format_size(size)})", fid=fid, path=path, size=size)
