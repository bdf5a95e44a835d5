"""Having somebody else's code run, which may take its time, in a thread that is not the reactor's.

One thread does it all for one upload, a piece of work at a time: what it runs may then be something that belongs to a
thread, such as a database's cursor.  The reactor's pool is not used, for its threads are few, are needed for looking
up hosts, and are waited for when the program ends, which a pipe into which nobody writes would put off for ever.
"""

import threading
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

T = TypeVar("T")

FAREWELL: Final = 5.0  # seconds after Ctrl-C in which what was begun is undone


class Errands(Protocol):
    """Somebody who can be kept waiting."""

    def run(self, work: Callable[[], T]) -> "Deferred[T]":
        """Have it done after what was asked before; the Deferred gets what came of it.

        Cancelling it does not stop the work: nobody is told what comes of it, and what is asked next waits for it.
        """

    def end(self, work: Callable[[], object]) -> None:
        """Have that done as the last thing; nobody is told what comes of it."""


@attrs.frozen(eq=False)
class _Errand:
    """One thing to do, and who is told of it."""

    work: Callable[[], Any]
    done: "Deferred[Any]"

    def do(self, reactor: IReactorFromThreads, *, lets_through: bool) -> None:
        """Do it; with `lets_through` what ends a program, such as SystemExit, is raised here, else it is an error."""
        outcome: Any
        try:
            outcome = self.work()
        except Exception:  # noqa: BLE001 - it is raised again, where the Deferred is awaited
            outcome = Failure()
        except BaseException as error:
            if lets_through:
                raise
            outcome = Failure(RuntimeError(f"{error!r} ends no program from here"))
        reactor.callFromThread(self.done.callback, outcome)  # a Failure makes it fail


@attrs.define(eq=False)
class OwnThread:
    """A thread for it, from the first errand to the last; it keeps no program from ending."""

    _reactor: IReactorFromThreads
    _queue: "SimpleQueue[_Errand | None]" = attrs.field(factory=SimpleQueue, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    def run(self, work: Callable[[], T]) -> "Deferred[T]":
        """Have it done; see `Errands`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="weedtw-source", daemon=True)
            self._thread.start()
        done: Deferred[T] = Deferred()
        self._queue.put(_Errand(work, done))
        return done

    def end(self, work: Callable[[], object]) -> None:
        """Have that done, and let the thread end."""
        self.run(work).addErrback(lambda _: None)
        self._queue.put(None)

    def _serve(self) -> None:
        while (errand := self._queue.get()) is not None:
            errand.do(self._reactor, lets_through=False)


@attrs.define(eq=False)
class CallersThread:
    """The thread that called, and would only wait for the result, does it itself: `wait` is where."""

    _reactor: IReactorFromThreads
    _queue: "SimpleQueue[_Errand | _Over]" = attrs.field(factory=SimpleQueue, init=False)
    _running: "Deferred[Any] | None" = attrs.field(default=None, init=False)

    def run(self, work: Callable[[], T]) -> "Deferred[T]":
        """Have it done; see `Errands`."""
        done: Deferred[T] = Deferred()
        self._queue.put(_Errand(work, done))
        return done

    def end(self, work: Callable[[], object]) -> None:
        """Have that done before `wait` returns."""
        self.run(work).addErrback(lambda _: None)

    def wait(self, begin: Callable[[], Coroutine["Deferred[Any]", Any, T]]) -> T:
        """Have the reactor's thread run that coroutine, do the errands meanwhile, and return or raise its result.

        Ctrl-C and its like, here or in an errand, cancel it, and give it FAREWELL seconds to undo what it had begun.
        """
        try:
            self._reactor.callFromThread(self._begin, begin)
            outcome = self._serve(None)
        except (KeyboardInterrupt, SystemExit):
            self._reactor.callFromThread(self._cancel)
            self._serve(FAREWELL)
            raise
        if isinstance(outcome, Failure):
            outcome.raiseException()
        result: T = outcome
        return result

    def _begin(self, begin: Callable[[], Coroutine["Deferred[Any]", Any, Any]]) -> None:
        self._running = Deferred.fromCoroutine(begin())
        self._running.addBoth(lambda outcome: self._queue.put(_Over(outcome)))

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    def _serve(self, limit: float | None) -> Any:
        """Do what comes until it is over, and return how it ended; None when nothing came for `limit` seconds."""
        while True:
            try:
                one = self._queue.get(timeout=limit)
            except Empty:
                return None
            if isinstance(one, _Over):
                return one.outcome
            one.do(self._reactor, lets_through=True)


@attrs.frozen(eq=False)
class _Over:
    """The last thing in a queue: what the coroutine returned, or a Failure."""

    outcome: Any
