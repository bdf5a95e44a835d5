"""Clients that write, overwrite, delete and read all the time, and know what each file may hold.

A client is the only one to change its own files, so it knows what they hold: what was acknowledged last; and, as long
as nothing was acknowledged after it, what an attempt would have made of it that failed.  A few files are changed by
all clients at once, through any server; nobody knows which of these changes came last, but all copies must have the
same one.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException

import attrs

from tests.cluster.clients import ask
from tests.cluster.masters import Daemon
from tests.cluster.processes import Answer, request

GONE = None  # what a file holds that is not there
PATIENCE = 30.0  # seconds for any step of an answer
LARGE = 700_000  # bytes: more than is read in one piece


@attrs.define(eq=False)
class File:
    """A file, and what it may hold: one thing, unless an attempt to change it had no answer, or a bad one."""

    fid: str
    places: tuple[str, ...]  # the servers with its volume
    holds: bytes | None = GONE  # what was acknowledged last
    attempts: list[bytes | None] = attrs.Factory(list)  # that failed since, and may have been made all the same

    @property
    def volume(self) -> int:
        """The volume's id."""
        return int(self.fid.partition(",")[0])

    @property
    def key(self) -> int:
        """The needle's key."""
        return int(self.fid.partition(",")[2][:-8], 16)

    def may_hold(self, found: bytes | None) -> bool:
        """Whether this can be what it holds."""
        return found == self.holds or found in self.attempts

    def acknowledged(self, content: bytes | None) -> None:
        """It holds this."""
        self.holds = content
        self.attempts.clear()


@attrs.define(eq=False)
class Load:
    """So many clients; `lost` says what was not as it must be."""

    master: Daemon
    servers: Sequence[Daemon]
    chance: random.Random
    clients: int = 4
    done: Counter[str] = attrs.Factory(Counter)
    refused: Counter[str] = attrs.Factory(Counter)
    lost: list[str] = attrs.Factory(list)
    shared: list[File] = attrs.Factory(list)
    _own: list[list[File]] = attrs.Factory(list)
    _end: threading.Event = attrs.Factory(threading.Event)
    _threads: list[threading.Thread] = attrs.Factory(list)

    @property
    def files(self) -> list[File]:
        """All that any client has ever tried to write."""
        return [file for own in self._own for file in own] + self.shared

    def __enter__(self) -> "Load":
        self._end.clear()
        while len(self._own) < self.clients:
            self._own.append([])
        for own in self._own:
            arguments = own, random.Random(self.chance.randrange(1 << 30))
            self._threads.append(threading.Thread(target=self._run, args=arguments, daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self, own: list[File], chance: random.Random) -> None:
        try:
            while not self._end.wait(0.001):
                self._step(own, chance)
        except Exception as error:  # noqa: BLE001 - a thread that ends silently would make an easy test
            self.lost.append(f"a client has ended: {error!r}")

    def _step(self, own: list[File], chance: random.Random) -> None:
        what = chance.choices(("write", "change", "delete", "read", "share"), (4, 4, 2, 6, 1))[0]
        if what == "write" or not own:
            self._write(own, chance)
        elif what == "share":
            self._share(chance)
        else:
            file = chance.choice(own[-400:])
            if what == "read":
                self._read(file, chance)
            else:
                self._change(file, GONE if what == "delete" else _content(file.fid, chance), chance)

    def _write(self, own: list[File], chance: random.Random) -> None:
        file = self._assigned()
        if file is not None:
            own.append(file)
            self._change(file, _content(file.fid, chance), chance)

    def _assigned(self) -> File | None:
        call = ask(self.master.address, {"replication": "001"})
        if call.status != 200:
            self.refused[f"assign {call.status}"] += 1
            return None
        fid = str(call.answer["fid"])
        found = ask(self.master.address, {"volumeId": fid.partition(",")[0]}, path="/dir/lookup")
        if found.status != 200:
            return None
        return File(fid, tuple(sorted(place["url"] for place in found.answer["locations"])))

    def _share(self, chance: random.Random) -> None:
        if len(self.shared) < 5:
            file = self._assigned()
            if file is not None:
                self.shared.append(file)
            return
        file = chance.choice(self.shared)
        content = _content(file.fid, chance)
        file.attempts.append(content)  # it stays one, for nobody knows which was the last
        self._put(file, content, chance)

    def _change(self, file: File, content: bytes | None, chance: random.Random) -> None:
        file.attempts.append(content)
        if self._put(file, content, chance):
            file.acknowledged(content)

    def _put(self, file: File, content: bytes | None, chance: random.Random) -> bool:
        """Write or delete; whether it was acknowledged."""
        what = "DELETE" if content is GONE else "PUT"
        answer = _asked(what, f"{chance.choice(file.places)}/{file.fid}", content)
        if answer is not None and answer.status in ({202, 404} if content is GONE else {201, 204}):
            self.done[what] += 1
            return True
        self.refused[f"{what} {answer.status if answer is not None else 'without an answer'}"] += 1
        return False

    def _read(self, file: File, chance: random.Random) -> None:
        answer = _asked("GET", f"{chance.choice(file.places)}/{file.fid}")
        if answer is None or answer.status not in {200, 404}:
            self.refused[f"GET {answer.status if answer is not None else 'without an answer'}"] += 1
            return
        self.done["GET"] += 1
        if not file.may_hold(answer.body if answer.status == 200 else GONE):
            self.lost.append(f"{file.fid} was read as {_said(answer)}, it holds {_told(file.holds)}")


class Reader:
    """Reads one copy or none, over connections that are kept; a server that does not answer at once is an error."""

    def __init__(self) -> None:
        self._kept: dict[str, HTTPConnection] = {}

    def read(self, file: File, place: str) -> Answer:
        connection = self._kept.get(place)
        if connection is None:
            connection = self._kept[place] = HTTPConnection(place, timeout=PATIENCE)
        connection.request("GET", f"/{file.fid}?proxied=true")
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())

    def close(self) -> None:
        for connection in self._kept.values():
            connection.close()


def check_file(file: File, place: str, reader: Reader) -> tuple[str, bytes | None]:
    """What is wrong with one copy, "" if nothing is; and what it holds."""
    answer = reader.read(file, place)
    found = answer.body if answer.status == 200 else GONE
    if answer.status not in {200, 404} or not file.may_hold(found):
        tried = ", ".join(map(_told, file.attempts))
        return f"{file.fid} on {place} is {_said(answer)}; acknowledged: {_told(file.holds)}, tried: {tried}", found
    return "", found


def _asked(method: str, url: str, content: bytes | None = None) -> Answer | None:
    try:
        return request(method, url, content, timeout=PATIENCE)
    except (OSError, HTTPException):
        return None


def _content(fid: str, chance: random.Random) -> bytes:
    size = LARGE if chance.random() < 0.005 else chance.randrange(3000)
    return f"{fid} {time.monotonic_ns()} ".encode() + chance.randbytes(size)


def _told(content: bytes | None) -> str:
    return "nothing" if content is GONE else f"{content[:40]!r}… ({len(content)} bytes)"


def _said(answer: Answer) -> str:
    return f"{answer.status} {_told(answer.body)}"
