"""One process a folder: a lock file that is held as long as the process lives, also when it is killed."""

import fcntl
import os
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


def _why_not(folder: str, error: OSError) -> str:
    if not os.path.exists(folder):
        return "there is no such folder"
    if not os.path.isdir(folder):
        return "this is not a folder"
    return f"the folder cannot be written: {error.strerror or error}"
