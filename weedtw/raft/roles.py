"""Followers and candidates: what a node does while it does not lead.  Pure."""

from typing import TYPE_CHECKING

import attrs

from weedtw.errors import BadRequest
from weedtw.raft.membership import NodeId
from weedtw.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    Snapshot,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)

if TYPE_CHECKING:
    from weedtw.raft.core import RaftCore

PATIENCE = 4  # election timeouts that a learner leaves to the voters


@attrs.define
class _Incoming:
    """A snapshot on its way here."""

    index: int
    term: int
    data: bytearray


class Follower:
    """Takes the leader's entries, and campaigns when it has heard nothing for too long."""

    name = "follower"

    def __init__(self, core: "RaftCore") -> None:
        """Start with a fresh election timeout."""
        self.core = core
        self.deadline = core.now + core.election_timeout()
        self._silent_since = core.now
        self._matched = core.log.commit
        self._incoming: _Incoming | None = None

    def tick(self) -> None:
        """Campaign when the time has come; strangers wait for ever."""
        core = self.core
        if core.now >= self.deadline:
            self.deadline = core.now + core.election_timeout()
            if self._may_campaign():
                core.become_candidate(pre=True)

    def step(self, message: Message) -> None:
        """A message of the current term."""
        match message:
            case Append():
                self._heard_from(message.sender)
                self._on_append(message)
            case Heartbeat():
                self._heard_from(message.sender)
                self.core.log.commit_to(min(message.commit, self._known_to_match()))
                self.core.send(HeartbeatReply(self.core.id, message.sender, self.core.term, message.round))
            case SnapshotChunk():
                self._heard_from(message.sender)
                self._on_chunk(message)
            case TimeoutNow() if self._may_campaign():
                self.core.become_candidate(pre=False, transfer=True)
            case _:
                pass  # an answer to what this node asked in another role

    def voted(self) -> None:
        """A vote was given: leave its candidate time to win."""
        self.deadline = self.core.now + self.core.election_timeout()

    def favours(self, rival: VoteRequest) -> None:
        """A pre-vote was given; it binds nobody."""

    def campaign_soon(self, ticks: int) -> None:
        """Do not wait for the election timeout."""
        self.deadline = min(self.deadline, self.core.now + ticks)

    def leader_is_gone(self) -> None:
        """The leader's process has ended: no promise binds towards it.

        All its followers learn of it together; they campaign one after the other so that votes are not split.
        """
        core = self.core
        others = sorted(core.log.membership.voters - {core.leader})
        core.leader, core.heard = None, None
        if core.id in others:
            self.campaign_soon(others.index(core.id) * max(1, core.settings.heartbeat // 2))

    def _may_campaign(self) -> bool:
        """Whether this node votes; or does not, and yet may be the only one that can win.

        That is one whose removal is not known to be decided, since nobody else need have the entry that removes it
        (dissertation §4.2.2); and a learner, if none of the voters has come to lead for long: the last leader's
        entries may have reached only the learner, and then its log bars theirs.  Such a candidate asks the voters
        only, its own vote does not count, and it hands the lead over as soon as it has committed an entry.
        """
        core, log = self.core, self.core.log
        if core.abstaining:
            return False
        if core.id in log.membership.voters or core.id in log.membership_at(log.commit).voters:
            return True
        return core.id in log.membership and core.now - self._silent_since >= PATIENCE * core.settings.election

    def _heard_from(self, leader: NodeId) -> None:
        core = self.core
        core.leader, core.heard = leader, core.now
        self._silent_since = core.now
        self.deadline = core.now + core.election_timeout()

    def _on_append(self, message: Append) -> None:
        core, log = self.core, self.core.log
        if message.prev_index < log.commit:
            # All up to the commit is known to match; what was sent is old, or reaches behind it with the next one.
            self._accept(message.sender, log.commit)
        elif log.matches(message.prev_index, message.prev_term):
            log.merge(message.entries)
            last = message.prev_index + len(message.entries)
            log.commit_to(min(message.commit, last))
            self._accept(message.sender, last)
        else:
            hint, term = log.last_index_of_terms_up_to(message.prev_index, message.prev_term)
            core.send(
                AppendReply(
                    core.id,
                    message.sender,
                    core.term,
                    message.prev_index,
                    rejected=True,
                    hint_index=hint,
                    hint_term=term,
                )
            )

    def _known_to_match(self) -> int:
        """How far this log is the leader's; a heartbeat that commits more is not believed.

        So far as the leader's entries were accepted in this role; and all of it when it ends with an entry of this
        term, which nobody but the leader can have made.  A node that has restarted knows it by that.
        """
        log = self.core.log
        if log.last_term == self.core.term:
            return log.last_index
        return min(self._matched, log.last_index)

    def _accept(self, leader: NodeId, index: int) -> None:
        self._matched = max(self._matched, index)
        self.core.send(AppendReply(self.core.id, leader, self.core.term, index))

    def _on_chunk(self, chunk: SnapshotChunk) -> None:
        core, log = self.core, self.core.log
        if chunk.total > core.settings.max_snapshot:
            raise BadRequest(f"a snapshot of {chunk.total} bytes is over the limit of {core.settings.max_snapshot}")
        if chunk.index_term > chunk.term:
            raise BadRequest(f"a snapshot of term {chunk.index_term} cannot come from a leader of term {chunk.term}")
        if chunk.index <= log.commit or log.matches(chunk.index, chunk.index_term):
            # It holds nothing that is not here already; all up to it is committed.
            log.commit_to(chunk.index)
            self._incoming = None
            self._accept(chunk.sender, log.commit)
            return
        incoming = self._incoming
        if incoming is None or (incoming.index, incoming.term) != (chunk.index, chunk.index_term):
            incoming = self._incoming = _Incoming(chunk.index, chunk.index_term, bytearray())
        if chunk.offset == len(incoming.data):
            incoming.data += chunk.data
        if len(incoming.data) < chunk.total:
            core.send(SnapshotReply(core.id, chunk.sender, core.term, chunk.index, len(incoming.data)))
            return
        self._incoming = None
        core.restore(Snapshot(chunk.index, chunk.index_term, chunk.membership, bytes(incoming.data)))
        self._accept(chunk.sender, chunk.index)


class Candidate:
    """Asks the voters, again and again until they have answered, time is up, or somebody leads."""

    def __init__(self, core: "RaftCore", *, pre: bool, transfer: bool) -> None:
        """`pre` asks whether an election could be won; nothing changes by it."""
        self.core = core
        self.pre = pre
        self.transfer = transfer
        self.deadline = core.now + core.election_timeout()
        self._ask_again = core.now
        self._votes: dict[NodeId, bool] = {core.id: True}

    @property
    def name(self) -> str:
        """The role's name in status and logs."""
        return "pre-candidate" if self.pre else "candidate"

    def begin(self) -> None:
        """Count one's own vote, and ask the others if it does not suffice."""
        self._count()
        if self.core.role is self:
            self._ask()

    def tick(self) -> None:
        """Ask again those who have not answered; start over when time is up."""
        if self.core.now >= self.deadline:
            self.core.become_candidate(pre=True)
        elif self.core.now >= self._ask_again:
            self._ask()

    def step(self, message: Message) -> None:
        """A message of the current term, or a granted pre-vote of the next."""
        match message:
            case Append() | Heartbeat() | SnapshotChunk():
                self.core.become_follower(message.term, message.sender)
                self.core.role.step(message)
            case VoteReply() if message.pre == self.pre and self._is_of_this_campaign(message):
                self._votes.setdefault(message.sender, message.granted)
                self._count()
            case _:
                pass  # an answer to an earlier role, or a request meant for a follower

    def voted(self) -> None:
        """A pre-candidate gave its vote to another: let that one win first."""
        self.core.become_follower(self.core.term, None)

    def favours(self, rival: VoteRequest) -> None:
        """Of two voters that ask for pre-votes at once the one with the better log goes on, or that of the lower id.

        Both would be granted them, and then split the votes.  A node gives way to another once in a term and not for
        long: it may hear what that one says, and yet be the only one of the two that is heard.
        """
        core, log = self.core, self.core.log
        voters = log.membership.voters
        better = (rival.last_term, rival.last_index) > (log.last_term, log.last_index)
        first = better or rival.sender < core.id
        if self.pre and first and {core.id, rival.sender} <= voters and rival.sender not in core.gave_way:
            core.gave_way.add(rival.sender)
            core.become_follower(core.term, None)
            core.role.campaign_soon(core.settings.heartbeat + core.rng.randrange(core.settings.heartbeat))

    def campaign_soon(self, ticks: int) -> None:
        """It is campaigning already."""

    def _is_of_this_campaign(self, reply: VoteReply) -> bool:
        return not reply.granted or reply.term == self._term()

    def _term(self) -> int:
        return self.core.term + 1 if self.pre else self.core.term

    def _ask(self) -> None:
        core, log = self.core, self.core.log
        self._ask_again = core.now + core.settings.heartbeat
        for node in sorted(log.membership.voters):
            if node not in self._votes:
                core.send(
                    VoteRequest(
                        core.id,
                        node,
                        self._term(),
                        log.last_index,
                        log.last_term,
                        pre=self.pre,
                        transfer=self.transfer,
                    )
                )

    def _count(self) -> None:
        core = self.core
        membership = core.log.membership
        granted = {node for node, vote in self._votes.items() if vote}
        refused = self._votes.keys() - granted
        if membership.is_quorum(granted):
            if self.pre:
                core.become_candidate(pre=False)
            else:
                core.become_leader()
        elif membership.is_quorum(refused):
            core.become_follower(core.term, None)
        elif not self.pre and self._is_split(granted, refused):
            core.become_follower(core.term, None)
            core.role.campaign_soon(1 + core.rng.randrange(core.settings.heartbeat))

    def _is_split(self, granted: set[NodeId], refused: set[NodeId]) -> bool:
        """Whether nobody can win this term, because those who could tip the scales are gone, and the next may be won.

        Usually one of them is the last leader.  There is nothing then to wait an election timeout for.
        """
        core, membership = self.core, self.core.log.membership
        voters, gone = membership.voters, core.gone
        return (
            membership.is_quorum(refused | gone)
            and not membership.is_quorum(voters - granted - gone)
            and membership.is_quorum(voters - gone)
        )
