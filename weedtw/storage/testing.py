"""Disks that fail, for tests of whatever stores something: pass one of these where a `FileOps` is wanted.

FaultyOps    refuses calls as it is told: no space, I/O errors, short writes
CrashingOps  the process dies at the call of a given number
PowerCutOps  remembers what a disk would hold if the power failed now and nothing had reached it but what was synced
"""

import errno
import os
import shutil
import tempfile
import unittest
from collections.abc import Sequence
from typing import Final

import attrs

from weedtw.storage.fileops import Buffer, DiskSpace, FileOps

_CREATES: Final = os.O_CREAT


def scratch(case: unittest.TestCase) -> str:
    """A folder for one test, removed after it."""
    folder = tempfile.mkdtemp(prefix="weedtw-test-")
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    return folder


@attrs.define
class ManualClock:
    """A clock in unix seconds that stands still unless it is told to go on."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Go on by that much."""
        self.now += seconds


@attrs.define
class Fault:
    """One kind of refusal."""

    call: str  # name of the method of FileOps
    error: int = errno.EIO
    suffix: str = ""  # only of paths that end so
    skip: int = 0  # calls to let pass first
    times: int = 1  # calls to refuse then
    part: int | None = None  # pwritev: so many bytes are written all the same, and only the next call fails
    then_fails: bool = True  # or the next call succeeds as well: the write was merely short

    def hits(self, call: str, path: str) -> bool:
        """Whether this call is to be refused."""
        if call != self.call or not path.endswith(self.suffix) or not self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        return True

    def strike(self, path: str) -> OSError:
        """The refusal."""
        self.times -= 1
        return OSError(self.error, os.strerror(self.error), path)


class QuickOps(FileOps):
    """Nothing is ever put on the disk: for tests with many files and no crash but of the process."""

    def sync(self, fd: int) -> None:
        """Do nothing."""

    def sync_folder(self, path: str) -> None:
        """Do nothing."""


class _Watching(FileOps):
    """Knows which path a descriptor was opened by, through renames."""

    def __init__(self) -> None:
        self.path_of: dict[int, str] = {}

    def open(self, path: str, flags: int) -> int:
        fd = super().open(path, flags)
        self.path_of[fd] = path
        return fd

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self.path_of = {fd: new if path == old else path for fd, path in self.path_of.items()}


class FaultyOps(_Watching):
    """A disk that refuses what `faults` say, and has `free` bytes left when that is not None."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Fault] = []
        self.free: int | None = None
        self.calls: list[tuple[str, str]] = []  # (method, path) of what changes something

    def _meet(self, call: str, path: str) -> None:
        self.calls.append((call, path))
        for fault in self.faults:
            if fault.part is None and fault.hits(call, path):
                raise fault.strike(path)

    def open(self, path: str, flags: int) -> int:
        self._meet("open", path)
        return super().open(path, flags)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self._meet("pread", self.path_of[fd])
        return super().pread(fd, length, offset)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        path = self.path_of[fd]
        self._meet("pwritev", path)
        for fault in self.faults:
            if fault.part is not None and fault.hits("pwritev", path):
                # The first refusal is silent: the kernel takes a part.  The call for the rest gets the error.
                taken = b"".join(buffers)[: fault.part]
                fault.part = None
                fault.times *= fault.then_fails
                return super().pwritev(fd, [taken], offset)
        return super().pwritev(fd, buffers, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._meet("truncate", self.path_of[fd])
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._meet("sync", self.path_of[fd])
        super().sync(fd)

    def rename(self, old: str, new: str) -> None:
        self._meet("rename", old)
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        self._meet("unlink", path)
        super().unlink(path)

    def sync_folder(self, path: str) -> None:
        self._meet("sync_folder", path)
        super().sync_folder(path)

    def is_at(self, fd: int, path: str) -> bool:
        self._meet("is_at", path)
        return super().is_at(fd, path)

    def disk_space(self, path: str) -> DiskSpace:
        space = super().disk_space(path)
        return space if self.free is None else DiskSpace(space.total, self.free)


class Crash(BaseException):
    """The process died here; nobody can catch that and tidy up."""


class CrashingOps(_Watching):
    """Lets `steps` changing calls pass and dies at the next one; with `torn` a write is done by half first."""

    def __init__(self, steps: int | None = None, *, torn: bool = False) -> None:
        """With None it never dies, but counts in `done`."""
        super().__init__()
        self.steps = steps
        self.torn = torn
        self.done = 0

    def _step(self) -> None:
        if self.steps is not None and self.done >= self.steps:
            raise Crash
        self.done += 1

    def open(self, path: str, flags: int) -> int:
        if flags & _CREATES:
            self._step()
        return super().open(path, flags)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        if self.torn and self.steps == self.done:
            whole = b"".join(buffers)
            super().pwritev(fd, [whole[: len(whole) // 2]], offset)
        self._step()
        return super().pwritev(fd, buffers, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._step()
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:  # noqa: ARG002
        self._step()  # the process dies, not the machine: there is nothing to wait for

    def rename(self, old: str, new: str) -> None:
        self._step()
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        self._step()
        super().unlink(path)

    def sync_folder(self, path: str) -> None:  # noqa: ARG002
        self._step()


class PowerCutOps(CrashingOps):
    """As CrashingOps; `cut` makes a folder with what is sure to have reached the disk, and nothing else."""

    def __init__(self, folder: str, steps: int | None = None) -> None:
        """What is in `folder` now counts as being on the disk."""
        super().__init__(steps)
        self.folder = folder
        self._file_of: dict[str, int] = {}  # path -> number of the file that has this name now
        self._content: dict[int, bytes] = {}  # number -> what is on the disk of it
        self._entries: dict[str, int] = {}  # name -> number, on the disk
        for name in filter(lambda name: os.path.isfile(os.path.join(folder, name)), os.listdir(folder)):
            self._know(os.path.join(folder, name), on_disk=True)
        self._entries = {os.path.basename(path): number for path, number in self._file_of.items()}

    def _know(self, path: str, *, on_disk: bool) -> None:
        number = self._file_of[path] = len(self._content)
        self._content[number] = b""
        if on_disk and os.path.isfile(path):
            with open(path, "rb") as file:
                self._content[number] = file.read()

    def open(self, path: str, flags: int) -> int:
        fd = super().open(path, flags)
        if path not in self._file_of:
            self._know(path, on_disk=False)
        return fd

    def sync(self, fd: int) -> None:
        super().sync(fd)
        number = self._file_of[self.path_of[fd]]
        self._content[number] = os.pread(fd, os.fstat(fd).st_size, 0)

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self._file_of[new] = self._file_of.pop(old)

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._file_of.pop(path, None)

    def sync_folder(self, path: str) -> None:
        super().sync_folder(path)
        self._entries = {os.path.basename(name): number for name, number in self._file_of.items()}

    def cut(self, target: str) -> None:
        """Fill `target` with what the disk holds."""
        for name, number in self._entries.items():
            with open(os.path.join(target, name), "wb") as file:
                file.write(self._content[number])
