"""Asking the masters: whichever answers, the leader first, for as long as the caller's patience lasts."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from weedtw.client.answers import parse_address
from weedtw.client.patience import Patience
from weedtw.client.wire import Wire, hint, passes
from weedtw.errors import BadRequest, PeerError, Unavailable, WeedError

_SHUNNED: Final = 10.0  # seconds for which a master that failed is asked last
_STRANGERS: Final = 2.0  # seconds of patience with masters of which none has ever answered
_ANSWER_WITHIN: Final = 5.0  # seconds; then the next master is asked, for this one may be frozen
_STATUS_WITHIN: Final = 2.0  # seconds; a master says who leads at once or is in trouble
_MOST_MASTERS: Final = 64  # that are learned from answers; no cluster has as many


@attrs.frozen
class MasterState:
    """What one master says of the cluster, or why it said nothing."""

    address: str
    leads: bool = False
    leader: str = ""  # "host:port" of who leads, "" when this master knows none
    peers: tuple[str, ...] = ()
    highest_volume_id: int | None = None
    error: str = ""


@attrs.define(eq=False)
class Masters:
    """The masters as far as known, in the order given at first; more are learned from what they say of each other."""

    known: list[str]
    wire: Wire
    clock: IReactorTime
    patience: float  # seconds for which one question is repeated
    spread: Callable[[], float] = random.random
    leader: str = ""
    _met: bool = False
    _failed_at: dict[str, float] = attrs.Factory(dict)
    _log = Logger()

    @classmethod
    def at(cls, addresses: Iterable[str], wire: Wire, clock: IReactorTime, patience: float) -> "Masters":
        """Begin with these addresses; raises BadRequest when there is none or one is not of the form host:port."""
        known = list(dict.fromkeys(parse_address(address) for address in addresses))
        if not known:
            raise BadRequest("no master was named")
        return cls(known, wire, clock, patience)

    async def ask(self, path: str, query: Mapping[str, str]) -> tuple[str, Any]:
        """Return who answered and its JSON.  The question must be one that may be put twice.

        Raises Unavailable when no master could serve it in time, PeerError when one refused it.  Masters of which
        none has ever answered are not waited for long: their addresses may be wrong.
        """
        if not self._met:
            await self._find_leader()
        limit = self.patience if self._met else min(self.patience, _STRANGERS)
        patience = Patience(self.clock, limit, self.spread)
        while True:
            troubles: list[WeedError] = []
            for address in self._order():
                try:
                    return address, await self.wire.json(address, path, query, min(self.wire.answer, _ANSWER_WITHIN))
                except (PeerError, Unavailable) as error:
                    if not passes(error):
                        raise
                    self._shun(address)
                    troubles.append(error)
            if not await patience.wait(hint(troubles)):
                raise _summed_up(troubles)
            await self._find_leader()

    async def states(self) -> tuple[MasterState, ...]:
        """Ask every master, those that are learned of by this too, and return what each says, by address."""
        states: dict[str, MasterState] = {}
        while missing := [address for address in self.known if address not in states]:
            asked = [Deferred.fromCoroutine(self._state(address)) for address in missing]
            for _, state in await DeferredList(asked):
                states[state.address] = state
        return tuple(states[address] for address in sorted(states))

    async def _find_leader(self) -> None:
        """Ask all masters at once who leads, until one names a leader that has not just failed; never fails."""
        found: Deferred[None] = Deferred()
        asked = [Deferred.fromCoroutine(self._state(address)) for address in self.known]

        def heard(state: MasterState) -> None:
            if self.leader and not found.called and self.leader in {state.leader, state.address}:
                found.callback(None)

        def all_heard(_: object) -> None:
            if not found.called:
                found.callback(None)

        for one in asked:
            one.addCallback(heard)
        DeferredList(asked, consumeErrors=True).addBoth(all_heard)
        try:
            await found
        finally:
            for one in asked:
                one.cancel()

    def _order(self) -> list[str]:
        """The leader first, then as given; those that failed lately last."""
        shunned = self._shunned()
        return sorted(self.known, key=lambda address: (address in shunned, address != self.leader))

    def _shunned(self) -> set[str]:
        now = self.clock.seconds()
        return {address for address, when in self._failed_at.items() if now - when < _SHUNNED}

    def _shun(self, address: str) -> None:
        self._failed_at[address] = self.clock.seconds()
        if self.leader == address:
            self.leader = ""

    async def _state(self, address: str) -> MasterState:
        try:
            answer = await self.wire.json(address, "/cluster/status", within=_STATUS_WITHIN)
        except WeedError as error:
            return MasterState(address, error=str(error))
        state = _parse_state(address, answer)
        self._learn(state)
        return state

    def _learn(self, state: MasterState) -> None:
        self._met = True
        for peer in (state.leader, *state.peers):
            if peer and peer not in self.known and len(self.known) < _MOST_MASTERS:
                self.known.append(peer)
        if state.leads:
            self._failed_at.pop(state.address, None)
        leader = state.address if state.leads else state.leader
        if leader and leader != self.leader and leader not in self._shunned():
            self._log.debug("the leading master is {leader}, it was {before!r}", leader=leader, before=self.leader)
            self.leader = leader


def _parse_state(address: str, answer: object) -> MasterState:
    if not isinstance(answer, dict):
        return MasterState(address, error=f"{address}: the answer to /cluster/status is no JSON object")
    peers = answer.get("Peers") or ()
    highest = answer.get("MaxVolumeId")
    return MasterState(
        address,
        leads=answer.get("IsLeader") is True,
        leader=_or_none(answer.get("Leader")),
        peers=tuple(filter(None, map(_or_none, peers if isinstance(peers, list) else ()))),
        highest_volume_id=highest if type(highest) is int else None,
    )


def _or_none(text: object) -> str:
    """An address, "" when it is none: what a master says of others is a hint, not a reason to fail."""
    try:
        return parse_address(str(text or ""))
    except BadRequest:
        return ""


def _summed_up(troubles: list[WeedError]) -> Unavailable:
    said = "; ".join(dict.fromkeys(str(trouble) for trouble in troubles))
    if len(troubles) > 1:
        said = f"none of {len(troubles)} masters can serve this now: {said}"
    return Unavailable(said, hint(troubles) or 1.0)
