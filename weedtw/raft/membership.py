"""Who belongs to the cluster, and the arithmetic of majorities.  Pure.

A configuration entry carries the whole membership that it puts in force, never a difference, so that a
node needs no history to know its cluster.  Two successive memberships differ by at most one voter, which is
what makes any two of their majorities meet (Ongaro's dissertation, §4.1).
"""

import json
from collections.abc import Iterable, Mapping

import attrs

from weedtw.errors import BadRequest, ChangeRefused

NodeId = str


@attrs.frozen
class Member:
    """One node of the cluster: where it listens (`host:port`), and whether its vote counts."""

    address: str
    voter: bool = True


@attrs.frozen
class Membership:
    """Every member by node id.  `voters` decide; learners only receive the log."""

    members: Mapping[NodeId, Member] = attrs.field(factory=dict)
    voters: frozenset[NodeId] = attrs.field(init=False, eq=False)
    majority: int = attrs.field(init=False, eq=False)

    @voters.default
    def _voters(self) -> frozenset[NodeId]:
        return frozenset(node for node, member in self.members.items() if member.voter)

    @majority.default
    def _majority(self) -> int:
        return len(self.voters) // 2 + 1

    def __contains__(self, node: object) -> bool:
        return node in self.members

    def is_quorum(self, nodes: Iterable[NodeId]) -> bool:
        """Whether `nodes` hold a majority of the voters; never true without any voter."""
        return len(self.voters.intersection(nodes)) >= self.majority

    def quorum_value(self, values: Mapping[NodeId, int]) -> int:
        """The largest number that a majority of the voters has reached; a voter without a value counts as 0."""
        if not self.voters:
            return 0
        reached = sorted((values.get(node, 0) for node in self.voters), reverse=True)
        return reached[self.majority - 1]

    def render(self) -> bytes:
        """JSON, with sorted keys, as it stands in the log and in snapshots."""
        members = {node: {"address": m.address, "voter": m.voter} for node, m in self.members.items()}
        return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes | str) -> "Membership":
        """The inverse of `render`; raises `BadRequest` for anything else."""
        try:
            document = json.loads(data)
            members = {}
            for node, fields in document.items():
                address, voter = fields["address"], fields["voter"]
                if not (isinstance(address, str) and isinstance(voter, bool)):
                    raise TypeError(node)
                members[str(node)] = Member(address, voter)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadRequest(f"not a membership: {error!r}") from error
        return cls(members)


# ------------------------------------------------------------------ changes, one at a time


@attrs.frozen
class AddLearner:
    """Let `node` receive the log without a vote; the first step of every newcomer."""

    node: NodeId
    address: str

    def apply(self, old: Membership) -> Membership:
        if self.node in old:
            raise ChangeRefused(f"{self.node} is already a member")
        return Membership({**old.members, self.node: Member(self.address, voter=False)})


@attrs.frozen
class Promote:
    """Give a learner its vote."""

    node: NodeId

    def apply(self, old: Membership) -> Membership:
        member = _known(old, self.node)
        if member.voter:
            raise ChangeRefused(f"{self.node} already votes")
        return Membership({**old.members, self.node: attrs.evolve(member, voter=True)})


@attrs.frozen
class Demote:
    """Take a voter's vote; it goes on receiving the log.  The last voter cannot be demoted."""

    node: NodeId

    def apply(self, old: Membership) -> Membership:
        member = _known(old, self.node)
        if not member.voter:
            raise ChangeRefused(f"{self.node} has no vote to lose")
        _keep_a_voter(old, self.node)
        return Membership({**old.members, self.node: attrs.evolve(member, voter=False)})


@attrs.frozen
class Remove:
    """End a membership.  The last voter cannot be removed."""

    node: NodeId

    def apply(self, old: Membership) -> Membership:
        if _known(old, self.node).voter:
            _keep_a_voter(old, self.node)
        return Membership({node: member for node, member in old.members.items() if node != self.node})


@attrs.frozen
class ChangeAddress:
    """A member listens elsewhere now; its identity stays."""

    node: NodeId
    address: str

    def apply(self, old: Membership) -> Membership:
        member = _known(old, self.node)
        return Membership({**old.members, self.node: attrs.evolve(member, address=self.address)})


Change = AddLearner | Promote | Demote | Remove | ChangeAddress


def _known(membership: Membership, node: NodeId) -> Member:
    try:
        return membership.members[node]
    except KeyError:
        raise ChangeRefused(f"{node} is no member") from None


def _keep_a_voter(membership: Membership, node: NodeId) -> None:
    if membership.voters == {node}:
        raise ChangeRefused(f"{node} is the last voter; a cluster without voters could never decide again")
