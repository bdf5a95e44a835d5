"""Writing and deleting on every copy of a volume: all of them, or none.

The server that a client talks to decides everything once (name, type, time, compression) and sends the result to
the other copies while it stores its own, as `PUT /FID?type=replicate&write=ID`.  When one copy fails, those
that took it, and those of which it is not known, are told to drop it again by `DELETE /FID?type=replicate&undo=ID`;
they put back what was there before.  A copy that cannot be told now is told again for a while.
"""

import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import PeerError, ReplicationFailed, Unavailable, Unreachable, VolumeNotFound, WeedError
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import Needle
from weedtw.http.agent import PeerAgent, PeerResponse
from weedtw.http.disposition import render_disposition
from weedtw.volume.locations import Locations
from weedtw.volume.upload import PAIR_PREFIX, unpack_pairs

TIMEOUT = 10.0  # seconds for a copy to answer, besides the time that its bytes take
SLOWEST = 1 << 20  # bytes a second that a copy is expected to take at least
UNDO_DELAYS = (0.5, 2.0, 8.0, 30.0)  # seconds between the attempts to have a write dropped

UNDO_HEADER = "X-Weedtw-Undo"

T = TypeVar("T")


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


@attrs.frozen(eq=False)
class Replicator:
    """Reaches the other copies of this server's volumes; `address` is this server."""

    log = Logger()

    address: str
    peers: PeerAgent
    locations: Locations
    clock: IReactorTime

    async def others(self, volume_id: int, copies: int) -> tuple[str, ...]:
        """Addresses of the `copies` - 1 other copies; raises Unavailable when fewer are known."""
        for fresh in (False, True):
            try:
                found = await self.locations.find(volume_id, fresh=fresh)
            except VolumeNotFound as error:  # it is here, but the masters have not taken it up yet
                raise Unavailable(
                    f"the master does not know yet where the copies of volume {volume_id} are"
                ) from error
            others = tuple(location.url for location in found if location.url != self.address)
            if len(others) >= copies - 1:
                return others
        raise Unavailable(f"volume {volume_id} has {len(others) + 1} of its {copies} copies now; nothing was written")

    async def write(
        self, others: Sequence[str], file_id: FileId, needle: Needle, *, fsync: bool, time_given: bool, own: Step
    ) -> tuple[Any, list[CopyResult]]:
        """Do `own` here and write the needle to the others; raises what `own` does, or ReplicationFailed."""
        write_id = uuid.uuid4().hex
        query: dict[str, object] = {"type": "replicate", "write": write_id, "ts": needle.last_modified or 0}
        query |= {"ttl": str(needle.ttl)} if needle.ttl else {}
        query |= {"cm": "true"} if needle.is_manifest else {}
        query |= {"fsync": "true"} if fsync else {}
        query |= {} if time_given else {"tsGiven": "false"}
        headers = _headers(needle)
        seconds = TIMEOUT + len(needle.data) / SLOWEST

        def send(address: str) -> Step:
            return self._step(address, file_id, write_id, "PUT", query, headers, [needle.data], seconds)

        return await self._everywhere(file_id, own, {address: send(address) for address in others})

    async def delete(
        self, others: Sequence[str], file_id: FileId, *, fsync: bool, own: Step
    ) -> tuple[Any, list[CopyResult]]:
        """Do `own` here and delete the file on the others; raises as `write` does."""
        write_id = uuid.uuid4().hex
        query: dict[str, object] = {"type": "replicate", "write": write_id}
        query |= {"fsync": "true"} if fsync else {}

        def send(address: str) -> Step:
            return self._step(address, file_id, write_id, "DELETE", query, {}, None, TIMEOUT)

        return await self._everywhere(file_id, own, {address: send(address) for address in others})

    # ------------------------------------------------------------- one copy

    def _step(
        self,
        address: str,
        file_id: FileId,
        write_id: str,
        method: str,
        query: dict[str, object],
        headers: dict[str, str],
        body: list[Any] | None,
        seconds: float,
    ) -> Step:

        async def ask() -> CopyResult:
            response = await self.peers.request(
                method, address, f"/{file_id}", query, headers=headers, body=body, timeout=seconds
            )
            return await _result(response)

        async def do() -> CopyResult:
            try:
                return await ask()
            except Unreachable:
                raise
            except PeerError as error:
                if error.status is not None:
                    raise
            try:  # a kept connection may have died under it; the id keeps it from being done twice
                return await ask()
            except Unreachable as error:  # but the first attempt may have come through
                raise PeerError(address, error.reason) from error

        async def undo(outcome: CopyResult | Failure) -> None:
            if isinstance(outcome, Failure):
                error = outcome.value
                if isinstance(error, Unreachable) or (isinstance(error, PeerError) and (error.status or 500) < 500):
                    return  # it did nothing
            elif outcome.unchanged:
                return
            undo_text = "" if isinstance(outcome, Failure) else outcome.undo
            query = {"type": "replicate", "undo": write_id} | ({"of": undo_text} if undo_text else {})
            await self._take_back(address, file_id, query)

        return Step(do, undo)

    async def _take_back(self, address: str, file_id: FileId, query: dict[str, str]) -> None:
        """Have a copy drop a write; what fails now is tried again behind the client's back."""
        try:
            await self._ask_to_drop(address, file_id, query)
        except WeedError as error:
            self.log.warn(
                "{address} could not be told to drop a failed write of {fid} ({reason}); trying again",
                address=address,
                fid=str(file_id),
                reason=str(error),
            )
            Deferred.fromCoroutine(self._keep_asking(address, file_id, query)).addErrback(
                lambda failure: self.log.failure("while undoing a write of {fid}", failure, fid=str(file_id))
            )

    async def _keep_asking(self, address: str, file_id: FileId, query: dict[str, str]) -> None:
        for delay in UNDO_DELAYS:
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

    async def _ask_to_drop(self, address: str, file_id: FileId, query: dict[str, str]) -> None:
        response = await self.peers.request("DELETE", address, f"/{file_id}", query, timeout=TIMEOUT)
        body = await response.read()
        if response.status >= 300:
            raise PeerError(address, _error_text(body) or f"answered {response.status}", response.status)

    # ------------------------------------------------------------- all copies

    async def _everywhere(self, file_id: FileId, own: Step, others: dict[str, Step]) -> tuple[Any, list[CopyResult]]:
        """Do all steps at once; when one fails, undo all and raise."""
        steps = [own, *others.values()]
        outcomes = await settled([step.do() for step in steps])
        if not any(isinstance(outcome, Failure) for outcome in outcomes):
            return outcomes[0], outcomes[1:]
        self.locations.forget(file_id.volume_id)
        undone = await settled([step.undo(outcome) for step, outcome in zip(steps, outcomes, strict=True)])
        for outcome in undone:
            if isinstance(outcome, Failure):
                self.log.error("undoing a write of {fid}: {reason}", fid=str(file_id), reason=str(outcome.value))
        if isinstance(outcomes[0], Failure):
            outcomes[0].raiseException()
        failures = [outcome for outcome in outcomes[1:] if isinstance(outcome, Failure)]
        for failure in failures:
            if not isinstance(failure.value, WeedError):
                failure.raiseException()
        raise ReplicationFailed(tuple(str(failure.value) for failure in failures))


async def settled(works: Sequence[Awaitable[Any]]) -> list[Any]:
    """Do all at once: the results, a Failure where one failed, when all have come to their end."""
    deferreds = [Deferred.fromCoroutine(_awaited(work)) for work in works]
    results = await DeferredList(deferreds, consumeErrors=True)
    return [result for _, result in results]


async def _awaited(work: Awaitable[T]) -> T:
    return await work


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
