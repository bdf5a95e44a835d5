"""One write at a time for each file: two writes through one server reach all copies in the same order."""

from collections import deque
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

import attrs
from twisted.internet.defer import Deferred


@attrs.define(eq=False)
class KeyLocks:
    """A lock for each key that is in use."""

    _waiting: dict[Hashable, deque[Deferred[None]] | None] = attrs.field(factory=dict, init=False)  # None: nobody

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncGenerator[None, None]:
        """Wait for the key's lock, and keep it for the block."""
        if not self.try_take(key):
            waiting = self._waiting[key]
            if waiting is None:
                waiting = self._waiting[key] = deque()
            turn: Deferred[None] = Deferred(waiting.remove)  # so whoever gives up waiting is not given it
            waiting.append(turn)
            await turn
        try:
            yield
        finally:
            self.give(key)

    def try_take(self, key: Hashable) -> bool:
        """Take the key's lock if nobody has it; give it back with `give`."""
        if key in self._waiting:
            return False
        self._waiting[key] = None
        return True

    def give(self, key: Hashable) -> None:
        """The next who waits may go on."""
        waiting = self._waiting[key]
        if waiting:
            waiting.popleft().callback(None)
        else:
            del self._waiting[key]
