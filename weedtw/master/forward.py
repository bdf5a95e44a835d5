"""What only the leading master can do, asked of another one: passed on to the leader, and its answer back.

    @app.route("/dir/assign", methods=["GET", "POST"])
    @endpoint
    @guarded
    @led
    async def dir_assign(self, request: Request) -> bytes: ...

A request that was passed on carries a mark and is never passed on again: a master that gets it and does not lead
says so, and the one that sent it looks for the leader anew.  So it does when the leader cannot be reached; what is
known to have had no effect may be sent again, for PATIENCE seconds.  A request whose answer did not come is never
repeated: its client is told that it may have been carried out.

A leader that loses the lead in the middle of a request says so with its refusal.  Where that means that nobody was
given anything, the successor is asked: nobody who asks while the lead is handed over needs to notice it.
"""

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import PeerError, Unavailable, Undecided, Unreachable
from weedtw.http.answers import Answer
from weedtw.http.hop import Question
from weedtw.http.hops import HOP_BY_HOP, Errand, Hops
from weedtw.http.requests import Request
from weedtw.master.cluster import Cluster

MARK = b"X-Weedtw-Forwarded"  # cluster and node of the master that passed a request on
NOT_LEADER = b"X-Weedtw-Not-Leader"  # in an answer: nothing was done, since the master asked does not lead

PATIENCE = 2.0  # seconds that a request waits for a leader: an election takes less, unless a majority is missing
HOLD = 1.0  # seconds that a marked request waits for the lease of a master that has just been elected
CONNECT = 1.0  # seconds for a connection to the leader; a host that is gone says nothing at all
LOOK = 1.0  # seconds after which whoever has passed something on looks who leads, unless a change is announced
FIRST_PAUSE, MOST_PAUSE = 0.025, 0.2  # seconds before the next look, unless a change is announced
MOST = 1000  # requests that wait for the leader at the same time, here or there; further ones are refused at once
PACE = 1 << 20  # bytes a second, as slow as a body may travel on each of its ways


@attrs.frozen
class Times:
    """How long the leader may take: `answer` seconds in all, `deposed` from when another leads instead.

    That is where the bound matters: a leader that froze, or whose host is gone, is one that another has replaced.
    `again` says that a leader that could not decide gave nobody anything, so that the next one may be asked.
    """

    answer: float = 60.0
    deposed: float = 5.0
    again: bool = False


TIMES = {
    # A little more than the leader's own patience; a deposed one has no ids.
    b"/dir/assign": Times(15.0, 0.1, again=True),
    b"/submit": Times(60.0, again=True),  # and what the body takes; it is sent on once there is an id
    b"/vol/grow": Times(90.0),  # other orders come first, and servers that fail are replaced
    b"/vol/vacuum": Times(4 * 3600.0),  # one large volume alone may take an hour
    b"/col/delete": Times(120.0),
}

_BROWSERS = frozenset({b"origin", b"referer", b"sec-fetch-site", b"user-agent"})  # looked at here, of another host
_NOT_SENT = HOP_BY_HOP | _BROWSERS | {b"x-forwarded-for", MARK.lower()}
_NOT_RELAYED = HOP_BY_HOP | {b"date", b"server"}  # the last two are told by whoever answers


@attrs.define(eq=False)
class Forwarder:
    """Lets the leader answer what was asked of this master.

    `standing` says in a few words why nobody leads, as far as that can be known, for those who wait in vain.
    """

    log = Logger()

    cluster: Cluster
    hops: Hops
    standing: Callable[[], str] = lambda: "no master leads now"
    most: int = MOST
    _held: int = 0
    _errands: dict[Errand, float] = attrs.field(factory=dict, init=False)  # the seconds each has after a change
    _following: Deferred[None] | None = attrs.field(default=None, init=False)
    _complaint: str = attrs.field(default="", init=False)  # the last one logged since the leader last answered

    @property
    def leader(self) -> str | None:
        """The address of the leader, when it is another master and known."""
        ledger = self.cluster.ledger
        address = None if ledger.has_lead else ledger.leader_address
        return None if address == self.cluster.address else address

    async def forward(self, request: Request) -> bytes | None:
        """The leader's answer, set on `request`; None when this master leads, by now, and has to answer itself.

        Raises Unavailable when no leader answered, which says whether the request may have been carried out, and
        PeerError when the leader does not let this master in.
        """
        if self._held >= self.most:
            raise Unavailable(f"{self._held} requests wait for the leading master already; try again")
        self._held += 1
        try:
            marks = request.requestHeaders.getRawHeaders(MARK)
            if marks:
                await self._wait_to_lead(request, marks[0])
                return None
            answer = await self._ask_leader(request)
        finally:
            self._held -= 1
        return None if answer is None else _relay(request, answer)

    async def close(self) -> None:
        """Give up what is still on its way, and close the connections."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
        await self.hops.close()

    # -------------------------------------------------------------- the leader's side

    async def _wait_to_lead(self, request: Request, mark: bytes) -> None:
        """Return when this master leads, raise Unavailable when it does not; the sender is told that in a header.

        Only one that was elected waits, for its lease: the others' word is that it leads, so they have to wait too.
        """
        ledger, clock = self.cluster.ledger, self.cluster.clock
        if not is_ours(self.cluster, mark):
            request.setHeader(NOT_LEADER, b"1")
            raise Unavailable("this master is of another cluster than the one that passed this request on to it")
        until = clock.seconds() + HOLD
        while not ledger.is_leader:
            left = until - clock.seconds()
            if not ledger.has_lead or left <= 0:
                request.setHeader(NOT_LEADER, b"1")
                leader = self.leader
                raise Unavailable(f"this master does not lead; {leader} does" if leader else self.standing())
            if not await self._is_confirmed():
                await self.cluster.changes.wait(min(left, FIRST_PAUSE))
            else:
                return

    async def _is_confirmed(self) -> bool:
        """Whether a majority says now that this master leads.

        A leader has no lease for the rest of its term once it tried to hand the lead over and nobody took it; then it
        has to ask, for each request.
        """
        ledger = self.cluster.ledger
        if not ledger.has_lead:
            return False
        try:
            await ledger.confirm()
        except Unavailable:
            return False
        return True

    # -------------------------------------------------------------- the follower's side

    async def _ask_leader(self, request: Request) -> Answer | None:
        """The leader's answer; None when that is this master."""
        ledger, clock = self.cluster.ledger, self.cluster.clock
        until, pause, problem = clock.seconds() + PATIENCE, FIRST_PAUSE, ""
        while not (ledger.is_leader or await self._is_confirmed()):
            leader = self.leader
            if leader is not None:
                try:
                    answer = await self._ask(leader, request, until - clock.seconds())
                    if answer.header(NOT_LEADER.lower()) is None:
                        self._complaint = ""
                        return answer
                    problem = f"{leader}, which should lead, says that it does not"
                except Unreachable as error:
                    problem = f"the leading master cannot be reached: {error}"
            left = until - clock.seconds()
            if left <= 0:
                reason = problem if leader is not None and problem else self.standing()
                self._complain(reason)
                raise Unavailable(reason)
            await self.cluster.changes.wait(min(left, pause))
            pause = min(2 * pause, MOST_PAUSE)
        return None

    async def _ask(self, leader: str, request: Request, left: float) -> Answer:
        """One attempt; raises Unreachable when the request cannot have arrived, Unavailable when it may have."""
        times, size = TIMES.get(request.path, Times()), request.content.size
        journey = 2 * size / PACE  # to the leader, and on from there
        errand = self.hops.send(
            leader,
            Question(request.method, request.uri, self._fields(request), request.body if size else b""),
            connect_within=max(FIRST_PAUSE, min(CONNECT, left)),
            answer_within=times.answer + journey,
        )
        self._follow(errand, times.deposed + journey)
        try:
            answer = await errand.done
        except Unreachable:
            raise
        except PeerError as error:
            reason = f"the leading master did not answer, so this may or may not have been carried out: {error}"
            self._complain(reason)
            raise Unavailable(reason) from error
        finally:
            self._errands.pop(errand, None)
        if answer.status == 403:  # the client was let in here: it is this master that is not, over there
            raise PeerError(leader, "the leading master's white list does not let this master in (--whiteList)", 403)
        return answer

    def _fields(self, request: Request) -> tuple[tuple[bytes, bytes], ...]:
        """The header lines for the leader: the client's, who it is, and the mark."""
        headers = request.requestHeaders
        left_out = _NOT_SENT
        if (named := headers.getRawHeaders(b"Connection")) is not None:
            left_out = left_out | {token.strip().lower() for token in b",".join(named).split(b",")}
        fields = [
            (name, value)
            for name, values in headers.getAllRawHeaders()
            if name.lower() not in left_out
            for value in values
        ]
        before = headers.getRawHeaders(b"X-Forwarded-For") or []
        client = b", ".join([*before, request.client_host.encode("ascii", "replace")])
        ledger = self.cluster.ledger
        mark = f"{ledger.cluster_id} {ledger.node_id}".encode()
        return (*fields, (b"X-Forwarded-For", client), (MARK, mark))

    def _complain(self, reason: str) -> None:
        """Log a reason once until the leader has answered again: everybody who asks gets it."""
        if reason != self._complaint:
            self._complaint = reason
            self.log.warn("a request could not be passed on: {reason}", reason=reason)

    # -------------------------------------------------------------- leaders that are none any more

    def _follow(self, errand: Errand, seconds: float) -> None:
        """Give this errand only so long from when another master leads."""
        self._errands[errand] = seconds
        if self._following is None:
            self._following = Deferred.fromCoroutine(self._follow_changes())
            self._following.addErrback(self._not_followed)

    async def _follow_changes(self) -> None:
        """Runs as long as anything is on its way, and a little longer: mostly something else soon is."""
        while self._errands:
            await self.cluster.changes.wait(LOOK)
            leader = self.cluster.address if self.cluster.ledger.is_leader else self.leader
            if leader is not None:
                for errand, seconds in list(self._errands.items()):
                    if errand.address != leader:
                        errand.hurry(seconds, f"it was silent, and {leader} leads now")
        self._following = None

    def _not_followed(self, failure: Failure) -> None:
        self._following = None
        if failure.check(CancelledError) is None:
            self.log.failure("while following the leader", failure)


def is_ours(cluster: Cluster, mark: bytes) -> bool:
    """Whether it was a master of this cluster that passed a request on: its leader's address may be ours by now."""
    return mark.partition(b" ")[0] == cluster.ledger.cluster_id.encode()


def _relay(request: Request, answer: Answer) -> bytes:
    request.setResponseCode(answer.status)
    for name, value in answer.fields:
        if name.lower() not in _NOT_RELAYED:
            request.responseHeaders.addRawHeader(name, value)
    if answer.status not in {204, 304}:
        request.setHeader(b"Content-Length", b"%d" % len(answer.body))
    return answer.body


class _HasForwarder(Protocol):
    @property
    def cluster(self) -> Cluster: ...

    @property
    def forwarder(self) -> Forwarder: ...


_Self = TypeVar("_Self", bound=_HasForwarder)
_Arguments = ParamSpec("_Arguments")


def led(
    method: Callable[Concatenate[_Self, Request, _Arguments], Awaitable[bytes]],
) -> Callable[Concatenate[_Self, Request, _Arguments], Coroutine[Any, Any, bytes]]:
    """Let only the leading master run an endpoint, and the others pass it on; stands under `@guarded`.

    So each master asks its own white list first; the leader asks it about the master that passed a request on.
    """

    @functools.wraps(method)
    async def answer(self: _Self, request: Request, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> bytes:
        marks = request.requestHeaders.getRawHeaders(MARK)
        for is_last in (False, True):
            if not self.cluster.ledger.is_leader or (marks and not is_ours(self.cluster, marks[0])):
                body = await self.forwarder.forward(request)
                if body is not None:
                    return body
            try:
                return await method(self, request, *args, **kwargs)
            except Undecided:
                if not TIMES.get(request.path, Times()).again:
                    raise
                if marks:
                    request.setHeader(NOT_LEADER, b"1")  # the one that sent it looks for the successor
                if marks or is_last:
                    raise
        raise AssertionError("the last attempt returns or raises")

    return cast(Callable[Concatenate[_Self, Request, _Arguments], Coroutine[Any, Any, bytes]], answer)
