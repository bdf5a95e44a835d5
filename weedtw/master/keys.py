"""File keys: which key the next file gets.

Keys come from ranges.  A range is ours once the ledger has moved its high water beyond it, and only then is its
first key given out; the next range is asked for while half of this one is left, so that nobody waits for the
disk.  What is left of a range when the master stops, dies, or loses the lead, is never used: a key given out once is
not given out again, whatever happens.
"""

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import NoRoom, WeedError
from weedtw.master.flight import Flight
from weedtw.master.ledger import Ledger
from weedtw.topology.state import MAX_KEY, ExtendKeys, KeyRange, RaiseKeys

RANGE = 100_000  # keys committed at a time
MAX_COUNT = 100_000  # keys in one request
ABSURD = 1 << 62  # keys from here on come from damage or malice: no sequence gets there, nor do time-based ones


@attrs.define(eq=False)
class KeySequence:
    """Gives out keys in rising order; `size` is how many are committed at a time, at least MAX_COUNT."""

    log = Logger()

    ledger: Ledger
    size: int = RANGE
    _next: int = 1
    _last: int = 0  # of the range at hand; nothing is at hand while it is below `_next`
    _seen: int = 0  # the highest key that a volume server reported
    _fetching: Flight[None] | None = None
    _reported: set[int] = attrs.Factory(set)  # absurd keys that the log knows already

    def take_at_once(self, count: int) -> int | None:
        """The first of `count` keys in a row (1 to MAX_COUNT); None when they are not at hand."""
        first = self._next
        if first + count - 1 > self._last:
            return None
        self._next = first + count
        if self._last - first < self.size // 2 and self._fetching is None:
            self._fetch_ahead()
        return first

    async def more(self) -> None:
        """Wait for further keys to be at hand, then `take_at_once` again: others may have been faster.

        Raises Unavailable when the ledger cannot decide, NoRoom when all keys are used up.
        """
        await self._fetch().join()

    def drop(self) -> None:
        """Give the range at hand up: somebody else may decide from now on."""
        self._next, self._last = 1, 0

    async def begin(self) -> None:
        """This master has come to lead: have keys at hand, above all that it has seen; raises as `more` does."""
        seen = self._seen
        if seen > self.ledger.state.key_high_water:
            await self.ledger.submit(RaiseKeys(seen))
        await self.more()

    async def saw(self, key: int) -> bool:
        """A volume server holds a file of that key: no key up to it may be given out.

        False when the key is absurd and was not taken into account; that is logged once.
        """
        if key >= ABSURD and key > self.ledger.state.key_high_water:
            if key not in self._reported and len(self._reported) < 1000:
                self._reported.add(key)
                self.log.error("a volume server reports the absurd file key {key:x}; keys go on below it", key=key)
            return False
        self._seen = max(self._seen, key)
        if key >= self._next:
            self._next = key + 1
        if key > self.ledger.state.key_high_water and self.ledger.has_lead:  # else who comes to lead writes it down
            await self.ledger.submit(RaiseKeys(key))
        return True

    def _fetch_ahead(self) -> None:
        Deferred.fromCoroutine(self._fetch().join()).addErrback(self._not_ahead)

    def _not_ahead(self, failure: Failure) -> None:
        if failure.check(WeedError) is None:
            self.log.failure("while asking for file keys", failure)
        else:
            self.log.error("no further file keys: {reason}", reason=str(failure.value))

    def _fetch(self) -> Flight[None]:
        if self._fetching is None:
            flight = self._fetching = Flight.take_off(self._extend())
            if flight.is_over:
                self._fetching = None
        return self._fetching or flight

    async def _extend(self) -> None:
        try:
            high_water = self.ledger.state.key_high_water
            if high_water >= MAX_KEY:
                raise NoRoom("the file keys are used up")
            granted: KeyRange = await self.ledger.submit(ExtendKeys(min(high_water + self.size, MAX_KEY)))
            if granted.first != self._last + 1:  # not the continuation of what is at hand: that is given up
                self._next = granted.first
            self._next = max(self._next, self._seen + 1)
            self._last = granted.last
        finally:
            self._fetching = None
