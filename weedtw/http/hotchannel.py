"""A connection with a hot path: what the site's `Hot` recognises is answered here, all else by `HttpChannel`.

Both are the same connection in the same phases, with the same limits and time-outs.  A hot request is answered in
phase HEAD, before the channel has looked at a byte of it; one whose answer comes later is BUSY meanwhile.
"""

from typing import TYPE_CHECKING

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from weedtw.http.head import END
from weedtw.http.hot import MOST_BODY, Hot, Later
from weedtw.http.http11 import HttpChannel, Phase
from weedtw.http.outflow import Outflow, Pump
from weedtw.http.straight import send_some

if TYPE_CHECKING:
    from weedtw.http.channel import Site

_HEAD = Phase.HEAD  # asked for at every request, for which an enumeration is slow
_FLUSH = 64 * 1024  # bytes of answers that are sent together


class HotChannel(HttpChannel):
    """The server's side of one HTTP connection to a site with a hot path."""

    def __init__(self, site: "Site", hot: Hot) -> None:
        super().__init__(site)
        self._take = hot.take
        self._count, self._width = site.traffic.hot, site.traffic.width
        self._seconds = site.reactor.seconds
        self._later: Later | None = None  # while the hot path owes an answer
        self._pump: Pump | None = None  # while it sends a long answer
        self._asked = b"", 0.0  # how the request for either begins, and when it came

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.phase is _HEAD and not self._in and not self._stepping:
            try:
                taken = self._answer_hot(data)
            except Exception as error:  # noqa: BLE001 - a fault of ours: the client is told, the log has it
                self.log.failure("answering a hot request")
                self._refuse(error)
                return
            if taken == len(data):
                return
            data = data[taken:]
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone; so is whoever awaits an answer."""
        later, self._later = self._later, None
        if later is not None:
            later.gone = True
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.drop()
        super().connectionLost(reason)

    def _take_head(self) -> bool:
        taken = 0 if self._searched else self._answer_hot(bytes(self._in))
        if taken:
            del self._in[:taken]
            if self.phase is Phase.HEAD:
                self._set_deadline()  # for what is left, which may be the beginning of a head
            return True
        return super()._take_head()

    def _dispatch(self) -> None:
        block, self._block = self._block, b""
        if not block or not self._answer_spooled(block):
            super()._dispatch()

    def _answer_spooled(self, block: bytes) -> bool:
        """Answer on the hot path a request that was none only because its body came after its head."""
        [request] = self.requests
        if request.content.size > MOST_BODY:
            return False
        began = self._seconds()
        reply, _ = self._take(block + END + bytes(request.body), 0)
        if reply is None:
            return False
        start = block[: self._width]
        self._head = self._framing = None
        request.discard()
        self.requests.clear()
        if isinstance(reply, bytes):
            self._count(start, reply, self._seconds() - began)
            self._send(reply)
            self._enter(Phase.HEAD)
        else:
            self._answer_later(reply, start)
        return True

    def _answer_hot(self, data: bytes) -> int:
        """Answer the requests at the start of `data` that are hot; how many bytes those are.

        Whoever does not take the answers gets no more of them: what is left waits, as it does on the other way.
        """
        if self._waitingForTransport or self.site.stopping:
            return 0
        began = self._seconds()
        reply, end = self._take(data, 0)
        if reply is None:
            return 0
        start = data[: self._width]
        if not isinstance(reply, bytes):
            self._answer_later(reply, start)
            return end
        now = self._seconds()
        self._count(start, reply, now - began)
        if end < len(data):
            return self._answer_further(data, end, reply)
        if not self._send(reply) or not self._deadline.put_off(now + self.patience.idle):
            self._set_deadline()
        return end

    def _answer_further(self, data: bytes, at: int, answer: bytes) -> int:
        """The same of what is pipelined behind a request that ends at `at` and has that answer."""
        take, seconds, count, width = self._take, self._seconds, self._count, self._width
        answers = [answer]
        size = len(answer)
        began = seconds()
        while at < len(data) and not self._waitingForTransport:
            reply, end = take(data, at)
            if reply is None:
                break
            start = data[at : at + width]
            at = end
            if not isinstance(reply, bytes):
                self._send(b"".join(answers))
                self._answer_later(reply, start)
                return at
            now = seconds()
            count(start, reply, now - began)
            began = now
            answers.append(reply)
            size += len(reply)
            if size > _FLUSH:
                self._send(b"".join(answers))
                answers, size = [], 0
        self._send(b"".join(answers))
        self._set_deadline()
        return at

    def _answer_later(self, reply: Later | Outflow, start: bytes) -> None:
        """Nothing else is answered before that answer is there, and sent; `start` is how the request begins."""
        self._asked = start, self._seconds()
        self.phase = Phase.BUSY
        if self._waitingForTransport:
            self._set_deadline()
        else:
            self._deadline.clear()  # the answer is awaited, not the client
        if isinstance(reply, Outflow):
            self._pump = Pump(self, reply, self._hot_poured)
            self._pump.start()
            return
        self._later = reply
        answer = reply.take(self._hot_answered)
        if answer is not None:
            self._hot_answered(answer)

    def _hot_poured(self, error: Exception | None) -> None:
        """The long answer is sent, or has broken off."""
        pump, self._pump = self._pump, None
        if pump is None or self.phase is not Phase.BUSY:
            return
        if error is not None:
            self.log.failure("an answer has broken off", Failure(error))
            self.abort()  # nothing else tells the client that it is not whole
            return
        start, began = self._asked
        self._count(start, pump.flow.head, self._seconds() - began)
        self._hot_is_done()

    def _hot_answered(self, answer: bytes) -> None:
        self._later = None
        start, began = self._asked
        self._count(start, answer, self._seconds() - began)
        if self.phase is not Phase.BUSY:
            return
        if self.site.stopping:
            head, end, body = answer.partition(END)
            answer = head + b"\r\nConnection: close" + end + body
            self.persistent = False
        self._send(answer)
        self._hot_is_done()

    def _hot_is_done(self) -> None:
        if not self.persistent:
            self._close()
            return
        self.phase = _HEAD
        idle_until = self._seconds() + self.patience.idle
        if self._in or self._waitingForTransport or not self._deadline.put_off(idle_until):
            self._set_deadline()
        if self._in:
            self._advance()

    def _send(self, data: bytes) -> bool:
        """Send what the hot path has answered; whether the socket took all of it."""
        if self._straight:
            sent = send_some(self.transport, data)
            if sent == len(data):
                return True
            data = data[sent:]
        self.write(data)
        return False
