"""Bodies between this server and others: those we send, those we take, those we pass on."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from weedtw.errors import PeerError
from weedtw.http.deadline import Deadline
from weedtw.http.requests import Request

PIECE = 64 * 1024  # bytes handed to a connection at once

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


class ReceivedBody(Protocol):
    """Takes the body of an answer; `done` gets it.

    It fails with PeerError, without an address, when the body is over `limit` bytes (None: any length), when `idle`
    seconds pass without a byte of it, and when it breaks off.
    """

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
        """The body begins."""
        self._deadline.set(self._idle)

    def dataReceived(self, data: bytes) -> None:
        """A part of the body."""
        if self._problem:
            return
        self._deadline.set(self._idle)
        self._size += len(data)
        if self._limit is not None and self._size > self._limit:
            self._give_up(f"the answer is longer than {self._limit} bytes")
        else:
            self._take(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is whole, or never will be."""
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
        done.errback(CancelledError())
        self._give_up("given up")


@implementer(IPushProducer)
class RelayedBody(ReceivedBody):
    """Passes the body of an answer on to a request of our own, no faster than its client takes it."""

    def __init__(self, clock: IReactorTime, idle: float, request: Request) -> None:
        super().__init__(clock, idle, None)
        self._request = request

    def connectionMade(self) -> None:
        """The body begins."""
        super().connectionMade()
        self._request.registerProducer(self, streaming=True)

    def pauseProducing(self) -> None:
        """Our own client is waited for; its channel has a time-out for that."""
        self._deadline.clear()
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Our own client takes more."""
        self._deadline.set(self._idle)
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Our own client has gone."""
        self._give_up("the client has gone")

    def _take(self, data: bytes) -> None:
        if self._request.is_gone:
            self._give_up("the client has gone")
        else:
            self._request.write(data)

    def _ended(self) -> None:
        self._request.unregisterProducer()
