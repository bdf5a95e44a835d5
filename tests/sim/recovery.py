"""After the trouble: everything is mended, and the cluster has to work again within a bounded time."""

from typing import TYPE_CHECKING

from tests.sim.disk import voters_of
from tests.sim.violations import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.process import Process

LEADERLESS = 3  # election timeouts at most; the longest timeout is twice `Settings.election`
ELECTION_TIMEOUTS = 5  # within which all else must come about, a change of leader included
FRESH_WRITES = 3


class Recovery:
    """Liveness: a leader, every fresh proposal applied on every member, and reads.

    Where a majority can do without it, one node stays broken at first: the others have to work nevertheless.  In the
    end the lead is handed over, the membership changed, and the leader killed.
    """

    def __init__(self, cluster: "Cluster") -> None:
        """See `run`."""
        self.cluster = cluster
        self.timeout = 2.0 * cluster.plan.election / (1 - cluster.plan.drift)
        self.lame: Process | None = None
        self._goal = 0  # so many acknowledged writes in all
        self._asked: tuple[str, int, int] | None = None  # the lead under which writes were asked for last
        self._accepted = 0
        self._token: int | None = None

    def run(self) -> None:
        """Raises `Violation`."""
        self._mend()
        if self._cripple():
            self._works_again()
            self._mend()
        self._works_again()
        self._hands_over()
        self._changes()
        self._loses_its_leader()

    def _works_again(self) -> None:
        self._asked, self._token = None, None
        self._await("a leader within 3 election timeouts", self._has_leader, LEADERLESS)
        backlog = self._backlog()
        self._await("proposals are served", self._takes_writes, ELECTION_TIMEOUTS + backlog)
        self._await("all members apply everything", self._is_applied_everywhere, ELECTION_TIMEOUTS + 2 * backlog)
        self._await("reads are served", self._serves_reads, ELECTION_TIMEOUTS)

    def _cripple(self) -> bool:
        """Break one node for good, a leader if there is one; False when nobody can be done without."""
        cluster, how = self.cluster, self.cluster.plan.lame
        nodes = [p for p in cluster.processes.values() if p.alive and cluster.operator.can_lose(p.node)]
        leaders = [p for p in nodes if p.core.role.name == "leader"]
        if not how or not nodes:
            return False
        lame = self.lame = (leaders or nodes)[0]
        cluster.counts[f"recovered with one {how}"] += 1
        if how == "dead":
            lame.die("crash")
        elif how == "paused":
            lame.pause()
        others = [node for node in cluster.processes if node != lame.node]
        if how in ("deaf", "cut off"):
            cluster.network.cut((other, lame.node) for other in others)
        if how in ("mute", "cut off"):
            cluster.network.cut((lame.node, other) for other in others)
        return True

    def _mend(self) -> None:
        self.lame = None
        cluster = self.cluster
        cluster.calm, cluster.doomed = True, None
        cluster.note("calm")
        cluster.network.calm()
        for process in cluster.processes.values():
            process.fatal, process.disk.failing, process.disk.slowness = None, None, 1.0
            process.disk.unstick()
            process.hasten()
            process.resume()
            cluster.restart(process)

    def _await(self, invariant: str, is_so: object, timeouts: float) -> None:
        """Look once in a while until it is so, but not for ever."""
        schedule = self.cluster.schedule
        deadline = schedule.now + timeouts * self.timeout
        while not is_so():  # type: ignore[operator]
            if schedule.now >= deadline:
                raise Violation(invariant, self._state())
            schedule.run_until(schedule.now + 1.0)

    def _backlog(self) -> float:
        """How many timeouts it may take to bring everyone up to date, one small piece at a time."""
        plan = self.cluster.plan
        longest = max(p.core.log.last_index for p in self.cluster.processes.values())
        shortest = min(p.core.log.commit for p in self.cluster.processes.values())
        pieces = longest - shortest + plan.padding / plan.settings["chunk"] + ELECTION_TIMEOUTS
        return pieces * (3 * plan.calm.delay + 3 * plan.save + 0.1) / self.timeout

    def leader(self) -> "Process | None":
        """The newest leader, when a majority may follow it."""
        able = [p for p in self.cluster.processes.values() if p.alive and p is not self.lame]
        leaders = [p for p in able if p.core.role.name == "leader"]
        return max(leaders, key=lambda p: p.core.term, default=None)

    def _has_leader(self) -> bool:
        self._goal = self.cluster.clients.acknowledged + FRESH_WRITES
        return self.leader() is not None

    def _takes_writes(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        lead = (leader.node, leader.life, leader.core.term)
        if lead != self._asked:  # what the last one had accepted may be lost with its lead
            self._asked, self._accepted = lead, 0
            self._goal = self.cluster.clients.acknowledged + FRESH_WRITES
        if self._accepted < FRESH_WRITES:
            leader.do(self._write, leader)
        return self.cluster.clients.acknowledged >= self._goal

    def _write(self, leader: "Process") -> None:
        while self._accepted < FRESH_WRITES and self.cluster.clients.propose(leader):
            self._accepted += 1

    def _is_applied_everywhere(self) -> bool:
        leader = self.leader()
        if leader is None or leader.core.log.commit < leader.core.log.last_index:
            return False
        processes = self.cluster.processes
        members = [processes[node] for node in sorted(leader.core.log.membership.members)]
        able = [p for p in members if not p.disk.wiped and p is not self.lame]
        return all(p.machine.applied == leader.core.log.last_index for p in able)

    def _serves_reads(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        counts = self.cluster.counts
        if self._token is None:
            self._token = counts["index reads"]
            leader.do(self.cluster.clients.read_by_index, leader)
        elif not self._pending() and counts["index reads"] == self._token:
            self._token = None  # it failed; ask again
        # A leader that has tried to hand its lead over has no lease for the rest of its term.
        by_lease = counts["transfers"] > 0 or self._has_lease(leader)
        return by_lease and not self._pending() and self._token is not None

    def _has_lease(self, leader: "Process") -> bool:
        before = self.cluster.counts["lease reads"]
        leader.do(self.cluster.clients.read_by_lease, leader)
        return self.cluster.counts["lease reads"] > before

    # ------------------------------------------------------------------ what a healthy cluster can do

    def _hands_over(self) -> None:
        """A transfer succeeds, and the new leader gets its lease."""
        leader = self.leader()
        assert leader is not None
        voters = voters_of(leader.core.log.membership)
        heirs = [n for n in voters if n != leader.node and not self.cluster.processes[n].disk.wiped]
        if heirs:
            heir, asked = self.cluster.processes[heirs[-1]], set[tuple[str, int]]()
            self._await("a transfer succeeds", lambda: self._has_taken_over(heir, asked), 3)

    def _has_taken_over(self, heir: "Process", asked: set[tuple[str, int]]) -> bool:
        """Ask every leader for it, but each of them once.

        While a transfer that the trouble has begun is under way, the one that it names may win first.
        """
        leader = self.leader()
        if leader is None or leader is heir:
            return leader is not None and self._has_lease(heir)
        lead = (leader.node, leader.core.term)
        if lead not in asked:
            asked.add(lead)
            leader.do(leader.core.transfer, heir.node)
        return False

    def _changes(self) -> None:
        """A change of the membership is decided."""
        before, address = self.cluster.invariants.chosen_config, f"moved:{self.cluster.schedule.now:.0f}"
        change = self.cluster.subject.membership.ChangeAddress

        def is_decided() -> bool:
            leader = self.leader()
            if leader is not None and leader.core.log.membership_index <= leader.core.log.commit:
                self.cluster.operator.ask(leader, change(leader.node, address))
            return self.cluster.invariants.chosen_config > before

        self._await("a membership change is decided", is_decided, 2)

    def _loses_its_leader(self) -> None:
        """Another takes over; at once, mostly, where the drivers can tell that the process is gone."""
        leader, cluster = self.leader(), self.cluster
        assert leader is not None
        if not cluster.operator.can_lose(leader.node):
            return
        began = cluster.schedule.now
        self.lame = leader
        leader.die("crash")
        self._await("a dead leader is replaced", lambda: self.leader() is not None, LEADERLESS)
        soon = cluster.schedule.now - began < cluster.plan.election
        how = "refused" if cluster.plan.quick_election else "silent"
        cluster.counts[f"dead leader ({how}) replaced {'before' if soon else 'after'} an election timeout"] += 1

    def _pending(self) -> bool:
        """Whether a read waits for its answer, or for the news that there will be none."""
        return any(self.lame is None or r.node != self.lame.node for r in self.cluster.clients.reads.values())

    def _state(self) -> str:
        return "; ".join(
            f"{p.node} {p.core.role.name if p.alive else 'dead'} term {p.core.term} log {p.core.log.commit}"
            f"/{p.core.log.last_index} of {sorted(p.core.log.membership.voters)}"
            for p in self.cluster.processes.values()
        )
