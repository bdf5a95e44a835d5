"""Telling systemd how a daemon is, for units of Type=notify: a datagram to the socket that $NOTIFY_SOCKET names.

    READY=1       it answers
    STOPPING=1    it is on its way out
    WATCHDOG=1    its reactor turns, told twice in each WatchdogSec

See sd_notify(3).  Without that variable nothing is sent.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Supervisor:
    """Whoever started this daemon, and may want to hear of it."""

    log = Logger()

    def __init__(self, reactor: Any, environment: Mapping[str, str] = os.environ) -> None:
        """`environment` is read once; what it says is not handed on to children."""
        self._path = environment.get("NOTIFY_SOCKET", "")
        self._interval = _watchdog(environment) / 2
        self._pulse = LoopingCall(self.tell, "WATCHDOG=1")
        self._pulse.clock = reactor

    def ready(self) -> None:
        """The daemon answers from now on."""
        self.tell(f"READY=1\nMAINPID={os.getpid()}")
        if self._path and self._interval and not self._pulse.running:
            self._pulse.start(self._interval)

    def stopping(self) -> None:
        """The daemon ends."""
        self.tell("STOPPING=1")

    def stopped(self) -> None:
        """Nothing more will be told."""
        if self._pulse.running:
            self._pulse.stop()

    def tell(self, state: str) -> None:
        """Send a line; one that cannot be sent is logged, and no reason to stop."""
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(state.encode(), address)
        except OSError as error:
            self.log.warn("systemd could not be told {state}: {reason}", state=state, reason=str(error))


def _watchdog(environment: Mapping[str, str]) -> float:
    """Seconds in which systemd wants to hear of this process; 0 when it does not."""
    wanted = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(wanted) / 1_000_000
