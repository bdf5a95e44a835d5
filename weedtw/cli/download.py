"""`weedtw download`: fetch files by their ids, to save them under the names they were stored with or to write out."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from weedtw.cli.report import Report
from weedtw.cli.session import command, in_order, invoke, json_option, masters_option, option, run
from weedtw.errors import StorageError, WeedError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client, FileInfo

_ABOUT = """Fetch files by their ids.

Each file is saved in --dir under the name it was stored with, without any folders in it, or under its id when
it has none. A file appears under that name when it is complete. Files stored in chunks are fetched as one.
-o gives the path to save a file at; with -o -, the files are written to standard output one after the other."""
_OUTPUT = "-"


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    return invoke(download, "weedtw download", arguments)


@command(_ABOUT)
@click.argument("fids", nargs=-1, required=True, metavar="FID...")
@masters_option("server")
@option("folder", "dir", default=".", show_default=True, metavar="FOLDER", help="Folder to save the files in.")
@option("output", "output", "o", default="", metavar="FILE", help="Save it there; '-' is standard output.")
@option("force", "force", is_flag=True, help="Overwrite files of the same name.")
@option("public", "usePublicUrl", is_flag=True, help="Address volume servers by their public addresses.")
@json_option("Print one JSON object per file: fid, path, size.")
def download(
    fids: tuple[str, ...], masters: str, folder: str, output: str, force: bool, public: bool, as_json: bool
) -> int:
    """Fetch every file, whether others fail or not."""
    if not os.path.isdir(folder):
        raise click.UsageError(f"--dir: {folder} is not a folder.")
    name = ""
    if output == _OUTPUT and as_json:
        raise click.UsageError("--json would be written where the files are: to standard output.")
    if output not in {"", _OUTPUT}:
        folder, name = _place(os.path.join(folder, output), fids)

    async def work(client: "Client", report: Report) -> None:
        async def fetch(fid: str) -> Callable[[], None]:
            return await _fetch(client, report, fid, folder, name, force)

        if output == _OUTPUT:
            await _write_out(client, report, fids)
        else:
            await in_order(dict.fromkeys(fids), fetch)

    return run("weedtw download", masters, Report("weedtw download", as_json), work, public=public)


def _place(path: str, fids: tuple[str, ...]) -> tuple[str, str]:
    """The folder and the name where the only file goes; raises UsageError when it cannot go there."""
    if len(fids) > 1:
        raise click.UsageError("-o is the path of one file; --dir is a folder for more.")
    folder, name = os.path.split(path)
    if not name or os.path.isdir(path):
        raise click.UsageError(f"-o: {path} is a folder; name one with --dir.")
    return folder, name


async def _write_out(client: "Client", report: Report, fids: tuple[str, ...]) -> None:
    """Write the files to standard output, as fast as it takes them."""
    from twisted.internet import reactor

    from weedtw.client.errands import OwnThread

    made: Any = reactor  # whose module knows no interfaces
    thread = OwnThread(made)
    for fid in fids:
        bar = report.bar(fid)
        try:
            async with client.open(fid) as reading:
                bar.total((await reading.info()).size)
                async for piece in reading:
                    await thread.run(partial(_write_all, piece))
                    bar.moved(len(piece))
        except StorageError:
            raise
        except WeedError as error:
            report.failed(fid, str(error))
        finally:
            bar.close()


def _write_all(piece: bytes) -> None:
    """Write to standard output; raises BrokenPipeError when nobody reads it, StorageError when it takes no more."""
    view = memoryview(piece)
    try:
        while view:
            view = view[os.write(1, view) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError("standard output", error.strerror or str(error)) from error


async def _fetch(
    client: "Client", report: Report, fid: str, folder: str, name: str, force: bool
) -> Callable[[], None]:
    """Save one file; return what shows the outcome."""
    bar = report.bar(fid)

    def begin(info: "FileInfo") -> None:
        bar.total(info.size)

    try:
        path, _ = await client.download(fid, folder, name=name, overwrite=force, begin=begin, progress=bar.moved)
    except WeedError as error:
        said = str(error)
        return lambda: report.failed(fid, said, fid=fid)
    finally:
        bar.close()
    size = os.stat(path).st_size
    return lambda: report.result(f"{fid}  {path}  ({format_size(size)})", fid=fid, path=path, size=size)
