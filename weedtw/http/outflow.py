"""Long answers on the hot path: from where their pieces are to the socket, without a coroutine in between.

A hotspot gives an `Outflow`; the channel has a `Pump` send it, as fast as the client takes it and no more than
`TURN` bytes in a row, so that others have their turn.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from weedtw.http.http11 import HttpChannel

TURN: Final = 1024 * 1024  # bytes after which others are to have a turn, however fast the client takes them
_NOTHING: Final = memoryview(b"")


class Outflow(ABC):
    """An answer whose body comes in pieces."""

    head: bytes  # everything before the body
    place: tuple[int, int] | None = None  # descriptor and offset of the file, if one has the last piece, too

    @abstractmethod
    def piece(self) -> memoryview | None:
        """The next piece, which is the caller's until the next call; an empty one behind the last.

        None when it is not there yet: see `fetch`.  Raises Damaged.
        """

    @abstractmethod
    def put_back(self, count: int) -> None:
        """So many bytes at the end of the last piece are not taken yet, and are to be given again when they are.

        Until then the piece may be used for something else: a client that takes nothing is to cost nothing.
        """

    @abstractmethod
    def fetch(self) -> "Deferred[None]":
        """Get what `piece` did not have; fails with Damaged."""

    @abstractmethod
    def end(self, error: Exception | None) -> None:
        """Called once: all was taken, or the client is gone, or that error has ended it."""


@implementer(IPushProducer)
class Pump:
    """Sends one answer on one connection; calls `ended`, with the error if there was one, unless it is dropped."""

    def __init__(self, channel: "HttpChannel", flow: Outflow, ended: Callable[[Exception | None], None]) -> None:
        self.flow = flow
        self._channel = channel
        self._ended: Callable[[Exception | None], None] | None = ended
        self._rest = _NOTHING  # of a piece that the client did not take yet
        self._place: tuple[int, int] | None = None  # where in a file that is
        self._paused = False
        self._busy = False  # with sending, or with waiting for a piece

    def start(self) -> None:
        """Send the head, and as much of the rest as goes at once."""
        self._channel.registerProducer(self, True)  # type: ignore[no-untyped-call]
        self._paused = self._channel._waitingForTransport
        head = self.flow.head
        sent = self._channel.write_some(head)  # what the transport buffers would hold up the first piece
        if sent < len(head):
            self._channel.write(head[sent:])
        self._go_on()

    def drop(self) -> None:
        """The connection is gone."""
        if self._ended is not None:
            self._ended = None
            self.flow.end(None)

    def pauseProducing(self) -> None:
        """The connection has enough for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The connection takes more."""
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """The connection is gone; the channel tells."""

    def _go_on(self) -> None:
        if self._busy or self._ended is None:
            return
        self._busy = True
        try:
            is_whole = self._send()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take this for a whole answer
            self._end(error)
            return
        if is_whole:
            self._end(None)
        elif self._paused:
            if self._rest:
                self.flow.put_back(len(self._rest))
                self._rest = _NOTHING
            self._busy = False
        elif self._rest:
            self._channel.site.reactor.callLater(0, self._have_turn)
        else:
            self.flow.fetch().addCallbacks(self._have_turn, self._failed)

    def _send(self) -> bool:
        """Send until all is sent, the client has enough, a piece is not there, or others are to have their turn.

        Returns whether all is sent.
        """
        channel, turn = self._channel, 0
        while not self._paused:
            if not self._rest:
                piece = self.flow.piece()
                if not piece:
                    return piece is not None
                self._rest, self._place = piece, self.flow.place
            if turn >= TURN:
                break
            sent = channel.write_some(self._rest, self._place)
            turn += sent
            self._rest = self._rest[sent:]
            if self._place is not None:
                self._place = self._place[0], self._place[1] + sent
        return False

    def _have_turn(self, _: None = None) -> None:
        self._busy = False
        if not self._paused:
            self._go_on()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        self._end(error if isinstance(error, Exception) else RuntimeError(str(error)))

    def _end(self, error: Exception | None) -> None:
        ended, self._ended = self._ended, None
        if ended is None:
            return
        self._channel.unregisterProducer()  # type: ignore[no-untyped-call]
        self.flow.end(error)
        ended(error)
