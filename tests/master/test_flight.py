"""Work that several wait for."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from weedtw.master.flight import Changes, Flight, outcomes


class Flying(SynchronousTestCase):
    def setUp(self) -> None:
        self.work: Deferred[int] = Deferred()
        self.flight = Flight.take_off(self.run_it())

    async def run_it(self) -> int:
        return await self.work

    def join(self) -> Deferred[int]:
        return Deferred.fromCoroutine(self.flight.join())

    def test_all_get_the_result(self) -> None:
        first, second = self.join(), self.join()
        self.assertNoResult(first)
        self.work.callback(7)
        assert [self.successResultOf(each) for each in (first, second, self.join())] == [7, 7, 7]

    def test_all_get_the_failure(self) -> None:
        first = self.join()
        self.work.errback(ValueError("no"))
        self.failureResultOf(first, ValueError)
        self.failureResultOf(self.join(), ValueError)

    def test_who_leaves_does_not_end_it(self) -> None:
        first, second = self.join(), self.join()
        first.addErrback(lambda _: None)
        first.cancel()
        assert not self.flight.is_over
        self.work.callback(7)
        assert self.successResultOf(second) == 7


class Changing(SynchronousTestCase):
    def test_a_change_ends_the_wait_of_all(self) -> None:
        clock = Clock()
        changes = Changes(clock)
        waiting = [Deferred.fromCoroutine(changes.wait(5)) for _ in range(2)]
        changes.announce()
        for each in waiting:
            self.successResultOf(each)
        assert clock.getDelayedCalls() == []

    def test_time_does_too(self) -> None:
        clock = Clock()
        waiting = Deferred.fromCoroutine(Changes(clock).wait(5))
        clock.advance(4.9)
        self.assertNoResult(waiting)
        clock.advance(0.2)
        self.successResultOf(waiting)


class AtTheSameTime(SynchronousTestCase):
    def test_what_came_of_each(self) -> None:
        async def half(number: int) -> float:
            return 1 / number

        first, second, third = self.successResultOf(Deferred.fromCoroutine(outcomes([half(1), half(0), half(2)])))
        assert (first, third) == (1, 0.5)
        assert isinstance(second, Failure)
        assert second.check(ZeroDivisionError)
