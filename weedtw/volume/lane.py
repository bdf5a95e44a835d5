"""Small writes on their way to one other copy, many at once over one connection (HTTP calls that pipelining).

While many clients write, a request of its own for each write costs more than the write: a call into the kernel to
send it and one to receive it, a wake-up, and as much again for the answer.  A lane sends what has come together
during one turn of the reactor in one piece, or in a few, and the other server answers each in one piece.

A lane is for when all goes well.  It takes nothing when the other side has owed an answer for a while: one slow write
would hold up those behind it.  What was under way when it breaks may have been done or not; `fanout.py` finds out.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from weedtw.errors import BadMessage, PeerError, WeedError
from weedtw.http.answers import AnswerReader
from weedtw.http.hop import ANSWER_LIMIT, Hop
from weedtw.http.hops import IDLE, Hops
from weedtw.http.straight import send
from weedtw.volume.copies import CopyResult, OtherCopies

LARGEST: Final = 16 * 1024  # bytes of a body; larger ones gain nothing
_MOST: Final = 64  # writes without an answer
_TOGETHER: Final = 8  # writes that are sent at once: the other server is to work on them while more come in here
_HELD_UP: Final = 0.05  # seconds: an answer that takes longer holds up those behind it

# The answer of the other copy's hot path, see `hotwrite.py`.
_STORED: Final = re.compile(
    rb"HTTP/1\.1 201 Created\r\nServer: [^\r\n]{1,99}\r\nDate: [^\r\n]{1,99}\r\nETag: \"[0-9a-f]{1,16}\"\r\n"
    rb"X-Weedtw-Undo: ([0-9.\-]{1,200})\r\nCache-Control: no-store\r\nContent-Type: application/json\r\n"
    rb"Content-Length: ([0-9]{1,4})\r\nX-Content-Type-Options: nosniff\r\n\r\n"
)

Taker = Callable[[CopyResult | Failure], None]  # is told, once, what became of a write


class Lane(Hop):
    """A connection with several writes on it, which are answered in their order."""

    def __init__(self, hops: Hops, address: str) -> None:
        super().__init__(hops, address)
        self._clock = hops.clock
        self._takers: deque[tuple[float, Taker]] = deque()  # since when they wait
        self._unsent: list[bytes] = []
        self._is_due = False  # whether what is unsent will be sent soon
        self._within = 0.0  # seconds in which the next answer has to come
        self._answers = b""  # the beginning of one
        self._answer: AnswerReader | None = None  # of one that is not the usual one

    def take_on(self, request: bytes, within: float, taker: Taker) -> bool:
        """Send a request soon, if this is a good time; the taker is told of its answer, due in `within` seconds."""
        now = self._clock.seconds()
        if self._takers:
            if len(self._takers) >= _MOST or now - self._takers[0][0] > _HELD_UP or self._is_ending:
                return False
        elif not self.is_sound():
            return False
        self._within = within
        self._takers.append((now, taker))
        self._unsent.append(request)
        if len(self._unsent) >= _TOGETHER:
            self._send()
        elif not self._is_due:
            self._is_due = True
            self._clock.callLater(0, self._send_rest)
        return True

    def _send_rest(self) -> None:
        """This turn of the reactor is over."""
        self._is_due = False
        self._send()

    def _send(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if self._is_ending or not data:
            return
        self._deadline.set(self._within)
        if self._straight:
            data = send(self.transport, data)
        if data:
            self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        """Answers, or parts of them."""
        if not self._takers:
            self._end(abort=False)  # an answer that nobody asked for
            return
        oldest = self._takers[0]
        if self._answers:
            data, self._answers = self._answers + data, b""
        at = 0
        try:
            while at < len(data) and not self._is_ending:
                end = self._take_usual(data, at) if self._answer is None else -1
                if end < 0:
                    self._take_other(data[at:])
                    break
                if end == 0:
                    self._answers = data[at:]
                    break
                at = end
        except BadMessage as error:
            self._break(str(error))
        if not self._is_ending and not (self._takers and self._takers[0] is oldest):
            self._deadline.set(self._within if self._takers else IDLE)

    def _take_usual(self, data: bytes, at: int) -> int:
        """Where the answer that begins at `at` ends, if it is the usual one; 0 if that is still to come, else -1."""
        found = _STORED.match(data, at)
        if found is None:
            return 0 if len(data) - at < 512 and data.find(b"\r\n\r\n", at) < 0 else -1
        end = found.end() + int(found[2])
        if end > len(data):
            return 0
        self._tell(CopyResult(undo=found[1].decode()))
        return end

    def _take_other(self, data: bytes) -> None:
        """Take the answer that is at the beginning of the data, whatever it is; and those behind it."""
        reader = self._answer = self._answer or AnswerReader(b"PUT", ANSWER_LIMIT)
        answer = reader.feed(data)
        if answer is None:
            return
        self._answer = None
        closing = b"close" in (answer.header(b"connection") or b"").lower()
        try:
            outcome: CopyResult | Failure = OtherCopies.result(self.address, answer)
        except WeedError:
            outcome = Failure()
        self._tell(outcome)
        if closing:
            self._break("the other side has closed the connection")
        elif reader.rest:
            self.dataReceived(reader.rest)

    def _tell(self, outcome: CopyResult | Failure) -> None:
        if not self._takers:
            raise BadMessage("an answer that nobody asked for")
        _, taker = self._takers.popleft()
        taker(outcome)

    def stop(self) -> None:
        """Close; the writes under way are told."""
        self._break("given up, since this server is stopping")

    def cut(self) -> None:
        """Close."""
        self._break("the connection was given up")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self._is_ending = True
        self._tell_all(str(reason.value).strip().rstrip("."))
        super().connectionLost(reason)

    def _too_late(self) -> None:
        self._break(f"no answer within {self._within:g} s" if self._takers else "nothing to do")

    def _break(self, reason: str) -> None:
        if not self._is_ending:
            self._end(abort=bool(self._takers))
        self._tell_all(reason)

    def _tell_all(self, reason: str) -> None:
        self._unsent.clear()
        takers, self._takers = self._takers, deque()
        for _, taker in takers:
            taker(Failure(PeerError(self.address, reason)))


@attrs.define(eq=False)
class Lanes:
    """One lane to each other server."""

    hops: Hops
    _lanes: dict[str, Lane | None] = attrs.field(factory=dict, init=False)  # None while it is being connected

    def to(self, address: str) -> Lane | None:
        """The lane to a server; None while there is none, and then one is made."""
        lane = self._lanes.get(address)
        if lane is not None and not lane.is_over:
            return lane
        if lane is not None or address not in self._lanes:
            self._lanes[address] = None
            connecting: Deferred[Hop] = self.hops.connect(address, Lane)
            # Why there is none is told to whoever writes without it.
            connecting.addCallbacks(self._connected, lambda _: self._lanes.pop(address, None))
        return None

    def _connected(self, hop: Hop) -> None:
        assert isinstance(hop, Lane)
        self._lanes[hop.address] = hop
        hop.rest(IDLE)
