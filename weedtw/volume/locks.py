"""One write at a time for each file: two writes through one server reach all copies in the same order."""

from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

import attrs
from twisted.internet.defer import DeferredLock


@attrs.define(eq=False)
class KeyLocks:
    """A lock for each key that is in use."""

    _locks: dict[Hashable, tuple[DeferredLock, int]] = attrs.field(factory=dict, init=False)  # and its users

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncGenerator[None, None]:
        """Wait for the key's lock, and keep it for the block."""
        lock, users = self._locks.get(key) or (DeferredLock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)

    def try_take(self, key: Hashable) -> bool:
        """Take the key's lock if nobody has it; give it back with `give`."""
        if key in self._locks:
            return False
        lock = DeferredLock()
        lock.acquire()  # at once: it is new
        self._locks[key] = (lock, 1)
        return True

    def give(self, key: Hashable) -> None:
        """The next who waits may go on."""
        lock, users = self._locks[key]
        if users == 1:
            del self._locks[key]
        else:
            self._locks[key] = (lock, users - 1)
        lock.release()
