"""Tests that look at what was logged, and those that expect a failure among it."""

from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer


@implementer(ILogObserver)
class Log:
    """Everything logged since it was made."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)

    def texts(self, level: LogLevel = LogLevel.warn) -> list[str]:
        """What was logged at one level."""
        chosen = [event for event in self.events if event["log_level"] is level]
        return [str(event["log_format"]).format(**event) for event in chosen]


class LoggedTestCase(SynchronousTestCase):
    """Has a `log`."""

    expected: list[LogEvent] = []  # noqa: RUF012 - replaced for each test

    @pytest.fixture(autouse=True)
    def expect_failures(self, logged_failures: list[LogEvent]) -> None:
        self.expected = logged_failures

    def setUp(self) -> None:
        self.log = Log()
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    def expect_logged(self, *kinds: type[BaseException]) -> int:
        """Something was logged as critical, with these failures (if any); returns with how many."""
        self.assertNotEqual(self.log.texts(LogLevel.critical), [])
        self.expected.clear()
        return sum(len(self.flushLoggedErrors(kind)) for kind in kinds)
