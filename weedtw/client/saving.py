"""Writing a download to disk: into a temporary file first, and under its own name only once it is complete."""

import os
import secrets
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from weedtw.errors import StorageError

_LONGEST_NAME: Final = 200  # bytes of UTF-8; a file system takes 255, and the temporary name is longer
_TAKEN: Final = "exists already; --force overwrites it"


def safe_name(stored: str, fallback: str) -> str:
    """Return a file name out of `stored` that stays in its folder and can be shown on a terminal, or `fallback`.

    Only what follows the last slash or backslash counts; characters that cannot be printed are dropped.
    """
    last = stored.replace("\\", "/").rpartition("/")[2]
    clean = "".join(c for c in last if c.isprintable()).strip()
    stem, extension = os.path.splitext(clean)
    room = _LONGEST_NAME - len(extension.encode())
    if room <= 0:
        stem, extension, room = clean, "", _LONGEST_NAME
    name = stem.encode()[:room].decode("utf-8", "ignore") + extension
    return fallback if name in {"", ".", ".."} else name


@attrs.define(eq=False)
class Saving:
    """A file that is being written; `keep` or `drop` ends it.  Disk work happens in the reactor's threads."""

    path: str  # what it will be called
    overwrite: bool
    _temporary: str
    _descriptor: int
    _reactor: IReactorThreads
    _writing: "Deferred[None] | None" = None  # fires when no thread uses the descriptor any more

    @classmethod
    def create(cls, folder: str, name: str, reactor: IReactorThreads, *, overwrite: bool) -> "Saving":
        """Open a temporary file beside the final name; raises StorageError, also when the name is taken."""
        path = os.path.join(folder, name)
        if not overwrite and os.path.lexists(path):
            raise StorageError(path, _TAKEN)
        temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.part")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StorageError(path, _reason(error)) from error
        return cls(path, overwrite, temporary, descriptor, reactor)

    def write(self, piece: bytes) -> "Deferred[None]":
        """Append; the Deferred fails with StorageError when the disk does not take it.

        Cancelling it does not stop the thread, so `keep` and `drop` wait for that themselves.
        """
        shown: Deferred[None] = Deferred()
        self._writing = Deferred()
        self._in_thread(self._write_all, piece).addBoth(self._written, self._writing, shown)
        return shown

    def _written(self, result: "Failure | None", writing: "Deferred[None]", shown: "Deferred[None]") -> None:
        self._writing = None  # before anybody is told: the descriptor is free
        if not shown.called:
            shown.callback(result)  # a Failure makes it fail
        writing.callback(None)

    async def keep(self) -> str:
        """Flush the file to disk and give it its name; return its path.

        Raises StorageError, and leaves nothing behind, when the disk fails or the name has been taken meanwhile.
        """
        await self._settled()
        try:
            await self._in_thread(self._finish)
        except OSError as error:
            await self.drop()
            raise StorageError(self.path, _reason(error)) from error
        return self.path

    async def drop(self) -> None:
        """Remove what was written; the final name is not touched."""
        await self._settled()
        self._close()
        if os.path.lexists(self._temporary):
            os.unlink(self._temporary)

    def _in_thread(self, work: Callable[..., None], *arguments: object) -> "Deferred[None]":
        started: Deferred[None] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *arguments)
        return started

    async def _settled(self) -> None:
        """Wait until no thread uses the descriptor: once it is closed, its number may mean another file."""
        if self._writing is not None:
            await self._writing

    def _write_all(self, piece: bytes) -> None:
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise StorageError(self.path, _reason(error)) from error

    def _finish(self) -> None:
        os.fsync(self._descriptor)
        self._close()
        if self.overwrite:
            os.replace(self._temporary, self.path)
            return
        try:
            os.link(self._temporary, self.path)  # unlike a rename, this fails when the name is taken
        except FileExistsError:
            raise
        except OSError:  # a file system without links: take the name first, then replace it
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            os.replace(self._temporary, self.path)
        else:
            os.unlink(self._temporary)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _reason(error: OSError) -> str:
    if isinstance(error, FileExistsError):
        return _TAKEN
    return error.strerror or str(error)
