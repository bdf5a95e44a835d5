"""One other copy of a volume: what it is sent, what it answers, and how it is told to drop a write again.

    PUT /FID?type=replicate&write=ID&ts=…    the needle as it was decided, headers make it the same there
    DELETE /FID?type=replicate&write=ID      the delete
    DELETE /FID?type=replicate&undo=ID       either is taken back; `of=` names it to a server that was started anew

Every write has an id, so that sending it again after a broken connection does not do it twice.
"""

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import PeerError, Unreachable, WeedError
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import Needle
from weedtw.http.answers import Answer
from weedtw.http.disposition import render_disposition
from weedtw.http.hop import Question
from weedtw.http.hops import Hops
from weedtw.http.requests import SERVER
from weedtw.http.tokens import Tokens
from weedtw.volume.upload import PAIR_PREFIX, Data, unpack_pairs

TIMEOUT = 10.0  # seconds for a copy to answer, besides the time that its bytes take
SLOWEST = 1 << 20  # bytes a second that a copy is expected to take at least
AT_ONCE = 1.0  # seconds within which a failed attempt was a dead connection, and is made again
UNDO_DELAYS = (0.1, 2.0, 8.0, 30.0)  # seconds between the attempts to have a write dropped
CONNECT = 3.0  # seconds for a connection to a copy
UNDO_HEADER = "X-Weedtw-Undo"
_UNDO = UNDO_HEADER.lower().encode()
_AGENT = ((b"User-Agent", SERVER),)
_CONTROLS = bytes([*range(9), *range(10, 32), 127])


class CopyResult(NamedTuple):
    """What another copy answered."""

    unchanged: bool = False  # it had the very same already
    size: int = 0  # bytes that were deleted
    undo: str = ""  # names the write even to a server that was started anew


@attrs.frozen(eq=False)
class Step:
    """What has to be done on one copy, and how it is undone."""

    do: Callable[[], Awaitable[Any]]
    undo: Callable[[Any], Awaitable[None]]  # given the result, or the failure of which it is not known what it did


def new_write_id() -> str:
    """A name for a write that nobody else gives, nor guesses."""
    return os.urandom(16).hex()


class Order(NamedTuple):
    """A write or delete as it is sent to every other copy."""

    file_id: FileId
    write_id: str
    method: bytes
    target: bytes  # path and query of the request; there is nothing in it that would have to be quoted
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: Data = b""

    @classmethod
    def write(cls, file_id: FileId, write_id: str, needle: Needle, *, fsync: bool, time_given: bool) -> "Order":
        """Store this needle; `time_given` is whether its time is the client's word."""
        target = f"/{file_id}?type=replicate&write={write_id}&ts={needle.last_modified or 0}"
        target += f"&ttl={needle.ttl}" if needle.ttl else ""
        target += "&cm=true" if needle.is_manifest else ""
        target += "&fsync=true" if fsync else ""
        target += "" if time_given else "&tsGiven=false"
        headers = _headers_of(bytes(needle.mime), bytes(needle.name), needle.is_gzipped, bytes(needle.pairs))
        return cls(file_id, write_id, b"PUT", target.encode(), headers, memoryview(needle.data))

    @classmethod
    def write_new(
        cls, file_id: FileId, data: Data, *, name: bytes, mime: bytes, is_gzipped: bool, now: int
    ) -> "Order":
        """Store a file of which no more is known, uploaded at that unix time; under an id of its own."""
        write_id = new_write_id()
        target = f"/{file_id}?type=replicate&write={write_id}&ts={now}&tsGiven=false"
        return cls(file_id, write_id, b"PUT", target.encode(), _headers_of(mime, name, is_gzipped, b""), data)

    @classmethod
    def delete(cls, file_id: FileId, write_id: str, *, fsync: bool) -> "Order":
        """Delete the file."""
        target = f"/{file_id}?type=replicate&write={write_id}{'&fsync=true' if fsync else ''}"
        return cls(file_id, write_id, b"DELETE", target.encode())

    def request(self, address: str) -> bytes:
        """The whole of it, to the server at an address."""
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n" % (
            *(self.method, self.target, address.encode("ascii", "replace"), _lines(self.fields)),
            len(self.body),
        )
        return b"".join((head, self.body))

    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """Its header lines."""
        return _AGENT + self.headers

    @property
    def seconds(self) -> float:
        """How long a copy may take."""
        return TIMEOUT + len(self.body) / SLOWEST


@attrs.define(eq=False)
class OtherCopies:
    """Speaks with servers that hold other copies."""

    log = Logger()

    hops: Hops
    clock: IReactorTime
    tokens: Tokens
    _asking: set[Deferred[None]] = attrs.field(factory=set, init=False)  # those that ask again for a drop

    def step(self, address: str, order: Order) -> Step:
        """What is done on the copy at `address`."""

        async def undo(outcome: Any) -> None:
            query = {"type": "replicate", "undo": order.write_id}
            if isinstance(outcome, Failure):
                if _may_have_been_done(outcome.value):  # nobody is to wait for a copy that does not answer
                    self._ask_behind(address, order.file_id, query, str(outcome.value))
            elif not outcome.unchanged:
                await self._take_back(address, order.file_id, query | ({"of": outcome.undo} if outcome.undo else {}))

        return Step(lambda: self._send(address, order), undo)

    def close(self) -> Deferred[None]:
        """Ask no more, and close the connections; fires when that is done."""
        for asking in list(self._asking):
            asking.cancel()
        return self.hops.close()

    async def _send(self, address: str, order: Order) -> CopyResult:
        began = self.clock.seconds()
        try:
            return await self._ask(address, order)
        except PeerError as error:
            return await self._ask_again(address, order, error, began)

    async def _ask_again(self, address: str, order: Order, error: PeerError, began: float) -> CopyResult:
        """After an attempt that failed: once more, if that was a dead connection; else raise the error."""
        if isinstance(error, Unreachable) or error.status is not None or self.clock.seconds() - began > AT_ONCE:
            raise error
        try:
            return await self._ask(address, order)
        except Unreachable as unreachable:  # but the first attempt may have come through
            raise PeerError(address, unreachable.reason) from unreachable

    def resumed(
        self, address: str, order: Order, outcome: CopyResult | Failure, began: float
    ) -> Callable[[], Awaitable[CopyResult]]:
        """What goes on after a first attempt, begun at `began`, that came to `outcome`."""

        async def go_on() -> CopyResult:
            if not isinstance(outcome, Failure):
                return outcome
            if isinstance(outcome.value, PeerError):
                return await self._ask_again(address, order, outcome.value, began)
            raise outcome.value or RuntimeError

        return go_on

    def ask(self, address: str, order: Order) -> Deferred[Answer]:
        """Send an order once."""
        fields = order.fields + self._token(order.file_id)
        question = Question(order.method, order.target, fields, order.body)
        return self.hops.send(address, question, connect_within=CONNECT, answer_within=order.seconds).done

    async def _ask(self, address: str, order: Order) -> CopyResult:
        return self.result(address, await self.ask(address, order))

    @staticmethod
    def result(address: str, answer: Answer) -> CopyResult:
        """What the answer to a replicated write or delete says; raises PeerError when it is none of success."""
        status, body = answer.status, answer.body
        if status == 201:
            return CopyResult(undo=(answer.header(_UNDO) or b"").decode("latin-1"))
        if status == 404 and (size := _deleted_size(body)) is not None:
            return CopyResult(size=size)  # nothing was there to be deleted
        if status >= 300:
            raise PeerError(address, _error_text(body) or f"answered {status}", status)
        undo = (answer.header(_UNDO) or b"").decode("latin-1")
        return CopyResult(unchanged=status == 204, size=_deleted_size(body) or 0, undo=undo)

    async def _take_back(self, address: str, file_id: FileId, query: dict[str, str]) -> None:
        """Have a copy drop a write; what fails now is tried again behind the client's back."""
        try:
            await self._ask_to_drop(address, file_id, query)
        except WeedError as error:
            self._ask_behind(address, file_id, query, str(error))

    def _token(self, file_id: FileId) -> tuple[tuple[bytes, bytes], ...]:
        headers = self.tokens.headers(file_id, writes=True)
        return tuple((name.encode(), value.encode()) for name, value in headers.items())

    def _ask_behind(self, address: str, file_id: FileId, query: dict[str, str], reason: str) -> None:
        asking = Deferred.fromCoroutine(self._keep_asking(address, file_id, query, reason))
        self._asking.add(asking)
        asking.addErrback(self._stopped_asking, file_id)
        asking.addBoth(lambda _: self._asking.discard(asking))

    async def _keep_asking(self, address: str, file_id: FileId, query: dict[str, str], reason: str) -> None:
        for delay in UNDO_DELAYS:
            self.log.warn(
                "{address} could not be told to drop a failed write of {fid} ({reason}); trying again",
                address=address,
                fid=str(file_id),
                reason=reason,
            )
            await deferLater(self.clock, delay)
            try:
                await self._ask_to_drop(address, file_id, query)
            except WeedError as error:
                reason = str(error)
            else:
                return
        self.log.error(
            "{address} may hold a write of {fid} that failed elsewhere: {reason}",
            address=address,
            fid=str(file_id),
            reason=reason,
        )

    def _stopped_asking(self, failure: Failure, file_id: FileId) -> None:
        if isinstance(failure.value, CancelledError):
            self.log.error("a copy may hold a write of {fid} that failed elsewhere", fid=str(file_id))
        else:
            self.log.failure("while undoing a write of {fid}", failure, fid=str(file_id))

    async def _ask_to_drop(self, address: str, file_id: FileId, query: dict[str, str]) -> None:
        question = Question(b"DELETE", _target(file_id, query), _AGENT + self._token(file_id))
        asked = self.hops.send(address, question, connect_within=CONNECT, answer_within=TIMEOUT)
        answer = await asked.done
        if answer.status >= 300:
            raise PeerError(address, _error_text(answer.body) or f"answered {answer.status}", answer.status)


def _target(file_id: FileId, query: Mapping[str, object]) -> bytes:
    return f"/{file_id}?{urlencode(query)}".encode()


def _may_have_been_done(error: BaseException | None) -> bool:
    """Whether a request that failed so may have had its effect: not when it never arrived or was refused."""
    if isinstance(error, Unreachable):
        return False
    return not isinstance(error, PeerError) or (error.status or 500) >= 500


@lru_cache(1024)
def _headers_of(mime: bytes, name: bytes, is_gzipped: bool, pairs: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """What makes the other server store the same needle."""
    headers: dict[str, str] = {}
    if mime:
        headers["Content-Type"] = mime.decode("utf-8", "replace")
    if name:
        headers["Content-Disposition"] = render_disposition("attachment", name.decode("utf-8", "replace"))
    if is_gzipped:
        headers["Content-Encoding"] = "gzip"
    if pairs:
        prefix = PAIR_PREFIX.decode().capitalize()
        headers |= {prefix + key: value for key, value in unpack_pairs(pairs).items()}
    return tuple([(name.encode("latin-1", "replace"), _line(value)) for name, value in headers.items()])


@lru_cache(1024)
def _lines(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def _line(value: str) -> bytes:
    """A header's value, in which nothing ends a line."""
    return value.encode().translate(None, _CONTROLS)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body) if body else {}
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _error_text(body: bytes) -> str:
    error = _fields(body).get("error")
    return error if isinstance(error, str) else ""


def _deleted_size(body: bytes) -> int | None:
    fields = _fields(body)
    size = fields.get("size")
    return size if isinstance(size, int) and "error" not in fields else None
