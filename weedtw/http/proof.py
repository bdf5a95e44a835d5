"""Who knows the cluster's secret, shown without telling it: the first lines of a connection, before any protocol.

    dialler    PROVE/1 NONCE-OF-DIALLER
    listener   PROVE/1 NONCE-OF-LISTENER HMAC(secret, "listener" and both nonces)
    dialler    PROVE/1 HMAC(secret, "dialler" and both nonces)

Then follows what the connection is for: RAFT/1, BEAT/1 or HTTP.  Both sides have shown that they know the secret, and
nothing of it can be used again: each nonce is made for one connection.  HMAC-SHA256; nonces have 32 bytes, all in
hexadecimal.  What is said afterwards is neither hidden nor signed; that takes TLS.
"""

import hashlib
import hmac
import re
import secrets
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from weedtw.http.channel import PROOF as PREFIX
from weedtw.http.deadline import Deadline
from weedtw.raft.dial import Connect

PATIENCE: Final = 5.0  # seconds from the connection to the proof
_END: Final = b"\r\n"
_LONGEST: Final = 256  # bytes of a line
_HEX: Final = b"([0-9a-f]{64})"
_OPENING: Final = re.compile(PREFIX + _HEX)
_ANSWER: Final = re.compile(PREFIX + _HEX + b" " + _HEX)


def _mac(secret: str, role: bytes, dialler: bytes, listener: bytes) -> bytes:
    said = b" ".join([role, dialler, listener])
    return hmac.new(secret.encode(), said, hashlib.sha256).hexdigest().encode()


def _nonce() -> bytes:
    return secrets.token_hex(32).encode()


@attrs.define
class Challenge:
    """The listener's side of one connection: it gives what to send, and says when the other one has proven itself."""

    secret: str
    _seen: bytes = b""
    _expected: bytes | None = None  # once the dialler has opened
    is_proven: bool = False
    is_wrong: bool = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """(what to send, what came behind the proof)."""
        self._seen += data
        answer = b""
        while not self.is_proven and not self.is_wrong and _END in self._seen:
            line, _, self._seen = self._seen.partition(_END)
            if self._expected is None:
                answer += self._open(line)
            elif hmac.compare_digest(line, PREFIX + self._expected):
                self.is_proven = True
            else:
                self.is_wrong = True
        if not self.is_proven:
            self.is_wrong = self.is_wrong or len(self._seen) > _LONGEST
            return answer, b""
        rest, self._seen = self._seen, b""
        return answer, rest

    def _open(self, line: bytes) -> bytes:
        opening = _OPENING.fullmatch(line)
        if opening is None:
            self.is_wrong = True
            return b""
        dialler, listener = opening[1], _nonce()
        self._expected = _mac(self.secret, b"dialler", dialler, listener)
        return PREFIX + listener + b" " + _mac(self.secret, b"listener", dialler, listener) + _END


def proving(connect: Connect, secret: str, clock: IReactorTime) -> Connect:
    """A connector whose connections begin with the proof; ConnectError when the other side fails it."""
    return lambda address: _Proving(connect(address), secret, clock)


@implementer(IStreamClientEndpoint)
@attrs.frozen(eq=False)
class _Proving:
    endpoint: IStreamClientEndpoint
    secret: str = attrs.field(repr=False)
    clock: IReactorTime

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, prove, and only then have the factory's protocol begin."""
        prover: list[_Prover] = []

        def give_up(_: Deferred[IProtocol]) -> None:
            attempt.cancel()
            for made in prover:
                made.transport.abortConnection()

        ready: Deferred[IProtocol] = Deferred(give_up)
        attempt = self.endpoint.connect(_Provers(self, protocolFactory, ready))

        def failed(failure: Failure) -> None:
            if not ready.called:
                ready.errback(failure)

        def connected(made: Any) -> None:
            prover.append(made)

        attempt.addCallbacks(connected, failed)
        return ready


class _Provers(Factory):
    noisy = False

    def __init__(self, way: _Proving, inner: IProtocolFactory, ready: Deferred[IProtocol]) -> None:
        self.way, self.inner, self.ready = way, inner, ready

    def buildProtocol(self, addr: IAddress | None) -> "_Prover":
        return _Prover(self, addr)


class _Prover(Protocol):
    """The dialler's side; afterwards it passes everything on."""

    transport: Any

    def __init__(self, factory: _Provers, addr: Any) -> None:
        self._of = factory
        self._address = addr
        self._seen = b""
        self._nonce = _nonce()
        self._inner: Any = None
        self._deadline = Deadline(factory.way.clock, lambda: self._fail(f"no proof within {PATIENCE:g} s"))

    def connectionMade(self) -> None:
        self._deadline.set(PATIENCE)
        self.transport.write(PREFIX + self._nonce + _END)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._seen += data
        line, end, rest = self._seen.partition(_END)
        if not end:
            if len(line) > _LONGEST:
                self._fail("it does not know of the cluster's secret")
            return
        answer = _ANSWER.fullmatch(line)
        if answer is None:
            self._fail("it does not know of the cluster's secret; is the same security.toml there?")
            return
        secret, listener = self._of.way.secret, answer[1]
        if not hmac.compare_digest(answer[2], _mac(secret, b"listener", self._nonce, listener)):
            self._fail("it has another secret; is the same security.toml there?")
            return
        self._deadline.drop()
        self.transport.write(PREFIX + _mac(secret, b"dialler", self._nonce, listener) + _END)
        self._begin(rest)

    def _begin(self, rest: bytes) -> None:
        ready = self._of.ready
        inner: Any = self._of.inner.buildProtocol(self._address) if not ready.called else None
        if inner is None:
            self.transport.abortConnection()
            return
        self._inner, self._seen = inner, b""
        inner.makeConnection(self.transport)
        ready.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.drop()
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._of.ready.called:
            self._of.ready.errback(ConnectError(string="it closed the connection before it had proven itself"))

    def _fail(self, why: str) -> None:
        if not self._of.ready.called:
            self._of.ready.errback(ConnectError(string=why))
        self.transport.abortConnection()
