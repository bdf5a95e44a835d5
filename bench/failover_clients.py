"""Clients that ask for file ids without a pause worth mentioning, and the books of what they got."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise

import attrs

CLIENTS = 4
PAUSE = 0.005  # seconds between an answer and the next request
WRITE_PAUSE = 0.1  # seconds between two files that are stored
PATIENCE = 0.3  # seconds for an answer; then the next master is asked
COUNTS = (1, 100)  # ids per request, in turn

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Line:
    """A kept HTTP connection to one master that costs as little as can be: small bodies both ways."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.address = address
        self._place = (host, int(port))
        self._socket: socket.socket | None = None

    def ask(self, method: str, path: str, body: bytes = b"", patience: float = PATIENCE) -> bytes:
        """The body of the answer, whatever its status; raises OSError."""
        try:
            self.send(method, path, body, patience)
            return self.answer()
        except OSError:
            self.close()
            raise

    def send(self, method: str, path: str, body: bytes = b"", patience: float = PATIENCE) -> None:
        """The request alone; `answer` has to follow."""
        if self._socket is None:
            self._socket = socket.create_connection(self._place, patience)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(patience)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: {self.address}\r\n{length}\r\n".encode() + body)

    def answer(self) -> bytes:
        assert self._socket is not None
        received = b""
        while True:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionResetError("the connection was closed before the answer")
            received += chunk
            head, blank, body = received.partition(b"\r\n\r\n")
            length = _LENGTH.search(head) if blank else None
            if length is not None and len(body) >= int(length[1]):
                return body
            if blank and length is None:
                raise ConnectionResetError("an answer without a length")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


# ------------------------------------------------------------------ what was got


@attrs.frozen
class Issued:
    """Ids that a master has issued: when they arrived (monotonic seconds), who was asked, and the keys."""

    at: float
    asked: str
    fid: str
    key: int
    count: int
    url: str  # of a volume server


def issued(address: str, body: bytes) -> Issued | None:
    """The ids in the answer to an assign; None when it has none."""
    try:
        answer = json.loads(body)
        fid = answer["fid"]
        key = int(fid.partition(",")[2][:-8], 16)  # the last eight digits are the cookie
        return Issued(time.monotonic(), address, fid, key, int(answer.get("count", 1)), answer["url"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def keys(books: Iterable[Issued]) -> int:
    """How many keys there are in it."""
    return sum(entry.count for entry in books)


def twice(books: Iterable[Issued]) -> int:
    """How many keys came again after they had been issued already."""
    total, reached = 0, -1
    for entry in sorted(books, key=lambda each: each.key):
        last = entry.key + entry.count - 1
        total += max(0, min(last, reached) - entry.key + 1)
        reached = max(reached, last)
    return total


def longest_gap(books: Sequence[Issued], since: float) -> float:
    """The longest time from one answer with ids to the next that came after the moment `since`."""
    times = sorted(entry.at for entry in books)
    gaps = [later - earlier for earlier, later in pairwise(times) if later > since]
    return max(gaps, default=float("inf"))


# ------------------------------------------------------------------ the clients


class Clients:
    """Loops in threads that ask the masters `addresses` in turn; who is asked may be changed at any time."""

    def __init__(self, addresses: Sequence[str], pause: float = PAUSE) -> None:
        self.addresses = tuple(addresses)
        self.pause = pause
        self.patience = PATIENCE
        self.books: list[Issued] = []
        self.refusals = 0  # answers without an id
        self.silences = 0  # connections that failed, or brought nothing in time
        self._ending = threading.Event()
        loops: list[Callable[[], None]] = [partial(self._loop, number) for number in range(CLIENTS)]
        loops.append(self._write)
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in loops]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def since(self, moment: float) -> list[Issued]:
        """What came after that moment."""
        return [entry for entry in self.books if entry.at > moment]

    def got_after(self, moment: float) -> bool:
        """Whether ids came after that moment."""
        books = self.books
        return any(books[-back].at > moment for back in range(1, min(len(books), CLIENTS) + 1))

    def _loop(self, number: int) -> None:
        lines: dict[str, Line] = {}
        turn = number
        while not self._ending.is_set():
            addresses = self.addresses
            address = addresses[turn % len(addresses)]
            line = lines.setdefault(address, Line(address))
            count = COUNTS[(turn + number) // len(addresses) % len(COUNTS)]
            turn += 1
            self._ask(line, count)
            time.sleep(self.pause)
        for line in lines.values():
            line.close()

    def _ask(self, line: Line, count: int) -> None:
        try:
            body = line.ask("GET", f"/dir/assign?count={count}", patience=self.patience)
        except OSError:
            self.silences += 1
            return
        entry = issued(line.address, body)
        if entry is None:
            self.refusals += 1
        else:
            self.books.append(entry)

    def _write(self) -> None:
        """Use the newest id now and then: volume servers tell the masters of the highest key that they hold."""
        lines: dict[str, Line] = {}
        while not self._ending.wait(WRITE_PAUSE):
            if not self.books:
                continue
            newest = self.books[-1]
            line = lines.setdefault(newest.url, Line(newest.url))
            with suppress(OSError):
                line.ask("PUT", f"/{newest.fid}", b"x")
        for line in lines.values():
            line.close()
