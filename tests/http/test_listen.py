"""What is said when a port cannot be had: which option to change, and to what."""

import errno
import socket
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from weedtw.errors import ConfigError
from weedtw.http.channel import make_site
from weedtw.http.listen import listen, most_connections
from weedtw.http.testing import Wire


class Refusing(MemoryReactorClock):
    """A reactor that has no port to give."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        raise CannotListenError(interface, port, self.error)


class ListenTests(SynchronousTestCase):
    """One line: the option, what is wrong, what to do."""

    def refusal(self, error: Exception, ip: str = "10.0.0.7", bind: str = "10.0.0.7", port: int = 80) -> str:
        reactor = Refusing(error)
        site = make_site(Resource(), reactor=reactor, body_limit=1)
        with self.assertRaises(ConfigError) as caught:
            listen(reactor, site, ip=ip, bind=bind, port=port, port_option="--master.port")
        return str(caught.exception)

    def test_taken(self) -> None:
        self.assertEqual(
            self.refusal(OSError(errno.EADDRINUSE, "Address already in use")),
            "--master.port: cannot listen on 10.0.0.7:80: the port is taken; end the process that has it "
            "(ss -ltnp names it), or choose another --master.port",
        )

    def test_privileged(self) -> None:
        said = self.refusal(OSError(errno.EACCES, "Permission denied"))
        self.assertTrue(said.startswith("--master.port: cannot listen on 10.0.0.7:80: Permission denied; "), said)
        self.assertIn("1024", said)

    def test_an_address_of_another_host_is_not_the_ports_fault(self) -> None:
        error = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        said = self.refusal(error)
        self.assertTrue(said.startswith("--ip: cannot listen on 10.0.0.7:80: this host does not have"), said)
        self.assertIn("--ip.bind", said)
        said = self.refusal(error, ip="10.0.0.7", bind="10.0.0.8")
        self.assertTrue(said.startswith("--ip.bind: cannot listen on 10.0.0.8:80: this host does not have"), said)
        self.assertNotIn("master.port", said)

    def test_a_name_that_nobody_knows(self) -> None:
        said = self.refusal(socket.gaierror(-2, "Name or service not known"), ip="nohost", bind="nohost")
        self.assertTrue(said.startswith("--ip: cannot listen on nohost:80: the name nohost has no address"), said)

    def test_anything_else_is_told_as_it_is(self) -> None:
        said = self.refusal(OSError(errno.ENOBUFS, "No buffer space available"))
        self.assertIn("No buffer space available", said)


class ManyConnectionsTests(SynchronousTestCase):
    """A daemon keeps files for its volumes, whoever connects."""

    def test_no_more_than_the_limit(self) -> None:
        site = make_site(Resource(), reactor=MemoryReactorClock(), body_limit=1)
        site.most_connections = 2
        first, _second = Wire(site), Wire(site)
        self.assertIsNone(site.buildProtocol(None))
        first.leave()
        Wire(site)
        self.assertIsNone(site.buildProtocol(None))

    def test_a_listening_site_has_one(self) -> None:
        reactor = MemoryReactorClock()
        site = make_site(Resource(), reactor=reactor, body_limit=1)

        class Paused:
            def stopReading(self) -> None:
                """As a port has it."""

        reactor.listenTCP = lambda *_, **__: Paused()  # type: ignore[method-assign]
        listen(reactor, site, ip="::1", bind="::1", port=80, port_option="--port")
        self.assertEqual(site.most_connections, most_connections())
        self.assertGreater(most_connections(), 0)
