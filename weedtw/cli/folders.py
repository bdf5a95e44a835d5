"""What the commands that work on folders of volumes have in common."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from weedtw.cli.report import Report
from weedtw.cli.session import FAILED, INTERRUPTED, option
from weedtw.cli.spelling import Count
from weedtw.errors import BadRequest, FolderInUse, WeedError

if TYPE_CHECKING:
    from weedtw.storage.names import VolumeFiles

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def volume_options() -> _Decorator:
    """`--volumeId` and `--collection`."""
    number = option("volume_id", "volumeId", type=Count(0), metavar="ID", help="Only this volume.")
    collection = option("collection", "collection", metavar="NAME", help="Only volumes of this collection.")
    return lambda function: number(collection(function))


def dir_option(about: str) -> _Decorator:
    """`--dir`."""
    return option("folder", "dir", default=".", show_default=True, metavar="FOLDER", help=about)


def chosen(folder: str, collection: str | None, volume_id: int | None) -> "list[VolumeFiles]":
    """The volumes that are meant; raises StorageError, BadRequest."""
    from weedtw.storage.offline import volumes_in

    if folder.endswith(".dat") and os.path.isfile(folder):
        return _of_file(folder)
    return volumes_in(folder, collection=collection, volume_id=volume_id or None)


def _of_file(path: str) -> "list[VolumeFiles]":
    from weedtw.storage.names import VolumeFiles, volume_of

    named = volume_of(os.path.basename(path))
    if named is None:
        raise BadRequest(f"{path}: not the name of a volume's data, such as 3.dat or pictures_3.dat")
    folder = os.path.dirname(path) or "."
    return [VolumeFiles(folder, folder, *named)]


def miss_nothing(report: Report, folder: str, volumes: "Sequence[VolumeFiles]") -> None:
    """Say so when there are indexes without data in a folder, or nothing at all."""
    from weedtw.storage.offline import without_data

    if not os.path.isdir(folder):
        return
    alone = without_data(folder)
    for path in alone:
        report.failed(path, "the data is missing: there is no .dat file beside it")
    if not volumes and not alone:
        report.warn(folder, "there are no volumes here (no .dat files)")


def the_one(folder: str, collection: str | None, volume_id: int | None) -> "VolumeFiles":
    """The one volume that is meant; raises BadRequest unless it is one."""
    found = chosen(folder, collection, volume_id)
    if len(found) != 1:
        there = ", ".join(files.base for files in found) or "none"
        more = f"name one with --volumeId{' and --collection' if volume_id else ''}"
        raise BadRequest(f"{folder}: {more}; the volumes here: {there}")
    return found[0]


@contextmanager
def held(folder: str, volumes: "Sequence[VolumeFiles]") -> Iterator[None]:
    """Keep volume servers out of a folder while volumes in it are worked on; raises FolderInUse when one is in it."""
    from weedtw.storage.folderlock import FolderLock, written_by

    try:
        lock = FolderLock(folder)
    except FolderInUse as error:
        raise FolderInUse(folder, f"{error.reason}; stop that server first") from error
    try:
        if writer := written_by(path for files in volumes for path in (files.dat, files.idx)):
            raise FolderInUse(folder, f"the folder is in use by {writer}; stop that first")
        yield
    finally:
        lock.release()


def is_served(folder: str) -> str:
    """Why what is read there may change meanwhile; "" when nobody has the folder.  Nothing is changed there."""
    from weedtw.storage.folderlock import LOCK_NAME, FolderLock

    if not os.path.exists(os.path.join(folder, LOCK_NAME)):
        return ""
    try:
        FolderLock(folder).release()
    except FolderInUse as error:
        return error.reason
    except WeedError:
        return ""  # it cannot be written to, so nobody can
    return ""


def carry_out(report: Report, work: Callable[[], object]) -> int:
    """Do the work; errors become lines on standard error and the exit status."""
    with report:
        try:
            work()
        except WeedError as error:
            report.failed("", str(error))
        except KeyboardInterrupt:
            report.failed("", "interrupted")
            return INTERRUPTED
    return FAILED if report.failures else 0


def now_ns() -> int:
    """Unix time in nanoseconds."""
    return time.time_ns()
