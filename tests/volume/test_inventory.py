"""What the disks hold, told at once."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from weedtw.http.metrics import Gauge, gauge
from weedtw.volume.inventory import PATIENCE, Inventory


class Inventories(SynchronousTestCase):
    logged: list[LogEvent] = []  # noqa: RUF012 - replaced for each test

    @pytest.fixture(autouse=True)
    def expect_failures(self, logged_failures: list[LogEvent]) -> None:
        self.logged = logged_failures

    def setUp(self) -> None:
        self.clock = Clock()
        self.looks: list[Deferred[list[Gauge]]] = []
        self.inventory = Inventory(self.look, self.clock)

    def look(self) -> Deferred[list[Gauge]]:
        self.looks.append(Deferred())
        return self.looks[-1]

    def ask(self) -> Deferred[list[Gauge]]:
        return Deferred.fromCoroutine(self.inventory.numbers())

    def values(self, numbers: list[Gauge]) -> dict[str, list[float]]:
        return {each.name: [value for _, value in each.rows] for each in numbers}

    def test_of_disks_that_answer(self) -> None:
        asked = self.ask()
        self.looks[0].callback([gauge("x", "", 7)])
        told = self.values(self.successResultOf(asked))
        self.assertEqual(told, {"x": [7], "weedtw_volume_inventory_age_seconds": [0.0]})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_of_disks_that_do_not(self) -> None:
        """Nobody waits for them, and nobody asks them twice."""
        first = self.ask()
        self.clock.advance(PATIENCE)
        self.assertEqual(self.values(self.successResultOf(first)), {"weedtw_volume_inventory_age_seconds": []})
        second = self.ask()
        self.clock.advance(PATIENCE)
        self.successResultOf(second)
        self.assertEqual(len(self.looks), 1)

    def test_what_was_known_before(self) -> None:
        self.ask()
        self.looks[0].callback([gauge("x", "", 7)])
        self.clock.advance(5)
        asked = self.ask()
        self.clock.advance(PATIENCE)
        told = self.values(self.successResultOf(asked))
        self.assertEqual(told, {"x": [7], "weedtw_volume_inventory_age_seconds": [5 + PATIENCE]})

    def test_several_who_ask(self) -> None:
        asked = [self.ask(), self.ask()]
        self.looks[0].callback([])
        for each in asked:
            self.successResultOf(each)
        again = self.ask()
        self.assertEqual(len(self.looks), 2)
        self.looks[1].callback([])
        self.successResultOf(again)

    def test_somebody_who_leaves(self) -> None:
        leaving, staying = self.ask(), self.ask()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.looks[0].callback([])
        self.successResultOf(staying)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_looking_that_goes_wrong(self) -> None:
        asked = self.ask()
        self.looks[0].errback(ValueError("broken"))
        self.successResultOf(asked)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.logged.clear()
