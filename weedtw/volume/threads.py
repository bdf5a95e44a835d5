"""The threads in which storage's blocking calls run."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import attrs
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

MOST = 24  # threads: writers that wait for one fsync together, readers that wait for the disk

P = ParamSpec("P")
T = TypeVar("T")


@attrs.define(eq=False)
class Threads:
    """Runs functions in a pool of its own: `await threads(function, …)` gives what the function returns or raises.

    A caller that is cancelled no longer waits; the function goes on.
    """

    reactor: Any
    most: int = MOST
    name: str = "volume"
    _pool: ThreadPool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = ThreadPool(1, self.most, self.name)

    @property
    def is_running(self) -> bool:
        """Whether it takes work."""
        return bool(self._pool.started)

    def start(self) -> None:
        """Take work from now on; what came before waits until then."""
        self._pool.start()

    def stop(self) -> None:
        """Finish what was begun, and end the threads."""
        if self._pool.started:
            self._pool.stop()

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in a thread."""
        result: T = await deferToThreadPool(self.reactor, self._pool, function, *args, **kwargs)
        return result
