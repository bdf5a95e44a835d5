"""A network between processes that can be cut: each member dials each other one through a proxy of its own."""

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class Half(Protocol):
    """One side of a connection; passes on what comes, with the back-pressure of the other side."""

    transport: Any
    other: "Half | None" = None

    def __init__(self, proxy: "Proxy") -> None:
        self.proxy = proxy
        self.early: list[bytes] = []  # came before the other side was there

    def join(self, other: "Half") -> None:
        self.other, other.other = other, self
        self.transport.registerProducer(other.transport, True)
        other.transport.registerProducer(self.transport, True)
        for here, there in ((self, other), (other, self)):
            there.transport.write(b"".join(here.early))

    def connectionMade(self) -> None:
        self.proxy.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self.proxy.swallowing:
            return
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.proxy.open.discard(self)
        if self.other is not None:
            self.other.transport.unregisterProducer()
            self.other.transport.abortConnection()


class Proxy:
    """From one member to another.  `target` is the port of the other one's latest life."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.target: int | None = None
        self.cut = False  # nobody gets through; those that were are cut off
        self.swallowing = False  # connections stand, and what is sent on them is lost until they are cut
        self.open: set[Half] = set()
        self._port = reactor.listenTCP(0, Factory.forProtocol(self._accept), interface="127.0.0.1")
        self.address = f"127.0.0.1:{self._port.getHost().port}"

    def _accept(self) -> Half:
        return Incoming(self)

    def connect(self, incoming: "Incoming") -> None:
        """Find the other side for a connection that has come in."""
        if self.cut or self.target is None:
            incoming.transport.abortConnection()
        elif not self.swallowing:
            self._reactor.connectTCP("127.0.0.1", self.target, Outgoing(self, incoming))

    def sever(self) -> None:
        """Cut off everybody, now and until `mend`."""
        self.cut = True
        self.hang_up()

    def swallow(self) -> None:
        """Lose everything, without a word, until `mend`."""
        self.swallowing = True

    def mend(self) -> None:
        """Let everybody through again; connections of which something was lost are cut."""
        if self.swallowing:
            self.hang_up()
        self.cut = self.swallowing = False

    def hang_up(self) -> None:
        """Cut all connections once."""
        for half in list(self.open):
            half.transport.abortConnection()

    def close(self) -> "Deferred[None]":
        """End of the test."""
        self.hang_up()
        return maybeDeferred(self._port.stopListening)


class Incoming(Half):
    """The side of the member that dialled."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.proxy.connect(self)


class Onward(Half):
    """The side of the member that was dialled."""

    def __init__(self, proxy: "Proxy", incoming: Incoming) -> None:
        super().__init__(proxy)
        self._incoming = incoming

    def connectionMade(self) -> None:
        super().connectionMade()
        if self._incoming.transport.connected:
            self._incoming.join(self)
        else:
            self.transport.abortConnection()


class Outgoing(ClientFactory):
    """The way to the member that was dialled; it may be dead."""

    noisy = False

    def __init__(self, proxy: Proxy, incoming: Incoming) -> None:
        self._proxy = proxy
        self._incoming = incoming

    def buildProtocol(self, addr: object) -> Half:
        return Onward(self._proxy, self._incoming)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._incoming.transport.abortConnection()
