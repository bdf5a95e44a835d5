"""What must hold after every step, judged from outside: by what nodes send, store and apply.

All checks are incremental: each looks only at what the last step may have changed.
"""

from typing import TYPE_CHECKING

from tests.sim.disk import Disk, majority_of, voters_of
from tests.sim.logs import Logs
from tests.sim.promises import Promises
from tests.sim.violations import Violation
from weedtw.raft.membership import Membership
from weedtw.raft.messages import Entry, EntryKind, Message, Snapshot

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.process import Process


class Invariants:
    """Remembers what has been decided, and refuses everything that contradicts it."""

    def __init__(self, cluster: "Cluster", first: Snapshot) -> None:
        """The cluster begins with what `first` covers."""
        self.cluster = cluster
        self.promises = Promises(cluster)
        self.first = first
        self.leaders: dict[int, str] = {}  # term -> node
        self.logs = Logs(self)
        self.chosen: list[int] = [first.term]  # the term of each committed entry, from first.index on
        self.chosen_in: list[int] = [first.term]  # the term of the leader that committed it
        self.chosen_config = first.index  # where the latest committed membership stands
        self.digests: dict[int, int] = {first.index: 0}  # the state machine's, after each entry

    @property
    def last_chosen(self) -> int:
        return self.first.index + len(self.chosen) - 1

    def chosen_term(self, index: int) -> int:
        """The term of a committed entry."""
        return self.chosen[index - self.first.index]

    # ------------------------------------------------------------------ lives and messages

    def began(self, process: "Process") -> None:
        """A life begins: what its disk says must still be so."""
        core, disk = process.core, process.disk
        process.seen_role, process.seen_term = core.role, core.term
        process.seen_commit, process.seen_config = disk.state.snapshot.index, None
        self.promises.began(process)
        if core.term < self.promises.highest_term.get(process.node, 0):
            raise Violation("terms only rise", f"{process.node} comes back in term {core.term}")
        self.look_at(process)

    def leaves(self, process: "Process", message: Message) -> None:
        """A message leaves its node: it must not promise what a crash could take back."""
        self.promises.leaves(process, message)

    def arrived(self, process: "Process", message: Message) -> None:
        """A message was taken in."""
        self.promises.arrived(process, message)

    def leads(self, process: "Process") -> None:
        """A leader has been awake."""
        self.promises.leads(process)

    # ------------------------------------------------------------------ after every input

    def look_at(self, process: "Process") -> None:
        """Whether a node's own state has moved as it may."""
        core = process.core
        log = core.log
        if core.term != process.seen_term:
            if core.term < process.seen_term:
                raise Violation("terms only rise", f"{process.node}: from {process.seen_term} to {core.term}")
            process.seen_term = core.term
        if log.commit != process.seen_commit:
            if log.commit < process.seen_commit:
                raise Violation("the commit only rises", f"{process.node}: {process.seen_commit} to {log.commit}")
            if log.commit > log.last_index:
                raise Violation("only what is there is committed", f"{process.node}: {log.commit} > {log.last_index}")
            self._committed(process, process.seen_commit, log.commit)
            process.seen_commit = log.commit
        disk = process.disk
        if disk.config is not process.seen_config and disk.last == (log.last_term, log.last_index):
            process.seen_config = disk.config
            if log.membership.members != disk.config.members:
                raise Violation(
                    "the latest membership is in force", f"{process.node} goes by {log.membership.members}"
                )
        if core.role is not process.seen_role:
            process.seen_role = core.role
            if core.role.name == "leader":
                self._elected(process)
            elif core.role.name == "candidate":
                self.cluster.counts["candidacies"] += 1
                self.promises.challenged(process)

    def _elected(self, process: "Process") -> None:
        """Election safety, leader completeness, and no lease beside a new leader."""
        term = process.core.term
        self.cluster.counts["elections won"] += 1
        self.cluster.note("leader", process.node, term)
        known = self.leaders.setdefault(term, process.node)
        if known != process.node:
            raise Violation("one leader a term", f"{known} and {process.node} lead term {term}")
        position = len(self.chosen) - 1
        while self.chosen_in[position] >= term:  # committed by a later leader: it need not be here
            position -= 1
        index = self.first.index + position
        if not holds(process, index, self.chosen[position]):
            raise Violation("leader completeness", f"{process.node} leads term {term} without entry {index}")
        if self.cluster.doomed is not None:
            process.fatal, self.cluster.doomed = self.cluster.doomed, None
        self._revoke_leases(process, new=True)

    def _revoke_leases(self, leader: "Process", *, new: bool) -> None:
        """While a newer leader exists, an older one must not say that it has a lease."""
        for other in self.cluster.processes.values():
            if other is not leader and other.alive and not other.paused and other.core.role.name == "leader":
                self.cluster.schedule.after(0.0, other.do, self._no_lease, other, leader.core.term)
                self.cluster.clients.ask_both(leader, other, write=new)

    def _no_lease(self, process: "Process", newer: int) -> None:
        core = process.core
        if core.term < newer and core.has_lease():
            raise Violation("one lease", f"{process.node} has a lease in term {core.term}, term {newer} has a leader")

    # ------------------------------------------------------------------ what is decided

    def _committed(self, process: "Process", old: int, new: int) -> None:
        """A node's commit has risen: everything up to it is decided, for ever and everywhere."""
        log = process.core.log
        news = False
        for index in range(max(old, log.snapshot.index) + 1, new + 1):
            term = log.term(index)
            if index <= self.last_chosen:
                if term != self.chosen_term(index):
                    raise Violation(
                        "committed is never lost",
                        f"{process.node} commits entry {index} of term {term}, {self.chosen_term(index)} was chosen",
                    )
            else:
                if term is None or (index, term) not in self.logs.entries:
                    raise Violation("committed is on a majority of disks", f"entry {index} of term {term} is on none")
                news = True
                self.chosen.append(term)
                self.chosen_in.append(process.core.term)
                self.cluster.counts["commits"] += 1
                if self.logs.entries[index, term][0].kind == EntryKind.CONFIG:
                    self.chosen_config = index
        if new > self.last_chosen:
            raise Violation(
                "committed is never lost", f"{process.node} has a snapshot of {new} that nobody committed"
            )
        if news:
            self._decided(process)

    def _decided(self, process: "Process") -> None:
        """The newest commit is on a majority of disks, and nobody without it can win an election any more."""
        index = self.last_chosen
        term = self.chosen[-1]
        config = self.config_of(process)
        disks = {node: p.disk for node, p in self.cluster.processes.items()}
        having = [node for node in voters_of(config) if disks[node].holds(index, term)]
        if len(having) < majority_of(config):
            raise Violation("committed is on a majority of disks", f"entry {index} of term {term} is on {having}")
        for candidate in self.cluster.processes.values():
            if not candidate.disk.wiped and not holds(candidate, index, term):
                self._cannot_win(candidate, index, disks)
        self._revoke_leases(process, new=False)

    def _cannot_win(self, candidate: "Process", index: int, disks: dict[str, Disk]) -> None:
        """Whatever of their memory the voters may yet lose."""
        last = candidate.disk.last
        if candidate.alive:
            last = (candidate.core.log.last_term, candidate.core.log.last_index)
        config = self.config_of(candidate)
        if not config.members:
            return
        willing = [
            n for n in voters_of(config) if n == candidate.node or (not disks[n].wiped and disks[n].last <= last)
        ]
        if len(willing) >= majority_of(config):
            raise Violation(
                "leader completeness",
                f"{candidate.node} could win with {willing} and lacks the committed entry {index}",
            )

    def config_of(self, process: "Process") -> Membership:
        """The membership that a node has to go by: the latest in its log, committed or not."""
        if process.alive:
            return process.core.log.membership_at(process.core.log.last_index)
        return process.disk.config

    def may_be_in_force(self) -> list[Membership]:
        """Those that a leader could go by, now or after crashes: the last decided one and what follows it."""
        found = []
        for process in self.cluster.processes.values():
            if not process.disk.wiped:
                found.append((process.disk.config_index, process.disk.config))
                if process.alive:
                    found.append((process.core.log.membership_index, self.config_of(process)))
        return [config for index, config in found if index >= self.chosen_config and config.members]

    # ------------------------------------------------------------------ what is applied

    def applies(self, process: "Process", entry: Entry) -> None:
        """State machine safety: the same entries everywhere, each once, in order."""
        if entry.index != process.machine.applied + 1:
            raise Violation(
                "applied once, in order", f"{process.node}: {entry.index} after {process.machine.applied}"
            )
        if entry.index > self.last_chosen or entry.term != self.chosen_term(entry.index):
            raise Violation("only what is committed is applied", f"{process.node} applies {entry}")
        if not process.disk.holds(entry.index, entry.term):
            raise Violation("stored before applied", f"{process.node} applies {entry}, not on its disk")

    def applied(self, process: "Process") -> None:
        """All state machines are alike."""
        machine = process.machine
        if self.digests.setdefault(machine.applied, machine.digest) != machine.digest:
            raise Violation("state machine safety", f"{process.node} differs after entry {machine.applied}")

    def restores(self, process: "Process", snapshot: Snapshot) -> None:
        """A snapshot is taken as a whole, and never to go back."""
        machine = self.cluster.machine_of(snapshot)
        if snapshot.index < process.machine.applied:
            raise Violation("a snapshot never goes back", f"{process.node}: {process.machine.applied} to {snapshot}")
        if machine.applied != snapshot.index or self.digests.get(snapshot.index) != machine.digest:
            raise Violation("state machine safety", f"{process.node} restores {snapshot.data!r} at {snapshot.index}")
        if process.disk.state.snapshot.index < snapshot.index:
            raise Violation("stored before applied", f"{process.node} restores {snapshot}, not on its disk")
        self.cluster.counts["snapshots restored"] += 1

    # ------------------------------------------------------------------ limits

    def proposed(self, process: "Process") -> None:
        """What a leader holds of its own term without a majority is bounded."""
        core = process.core
        log, limit = core.log, core.settings.max_uncommitted
        own = [e for e in log.slice(log.commit + 1, log.last_index, 1 << 60) if e.term == core.term]
        size = sum(e.size for e in own if e.kind == EntryKind.COMMAND)
        if len(own) > 1 and size > limit + 64:
            raise Violation("proposals are bounded", f"{process.node} holds {size} bytes, the limit is {limit}")


def holds(process: "Process", index: int, term: int) -> bool:
    """Whether a node has an entry: in memory while it lives, else on disk."""
    if not process.alive:
        return process.disk.holds(index, term)
    log = process.core.log
    return bool(index <= log.snapshot.index or log.term(index) == term)
