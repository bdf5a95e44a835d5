"""What every test shares: a test fails when anything logged a failure it did not expect."""

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, LogLevel, globalLogPublisher


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[list[LogEvent]]:
    """Fail the test when something logged at level critical; a test that expects that clears the list."""
    seen: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical:
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)
    if seen:
        pytest.fail("logged: " + "; ".join(str(e.get("log_failure") or e.get("log_format")) for e in seen))
