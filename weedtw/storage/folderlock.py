"""One process a folder: a lock file that is held as long as the process lives, also when it is killed."""

import fcntl
import os
import stat
from collections.abc import Iterable
from typing import Final

from weedtw.errors import FolderInUse, StorageError

LOCK_NAME: Final = ".weedtw.lock"
_MAX_PID_TEXT: Final = 32


class FolderLock:
    """Holds a folder; the file says which process that is."""

    def __init__(self, folder: str, name: str = LOCK_NAME) -> None:
        """Take the lock; raises FolderInUse, and StorageError when the folder cannot be written.

        `name` is the lock file's: a master and a volume server may share a folder.
        """
        self.path = os.path.join(folder, name)
        self._fd = -1
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(folder, _why_not(folder, error)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(fd, _MAX_PID_TEXT, 0).decode("ascii", "replace").strip()
            os.close(fd)
            by = f"process {holder}" if holder.isdecimal() else "another process"
            raise FolderInUse(folder, f"the folder is in use by {by}") from None
        except OSError as error:
            os.close(fd)
            raise StorageError(folder, _why_not(folder, error)) from error
        self._fd = fd

    def release(self) -> None:
        """Let go of the folder; the file stays, it is the lock that counts."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def written_by(paths: Iterable[str]) -> str:
    """Another process that has one of these files open for writing, such as `process 77 (weed)`; "" if none is seen.

    SeaweedFS's own servers hold no lock.  What belongs to other users is seen by root alone, and only Linux tells.
    """
    wanted = {(found.st_dev, found.st_ino) for path in paths if (found := _stat(path)) is not None}
    for process in _listed("/proc"):
        if not process.isdecimal() or int(process) == os.getpid():
            continue
        for number in _listed(f"/proc/{process}/fd"):
            path = f"/proc/{process}/fd/{number}"
            found = _stat(path)
            if found is not None and (found.st_dev, found.st_ino) in wanted and _is_for_writing(path):
                return f"process {process} ({_name(process)})"
    return ""


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # ended meanwhile, or another user's


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _is_for_writing(path: str) -> bool:
    try:
        return bool(os.lstat(path).st_mode & stat.S_IWUSR)  # of the link itself: how the file was opened
    except OSError:
        return False


def _name(process: str) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "ended meanwhile"


def _why_not(folder: str, error: OSError) -> str:
    if not os.path.exists(folder):
        return "there is no such folder"
    if not os.path.isdir(folder):
        return "this is not a folder"
    return f"the folder cannot be written: {error.strerror or error}"
