"""A network in memory, on a `Clock`: addresses that listen or refuse, connections that break, peers gone deaf."""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

LATENCY = 0.001
BUFFER = 64 * 1024  # bytes on their way before a producer is asked to pause
CONNECT_TIMEOUT = 5.0


@attrs.frozen
class Address:
    """Where a connection comes from."""

    host: str


@attrs.define(eq=False)
class End:
    """One side's transport."""

    network: "Network"
    protocol: IProtocol
    peer: Address
    other: "End" = attrs.field(init=False)
    disconnecting: bool = False
    lost: bool = False
    producer: Any = None
    paused: bool = False
    unread: list[bytes] = attrs.Factory(list)  # written here, not taken there
    written: int = 0  # bytes, in all

    log = Logger()

    def write(self, data: bytes) -> None:
        if self.lost or self.disconnecting:
            return
        self.written += len(data)
        self.unread.append(data)
        if self.producer is not None and not self.paused and self.unread_bytes > BUFFER:
            self.paused = True
            self.producer.pauseProducing()
        self.network.later(self._deliver)

    def writeSequence(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    @property
    def unread_bytes(self) -> int:
        return sum(map(len, self.unread))

    def _deliver(self) -> None:
        if self.lost or not self.unread or self.network.is_deaf(self.other):
            return
        data, self.unread = b"".join(self.unread), []
        if self.paused:
            self.paused = False
            if self.producer is not None:
                self.producer.resumeProducing()
        try:
            self.other.protocol.dataReceived(data)
        except Exception:  # noqa: BLE001 - as a reactor does: say so and drop the connection
            self.log.failure("a protocol broke down")
            self.abortConnection()
        if self.disconnecting:
            self._end()

    def loseConnection(self) -> None:
        """Close when everything has been taken."""
        if not self.disconnecting:
            self.disconnecting = True
            self.network.later(self._end)

    def _end(self) -> None:
        if not self.unread:
            self._lose(error.ConnectionDone(), error.ConnectionDone())

    def abortConnection(self) -> None:
        """Cut."""
        self.network.later(self._lose, error.ConnectionLost(), error.ConnectionLost())

    def _lose(self, here: Exception, there: Exception) -> None:
        if self.lost:
            return
        self.lost = self.other.lost = True
        self.network.ends = [end for end in self.network.ends if not end.lost]
        self.protocol.connectionLost(Failure(here))
        self.other.protocol.connectionLost(Failure(there))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def getPeer(self) -> Address:
        return self.peer


class Network:
    """Connects whoever dials to whoever listens."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.listening: dict[str, Callable[[], IProtocol]] = {}
        self.silent: set[str] = set()  # addresses whose host does not answer at all
        self.deaf: set[str] = set()  # addresses whose process stands still: connections are taken, nothing is read
        self.cut: set[str] = set()  # addresses that no packet reaches or leaves
        self.parts: list[set[str]] = []  # no packet passes between two of these
        self.ends: list[End] = []  # two for each open connection
        self.dialled: list[tuple[str, str]] = []  # (from, to) of every attempt

    def connector(self, origin: str) -> Callable[[str], IStreamClientEndpoint]:
        """How the node at `origin` dials."""
        return lambda address: Endpoint(self, origin, address)

    def later(self, call: Callable[..., None], *args: Any) -> None:
        self.clock.callLater(LATENCY, call, *args)

    def is_deaf(self, end: End) -> bool:
        """Whether bytes for this end lie around unread, or on their way."""
        return self.owner(end) in self.deaf or self.is_cut(self.owner(end), end.peer.host)

    def is_cut(self, one: str, other: str) -> bool:
        """Whether packets between two addresses are lost."""
        return bool({one, other} & self.cut) or len([part for part in self.parts if {one, other} & part]) > 1

    def owner(self, end: End) -> str:
        return end.other.peer.host

    def hear_again(self, address: str) -> None:
        """The process at `address` goes on, and reads what has come."""
        self.deaf.discard(address)
        for end in self.ends:
            self.later(end._deliver)

    def mend(self) -> None:
        """Packets go everywhere again, those that were lost too: TCP sends them once more."""
        self.cut.clear()
        self.parts.clear()
        for end in self.ends:
            self.later(end._deliver)

    def between(self, one: str, other: str) -> list[End]:
        """Both ends of every connection between two addresses."""
        return [end for end in self.ends if {self.owner(end), end.peer.host} == {one, other}]

    def kill(self, address: str) -> None:
        """The process ends: nothing listens, and all its connections break."""
        self.listening.pop(address, None)
        for end in list(self.ends):
            if self.owner(end) == address:
                end.abortConnection()

    def call(self, origin: str, address: str, protocol: IProtocol) -> End:
        """Connect `protocol` to what listens at `address`; returns its transport."""
        here = End(self, protocol, Address(address))
        there = End(self, self.listening[address](), Address(origin))
        here.other, there.other = there, here
        self.ends += [here, there]
        there.protocol.makeConnection(there)  # type: ignore[arg-type]
        protocol.makeConnection(here)  # type: ignore[arg-type]
        return here

    def run(self, seconds: float, step: float = LATENCY) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class Endpoint:
    """Dials an address, as a TCP endpoint does: what goes wrong in the factory fails the attempt."""

    network: Network
    origin: str
    address: str

    def connect(self, protocolFactory: Any) -> "Deferred[IProtocol]":
        network = self.network
        network.dialled.append((self.origin, self.address))
        attempt: Deferred[IProtocol] = Deferred()
        if self.address in network.silent or network.is_cut(self.origin, self.address):
            network.clock.callLater(CONNECT_TIMEOUT, self._time_out, attempt)
        else:
            network.later(self._answer, protocolFactory, attempt)
        return attempt

    def _time_out(self, attempt: "Deferred[IProtocol]") -> None:
        if not attempt.called:
            attempt.errback(Failure(error.TimeoutError()))

    def _answer(self, factory: Any, attempt: "Deferred[IProtocol]") -> None:
        if attempt.called:  # cancelled meanwhile
            return
        if self.address not in self.network.listening:
            attempt.errback(Failure(error.ConnectionRefusedError()))
            return
        try:
            protocol = factory.buildProtocol(Address(self.address))
        except Exception:  # noqa: BLE001 - whoever dials is told
            attempt.errback(Failure())
            return
        self.network.call(self.origin, self.address, protocol)
        attempt.callback(protocol)


class Script(Protocol):
    """A caller without manners: sends what a test wants, and keeps what comes."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended = True
