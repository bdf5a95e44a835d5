"""Measures weedtw and, where it is installed, SeaweedFS's `weed` in turn, on the paths that clients use all the time.

    python -m bench.data_path [--seconds 4] [--rounds 3] [--only get,put] [--weed PATH | --alone] [--path klein]

Needs wrk.  Each system runs one master and two volume servers of one rack on loopback; what is not measured idles
meanwhile.  Every row is measured in each round, on one system right after the other, so that what else the machine
does falls on both.  The table has the median of the rounds.  CPU is that of the asked daemons, by /proc/PID/stat; for
replicated writes that of both volume servers.  In the rows that end in -2 both volume servers are asked at the same
time, by half of the connections each, as by clients that take their ids from the master.  `--path klein` makes weedtw
answer everything through Klein.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence

import attrs
from rich.console import Console
from rich.table import Table

from bench.data_path_cluster import Running, System, seaweedfs, weedtw
from bench.data_path_load import CASES, Case, Figures, measure, prepare


@attrs.define
class Rounds:
    """What was measured of one case on one system."""

    figures: list[Figures] = attrs.Factory(list)

    def median(self, name: str) -> float:
        """The middle one of the rounds."""
        return float(statistics.median(getattr(each, name) for each in self.figures))

    @property
    def errors(self) -> int:
        """Answers that were no success, and connections that failed, in all rounds."""
        return sum(each.errors for each in self.figures)


def main() -> None:
    """Start both, measure, print, stop."""
    options = _options()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed (Debian: apt-get install wrk)")
    systems = [weedtw(options.path)]
    weed = options.weed or shutil.which("weed") or _beside_python("weed")
    if weed and not options.alone:
        systems.append(seaweedfs(weed))
    wanted = options.only.split(",") if options.only else [case.name for case in CASES]
    cases = [case for case in CASES if case.name in wanted]
    with tempfile.TemporaryDirectory(prefix="weedtw-bench-", dir=options.folder) as folder:
        running: list[Running] = []
        try:
            for system in systems:  # one by one: if the second does not start, the first is to be stopped
                running.append(system.start(os.path.join(folder, system.name)))
                prepare(running[-1], cases)
            results = _measure_all(running, cases, options.rounds, options.seconds)
        finally:
            for each in running:
                each.stop()
    _print(systems, cases, results)


def _measure_all(
    running: Sequence[Running], cases: Sequence[Case], rounds: int, seconds: float
) -> dict[tuple[str, str], Rounds]:
    results = {(each.system.name, case.name): Rounds() for each in running for case in cases}
    for _ in range(rounds):
        for case in cases:
            for each in running:
                figures = measure(each, case, seconds)
                results[each.system.name, case.name].figures.append(figures)
                print(f"{case.name:12} {each.system.name:10} {figures}", file=sys.stderr, flush=True)
    return results


def _print(systems: Sequence[System], cases: Sequence[Case], results: dict[tuple[str, str], Rounds]) -> None:
    table = Table("what", "system", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "errors", title="data path")
    for case in cases:
        of = [results[system.name, case.name] for system in systems]
        for system, rounds in zip(systems, of, strict=True):
            table.add_row(
                case.name,
                system.name,
                f"{rounds.median('rate'):,.0f}",
                f"{rounds.median('p50'):.2f}",
                f"{rounds.median('p99'):.2f}",
                f"{rounds.median('cpu'):.1f}",
                str(rounds.errors),
            )
        if len(of) == 2:
            ratio = {name: of[0].median(name) / of[1].median(name) for name in ("rate", "p50", "p99", "cpu")}
            table.add_row("", "ratio", *(f"×{ratio[name]:.2f}" for name in ("rate", "p50", "p99", "cpu")), "")
        table.add_section()
    Console(width=100).print(table)


def _beside_python(name: str) -> str | None:
    path = os.path.join(os.path.dirname(sys.executable), name)
    return path if os.access(path, os.X_OK) else None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="weedtw and SeaweedFS on the data path")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="cases, with commas between: " + ",".join(case.name for case in CASES))
    parser.add_argument("--weed", help="path of the weed binary (default: the one that is found)")
    parser.add_argument("--alone", action="store_true", help="weedtw only")
    parser.add_argument("--path", choices=("klein",), help="how weedtw is to answer")
    parser.add_argument(
        "--folder", default=None, help="where the volumes go (default: the system's temporary folder)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
