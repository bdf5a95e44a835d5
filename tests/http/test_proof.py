"""The secret of a cluster: who knows it gets in, and nothing that was overheard helps anybody else."""

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config.security import SecurityConfig
from weedtw.http.channel import Site, make_site
from weedtw.http.origins import check_secret
from weedtw.http.proof import PATIENCE, Challenge
from weedtw.http.requests import Request
from weedtw.http.responses import endpoint, json_response
from weedtw.http.routes import Routes
from weedtw.http.testing import Wire
from weedtw.http.ways import connector

SECRET = "s" * 32
ASK = b"GET /do HTTP/1.1\r\nHost: a\r\n\r\n"


class App:
    app = Routes()

    @app.route("/do", methods=["GET"])
    @endpoint
    async def do(self, request: Request) -> bytes:
        check_secret(request)
        return json_response(request, "done")


def taken(wire: Wire) -> bytes:
    """What the server has said since the last time."""
    said = bytes(wire.received)
    wire.received.clear()
    return said


class Heard(Protocol):
    def __init__(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


class ProofTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard: list[Heard] = []
        self.site = self.make(SECRET)

    def make(self, secret: str) -> Site:
        def build() -> Heard:
            self.heard.append(Heard())
            return self.heard[-1]

        site = make_site(App().app.resource(), reactor=Clock(), body_limit=100, protocols={b"RAFT/1 ": build})
        site.secret = secret
        site.refusals = {b"RAFT/1 ": b"refused it\r\n"}
        return site

    def dial(self, secret: str = SECRET) -> tuple[Any, MemoryReactorClock, "Deferred[Any]", Any]:
        """(the dialler's protocol, its reactor, what comes of it, its transport)."""
        reactor = MemoryReactorClock()
        connect = connector(reactor, SecurityConfig(secret=secret))
        made = connect("127.0.0.1:9333").connect(Factory.forProtocol(Heard))
        factory = reactor.tcpClients[0][2]
        protocol: Any = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, reactor, made, transport

    def meet(self, wire: Wire, protocol: Any, transport: Any) -> list[bytes]:
        """Have both talk until neither has more to say; what the dialler said."""
        said = []
        for _ in range(4):
            spoken = transport.value()
            transport.clear()
            if spoken:
                said.append(spoken)
                wire.send(spoken)
            answer = taken(wire)
            if answer:
                protocol.dataReceived(answer)
        return said

    def test_both_know_it(self) -> None:
        wire = Wire(self.site)
        protocol, _, made, transport = self.dial()
        said = self.meet(wire, protocol, transport)
        self.assertIsInstance(self.successResultOf(made), Heard)
        self.assertNotIn(SECRET.encode(), b"".join(said))
        wire.send(ASK)
        [answer] = wire.answers()
        self.assertEqual(answer.status, 200)

    def test_another_protocol_behind_the_proof(self) -> None:
        wire = Wire(self.site)
        protocol, _, made, transport = self.dial()
        self.meet(wire, protocol, transport)
        self.successResultOf(made)
        for piece in (b"RA", b"FT/1 {}\r\n"):
            wire.send(piece)
        self.assertEqual(self.heard[0].data, b"RAFT/1 {}\r\n")

    def test_what_was_overheard_is_refused(self) -> None:
        wire = Wire(self.site)
        protocol, _, made, transport = self.dial()
        said = self.meet(wire, protocol, transport)
        self.successResultOf(made)
        self.assertEqual(len(said), 2)
        for pieces in (said, [b"".join(said)], [*said, b"RAFT/1 {}\r\n"]):
            replay = Wire(self.site)
            for piece in pieces:
                replay.send(piece)
            self.assertEqual(replay.end, "closed")
        self.assertEqual(self.heard, [])

    def test_without_proof(self) -> None:
        wire = Wire(self.site)
        wire.send(b"RAFT/1 {}\r\n")
        self.assertEqual((taken(wire), wire.end), (b"refused it\r\n", "closed"))
        wire = Wire(self.site)
        wire.send(ASK)
        [answer] = wire.answers()
        self.assertEqual(answer.status, 401)
        self.assertEqual(self.heard, [])

    def test_nonsense(self) -> None:
        for line in (b"PROVE/1 \r\n", b"PROVE/1 " + b"A" * 64 + b"\r\n", b"PROVE/1 " + b"a" * 10_000):
            wire = Wire(self.site)
            wire.send(line)
            self.assertEqual((taken(wire), wire.end), (b"", "closed"), line[:20])

    def test_one_cannot_have_the_listener_answer_its_own_challenge(self) -> None:
        first = Challenge(SECRET)
        answer, _ = first.take(b"PROVE/1 " + b"a" * 64 + b"\r\n")
        found = re.fullmatch(rb"PROVE/1 ([0-9a-f]{64}) ([0-9a-f]{64})\r\n", answer)
        assert found is not None
        second = Challenge(SECRET)
        reflected, _ = second.take(b"PROVE/1 " + found[1] + b"\r\n")
        first.take(b"PROVE/1 " + reflected.split()[2] + b"\r\n")
        self.assertFalse(first.is_proven)
        self.assertTrue(first.is_wrong)

    def test_the_other_side_has_another_secret_or_none(self) -> None:
        for secret in ("t" * 32, ""):
            wire = Wire(self.make(secret))
            protocol, _, made, transport = self.dial()
            said = self.meet(wire, protocol, transport)
            error = self.failureResultOf(made, ConnectError).value
            self.assertIn("security.toml", str(error))
            self.assertEqual(len(said), 1)  # who does not know it is shown nothing more

    def test_the_other_side_says_nothing_or_goes(self) -> None:
        _, reactor, made, _ = self.dial()
        reactor.advance(PATIENCE)
        self.failureResultOf(made, ConnectError)
        protocol, _, made, _ = self.dial()
        protocol.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(made, ConnectError)
