"""What goes wrong.  Each kind of fault is a method, named in `plan.FAULTS`; it ends by itself or at the calm."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from tests.sim.network import Link
from tests.sim.process import POINTS

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.process import Process


HELD_BACK = 3.0  # election timeouts, at most

REQUESTS = 12  # to campaign, within one transfer


class Faults:
    """Draws them, one after the other, for as long as the plan says."""

    def __init__(self, cluster: "Cluster", rng: random.Random) -> None:
        """Nothing is wrong yet."""
        self.cluster = cluster
        self._rng = rng
        self._kinds = list(cluster.plan.faults)
        self._weights = list(cluster.plan.faults.values())

    def begin(self) -> None:
        """Start breaking things."""
        self._again()

    def _again(self) -> None:
        self.cluster.schedule.after(self._rng.expovariate(1 / self.cluster.plan.fault_gap), self._strike)

    def _strike(self) -> None:
        if self.cluster.calm:
            return
        kind = self._rng.choices(self._kinds, self._weights)[0]
        fault: Callable[[Process], None] = getattr(self, kind)
        victim = self._victim()
        if victim is not None:
            self._count(kind)
            fault(victim)
        self._again()

    def _victim(self) -> "Process | None":
        """Half of the time a leader: that is where it hurts."""
        living = [p for p in self.cluster.processes.values() if p.alive]
        leaders = [p for p in living if p.core.role.name == "leader"]
        if leaders and self._rng.random() < 0.5:
            return self._rng.choice(leaders)
        return self._rng.choice(living) if living else None

    def _count(self, kind: str) -> None:
        self.cluster.counts[f"fault: {kind}"] += 1
        self.cluster.note("fault", kind)

    def _while(self) -> float:
        """How long a fault lasts: from a moment to several election timeouts."""
        return self.cluster.plan.election * self._rng.choice((0.1, 0.5, 1.2, 2.0, 5.0)) * (0.5 + self._rng.random())

    def _later(self, action: Callable[..., object], *args: object) -> None:
        self.cluster.schedule.after(self._while(), self._unless_calm, action, args)

    def _unless_calm(self, action: Callable[..., object], args: tuple[object, ...]) -> None:
        if not self.cluster.calm:  # all is mended then, and what is broken is meant to be
            action(*args)

    # ------------------------------------------------------------------ processes

    def crash(self, victim: "Process") -> None:
        """kill -9, now."""
        victim.die("crash")

    def crash_at_a_point(self, victim: "Process") -> None:
        """kill -9 at a point of the driver's loop, the next time it gets there or some time after."""
        victim.fatal = (self._rng.choice(POINTS), self._rng.choice((1, 1, 1, 2, 3, 5)))

    def crash_everywhere(self, victim: "Process") -> None:
        """The power fails."""
        for process in self.cluster.processes.values():
            process.die("crash")

    def crash_new_leader(self, victim: "Process") -> None:
        """Whoever wins the next election dies on one of its first steps."""
        self.cluster.doomed = (self._rng.choice(("saved", "sent", "sent", "all sent")), self._rng.choice((1, 2, 3)))

    def pause(self, victim: "Process") -> None:
        """SIGSTOP, and later SIGCONT."""
        victim.pause()
        self._later(victim.resume)

    def restart_a_witness(self, victim: "Process") -> None:
        """Cut one node off from a leader, and restart one that has just promised that leader to wait."""
        witness = self._estrange(victim)
        if witness is not None:
            gap = self.cluster.plan.election * (0.8 + 1.2 * self._rng.random())
            self.cluster.schedule.after(gap, self._unless_calm, self._restart, (witness,))

    def _estrange(self, leader: "Process", delay: float = 0.0) -> "Process | None":
        """Cut one node off from a leader; returns another, to whom the first will turn for its vote."""
        others = [p for p in self.cluster.processes.values() if p.alive and p is not leader]
        if len(others) < 2:
            return None
        lonely, witness = self._rng.sample(others, 2)
        links = [(leader.node, lonely.node), (lonely.node, leader.node)]
        self.cluster.schedule.after(delay, self._unless_calm, self._cut, (links,))
        # The lonely one can only win while the others' logs have not gone on.
        self.cluster.clients.quiet_until = self.cluster.schedule.now + 3.0 * self.cluster.plan.election
        return witness

    def _restart(self, process: "Process") -> None:
        process.die("crash")
        self.cluster.restart(process)

    # ------------------------------------------------------------------ disks

    def stick_a_witness(self, victim: "Process") -> None:
        """As `restart_a_witness`, but it is stuck with its disk for a while: its promise must hold after that."""
        delay = 6 * self.cluster.network.weather.delay
        victim.do(self.cluster.clients.write, victim)
        witness = self._estrange(victim, delay)
        if witness is not None:
            witness.disk.stuck = True
            gap = self.cluster.plan.election * (1.1 + 1.4 * self._rng.random())
            self.cluster.schedule.after(gap, self._unless_calm, witness.disk.unstick, ())

    def disk_error(self, victim: "Process") -> None:
        """The next save fails: the process has to stop.  After an I/O error nobody knows what is on the disk."""
        victim.disk.failing = self._rng.choice(("EIO", "ENOSPC"))

    def disk_slow(self, victim: "Process") -> None:
        """Saves take ten times as long."""
        victim.disk.slowness = 10.0
        self._later(self._at_speed, victim)

    def _at_speed(self, victim: "Process") -> None:
        victim.disk.slowness = 1.0

    def disk_stuck(self, victim: "Process") -> None:
        """No save ends."""
        victim.disk.stuck = True
        self._later(victim.disk.unstick)

    def wipe(self, victim: "Process") -> None:
        """A disk is lost for ever; a new node with an empty one and another id takes its place."""
        if self.cluster.plan.change_gap and self.cluster.operator.can_lose(victim.node):
            self._count("wiped")
            victim.disk.wiped = True
            victim.die("wiped")
            self.cluster.add_node().start()

    # ------------------------------------------------------------------ network

    def isolate(self, victim: "Process") -> None:
        """Nothing reaches a node, or nothing leaves it, or both."""
        others = [node for node in self.cluster.processes if node != victim.node]
        inbound = [(other, victim.node) for other in others]
        outbound = [(victim.node, other) for other in others]
        self._cut(self._rng.choice((inbound, outbound, inbound + outbound, inbound + outbound)))

    def partition(self, victim: "Process") -> None:
        """Two sides that cannot hear each other."""
        nodes = list(self.cluster.processes)
        side = {node for node in nodes if self._rng.random() < 0.5} ^ {victim.node}
        self._cut([(a, b) for a in nodes for b in nodes if (a in side) != (b in side)])

    def cut_link(self, victim: "Process") -> None:
        """Two nodes cannot hear each other; others can hear both."""
        other = self._rng.choice(list(self.cluster.processes))
        self._cut([(victim.node, other), (other, victim.node)])

    def cut_one_way(self, victim: "Process") -> None:
        """One node cannot hear another."""
        other = self._rng.choice(list(self.cluster.processes))
        self._cut([self._rng.choice(((victim.node, other), (other, victim.node)))])

    def _cut(self, links: list[Link]) -> None:
        self.cluster.network.cut(links)
        self._later(self.cluster.network.mend, links)

    def hold_back(self, victim: "Process") -> None:
        """One message of a node is overtaken by all that it says for some time after."""
        messages = self.cluster.subject.messages
        kind = self._rng.choice(
            (messages.VoteRequest, messages.VoteReply, messages.Append, messages.AppendReply, messages.HeartbeatReply)
        )
        self._hold_back(victim, kind)

    def _hold_back(self, victim: "Process", kind: type) -> None:
        delay = min(self._while(), HELD_BACK * self.cluster.plan.election)
        self.cluster.network.held_back.append((victim.node, kind, delay))

    def hand_over(self, victim: "Process") -> None:
        """A leader asks another to take over, and then does not learn for a while what came of it.

        Sometimes it has asked for a read as well, and what its followers answered to that comes when all has changed.
        """
        if self._rng.random() < 0.5:
            for node in self.cluster.processes:
                held = (
                    node,
                    self.cluster.subject.messages.HeartbeatReply,
                    self.cluster.plan.election * self._rng.random(),
                )
                self.cluster.network.held_back.append(held)
            victim.do(self.cluster.clients.read_by_index, victim)
        if self._rng.random() < 0.5:
            for _ in range(
                REQUESTS
            ):  # it is repeated with every heartbeat; all may come when the transfer is long over
                self._hold_back(victim, self.cluster.subject.messages.TimeoutNow)
        else:
            delay = self.cluster.network.weather.delay * 4 * self._rng.random()
            self.cluster.schedule.after(delay, self._unless_calm, self.isolate, (victim,))
        victim.do(self.cluster.clients.transfer, victim)

    def drop_connection(self, victim: "Process") -> None:
        """A connection breaks, though both of its ends are well."""
        other = self._rng.choice(list(self.cluster.processes))
        self.cluster.connection_lost(victim.node, other)
        self.cluster.connection_lost(other, victim.node)

    def storm(self, victim: "Process") -> None:
        """Everything is lost, late and repeated for a while."""
        network = self.cluster.network
        before = network.weather
        if before.loss < 0.3:
            network.weather = attrs.evolve(before, loss=0.3, repeat=0.3, late=0.5, latest=self.cluster.plan.election)
            self._later(self._after_storm, before)

    def _after_storm(self, before: object) -> None:
        self.cluster.network.weather = before  # type: ignore[assignment]
