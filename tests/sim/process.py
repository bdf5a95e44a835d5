"""One node's process: drives a core as its contract asks (store, send, apply, advance), and may die at any point."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.sim.disk import Disk
from tests.sim.machine import Machine
from weedtw.raft.core import RaftCore, Ready
from weedtw.raft.messages import Entry, Message, Snapshot

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster


class _Killed(Exception):
    """The process was to die at this point."""


class _Timeouts(random.Random):
    """Chances for the core; in trouble they may favour the shortest election timeout, where leases are tightest."""

    cluster: "Cluster"

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        value = super().randrange(start, stop, step)
        return 0 if not self.cluster.calm and self.random() < self.cluster.plan.eager else value


class Process:
    """A node that starts, runs, is paused, dies, and starts again from its disk."""

    core: RaftCore  # of the latest life, also after its end
    machine: Machine
    # What the invariants remember of this life:
    seen_role: object
    seen_term: int
    seen_commit: int
    seen_config: object  # on disk
    heard: tuple[str | None, int]  # (leader, term)
    heard_since: float  # without a break
    heard_last: float
    answered: dict[str, float]  # in this lead: when each other node was last heard from
    led_since: float
    led_term: int
    led_config: object

    def __init__(self, cluster: "Cluster", node: str, disk: Disk, speed: float, rng: random.Random) -> None:
        """Not started yet; its clock runs `speed` times as fast as it should."""
        self.cluster = cluster
        self.schedule = cluster.schedule
        self.node = node
        self.disk = disk
        self.speed = speed
        self.alive = False
        self.paused = False
        self.life = 0  # how often it has started
        self.fatal: tuple[str, int] | None = None  # die when this point has been passed so often
        self._rng = rng
        self._timeouts = _Timeouts(rng.getrandbits(32))
        self._timeouts.cluster = cluster
        self._inbox: list[tuple[Callable[..., object], tuple[Any, ...]]] = []  # while paused

    # ------------------------------------------------------------------ life and death

    def start(self) -> None:
        """Begin a life from what the disk holds."""
        cluster = self.cluster
        subject = cluster.subject
        self.life += 1
        self.alive, self.paused = True, False
        self.started, self.ticks = self.schedule.now, 0
        self.saving_since: float | None = None
        self._saving: Ready | None = None
        self.machine = Machine()
        self.core = subject.core.RaftCore(self.node, self.disk.state, cluster.settings, self._timeouts)
        cluster.invariants.began(self)
        self._wake(self.life)

    def die(self, why: str) -> None:
        """End at once: memory is lost, and of the disk what was not yet written."""
        if not self.alive:
            return
        self.alive, self.fatal = False, None
        self._inbox.clear()
        self.disk.crash(self._rng)
        self.cluster.died(self, why)

    def pause(self) -> None:
        """As SIGSTOP does: the process stands still, its sockets and its disk do not."""
        self.paused = True

    def resume(self) -> None:
        """Go on; the core learns first how much time has passed, then what has arrived meanwhile."""
        if not (self.alive and self.paused):
            return
        self.paused = False
        inbox, self._inbox = self._inbox, []
        for action, args in inbox:
            self.do(action, *args)
        self._wake(self.life)

    # ------------------------------------------------------------------ inputs

    def do(self, action: Callable[..., object], *args: Any) -> None:
        """Give the core an input, time first; what follows from it is done at once."""
        if not self.alive:
            return
        if self.paused:
            self._inbox.append((action, args))
            return
        self.catch_up()
        try:
            action(*args)
            self._pump()
        except _Killed:
            self.cluster.invariants.look_at(self)
            self.die("crash at a point")

    def receive(self, message: Message) -> None:
        """A message has arrived at this process."""
        self.do(self._step, message)

    def catch_up(self) -> None:
        """Derive ticks from this node's own clock."""
        due = self._clock()
        if due > self.ticks:
            due, self.ticks = due - self.ticks, due
            self.core.tick(due)

    def _clock(self) -> int:
        """Ticks of this node's own clock since it started."""
        return int((self.schedule.now - self.started) * self.speed)

    def _is_stuck(self) -> bool:
        """Whether a save has taken for too long."""
        return self.saving_since is not None and self.schedule.now - self.saving_since > self.cluster.plan.election

    def _step(self, message: Message) -> None:
        self.core.step(message)
        self.cluster.invariants.arrived(self, message)

    def _wake(self, life: int) -> None:
        """The driver's timer: the only thing that happens when nothing else does."""
        if life != self.life or not self.alive or self.paused:
            return
        if self._is_stuck():
            self.cluster.counts["step downs"] += self.core.role.name == "leader"
            self.core.step_down()  # a leader with a stuck disk helps nobody
        self.do(_nothing)
        if self.alive:
            if self.core.role.name == "leader":
                self.cluster.invariants.leads(self)
            due = (self._clock() + self.cluster.plan.stride) / self.speed + 1e-9
            self.schedule.after(self.started + due - self.schedule.now, self._wake, life)

    # ------------------------------------------------------------------ the contract of `RaftCore`

    def _pump(self) -> None:
        core, look = self.core, self.cluster.invariants.look_at
        look(self)
        for message in core.urgent():
            self._send(message)
        while self.saving_since is None and core.has_ready():
            self._carry_out(core.ready())
            look(self)

    def _carry_out(self, ready: Ready) -> None:
        self._may_die("ready")
        if ready.update is None:
            self._finish(ready)
            return
        disk, plan = self.disk, self.cluster.plan
        disk.begin(ready.update)
        self.saving_since, self._saving = self.schedule.now, ready
        duration = plan.save * disk.slowness * (0.5 + self._rng.random())
        if plan.slow_saves and not self.cluster.calm and self._rng.random() < plan.slow_saves:
            duration *= 10
        if duration == 0 and not (disk.stuck or disk.failing):
            self._saved(ready)
        else:
            self.schedule.after(duration, disk.settle, self._settled, self.life, ready)

    def _settled(self, life: int, ready: Ready) -> None:
        """The disk has done what it will do about a save; the process learns of it when it is awake."""
        if life != self.life or not self.alive or ready is not self._saving:
            return
        if self.disk.failing is not None:
            why, self.disk.failing = self.disk.failing, None
            if why == "ENOSPC":
                self.disk.writing = None
            self.die(why)
            return
        self._saving = None
        self.disk.complete()
        self.do(self._saved, ready)

    def hasten(self) -> None:
        """The disk is fast again: a save under way takes no longer than a new one."""
        if self.alive and self._saving is not None:
            self.schedule.after(self.cluster.plan.save, self.disk.settle, self._settled, self.life, self._saving)

    def _saved(self, ready: Ready) -> None:
        self.disk.complete()
        self.saving_since = self._saving = None
        self._may_die("saved")
        self._finish(ready)

    def _finish(self, ready: Ready) -> None:
        self._send_all(ready)
        if ready.snapshot is not None:
            self._restore(ready.snapshot)
        for entry in ready.committed:
            self._apply(entry)
        clients = self.cluster.clients
        for read in ready.reads:
            clients.may_read(self, read)
        for token in ready.failed_reads:
            clients.read_failed(self, token)
        self._may_die("applied")
        self.core.advance(ready)
        self._compact()
        self._may_die("advanced")

    def _send_all(self, ready: Ready) -> None:
        for message in ready.messages:
            self._send(message)
        self._may_die("all sent")

    def _send(self, message: Message) -> None:
        self.cluster.invariants.leaves(self, message)
        self.cluster.network.send(message)
        self._may_die("sent")

    def _restore(self, snapshot: Snapshot) -> None:
        self.cluster.invariants.restores(self, snapshot)
        self.machine.restore(snapshot)
        self.cluster.clients.restored(self, snapshot)

    def _apply(self, entry: Entry) -> None:
        self.cluster.invariants.applies(self, entry)
        self.machine.apply(entry)
        self.cluster.invariants.applied(self)
        self.cluster.clients.applied(self, entry)
        self._may_die("applying")

    def _compact(self) -> None:
        plan = self.cluster.plan
        index = self.machine.applied
        if plan.compact_every and index - self.core.log.snapshot.index >= plan.compact_every:
            data = self.machine.snapshot(plan.padding)
            if self._rng.random() < 0.5:
                self._compact_at(self.life, index, data)
            else:  # written in the background, while the log goes on
                self.schedule.after(self._rng.random() * 5, self.do, self._compact_at, self.life, index, data)

    def _compact_at(self, life: int, index: int, data: bytes) -> None:
        if life == self.life:
            self.cluster.counts["compactions"] += 1
            self.core.compact(index, data)

    def _may_die(self, point: str) -> None:
        if self.fatal is None or self.fatal[0] != point:
            return
        passes = self.fatal[1] - 1
        self.fatal = (point, passes)
        if passes <= 0:
            raise _Killed


POINTS = ("ready", "saved", "sent", "all sent", "applying", "applied", "advanced")


def _nothing() -> None:
    """An awakening without an input: time alone."""
