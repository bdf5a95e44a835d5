"""What the other masters believe, for the page: asked when somebody looks, at most once a second each.

A page must not wait for a master that is dead, least of all while a cluster fails over.  So asking goes on behind it,
and a page waits only for those that answered the last time.
"""

from collections.abc import Callable, Iterable
from typing import Final

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.client.beliefs import Belief, parse_belief
from weedtw.errors import PeerError
from weedtw.http.agent import PeerAgent

ANSWER_WITHIN: Final = 1.0  # seconds
PATIENCE: Final = 0.25  # seconds that a page waits for them
FRESH: Final = 0.9  # seconds for which an answer is not asked for again
_LIMIT: Final = 1 << 20  # bytes of an answer


@attrs.define
class View:
    """What is known of one master."""

    address: str
    belief: Belief | None = None  # the last that it told
    told_at: float = 0.0  # when that was, on the clock
    trouble: str = ""  # why it did not tell the last time
    asked_at: float = float("-inf")


@attrs.define(eq=False)
class Outlook:
    """Asks the masters at `others()`."""

    log = Logger()

    peers: PeerAgent
    clock: IReactorTime
    others: Callable[[], Iterable[str]]
    _views: dict[str, View] = attrs.field(factory=dict, init=False)
    _asking: dict[str, Deferred[None]] = attrs.field(factory=dict, init=False)

    async def look(self) -> list[View]:
        """What the others believe, by address; takes PATIENCE at most."""
        wanted = sorted(self.others())
        self._views = {address: self._views.get(address) or View(address) for address in wanted}
        awaited = [asked for address in wanted if (asked := self._ask(address)) is not None]
        if awaited:
            enough: Deferred[object] = Deferred()
            timer = self.clock.callLater(PATIENCE, enough.callback, None)
            DeferredList(awaited).addCallback(lambda _: None if enough.called else enough.callback(None))
            await enough
            if timer.active():
                timer.cancel()
        return [self._views[address] for address in wanted]

    def _ask(self, address: str) -> Deferred[None] | None:
        """Ask, unless that is going on or was done just now; what to wait for, if it is worth it."""
        view, now = self._views[address], self.clock.seconds()
        if address not in self._asking and now - view.asked_at >= FRESH:
            view.asked_at = now
            asking = Deferred.fromCoroutine(self._hear(view))
            if not asking.called:
                self._asking[address] = asking
            asking.addErrback(self._broke).addBoth(lambda _: self._done(address))
        going = self._asking.get(address)
        if going is None or view.trouble:
            return None
        waiting: Deferred[None] = Deferred()
        going.addBoth(lambda _: waiting.callback(None))
        return waiting

    async def _hear(self, view: View) -> None:
        try:
            answer = await self.peers.get_json(view.address, "/cluster/members", timeout=ANSWER_WITHIN, limit=_LIMIT)
            view.belief = parse_belief(view.address, answer)
        except PeerError as error:
            view.trouble = error.reason
        else:
            view.told_at, view.trouble = self.clock.seconds(), ""

    def _done(self, address: str) -> None:
        self._asking.pop(address, None)

    def _broke(self, failure: Failure) -> None:
        self.log.failure("asking a master what it believes", failure)
