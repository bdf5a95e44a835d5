"""Connections between nodes: hellos checked, lines in, lines out.

Each node dials every other one and only speaks on the connections that it dialled; what it hears comes in on those
that were dialled to it.  So there is one connection per pair and direction, and no question who repairs a broken one.
Messages to a node that cannot be reached are dropped: Raft sends again what matters.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol as Interface
from typing import cast

import attrs
from cryptography import x509
from OpenSSL import crypto
from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionRefusedError as NothingListens
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from weedtw.errors import BadRequest, PeerError, WeedError
from weedtw.raft import lines
from weedtw.raft.lines import Hello
from weedtw.raft.membership import NodeId
from weedtw.raft.messages import Message

HELLO_TIMEOUT = 10.0  # seconds
MAX_PAUSE = 2.0  # seconds between attempts, before jitter
MAX_UNSENT = 8 * 1024 * 1024  # bytes written to a peer that does not read, before messages to it are dropped


class Listener(Interface):
    """What a connection tells the node it belongs to."""

    def admit(self, hello: Hello) -> Hello:
        """Check a caller's hello; returns one's own.  Raises a `WeedError` to refuse the caller with its text."""

    def received(self, message: Message) -> None:
        """A well-formed message has come in from an admitted node; raises `WeedError` to end the connection."""


def check_certificate(hello: Hello, certificate: x509.Certificate) -> None:
    """A certificate must name the node (`urn:uuid:NODE`), or else the host of its address; raises `PeerError`."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise PeerError(hello.address, "its certificate has no subjectAltName") from None
    nodes = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith("urn:uuid:")]
    if nodes:
        if f"urn:uuid:{hello.node}" not in nodes:
            raise PeerError(hello.address, f"its certificate is for {', '.join(nodes)}, not for node {hello.node}")
        return
    host = hello.address.rpartition(":")[0].strip("[]")
    hosts = names.get_values_for_type(x509.DNSName)
    hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    if host not in hosts:
        raise PeerError(hello.address, f"its certificate is for {', '.join(hosts)}, not for {host}")


class _Connection(ABC, LineReceiver, TimeoutMixin):
    """What both directions share: bounded lines, one hello in bounded time, an end that says why."""

    delimiter = b"\r\n"
    MAX_LENGTH = lines.MAX_LINE
    log = Logger()
    hello: Hello | None = None  # the other side's, once admitted
    transport: ITCPTransport

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        """Where `TimeoutMixin` gets its time from."""
        return self._clock.callLater(period, func)

    def connectionMade(self) -> None:
        self.setTimeout(HELLO_TIMEOUT)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        self.refuse(f"no hello within {HELLO_TIMEOUT:g} s")

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002 - Twisted's signature
        self.setTimeout(None)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002 - Twisted's signature
        self.refuse(f"a line is longer than {self.MAX_LENGTH} bytes")

    def lineReceived(self, line: bytes) -> None:
        try:
            if self.hello is None:
                hello = lines.decode_hello(line)
                if ISSLTransport.providedBy(self.transport):
                    check_certificate(hello, _certificate_of(self.transport))
                self.greeted(hello)
                self.hello = hello
                self.setTimeout(None)  # type: ignore[no-untyped-call]
            else:
                self.messaged(self.hello, line)
        except WeedError as error:
            self.refuse(str(error))

    @abstractmethod
    def greeted(self, hello: Hello) -> None:
        """The other side's hello has come; raises `WeedError` to end the connection."""

    @abstractmethod
    def messaged(self, hello: Hello, line: bytes) -> None:
        """A further line has come; raises `WeedError` to end the connection."""

    def refuse(self, reason: str) -> None:
        """Say why, and close."""
        self.log.warn(
            "connection with {peer} ended: {reason}", peer=self.hello or self.transport.getPeer(), reason=reason
        )
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self.clearLineBuffer()  # type: ignore[no-untyped-call]
        self.sendLine(lines.encode_refusal(reason))  # type: ignore[no-untyped-call]
        self.transport.loseConnection()


def _certificate_of(transport: ISSLTransport) -> x509.Certificate:
    certificate = transport.getPeerCertificate()
    if certificate is None:
        raise BadRequest("a certificate is required here, and none was shown")
    return x509.load_der_x509_certificate(
        crypto.dump_certificate(crypto.FILETYPE_ASN1, cast("crypto.X509", certificate))
    )


class Inbound(_Connection):
    """A connection that another node has dialled: its messages come in here."""

    def __init__(self, listener: Listener, clock: IReactorTime) -> None:
        """Tell `listener` what comes in."""
        super().__init__(clock)
        self._listener = listener
        self._own: Hello | None = None

    def greeted(self, hello: Hello) -> None:
        """Admit or refuse the caller."""
        self._own = self._listener.admit(hello)
        self.sendLine(lines.encode_hello(self._own))  # type: ignore[no-untyped-call]

    def messaged(self, hello: Hello, line: bytes) -> None:
        """Hand a message on."""
        assert self._own is not None  # greeted() came before
        self._listener.received(lines.decode(line, sender=hello.node, to=self._own.node))


@implementer(IPushProducer)
class Outbound(_Connection):
    """A connection that this node has dialled: its messages leave here."""

    def __init__(self, link: "Link", clock: IReactorTime) -> None:
        """Belong to `link`."""
        super().__init__(clock)
        self._link = link
        self._unsent: int | None = None  # bytes written since the transport asked to pause

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self.sendLine(lines.encode_hello(self._link.own_hello()))  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure | None = None) -> None:
        super().connectionLost(reason)
        self._link.down(self)

    def greeted(self, hello: Hello) -> None:
        """It is who it was taken for, or this is not the peer."""
        own = self._link.own_hello()
        if hello.cluster != own.cluster:
            raise PeerError(hello.address, f"belongs to cluster {hello.cluster}, this node to {own.cluster}")
        if hello.node != self._link.node:
            raise PeerError(hello.address, f"is node {hello.node}, expected {self._link.node}")
        self._link.up(self)

    def messaged(self, hello: Hello, line: bytes) -> None:
        """The only line expected on this way is the answer to the hello, or later the reason of an end."""
        lines.decode_hello(line)
        raise BadRequest(f"{hello.node} speaks where it should listen")

    def send(self, message: Message) -> None:
        """Write one message, unless the other side has stopped reading."""
        line = lines.encode(message)
        if self._unsent is not None:
            if self._unsent + len(line) > MAX_UNSENT:
                return
            self._unsent += len(line)
        self.sendLine(line)  # type: ignore[no-untyped-call]

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._unsent = self._unsent or 0

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._unsent = None

    def stopProducing(self) -> None:
        """The connection is lost."""


@implementer(IProtocolFactory)
@attrs.define(eq=False)
class _OutboundFactory(Factory):
    link: "Link"
    clock: IReactorTime

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Outbound:  # noqa: ARG002 - Twisted's signature
        return Outbound(self.link, self.clock)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Watched:
    """An endpoint that reports when it is dialled, and when nothing listens there."""

    endpoint: IStreamClientEndpoint
    dialling: Callable[[], None]
    refused: Callable[[], None]

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        self.dialling()

        def failed(failure: Failure) -> Failure:
            if failure.check(NothingListens):
                self.refused()
            return failure

        return self.endpoint.connect(protocolFactory).addErrback(failed)


class Link:
    """The way to one other node, dialled again and again: at once, then with growing, jittered pauses."""

    def __init__(
        self,
        node: NodeId,
        address: str,
        *,
        own_hello: Callable[[], Hello],
        connect: Callable[[str], IStreamClientEndpoint],
        clock: IReactorTime,
        rng: random.Random,
        lost: Callable[[NodeId], None],
        refused: Callable[[NodeId], None],
    ) -> None:
        """`connect` makes an endpoint of an address; `lost` and `refused` are told of a dead process' signs."""
        self.node = node
        self.address = address
        self.own_hello = own_hello
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._lost = lost
        self._refused = refused
        self._service: ClientService | None = None
        self._connection: Outbound | None = None
        self._failures = 0  # attempts since it was last up
        self._pausing = False  # between two attempts

    @property
    def connected(self) -> bool:
        """Whether messages can leave now."""
        return self._connection is not None

    def start(self) -> None:
        """Begin to dial."""
        endpoint = _Watched(self._connect(self.address), self._dialling, lambda: self._refused(self.node))
        factory = _OutboundFactory(self, self._clock)
        self._service = ClientService(endpoint, factory, retryPolicy=self._pause, clock=self._clock)
        self._service.startService()

    def stop(self) -> "Deferred[None]":
        """Hang up."""
        service, self._service = self._service, None
        if service is None:
            return succeed(None)
        stopped: Deferred[None] = service.stopService()
        return stopped

    def dial_now(self) -> None:
        """The other side has just called us, so it is there: do not wait out the pause.

        An attempt under way is left alone: two nodes that call each other would otherwise hang up on each other, again
        and again.
        """
        if self._pausing and self._service is not None:
            self._service.stopService()
            self.start()

    def send(self, message: Message) -> None:
        """Send, or drop the message when nobody is there."""
        if self._connection is not None:
            self._connection.send(message)

    def up(self, connection: Outbound) -> None:
        """A connection has been admitted."""
        self._connection = connection
        self._failures = -1  # the first attempt after a loss goes out at once: is the process gone?

    def down(self, connection: Outbound) -> None:
        """A connection has ended."""
        if connection is self._connection:
            self._connection = None
            self._lost(self.node)

    def _dialling(self) -> None:
        self._pausing = False

    def _pause(self, attempt: int) -> float:  # noqa: ARG002 - the signature of a retry policy
        """Seconds before the next attempt.

        Counted by admissions, not by `attempt`: a peer that takes the connection and refuses the hello is no success.
        """
        self._failures += 1
        self._pausing = True
        if self._failures == 0:
            return 0.0
        return float(min(MAX_PAUSE, 0.025 * 2.0 ** min(self._failures, 10)) * (0.5 + self._rng.random()))
