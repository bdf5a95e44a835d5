"""Every planted bug is caught.  Where the seed that is known to do it no longer does, others are tried.

`python -m tests.sim --mutants --seeds 8000` looks for those seeds from 0 on; that takes minutes.
"""

import sys
import time
import tomllib
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.sim.__main__ import row
from tests.sim.cluster import Outcome, run
from tests.sim.mutants import MUTANTS, Mutant, load
from tests.sim.subject import Subject

KNOWN: dict[str, int] = tomllib.loads((Path(__file__).parent / "kept_seeds.toml").read_text())["mutants"]
MORE = 150  # seeds to try when the known one does not help


def _catch(subject: Subject, known: int | None) -> Outcome | None:
    seeds = ([] if known is None else [known]) + list(range(MORE))
    return next((outcome for outcome in (run(seed, subject) for seed in seeds) if outcome.violation), None)


class Mutants(SynchronousTestCase):
    @pytest.mark.simulation
    def test_every_one_is_caught(self) -> None:
        missed = []
        sys.stdout.write("\n")
        for name in MUTANTS:
            began = time.monotonic()
            caught = _catch(load(name), KNOWN.get(name))
            sys.stdout.write(row(name, caught, time.monotonic() - began) + "\n")
            if caught is None or run(caught.seed).violation is not None:  # it must be the mutant's doing
                missed.append(name)
        self.assertEqual(missed, [])

    def test_every_one_has_a_known_seed_and_the_other_way_round(self) -> None:
        self.assertEqual(sorted(KNOWN), sorted(MUTANTS))

    def test_a_text_that_is_gone_or_no_longer_alone_is_noticed(self) -> None:
        for text in ("no such text anywhere", "self"):
            self.patch(sys.modules[load.__module__], "MUTANTS", {"broken": Mutant("core", text, "")})
            self.assertIn("not once", str(self.assertRaises(LookupError, load, "broken")))

    def test_a_mutant_leaves_the_original_alone(self) -> None:
        name = next(name for name, mutant in MUTANTS.items() if mutant.module == "core")
        subject = load(name)
        self.assertTrue(subject.core.RaftCore.__module__.startswith("weedtw_mutant_"))
        self.assertIsNone(run(KNOWN[name]).violation)
