"""Time as a daemon reckons it."""

import time

from twisted.internet.selectreactor import SelectReactor
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.steady import make_steady


class SteadyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = SelectReactor()
        self.addCleanup(self.reactor.disconnectAll)

    def came_after_setting_the_clock_back(self) -> bool:
        came: list[bool] = []
        self.reactor.callLater(0, came.append, True)
        self.patch(SelectReactor, "seconds", staticmethod(lambda: time.time() - 3600))
        self.reactor.runUntilCurrent()
        return bool(came)

    def test_what_is_due_comes_though_the_clock_is_set_back(self) -> None:
        make_steady(self.reactor)
        self.assertTrue(self.came_after_setting_the_clock_back())

    def test_otherwise_it_waits(self) -> None:
        self.assertFalse(self.came_after_setting_the_clock_back())

    def test_what_was_scheduled_before_still_comes(self) -> None:
        came: list[bool] = []
        self.reactor.callLater(0, came.append, True)
        make_steady(self.reactor)
        self.reactor.runUntilCurrent()
        self.assertEqual(came, [True])
