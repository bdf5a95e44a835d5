"""Mutual TLS on real sockets, with an authority of the test's own."""

import contextlib
import ipaddress
import random
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.authority import LOOPBACK, authority, node_name
from tests.raft.logged import Log
from tests.raft.waiting import reactor, until
from weedtw.errors import ConfigError, PeerError
from weedtw.raft.dial import plain_connector
from weedtw.raft.lines import Hello
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Heartbeat, Message
from weedtw.raft.storage import Identity
from weedtw.raft.tls import Certificates, check_certificate
from weedtw.raft.transport import Transport


class Node:
    """As much of a `RaftNode` as a transport sees, listening on a port of its own."""

    def __init__(self, name: str, certificates: Certificates | None) -> None:
        self.identity = Identity("c", name)
        self.core = self.log = self
        self.membership = Membership()
        self.messages: list[Message] = []
        self.certificates = certificates
        factory = Factory.forProtocol(lambda: self.transport.inbound())  # noqa: PLW0108 - it changes
        if certificates is None:
            self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            self.port = reactor.listenSSL(0, factory, certificates.acceptor(), interface="127.0.0.1")
        self.address = f"127.0.0.1:{self.port.getHost().port}"
        self.transport = self.make_transport(certified=certificates is not None)

    def make_transport(self, *, certified: bool) -> Transport:
        connector = plain_connector if self.certificates is None else self.certificates.connector
        return Transport(
            self,  # type: ignore[arg-type]
            self.address,
            connect=connector(reactor),
            clock=reactor,
            rng=random.Random(),
            certified=certified,
        )

    def hello(self) -> Hello:
        return Hello("c", self.identity.node, self.address)

    def received(self, message: Message) -> None:
        self.messages.append(message)

    def lost_contact(self, node: str) -> None: ...

    def refused(self, node: str) -> None: ...

    def heard_from(self, other: "Node") -> bool:
        """Whether a message comes through; sends one."""
        other.transport.send([Heartbeat(other.identity.node, self.identity.node, 1, 0, 1)])
        return bool(self.messages)


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[Log]:
    """Nodes that dial each other; yields what is logged meanwhile."""
    log = Log()
    globalLogPublisher.addObserver(log)
    membership = Membership({node.identity.node: Member(node.address) for node in nodes})
    try:
        for node in nodes:
            node.membership = membership
            node.transport.start()
        yield log
    finally:
        for node in nodes:
            await node.port.stopListening()
        for node in nodes:
            await node.transport.stop()
        globalLogPublisher.removeObserver(log)


def certificates(*names: x509.GeneralName, by: str = "ours", trusting: str = "ours") -> Certificates:
    return Certificates(own=authority(by).certify(*names), authority=authority(trusting).pem)


def good(node: str) -> Certificates:
    return certificates(LOOPBACK, node_name(node))


def says(log: Log, *texts: str) -> bool:
    return all(any(text in line for line in log.texts()) for text in texts)


@pytest_twisted.ensureDeferred
async def test_nodes_of_one_authority_hear_each_other() -> None:
    a, b = Node("a", good("a")), Node("b", good("b"))
    async with running(a, b) as log:
        await until(lambda: a.heard_from(b) and b.heard_from(a))
        assert log.texts() == []


@pytest_twisted.ensureDeferred
async def test_a_certificate_for_the_host_alone_will_do() -> None:
    a, b = Node("a", certificates(LOOPBACK)), Node("b", certificates(LOOPBACK))
    async with running(a, b) as log:
        await until(lambda: a.heard_from(b) and b.heard_from(a))
        assert log.texts() == []


@attrs.frozen
class Case:
    """Node `b` that is turned away, and what is said of it."""

    name: str
    b: Certificates | None
    said: tuple[str, ...]


CASES = [
    Case(
        "of another authority",
        certificates(LOOPBACK, node_name("b"), by="theirs"),
        ("a caller from 127.0.0.1: TLS: certificate verify failed", "a at 127.0.0.1", "alert unknown ca"),
    ),
    Case(
        "trusting another authority",
        certificates(LOOPBACK, node_name("b"), trusting="theirs"),
        ("a caller from 127.0.0.1: TLS: tlsv1 alert unknown ca", "TLS: certificate verify failed"),
    ),
    Case("of another node", certificates(LOOPBACK, node_name("x")), ("for weedtw:x, not for node b",)),
    Case("of another node, once ours", certificates(LOOPBACK, node_name("a")), ("for weedtw:a, not for node b",)),
    Case("of another host", certificates(x509.DNSName("elsewhere")), ("your certificate is for elsewhere, not for",)),
    Case("without TLS", None, ("a caller from 127.0.0.1: TLS: wrong version number", "a at 127.0.0.1")),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
@pytest_twisted.ensureDeferred
async def test_turned_away(case: Case) -> None:
    a, b = Node("a", good("a")), Node("b", case.b)
    async with running(a, b) as log:
        await until(lambda: says(log, *case.said), show=log.texts)
        assert not a.heard_from(b)
        assert a.transport.connected() == frozenset()


@pytest_twisted.ensureDeferred
async def test_a_caller_without_a_certificate() -> None:
    """It trusts the right authority, but shows nothing of its own."""
    a, b = Node("a", good("a")), Node("b", good("b"))

    def connect(address: str) -> Any:
        from twisted.internet import ssl  # noqa: PLC0415
        from twisted.internet.endpoints import wrapClientTLS  # noqa: PLC0415

        options = ssl.optionsForClientTLS("127.0.0.1", trustRoot=ssl.Certificate.loadPEM(authority("ours").pem))
        return wrapClientTLS(options, plain_connector(reactor)(address))

    b.transport._connect = connect
    async with running(a, b) as log:
        await until(lambda: says(log, "TLS: peer did not return a certificate", "a at 127.0.0.1"), show=log.texts)
        assert not a.heard_from(b)


@pytest_twisted.ensureDeferred
async def test_a_node_that_demands_certificates_takes_no_plain_connection() -> None:
    """Whatever port it came by: the check does not depend on how the connection was accepted."""
    a, b = Node("a", None), Node("b", None)
    a.transport = a.make_transport(certified=True)
    async with running(a, b) as log:
        await until(lambda: says(log, "refused there: 127.0.0.1", "you have shown no certificate"))
        assert not a.heard_from(b)


class CheckTests(SynchronousTestCase):
    def check(self, hello: Hello, *names: x509.GeneralName) -> None:
        certificate = x509.load_pem_x509_certificate(authority("ours").certify(*names))
        shown = type("Shown", (), {"to_cryptography": lambda self: certificate})()
        check_certificate(hello, type("Transport", (), {"getPeerCertificate": lambda self: shown})())

    def refused(self, address: str, *names: x509.GeneralName) -> str:
        return str(self.assertRaises(PeerError, self.check, Hello("c", "b", address), *names))

    def test_names_that_fit(self) -> None:
        self.check(Hello("c", "b", "anywhere:1"), node_name("x"), node_name("b"))
        self.check(Hello("c", "b", "Master-1.example.org:1"), x509.DNSName("master-1.example.ORG"))
        for address in ("[::1]:1", "[0:0::0:1]:1"):
            self.check(Hello("c", "b", address), x509.IPAddress(ipaddress.ip_address("::1")))

    def test_names_that_do_not(self) -> None:
        self.assertIn(
            "for x, 10.0.0.1, not for 10.0.0.2",
            self.refused("10.0.0.2:1", x509.DNSName("x"), x509.IPAddress(ipaddress.ip_address("10.0.0.1"))),
        )
        self.assertIn("no subjectAltName", self.refused("a:1"))

    def test_the_host_does_not_count_where_a_node_is_named(self) -> None:
        self.assertIn("weedtw:x, not for node b", self.refused("127.0.0.1:1", node_name("x"), LOOPBACK))

    def test_no_certificate(self) -> None:
        for transport in (object(), type("Transport", (), {"getPeerCertificate": lambda self: None})()):
            self.assertRaises(PeerError, check_certificate, Hello("c", "b", "a:1"), transport)


class CertificatesTests(SynchronousTestCase):
    def check_refused(self, own: bytes, trusted: bytes, saying: str) -> None:
        self.assertIn(saying, str(self.assertRaises(ConfigError, Certificates, own, trusted)))

    def test_texts_that_are_none(self) -> None:
        pem, both = authority("ours").pem, authority("ours").certify(LOOPBACK)
        self.check_refused(b"", pem, "certificate (own): holds no PEM certificate")
        self.check_refused(both, b"nonsense", "certificate (authority): holds no PEM certificate")
        self.check_refused(pem, pem, "certificate (own): holds no private key")

    def test_the_key_is_not_shown(self) -> None:
        self.assertNotIn("PRIVATE", repr(good("a")))


class ConnectorTests(SynchronousTestCase):
    def test_literals_need_no_resolver(self) -> None:
        connect = plain_connector(reactor)
        for address, name in (
            ("127.0.0.1:1", "TCP4ClientEndpoint"),
            ("[::1]:1", "TCP6ClientEndpoint"),
            ("localhost:1", "HostnameEndpoint"),
        ):
            self.assertEqual(type(connect(address)).__name__, name)
