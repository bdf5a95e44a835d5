"""What every master believes of the cluster, asked of all of them at once, as `/cluster/members` tells it."""

from collections.abc import Iterable
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, DeferredList

from weedtw.client.answers import parse_address
from weedtw.client.wire import Wire
from weedtw.errors import BadRequest, PeerError, WeedError

LEADER: Final = "LEADER"
JOINING: Final = "JOINING"
ANSWER_WITHIN: Final = 2.0  # seconds; a master says at once what it believes
_MOST_MASTERS: Final = 64  # that are asked; no cluster has as many
_LONGEST: Final = 1000  # characters of a text that is worth showing
_CANNOT_BE_UNDERSTOOD: Final = "does not answer as a master of weedtw does"


@attrs.frozen
class KnownMember:
    """A member of the cluster, as one master sees it."""

    node: str
    address: str
    voter: bool
    connected: bool
    last_contact: float | None = None  # seconds since the leader heard of it; None from others, and when it never did
    match: int | None = None  # how far its log is known to be the leader's; None from others


@attrs.frozen
class Belief:
    """What one master believes, or in `error` why it did not tell."""

    asked: str  # the address that was asked
    error: str = ""
    node: str = ""  # with an error: who should be there, as the others have it
    address: str = ""  # what it calls itself
    cluster: str = ""  # "" while it belongs to none
    version: str = ""
    role: str = ""  # LEADER, FOLLOWER, CANDIDATE, PRE_CANDIDATE or JOINING
    reason: str = ""  # why it is no member yet
    term: int = 0
    leader: str = ""  # node id; "" when it knows of none
    leader_address: str = ""
    commit: int = 0
    applied: int = 0
    last_index: int = 0
    snapshot_index: int = 0
    has_lease: bool = False
    stuck: bool = False  # its disk does not answer
    failed: str = ""  # why it has stopped taking part
    members: tuple[KnownMember, ...] = ()
    founds_with: tuple[str, ...] = ()  # addresses, while it founds a cluster

    @property
    def leads(self) -> bool:
        """Whether it takes itself for the leader."""
        return self.role == LEADER and not self.failed and not self.error

    @property
    def voters(self) -> frozenset[str]:
        """The nodes whose votes count."""
        return frozenset(member.node for member in self.members if member.voter)

    @property
    def majority(self) -> int:
        """How many of them can decide."""
        return len(self.voters) // 2 + 1

    def member(self, node: str) -> KnownMember | None:
        """The member of that id."""
        return next((member for member in self.members if member.node == node), None)


async def ask_all(wire: Wire, named: Iterable[str], hints: Iterable[str] = ()) -> tuple[Belief, ...]:
    """Ask these masters and all that any of them names, and return what they say, by address.

    A master that is known under several addresses is there once.  One that does not answer within ANSWER_WITHIN is
    there if it was `named` or is a member; at the addresses in `hints` there may be masters that can name others.
    """
    wanted = list(dict.fromkeys(named))
    found: dict[str, Belief] = {}
    begun: set[str] = set()

    async def ask(address: str) -> None:
        belief = found[address] = await ask_one(wire, address)
        names = (*(member.address for member in belief.members), belief.leader_address, *belief.founds_with)
        await ask_those(name for name in names if name)

    async def ask_those(others: Iterable[str]) -> None:
        new = [address for address in dict.fromkeys(others) if address not in begun]
        new = new[: max(0, _MOST_MASTERS - len(begun))]
        begun.update(new)
        await DeferredList([Deferred.fromCoroutine(ask(address)) for address in new], consumeErrors=True)

    await ask_those((*wanted, *hints))
    return _each_once(found.values(), set(wanted))


def _each_once(beliefs: Iterable[Belief], named: set[str]) -> tuple[Belief, ...]:
    told: dict[tuple[str, str], Belief] = {}
    silent: list[Belief] = []
    for belief in beliefs:
        if belief.error:
            silent.append(belief)
        elif (belief.node, belief.address) not in told or belief.asked == belief.address:
            told[belief.node, belief.address] = belief
    nodes = {member.address: member.node for belief in told.values() for member in belief.members}
    here = {belief.node for belief in told.values()}
    # What was at an address before it moved is of no interest, unless somebody asks for it.
    away = [
        attrs.evolve(belief, node=nodes.get(belief.asked, ""))
        for belief in silent
        if belief.asked in named or nodes.get(belief.asked, belief.node) not in {*here, ""}
    ]
    return tuple(sorted((*told.values(), *away), key=lambda belief: belief.address or belief.asked))


async def ask_one(wire: Wire, address: str) -> Belief:
    """Ask one master; never fails."""
    try:
        return parse_belief(address, await wire.json(address, "/cluster/members", within=ANSWER_WITHIN))
    except PeerError as error:
        return Belief(address, error=_CANNOT_BE_UNDERSTOOD if error.status == 404 else error.reason)
    except WeedError as error:
        return Belief(address, error=str(error))


def parse_belief(address: str, answer: object) -> Belief:
    """Read the answer of `/cluster/members`; raises PeerError."""
    try:
        if not isinstance(answer, dict):
            raise BadRequest("no JSON object")
        return Belief(
            asked=address,
            node=_text(answer, "node"),
            address=_address(answer, "address") or address,
            cluster=_text(answer, "cluster"),
            version=_text(answer, "version"),
            role=_text(answer, "role"),
            reason=_text(answer, "reason"),
            term=_number(answer, "term"),
            leader=_text(answer, "leader"),
            leader_address=_address(answer, "leaderAddress"),
            commit=_number(answer, "commit"),
            applied=_number(answer, "applied"),
            last_index=_number(answer, "lastIndex"),
            snapshot_index=_number(answer, "snapshotIndex"),
            has_lease=answer.get("hasLease") is True,
            stuck=answer.get("stuck") is True,
            failed=_text(answer, "failed"),
            members=tuple(_member(member) for member in answer.get("members") or ()),
            founds_with=tuple(map(parse_address, (answer.get("founding") or {}).get("list") or ())),
        )
    except (BadRequest, TypeError, AttributeError) as error:
        raise PeerError(address, f"{_CANNOT_BE_UNDERSTOOD} ({error})") from error


def _member(fields: dict[str, Any]) -> KnownMember:
    contact, match = fields.get("lastContact"), fields.get("match")
    return KnownMember(
        node=_text(fields, "node"),
        address=_address(fields, "address"),
        voter=fields.get("voter") is True,
        connected=fields.get("connected") is True,
        last_contact=float(contact) if isinstance(contact, int | float) else None,
        match=match if type(match) is int else None,
    )


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise BadRequest(f"{name} is no text")
    return value[:_LONGEST]


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name, 0)
    if type(value) is not int:
        raise BadRequest(f"{name} is no number")
    return value


def _address(fields: dict[str, Any], name: str) -> str:
    text = _text(fields, name)
    return parse_address(text) if text else ""
