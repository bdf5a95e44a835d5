"""The two kinds of connection between nodes: hellos checked, lines in, lines out.

Each node dials every other one and only speaks on the connections that it dialled; what it hears comes in on those
that were dialled to it.  So there is one connection per pair and direction, and no question who repairs a broken one.
Messages to a node that cannot be reached are dropped: Raft sends again what matters.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from weedtw.errors import BadRequest, PeerError, WeedError
from weedtw.raft import lines
from weedtw.raft.complaints import reason_of
from weedtw.raft.lines import Hello
from weedtw.raft.membership import NodeId
from weedtw.raft.messages import Message

HELLO_TIMEOUT = 10.0  # seconds
LINGER = 2.0  # seconds for the last line to leave, before the connection is cut
MAX_UNSENT = 8 * 1024 * 1024  # bytes written to a peer that does not read, before messages to it are dropped
SILENCE = 5  # seconds without a sign from the other host's kernel while something is on its way there

Complain = Callable[[str, str], None]


class _Connection(ABC, LineReceiver, TimeoutMixin):
    """What both directions share: bounded lines, one hello in bounded time, an end that says why."""

    delimiter = b"\r\n"
    log = Logger()
    transport: Any
    hello: Hello | None = None  # the other side's, once admitted
    _ended = False

    def __init__(self, clock: IReactorTime, complain: Complain, *, certified: bool) -> None:
        """`complain` is told with whom a connection ended, and why; `certified` demands a certificate."""
        self.MAX_LENGTH = lines.MAX_HELLO  # until one has been admitted
        self._clock = clock
        self._complain = complain
        self._certified = certified

    # ------------------------------------------------------------------ what Twisted calls

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        """Where `TimeoutMixin` gets its time from."""
        return self._clock.callLater(period, func)

    def connectionMade(self) -> None:
        _notice_dead_hosts(self.transport)
        self.setTimeout(HELLO_TIMEOUT)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        if self._ended:
            self.transport.abortConnection()
        else:
            self.refuse(f"no hello within {HELLO_TIMEOUT:g} s")

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        if not self._ended:
            self._ended = True
            self.broke_off(reason)

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come; what comes after the end was announced is not looked at."""
        if not self._ended:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002 - Twisted's signature
        self.refuse(f"a line is longer than {self.MAX_LENGTH} bytes")

    def lineReceived(self, line: bytes) -> None:
        if self._ended:
            return
        try:
            reason = lines.decode_refusal(line)
            if reason is not None:
                self.refused(reason)
            elif self.hello is not None:
                self.messaged(self.hello, line)
            else:
                self._admit(lines.decode_hello(line))
        except WeedError as error:
            self.refuse(str(error))

    # ------------------------------------------------------------------ ends

    def refuse(self, reason: str) -> None:
        """Say why, and close."""
        if self._ended:
            return
        self._complain(self.who(), reason)
        self.sendLine(lines.encode_refusal(reason))  # type: ignore[no-untyped-call]
        self.hang_up()

    def refused(self, reason: str) -> None:
        """The other side has said why it closes; there is nothing to answer."""
        self._complain(self.who(), f"refused there: {reason}")
        self.hang_up()

    def hang_up(self) -> None:
        """Close; cut the connection when what is left to send does not leave soon."""
        if self._ended:
            return
        self._ended = True
        self.transport.unregisterProducer()  # a paused one would keep the connection open
        self.transport.loseConnection()
        self.setTimeout(LINGER)  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------------ what the directions differ in

    def _admit(self, hello: Hello) -> None:
        if self._certified:
            from weedtw.raft.tls import check_certificate  # noqa: PLC0415 - many a process speaks no TLS

            check_certificate(hello, self.transport)
        self.greeted(hello)
        self.hello = hello
        self.MAX_LENGTH = lines.MAX_LINE
        self.setTimeout(None)  # type: ignore[no-untyped-call]

    @abstractmethod
    def who(self) -> str:
        """The other side's name in complaints."""

    @abstractmethod
    def broke_off(self, reason: Failure | None) -> None:
        """The connection has ended, and nobody said why."""

    @abstractmethod
    def greeted(self, hello: Hello) -> None:
        """The other side's hello has come; raises `WeedError` to end the connection."""

    @abstractmethod
    def messaged(self, hello: Hello, line: bytes) -> None:
        """A further line has come; raises `WeedError` to end the connection."""


def _notice_dead_hosts(transport: Any) -> None:
    """A host that lost its power says no goodbye: have the kernel ask, so that the connection ends within seconds."""
    tcp = getattr(transport, "socket", None)  # TLS passes the question on; a transport in memory has none
    if tcp is not None:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000)


class Listener(Interface):
    """What an inbound connection tells the node it belongs to."""

    def admit(self, connection: "Inbound", hello: Hello) -> Hello:
        """Check a caller's hello; returns one's own.  Raises a `WeedError` to refuse the caller with its text."""

    def received(self, message: Message) -> None:
        """A well-formed message has come in from an admitted node; raises `WeedError` to end the connection."""

    def hung_up(self, connection: "Inbound") -> None:
        """A connection has ended, admitted or not."""


class Inbound(_Connection):
    """A connection that another node has dialled: its messages come in here."""

    def __init__(self, listener: Listener, clock: IReactorTime, complain: Complain, *, certified: bool) -> None:
        """Tell `listener` what comes in."""
        super().__init__(clock, complain, certified=certified)
        self._listener = listener
        self._own: NodeId = ""

    def who(self) -> str:
        """Its node and address; of a stranger only where it calls from."""
        if self.hello is not None:
            return f"{self.hello.node} at {self.hello.address}"
        return f"a caller from {getattr(self.transport.getPeer(), 'host', 'somewhere')}"

    def broke_off(self, reason: Failure | None) -> None:
        """What calls may also go; but who fails at the certificate wants to be told of."""
        if self.hello is None and reason is not None and not reason.check(ConnectionClosed):
            self._complain(self.who(), reason_of(reason))

    def greeted(self, hello: Hello) -> None:
        """Admit or refuse the caller."""
        own = self._listener.admit(self, hello)
        self._own = own.node
        self.sendLine(lines.encode_hello(own))  # type: ignore[no-untyped-call]

    def messaged(self, hello: Hello, line: bytes) -> None:
        """Hand a message on."""
        self._listener.received(lines.decode(line, sender=hello.node, to=self._own))

    def connectionLost(self, reason: Failure | None = None) -> None:
        super().connectionLost(reason)
        self._listener.hung_up(self)


class Dialler(Interface):
    """What an outbound connection needs of the link it belongs to."""

    node: NodeId

    @property
    def who(self) -> str:
        """The other node's name in complaints."""

    def own_hello(self) -> Hello:
        """How this node introduces itself."""

    def dialled(self, connection: "Outbound") -> None:
        """The other side took the call; whether it admits this node is still open."""

    def up(self, connection: "Outbound") -> None:
        """Messages may leave."""

    def down(self, connection: "Outbound") -> None:
        """The connection has ended."""


@implementer(IPushProducer)
class Outbound(_Connection):
    """A connection that this node has dialled: its messages leave here."""

    def __init__(self, link: Dialler, clock: IReactorTime, complain: Complain, *, certified: bool) -> None:
        """Belong to `link`."""
        super().__init__(clock, complain, certified=certified)
        self._link = link
        self._unsent: int | None = None  # bytes written since the transport asked to pause

    def who(self) -> str:
        """The node that was dialled."""
        return self._link.who

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._link.dialled(self)
        self.sendLine(lines.encode_hello(self._link.own_hello()))  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure | None = None) -> None:
        super().connectionLost(reason)
        self._link.down(self)

    def broke_off(self, reason: Failure | None) -> None:
        """Whatever it is, messages cannot leave now."""
        stage = "the connection broke off" if self.hello is not None else "it ended the connection without an answer"
        self._complain(self.who(), f"{stage}: {reason_of(reason)}" if reason else stage)

    def greeted(self, hello: Hello) -> None:
        """It is who it was taken for, or this is not the peer."""
        own = self._link.own_hello()
        if hello.cluster != own.cluster:
            raise PeerError(hello.address, f"you are of cluster {hello.cluster}, this is {own.cluster}")
        if hello.node != self._link.node:
            raise PeerError(hello.address, f"you are node {hello.node}, {self._link.node} was expected here")
        self._link.up(self)

    def messaged(self, hello: Hello, line: bytes) -> None:  # noqa: ARG002 - the line is not looked at
        """Nothing is to be said on this way but why it ends."""
        raise BadRequest(f"{hello.node} speaks where it should listen")

    def send(self, message: Message) -> None:
        """Write one message, unless the other side has stopped reading."""
        if self._ended:
            return
        line = lines.encode(message)
        if len(line) > lines.MAX_LINE:
            self.log.critical(
                "a {kind} message of {size} bytes is too long to send; settings allow too much",
                kind=type(message).__name__,
                size=len(line),
            )
            return
        if self._unsent is not None:
            if self._unsent + len(line) > MAX_UNSENT:
                return
            self._unsent += len(line)
        self.sendLine(line)  # type: ignore[no-untyped-call]

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if self._unsent is None:
            self._unsent = 0

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._unsent = None

    def stopProducing(self) -> None:
        """The connection is lost."""
