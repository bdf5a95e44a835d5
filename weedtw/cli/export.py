"""`weedtw export`: the files of a volume, as a list or as a tar file."""

import contextlib
import io
import os
import re
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from weedtw.cli.folders import carry_out, dir_option, now_ns, the_one, volume_options
from weedtw.cli.report import Report, printable, say
from weedtw.cli.session import command, invoke, option
from weedtw.cli.spelling import Count
from weedtw.errors import Damaged, StorageError
from weedtw.formats.fileid import FileId

if TYPE_CHECKING:
    from weedtw.formats.needle import Needle
    from weedtw.storage.contents import Contents, Entry

_ABOUT = """List the files of a volume, or write them to a tar file.

Nothing is changed, and the volume server may run. A file that is damaged is told of and left out, and the exit status
is 1 then. With --deleted, files that were deleted or overwritten and are in the data still are listed too."""

_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_FIELDS = ("Id", "Key", "Name", "Ext", "Mime")
_TIME = "%Y-%m-%dT%H:%M:%S"


@command(_ABOUT)
@dir_option("The folder with the volume.")
@volume_options()
@option("output", "o", metavar="FILE.tar", help="The tar file to make; - is standard output.")
@option(
    "pattern",
    "fileNameFormat",
    default="{{.Id}}_{{.Name}}{{.Ext}}",
    show_default=True,
    help="Names in the tar file: {{.Id}}, {{.Key}}, {{.Name}}, {{.Ext}} and {{.Mime}} stand for what a file has.",
)
@option(
    "deleted", "deleted", is_flag=True, help="List what was deleted or overwritten, too; never put into a tar file."
)
@option("newer", "newer", metavar="TIME", help="Only files newer than this, such as 2026-01-31T15:04:05, local time.")
@option("limit", "limit", type=Count(0), help="So many files at most; 0 are all.")
def export(
    folder: str,
    volume_id: int | None,
    collection: str | None,
    output: str | None,
    pattern: str,
    deleted: bool,
    newer: str | None,
    limit: int | None,
) -> int:
    """List or write."""
    output = output or None  # `-o=`, as the original has it by default
    report = Report("weedtw export", bars=output not in {None, "-"})
    since, names = _since(newer), _Names(pattern)

    def work() -> None:
        from weedtw.storage.contents import Contents

        if deleted and output is not None:
            report.warn("--deleted", "has no effect with -o: only files that are there are put into a tar file")
        contents = Contents.open(the_one(folder, collection, volume_id), now_ns=now_ns())
        entries = contents.with_deleted() if deleted and output is None else iter(contents)
        wanted = _wanted(report, contents, entries, since, limit)
        if output is None:
            for needle, fate in wanted:
                name = names.of(contents, needle) + (f"  ({fate})" if fate else "")
                say(printable(f"{_fid(contents, needle)}  {len(needle.data)}  {name}"))
        else:
            _write(report, output, contents, names, (needle for needle, _ in wanted))

    return carry_out(report, work)


def _since(newer: str | None) -> float:
    if not newer:
        return 0.0
    try:
        return time.mktime(time.strptime(newer, _TIME))
    except ValueError:
        raise click.UsageError(f"--newer: {newer!r} is not a time such as 2026-01-31T15:04:05.") from None


class _Names:
    """How the files are called."""

    def __init__(self, pattern: str) -> None:
        unknown = [field for field in _FIELD.findall(pattern) if field not in _FIELDS]
        if unknown:
            known = ", ".join(f"{{{{.{field}}}}}" for field in _FIELDS)
            raise click.UsageError(f"--fileNameFormat: there is no {{{{.{unknown[0]}}}}}; there are {known}.")
        self._pattern = pattern

    def of(self, contents: "Contents", needle: "Needle") -> str:
        """A relative path without `..`, whatever somebody called a file."""
        name = needle.name.decode("utf-8", "replace")
        mime = needle.mime.decode("utf-8", "replace")
        fields = {
            "Id": f"{needle.key:x}",
            "Key": _fid(contents, needle),
            "Name": name,
            "Ext": "" if os.path.splitext(name)[1] else _extension(mime),
            "Mime": mime,
        }
        path = _FIELD.sub(lambda field: fields[field[1]], self._pattern)
        parts = (part for part in path.replace("\0", "").split("/") if part not in {"", ".", ".."})
        return "/".join(parts) or fields["Key"]


def _fid(contents: "Contents", needle: "Needle") -> str:
    return str(FileId(contents.files.volume_id, needle.key, needle.cookie))


def _extension(mime: str) -> str:
    import mimetypes

    return mimetypes.guess_extension(mime.partition(";")[0]) or ""


def _wanted(
    report: Report, contents: "Contents", entries: "Iterator[Entry]", since: float, limit: int | None
) -> "Iterator[tuple[Needle, str]]":
    """The files to show; one that does not say when it was stored may be newer than anything."""
    count = 0
    for entry in entries:
        if isinstance(entry.needle, Damaged):
            report.failed(f"{contents.files.dat} at {entry.offset}", entry.needle.reason)
        elif entry.needle.last_modified is None or entry.needle.last_modified >= since:
            count += 1
            yield entry.needle, entry.fate
            if count == limit:
                return


def _write(report: Report, output: str, contents: "Contents", names: _Names, files: "Iterator[Needle]") -> None:
    """To a file beside the one that is wanted, which appears when it is whole."""
    count = 0
    bar = report.bar("exporting", contents.dat.size())
    with _opened(output) as stream, tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for needle in files:
            data = _content(report, contents, needle)
            if data is None:
                continue
            entry = tarfile.TarInfo(names.of(contents, needle))
            entry.size, entry.mtime, entry.mode = len(data), needle.last_modified or 0, 0o644
            archive.addfile(entry, io.BytesIO(data))
            count += 1
            bar.moved(len(needle.data))
    if output != "-":
        report.result(f"{output}: {count} files")


def _content(report: Report, contents: "Contents", needle: "Needle") -> bytes | None:
    """What was uploaded; None, and that is said, when it cannot be unpacked."""
    if not needle.is_gzipped:
        return bytes(needle.data)
    import gzip
    import zlib

    try:
        return gzip.decompress(needle.data)
    except (OSError, EOFError, zlib.error) as error:
        report.failed(f"{contents.files.dat}: needle {needle.key:x}", f"cannot be unpacked: {error}")
        return None


@contextlib.contextmanager
def _opened(output: str) -> "Iterator[IO[Any]]":
    if output == "-":
        yield sys.stdout.buffer
        return
    beside = f"{output}.part"
    try:
        with open(beside, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, output)
    except OSError as error:
        _remove(beside)
        raise StorageError(output, f"cannot be written: {error.strerror or error}") from error
    except BaseException:
        _remove(beside)
        raise


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(export, "weedtw export", arguments)
