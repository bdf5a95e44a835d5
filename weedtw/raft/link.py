"""The way to one other node, dialled again and again: at once after a loss, then with growing, jittered pauses."""

import random
from collections.abc import Callable
from typing import Protocol as Interface

import attrs
from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed
from twisted.internet.error import ConnectionRefusedError as NothingListens
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from weedtw.errors import WeedError
from weedtw.raft.complaints import Complaints, is_of_tls, reason_of
from weedtw.raft.dial import Connect
from weedtw.raft.lines import Hello
from weedtw.raft.membership import NodeId
from weedtw.raft.messages import Message
from weedtw.raft.peer import Outbound

FIRST_PAUSE = 0.025  # seconds between attempts, before jitter; doubled with each
MAX_PAUSE = 2.0
STEADY = 1.0  # seconds that a connection must last before its end is worth an attempt at once

# What may go wrong with an attempt though all is well with this program.
_NETWORK = (ConnectError, ConnectionClosed, OSError, WeedError)  # and what TLS has
_ENDED_BY_US = (CancelledError, ConnectingCancelledError)


class Observer(Interface):
    """What a link tells about its node."""

    def up(self, node: NodeId) -> None:
        """Messages can leave for it."""

    def down(self, node: NodeId) -> None:
        """The connection to it has ended."""

    def refused(self, node: NodeId) -> None:
        """Nothing listens where it should be."""


class Link:
    """Dials one node as long as it is started, and sends when it can."""

    log = Logger()

    def __init__(
        self,
        node: NodeId,
        address: str,
        *,
        own_hello: Callable[[], Hello],
        connect: Connect,
        clock: IReactorTime,
        rng: random.Random,
        observer: Observer,
        complaints: Complaints,
        certified: bool,
    ) -> None:
        """`connect` makes an endpoint of an address, or raises a `WeedError`."""
        self.node = node
        self.address = address
        self.own_hello = own_hello
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._observer = observer
        self._complaints = complaints
        self._certified = certified
        self._service: ClientService | None = None
        self._connection: Outbound | None = None  # admitted or waiting for that
        self._since: float | None = None  # when it was admitted
        self._failures = 0  # attempts since it was last up for a while
        self._pausing = False  # between two attempts

    @property
    def who(self) -> str:
        """Its name in complaints."""
        return f"{self.node} at {self.address}"

    @property
    def connected(self) -> bool:
        """Whether messages can leave now."""
        return self._since is not None

    def start(self) -> None:
        """Begin to dial."""
        factory = _OutboundFactory(
            lambda: Outbound(self, self._clock, self._complaints.complain, certified=self._certified)
        )
        self._service = _QuietService(_Attempts(self), factory, retryPolicy=self._pause, clock=self._clock)
        self._service.startService()

    def stop(self) -> "Deferred[None]":
        """Hang up."""
        service, self._service = self._service, None
        if service is None:
            return succeed(None)
        if self._connection is not None:
            self._connection.hang_up()
        stopped: Deferred[None] = service.stopService()
        return stopped

    def dial_now(self) -> None:
        """There is news of the other side: do not wait out the pause.

        An attempt under way is left alone: two nodes that call each other would otherwise hang up on each other again
        and again.
        """
        if self._pausing and self._service is not None:
            self._service.stopService()
            self.start()

    def send(self, message: Message) -> None:
        """Send, or drop the message when nobody is there."""
        if self._connection is not None and self.connected:
            self._connection.send(message)

    # ------------------------------------------------------------------ what the connection tells

    def dialled(self, connection: Outbound) -> None:
        """The other side took the call."""
        self._connection = connection

    def up(self, connection: Outbound) -> None:  # noqa: ARG002 - the interface of a dialler
        """Messages may leave."""
        self._since = self._clock.seconds()
        self._complaints.mention(self.who, "connected")
        self._observer.up(self.node)

    def down(self, connection: Outbound) -> None:
        """A connection has ended."""
        if connection is not self._connection:
            return
        since, self._connection, self._since = self._since, None, None
        if since is None:
            return
        if self._clock.seconds() - since >= STEADY:
            self._failures = -1  # is the process gone?  The next attempt, made at once, will tell
        if self._service is not None:
            self._observer.down(self.node)

    # ------------------------------------------------------------------ attempts

    def attempt(self, factory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Dial once; what goes wrong is told here, since `ClientService` keeps it to itself."""
        self._pausing = False
        try:
            dialling = self._connect(self.address).connect(factory)
        except Exception:  # noqa: BLE001 - sorted out below; raised on, it would silently end all attempts
            dialling = fail(Failure())
        return dialling.addErrback(self._attempt_failed)

    def _attempt_failed(self, failure: Failure) -> Failure:
        if self._service is None or failure.check(
            *_ENDED_BY_US
        ):  # whatever a name's look-up says when it is cancelled
            return failure
        if not (failure.check(*_NETWORK) or is_of_tls(failure.value)):
            self.log.failure("dialling {node} broke down; that is a bug", failure, node=self.node)
            return failure
        self._complaints.complain(self.who, f"cannot be reached: {reason_of(failure)}")
        if failure.check(NothingListens):
            self._observer.refused(self.node)
        return failure

    def _pause(self, attempt: int) -> float:  # noqa: ARG002 - the signature of a retry policy
        """Seconds before the next attempt.

        Counted by admissions, not by `attempt`: a peer that takes the connection and refuses the hello is no success.
        The first ones are short: a process that is being killed may still take a call while its connections end.
        """
        self._failures += 1
        self._pausing = True
        if self._failures == 0:
            return 0.0
        return float(min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10)) * (0.5 + self._rng.random()))


@implementer(ILogObserver)
def _nowhere(event: LogEvent) -> None:
    """Take no notice."""


class _QuietService(ClientService):
    """Announces no attempts: what there is to say of them is said once, by the link."""

    _log = Logger(namespace=__name__, observer=_nowhere)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Attempts:
    """A link as the endpoint that `ClientService` wants."""

    link: Link

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        return self.link.attempt(protocolFactory)


@implementer(IProtocolFactory)
@attrs.define(eq=False)
class _OutboundFactory(Factory):
    """Builds the protocol of every attempt."""

    build: Callable[[], Outbound]

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Outbound:  # noqa: ARG002 - Twisted's signature
        return self.build()
