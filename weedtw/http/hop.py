"""One connection to another server that requests are passed on to: idle, or with one request on it."""

import socket
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from weedtw.errors import BadMessage
from weedtw.http.answers import AnswerReader
from weedtw.http.bodies import PIECE, BuffersBody
from weedtw.http.deadline import Deadline
from weedtw.http.straight import can_send, send

if TYPE_CHECKING:
    from weedtw.http.hops import Errand, Hops

ANSWER_LIMIT = 64 << 20  # bytes; the topology of a large cluster has to fit


@attrs.frozen
class Question:
    """A request to pass on.  `target` is its path and query, `fields` its header lines without those of one hop."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes | memoryview = b""

    def head(self, address: str) -> bytes:
        """The bytes before the body."""
        lines = [b"%b %b HTTP/1.1" % (self.method, self.target), b"Host: " + address.encode("ascii", "replace")]
        lines += [b"%b: %b" % field for field in self.fields]
        if len(self.body) or self.method in {b"POST", b"PUT"}:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n"


class Hop(Protocol):
    """One connection to another server: idle, or with one request on it."""

    transport: Any

    def __init__(self, hops: "Hops", address: str) -> None:
        self.address = address
        self._hops = hops
        self._deadline = Deadline(hops.clock, self._too_late)
        self._until = 0.0  # on the clock: when the answer has to be there
        self._too_late_because = ""
        self._errand: Errand | None = None
        self._reader: AnswerReader | None = None
        self._sending: BuffersBody | None = None  # while a large body is on its way
        self._straight = False  # whether the socket may be written to when nothing waits in the transport
        self._is_ending = False  # by us; the transport tells later that it has ended

    def connectionMade(self) -> None:
        """Ready for the first request."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._straight = can_send(self.transport)
        self._hops.opened(self)

    @property
    def is_over(self) -> bool:
        """Whether it is closed, or being closed by us."""
        return self._is_ending

    def is_sound(self) -> bool:
        """Whether the other side has not closed, nor said anything unasked, as far as this host knows.

        Asked before a request is sent: the reactor may not have heard yet of an end that the kernel knows of, and a
        request sent into it could not be sent again.
        """
        if self._is_ending:
            return False
        get_handle = getattr(self.transport, "getHandle", None)
        handle = get_handle() if get_handle is not None else None
        if not isinstance(handle, socket.socket):
            return True
        try:
            handle.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # its end, or bytes

    def carry(self, errand: "Errand", within: float) -> None:
        """Send an errand's request; it is told how that went."""
        question = errand.question
        self._errand = errand
        self._reader = AnswerReader(question.method, ANSWER_LIMIT)
        self._until = self._hops.clock.seconds() + within
        self._too_late_because = f"no answer within {within:g} s"
        self._deadline.set(within)
        head = question.head(self.address)
        if len(question.body) <= PIECE:
            data = head + question.body
            if self._straight:
                data = send(self.transport, data)
            if data:
                self.transport.write(data)
            return
        self.transport.write(head)
        body = self._sending = BuffersBody([question.body])
        self.transport.registerProducer(body, True)
        body.startProducing(self.transport).addCallback(self._sent)

    def hurry(self, seconds: float, reason: str) -> None:
        """The answer has to be there within `seconds` if it had longer."""
        if self._hops.clock.seconds() + seconds < self._until:
            self._until = self._hops.clock.seconds() + seconds
            self._too_late_because = reason
            self._deadline.set(seconds)

    def rest(self, seconds: float) -> None:
        """Wait so long for another request."""
        self._deadline.set(seconds)

    def stop(self) -> None:
        """Close; an errand under way is told."""
        if self._errand is None:
            self._end(abort=False)
        else:
            self._break("given up, since this server is stopping")

    def cut(self) -> None:
        """Close; nobody awaits anything from here any more."""
        was_busy, self._errand = self._errand is not None, None
        self._end(abort=was_busy)

    def dataReceived(self, data: bytes) -> None:
        """A part of an answer."""
        if self._errand is None or self._reader is None:
            self._end(abort=False)  # an answer that nobody asked for
            return
        try:
            answer = self._reader.feed(data)
        except BadMessage as error:
            self._break(str(error))
            return
        if answer is None:
            return
        errand, self._errand, self._reader = self._errand, None, None
        if answer.keep_alive and self._sending is None:
            self._hops.keep(self)
        else:
            self._end(abort=self._sending is not None)
        errand.answered(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self._deadline.drop()
        self._hops.lost(self)
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.broke(str(reason.value).strip().rstrip("."))

    def _sent(self, _: None) -> None:
        self._sending = None
        self.transport.unregisterProducer()

    def _too_late(self) -> None:
        if self._errand is None:
            self._end(abort=False)
        else:
            self._break(self._too_late_because)

    def _break(self, reason: str) -> None:
        errand, self._errand = self._errand, None
        self._end(abort=True)
        if errand is not None:
            errand.broke(reason)

    def _end(self, abort: bool) -> None:
        self._is_ending = True
        if abort:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()
