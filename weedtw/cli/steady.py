"""A reactor whose time goes on steadily, whatever becomes of the time of day.

Twisted reckons with the time of day.  When that is set back by an hour, as it is when a host that was wrong asks a
time server, everything that is due later waits an hour longer: heartbeats, the look at the disks, and time-outs.
"""

import time
from typing import Any


def make_steady(reactor: Any) -> None:
    """Let the reactor's `seconds` be those since some moment in the past; call it before anything is scheduled."""
    if not reactor.getDelayedCalls():  # one that is there already was reckoned by the time of day
        reactor.seconds = time.monotonic
