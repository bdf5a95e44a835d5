"""The leader: replicates its log, proves that it still leads, hands the lead over.  Pure."""

from typing import TYPE_CHECKING

from weedtw.errors import BadRequest, ChangeRefused, TooBusy, Unavailable
from weedtw.raft.membership import Change, NodeId
from weedtw.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from weedtw.raft.tracker import Flow, Progress

if TYPE_CHECKING:
    from weedtw.raft.core import RaftCore


class Leader:
    """One node's lead of one term."""

    name = "leader"

    def __init__(self, core: "RaftCore") -> None:
        """Nothing is known yet of the others' logs."""
        self.core = core
        self.first_index = core.log.last_index + 1  # of the no-op: nothing is decided before it is applied
        self.progress: dict[NodeId, Progress] = {}
        self.transfer_to: NodeId | None = None
        self._transfer_ends = 0
        self._lease_given_away = False
        self._uncommitted = 0  # bytes proposed in this term and not committed
        self._round = 0
        self._round_sent: dict[int, int] = {}  # round -> tick at which it was sent
        self._next_heartbeat = core.now
        # Token, index, round that must be answered: one that is under way, or the next one.
        self._reads: list[tuple[object, int, int]] = []

    def begin(self) -> None:
        """Announce the lead, with the term's first entry on its way."""
        self._track_members()
        self._append(EntryKind.NOOP, b"")
        self._beat()

    def end(self) -> None:
        """The lead is over; whoever waits for a read is told."""
        for token, _, _ in self._reads:
            self.core.fail_read(token)
        self._reads.clear()

    # ------------------------------------------------------------------ time

    def tick(self) -> None:
        """Step down without a majority in touch; heartbeat otherwise."""
        core = self.core
        if core.now - self._quorum_contact() >= core.settings.election:
            core.become_follower(core.term, None)
            return
        if self.transfer_to is not None and core.now >= self._transfer_ends:
            self.transfer_to = None
        if core.now >= self._next_heartbeat:
            self._beat()
            self._answer_reads()  # those whose answers were missing may be members no more
            self._hand_over()

    def has_lease(self) -> bool:
        """See `RaftCore.has_lease`.

        A lead that is being handed over has no lease, and for the rest of the term gets none back: the request to
        campaign may still be under way, and it overrides the voters' promise.  Nor has a leader that its own
        membership no longer counts.
        """
        core = self.core
        membership = core.log.membership
        if self.transfer_to is not None or self._lease_given_away or core.id not in membership.voters:
            return False
        if core.log.applied < self.first_index:
            return False
        if len(membership.voters) == 1:
            return True
        sent = self._round_sent.get(self._quorum_round())
        return sent is not None and core.now - sent < core.settings.lease

    def _beat(self) -> None:
        core = self.core
        self._next_heartbeat = core.now + core.settings.heartbeat
        self._round += 1
        self._round_sent[self._round] = core.now
        for node, progress in self.progress.items():
            commit = min(core.log.commit, progress.match)
            core.send(Heartbeat(core.id, node, core.term, commit, self._round))

    def _quorum_contact(self) -> int:
        """The latest tick by which a majority had been heard from."""
        contacts = {node: progress.contact for node, progress in self.progress.items()}
        contacts[self.core.id] = self.core.now
        return self.core.log.membership.quorum_value(contacts)

    def _quorum_round(self) -> int:
        """The latest heartbeat round that a majority has answered."""
        rounds = {node: progress.round for node, progress in self.progress.items()}
        rounds[self.core.id] = self._round
        return self.core.log.membership.quorum_value(rounds)

    # ------------------------------------------------------------------ requests

    def propose(self, data: bytes) -> tuple[int, int]:
        """See `RaftCore.propose`."""
        limits = self.core.settings
        if len(data) > limits.max_entry:
            raise BadRequest(f"a command of {len(data)} bytes is over the limit of {limits.max_entry}")
        self._refuse_while_handing_over()
        if self._uncommitted and self._uncommitted + len(data) > limits.max_uncommitted:
            raise TooBusy(f"{self._uncommitted} bytes of proposals wait for a majority")
        return self._append(EntryKind.COMMAND, data)

    def change(self, change: Change) -> tuple[int, int]:
        """See `RaftCore.change`.

        One at a time, and none before this term's first entry is committed: with an older one still undecided two
        leaders could each count a majority that the other does not meet.
        """
        log = self.core.log
        self._refuse_while_handing_over()
        if log.commit < self.first_index:
            raise ChangeRefused("this leader has not committed anything in its term yet; try again in a moment")
        if log.membership_index > log.commit:
            raise ChangeRefused("another membership change is not committed yet; wait for it")
        membership = change.apply(log.membership)
        appended = self._append(EntryKind.CONFIG, membership.render())
        self._track_members()
        return appended

    def read_index(self, token: object) -> None:
        """See `RaftCore.read_index`: an answered heartbeat that was sent after the question proves the lead.

        While others wait for a round, newcomers share the next one, so that many reads do not cost as many rounds.
        """
        core = self.core
        if core.log.commit < self.first_index:
            raise Unavailable("the new leader has not committed its first entry yet")
        if core.log.membership.voters == {core.id}:
            core.answer_read(token, core.log.commit)
            return
        if not self._reads:
            self._beat()
            self._reads.append((token, core.log.commit, self._round))
        else:
            self._reads.append((token, core.log.commit, self._round + 1))

    def transfer(self, target: NodeId) -> None:
        """See `RaftCore.transfer`; given up after an election timeout."""
        core = self.core
        if target == core.id:
            raise ChangeRefused(f"{target} leads already")
        if target not in core.log.membership.voters:
            raise ChangeRefused(f"{target} has no vote, so it cannot lead")
        self.transfer_to = target
        self._transfer_ends = core.now + core.settings.election
        self._hand_over()

    def _refuse_while_handing_over(self) -> None:
        if self.transfer_to is not None:
            raise TooBusy(f"the lead is being handed over to {self.transfer_to}")

    def _hand_over(self) -> None:
        """Once the target has the whole log, ask it to campaign; asked again with every heartbeat."""
        target = self.transfer_to
        if target is not None and self.progress[target].match == self.core.log.last_index:
            self._lease_given_away = True
            self.core.send(TimeoutNow(self.core.id, target, self.core.term))

    # ------------------------------------------------------------------ answers

    def step(self, message: Message) -> None:
        """A message of this term; strangers are not listened to.

        A vote that comes after the election was won says nothing of whether its sender hears this leader.
        """
        progress = self.progress.get(message.sender)
        if progress is None or isinstance(message, VoteReply):
            return
        progress.contact = self.core.now
        match message:
            case AppendReply():
                self._on_append_reply(message, progress)
            case HeartbeatReply():
                self._on_heartbeat_reply(message, progress)
            case SnapshotReply() if progress.received(message.index, message.offset):
                self._send_to(message.sender, progress)
            case _:
                pass  # an answer about a snapshot that is no longer being sent

    def voted(self) -> None:
        """A leader gives no votes in its own term; kept so that every role answers alike."""

    def favours(self, rival: VoteRequest) -> None:
        """A leader never does."""

    def campaign_soon(self, ticks: int) -> None:
        """It has won already."""

    def _on_append_reply(self, reply: AppendReply, progress: Progress) -> None:
        if reply.rejected:
            hint, _ = self.core.log.last_index_of_terms_up_to(reply.hint_index, reply.hint_term)
            if progress.rejected(reply.index, hint):
                self._send_to(reply.sender, progress)
            return
        if reply.index > self.core.log.last_index:
            raise BadRequest(f"{reply.sender} acknowledges entry {reply.index}, which was never sent")
        if progress.accepted(reply.index, self.core.now):
            self._advance_commit()
            if self.core.role is not self:
                return  # what was committed is that this node leads no more
            if reply.sender == self.transfer_to:
                self._hand_over()
        self._send_to(reply.sender, progress)

    def _on_heartbeat_reply(self, reply: HeartbeatReply, progress: Progress) -> None:
        if reply.round > self._round:
            raise BadRequest(f"{reply.sender} answers heartbeat {reply.round}, which was never sent")
        progress.round = max(progress.round, reply.round)
        self._answer_reads()
        # Heartbeats come through but an answer does not: what was sent is lost, send it again.
        if progress.is_stalled(self.core.now, self.core.settings.election // 2):
            if progress.flow is Flow.SNAPSHOT:
                progress.waiting = False
            else:
                progress.probe()
        self._send_to(reply.sender, progress)

    def _answer_reads(self) -> None:
        """Answer the reads whose round a majority has answered, and forget the rounds before."""
        answered = self._quorum_round()
        for sent in [r for r in self._round_sent if r < answered]:
            del self._round_sent[sent]
        ready = [read for read in self._reads if read[2] <= answered]
        if ready:
            self._reads = [read for read in self._reads if read[2] > answered]
            for token, index, _ in ready:
                self.core.answer_read(token, index)
            if self._reads and self._reads[-1][2] > self._round:
                self._beat()

    # ------------------------------------------------------------------ replication

    def stored(self) -> None:
        """The leader's own log has reached the disk a little further; that may complete a majority."""
        self._advance_commit()
        if self.core.role is self:
            self.flush()

    def flush(self) -> None:
        """Send everyone what it may be sent."""
        for node, progress in self.progress.items():
            self._send_to(node, progress)

    def _append(self, kind: EntryKind, data: bytes) -> tuple[int, int]:
        core = self.core
        entry = Entry(core.log.last_index + 1, core.term, kind, data)
        core.log.append([entry])
        self._uncommitted += entry.size
        return entry.index, entry.term

    def _advance_commit(self) -> None:
        """Commit what a majority has on disk, if it is of this term (Raft paper §5.4.2)."""
        core, log = self.core, self.core.log
        matched = {node: progress.match for node, progress in self.progress.items()}
        matched[core.id] = log.stable
        index = log.membership.quorum_value(matched)
        if index <= log.commit or log.term(index) != core.term:
            return
        for entry in log.slice(log.commit + 1, index, max_bytes=1 << 62):
            if entry.term == core.term:  # what earlier leaders left behind was never counted
                self._uncommitted -= entry.size
        log.commit_to(index)
        self.flush()
        if core.id not in log.membership.voters and log.membership_index <= log.commit:
            self._leave()

    def _leave(self) -> None:
        """The cluster has decided to go on without this node; let the most advanced voter lead at once."""
        core = self.core
        heirs = [(self.progress[node].match, node) for node in core.log.membership.voters if node in self.progress]
        core.become_follower(core.term, None)
        if heirs:
            core.send(TimeoutNow(core.id, max(heirs)[1], core.term))

    def _track_members(self) -> None:
        core = self.core
        members = core.log.membership.members
        for node in list(self.progress):
            if node not in members:
                del self.progress[node]
        for node in members:
            if node != core.id and node not in self.progress:
                self.progress[node] = Progress(
                    next=core.log.last_index + 1,
                    contact=core.now,  # a newcomer has an election timeout's time to answer
                    max_inflight=core.settings.max_inflight,
                    max_inflight_bytes=core.settings.max_inflight_bytes,
                )
        if self.transfer_to not in core.log.membership.voters:
            self.transfer_to = None

    def _send_to(self, node: NodeId, progress: Progress) -> None:
        """Send entries while there are any and flow control allows it; else at least a news of the commit."""
        core, log = self.core, self.core.log
        while progress.can_send:
            has_entries = progress.next <= log.last_index
            probing = progress.flow is Flow.PROBE
            if not has_entries and not probing and progress.commit_sent >= min(log.commit, progress.next - 1):
                return
            prev_index = progress.next - 1
            prev_term = log.term(prev_index)
            if prev_term is None:
                progress.begin_snapshot(log.snapshot)
                break
            entries = log.slice(progress.next, log.last_index, core.settings.max_append) if has_entries else ()
            core.send(Append(core.id, node, core.term, prev_index, prev_term, entries, log.commit))
            progress.sent(entries, sum(entry.size for entry in entries), log.commit, core.now, self._round)
        if progress.flow is Flow.SNAPSHOT and not progress.waiting:
            self._send_chunk(node, progress)

    def _send_chunk(self, node: NodeId, progress: Progress) -> None:
        core = self.core
        snapshot = progress.snapshot
        assert snapshot is not None  # what Flow.SNAPSHOT means
        data = snapshot.data[progress.offset : progress.offset + core.settings.chunk]
        progress.sent_chunk(core.now, self._round)
        core.send(
            SnapshotChunk(
                core.id,
                node,
                core.term,
                snapshot.index,
                snapshot.term,
                snapshot.membership,
                progress.offset,
                len(snapshot.data),
                data,
            )
        )
