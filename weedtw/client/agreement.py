"""Whether the masters agree, judged from what each of them believes.  Pure."""

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from weedtw.client.beliefs import JOINING, Belief, KnownMember
from weedtw.errors import BadRequest, Unavailable

_SHORT: Final = 8  # characters of a node id that tell nodes apart
_LEAST: Final = 4  # that may stand for one
_SILENT: Final = (
    3.0  # seconds without a sign of life, after which a voter is not counted on; it gives one at each pulse
)


@attrs.frozen
class Agreement:
    """What masters believe, together; `beliefs` has one for each master that was asked."""

    beliefs: tuple[Belief, ...]

    @property
    def told(self) -> tuple[Belief, ...]:
        """Those of the masters that answered."""
        return tuple(belief for belief in self.beliefs if not belief.error)

    @property
    def leaders(self) -> tuple[Belief, ...]:
        """The masters that lead, with a majority behind them: there is one at most, unless clusters are mixed up."""
        return tuple(belief for belief in self.told if belief.leads and self.has_majority(belief))

    @property
    def leader(self) -> Belief | None:
        """The master that leads; None when there is none, or more than one."""
        return self.leaders[0] if len(self.leaders) == 1 else None

    def has_majority(self, leader: Belief) -> bool:
        """A leader may have no lease and lead, by asking the others each time; then they must say so themselves."""
        followers = {
            belief.node
            for belief in self.told
            if (belief.cluster, belief.term, belief.leader) == (leader.cluster, leader.term, leader.node)
        }
        return leader.has_lease or len(followers & leader.voters) >= leader.majority

    @property
    def reference(self) -> Belief | None:
        """The belief to compare the others with: the leader's, else that of the latest term and longest log."""
        members = [belief for belief in self.told if belief.role != JOINING]
        latest = max(members, key=lambda each: (each.term, each.last_index), default=None)
        return self.leader or latest

    def here(self, reference: Belief) -> frozenset[str]:
        """The nodes that are known to run: they have answered, or the leader is in touch with them.

        A connection to one that is frozen, or cut off, stays open for long; the leader counts the seconds.
        """
        answered = {belief.node for belief in self.told if belief.cluster == reference.cluster and not belief.failed}
        in_touch = {m.node for m in reference.members if m.connected and (m.last_contact or 0.0) < _SILENT}
        return frozenset(answered | in_touch)

    def summary(self) -> str:
        """One sentence: who leads, and how many masters more the cluster can do without."""
        reference = self.reference
        if reference is None:
            return "no master that belongs to a cluster answers"
        voters, here = reference.voters, reference.voters & self.here(reference)
        who = " and ".join(f"{one.address} leads in term {one.term}" for one in self.leaders) or "nobody leads"
        counted = f"{len(here)} of {len(voters)} voters {'is' if len(here) == 1 else 'are'} here"
        spare = len(here) - reference.majority
        if spare < 0:
            return f"{who}; {counted}, {reference.majority} are needed"
        return f"{who}; {counted}, {spare or 'none'} of them may fail"

    def remarks(self) -> tuple[str, ...]:
        """What is not as it should be, a line each."""
        return (*(line for find in _TROUBLES for line in find(self)), *self.disagreements())

    def disagreements(self) -> tuple[str, ...]:
        """What the masters believe differently, a line each."""
        return tuple(line for find in _DISAGREEMENTS for line in find(self))

    # ------------------------------------------------------------------ one of the members

    @property
    def spokesman(self) -> Belief:
        """The master to ask for a change: the leader, or one that follows a leader which does not answer from here.

        Raises Unavailable when there is no leader, or more than one.
        """
        followers = [each for each in _of_one_cluster(self) if each.leader]
        if self.leader is None and (not followers or any(each.leads for each in self.told)):
            raise Unavailable(f"nobody can be asked for that: {self.summary()} (see weedtw cluster status)")
        return self.leader or followers[0]

    def find(self, which: str) -> KnownMember:
        """The member of that node id, its beginning, or that address; raises BadRequest."""
        members = self.spokesman.members
        fitting = [one for one in members if which in {one.node, one.address}] or [
            one for one in members if len(which) >= _LEAST and one.node.startswith(which)
        ]
        if len(fitting) != 1:
            known = ", ".join(f"{one.node} at {one.address}" for one in members)
            raise BadRequest(f"{which!r} is not the node id or the address of one master; there are {known}")
        return fitting[0]

    def danger_without(self, member: KnownMember) -> str:
        """Why the cluster would lose its majority with that member; "" when it would not."""
        leader = self.spokesman
        voters = leader.voters - {member.node}
        here, majority = voters & self.here(leader), len(voters) // 2 + 1
        if not member.voter or not voters or len(here) >= majority:
            return ""
        away = ", ".join(one.address for one in leader.members if one.node in voters - here)
        return (
            f"without {member.address} there are {len(voters)} voters, of which {majority} are needed to decide "
            f"anything, and only {len(here)} here: {away} must come back or be removed first"
        )


def short(node: str) -> str:
    """A node id as it is told in a table."""
    return node[:_SHORT]


# ------------------------------------------------------------------ what is not as it should be


def _silent(agreement: Agreement) -> Iterator[str]:
    for belief in agreement.beliefs:
        if belief.error:
            yield f"{belief.asked}: {belief.error}"


def _undecided(agreement: Agreement) -> Iterator[str]:
    reference = agreement.reference
    if reference is None:
        return
    here = agreement.here(reference)
    away = [one.address for one in reference.members if one.voter and one.node not in here]
    missing = reference.majority - len(reference.voters & here)
    if missing > 0:
        wanted = ", ".join(away) if missing == len(away) else f"{missing} of {', '.join(away)}"
        yield f"to decide anything, {wanted} must be started; if that cannot be, see weedtw help cluster recover"


def _in_trouble(agreement: Agreement) -> Iterator[str]:
    for belief in agreement.told:
        if belief.failed:
            yield f"{belief.address} has stopped taking part: {belief.failed}"
        elif belief.stuck:
            yield f"{belief.address} waits for its disk"
        elif belief.reason:
            before = " is not in a cluster yet" if belief.role == JOINING else ""
            yield f"{belief.address}{before}: {belief.reason}"


def _removed(agreement: Agreement) -> Iterator[str]:
    leader = agreement.reference
    if leader is None or leader not in agreement.leaders:
        return
    for belief in agreement.told:
        if belief.cluster == leader.cluster and leader.member(belief.node) is None:
            yield (
                f"{belief.address} ({short(belief.node)}) is no member of the cluster; stop it, and move its "
                "raft.sqlite3 away before it is started again"
            )


def _of_one_cluster(agreement: Agreement) -> list[Belief]:
    """The members of the reference's cluster that take part."""
    reference = agreement.reference
    if reference is None:
        return []
    members = {member.node for member in reference.members}
    told = [each for each in agreement.told if each.cluster == reference.cluster and not each.failed]
    return [each for each in told if each.node in members]


def _leading(agreement: Agreement) -> Iterator[str]:
    leading = [belief for belief in agreement.told if belief.leads]
    if len(leading) > 1:
        yield f"{len(leading)} masters take themselves for the leader: " + ", ".join(
            f"{one.address} in term {one.term}{'' if agreement.has_majority(one) else ' without a majority'}"
            for one in leading
        )
    if len({one.cluster for one in agreement.leaders}) < len(agreement.leaders):
        yield (
            "masters that a recovery left behind have come back, and the cluster is there twice: both give out ids; "
            "stop those of the lower term at once"
        )
    if leading and not agreement.leaders:
        yield f"{leading[0].address} takes itself for the leader, and has no majority behind it"


def _twins(agreement: Agreement) -> Iterator[str]:
    for node, addresses in _grouped(agreement.told, lambda each: each.node).items():
        if len(addresses) > 1:
            yield f"node {node} runs more than once, at {', '.join(addresses)}: is a folder a copy of another's?"


def _clusters(agreement: Agreement) -> Iterator[str]:
    clusters = _grouped([each for each in agreement.told if each.cluster], lambda each: each.cluster)
    if len(clusters) > 1:
        yield "these masters belong to different clusters: " + _listed(clusters)


def _leaders_named(agreement: Agreement) -> Iterator[str]:
    named = _grouped(_of_one_cluster(agreement), lambda each: each.leader_address or short(each.leader) or "nobody")
    if len(named) > 1:
        yield "they differ about who leads: " + _listed(named)


def _terms(agreement: Agreement) -> Iterator[str]:
    terms = _grouped(_of_one_cluster(agreement), lambda each: f"term {each.term}")
    if len(terms) > 1:
        yield "their terms differ: " + _listed(terms)


def _memberships(agreement: Agreement) -> Iterator[str]:
    reference = agreement.reference
    for belief in _of_one_cluster(agreement):
        assert reference is not None  # it is of its cluster
        own, others = _members(belief), _members(reference)
        differences = [f"with {one}" for one in own if one not in others]
        differences += [f"without {one}" for one in others if one not in own]
        if differences:
            yield f"{belief.address} goes by another membership than {reference.address}: {', '.join(differences)}"


def _members(belief: Belief) -> list[str]:
    return [
        f"{'' if member.voter else 'the learner '}{short(member.node)} at {member.address}"
        for member in belief.members
    ]


def _grouped(beliefs: "list[Belief] | tuple[Belief, ...]", key: Callable[[Belief], str]) -> dict[str, list[str]]:
    """The addresses of masters by something that they should have in common."""
    groups: dict[str, list[str]] = {}
    for belief in beliefs:
        groups.setdefault(key(belief), []).append(belief.address)
    return groups


def _listed(groups: dict[str, list[str]]) -> str:
    return "; ".join(f"{what} ({', '.join(addresses)})" for what, addresses in groups.items())


_TROUBLES: Final = (_silent, _undecided, _in_trouble, _removed)
_DISAGREEMENTS: Final = (_leading, _twins, _clusters, _leaders_named, _terms, _memberships)
