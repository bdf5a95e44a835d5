"""What every test shares: a test fails when anything logged a failure it did not expect."""

import os
import signal
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

# Who runs the tests in the background has SIGINT ignored, and all processes that the tests start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test depends on how fast the machine is.  (Hypothesis has a profile of its own for where CI is set.)
settings.register_profile("weedtw", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if "CI" not in os.environ:
    settings.load_profile("weedtw")


@implementer(ILogObserver)
@attrs.define
class FailureCollector:
    """Keeps every event logged at level critical (that is what `Logger.failure` uses)."""

    seen: list[LogEvent] = attrs.Factory(list)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical:
            self.seen.append(event)


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[list[LogEvent]]:
    """Fail the test when something logged at level critical; a test that expects that clears the list."""
    collector = FailureCollector()
    globalLogPublisher.addObserver(collector)
    yield collector.seen
    globalLogPublisher.removeObserver(collector)
    if collector.seen:
        pytest.fail("logged: " + "; ".join(str(e.get("log_failure") or e.get("log_format")) for e in collector.seen))
