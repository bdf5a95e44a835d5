"""The one thread on which a node's storage works: never two calls at a time, and always in order."""

from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool


class Disk(Interface):
    """Where blocking calls go."""

    def start(self) -> None:
        """Be ready for calls."""

    def run(self, call: Callable[[], None]) -> "Deferred[None]":
        """Do `call` after all earlier ones; fires on the reactor's thread."""

    def stop(self) -> None:
        """No more calls will come; all earlier ones have ended."""


class DiskThread:
    """A thread of its own, not one of the reactor's pool, where a slow lookup of a name could hold up a write."""

    def __init__(self, reactor: Any) -> None:
        """Results are delivered on `reactor`'s thread."""
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, name="raft-disk")

    def start(self) -> None:
        """Start the thread."""
        self._pool.start()

    def run(self, call: Callable[[], None]) -> "Deferred[None]":
        """Do `call` on the thread, after all earlier ones."""
        done: Deferred[None] = deferToThreadPool(self._reactor, self._pool, call)
        return done

    def stop(self) -> None:
        """End the thread."""
        if self._pool.started:
            self._pool.stop()
