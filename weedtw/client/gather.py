"""Several things at once, but not too many."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredList

T = TypeVar("T")


async def each(items: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Await `work` of every item, up to `at_once` at a time.

    When one fails, or the caller is cancelled, no further one is begun, those under way are cancelled and waited
    for, and the first error is raised.
    """
    left = iter(items)
    errors: list[BaseException] = []
    workers: list[Deferred[None]] = []

    def take() -> Iterator[T]:
        while not errors:
            try:
                yield next(left)
            except StopIteration:
                return

    async def run() -> None:
        for item in take():
            try:
                await work(item)
            except BaseException as error:
                errors.append(error)
                raise

    def stop_others(_: object) -> None:
        for worker in workers:
            worker.cancel()

    for _ in range(at_once):
        if errors:
            break
        workers.append(Deferred.fromCoroutine(run()))
    for worker in workers:
        worker.addErrback(stop_others)
    await DeferredList(workers)
    if errors:
        raise errors[0]
