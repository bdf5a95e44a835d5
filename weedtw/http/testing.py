"""A client's end of an in-memory connection, for tests of whatever answers HTTP: no sockets, no waiting.

    wire = Wire(make_site(resource, reactor=clock, body_limit=1000))
    wire.send(b"GET /status HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    [answer] = wire.answers()

The server reads what is sent at once, or later when it has paused its transport; `pump` lets it go on.
"""

import json
from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IProducer, IProtocol, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from weedtw.http.channel import Site

SEGMENT = 64 * 1024  # bytes the server is given at once, as a kernel would


@attrs.frozen
class Answer:
    """One answer as it came over the wire; `interim` are the statuses of the 1xx before it."""

    status: int
    headers: dict[str, str]  # by lower-case name, repeated ones joined by ", "
    body: bytes
    interim: tuple[int, ...] = ()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@implementer(ITCPTransport, IPushProducer, IConsumer)
class MemoryTransport:
    """The server's transport.  It takes `capacity` bytes before it tells its producer to wait; None: any number."""

    disconnecting = False

    def __init__(self, protocol: IProtocol, peer: str, capacity: int | None) -> None:
        self.protocol = protocol
        self.capacity = capacity
        self.reading = True
        self.half_closed = False  # nothing more can be written
        self.end: str = ""  # "closed" or "aborted" once it is
        self.pending = bytearray()  # written, and not taken by the client yet
        self.inbox = bytearray()  # sent by the client, and not read yet
        self.taken = 0  # bytes that the client has taken in all
        self.producer: Any = None
        self._producer_paused = False
        self._peer = IPv4Address("TCP", peer, 40000)
        self._delivering = False
        self._aborting = False

    def write(self, data: bytes) -> None:
        """Bytes for the client."""
        assert isinstance(data, bytes), type(data)
        if self.half_closed or self.disconnecting or self.end:
            return
        self.pending += data
        if self.capacity is not None and len(self.pending) > self.capacity and self.producer is not None:
            self._producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Bytes for the client."""
        self.write(b"".join(iovec))

    def take(self, count: int) -> bytes:
        """The client takes up to `count` bytes."""
        taken = bytes(self.pending[:count])
        del self.pending[:count]
        self.taken += len(taken)
        if not self.pending:
            if self._producer_paused and self.producer is not None:
                self._producer_paused = False
                self.producer.resumeProducing()
            if self.disconnecting:
                self.lose("closed")
        return taken

    def deliver(self) -> None:
        """Let the server read what the client has sent, as long as it wants to."""
        if self._delivering:
            return
        self._delivering = True
        try:
            while self.inbox and self.reading and not self.end and not self.disconnecting:
                data = bytes(self.inbox[:SEGMENT])
                del self.inbox[:SEGMENT]
                self.protocol.dataReceived(data)
        finally:
            self._delivering = False
        if self.disconnecting and not self.pending:
            self.lose("aborted" if self._aborting else "closed")

    def lose(self, how: str) -> None:
        """The connection ends, and the server is told."""
        if not self.end:
            self.end = how
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()  # before connectionLost, as a reactor does it
            reason = ConnectionAborted() if how == "aborted" else ConnectionDone()
            self.protocol.connectionLost(Failure(reason))

    def loseConnection(self, connDone: Failure | None = None) -> None:  # noqa: ARG002
        """Close once everything is taken."""
        self.disconnecting = True
        self.reading = False
        if not self.pending and not self._delivering:
            self.lose("closed")

    def loseWriteConnection(self) -> None:
        """Write no more; go on reading."""
        self.half_closed = True

    def abortConnection(self) -> None:
        """End at once; what the client has not taken is lost."""
        self.disconnecting = True
        self.reading = False
        self._aborting = True
        self.pending.clear()
        if not self._delivering:
            self.lose("aborted")

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Follow a push producer."""
        assert streaming
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        """No producer any more."""
        self.producer = None

    def pauseProducing(self) -> None:
        """The server wants to read no more for now."""
        self.reading = False

    def resumeProducing(self) -> None:
        """The server wants to read on; it does at the next `Wire.pump`."""
        self.reading = not self.disconnecting

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """Where the client is."""
        return self._peer

    def getHost(self) -> IPv4Address:
        """Where the server is."""
        return IPv4Address("TCP", "127.0.0.1", 80)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Accepted."""

    def getTcpNoDelay(self) -> bool:
        """Always on."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Accepted."""

    def getTcpKeepAlive(self) -> bool:
        """Never on."""
        return False


class Wire:
    """A client on a connection to `site`; `capacity` is how many bytes it lets the server run ahead."""

    def __init__(self, site: Site, *, peer: str = "127.0.0.1", capacity: int | None = None) -> None:
        protocol = site.buildProtocol(None)
        assert protocol is not None  # there are not too many
        self.protocol = protocol
        self.transport = MemoryTransport(protocol, peer, capacity)
        self.received = bytearray()
        protocol.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    def send(self, data: bytes) -> None:
        """Send bytes, and take what is answered at once unless the capacity is limited."""
        self.transport.inbox += data
        self.pump()

    def pump(self) -> None:
        """Let the server read, and take what it has written unless the capacity is limited."""
        self.transport.deliver()
        if self.transport.capacity is None:
            self.take()
            while self.transport.inbox and self.transport.reading and not self.transport.end:
                self.transport.deliver()
                self.take()

    def take(self, count: int = 1 << 30) -> None:
        """Take up to `count` bytes of what the server has written."""
        self.received += self.transport.take(count)

    def leave(self) -> None:
        """Close from the client's side."""
        self.transport.lose("closed")

    @property
    def end(self) -> str:
        """How the server ended the connection: "", "closed" or "aborted"; a half closed one is "" still."""
        return self.transport.end

    def answers(self, *methods: str) -> list[Answer]:
        """All whole answers so far, taken off; `methods` (GET where not given) says which have no body."""
        found: list[Answer] = []
        while self.received:
            method = methods[len(found)] if len(found) < len(methods) else "GET"
            answer = self._answer(method)
            if answer is None:
                break
            found.append(answer)
        return found

    def _answer(self, method: str) -> Answer | None:
        at, interim = 0, []
        while True:
            end = self.received.find(b"\r\n\r\n", at)
            if end < 0:
                return None
            first, *lines = self.received[at:end].decode("utf-8").split("\r\n")
            version, code, *_ = first.split(" ")
            assert version == "HTTP/1.1", first
            at = end + 4
            if int(code) >= 200:
                break
            interim.append(int(code))
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        body = self._body(at, int(code), headers, method)
        return None if body is None else Answer(int(code), headers, body, tuple(interim))

    def _body(self, at: int, status: int, headers: dict[str, str], method: str) -> bytes | None:
        """The body that begins at `at`, and everything up to its end off `received`; None when it is not whole."""
        if method == "HEAD" or status in (204, 304):
            body, end = b"", at
        elif headers.get("transfer-encoding") == "chunked":
            pieces = []
            while True:
                line_end = self.received.find(b"\r\n", at)
                if line_end < 0:
                    return None
                size = int(self.received[at:line_end], 16)
                piece = bytes(self.received[line_end + 2 : line_end + 2 + size])
                at = line_end + 2 + size + 2
                if len(self.received) < at:
                    return None
                pieces.append(piece)
                if not size:
                    break
            body, end = b"".join(pieces), at
        elif "content-length" in headers:
            end = at + int(headers["content-length"])
            if len(self.received) < end:
                return None
            body = bytes(self.received[at:end])
        else:
            if not self.end:
                return None
            body, end = bytes(self.received[at:]), len(self.received)
        del self.received[:end]
        return body
