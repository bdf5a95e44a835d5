"""How masters that have no state yet agree on one cluster, whoever of them is missing or dies on the way.  Pure.

All that are told the same `--peers` decide, once and for all, with whom their cluster begins.  It is Paxos (Lamport,
"Paxos Made Simple") for a single decision; a master's part in it is an `Acceptor`, which has to be on its disk before
anybody is told.  A proposal names the list of masters that it is made to: a majority of these decides, and two
majorities of one list always share a master, so there can be no second cluster.

Lists may differ: one master has been told of two others, the second of four.  A master takes part in a list that has
all of its own in it, in one at a time, and it leaves none in which it has agreed to a birth.  What keeps two lists
from each founding a cluster: whoever promises tells of the other lists that it goes by, or has gone by, and the
proposer needs the promises of a majority of each of these as well.  So of two lists that know of each other, one has
lost its majority to the other before it could decide, or has decided and lets no majority go.
"""

import json
from collections.abc import Iterable, Mapping, Set
from typing import Any

import attrs

from weedtw.config.kinds import is_localhost, split_address
from weedtw.config.model import join_address
from weedtw.errors import BadRequest, ChangeRefused

Ballot = tuple[int, str]  # a number, and the node that proposes; later ones win
NONE: Ballot = (0, "")


@attrs.frozen
class Birth:
    """What a cluster begins with: its identity, and its first members' addresses by node."""

    cluster: str
    members: Mapping[str, str]


@attrs.frozen
class Acceptor:
    """What one master has promised to the others.  The methods give the promise after a request, or raise."""

    node: str
    masters: tuple[str, ...] = ()  # the list that it takes part in; empty before the first request
    promised: Ballot = NONE
    accepted_in: Ballot = NONE
    birth: Birth | None = None  # accepted, if anything was
    lists: tuple[tuple[str, ...], ...] = ()  # others that it goes by, or has gone by before

    def promise(self, masters: tuple[str, ...], ballot: Ballot, own: tuple[str, ...]) -> "Acceptor":
        """No ballot before this one will be listened to.

        Raises ChangeRefused when another list or a later ballot is in its way; `own` is this master's own list.
        """
        self._check(masters, ballot, own)
        known = {*self.lists, self.masters, own} - {masters, ()}
        return attrs.evolve(self, masters=masters, promised=ballot, lists=tuple(sorted(known)))

    def accept(self, masters: tuple[str, ...], ballot: Ballot, birth: Birth, own: tuple[str, ...]) -> "Acceptor":
        """Agree to a birth, by the ballot that was last promised; raises like `promise`."""
        self._check(masters, ballot, own)
        if (masters, ballot) != (self.masters, self.promised):  # or another list might have its promise by now
            raise ChangeRefused("it has not promised to agree to that")
        return attrs.evolve(self, accepted_in=ballot, birth=birth)

    def _check(self, masters: tuple[str, ...], ballot: Ballot, own: tuple[str, ...]) -> None:
        if self.birth is not None and masters != self.masters:
            raise ChangeRefused(f"it has agreed to a cluster of {names(self.masters)}, and not {names(masters)}")
        if not set(own) <= set(masters):
            raise ChangeRefused(f"its --peers are {names(own)}, and not {names(masters)}; give all the same --peers")
        if ballot < self.promised:
            raise ChangeRefused("it has promised to wait for a later ballot")


def majority_of(masters: tuple[str, ...]) -> int:
    """How many of them can decide."""
    return len(masters) // 2 + 1


def lacking(masters: tuple[str, ...], agreed: Set[str], promises: Iterable[Acceptor]) -> list[tuple[str, ...]]:
    """Of the proposal's list, and those that the promises tell of: which have no majority among those addresses."""
    lists = {masters, *(known for acceptor in promises for known in acceptor.lists)}
    return sorted(known for known in lists if len(agreed & set(known)) < majority_of(known))


def choose(promises: Iterable[Acceptor], fresh: Birth) -> Birth:
    """What has to be proposed after these promises: the latest birth that any has accepted, else a fresh one."""
    accepted = [acceptor for acceptor in promises if acceptor.birth is not None]
    if not accepted:
        return fresh
    latest = max(accepted, key=lambda acceptor: acceptor.accepted_in).birth
    assert latest is not None  # they were chosen for it
    return latest


def canonical(masters: Iterable[str]) -> tuple[str, ...]:
    """A list of addresses as it is compared: sorted, each once, and the names of `localhost` alike."""
    plain = set()
    for address in masters:
        host, port = split_address(address, 9333)
        plain.add(join_address("localhost" if is_localhost(host) else host.lower(), port))
    return tuple(sorted(plain))


def is_same(one: str, other: str) -> bool:
    """Whether two addresses are spelled alike, but for the names of `localhost`."""
    return canonical((one,)) == canonical((other,))


def names(masters: tuple[str, ...]) -> str:
    """A list as it is typed."""
    return ",".join(masters)


# ------------------------------------------------------------------ as JSON


def dump(acceptor: Acceptor) -> dict[str, Any]:
    """An acceptor as it goes to the disk and to a proposer."""
    return {
        "node": acceptor.node,
        "masters": list(acceptor.masters),
        "promised": list(acceptor.promised),
        "acceptedIn": list(acceptor.accepted_in),
        "birth": dump_birth(acceptor.birth) if acceptor.birth is not None else None,
        "lists": list(map(list, acceptor.lists)),
    }


def load(parsed: Any) -> Acceptor:
    """The inverse of `dump`; raises BadRequest."""
    fields = _object(parsed)
    birth = fields.get("birth")
    return Acceptor(
        node=_text(fields.get("node")),
        masters=load_masters(fields.get("masters")),
        promised=load_ballot(fields.get("promised")),
        accepted_in=load_ballot(fields.get("acceptedIn")),
        birth=None if birth is None else load_birth(birth),
        lists=_lists(fields.get("lists", [])),
    )


def _lists(parsed: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(parsed, list) or len(parsed) > 100:
        raise BadRequest("the other lists are no lists")
    return tuple(map(load_masters, parsed))


def dump_birth(birth: Birth) -> dict[str, Any]:
    """A birth as it goes to the disk and over the wire."""
    return {"cluster": birth.cluster, "members": dict(birth.members)}


def load_birth(parsed: Any) -> Birth:
    """The inverse of `dump_birth`; raises BadRequest."""
    fields = _object(parsed)
    members = {_text(node): _address(address) for node, address in _object(fields.get("members")).items()}
    if not members:
        raise BadRequest("a cluster begins with at least one member")
    return Birth(_text(fields.get("cluster")), members)


def load_masters(parsed: Any) -> tuple[str, ...]:
    """A list of addresses; raises BadRequest."""
    if not isinstance(parsed, list) or len(parsed) > 100:
        raise BadRequest("the masters are not a list of addresses")
    return tuple(map(_address, parsed))


def load_ballot(parsed: Any) -> Ballot:
    """A ballot; raises BadRequest."""
    if not isinstance(parsed, list) or len(parsed) != 2 or type(parsed[0]) is not int or parsed[0] < 0:
        raise BadRequest("a ballot is not a number and a node")
    return parsed[0], _text(parsed[1]) if parsed[1] else ""


def _object(parsed: Any) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise BadRequest(f"not an object: {json.dumps(parsed)[:80]}")
    return parsed


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 100 or not value.isprintable():
        raise BadRequest("a name is not a short printable text")
    return value


def _address(value: Any) -> str:
    try:
        host, port = split_address(_text(value), 9333)
    except ValueError as error:
        raise BadRequest(f"{value!r:.80} is not host:port") from error
    return join_address(host, port)
