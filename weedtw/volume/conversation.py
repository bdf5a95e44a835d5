"""One connection to a master: the loop of reports and acknowledgements.

Each report waits for its acknowledgement, so that what a master has is always what it acknowledged; the next one
tells the difference to that.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from weedtw.errors import BadBeat, WeedError
from weedtw.formats.beat import (
    MAX_LINE,
    Ack,
    Answer,
    Bye,
    Hello,
    Leader,
    Refused,
    Welcome,
    decode_answer,
    encode,
)
from weedtw.volume.standing import Standing

PATIENCE = 10.0  # seconds to wait for an answer, at least; three pulses if that is longer


@attrs.frozen
class Reporter:
    """What there is to say, and how often."""

    clock: IReactorTime
    hello: Callable[[], Hello]
    standing: Callable[[], Awaitable[Standing]]
    pulse: float  # seconds

    @property
    def patience(self) -> float:
        """Seconds to wait for an answer of a master."""
        return max(PATIENCE, 3 * self.pulse)


class Listener(Protocol):
    """Whom a conversation tells what the master said."""

    address: str

    def objection(self, welcome: Welcome) -> str:
        """Why this is not a master to report to; "" when it is."""

    def welcomed(self, conversation: "Conversation", welcome: Welcome) -> None:
        """The master takes us in."""

    def acknowledged(self, ack: Ack) -> None:
        """The master has applied a report."""

    def heard(self, leader: str | None, masters: tuple[str, ...]) -> None:
        """The master named the leader, and all masters."""

    def refused(self, reason: str) -> None:
        """The master does not take us in, or we do not want it to."""

    def lost(self, conversation: "Conversation") -> None:
        """The connection has ended."""


@attrs.define
class _Moment:
    """A thing to wait for: until `ring`, or until a time has passed."""

    clock: IReactorTime
    _waiter: Deferred[None] | None = None
    _has_rung: bool = False

    def ring(self) -> None:
        """End the wait, or the next one if nobody waits."""
        self._has_rung = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    async def wait(self, seconds: float) -> None:
        if not self._has_rung:
            self._waiter = Deferred()
            timer: IDelayedCall = self.clock.callLater(seconds, self.ring)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer.active():
                    timer.cancel()
        self._has_rung = False


class Conversation(LineReceiver):
    """One connection to a master: the loop of reports and acknowledgements."""

    log = Logger()
    delimiter = b"\r\n"
    MAX_LENGTH = MAX_LINE
    transport: ITCPTransport

    def __init__(self, link: Listener, reporter: Reporter) -> None:
        self.link = link
        self.reporter = reporter
        self.change = _Moment(reporter.clock)
        self._waiter: Deferred[Answer] | None = None
        self._early: list[Answer] = []
        self._task: Deferred[None] | None = None
        self.is_welcome = False
        self._began = 0.0

    @property
    def lasted(self) -> float:
        """Seconds since the connection was made."""
        return self.reporter.clock.seconds() - self._began

    def connectionMade(self) -> None:
        """Start to talk."""
        self._began = self.reporter.clock.seconds()
        self._task = Deferred.fromCoroutine(self._talk())
        self._task.addErrback(self._failed)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's signature
        """Stop talking; the link makes the next connection."""
        if self._task is not None:
            self._task.cancel()
        self.link.lost(self)

    def lineReceived(self, line: bytes) -> None:
        """Take one answer of the master."""
        try:
            answer = decode_answer(line)
        except BadBeat as error:
            self._give_up(str(error))
            return
        if isinstance(answer, Leader):
            self.link.heard(answer.leader, answer.masters)
        elif self._waiter is None:
            self._early.append(answer)
        else:
            waiter, self._waiter = self._waiter, None
            waiter.callback(answer)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002 - Twisted's signature
        """Give up on a master that does not end its line."""
        self._give_up(f"a line of more than {MAX_LINE} bytes")

    def bye(self) -> None:
        """Tell the master that we stop on purpose."""
        if self.is_welcome:
            self.transport.write(encode(Bye()))

    async def _talk(self) -> None:
        reporter = self.reporter
        self.transport.write(encode(reporter.hello()))
        answer = await self._answer()
        if isinstance(answer, Refused):
            self.link.refused(answer.reason)
            self.transport.loseConnection()
            return
        if not isinstance(answer, Welcome):
            raise BadBeat(f"the first answer is {type(answer).__name__.lower()}, neither welcome nor refused")
        objection = self.link.objection(answer)
        if objection:
            self.link.refused(objection)
            self.transport.loseConnection()
            return
        self.link.welcomed(self, answer)
        self.is_welcome = True
        known: Standing | None = None
        seq = 0
        while True:
            seq += 1
            standing = await reporter.standing()
            self._report(standing, known, seq)
            ack = await self._answer()
            if not isinstance(ack, Ack) or ack.seq != seq:
                raise BadBeat(f"report {seq} was not acknowledged, the answer was {ack!r:.200}")
            known = None if ack.full else standing
            self.link.acknowledged(ack)
            if not ack.full:
                await self.change.wait(reporter.pulse)

    def _report(self, standing: Standing, known: Standing | None, seq: int) -> None:
        difference = None if known is None else standing.since(known, seq)
        for message in standing.full(seq) if difference is None else [difference]:
            self.transport.write(encode(message))

    async def _answer(self) -> Answer:
        if self._early:
            return self._early.pop(0)
        self._waiter = Deferred()
        return await self._waiter.addTimeout(self.reporter.patience, self.reporter.clock)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            return
        if isinstance(failure.value, TimeoutError):
            self._give_up(f"no answer within {self.reporter.patience:g} s")
        elif isinstance(failure.value, WeedError):
            self._give_up(str(failure.value))
        else:
            self.log.failure("while reporting to master {address}", failure, address=self.link.address)
            self.transport.abortConnection()

    def _give_up(self, reason: str) -> None:
        self.log.error("master {address}: {reason}; connecting again", address=self.link.address, reason=reason)
        self.transport.abortConnection()


class Conversations(Factory):
    """Makes the protocol of each connection to one master."""

    noisy = False

    def __init__(self, link: Listener, reporter: Reporter) -> None:
        self.link = link
        self.reporter = reporter

    def buildProtocol(self, addr: IAddress | None) -> Conversation:  # noqa: ARG002 - Twisted's signature
        return Conversation(self.link, self.reporter)
