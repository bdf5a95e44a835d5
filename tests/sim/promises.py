"""What nodes promise each other, judged by the messages that left them."""

from collections import Counter
from typing import TYPE_CHECKING

from tests.sim.disk import Disk, majority_of, voters_of
from tests.sim.faults import HELD_BACK
from tests.sim.violations import Violation
from weedtw.raft.messages import HardState, Message

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.process import Process

MOST_CHUNKS = 40  # times that one lead may send the same piece of a snapshot, in the worst of weather


class Promises:
    """Votes, acknowledgements, and the peace of a leader that is in touch with a majority."""

    def __init__(self, cluster: "Cluster") -> None:
        """Nobody has promised anything."""
        self.cluster = cluster
        self.votes: dict[tuple[str, int], str] = {}  # (voter, term) -> whom it has told that it votes for them
        self.highest_term: dict[str, int] = {}  # that a node has borne witness of
        messages = cluster.subject.messages
        self._checks = {
            messages.VoteRequest: self._vote_request,
            messages.VoteReply: self._vote_reply,
            messages.Append: self._append,
            messages.AppendReply: self._append_reply,
            messages.SnapshotChunk: self._chunk,
        }
        self._from_leader = {messages.Append, messages.Heartbeat, messages.SnapshotChunk}
        self._chunks: Counter[tuple[str, str, int, int, int]] = Counter()
        self._answers = {messages.AppendReply, messages.HeartbeatReply, messages.SnapshotReply}
        plan = cluster.plan
        # A follower that hears from its leader at least so often keeps its promise without a break.
        self._gap = 0.85 * (plan.election - 1)
        # A challenge may have been lawful when it began; by then it has come to an end.
        latest = max(plan.weather.latest, plan.election * (HELD_BACK if "hold_back" in plan.faults else 1.0))
        self._peace = 5.0 * plan.election + 2 * latest

    def began(self, process: "Process") -> None:
        """A life begins without a memory of whom it has heard."""
        process.heard = (None, 0)
        process.heard_since = process.heard_last = -1.0
        process.answered, process.led_since, process.led_term, process.led_config = {}, 0.0, 0, None

    # ------------------------------------------------------------------ before a message leaves

    def leaves(self, process: "Process", message: Message) -> None:
        """Whatever it says must be on its sender's disk."""
        check = self._checks.get(message.__class__)
        if check is not None and check(process, message):
            return
        self._knows_term(process, message)

    def _knows_term(self, process: "Process", message: Message) -> None:
        durable = process.disk.state.hard_state.term
        if message.term > durable:
            raise Violation("stored before sent", f"{message} left, but the disk says term {durable}")
        if durable > self.highest_term.get(process.node, 0):
            self.highest_term[process.node] = durable

    def _vote_request(self, process: "Process", message: Message) -> bool:
        if message.pre:  # type: ignore[union-attr]
            return True
        self._votes(process, message.term, process.node)
        return False

    def _vote_reply(self, process: "Process", message: Message) -> bool:
        if not message.granted:  # type: ignore[union-attr]
            return False
        if message.pre:  # type: ignore[union-attr]
            return True
        self._votes(process, message.term, message.to)
        return False

    def _votes(self, process: "Process", term: int, candidate: str) -> None:
        known = self.votes.setdefault((process.node, term), candidate)
        if known != candidate:
            raise Violation("one vote a term", f"{process.node} votes for {known} and {candidate} in term {term}")
        hard_state = process.disk.state.hard_state
        if hard_state.term < term or (hard_state.term == term and hard_state.vote != candidate):
            raise Violation(
                "stored before sent", f"{process.node} votes for {candidate} in {term}; disk: {hard_state}"
            )

    def _append(self, process: "Process", message: Message) -> bool:
        entries = message.entries  # type: ignore[union-attr]
        disk = process.disk
        if not entries:
            return False
        last = entries[-1]
        if disk.state.hard_state.term == message.term and not disk.holds(last.index, last.term):
            raise Violation("stored before sent", f"{process.node} sends {last}, not on its disk")
        role, settings = process.core.role, process.core.settings
        if len(entries) > 1 and sum(e.size for e in entries) > settings.max_append:
            raise Violation("messages are bounded", f"{len(entries)} entries in one append of {process.node}")
        if role.name == "leader" and process.core.term == message.term:
            progress = role.progress.get(message.to)  # type: ignore[union-attr]
            if progress is not None and progress.in_flight > settings.max_inflight:
                raise Violation("messages in flight are bounded", f"{progress.in_flight} to {message.to}")
        return False

    def _append_reply(self, process: "Process", message: Message) -> bool:
        disk = process.disk
        if message.rejected or disk.state.hard_state.term != message.term:  # type: ignore[union-attr]
            return False
        index = message.index  # type: ignore[union-attr]
        if index > disk.last[1] or (process.core.term == message.term and self._differs(process, index)):
            raise Violation("stored before sent", f"{process.node} acknowledges {index}; disk: {disk.last}")
        return False

    def _chunk(self, process: "Process", message: Message) -> bool:
        key = (message.sender, message.to, message.term, message.index, message.offset)  # type: ignore[union-attr]
        self._chunks[key] += 1
        if self._chunks[key] > MOST_CHUNKS:
            raise Violation("messages are bounded", f"{message} was sent {self._chunks[key]} times")
        return False

    def _differs(self, process: "Process", index: int) -> bool:
        on_disk, in_memory = process.disk.term(index), process.core.log.term(index)
        return on_disk is not None and in_memory is not None and on_disk != in_memory

    def stored(self, disk: Disk, hard_state: HardState) -> None:
        """Nobody forgets a vote that it has told."""
        told = self.votes.get((disk.node, hard_state.term))
        if told is not None and hard_state.vote != told:
            raise Violation("one vote a term", f"{disk.node} has voted for {told}, and stores {hard_state}")
        if hard_state.term < self.highest_term.get(disk.node, 0):
            raise Violation("terms only rise", f"{disk.node} stores {hard_state}")

    # ------------------------------------------------------------------ the peace of a healthy leader

    def arrived(self, process: "Process", message: Message) -> None:
        """Keep account of who hears whom without a break."""
        if message.term != process.core.term:
            return
        now = self.cluster.schedule.now
        if message.__class__ in self._answers:
            process.answered[message.sender] = now
            return
        if message.__class__ not in self._from_leader:
            return
        leader = (message.sender, message.term)
        if process.heard != leader or now - process.heard_last > self._gap:
            process.heard, process.heard_since = leader, now
        process.heard_last = now

    def leads(self, process: "Process") -> None:
        """A leader that no majority has answered for an election timeout must know it and step down."""
        now = self.cluster.schedule.now
        if process.core.term != process.led_term:
            process.led_term, process.led_since = process.core.term, now
            process.answered.clear()
        config = self.cluster.invariants.config_of(process)
        if config is not process.led_config:  # newcomers have their time too
            process.led_config, process.led_since = config, now
        out_of_touch = now - (self.cluster.plan.election + 2) / process.speed
        if process.led_since >= out_of_touch:
            return
        answering = [
            n for n in voters_of(config) if n == process.node or process.answered.get(n, 0.0) >= out_of_touch
        ]
        if len(answering) < majority_of(config):
            raise Violation("a leader without a majority steps down", f"{process.node} leads on with {answering}")

    def challenged(self, challenger: "Process") -> None:
        """A node asks for votes in a new term: no leader may suffer by it that has long been heard by a majority.

        That is what pre-vote and the voters' patience are for: neither a node that comes back from behind a partition
        nor one that was removed may depose a leader that works.
        """
        if challenger.core.role.transfer:  # type: ignore[union-attr]
            return
        now = self.cluster.schedule.now
        for leader in self.cluster.processes.values():
            if leader is challenger or not leader.alive or leader.paused:
                continue
            core = leader.core
            if core.role.name != "leader" or core.term >= challenger.core.term:
                continue
            config = self.cluster.invariants.config_of(leader)
            followers = [n for n in voters_of(config) if n == leader.node or self._is_loyal(n, leader, now)]
            if len(followers) >= majority_of(config):
                raise Violation(
                    "a healthy leader is not deposed",
                    f"{challenger.node} campaigns in term {challenger.core.term}; {leader.node} leads {followers}",
                )

    def _is_loyal(self, node: str, leader: "Process", now: float) -> bool:
        process = self.cluster.processes[node]
        return (
            process.alive
            and not process.paused
            and process.heard == (leader.node, leader.core.term)
            and now - process.heard_last <= self._gap
            and now - process.heard_since >= self._peace
        )
