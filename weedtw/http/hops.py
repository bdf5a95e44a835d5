"""Passing requests on to another server: kept connections, and every request sent at most once.

    hops = Hops(connector, reactor)
    errand = hops.send("10.0.0.7:9333", Question(b"GET", b"/dir/assign", ()), connect_within=1.0, answer_within=15.0)
    answer = await errand.done

An errand fails with Unreachable when nothing of the request can have arrived over there: it may be sent again.  It
fails with PeerError when the request was sent and no whole answer came: what it asked for may have been done, or
may yet be.  `PeerAgent` does not tell the two apart for a kept connection, and repeats a GET by itself.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from weedtw.errors import PeerError, Unreachable, WeedError
from weedtw.http.answers import Answer
from weedtw.http.hop import Hop, Question

# What concerns one connection only, and is not passed on (RFC 9110 §7.6.1); a body's length is told anew.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

IDLE = 15.0  # seconds that a connection is kept unused: the other side's patience (30 s) must not end first
KEPT = 256  # connections to one address that are kept

Connector = Callable[[str], IStreamClientEndpoint]  # from `host:port`; raises WeedError for what is no address

_NOT_MADE = (ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError, OSError, WeedError)


class Hops:
    """The connections to other servers, by address; times are in seconds."""

    def __init__(self, connector: Connector, clock: IReactorTime, *, idle: float = IDLE, kept: int = KEPT) -> None:
        self.clock = clock
        self._connector = connector
        self._idle = idle
        self._most_kept = kept
        self._kept: dict[str, list[Hop]] = {}
        self._open: set[Hop] = set()
        self._closing: Deferred[None] | None = None

    def send(self, address: str, question: Question, *, connect_within: float, answer_within: float) -> "Errand":
        """Send a request; `answer_within` counts from when there is a connection to the last byte of the answer."""
        errand = Errand(self, address, question, answer_within)
        errand.begin(connect_within)
        return errand

    def close(self) -> Deferred[None]:
        """Close all connections, those with a request on them as well; fires when that is done."""
        if self._closing is None:
            self._closing = Deferred()
        for hop in list(self._open):
            hop.stop()
        if not self._open and not self._closing.called:
            self._closing.callback(None)
        return self._closing

    def take(self, address: str) -> Hop | None:
        """A kept connection that the other side has not closed; the one used last, so that the others grow idle."""
        kept = self._kept.get(address)
        while kept:
            hop = kept.pop()
            if hop.is_sound():
                return hop
            hop.cut()
        return None

    def connect(self, address: str, kind: type[Hop] = Hop) -> Deferred[Hop]:
        """A new connection; fails with what its endpoint fails with."""
        try:
            endpoint = self._connector(address)
        except WeedError:
            refused: Deferred[Hop] = Deferred()
            refused.errback(Failure())
            return refused
        connecting: Any = endpoint.connect(_HopFactory(self, address, kind))  # typed as any protocol
        return connecting  # type: ignore[no-any-return]

    def opened(self, hop: Hop) -> None:
        """A connection was made."""
        self._open.add(hop)
        if self._closing is not None:
            hop.stop()

    def lost(self, hop: Hop) -> None:
        """A connection has ended."""
        self._open.discard(hop)
        kept = self._kept.get(hop.address, [])
        if hop in kept:
            kept.remove(hop)
        if not kept:
            self._kept.pop(hop.address, None)
        if self._closing is not None and not self._open and not self._closing.called:
            self._closing.callback(None)

    def keep(self, hop: Hop) -> None:
        """A connection has nothing to do; it waits for the next request, or is closed."""
        kept = self._kept.setdefault(hop.address, [])
        if self._closing is not None or len(kept) >= self._most_kept:
            hop.cut()
        else:
            kept.append(hop)
            hop.rest(self._idle)


class Errand:
    """One request on its way; `done` gets its Answer.  Cancelling `done` gives it up, wherever it is."""

    def __init__(self, hops: Hops, address: str, question: Question, answer_within: float) -> None:
        self.address = address
        self.question = question
        self.done: Deferred[Answer] = Deferred(self._given_up)
        self._hops = hops
        self._answer_within = answer_within
        self._connecting: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None  # while there is no connection
        self._hop: Hop | None = None

    def begin(self, connect_within: float) -> None:
        """Called once, by Hops."""
        hop = self._hops.take(self.address)
        if hop is not None:
            self._connected(hop)
            return
        reason = f"no connection within {connect_within:g} s"
        self._timer = self._hops.clock.callLater(connect_within, self._not_sent, reason)
        connecting = self._connecting = self._hops.connect(self.address).addCallbacks(
            self._connected, self._not_connected
        )
        connecting.addErrback(self._failed)

    def hurry(self, seconds: float, reason: str) -> None:
        """Have it end within `seconds`, and at once if it was not sent yet; `reason` is why it has no more time."""
        if self._hop is not None:
            self._hop.hurry(seconds, reason)
        elif not self.done.called:
            self._not_sent(reason)

    def answered(self, answer: Answer) -> None:
        """Told by the connection."""
        self._hop = None
        self.done.callback(answer)

    def broke(self, reason: str) -> None:
        """Told by the connection: the request was sent, and no whole answer will come."""
        self._hop = None
        self.done.errback(PeerError(self.address, reason))

    def _connected(self, hop: Hop) -> None:
        self._stop_connecting()
        if self.done.called:
            self._hops.keep(hop)
            return
        if not hop.is_sound():
            self.done.errback(Unreachable(self.address, "the connection was closed as soon as it was made"))
            return
        self._hop = hop
        hop.carry(self, self._answer_within)

    def _not_connected(self, failure: Failure) -> None:
        self._stop_connecting()
        if self.done.called:
            return
        failure.trap(*_NOT_MADE)
        reason = str(failure.value).strip().rstrip(".") or type(failure.value).__name__
        self.done.errback(Unreachable(self.address, reason))

    def _failed(self, failure: Failure) -> None:
        """What nobody foresaw is for the log of whoever awaits this."""
        if not self.done.called:
            self.done.errback(failure)

    def _not_sent(self, reason: str) -> None:
        self.done.errback(Unreachable(self.address, reason))
        self._stop_connecting()

    def _stop_connecting(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()

    def _given_up(self, done: Deferred[Answer]) -> None:
        done.errback(CancelledError())
        hop, self._hop = self._hop, None
        self._stop_connecting()
        if hop is not None:
            hop.cut()


class _HopFactory(Factory):
    noisy = False

    def __init__(self, hops: Hops, address: str, kind: type[Hop]) -> None:
        self._hops = hops
        self._address = address
        self._kind = kind

    def buildProtocol(self, addr: IAddress | None) -> Hop:  # noqa: ARG002
        return self._kind(self._hops, self._address)
