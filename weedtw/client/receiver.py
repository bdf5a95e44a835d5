"""Taking the body of an answer with back-pressure: while the last piece is being written, no more is read."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from weedtw.errors import PeerError
from weedtw.http.deadline import Deadline

Write: TypeAlias = Callable[[bytes], Awaitable[None] | None]


class BodyReceiver(Protocol):
    """Hands a body on, piece by piece.

    `finished` fires with the body's length in bytes once the last `write` is done.  It fails with PeerError when
    the body ends too soon or nothing comes for `idle` seconds, and with whatever `write` raises; then, and when it
    is cancelled, the connection is closed.
    """

    def __init__(self, address: str, write: Write, idle: float, clock: IReactorTime) -> None:
        self.finished: Deferred[int] = Deferred(self._cancelled)
        self._address = address
        self._write = write
        self._idle = idle
        self._deadline = Deadline(clock, self._stalled)
        self._received = 0
        self._waiting: list[bytes] = []  # received but not yet given to `write`: what was read before the pause
        self._writing: Deferred[None] | None = None
        self._held = False  # the connection was told to pause
        self._ended: BaseException | None = None
        self._over = False  # `finished` has fired

    def connectionMade(self) -> None:
        """Begin to expect bytes."""
        self._deadline.set(self._idle)

    def dataReceived(self, data: bytes) -> None:
        """Take a piece, and pause the connection as long as it cannot be written.

        It is paused again for each piece: the agent resumes it after delivering what came with the head.
        """
        if self._over:
            return
        self._received += len(data)
        self._waiting.append(data)
        if self._writing is None:
            self._deadline.set(self._idle)
            self._writing = Deferred.fromCoroutine(self._hand_on())
            self._writing.addCallbacks(self._written, self._failed)
        if self._writing is not None:
            self._deadline.clear()
            self._pause()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the end; it counts once everything before it was written."""
        self._deadline.drop()
        self._ended = reason.value
        if self._writing is None:
            self._finish()

    async def _hand_on(self) -> None:
        while self._waiting:
            piece = b"".join(self._waiting)
            self._waiting.clear()
            pending = self._write(piece)
            if pending is not None:
                await pending

    def _written(self, _: None) -> None:
        self._writing = None
        if self._over:
            return
        if self._ended is not None:
            self._finish()
        elif self._held:
            self._deadline.set(self._idle)
            self._resume()

    def _finish(self) -> None:
        if self._over:
            return
        if isinstance(self._ended, ResponseDone):
            self._over = True
            self.finished.callback(self._received)
        else:
            self._fail(PeerError(self._address, f"the answer broke off after {self._received} bytes"))

    def _stalled(self) -> None:
        self._fail(PeerError(self._address, f"the answer stalled for {self._idle:g} s"))

    def _failed(self, failure: Failure) -> None:
        self._fail(failure)

    def _fail(self, error: BaseException | Failure) -> None:
        if self._over:
            return
        self._over = True
        self._hang_up()
        self.finished.errback(error)

    def _cancelled(self, _: "Deferred[int]") -> None:
        self._over = True
        self._hang_up()

    def _hang_up(self) -> None:
        self._deadline.drop()
        self._waiting.clear()
        if self._writing is not None:
            self._writing.cancel()
        if self.transport is not None:
            self.transport.loseConnection()

    def _pause(self) -> None:
        self._held = True
        if self.transport is not None:
            self.transport.pauseProducing()  # type: ignore[attr-defined]  # the agent's transport is a producer

    def _resume(self) -> None:
        self._held = False
        if self.transport is not None:
            self.transport.resumeProducing()  # type: ignore[attr-defined]


class Hangup(Protocol):
    """Closes the connection of a body that nobody wants."""

    def connectionMade(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.loseConnection()
