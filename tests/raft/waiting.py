"""Waiting for a condition on the real reactor, with a limit that only a hang reaches."""

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.task import deferLater

reactor: Any = installed_reactor
LIMIT = 30.0  # seconds


async def until(condition: Callable[[], object], limit: float = LIMIT, show: Callable[[], object] = str) -> None:
    """Return when `condition()` is true; `show()` says what is the case instead when the limit is reached."""
    gives_up = reactor.seconds() + limit
    while not condition():
        assert reactor.seconds() < gives_up, f"did not come true within {limit:g} s: {show()}"
        await deferLater(reactor, 0.005)
