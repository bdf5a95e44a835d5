"""`python -m tests.sim.failover`: how long a cluster is without a leader once one is killed, over many seeds.

Simulated, with the core's default settings: no clock is read, so that it shows what the rules of elections cost, and
a change of them can be judged.  `bench/raft.py` measures real processes.
"""

import argparse
import sys

import attrs

from tests.sim.cluster import Cluster
from tests.sim.plan import Plan, Weather
from tests.sim.process import Process
from weedtw.raft.core import Settings
from weedtw.raft.messages import Message

TICK = 20  # ms
NOTICED = 2.0  # ticks at most until a follower learns that the leader's process is gone

# Of messages, and of writes: how many ticks they take on average, and how many of them ten times as long.
CONDITIONS = {
    "an idle machine": (Weather(delay=0.02), 0.1, 0.0),
    "a busy machine": (Weather(delay=0.1, late=0.1, latest=3.0), 0.5, 0.1),
    "a slow disk": (Weather(delay=0.02), 3.0, 0.1),
}


class Doomed(Cluster):
    """A cluster without faults but one: its leader is killed."""

    def connection_lost(self, node: str, peer: str) -> None:
        """Noticed by each of the others at its own time, as processes do that wait for a core."""
        process = self.processes[node]
        noticed = self._rng.random() ** 3 * NOTICED
        self.schedule.after(noticed, process.do, self._lost, process, peer)
        self.schedule.after(noticed + 0.05, process.do, self._retry, process, peer)

    def _deliver(self, message: Message) -> None:
        """A connection has not ended before all that came on it is read: nobody hears of the dead after that."""
        if self.processes[message.sender].alive:
            super()._deliver(message)

    def replaced_after(self) -> float:
        """Ticks from the leader's end to the next leader; the dead one stays dead."""
        for process in self.processes.values():
            self.schedule.after(self._rng.random() * self.plan.election, self.restart, process)
        old = self._await_leader(None)
        self.schedule.run_until(self.schedule.now + 50 + 5 * self._rng.random())
        self.calm = True  # nobody comes back
        self.network.weather = self.plan.weather
        died = self.schedule.now
        old.die("crash")
        self.calm = False  # the disk's slow moments go on
        self._await_leader(old)
        return self.schedule.now - died

    def _await_leader(self, other_than: Process | None) -> Process:
        while True:
            for process in self.processes.values():
                if process is not other_than and process.alive and process.core.role.name == "leader":
                    return process
            self.schedule.run_until(self.schedule.now + 0.05)


def measure(voters: int, condition: str, seed: int) -> float:
    """One killed leader."""
    weather, save, slow_saves = CONDITIONS[condition]
    settings = attrs.asdict(Settings())
    plan = attrs.evolve(
        Plan.draw(seed),
        voters=voters,
        learners=0,
        first_snapshot=0,
        settings=settings,
        drift=0.0,
        stride=1,
        weather=weather,
        calm=weather,
        save=save,
        slow_saves=slow_saves,
        eager=0.0,
        quick_election=True,
    )
    return Doomed(plan).replaced_after()


def main(arguments: list[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.failover", description="Kill leaders.")
    parser.add_argument("--seeds", type=int, default=1000)
    options = parser.parse_args(arguments)
    print(f"{'':18} nodes   p50   p90   p99   worst   ({TICK} ms a tick, {options.seeds} times each)")
    for condition in CONDITIONS:
        for voters in (3, 5):
            times = sorted(TICK * measure(voters, condition, seed) for seed in range(options.seeds))
            p50, p90, p99 = (times[int(len(times) * part)] for part in (0.5, 0.9, 0.99))
            print(f"{condition:18} {voters:5} {p50:5.0f} {p90:5.0f} {p99:5.0f} {times[-1]:7.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
