"""Figures of the Raft: throughput, latency, failover, memory and restart, with real processes on loopback.

    python -m bench.raft [--quick] [--only throughput,kill,freeze,transfer,restart]
        [--sizes 1,3,5] [--times TIMES] [--timelines] [--folder FOLDER]

Every node is a process with its SQLite file in FOLDER (a new one in the system's temporary folder by default, which
must be a real disk for the figures to mean anything) and all settings at their defaults.  What is committed was
fsynced by a majority.
"""

import argparse
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.raft_cluster import Cluster

SIZE = 64  # bytes of a command


@attrs.frozen
class Plan:
    """How much is measured."""

    folder: str
    timelines: bool
    sizes: tuple[int, ...] = (1, 3, 5)
    seconds: float = 8.0  # of load
    kills: int = 50
    freezes: int = 10
    transfers: int = 20
    entries: int = 100_000

    def quick(self) -> "Plan":
        """The same in about a minute."""
        return attrs.evolve(self, sizes=(1, 3), seconds=2.0, kills=5, freezes=3, transfers=5, entries=10_000)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a title, aligned."""
    lines = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    print(f"\n{title}\n")
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("   ".join([line[0].ljust(widths[0]), *cells]).rstrip(), flush=True)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 0.1 else f"{1000 * seconds:.0f} ms"


# ------------------------------------------------------------------ throughput


def fsync_time(folder: str, count: int = 100) -> float:
    """Seconds that it takes to append a page to a file and fsync it, by the median."""
    spent = []
    with open(os.path.join(folder, "fsync"), "wb", buffering=0) as file:
        for _ in range(count):
            began = time.monotonic()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            spent.append(time.monotonic() - began)
    return quantile(spent, 0.5)


async def throughput(reactor: Any, plan: Plan) -> None:
    """Committed proposals a second and their latency."""
    rows = []
    for size in plan.sizes:
        cluster = Cluster(reactor, os.path.join(plan.folder, f"throughput{size}"), size)
        try:
            await cluster.start()
            leader = cluster.running[await cluster.leader()]
            for outstanding in (1, 64):
                load = {"size": SIZE, "outstanding": outstanding, "count": 1 << 30, "seconds": plan.seconds}
                await leader.ask("load", **{**load, "seconds": 0.5})
                done = await leader.ask("load", **load)
                spent = done["spent"]
                times = [milliseconds(quantile(spent, share)) for share in (0.5, 0.99)]
                rows.append((f"{size} of {size}", outstanding, f"{len(spent) / done['seconds']:.0f}/s", *times))
        finally:
            await cluster.stop()
    columns = ("nodes", "in flight", "committed", "p50", "p99")
    page = milliseconds(fsync_time(plan.folder))
    table(f"Throughput: commands of {SIZE} bytes; one page written and fsynced takes {page} here", columns, rows)


# ------------------------------------------------------------------ failover


async def kill(cluster: Cluster, leader: str) -> tuple[float, float]:
    began = time.monotonic()
    cluster.running[leader].signal(signal.SIGKILL)
    process = cluster.running.pop(leader)
    committed = await cluster.next_commit(cluster.running)
    await process.ended
    return began, committed


async def freeze(cluster: Cluster, leader: str) -> tuple[float, float]:
    began = time.monotonic()
    frozen = cluster.running[leader]
    frozen.signal(signal.SIGSTOP)
    try:
        return began, await cluster.next_commit(name for name in cluster.running if name != leader)
    finally:
        frozen.signal(signal.SIGCONT)


async def transfer(cluster: Cluster, leader: str) -> tuple[float, float]:
    began = time.monotonic()
    handed_over = cluster.running[leader].ask("hand_over")
    committed = await cluster.next_commit(cluster.running)
    await handed_over
    return began, committed


Trouble = Callable[[Cluster, str], Awaitable[tuple[float, float]]]


@attrs.frozen
class Goal:
    """Seconds until the next proposal is committed."""

    median: float | None
    worst: float

    def __str__(self) -> str:
        median = f"p50 {milliseconds(self.median)}, " if self.median else ""
        return f"{median}worst {milliseconds(self.worst)}"

    def verdict(self, spent: Sequence[float]) -> str:
        met = max(spent) <= self.worst and (self.median is None or quantile(spent, 0.5) <= self.median)
        return "met" if met else "MISSED"


async def failover(reactor: Any, plan: Plan, trouble: Trouble, times: int, goal: Goal) -> tuple[object, ...]:
    """One row a cluster size: the time from the trouble to the next commit."""
    rows = []
    for size in (n for n in plan.sizes if n > 1):
        cluster = Cluster(reactor, os.path.join(plan.folder, f"{trouble.__name__}{size}"), size)
        spent: list[float] = []
        slowest: list[tuple[float, str, str]] = []
        try:
            for _ in range(times):
                await cluster.start()
                began, committed = await trouble(cluster, await cluster.leader())
                spent.append(committed - began)
                if plan.timelines and spent[-1] == max(spent):
                    slowest = await cluster.timeline(cluster.running, began)
        finally:
            await cluster.stop()
        shown = [
            milliseconds(value) for value in (min(spent), quantile(spent, 0.5), quantile(spent, 0.9), max(spent))
        ]
        rows.append((trouble.__name__, size, times, *shown, goal, goal.verdict(spent)))
        if slowest:
            print(f"\nThe slowest {trouble.__name__} of {size} nodes ({milliseconds(max(spent))}):")
            for at, node, what in slowest:
                print(f"  {1000 * at:7.1f} ms  {node}: {what}")
    return tuple(rows)


def failover_of(*troubles: tuple[Trouble, str, Goal]) -> Callable[[Any, Plan], Awaitable[None]]:
    async def measure(reactor: Any, plan: Plan) -> None:
        rows: list[Any] = []
        for trouble, times, goal in troubles:
            rows += await failover(reactor, plan, trouble, getattr(plan, times), goal)
        columns = ("what befalls the leader", "nodes", "times", "best", "p50", "p90", "worst", "goal", "")
        table("From a trouble of the leader to the next committed proposal", columns, rows)

    return measure


# ------------------------------------------------------------------ memory and restart


async def restart(reactor: Any, plan: Plan) -> None:
    """Memory, and the time that a restarted single node needs until it has committed."""
    rows: list[tuple[object, ...]] = []
    never = 1 << 40
    for title, entries, every in (
        ("an empty log", 0, never),
        (f"{plan.entries:,} entries, all kept", plan.entries, never),
        (f"{plan.entries:,} entries, compacted", plan.entries, plan.entries // 10),
    ):
        folder = os.path.join(plan.folder, f"restart{len(rows)}")
        cluster = Cluster(reactor, folder, 1, {"snapshot_every": every})
        try:
            await cluster.start()
            load = {"size": SIZE, "outstanding": 1000, "count": entries, "seconds": 600}
            await cluster.running["n1"].ask("load", **load)
            before = cluster.running["n1"].memory()
            await cluster.kill("n1")
            process = cluster.spawn("n1")
            loading = await process.ready
            listening = time.monotonic() - process.began
            committed = await cluster.next_commit(["n1"]) - process.began
            times = [milliseconds(value) for value in (loading, listening, committed)]
            size = sum(os.path.getsize(cluster.path("n1") + end) for end in ("", "-wal"))
            memory = [f"{value / 2**20:.1f} MiB" for value in (size, before, process.memory())]
            rows.append((title, *memory, *times))
        finally:
            await cluster.stop()
    columns = ("the node's log", "file + WAL", "memory", "after a restart", "load", "until it listens", "commits")
    table("Memory and restart: one node, the times of the restart from the start of the process", columns, rows)


# ------------------------------------------------------------------ all of it

PARTS: dict[str, Callable[[Any, Plan], Awaitable[None]]] = {
    "throughput": throughput,
    "kill": failover_of((kill, "kills", Goal(0.150, 1.0))),
    "freeze": failover_of((freeze, "freezes", Goal(None, 1.5))),
    "transfer": failover_of((transfer, "transfers", Goal(None, 0.050))),
    "restart": restart,
}


async def measure(reactor: Any, plan: Plan, parts: Sequence[str]) -> None:
    for part in parts:
        await PARTS[part](reactor, plan)


def main() -> None:
    """Parse the options, measure, clean up."""
    parser = argparse.ArgumentParser(description="Measure the Raft.")
    parser.add_argument("--quick", action="store_true", help="less of everything, in about a minute")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, separated by commas")
    parser.add_argument("--sizes", help="of clusters, separated by commas")
    parser.add_argument("--times", type=int, help="how often the leader gets into each trouble")
    parser.add_argument("--timelines", action="store_true", help="show what happened in the slowest failovers")
    parser.add_argument("--folder", help="where the nodes' files go")
    options = parser.parse_args()
    parts = options.only.split(",")
    if not set(parts) <= PARTS.keys():
        parser.error(f"the parts are {', '.join(PARTS)}")
    folder = tempfile.mkdtemp(prefix="bench-raft-", dir=options.folder)
    plan = Plan(folder, options.timelines).quick() if options.quick else Plan(folder, options.timelines)
    if options.sizes:
        plan = attrs.evolve(plan, sizes=tuple(map(int, options.sizes.split(","))))
    if options.times:
        plan = attrs.evolve(plan, kills=options.times, freezes=options.times, transfers=options.times)
    try:
        react(lambda reactor: Deferred.fromCoroutine(measure(reactor, plan, parts)))
    except SystemExit as end:
        if not end.code:
            shutil.rmtree(folder)
        raise


if __name__ == "__main__":
    main()
