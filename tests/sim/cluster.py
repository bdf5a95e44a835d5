"""One run: a cluster in trouble, then calm, then the question whether it works again.

    outcome = run(seed)            # raises nothing; `outcome.violation` says what did not hold

The same seed gives the same run to the last step, on every machine and under every hash seed.
"""

import random
import traceback
from collections import Counter
from typing import Any

import attrs

from tests.sim.clients import Clients
from tests.sim.disk import Disk
from tests.sim.faults import Faults
from tests.sim.invariants import Invariants
from tests.sim.machine import Machine
from tests.sim.network import Network
from tests.sim.operations import Operator
from tests.sim.plan import Plan
from tests.sim.process import Process
from tests.sim.recovery import Recovery
from tests.sim.schedule import Schedule
from tests.sim.subject import ORIGINAL, Subject
from tests.sim.violations import Violation
from weedtw.raft.messages import Message, Snapshot


@attrs.frozen
class Outcome:
    """What a run has come to."""

    seed: int
    violation: Violation | None
    counts: Counter[str]
    trace: list[str]


class Cluster:
    """Processes, disks, a network, clients, an operator and faults, on one clock."""

    def __init__(self, plan: Plan, subject: Subject = ORIGINAL, *, traced: bool = False) -> None:
        """Everything stands ready at time 0."""
        rng = random.Random(plan.seed)
        self.plan = plan
        self.subject = subject
        self.settings = subject.core.Settings(**plan.settings)
        self.schedule = Schedule()
        self.counts: Counter[str] = Counter()
        self.trace: list[str] | None = [] if traced else None
        self.calm = False
        self.doomed: tuple[str, int] | None = None  # where the next leader is to die
        self.processes: dict[str, Process] = {}
        self.network = Network(plan, self.schedule, _split(rng), self.counts, self._deliver)
        self._rng = _split(rng)
        members = subject.membership
        first = plan.first_snapshot
        founders = [f"n{number}" for number in range(1, plan.voters + plan.learners + 1)]
        membership = members.Membership(
            {node: members.Member(f"host:{node}", n < plan.voters) for n, node in enumerate(founders)}
        )
        snapshot = subject.messages.Snapshot(first, first, membership)
        self.invariants = Invariants(self, snapshot)
        self.clients = Clients(self, _split(rng))
        self.operator = Operator(self, _split(rng))
        self.faults = Faults(self, _split(rng))
        founding = subject.storage.StoredState(subject.messages.HardState(first), snapshot)
        for _ in founders:
            self.add_node(founding)

    def add_node(self, state: Any = None) -> Process:
        """A new node, not yet started; with an empty disk unless it is a founder."""
        node = f"n{len(self.processes) + 1}"
        drift = self.plan.drift
        speed = self._rng.choice((1 - drift, 1 + drift, 1 + drift * (2 * self._rng.random() - 1)))
        disk = Disk(node, state or self.subject.storage.StoredState(), self.subject, self.invariants.logs.stored)
        process: Process = self.subject.process.Process(self, node, disk, speed, _split(self._rng))
        self.processes[node] = process
        return process

    def run(self) -> None:
        """Trouble, calm, recovery.  Raises `Violation`."""
        for process in self.processes.values():
            self.schedule.after(self._rng.random() * self.plan.election, self.restart, process)
        for part in (self.clients, self.operator, self.faults):
            part.begin()
        self.schedule.run_until(self.plan.trouble)
        Recovery(self).run()

    # ------------------------------------------------------------------ what happens between processes

    def _deliver(self, message: Message) -> None:
        self.note(message)
        process = self.processes.get(message.to)
        if process is not None:
            process.receive(message)

    def restart(self, process: Process) -> None:
        """Start a process, unless it runs or has nothing to start from."""
        if not process.alive and not process.disk.wiped:
            self.note("start", process.node)
            process.start()

    def died(self, process: Process, why: str) -> None:
        """A process has ended: its peers' connections break, and it may come back."""
        self.counts[f"death: {why}"] += 1
        self.note("dead", process.node, why)
        self.clients.died(process)
        for other in self.processes.values():
            if other is not process and self.network.is_open(other.node, process.node):
                self.connection_lost(other.node, process.node)
        if not self.calm:
            gap = self.plan.election * self._rng.choice((0.0, 0.05, 0.5, 1.5, 4.0)) * self._rng.random()
            self.schedule.after(gap, self._come_back, process)

    def _come_back(self, process: Process) -> None:
        if not self.calm:  # who is dead then is started, or left dead, on purpose
            self.restart(process)

    def connection_lost(self, node: str, peer: str) -> None:
        """A node's connection to a peer breaks; a moment later it tries to make another."""
        if self.plan.quick_election:
            process = self.processes[node]
            self.schedule.after(0.1, process.do, self._lost, process, peer)
            self.schedule.after(0.3, process.do, self._retry, process, peer)

    def _lost(self, process: Process, peer: str) -> None:
        process.core.lost_contact(peer)

    def _retry(self, process: Process, peer: str) -> None:
        # Refused means that a host answered for a process that is gone; a cut network answers nothing.
        if self.network.is_open(process.node, peer) and not self.processes[peer].alive:
            self.counts["refused"] += 1
            process.core.refused(peer)
            process.core.tick(0)  # as the driver does: whose turn it is campaigns at once

    def machine_of(self, snapshot: Snapshot) -> Machine:
        """The state machine that a snapshot holds."""
        machine = Machine()
        machine.restore(snapshot)
        return machine

    def note(self, *what: object) -> None:
        """Write a line of the trace, if one is kept."""
        if self.trace is not None:
            self.trace.append(f"{self.schedule.now:9.3f} {' '.join(map(describe, what))}")


def run(seed: int, subject: Subject = ORIGINAL, *, traced: bool = False) -> Outcome:
    """One seed."""
    plan = Plan.draw(seed)
    cluster = Cluster(plan, subject, traced=traced)
    violation = None
    try:
        cluster.run()
    except Violation as found:
        violation = found
    except Exception as error:  # noqa: BLE001  # whatever the core raises is a finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        violation = Violation(
            "the core never fails", f"{type(error).__name__}: {error} ({where.name}:{where.lineno})"
        )
    counts = cluster.counts
    counts["steps"] = cluster.schedule.steps
    counts["runs"] = 1
    return Outcome(seed, violation, counts, cluster.trace or [])


def describe(what: object) -> str:
    """Short and the same under every hash seed: sets are left out."""
    kind: type = type(what)
    if not attrs.has(kind):
        return str(what)
    shown = []
    for name in (field.name for field in attrs.fields(kind)):
        value = getattr(what, name)
        if name == "entries":
            shown.append(f"entries={[(e.index, e.term) for e in value]}")
        elif name not in ("membership", "data"):
            shown.append(f"{name}={value}")
    return f"{type(what).__name__}({', '.join(shown)})"


def _split(rng: random.Random) -> random.Random:
    """A generator of one's own: one part's drawing must not move another's."""
    return random.Random(rng.getrandbits(64))
