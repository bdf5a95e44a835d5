"""HTTP/1.1 on one connection: limits, time-outs, refusals that reach the client, pipelining in order.

twisted.web's channel keeps the side that writes; the side that reads is made anew here.  It falls short there:
a drip of bytes holds a connection for ever, 100 Continue is sent before anything is checked, folded header lines
and Transfer-Encoding: identity are taken, refusals are bare, a body has no limit, and closing with
unread bytes lets the kernel throw away an answer that the client has not read yet.

A connection is in one phase at a time:

    HEAD    waits for, or has a part of, the head of a request
    BODY    takes the body of that request into its spool
    BUSY    the request is being answered; what is pipelined behind it waits, a little of it in memory
    LINGER  a refusal was written; what the client still sends is thrown away, for a while
    CLOSED  nothing is read any more
"""

import enum
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers

from weedtw.errors import BadMessage, TooLarge, WeedError
from weedtw.http.deadline import Deadline
from weedtw.http.framing import ChunkedFraming, Framing, LengthFraming
from weedtw.http.head import END, RequestHead, check_beginning, parse_head
from weedtw.http.requests import SERVER, Request
from weedtw.http.responses import error_headers, error_value, render_json, status_of
from weedtw.http.spool import Spool
from weedtw.http.straight import await_room, can_send, send, send_file, send_some

if TYPE_CHECKING:
    from weedtw.http.channel import Site

_CONTROLS = bytes([*range(9), *range(10, 32), 127])
_LARGE = 32 * 1024  # bytes that are worth a call into the kernel of their own
_EMPTY_LINES = 4  # before a request line; more of them are no HTTP


@attrs.frozen
class Patience:
    """How long a client may take, in seconds, and how slow it may be."""

    idle: float = 30.0  # without a byte of a next request
    head: float = 20.0  # from the first byte of a head to its last
    window: float = 20.0  # a body, or an answer, has to move by `rate` bytes a second within each
    rate: int = 1024  # bytes a second, on average over a window
    linger: float = 10.0  # taking what a refused client still sends
    linger_bytes: int = 256 << 20
    eager: int = 16 * 1024  # bytes of pipelined requests held while one is being answered


class Phase(enum.Enum):
    """What a connection is doing; see the module."""

    HEAD = enum.auto()
    BODY = enum.auto()
    BUSY = enum.auto()
    LINGER = enum.auto()
    CLOSED = enum.auto()


class HttpChannel(HTTPChannel):
    """The server's side of one HTTP connection."""

    log = Logger()
    site: "Site"
    transport: Any  # a connection that can be paused, half closed when it is TCP, and aborted
    requests: list[Request]

    def __init__(self, site: "Site") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.site = self.factory = site
        self.patience = site.patience
        self.phase = Phase.HEAD
        self.persistent = True
        self._deadline = Deadline(site.reactor, self._too_slow)
        self._in = bytearray()  # received and not yet understood
        self._searched = 0  # bytes of _in that were searched for the end of a head
        self._empty_lines = 0
        self._head: RequestHead | None = None  # of the request whose body is awaited
        self._block = b""  # that head as it came, when a body belongs to it
        self._framing: Framing | None = None
        self._moved = 0  # bytes of body since the window began; in LINGER, bytes thrown away
        self._stepping = False
        self.is_proven = False  # whether the other side has shown that it knows the cluster's secret
        self._reading = True  # whether the transport was last told to read
        self._straight = False  # whether the socket may be written to when nothing waits in the transport
        self._unsent = 0  # bytes handed to the transport since it was last empty
        self._taken: int | None = None  # bytes that the client had taken when the window for an answer began

    # ------------------------------------------------------------- the connection

    def connectionMade(self) -> None:
        """Wait for the first request."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._straight = can_send(self.transport)
        self._networkProducer = self.transport
        self.transport.registerProducer(self, True)
        self._enter(Phase.HEAD)
        self.site.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.phase is Phase.LINGER:
            self._throw_away(data)
        elif self.phase is Phase.BODY and not self._in and not self._stepping:
            self._advance(lambda: self._take_body(data))  # a large body is not copied through _in
        elif self.phase is not Phase.CLOSED:
            first = not self._in
            self._in += data
            if first and self.phase is Phase.HEAD:
                self._set_deadline()
            self._advance()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone; so is the request under way."""
        self.phase = Phase.CLOSED
        self._deadline.drop()
        self._in.clear()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.requests.clear()
        self.site.disconnected(self)

    def finish_up(self) -> None:
        """Close as soon as the request under way, if there is one, is answered: the server is stopping."""
        self.persistent = False
        if self.phase is Phase.HEAD:
            self._close()
        elif self.phase is Phase.LINGER:
            self._deadline.set(min(1.0, self.patience.linger))

    def abort(self) -> None:
        """Cut the connection, unsent bytes and all."""
        self.phase = Phase.CLOSED
        self.transport.abortConnection()

    def break_off(self) -> None:
        """Send what was written of an answer that gets no longer, and close."""
        self._close()

    # ------------------------------------------------------------- from bytes to requests

    def _advance(self, first: Callable[[], bool] | None = None) -> None:
        """Understand as much of what was received as can be acted on now; never runs inside itself.

        What is wrong with the client's bytes becomes a refusal.
        """
        if self._stepping:
            return
        self._stepping = True
        try:
            going_on = (first or self._step)()
            while going_on:
                going_on = self._step()
        except WeedError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours: the client is told, the log has it
            self.log.failure("reading a request")
            self._refuse(error)
        finally:
            self._stepping = False
        self._steer_reading()

    def _step(self) -> bool:
        """One head, or one stretch of body; False when there is nothing more to do now."""
        if self.phase is Phase.HEAD:
            if self._waitingForTransport:
                return False  # the client does not take what it was answered: no more until it does
            return self._take_head()
        if self.phase is Phase.BODY and self._in:
            data = bytes(self._in)
            self._in.clear()
            return self._take_body(data)
        return False

    def _take_head(self) -> bool:
        while self._in.startswith(b"\r\n"):
            self._empty_lines += 1
            if self._empty_lines > _EMPTY_LINES:
                raise BadMessage("too many empty lines before a request")
            del self._in[:2]
        end = self._in.find(END, max(0, self._searched - len(END) + 1))
        if end < 0:
            check_beginning(bytes(self._in), self._searched)
            self._searched = len(self._in)
            return False
        block = bytes(self._in[:end])
        head = parse_head(block)
        self._block = block if head.body_length else b""
        del self._in[: end + len(END)]
        self._searched = self._empty_lines = 0
        self._begin(head)
        return True

    def _begin(self, head: RequestHead) -> None:
        """Admit or refuse a request by its head, before any of its body is taken."""
        self._head = head
        self.persistent = head.keep_alive and not self.site.stopping
        request = self.site.requestFactory(self)
        self.requests.append(request)
        for name, value in head.fields:
            request.requestHeaders.addRawHeader(name, value)
        request.set_line(head.method, head.target, head.version)
        limit = self.site.admit(request)
        request.content = Spool(self.site.room, limit, head.body_length)
        if head.body_length == 0:
            self._dispatch()
            return
        self._framing = ChunkedFraming() if head.body_length is None else LengthFraming(head.body_length)
        self._moved = 0
        self._enter(Phase.BODY)
        if head.expects_continue and not self._in:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_body(self, data: bytes) -> bool:
        assert self._framing is not None
        spool = self.requests[-1].content
        for piece in self._framing.feed(data):
            spool.write(piece)
            self._moved += len(piece)
        if not self._framing.done:
            return False
        self._in[:0] = self._framing.rest
        self._dispatch()
        return True

    def _dispatch(self) -> None:
        """Let the request be answered."""
        self._head = self._framing = None
        self._enter(Phase.BUSY)
        self.requests[-1].process()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.phase is Phase.BUSY

    def requestDone(self, request: Request) -> None:
        """The answer is written; go on with what was pipelined behind the request, or close."""
        assert self.requests == [request]
        self.requests.clear()
        if self.phase is not Phase.BUSY:
            return
        if not self.persistent:
            self._close()
            return
        self._enter(Phase.HEAD)
        self._advance()

    # ------------------------------------------------------------- refusing and closing

    def _refuse(self, error: Exception) -> None:
        """Answer a request that was not admitted, so that the client sees the answer, and close."""
        if self.phase is Phase.BUSY:
            self.abort()  # an answer may be half written
            return
        if isinstance(error, TooLarge) and error.limit < self.site.body_limit:  # it was not for a file
            error = BadMessage(f"the body is over the limit of {error.limit} bytes that this path has", 413)
        value = render_json(error_value(error))
        body = b"" if self._head is not None and self._head.method == b"HEAD" else value
        status = status_of(error)
        lines = [
            b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()),
            b"Server: " + SERVER,
            b"Date: " + self.site.date(),
            b"Content-Type: application/json",
            b"X-Content-Type-Options: nosniff",
            *(name + b": " + value for name, value in error_headers(error)),
            b"Content-Length: %d" % len(value),
            b"Connection: close",
        ]
        for request in self.requests:
            request.discard()
        self.requests.clear()
        self._head = self._framing = None
        self._in.clear()
        self.site.traffic.refused(status)
        self.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more comes, and take what is still on its way: closing now could destroy the answer."""
        plain_tcp: bool = ITCPTransport.providedBy(self.transport) and not ISSLTransport.providedBy(self.transport)
        if not plain_tcp:  # TLS has an end of its own, which a half-closed socket would cut off
            self._close()
            return
        self._moved = 0
        self._enter(Phase.LINGER)
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()
        self.transport.resumeProducing()

    def _throw_away(self, data: bytes) -> None:
        self._moved += len(data)
        if self._moved > self.patience.linger_bytes:
            self.abort()

    def _close(self) -> None:
        """Close once what was written is sent, however long the client takes within reason."""
        self._enter(Phase.CLOSED)
        self.loseConnection()  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------- time

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Give the client the time that what is awaited of it may take."""
        patience = self.patience
        if self.phase is Phase.LINGER:
            self._deadline.set(patience.linger)
        elif self._waitingForTransport or self.phase is Phase.CLOSED:
            self._taken = self.site.taken(self.transport)
            unseen = 0 if self._taken is not None else self._unsent  # then all of it gets its time in advance
            self._deadline.set(patience.window + unseen / patience.rate)
        elif self.phase is Phase.HEAD:
            self._deadline.set(patience.head if self._in else patience.idle)
        elif self.phase is Phase.BODY:
            self._deadline.set(patience.window)
        else:
            self._deadline.clear()  # the endpoint is awaited, not the client

    def _too_slow(self) -> None:
        """The client has used up its time."""
        if self.phase is Phase.LINGER:
            self.abort()
        elif self._waitingForTransport or self.phase is Phase.CLOSED:
            if self._is_taking():
                self._set_deadline()
            else:
                self.abort()
        elif self.phase is Phase.HEAD and self._in:
            self._refuse(BadMessage("the head of the request did not come in time", 408))
        elif self.phase is Phase.HEAD:
            self._close()
        elif self._moved >= self.patience.rate * self.patience.window:
            self._moved = 0
            self._set_deadline()
        else:
            self._refuse(BadMessage("the body of the request comes too slowly", 408))

    def _is_taking(self) -> bool:
        """Whether the client has taken enough of the answer since the window began, as far as can be known."""
        before, now = self._taken, self.site.taken(self.transport)
        return before is not None and now is not None and now - before >= self.patience.rate * self.patience.window

    # ------------------------------------------------------------- writing

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Write the head of an answer; decides for good whether the connection stays open after it."""
        if self.site.stopping:
            self.persistent = False
        lines = [b"HTTP/1.1 " + code + b" " + reason]
        for name, values in headers.getAllRawHeaders():
            if name != b"Connection":
                lines += [name + b": " + value.translate(None, _CONTROLS) for value in values]
        if version == b"HTTP/1.0":
            sized = headers.hasHeader(b"Content-Length") or code in (b"204", b"304")
            self.persistent = self.persistent and sized
            if self.persistent:
                lines.append(b"Connection: keep-alive")
        if not self.persistent:
            lines.append(b"Connection: close")
        self.write(b"\r\n".join(lines) + b"\r\n\r\n")

    def write(self, data: bytes | memoryview) -> None:
        """Hand bytes to the transport; a large piece goes to the socket as far as that takes it."""
        rest = send(self.transport, data) if self._straight and len(data) >= _LARGE else bytes(data)
        if rest:
            self._unsent += len(rest)
            self.transport.write(rest)

    def write_some(self, data: bytes | memoryview, place: tuple[int, int] | None = None) -> int:
        """Send as much as the client takes now; how many bytes.  The request's producer is paused if that is not all.

        So what is left need not be copied to where it waits.  `place` is an open file's descriptor, and the offset at
        which the data is in that file, too.
        """
        if not self._straight or not self.transport.connected:
            self.write(data)
            return len(data)
        sent = send_some(self.transport, data) if place is None else send_file(self.transport, data, *place)
        if sent < len(data):
            self.yield_turn()
        return sent

    def yield_turn(self) -> None:
        """Pause the request's producer until others had their turn, and the client takes more."""
        if self._straight and not self._waitingForTransport:
            await_room(self.transport)
            self.pauseProducing()

    def writeSequence(self, iovec: list[bytes]) -> None:
        """Hand several byte strings to the transport."""
        self._unsent += sum(map(len, iovec))
        self.transport.writeSequence(iovec)

    def pauseProducing(self) -> None:
        """The client takes our bytes slower than they come: stop the producer, and give the client a time."""
        self._waitingForTransport = True
        self._set_deadline()
        if self._requestProducer is not None:
            self._requestProducer.pauseProducing()
        self._steer_reading()

    def stopProducing(self) -> None:
        """The transport has broken, and tells its producer before it tells its protocol."""
        for request in self.requests:
            request.is_gone = True
        super().stopProducing()  # type: ignore[no-untyped-call]

    def resumeProducing(self) -> None:
        """Everything written so far is sent."""
        self._waitingForTransport = False
        self._unsent = 0
        self._set_deadline()
        if self._requestProducer is not None:
            self._requestProducer.resumeProducing()
        elif self.phase is Phase.HEAD and self._in:
            self._advance()
        self._steer_reading()

    def _steer_reading(self) -> None:
        """Read from the client only what can be acted on or is little enough to keep."""
        if self.phase is Phase.LINGER or self.phase is Phase.CLOSED:
            return
        busy = self.phase is Phase.BUSY  # then go on reading, so as to see the client leave
        reading = len(self._in) <= self.patience.eager if busy else not self._waitingForTransport
        if reading != self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()
