"""A dead leader is replaced within a few round trips, whichever survivor learns of it first; see `failover`."""

from twisted.trial.unittest import SynchronousTestCase

from tests.sim.failover import TICK, measure


class Failover(SynchronousTestCase):
    def worst(self, condition: str, voters: int) -> float:
        """Milliseconds."""
        return max(TICK * measure(voters, condition, seed) for seed in range(150))

    def test_on_an_idle_machine(self) -> None:
        """Split votes cost no election timeout, which is 500 ms at least."""
        for voters in (3, 4, 5):
            self.assertLess(self.worst("an idle machine", voters), 200)

    def test_on_a_busy_machine(self) -> None:
        """Nor where messages are late, and some writes take ten times as long as others."""
        for voters in (3, 5):
            self.assertLess(self.worst("a busy machine", voters), 500)
