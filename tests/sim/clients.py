"""Clients: they propose, read and ask for transfers, and remember what each answer obliges the cluster to.

A read must see every write that was acknowledged, and everything that another read had seen, before it began.  The
state machine is its log, so "has seen" is one number: the index up to which the answering node had applied.
"""

import random
from typing import TYPE_CHECKING

import attrs

from tests.sim.violations import Violation
from weedtw.errors import WeedError
from weedtw.raft.core import ReadState
from weedtw.raft.messages import Entry, Snapshot

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.process import Process


@attrs.define
class _Read:
    """A read that has begun; `floor` is what it must see at least."""

    node: str
    life: int
    floor: int
    began: float
    index: int | None = None  # known once the leader's round is answered


class Clients:
    """All of them together."""

    def __init__(self, cluster: "Cluster", rng: random.Random) -> None:
        """Nothing has been asked yet."""
        self.cluster = cluster
        self.floor = 0  # what the next read must see
        self.reads: dict[int, _Read] = {}
        self.acknowledged = 0
        self.quiet_until = 0.0  # no writes before this
        self._asked = 0
        self._writes: dict[tuple[str, int], dict[int, int]] = {}  # (node, life) -> index -> term
        self._rng = rng

    def begin(self) -> None:
        """Start asking."""
        plan = self.cluster.plan
        self._again(plan.write_gap, self.write)
        self._again(plan.read_gap, self.read)
        if plan.transfer_gap:
            self._again(plan.transfer_gap, self.transfer)

    def _again(self, gap: float, what: object) -> None:
        self.cluster.schedule.after(self._rng.expovariate(1 / gap), self._ask, gap, what)

    def _ask(self, gap: float, what: object) -> None:
        if self.cluster.calm:
            return
        process = self.pick()
        if process is not None:
            process.do(what, process)  # type: ignore[arg-type]
        self._again(gap, what)

    def pick(self) -> "Process | None":
        """Mostly one that believes it leads: the newest leader, or one that has missed its end; sometimes anyone."""
        processes = [p for p in self.cluster.processes.values() if p.alive]
        if not processes:
            return None
        leaders = [p for p in processes if p.core.role.name == "leader"]
        if not leaders or self._rng.random() < 0.05:
            return self._rng.choice(processes)
        return self._rng.choice(leaders)

    # ------------------------------------------------------------------ writes

    def write(self, process: "Process") -> None:
        """Propose something unlike everything else; sometimes a burst of it."""
        if self.cluster.schedule.now < self.quiet_until:
            return
        burst = 1 if self._rng.random() < 0.9 else 8
        for _ in range(burst):
            self.propose(process)

    def propose(self, process: "Process") -> tuple[int, int] | None:
        """One proposal; None when the node refuses it."""
        self._asked += 1
        data = b"%d" % self._asked + b" " * self.cluster.plan.write_size
        try:
            index, term = process.core.propose(data)
        except WeedError as refusal:
            self.cluster.counts[f"write refused: {type(refusal).__name__}"] += 1
            return None
        self.cluster.counts["writes"] += 1
        self._writes.setdefault((process.node, process.life), {})[index] = term
        self.cluster.invariants.proposed(process)
        return index, term

    def applied(self, process: "Process", entry: Entry) -> None:
        """A node has applied an entry: answers whoever waits there for it."""
        writes = self._writes.get((process.node, process.life))
        if writes and writes.pop(entry.index, None) == entry.term:
            self.acknowledged += 1
            self.floor = max(self.floor, entry.index)
        self._answer_reads(process)

    def restored(self, process: "Process", snapshot: Snapshot) -> None:
        """What a snapshot jumps over is never answered: its proposer may not tell whether it was decided."""
        writes = self._writes.get((process.node, process.life), {})
        for index in [i for i in writes if i <= snapshot.index]:
            del writes[index]
        self._answer_reads(process)

    # ------------------------------------------------------------------ reads

    def read(self, process: "Process") -> None:
        """By lease if the node says that it has one, and by asking the others as well."""
        self.read_by_lease(process)
        if self._rng.random() < 0.5:
            self.read_by_index(process)

    def ask_both(self, newer: "Process", older: "Process", *, write: bool) -> None:
        """Two nodes lead: what the newer one says must not be missing from what the older one says after it."""
        after = self.cluster.schedule.after
        after(0.0, newer.do, self.read, newer)
        if write:
            after(0.0, newer.do, self.write, newer)
        after(0.01, older.do, self.read, older)

    def read_by_lease(self, process: "Process") -> bool:
        """Answered at once, or not at all."""
        if not process.core.has_lease():
            return False
        self.cluster.counts["lease reads"] += 1
        self._has_seen(process, self.floor, "by lease")
        return True

    def read_by_index(self, process: "Process") -> int | None:
        """Answered when a majority has confirmed the lead; returns the read's token."""
        self._asked += 1
        token = self._asked
        try:
            process.core.read_index(token)
        except WeedError as refusal:
            self.cluster.counts[f"read refused: {type(refusal).__name__}"] += 1
            return None
        self.reads[token] = _Read(process.node, process.life, self.floor, self.cluster.schedule.now)
        return token

    def may_read(self, process: "Process", state: ReadState) -> None:
        """The core says from which index on a read may be answered."""
        read = self._of(process, state.token)
        if read.index is not None:
            raise Violation("a read is answered once", f"{process.node} answered read {state.token!r} again")
        read.index = state.index
        self._answer_reads(process)

    def read_failed(self, process: "Process", token: object) -> None:
        """The node cannot answer any more."""
        self._of(process, token)
        self.cluster.counts["reads failed"] += 1
        del self.reads[token]  # type: ignore[arg-type]

    def _of(self, process: "Process", token: object) -> _Read:
        read = self.reads.get(token)  # type: ignore[call-overload]
        if read is None or (read.node, read.life) != (process.node, process.life):
            raise Violation("a read is answered once", f"{process.node} answers {token!r}, which it was not asked")
        assert isinstance(read, _Read)
        return read

    def _answer_reads(self, process: "Process") -> None:
        applied = process.machine.applied
        for token, read in list(self.reads.items()):
            if read.node == process.node and read.index is not None and read.index <= applied:
                del self.reads[token]
                self.cluster.counts["index reads"] += 1
                self._has_seen(process, read.floor, "by index")

    def _has_seen(self, process: "Process", floor: int, how: str) -> None:
        seen = process.machine.applied
        if seen < floor:
            raise Violation(
                "reads are linearizable", f"{process.node} read {how} at {seen}, {floor} was acknowledged before"
            )
        self.floor = max(self.floor, seen)

    def died(self, process: "Process") -> None:
        """Its clients get no answers any more."""
        self._writes.pop((process.node, process.life), None)
        for token, read in list(self.reads.items()):
            if read.node == process.node:
                del self.reads[token]

    # ------------------------------------------------------------------ transfers

    def transfer(self, process: "Process") -> None:
        """Ask for another leader."""
        members = sorted(process.core.log.membership.members)
        if not members:
            return
        try:
            process.core.transfer(self._rng.choice(members))
        except WeedError:
            return
        self.cluster.counts["transfers"] += 1
