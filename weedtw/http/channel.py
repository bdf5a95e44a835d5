"""One port per daemon: the first bytes of a connection decide which protocol speaks on it.

A connection that begins with a registered prefix (`b"BEAT/1 "`) is handed, with the bytes read so far, to
that prefix's protocol; every other is HTTP.  On those the requests that come most are answered without twisted.web
and Klein, if the site's `hot` is set; see `hot.py`.

    site = make_site(app.resource(), reactor=reactor, body_limit=256 << 20,
                     protocols={b"BEAT/1 ": beats.build_protocol})
    port = reactor.listenTCP(9333, site)
    …
    await port.stopListening()
    await site.drain(10)
"""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import Request as TwistedRequest
from twisted.web.resource import IResource

from weedtw.http.conditional import format_date
from weedtw.http.deadline import Deadline
from weedtw.http.hot import Hot
from weedtw.http.hotchannel import HotChannel
from weedtw.http.http11 import HttpChannel, Patience
from weedtw.http.requests import Request
from weedtw.http.spool import Budget, Room
from weedtw.http.taken import bytes_taken
from weedtw.http.traffic import Traffic, one_kind
from weedtw.raft.complaints import Complaints

if TYPE_CHECKING:
    from weedtw.http.proof import Challenge

PROOF: Final = b"PROVE/1 "  # how a connection begins that shows to know the secret, see proof.py
_LINGER: Final = 2.0  # seconds for a refusal to leave
ProtocolFactory = Callable[[], IProtocol]
Admission = Callable[[Request], int | None]


class Site(server.Site):
    """What all connections of one port share.  Use it as the port's factory; make it with `make_site`."""

    noisy = False
    taken = staticmethod(bytes_taken)  # how far the other end of a transport is
    requestFactory: type[Request]
    reactor: IReactorTime

    def __init__(
        self,
        resource: IResource,
        *,
        reactor: IReactorTime,
        body_limit: int,
        patience: Patience,
        protocols: Mapping[bytes, ProtocolFactory],
        room: Room,
        admission: Admission | None,
        now: Callable[[], float],
        traffic: Traffic,
    ) -> None:
        super().__init__(resource, requestFactory=Request, reactor=reactor)  # type: ignore[no-untyped-call]
        self.body_limit = body_limit
        self.patience = patience
        self.protocols = dict(protocols)
        self.room = room
        self.stopping = False
        self.names: frozenset[str] = frozenset()  # hosts by which browsers may know this server, in lower case
        self.most_connections = sys.maxsize  # that speak HTTP, or nothing yet
        self.secret = ""  # the cluster's; "": none is needed
        self.certified = False  # whether who speaks as a server has to have shown a certificate
        self.refusals: dict[bytes, bytes] = {}  # what a caller hears, by prefix, who has not proven to know it
        self.complaints = Complaints(reactor)
        self.hot: Hot | None = None  # the hot path, when there is one
        self.traffic = traffic
        self._admission = admission
        self._now = now
        self._open: set[Closable] = set()
        self._drained: list[Deferred[None]] = []
        self._date = (0, 0, b"")  # the first second for which it holds, the first for which it does not, and the text

    def buildProtocol(self, addr: IAddress | None) -> "FirstBytes | None":  # type: ignore[override]  # noqa: ARG002
        """A connection that does not know yet what it will speak; None, which closes it, when there are too many."""
        if self.connections >= self.most_connections:
            self.complaints.complain("all connections", f"there are {self.most_connections}; further ones are closed")
            return None
        return FirstBytes(self)

    def channel(self) -> HttpChannel:
        """The protocol of a connection that speaks HTTP."""
        return HttpChannel(self) if self.hot is None else HotChannel(self, self.hot)

    def startFactory(self) -> None:
        """Nothing to start: there is no access log that would have to tell the time."""

    def stopFactory(self) -> None:
        """Nothing to stop."""

    def log(self, request: TwistedRequest) -> None:
        """Count a request that has its whole answer; there is no access log."""
        assert isinstance(request, Request)
        seconds = self.reactor.seconds() - request.began
        self.traffic.note(request.method, request.path, request.code, seconds)

    def date(self) -> bytes:
        """The time as HTTP writes it."""
        since, until, text = self._date
        now = self._now()
        if not since <= now < until:
            since = int(now)
            text = format_date(since).encode()
            self._date = since, since + 1, text
        return text

    def admit(self, request: Request) -> int:
        """The most bytes this request's body may have; raises what refuses the request before its body comes."""
        limit = self._admission(request) if self._admission is not None else None
        return self.body_limit if limit is None else limit

    @property
    def wants_proof(self) -> bool:
        """Whether servers of the cluster have to show that they are: by the secret, or else by a certificate."""
        return bool(self.secret) or self.certified

    @property
    def connections(self) -> int:
        """How many speak HTTP, or nothing yet."""
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return sum(1 for connection in self._open if isinstance(connection, HttpChannel) and connection.is_busy)

    def connected(self, connection: "Closable") -> None:
        """A connection is there that `drain` has to end."""
        self._open.add(connection)
        if self.stopping:
            connection.finish_up()

    def disconnected(self, connection: "Closable") -> None:
        """A connection has gone, or is another protocol's."""
        self._open.discard(connection)
        if not self._open:
            waiting, self._drained = self._drained, []
            for drained in waiting:
                drained.callback(None)

    def drain(self, seconds: float) -> Deferred[None]:
        """Close idle HTTP connections, let requests under way finish within `seconds`, then cut the rest.

        Stop listening first.  Connections handed to another protocol are that protocol's to close.
        """
        self.stopping = True
        for connection in list(self._open):
            connection.finish_up()
        drained: Deferred[None] = Deferred()
        if not self._open:
            drained.callback(None)
            return drained
        cut: IDelayedCall = self.reactor.callLater(seconds, self._cut)
        self._drained.append(drained)
        return drained.addCallback(lambda _: cut.cancel() if cut.active() else None)

    def _cut(self) -> None:
        for connection in list(self._open):
            connection.abort()


class Closable(TypingProtocol):
    """What `drain` can end."""

    def finish_up(self) -> None:
        """Close when nothing is under way any more."""

    def abort(self) -> None:
        """Cut at once."""


class _Ignored(Protocol):
    """What still comes on a connection that was refused."""


class FirstBytes(Protocol):
    """A connection until its first bytes have said what it speaks; then it passes everything on."""

    transport: Any

    def __init__(self, site: Site) -> None:
        self._site = site
        self._seen = b""
        self._next: IProtocol | None = None
        self._challenge: Challenge | None = None  # while the caller proves itself
        self._is_proven = False
        self._deadline = Deadline(site.reactor, self._gave_no_sign)

    def connectionMade(self) -> None:
        """Wait for the first bytes; whoever sends none is not waited for."""
        self._deadline.set(self._site.patience.idle)
        self._site.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Pass bytes on, or look at the first ones."""
        if self._next is not None:
            self._next.dataReceived(data)
            return
        if self._challenge is not None:
            data = self._prove(self._challenge, data)
            if not data:
                return
        self._seen += data
        protocols, secret = self._site.protocols, self._site.secret
        if self._site.certified and not secret and not self._is_proven:
            self._look_at_certificate()
        if any(prefix.startswith(self._seen) and prefix != self._seen for prefix in protocols):
            return  # it may yet become that prefix
        if self._site.wants_proof and not self._is_proven:
            if secret and PROOF.startswith(self._seen) and self._seen != PROOF:
                return
            if secret and self._seen.startswith(PROOF):
                from weedtw.http.proof import Challenge  # noqa: PLC0415 - where there is no secret it is not needed

                self._challenge = Challenge(secret)
                seen, self._seen = self._seen, b""
                self.dataReceived(seen)
                return
            prefix = next((prefix for prefix in protocols if self._seen.startswith(prefix)), None)
            if prefix is not None:
                what = "that it knows the secret" if secret else "a certificate of this cluster's authority"
                self._refuse(self._site.refusals.get(prefix, b""), f"it has not shown {what}")
                return
        self._deadline.drop()
        build = next((f for prefix, f in self._site.protocols.items() if self._seen.startswith(prefix)), None)
        self._next = build() if build is not None else self._site.channel()
        if isinstance(self._next, HttpChannel):
            self._next.is_proven = self._is_proven
        seen, self._seen = self._seen, b""
        self._next.makeConnection(self.transport)
        if getattr(self.transport, "protocol", None) is self:
            self.transport.protocol = self._next  # no need to go through here any more
        self._site.disconnected(self)
        self._next.dataReceived(seen)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass the end on."""
        self._deadline.drop()
        if self._next is not None:
            self._next.connectionLost(reason)
        if self._next is None or isinstance(self._next, _Ignored):
            self._site.disconnected(self)

    def finish_up(self) -> None:
        """Close: nothing has begun."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut at once."""
        self.transport.abortConnection()

    def _look_at_certificate(self) -> None:
        from weedtw.http.tls import has_shown_certificate  # noqa: PLC0415 - where there is no TLS it is not needed

        self._is_proven = has_shown_certificate(self.transport)

    def _prove(self, challenge: "Challenge", data: bytes) -> bytes:
        """Go on with the proof; what came behind it."""
        answer, rest = challenge.take(data)
        if answer:
            self.transport.write(answer)
        if challenge.is_wrong:
            self._refuse(b"", "it has another secret, or none; is the same security.toml there?")
        elif challenge.is_proven:
            self._challenge, self._is_proven = None, True
        return rest

    def _refuse(self, answer: bytes, why: str) -> None:
        self._site.complaints.complain(f"a caller from {getattr(self.transport.getPeer(), 'host', 'somewhere')}", why)
        self._seen = b""
        self._next = _Ignored()
        self._deadline.set(_LINGER)
        self.transport.write(answer)
        self.transport.loseConnection()

    def _gave_no_sign(self) -> None:
        if self._next is None:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()  # it was refused, and does not read that


def make_site(
    resource: IResource,
    *,
    reactor: IReactorTime,
    body_limit: int,
    idle_timeout: float = 30.0,
    protocols: Mapping[bytes, ProtocolFactory] | None = None,
    in_flight_limit: int | None = None,
    spool_folder: str | None = None,
    admission: Admission | None = None,
    patience: Patience | None = None,
    now: Callable[[], float] | None = None,
    traffic: Traffic | None = None,
) -> Site:
    """The factory for a daemon's one port.

    `body_limit` is the most bytes of one request's body, `in_flight_limit` of all bodies being received or
    worked on together (None: no limit; at most 256 MiB of them lie in memory in any case).  Bodies over 1 MiB go
    to unnamed files in `spool_folder` (None: the system's folder for temporary files).  `admission` is asked with
    the head of each request before its body is taken: it raises a WeedError to refuse it, and returns a body
    limit of its own or None.  A body over the site's limit, or a higher one, is TooLarge, as a file is; over a lower
    one, which is no file's, it is a 413.  `idle_timeout` is in seconds; `patience` sets every time-out.  `now` tells
    the time of day as unix seconds, which a daemon's reactor does not know; None: this one does.  `traffic` counts.
    """
    return Site(
        resource,
        reactor=reactor,
        body_limit=body_limit,
        patience=patience or Patience(idle=idle_timeout),
        protocols=protocols or {},
        room=Room(in_flight=Budget(in_flight_limit), folder=spool_folder),
        admission=admission,
        now=now or reactor.seconds,
        traffic=traffic or Traffic(one_kind, 0),
    )
