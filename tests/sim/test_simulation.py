"""Some thousands of clusters in trouble, and what is asked of the simulator itself."""

import os
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.sim.cluster import run
from tests.sim.mutants import load
from tests.sim.plan import FAULTS

ROOT = Path(__file__).parents[2]
SEEDS = 2000
FILE = tomllib.loads((Path(__file__).parent / "kept_seeds.toml").read_text())
KEPT, QUIET = FILE["kept"], FILE["quiet"]["seeds"]
# What some hundred runs must have seen, besides every kind of fault.
EVENTS = (
    "change: AddLearner",
    "change: ChangeAddress",
    "change: Demote",
    "change: Promote",
    "change: Remove",
    "compactions",
    "death: EIO",
    "death: ENOSPC",
    "death: crash at a point",
    "death: wiped",
    "held back",
    "index reads",
    "lease reads",
    "reads failed",
    "recovered with one deaf",
    "refused",
    "snapshots restored",
    "step downs",
    "transfers",
    "write refused: TooBusy",
)


def _simulate(*arguments: str, hash_seed: str = "0") -> "subprocess.CompletedProcess[str]":
    """In a process of its own, as one does by hand."""
    command = [sys.executable, "-m", "tests.sim", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


class Simulation(SynchronousTestCase):
    @pytest.mark.simulation
    def test_no_seed_breaks_an_invariant(self) -> None:
        done = _simulate("--seeds", str(SEEDS), "--jobs", str(os.cpu_count()))
        sys.stdout.write(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_bugs_that_it_has_found_are_gone_and_would_be_found_again(self) -> None:
        for kept in KEPT:
            self.assertIsNone(run(kept["seed"]).violation, kept["story"])
            self.assertIsNotNone(run(kept["seed"], load(kept["mutant"])).violation, kept["story"])

    def test_what_was_the_simulator_s_own_fault_is_quiet(self) -> None:
        self.assertEqual([seed for seed in QUIET if run(seed).violation is not None], [])

    @pytest.mark.simulation
    def test_everything_happens(self) -> None:
        counts: Counter[str] = Counter()
        for seed in range(300):
            counts += run(seed).counts
        expected = [f"fault: {kind}" for kind in FAULTS] + list(EVENTS)
        self.assertEqual([event for event in expected if not counts[event]], [])

    def test_a_seed_gives_the_same_trace_under_every_hash_seed(self) -> None:
        for seed in ("3", "12"):
            first, second = (_simulate("--seed", seed, hash_seed=hash_seed).stdout for hash_seed in ("1", "2"))
            self.assertIn("every invariant holds", first)
            self.assertEqual(first, second)

    def test_a_failing_seed_is_named_and_can_be_replayed(self) -> None:
        bug = ("--mutant", "quorum off by one")
        done = _simulate("--seeds", "0..3", *bug)
        self.assertEqual(done.returncode, 1)
        self.assertIn("again: python -m tests.sim --seed 0 --mutant 'quorum off by one'", done.stdout)
        again = _simulate("--seed", "0", *bug)
        self.assertEqual(again.returncode, 1)
        self.assertIn(again.stdout.splitlines()[-1], done.stdout)
