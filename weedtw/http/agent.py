"""Asking other servers over HTTP: pooled connections, time-outs on everything, answers of bounded size.

    peers = make_agent(reactor)
    answer = await peers.get_json("10.0.0.7:8080", "/status")
    response = await peers.request("GET", "10.0.0.7:8080", "/3,0163…", timeout=5.0)
    await response.relay(request)          # on to our own client, as fast as that client takes it
    …
    await peers.close()                    # when the service stops

What fails raises PeerError, with the status when there was an answer; Unreachable when no connection could be
made, so that nothing can have arrived.  Redirects are not followed, bodies are not unpacked, no cookies are kept.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlencode

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    _HTTP11ClientFactory,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from weedtw.config.security import NO_SECURITY, SecurityConfig
from weedtw.errors import PeerError, Unreachable
from weedtw.http.bodies import Buffers, BuffersBody, ReceivedBody, RelayedBody
from weedtw.http.dialling import Dialling
from weedtw.http.requests import SERVER, Request

JSON_LIMIT = 64 << 20  # bytes; the topology of a large cluster has to fit

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
# What an agent raises when a request fails on its way: not made, not sent, or not answered.
_ON_THE_WAY = (
    CancelledError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)


@attrs.frozen(eq=False)
class PeerResponse:
    """The head of another server's answer; take its body once, with `read`, `relay` or `drop`."""

    address: str
    response: IResponse
    clock: IReactorTime
    idle: float  # seconds without a byte after which the body is given up

    @property
    def status(self) -> int:
        """The HTTP status."""
        return cast(int, self.response.code)

    @property
    def length(self) -> int | None:
        """Length of the body in bytes; None when it was not announced."""
        length = self.response.length
        return length if isinstance(length, int) else None

    def header(self, name: str) -> str | None:
        """The first value of a header; None when it was not sent."""
        values = self.response.headers.getRawHeaders(name.encode("latin-1"))
        return values[0].decode("utf-8", "replace") if values else None

    async def read(self, limit: int = JSON_LIMIT) -> bytes:
        """The whole body; raises PeerError when it is longer than `limit` bytes, stalls or breaks off."""
        return await self._deliver(ReceivedBody(self.clock, self.idle, limit))

    async def relay(self, request: Request) -> None:
        """Write the body to `request`, following its client's pace; raises PeerError when it breaks off.

        Returns early when that client goes: nobody is left who could be told anything.
        """
        if request.is_gone:
            self.drop()
            return
        try:
            await self._deliver(RelayedBody(self.clock, self.idle, request))
        except PeerError:
            if not request.is_gone:
                raise

    def drop(self) -> None:
        """Take no body; the connection is closed."""
        body = ReceivedBody(self.clock, self.idle, 0)
        body.done.addErrback(lambda _: None)  # nobody wants to know how it ended
        self.response.deliverBody(body)
        body.done.cancel()

    async def _deliver(self, body: ReceivedBody) -> bytes:
        self.response.deliverBody(body)
        try:
            return await body.done
        except PeerError as error:
            raise PeerError(self.address, error.reason) from error


@attrs.frozen(eq=False)
class PeerAgent:
    """Speaks HTTP to other servers.  Times are in seconds."""

    agent: IAgent
    clock: IReactorTime
    timeout: float = 10.0
    pool: HTTPConnectionPool | None = None

    async def request(
        self,
        method: str,
        address: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Buffers | None = None,
        timeout: float | None = None,
    ) -> PeerResponse:
        """Ask `http://ADDRESS/PATH?QUERY`; returns when the head of the answer is there, whatever its status.

        `path` is percent-encoded already, the values of `query` are not.  `timeout` counts from the call to the
        head of the answer, and again for every pause in its body.  Raises PeerError, Unreachable.
        """
        allowed = self.timeout if timeout is None else timeout
        url = _url(address, path, query)
        lines = Headers({"User-Agent": [SERVER.decode()], **{k: [v] for k, v in (headers or {}).items()}})
        producer = BuffersBody(body) if body is not None else None
        asked: Deferred[IResponse] = self.agent.request(method.encode(), url, lines, producer)
        late = self.clock.callLater(allowed, asked.cancel)
        try:
            response = await asked
        except _ON_THE_WAY as error:
            raise _peer_error(address, error, None if late.active() else allowed) from error
        finally:
            if late.active():
                late.cancel()
        return PeerResponse(address, response, self.clock, allowed)

    async def get_json(
        self,
        address: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        timeout: float | None = None,
        limit: int = JSON_LIMIT,
    ) -> dict[str, Any]:
        """The JSON object at a path; raises PeerError with the status and the `error` of any other answer."""
        response = await self.request("GET", address, path, query, timeout=timeout)
        return await _json_of(response, limit)

    async def post_json(
        self,
        address: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        value: object = None,
        timeout: float | None = None,
        limit: int = JSON_LIMIT,
    ) -> dict[str, Any]:
        """POST `value` as JSON (None: no body) and take a JSON object; raises PeerError as `get_json`."""
        body = [] if value is None else [json.dumps(value).encode()]
        headers = {} if value is None else {"Content-Type": "application/json"}
        response = await self.request("POST", address, path, query, headers=headers, body=body, timeout=timeout)
        return await _json_of(response, limit)

    async def close(self) -> None:
        """Close the kept connections."""
        if self.pool is not None:
            await (self.pool.closeCachedConnections() or succeed(None))


class _Quiet(_HTTP11ClientFactory):
    """Makes connections without a line in the log for the beginning and the end of each."""

    noisy = False


def make_agent(
    reactor: Any,
    *,
    connect_timeout: float = 3.0,
    timeout: float = 10.0,
    connections_per_host: int = 8,
    security: SecurityConfig = NO_SECURITY,
) -> PeerAgent:
    """A PeerAgent on `reactor` (TCP, TLS and time).

    Kept connections are let go before the other side's idle time-out (30 s) can close them under a request.  What
    is not idempotent is never sent a second time; twisted repeats the rest only when a kept connection had died.
    """
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool._factory = _Quiet  # the one way to say it
    pool.maxPersistentPerHost = connections_per_host
    pool.cachedConnectionTimeout = 15
    agent = Agent.usingEndpointFactory(reactor, Dialling(reactor, connect_timeout, security), pool=pool)
    return PeerAgent(agent=agent, clock=reactor, timeout=timeout, pool=pool)


async def _json_of(response: PeerResponse, limit: int) -> dict[str, Any]:
    body = await response.read(limit)
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        value = None
    if response.status >= 400:
        said = value.get("error") if isinstance(value, dict) else None
        raise PeerError(response.address, str(said or f"answered {response.status}"), response.status)
    if not isinstance(value, dict):
        raise PeerError(response.address, "the answer is not a JSON object", response.status)
    return value


def _url(address: str, path: str, query: Mapping[str, object] | None) -> bytes:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise Unreachable(address, "this is not an address of the form host:port")
    encoded = urlencode({name: value for name, value in (query or {}).items() if value is not None})
    return f"http://{address}{path}{'?' if encoded else ''}{encoded}".encode("ascii")


def _peer_error(address: str, error: BaseException, waited: float | None) -> BaseException:
    """What a failure on the way means; `waited` is the time-out in seconds when that was the cause.

    CancelledError when it was our caller who gave up.
    """
    inner = _innermost(error)
    if waited is not None:
        if isinstance(inner, ConnectingCancelledError):
            return Unreachable(address, f"no connection within {waited:g} s")
        return PeerError(address, f"no answer within {waited:g} s")
    if isinstance(inner, CancelledError | ConnectingCancelledError):
        return CancelledError()
    reason = str(inner).strip().rstrip(".") or type(inner).__name__
    if isinstance(error, ConnectError | DNSLookupError):
        return Unreachable(address, reason)
    return PeerError(address, reason)


def _innermost(error: BaseException) -> BaseException:
    """The cause that twisted has wrapped, or the error itself."""
    reasons: Sequence[Failure] = getattr(error, "reasons", ())
    causes = [failure.value for failure in reasons if failure.value is not None]
    cancelled = [cause for cause in causes if isinstance(cause, CancelledError)]
    return next(iter(cancelled or causes), error)
