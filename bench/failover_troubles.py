"""What can befall three masters, and what it does to clients that ask for file ids."""

import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs

from bench.failover_clients import PATIENCE, Clients, Issued, Line, issued, keys, longest_gap, twice
from bench.failover_cluster import Cluster, Missed, System, wait_until

LATE = 4  # requests that wait at a frozen master, sent when it freezes, and as many before it goes on
ASKED_FOR = 5.0  # seconds for which a master without majority is asked


@attrs.define
class Measured:
    """What one trouble did to one system."""

    outages: list[float] = attrs.Factory(list)  # seconds, a round each
    keys: int = 0  # issued
    twice: int = 0  # of them, such as had been issued before
    without_majority: list[int] = attrs.Factory(list)  # ids, a case each
    refusals: int = 0  # requests that brought no id
    missed: str = ""  # why it was given up

    def figures(self) -> tuple[float, float]:
        """The median and the worst outage; endless ones when none ended."""
        outages = self.outages or [float("inf")]
        return statistics.median(outages), max(outages)

    def add(self, clients: Clients) -> None:
        """What the clients have in their books at the end."""
        self.keys += keys(clients.books)
        self.twice += twice(clients.books)
        self.refusals += clients.refusals + clients.silences


@attrs.frozen
class Run:
    """One trouble, some rounds of it, for one system."""

    system: System
    folder: Path
    rounds: int

    def note(self, text: str) -> None:
        print(f"  {self.system.name}: {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------ the leader gets into trouble


def outage(run: Run, cluster: Cluster, clients: Clients, trouble: Callable[[str], None]) -> tuple[float, str]:
    """Let something happen to the leader; the longest time without ids, and who led before."""
    leader = cluster.ready()
    time.sleep(random.uniform(0, 0.3))  # at any moment between two heartbeats
    survivors = [address for address in cluster.addresses if address != leader]
    began = time.monotonic()
    clients.addresses = tuple(survivors)
    trouble(leader)
    wait_until(lambda: cluster.leader_among(survivors), "another master leads", run.system.limit)
    elected = time.monotonic()
    wait_until(lambda: clients.got_after(elected), "ids come again", run.system.limit)
    time.sleep(run.system.watch)
    return longest_gap(clients.books, began), leader


def kill(run: Run, cluster: Cluster, clients: Clients) -> float:
    spent, leader = outage(run, cluster, clients, lambda leader: cluster.masters[leader].signal(signal.SIGKILL))
    cluster.masters[leader].kill()
    cluster.masters[leader].start()
    clients.addresses = cluster.addresses
    return spent


def term(run: Run, cluster: Cluster, clients: Clients) -> float:
    spent, leader = outage(run, cluster, clients, lambda leader: cluster.masters[leader].signal(signal.SIGTERM))
    cluster.masters[leader].wait(run.system.limit)
    cluster.masters[leader].start()
    clients.addresses = cluster.addresses
    return spent


def stop(run: Run, cluster: Cluster, clients: Clients) -> float:
    late: list[Line] = []

    def ask_late(leader: str) -> None:
        lines = [Line(leader) for _ in range(LATE)]
        for line in lines:
            line.send("GET", "/dir/assign", patience=10.0)
        late.extend(lines)

    def freeze(leader: str) -> None:
        cluster.masters[leader].signal(signal.SIGSTOP)
        ask_late(leader)

    spent, leader = outage(run, cluster, clients, freeze)
    ask_late(leader)
    clients.addresses = cluster.addresses
    cluster.masters[leader].signal(signal.SIGCONT)
    answered = [entry for line in late if (entry := late_answer(line)) is not None]
    clients.books.extend(answered)
    run.note(f"the frozen leader, going on, answered {len(answered)} of {len(late)} requests with ids")
    return spent


def late_answer(line: Line) -> Issued | None:
    try:
        return issued(line.address, line.answer())
    except OSError:
        return None
    finally:
        line.close()


def rounds_of(trouble: Callable[[Run, Cluster, Clients], float]) -> Callable[[Run], Measured]:
    """Rounds of a trouble in one cluster."""

    def measure(run: Run) -> Measured:
        measured = Measured()
        cluster = Cluster(run.system, run.folder)
        try:
            cluster.start()
            cluster.ready()
            with Clients(cluster.addresses) as clients:
                try:
                    for number in range(1, run.rounds + 1):
                        measured.outages.append(trouble(run, cluster, clients))
                        run.note(f"{trouble.__name__} {number} of {run.rounds}: {measured.outages[-1]:.3f} s")
                    cluster.ready()
                finally:
                    measured.add(clients)
        except Missed as missed:
            measured.missed = str(missed)
            run.note(measured.missed)
        finally:
            cluster.stop()
        return measured

    return measure


# ------------------------------------------------------------------ starts


def fresh(run: Run) -> Measured:
    """From the start of six processes in empty folders to the first id."""
    measured = Measured()
    for number in range(1, run.rounds + 1):
        cluster = Cluster(run.system, run.folder / str(number))
        try:
            with Clients(cluster.addresses) as clients:
                began = cluster.start()
                wait_until(partial(clients.got_after, began), "a first id", run.system.limit)
                spent = cluster.processor_time()
            measured.outages.append(min(entry.at for entry in clients.books) - began)
            measured.add(clients)
            run.note(f"fresh {number} of {run.rounds}: {measured.outages[-1]:.3f} s, {spent:.1f} s of processor time")
        except Missed as missed:
            measured.missed = str(missed)
            run.note(measured.missed)
        finally:
            cluster.stop()
    return measured


def all_killed(run: Run, cluster: Cluster, clients: Clients) -> float:
    """All masters are killed and started again at once; the volume servers go on."""
    cluster.ready()
    began = time.monotonic()
    for master in cluster.masters.values():
        master.signal(signal.SIGKILL)
    for master in cluster.masters.values():
        master.kill()
    killed = time.monotonic()
    for master in cluster.masters.values():
        master.start()
    wait_until(lambda: clients.got_after(killed), "ids come again", run.system.limit)
    time.sleep(run.system.watch)
    return longest_gap(clients.books, began)


# ------------------------------------------------------------------ no majority


def majority(run: Run) -> Measured:
    """Two of three masters are frozen or killed: ids that the last one issues when it has had the time to know."""
    measured = Measured()
    cluster = Cluster(run.system, run.folder)
    try:
        cluster.start()
        with Clients(cluster.addresses) as clients:
            try:
                for number in (signal.SIGSTOP, signal.SIGKILL):
                    for is_leader_left in (True, False):
                        measured.without_majority.append(alone(run, cluster, clients, number, is_leader_left))
            finally:
                measured.add(clients)
    except Missed as missed:
        measured.missed = str(missed)
        run.note(measured.missed)
    finally:
        cluster.stop()
    return measured


def alone(run: Run, cluster: Cluster, clients: Clients, number: signal.Signals, is_leader_left: bool) -> int:
    """Leave one master without the others for a while, and bring them back; the ids that it issued too late."""
    leader = cluster.ready()
    follower = next(address for address in cluster.addresses if address != leader)
    left = leader if is_leader_left else follower
    others = [master for address, master in cluster.masters.items() if address != left]
    clients.addresses, clients.patience = (left,), ASKED_FOR  # an answer that comes late is one all the same
    began = time.monotonic()
    for master in others:
        master.signal(number)
    time.sleep(run.system.grace)
    asked = time.monotonic()
    time.sleep(ASKED_FOR)
    late = keys(clients.since(asked))
    last = max((entry.at for entry in clients.since(began)), default=began) - began
    who = "the leader" if is_leader_left else "a follower"
    run.note(f"{number.name} of two, {who} left: last id after {last:.2f} s, {late} ids after {run.system.grace:g} s")
    for master in others:
        if number == signal.SIGSTOP:
            master.signal(signal.SIGCONT)
        else:
            master.kill()
            master.start()
    clients.addresses, clients.patience = cluster.addresses, PATIENCE
    return late
