"""What thousands of volume servers cost a master, and how long another takes to follow it with so many.

    python -m bench.fleet [--servers 2000] [--volumes 500] [--only alone,takeover] [--kills 3] [--folder FOLDER]

The masters are real processes with the options' defaults; the volume servers are simulated in one further process and
report at the default pulse of 5 s.  First a master alone, with 3 of them and with all; then three masters, of which
the leader is killed while four clients ask for file ids as in `bench.failover`.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from bench.failover_clients import CLIENTS, Clients, Line, issued, twice
from bench.failover_cluster import HOST, WEEDTW, Cluster, Daemon, free_ports, get, wait_until
from bench.failover_troubles import Run, outage
from bench.raft import milliseconds, quantile, table

FEW = 3
GROWN = 5  # volumes that have grown at a pulse, where files are written
SETTLE, WINDOW, LOAD = 10.0, 30.0, 10.0  # seconds: before the figures are taken, of steady pulses, of assigns
PATIENT = attrs.evolve(WEEDTW, limit=900.0)


@attrs.frozen
class Plan:
    """How much is measured."""

    folder: Path
    servers: int
    volumes: int
    kills: int


class Fleet:
    """The process with the simulated volume servers, and what it last said."""

    def __init__(self, masters: Sequence[str], servers: int, volumes: int) -> None:
        words = [sys.executable, "-m", "bench.fleet_servers", ",".join(masters), str(servers), str(volumes)]
        self.servers = servers
        self.known = dict.fromkeys(masters, 0)
        self.acknowledged = self.lost = 0
        self.began = 0.0
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self.acknowledged, self.lost, self.began = said["acknowledged"], said["lost"], said["began"]
            self.known = said["known"]

    def grow(self, volumes: int) -> None:
        """From now on so many volumes of a server have grown at each of its pulses."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{volumes}\n")
        self._process.stdin.flush()

    def wait_until_known(self, *masters: str) -> float:
        """Wait until these masters know what all servers hold; the moment when that was."""
        wait_until(
            lambda: all(self.known[master] == self.servers for master in masters),
            f"{self.servers} servers are known to {', '.join(masters)}",
            PATIENT.limit,
        )
        return time.monotonic()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


# ------------------------------------------------------------------ one master


@attrs.frozen
class Steady:
    """A master over some seconds."""

    share: float  # of one core
    reports: float  # a second


def steady(master: Daemon, fleet: Fleet) -> Steady:
    time.sleep(SETTLE)
    began, computed, reports = time.monotonic(), master.processor_time(), fleet.acknowledged
    time.sleep(WINDOW)
    seconds = time.monotonic() - began
    return Steady((master.processor_time() - computed) / seconds, (fleet.acknowledged - reports) / seconds)


def load(address: str) -> list[float]:
    """Seconds that each assign took, with as many clients as there are in `bench.failover`, but without a pause."""
    spent: list[float] = []
    until = time.monotonic() + LOAD

    def ask() -> None:
        line = Line(address)
        while (began := time.monotonic()) < until:
            if issued(address, line.ask("GET", "/dir/assign", patience=10.0)) is not None:
                spent.append(time.monotonic() - began)
        line.close()

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spent


def of_one_core(seconds: float) -> str:
    return f"{seconds:.1%} of a core"


def mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def one_master(plan: Plan, servers: int) -> list[tuple[str, str]]:
    """The figures, each with its name."""
    address = f"{HOST}:{free_ports(1)[0]}"
    folder = plan.folder / f"alone{servers}"
    master = Daemon(address, WEEDTW.master(address, folder, [address]), folder)
    fleet: Fleet | None = None
    try:
        master.start()
        wait_until(lambda: get(address, "/cluster/status"), f"{address} is there", WEEDTW.limit)
        empty, computed = master.memory(), master.processor_time()
        fleet = Fleet([address], servers, plan.volumes)
        taken_in = fleet.wait_until_known(address) - fleet.began
        computed = master.processor_time() - computed
        lost = fleet.lost
        quiet = steady(master, fleet)
        memory = master.memory()
        fleet.grow(GROWN)
        busy = steady(master, fleet)
        fleet.grow(0)
        spent = load(address)
        return [
            ("until all were taken in", f"{taken_in:.1f} s"),
            ("of it the master computed", f"{computed:.1f} s"),
            ("connections lost meanwhile", str(lost)),
            ("pulses", f"{quiet.reports:.0f}/s"),
            ("a pulse with nothing new", of_one_core(quiet.share)),
            (f"a pulse with {GROWN} volumes that have grown", of_one_core(busy.share)),
            ("memory before", mebibytes(empty)),
            ("memory with all of them", mebibytes(memory)),
            ("memory at the end", mebibytes(master.memory())),
            (f"assigns meanwhile, {CLIENTS} clients", f"{len(spent) / LOAD:.0f}/s"),
            ("an assign, p50", milliseconds(quantile(spent, 0.5))),
            ("an assign, p99", milliseconds(quantile(spent, 0.99))),
            ("an assign, worst", milliseconds(max(spent))),
            ("connections lost in all", str(fleet.lost)),
        ]
    finally:
        if fleet is not None:
            fleet.stop()
        master.kill()


def alone(plan: Plan) -> None:
    few, all_of_them = one_master(plan, FEW), one_master(plan, plan.servers)
    rows = [(name, before, after) for (name, before), (_, after) in zip(few, all_of_them, strict=True)]
    table(f"One master; each server has {plan.volumes} volumes", ("", f"{FEW} servers", f"{plan.servers:,}"), rows)


# ------------------------------------------------------------------ three masters


def takeover(plan: Plan) -> None:
    cluster = Cluster(PATIENT, plan.folder / "takeover")
    cluster.volumes = []
    run = Run(PATIENT, plan.folder / "takeover", plan.kills)
    fleet: Fleet | None = None
    try:
        cluster.start()
        cluster.leader()
        fleet = Fleet(cluster.addresses, plan.servers, plan.volumes)
        taken_in = fleet.wait_until_known(*cluster.addresses) - fleet.began
        run.note(f"all were taken in after {taken_in:.1f} s")
        memory = [mebibytes(master.memory()) for master in cluster.masters.values()]
        outages, back = [], []
        with Clients(cluster.addresses) as clients:
            for number in range(1, plan.kills + 1):
                spent, leader = outage(run, cluster, clients, lambda at: cluster.masters[at].signal(signal.SIGKILL))
                cluster.masters[leader].kill()
                began = time.monotonic()
                cluster.masters[leader].start()
                back.append(fleet.wait_until_known(*cluster.addresses) - began)
                outages.append(spent)
                clients.addresses = cluster.addresses
                run.note(f"{number} of {plan.kills}: {spent:.3f} s; {back[-1]:.1f} s until the killed one knew all")
        rows = [
            ("until all were taken in by three", f"{taken_in:.1f} s"),
            ("memory of each", ", ".join(memory)),
            (f"without an id after kill -9, median of {plan.kills}", milliseconds(statistics.median(outages))),
            (f"without an id after kill -9, worst of {plan.kills}", milliseconds(max(outages))),
            ("until a new process knew all, worst", f"{max(back):.1f} s"),
            ("keys issued twice", str(twice(clients.books))),
            ("connections lost, the killed ones' included", str(fleet.lost)),
        ]
        table(f"Three masters; {plan.servers:,} servers with {plan.volumes} volumes each", ("", ""), rows)
    finally:
        if fleet is not None:
            fleet.stop()
        cluster.stop()


PARTS: dict[str, Callable[[Plan], None]] = {"alone": alone, "takeover": takeover}


def main() -> None:
    """Parse the options, measure, clean up."""
    parser = argparse.ArgumentParser(description="Measure masters with very many volume servers.")
    parser.add_argument("--servers", type=int, default=2000)
    parser.add_argument("--volumes", type=int, default=500, help="of each server")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, separated by commas")
    parser.add_argument("--kills", type=int, default=3, help="of the leader")
    parser.add_argument("--folder", help="where the masters' files go")
    parser.add_argument("--keep", action="store_true", help="leave the masters' files and logs there")
    options = parser.parse_args()
    parts = options.only.split(",")
    if not set(parts) <= PARTS.keys():
        parser.error(f"the parts are {', '.join(PARTS)}")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for the children as well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that they are ended as well
    folder = Path(tempfile.mkdtemp(prefix="bench-fleet-", dir=options.folder))
    print(f"{os.cpu_count()} cores, shared by masters, servers and clients; load before: {os.getloadavg()[0]:.1f}")
    try:
        for part in parts:
            PARTS[part](Plan(folder, options.servers, options.volumes, options.kills))
    finally:
        if options.keep:
            print(f"the masters' files and logs are in {folder}")
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
