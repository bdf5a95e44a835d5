"""Less work around each event: what a daemon that answers tens of thousands of requests a second notices.

Twisted runs every event in a context of its own, so that old log messages tell which connection they are about.  The
messages here say that themselves, and the context takes as long as reading the request.  And Python's collector looks
at everything that is alive each time enough was made; what was made at the start stays to the end.
"""

import errno
import gc
import sys
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.tcp import Client, Connection, Server
from twisted.logger import Logger

_SHARE = 0.0005  # seconds for which a thread that computes keeps the reactor waiting; by default it is ten times that
_YOUNG = 20_000  # objects between two looks at the youngest; the collector's own default is 700
_log = Logger()


def make_lean(reactor: Any) -> None:
    """Let the reactor call what is ready directly, and leave what is there when it runs out of collections."""
    if type(reactor) is EPollReactor:
        reactor.doIteration = _iteration_of(reactor)  # type: ignore[method-assign]
    reactor.callWhenRunning(_settle)


def _settle() -> None:
    sys.setswitchinterval(_SHARE)
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
    gc.enable()


def _iteration_of(reactor: Any) -> Any:
    """EPollReactor's `doPoll` without the context; and a plain TCP connection that has bytes is read right there."""
    poll, selectables, serve = reactor._poller.poll, reactor._selectables, reactor._doReadOrWrite
    disconnect, readable, most = reactor._disconnectSelectable, reactor._POLL_IN, Connection.bufferSize

    def iterate(timeout: float | None) -> None:
        try:
            events = poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is None:
                continue
            kind = type(selectable)
            if event != readable or (kind is not Server and kind is not Client):
                try:
                    serve(selectable, descriptor, event)
                except Exception:  # noqa: BLE001 - one connection's fault must not end the others
                    _log.failure("serving a connection")
                continue
            why = None
            try:
                try:
                    data = selectable.socket.recv(most)
                except OSError:
                    data = b""
                if data:
                    selectable.protocol.dataReceived(data)
                else:
                    why = selectable.doRead()  # meets the same end or error, and knows what it means
            except Exception as error:  # noqa: BLE001 - whatever its protocol did wrong, it is the only one to suffer
                _log.failure("serving a connection")
                why = error
            if why is not None:
                disconnect(selectable, why, True)

    return iterate
