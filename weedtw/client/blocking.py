"""The client for programs without a reactor of their own: the same operations, each of which waits for its result.

    with BlockingClient(["localhost:9333"]) as client:
        stored = client.upload(b"hello", name="hello.txt")
        assert client.read(stored.fid) == b"hello"

Twisted's reactor runs in a thread behind it, from the first client on to the end of the process; clients may be used
by any number of threads.  A program that runs the reactor itself takes `weedtw.client.Client`.
"""

import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread

from weedtw.client.answers import Assignment, FileInfo, Location
from weedtw.client.assign import Placement
from weedtw.client.client import READ_LIMIT, Client
from weedtw.client.contents import Content, name_of, stream_of
from weedtw.client.errands import CallersThread
from weedtw.client.reading import Reading
from weedtw.client.receiver import Write
from weedtw.client.status import ClusterStatus
from weedtw.client.uploads import Uploaded
from weedtw.errors import BadRequest
from weedtw.formats.fileid import FileId

T = TypeVar("T")
_Arguments = ParamSpec("_Arguments")

_starting = threading.Lock()
_thread: threading.Thread | None = None  # which runs the reactor for all clients


class BlockingClient:
    """Stores, reads and deletes files in a cluster; see `Client` for the arguments, and for what is raised."""

    def __init__(self, masters: Iterable[str], *, reactor: Any = None, **settings: Any) -> None:
        """`settings` are those of `Client`, such as `patience`; `reactor` runs elsewhere already, None: here."""
        self._reactor = reactor if reactor is not None else _running_reactor()
        self._client = self._call_plain(Client, list(masters), self._reactor, **settings)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._wait(self._client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def assign(self, count: int = 1, placement: Placement | None = None) -> Assignment:
        """Reserve `count` file ids on one volume."""
        return self._wait(self._client.assign, count, placement)

    def lookup(self, volume_id: int) -> tuple[Location, ...]:
        """Return the servers that hold a volume."""
        return self._wait(self._client.lookup, volume_id)

    def upload(
        self,
        content: Content,
        *,
        name: str | None = None,
        mime: str = "",
        placement: Placement | None = None,
        max_bytes: int = 0,
    ) -> Uploaded:
        """Store bytes, a file given by its path, a binary file object, or an iterator of bytes; see `Client.upload`.

        An iterator, and a file object that cannot be sought in, are read in the thread that calls this.
        """
        thread = CallersThread(self._reactor)
        given = stream_of(content, lambda: thread) or content
        called = name_of(content) if name is None and given is not content else name
        return thread.wait(
            lambda: self._client.upload(given, name=called, mime=mime, placement=placement, max_bytes=max_bytes)
        )

    def head(self, fid: FileId | str) -> FileInfo:
        """Return a file's name, type, size and ETag."""
        return self._wait(self._client.head, fid)

    def read(self, fid: FileId | str, limit: int = READ_LIMIT) -> bytes:
        """Return a file's content, of at most `limit` bytes."""
        return self._wait(self._client.read, fid, limit)

    def stream(self, fid: FileId | str, write: Write) -> FileInfo:
        """Give a file's content to `write`, piece by piece, in the reactor's thread: it must not take long."""
        return self._wait(self._client.stream, fid, write)

    def open(self, fid: FileId | str, start: int = 0, stop: int | None = None) -> "BlockingReading":
        """Return a file's content as an iterator: the bytes from `start` up to, without, `stop` (None: the end)."""
        return BlockingReading(self._client.open(fid, start, stop), self._wait)

    def download(
        self, fid: FileId | str, folder: str, *, name: str = "", overwrite: bool = False
    ) -> tuple[str, FileInfo]:
        """Save a file in `folder` under its stored name, or another; return the path and what it is."""
        return self._wait(lambda: self._client.download(fid, folder, name=name, overwrite=overwrite))

    def delete(self, fid: FileId | str) -> int:
        """Delete a file from all its copies; return the size the server names, in bytes."""
        return self._wait(self._client.delete, fid)

    def status(self) -> ClusterStatus:
        """Return the masters, the volume servers and the volumes, as the leader sees them."""
        return self._wait(self._client.status)

    # ------------------------------------------------------------------ from thread to thread

    def _wait(
        self,
        work: Callable[_Arguments, Coroutine[Deferred[Any], Any, T]],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> T:
        """Have the reactor's thread do it, and wait; Ctrl-C and its like cancel it."""
        running: list[Deferred[T]] = []

        def begin() -> Deferred[T]:
            running.append(Deferred.fromCoroutine(work(*args, **kwargs)))
            return running[0]

        with _cancelling(self._reactor, running):
            call: Any = blockingCallFromThread  # whose annotation knows no type variables
            done: T = call(self._reactor, begin)
            return done

    def _call_plain(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        done: T = blockingCallFromThread(self._reactor, work, *args, **kwargs)
        return done


class BlockingReading:
    """A file's content piece by piece, each of which is waited for; see `Reading`, also for what is raised.

    for piece in client.open(fid):
        …
    """

    def __init__(self, reading: Reading, wait: Callable[..., Any]) -> None:
        """`wait` has the reactor's thread do something, and waits for it."""
        self._reading = reading
        self._wait = wait

    def info(self) -> FileInfo:
        """Return what the server says of the file: size is that of the whole, in bytes."""
        info: FileInfo = self._wait(self._reading.info)
        return info

    def piece(self) -> bytes:
        """Return the next bytes, b"" when there are no more."""
        piece: bytes = self._wait(self._reading.piece)
        return piece

    def close(self) -> None:
        """Let go of the connection, if it is not at its end."""
        self._wait(self._reading.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = self.piece()
        if not piece:
            raise StopIteration
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _cancelling(reactor: Any, running: "list[Deferred[Any]]") -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if running:
            reactor.callFromThread(running[0].cancel)
        raise


def _running_reactor() -> Any:
    """The reactor, started in a thread unless it was already; raises BadRequest when it runs elsewhere."""
    from twisted.internet import reactor as installed  # noqa: PLC0415 - importing it installs it

    global _thread  # noqa: PLW0603 - a process has one reactor
    reactor: Any = installed
    with _starting:
        if _thread is not None and _thread.is_alive():
            return reactor
        if reactor.running or getattr(reactor, "_started", False):
            raise BadRequest("the reactor runs in this program already; use weedtw.client.Client, and await")
        started = threading.Event()
        reactor.callWhenRunning(started.set)
        _thread = threading.Thread(
            target=reactor.run, kwargs={"installSignalHandlers": False}, name="weedtw-client", daemon=True
        )
        _thread.start()
        started.wait()
    return reactor
