"""One other copy of a volume: what it is sent, what it answers, and how it is told to drop a write again.

    PUT /FID?type=replicate&write=ID&ts=…    the needle as it was decided, headers make it the same there
    DELETE /FID?type=replicate&write=ID      the delete
    DELETE /FID?type=replicate&undo=ID       either is taken back; `of=` names it to a server that was started anew

Every write has an id, so that sending it again after a broken connection does not do it twice.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import PeerError, Unreachable, WeedError
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import Needle
from weedtw.http.agent import PeerAgent, PeerResponse
from weedtw.http.disposition import render_disposition
from weedtw.volume.upload import PAIR_PREFIX, unpack_pairs

TIMEOUT = 10.0  # seconds for a copy to answer, besides the time that its bytes take
SLOWEST = 1 << 20  # bytes a second that a copy is expected to take at least
AT_ONCE = 1.0  # seconds within which a failed attempt was a dead connection, and is made again
UNDO_DELAYS = (0.1, 2.0, 8.0, 30.0)  # seconds between the attempts to have a write dropped
UNDO_HEADER = "X-Weedtw-Undo"


@attrs.frozen
class CopyResult:
    """What another copy answered."""

    unchanged: bool = False  # it had the very same already
    size: int = 0  # bytes that were deleted
    undo: str = ""  # names the write even to a server that was started anew


@attrs.frozen(eq=False)
class Step:
    """What has to be done on one copy, and how it is undone."""

    do: Callable[[], Awaitable[Any]]
    undo: Callable[[Any], Awaitable[None]]  # given the result, or the failure of which it is not known what it did


@attrs.frozen
class Order:
    """A write or delete as it is sent to every other copy."""

    file_id: FileId
    write_id: str
    method: str
    query: Mapping[str, object]
    headers: Mapping[str, str] = attrs.Factory(dict)
    body: Sequence[bytes | memoryview] | None = None

    @classmethod
    def write(cls, file_id: FileId, write_id: str, needle: Needle, *, fsync: bool, time_given: bool) -> "Order":
        """Store this needle; `time_given` is whether its time is the client's word."""
        query: dict[str, object] = {"type": "replicate", "write": write_id, "ts": needle.last_modified or 0}
        query |= {"ttl": str(needle.ttl)} if needle.ttl else {}
        query |= {"cm": "true"} if needle.is_manifest else {}
        query |= {"fsync": "true"} if fsync else {}
        query |= {} if time_given else {"tsGiven": "false"}
        return cls(file_id, write_id, "PUT", query, _headers(needle), [memoryview(needle.data)])

    @classmethod
    def delete(cls, file_id: FileId, write_id: str, *, fsync: bool) -> "Order":
        """Delete the file."""
        query: dict[str, object] = {"type": "replicate", "write": write_id}
        return cls(file_id, write_id, "DELETE", query | ({"fsync": "true"} if fsync else {}))

    @property
    def seconds(self) -> float:
        """How long a copy may take."""
        return TIMEOUT + sum(map(len, self.body or ())) / SLOWEST


@attrs.define(eq=False)
class OtherCopies:
    """Speaks with servers that hold other copies."""

    log = Logger()

    peers: PeerAgent
    clock: IReactorTime
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

    def close(self) -> None:
        """Ask no more."""
        for asking in list(self._asking):
            asking.cancel()

    async def _send(self, address: str, order: Order) -> CopyResult:
        began = self.clock.seconds()
        try:
            return await self._ask(address, order)
        except Unreachable:
            raise
        except PeerError as error:
            if error.status is not None or self.clock.seconds() - began > AT_ONCE:
                raise
        try:
            return await self._ask(address, order)
        except Unreachable as error:  # but the first attempt may have come through
            raise PeerError(address, error.reason) from error

    async def _ask(self, address: str, order: Order) -> CopyResult:
        response = await self.peers.request(
            order.method,
            address,
            f"/{order.file_id}",
            order.query,
            headers=order.headers,
            body=order.body,
            timeout=order.seconds,
        )
        return await _result(response)

    async def _take_back(self, address: str, file_id: FileId, query: dict[str, str]) -> None:
        """Have a copy drop a write; what fails now is tried again behind the client's back."""
        try:
            await self._ask_to_drop(address, file_id, query)
        except WeedError as error:
            self._ask_behind(address, file_id, query, str(error))

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
        response = await self.peers.request("DELETE", address, f"/{file_id}", query, timeout=TIMEOUT)
        body = await response.read()
        if response.status >= 300:
            raise PeerError(address, _error_text(body) or f"answered {response.status}", response.status)


def _may_have_been_done(error: BaseException | None) -> bool:
    """Whether a request that failed so may have had its effect: not when it never arrived or was refused."""
    if isinstance(error, Unreachable):
        return False
    return not isinstance(error, PeerError) or (error.status or 500) >= 500


def _headers(needle: Needle) -> dict[str, str]:
    """What makes the other server store the same needle."""
    headers: dict[str, str] = {}
    if needle.mime:
        headers["Content-Type"] = needle.mime.decode("utf-8", "replace")
    if needle.name:
        headers["Content-Disposition"] = render_disposition("attachment", needle.name.decode("utf-8", "replace"))
    if needle.is_gzipped:
        headers["Content-Encoding"] = "gzip"
    prefix = PAIR_PREFIX.decode().capitalize()
    return headers | {prefix + name: value for name, value in unpack_pairs(bytes(needle.pairs)).items()}


async def _result(response: PeerResponse) -> CopyResult:
    """What the answer to a replicated write or delete says; raises PeerError when it is none of success."""
    body = await response.read()
    if response.status == 404 and (size := _deleted_size(body)) is not None:
        return CopyResult(size=size)  # nothing was there to be deleted
    if response.status >= 300:
        raise PeerError(response.address, _error_text(body) or f"answered {response.status}", response.status)
    undo = response.header(UNDO_HEADER) or ""
    return CopyResult(unchanged=response.status == 204, size=_deleted_size(body) or 0, undo=undo)


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
