"""The cluster's operator: adds, promotes, demotes, removes and readdresses members, and replaces wiped ones.

Careful in one respect only: no request may leave a membership of which too few voters can ever come back.
"""

import random
from typing import TYPE_CHECKING

from tests.sim.disk import majority_of, voters_of
from weedtw.errors import WeedError
from weedtw.raft.core import RaftCore
from weedtw.raft.membership import Change, Membership

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.process import Process

MOST_MEMBERS = 7


class Operator:
    """Changes who belongs to the cluster."""

    def __init__(self, cluster: "Cluster", rng: random.Random) -> None:
        """Nothing has been changed yet."""
        self.cluster = cluster
        self._rng = rng
        self._addresses = 0

    def begin(self) -> None:
        """Start changing."""
        if self.cluster.plan.change_gap:
            self._again()

    def _again(self) -> None:
        self.cluster.schedule.after(self._rng.expovariate(1 / self.cluster.plan.change_gap), self._ask)

    def _ask(self) -> None:
        if self.cluster.calm:
            return
        process = self.cluster.clients.pick()
        if process is not None:
            process.do(self._change, process)
        self._again()

    def _change(self, process: "Process") -> None:
        """Ask one node for a change; sometimes for a second one on its heels."""
        if self._rng.random() < 0.3:  # the change comes between a read and its answer
            self.cluster.clients.read_by_index(process)
        for _ in range(1 if self._rng.random() < 0.7 else 2):
            self.change(process.core)

    def ask(self, process: "Process", change: Change) -> None:
        """Ask a node for one particular change."""
        process.do(self._try, process.core, change)

    def _try(self, core: RaftCore, change: Change) -> bool:
        try:
            core.change(change)
        except WeedError:
            self.cluster.counts["changes refused"] += 1
            return False
        self.cluster.counts[f"change: {type(change).__name__}"] += 1
        return True

    def change(self, core: RaftCore) -> bool:
        """Ask for a change that makes sense, if it is a leader that is asked."""
        if core.role.name != "leader":
            return False
        old = core.log.membership
        change = self._draw(old)
        try:
            if not self.can_live(change.apply(old)):
                return False
        except WeedError:
            return False
        return self._try(core, change)

    def _draw(self, old: Membership) -> Change:
        changes = self.cluster.subject.membership
        pick = self._rng.choice
        members = sorted(old.members)
        voters = voters_of(old)
        gone = [node for node in members if self.cluster.processes[node].disk.wiped]
        if gone and self._rng.random() < 0.5:
            return changes.Remove(pick(gone))  # type: ignore[no-any-return]
        learners = [node for node in members if node not in voters]
        strangers = [
            node for node, p in self.cluster.processes.items() if node not in old.members and not p.disk.wiped
        ]
        asked = self._rng.random()
        if asked < 0.3 and strangers and len(members) < MOST_MEMBERS:
            return changes.AddLearner(pick(strangers), self._address())  # type: ignore[no-any-return]
        if asked < 0.6 and learners:
            return changes.Promote(pick(learners))  # type: ignore[no-any-return]
        if asked < 0.75:
            return changes.Demote(pick(voters))  # type: ignore[no-any-return]
        if asked < 0.95:
            return changes.Remove(pick(members))  # type: ignore[no-any-return]
        return changes.ChangeAddress(pick(members), self._address())  # type: ignore[no-any-return]

    def _address(self) -> str:
        self._addresses += 1
        return f"host:{self._addresses}"

    # ------------------------------------------------------------------ disks that are gone for ever

    def can_live(self, membership: Membership, without: str | None = None) -> bool:
        """Whether enough voters can come back; the disk of `without` is to be wiped as well."""
        processes = self.cluster.processes
        living = [n for n in voters_of(membership) if n != without and not processes[n].disk.wiped]
        return len(living) >= majority_of(membership)

    def can_lose(self, node: str) -> bool:
        """Whether every membership that may be in force survives without `node`."""
        return all(self.can_live(config, node) for config in self.cluster.invariants.may_be_in_force())
