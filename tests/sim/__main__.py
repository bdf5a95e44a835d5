"""`python -m tests.sim`: run seeds, count what happened, show what failed.

python -m tests.sim --seeds 0..100000 --jobs 2
python -m tests.sim --seed 4711                   # one seed, with its trace
python -m tests.sim --mutants --seeds 8000        # which seed is the first to catch each planted bug
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.sim.cluster import Outcome, run
from tests.sim.mutants import MUTANTS, load
from tests.sim.plan import Plan
from tests.sim.subject import ORIGINAL


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 when nothing was violated, or when every mutant was caught."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _show(options.seed, options.mutant)
    if options.mutants:
        return _hunt(options.seeds)
    return _run_many(options.seeds, options.jobs, options.mutant)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Simulate Raft clusters in trouble.")
    parser.add_argument("--seed", type=int, help="run one seed and print its trace")
    parser.add_argument("--seeds", type=_seeds, default=range(1000), help="run FROM..TO (TO excluded), or just TO")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="plant this bug first")
    parser.add_argument(
        "--mutants", action="store_true", help="look for the first seed that catches each planted bug"
    )
    return parser


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    return range(int(first), int(last)) if dots else range(int(text))


def _show(seed: int, mutant: str | None) -> int:
    outcome = run(seed, load(mutant) if mutant else ORIGINAL, traced=True)
    print(Plan.draw(seed))
    print(*outcome.trace, sep="\n")
    print(f"seed {seed}: {outcome.violation or 'every invariant holds'}")
    return int(outcome.violation is not None)


def _run_many(seeds: range, jobs: int, mutant: str | None) -> int:
    began = time.monotonic()
    totals: Counter[str] = Counter()
    failed = 0
    for outcome in _outcomes(seeds, jobs, mutant):
        totals += outcome.counts
        if outcome.violation is not None:
            failed += 1
            again = f"python -m tests.sim --seed {outcome.seed}" + (f" --mutant '{mutant}'" if mutant else "")
            print(f"seed {outcome.seed}: {outcome.violation}\n    again: {again}", flush=True)
    seconds = time.monotonic() - began
    for name in sorted(totals):
        print(f"{totals[name]:12,}  {name}")
    print(f"{len(seeds)} seeds in {seconds:.0f} s ({len(seeds) / seconds:.1f} a second), {failed} failed")
    return int(failed > 0)


def _outcomes(seeds: range, jobs: int, mutant: str | None) -> Iterator[Outcome]:
    if jobs == 1:
        subject = load(mutant) if mutant else ORIGINAL
        yield from (run(seed, subject) for seed in seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(_one, ((seed, mutant) for seed in seeds), chunksize=50)


def _one(task: tuple[int, str | None]) -> Outcome:
    seed, mutant = task
    return run(seed, load(mutant) if mutant else ORIGINAL)


def _hunt(seeds: range) -> int:
    missed = 0
    for name in MUTANTS:
        began = time.monotonic()
        subject = load(name)
        caught = next((outcome for outcome in (run(seed, subject) for seed in seeds) if outcome.violation), None)
        missed += caught is None
        print(row(name, caught, time.monotonic() - began), flush=True)
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} planted bugs caught")
    return int(missed > 0)


def row(name: str, caught: Outcome | None, seconds: float) -> str:
    """A line of the table of mutants."""
    if caught is None or caught.violation is None:
        return f"{name:52} {'missed':>7} {seconds:7.1f} s"
    return f"{name:52} {caught.seed:7} {seconds:7.1f} s  {caught.violation.invariant}"


if __name__ == "__main__":
    sys.exit(main())
