"""Making missing copies, vacuuming and balancing without anybody at a terminal: on a schedule, or over HTTP.

Only the leader does it, under the admin lock, one task at a time.  On a schedule a volume is repaired only when it
was short of a copy, or had one too many, at each look for `maintenance.grace` seconds, and the leader leads for as
long: a server that is restarted must not cause copying.
"""

import functools
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import BadRequest, Locked, Unavailable, WeedError
from weedtw.master.cluster import Cluster
from weedtw.master.lock import EXPIRES, AdminLocks

if TYPE_CHECKING:
    from weedtw.client.plans import Plan
    from weedtw.client.volumes import Volumes

TASKS = ("fix.replication", "balance", "vacuum")
MOST_LOOKS = 30.0  # seconds between looks at what is short of copies, at most


@attrs.define(eq=False, slots=False)
class Maintenance:
    """Works for one master, while that leads."""

    log = Logger()

    cluster: Cluster
    locks: AdminLocks
    _one: DeferredLock = attrs.Factory(DeferredLock)
    _loop: LoopingCall | None = None
    _unlike: dict[int, float] = attrs.Factory(dict)  # by volume: since when it has too few copies, or too many
    _next: float = 0.0  # when the next round is due, on the clock

    def start(self) -> None:
        """Begin with the rounds, if there are to be any."""
        interval = self.cluster.config.maintenance_interval
        if interval > 0:
            self._next = self.cluster.clock.seconds() + interval
            loop = self._loop = LoopingCall(self._look)
            loop.clock = self.cluster.clock
            loop.start(min(interval, MOST_LOOKS), now=False)

    def stop(self) -> None:
        """Begin no further step."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    @functools.cached_property
    def _volumes(self) -> "Volumes":
        # Imported here and not above: no master needs these, and numpy with them, to start.
        from weedtw.client.masters import Masters  # noqa: PLC0415
        from weedtw.client.volumes import Volumes  # noqa: PLC0415
        from weedtw.client.wire import Wire  # noqa: PLC0415

        wire = Wire(self.cluster.peers.agent, self.cluster.clock, 30.0, 60.0)
        masters = Masters.at([self.cluster.address], wire, self.cluster.clock, 10.0)
        return Volumes(masters, wire, self.cluster.clock)

    async def run(
        self, task: str, *, apply: bool, token: str = "", only: tuple[int, ...] | None = None
    ) -> dict[str, Any]:
        """Do a task, or say what it would do: the steps, those done, and what went wrong, in words.

        Raises BadRequest for another task, Locked when somebody else holds the admin lock, Unavailable.
        """
        if task not in TASKS:
            raise BadRequest(f"task={task[:40]!r} is none of {', '.join(TASKS)}")
        if not apply:
            plan = await self._plan(task, only)
            return {"steps": list(map(str, plan.steps)), "done": [], "problems": list(plan.remarks)}
        return await self._one.run(self._locked, task, token, only)

    async def _locked(self, task: str, token: str, only: tuple[int, ...] | None) -> dict[str, Any]:
        holder = f"the master {self.cluster.address}, for {task}"
        taken = await self.locks.take(holder, token)
        keeping = LoopingCall(
            lambda: Deferred.fromCoroutine(self.locks.take(holder, taken)).addErrback(self._not_kept)
        )
        keeping.clock = self.cluster.clock
        keeping.start(EXPIRES / 5, now=False)
        try:
            return await self._do(task, taken, only)
        finally:
            keeping.stop()
            if not token and self.cluster.ledger.is_leader:
                await self.locks.release(taken)

    def _not_kept(self, failure: Failure) -> None:
        failure.trap(WeedError)
        self.log.warn("the admin lock cannot be renewed: {reason}", reason=str(failure.value))

    async def _do(self, task: str, token: str, only: tuple[int, ...] | None) -> dict[str, Any]:
        plan = await self._plan(task, only)
        done: list[str] = []
        problems = list(plan.remarks)
        if task == "vacuum":
            await self._volumes.vacuum(self.cluster.config.garbage_threshold)
            done.append("vacuum")
        for step in plan.steps:
            if not self.cluster.ledger.is_leader:
                raise Unavailable("this master does not lead any more; another one goes on when it is asked to")
            self.locks.require(token)
            try:
                became = await self._volumes.do(step)
            except WeedError as error:
                problems.append(f"volume {step.volume_id}: {error}")
                self.log.warn("maintenance: {step}: {reason}", step=str(step), reason=str(error))
            else:
                done.append(f"volume {step.volume_id} {became} on {step.target}")
                self.log.info("maintenance: {step}: it {became}", step=str(step), became=became)
        return {"steps": list(map(str, plan.steps)), "done": done, "problems": problems}

    async def _plan(self, task: str, only: tuple[int, ...] | None) -> "Plan":
        from weedtw.client.plans import Plan, plan_balance, plan_repairs, plan_surplus  # noqa: PLC0415 - as there

        if task == "vacuum" or only == ():
            return Plan()
        found = await self._volumes.inventory()
        if task == "balance":
            return plan_balance(found)
        return plan_repairs(found, only or ()) + plan_surplus(found, only or ())

    # -------------------------------------------------------------- on a schedule

    def _look(self) -> Deferred[object]:
        """Note what is short of copies, or has too many, and when it is time begin a round; never fails."""
        if not self.cluster.ledger.is_leader:
            self._unlike.clear()  # whoever comes to lead watches for the whole time
            return succeed(None)
        now = self.cluster.clock.seconds()
        topology = self.cluster.topology
        short = {
            volume_id
            for layout in topology.layouts.values()
            for volume_id in layout.volume_ids()
            if len(topology.copies(volume_id)) < layout.key.replication.copies
        }
        surplus = {volume_id for volume_id, _ in topology.quarantined} - short
        self._unlike = {volume_id: self._unlike.get(volume_id, now) for volume_id in short | surplus}
        if now < self._next:
            return succeed(None)
        self._next = now + self.cluster.config.maintenance_interval
        work: Deferred[object] = Deferred.fromCoroutine(self._round(now))
        return work.addErrback(lambda failure: self.log.failure("during maintenance", failure))

    async def _round(self, now: float) -> None:
        due = tuple(v for v, since in self._unlike.items() if now - since >= self.cluster.config.maintenance_grace)
        for task in self.cluster.config.maintenance_tasks:
            if self._loop is None or not self.cluster.ledger.is_leader:
                return
            try:
                await self.run(task, apply=True, only=due if task == "fix.replication" else None)
            except (Locked, Unavailable) as error:
                self.log.info("maintenance waits: {reason}", reason=str(error))
            except WeedError as error:
                self.log.warn("maintenance, {task}: {reason}", task=task, reason=str(error))
