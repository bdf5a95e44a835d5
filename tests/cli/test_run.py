"""Which lines a daemon shows."""

from typing import Any

from twisted.application.internet import ClientService
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionRefusedError  # noqa: A004 - Twisted's own
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, PredicateResult, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from zope.interface import implementer

from weedtw.cli.run import no_ports, shown_from
from weedtw.http.channel import make_site

reactor: Any = installed_reactor


@implementer(IStreamClientEndpoint)
class Nobody:
    """The way to where nobody listens."""

    def connect(self, factory: IProtocolFactory) -> "Deferred[IProtocol]":
        return fail(ConnectionRefusedError())


class ShownTests(SynchronousTestCase):
    def shown(self, event: LogEvent, level: str) -> bool:
        return shown_from(level)(event) is not PredicateResult.no

    def test_attempts_to_connect_are_a_detail(self) -> None:
        clock = Clock()
        service = ClientService(Nobody(), Factory(), retryPolicy=lambda _: 1.0, clock=clock)
        with capturedLogs() as logged:
            service.startService()
            clock.pump([1.0] * 3)
            service.stopService()
        attempts = [event for event in logged if "retry" in str(event.get("log_format"))]
        self.assertGreaterEqual(len(attempts), 3)
        for level, shown in (("debug", True), ("info", False), ("warn", False), ("error", False)):
            self.assertEqual({self.shown(event, level) for event in attempts}, {shown}, level)

    def test_ports_come_and_go_without_a_word(self) -> None:
        site = make_site(Resource(), reactor=reactor, body_limit=1)
        with capturedLogs() as logged:
            port = reactor.listenTCP(0, site, interface="127.0.0.1")
            port.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(logged), 2)
        self.assertEqual({no_ports(event) for event in logged}, {PredicateResult.no})
        other = {"log_namespace": "log_legacy", "log_text": "something else"}
        self.assertEqual(no_ports(other), PredicateResult.maybe)

    def test_what_is_important_enough(self) -> None:
        logged: list[LogEvent] = []
        logger = Logger("weedtw.test", observer=logged.append)  # type: ignore[arg-type]
        for level in LogLevel.iterconstants():
            logger.emit(level, "text")
        for name, count in (("debug", 5), ("info", 4), ("warn", 3), ("error", 2)):
            self.assertEqual(sum(self.shown(event, name) for event in logged), count, name)
