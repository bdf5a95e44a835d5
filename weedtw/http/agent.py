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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlencode

import attrs
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionLost, DNSLookupError
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from weedtw.errors import PeerError, Unreachable
from weedtw.http.deadline import Deadline
from weedtw.http.requests import SERVER, Request

PIECE = 64 * 1024  # bytes handed to a connection at once
JSON_LIMIT = 64 << 20  # bytes; the topology of a large cluster has to fit

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_NO_CONNECTION = (ConnectError, ConnectingCancelledError, DNSLookupError)

Buffers = Sequence[bytes | memoryview]


@implementer(IBodyProducer)
class BuffersBody:
    """A request body made of buffers, which are sent in pieces as fast as the connection takes them."""

    def __init__(self, buffers: Buffers) -> None:
        self.length = sum(map(len, buffers))
        self._left = [memoryview(buffer) for buffer in reversed(buffers) if len(buffer)]
        self._consumer: IConsumer | None = None
        self._paused = False
        self._done: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Begin; the Deferred fires when everything was handed over."""
        self._consumer = consumer
        self._produce()
        return self._done

    def pauseProducing(self) -> None:
        """The connection has enough for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The connection takes more."""
        self._paused = False
        self._produce()

    def stopProducing(self) -> None:
        """Nothing more is wanted."""
        self._consumer = None
        self._left.clear()

    def _produce(self) -> None:
        while self._consumer is not None and not self._paused:
            if not self._left:
                self._consumer = None
                self._done.callback(None)
                return
            buffer = self._left.pop()
            if len(buffer) > PIECE:
                self._left.append(buffer[PIECE:])
            self._consumer.write(bytes(buffer[:PIECE]))


class _Body(Protocol):
    """Takes the body of an answer: gives up when it is too long or stalls."""

    transport: Any

    def __init__(self, clock: IReactorTime, idle: float, limit: int | None) -> None:
        self.done: Deferred[bytes] = Deferred(self._cancelled)
        self._deadline = Deadline(clock, self._stalled)
        self._idle = idle
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []
        self._problem = ""

    def connectionMade(self) -> None:
        self._deadline.set(self._idle)

    def dataReceived(self, data: bytes) -> None:
        if self._problem:
            return
        self._deadline.set(self._idle)
        self._size += len(data)
        if self._limit is not None and self._size > self._limit:
            self._give_up(f"the answer is longer than {self._limit} bytes")
        else:
            self._take(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.drop()
        self._ended()
        if self.done.called:
            return
        if isinstance(reason.value, ResponseDone) and not self._problem:
            self.done.callback(b"".join(self._pieces))
        else:
            why = self._problem or f"the answer broke off after {self._size} bytes"
            self.done.errback(PeerError("", why))

    def _take(self, data: bytes) -> None:
        self._pieces.append(data)

    def _ended(self) -> None:
        """Nothing more comes."""

    def _stalled(self) -> None:
        self._give_up(f"the answer stalled for {self._idle:g} s after {self._size} bytes")

    def _give_up(self, problem: str) -> None:
        self._problem = problem
        self._pieces.clear()
        self.transport.loseConnection()

    def _cancelled(self, done: Deferred[bytes]) -> None:
        self._give_up("given up")
        done.errback(CancelledError())


@implementer(IPushProducer)
class _Relay(_Body):
    """Passes the body of an answer on to a request of our own, no faster than its client takes it."""

    def __init__(self, clock: IReactorTime, idle: float, request: Request) -> None:
        super().__init__(clock, idle, None)
        self._request = request

    def connectionMade(self) -> None:
        super().connectionMade()
        self._request.registerProducer(self, streaming=True)

    def pauseProducing(self) -> None:
        self._deadline.clear()  # our own client is waited for; its channel has a time-out for that
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._deadline.set(self._idle)
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self._give_up("the client has gone")

    def _take(self, data: bytes) -> None:
        if self._request.is_gone:
            self._give_up("the client has gone")
        else:
            self._request.write(data)

    def _ended(self) -> None:
        if not self._request.is_gone:
            self._request.unregisterProducer()  # type: ignore[no-untyped-call]


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
        return await self._deliver(_Body(self.clock, self.idle, limit))

    async def relay(self, request: Request) -> None:
        """Write the body to `request`, following its client's pace; raises PeerError when it breaks off."""
        await self._deliver(_Relay(self.clock, self.idle, request))

    def drop(self) -> None:
        """Take no body; the connection is closed."""
        body = _Body(self.clock, self.idle, 0)
        body.done.addErrback(lambda _: None)  # nobody wants to know how it ended
        self.response.deliverBody(body)
        body.done.cancel()

    async def _deliver(self, body: _Body) -> bytes:
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
        try:
            response = await asked.addTimeout(allowed, self.clock)
        except defer.TimeoutError as error:
            raise PeerError(address, f"no answer within {allowed:g} s") from error
        except _NO_CONNECTION as error:
            raise Unreachable(address, _reason(error)) from error
        except (ResponseFailed, ResponseNeverReceived, ConnectionLost) as error:
            raise PeerError(address, _reason(error)) from error
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


def make_agent(
    reactor: Any,
    *,
    connect_timeout: float = 3.0,
    timeout: float = 10.0,
    connections_per_host: int = 8,
) -> PeerAgent:
    """A PeerAgent on `reactor` (TCP, TLS and time).

    Kept connections are let go before the other side's idle time-out (30 s) can close them under a request.  What
    is not idempotent is never sent a second time; twisted repeats the rest only when a kept connection had died.
    """
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = connections_per_host
    pool.cachedConnectionTimeout = 15
    agent = Agent(reactor, connectTimeout=connect_timeout, pool=pool)
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
    if not _ADDRESS.fullmatch(address):
        raise Unreachable(address, "this is not an address of the form host:port")
    encoded = urlencode({name: value for name, value in (query or {}).items() if value is not None})
    return f"http://{address}{path}{'?' if encoded else ''}{encoded}".encode("ascii")


def _reason(error: BaseException) -> str:
    """What went wrong on the way, in a few words."""
    reasons: Iterable[Failure] = getattr(error, "reasons", ())
    inner = next((failure.value for failure in reasons if failure.value is not None), error)
    return str(inner).strip().rstrip(".") or type(inner).__name__
