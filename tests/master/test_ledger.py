"""The ledger of a cluster with one master: order, batches, failure."""

import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import NoRoom, Unavailable, WeedError, WriteFailed
from weedtw.master import ledger as ledger_module
from weedtw.master.ledger import SoloLedger
from weedtw.master.ledgerfile import LedgerFile
from weedtw.topology.state import MAX_KEY, AllocateVolumeIds, Command, ExtendKeys, KeyRange


class SlowThread:
    """Runs what it is given when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, work: Callable[[], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.waiting.append((work, done))
        assert len(self.waiting) == 1, "two writes at once"
        return done

    def run(self) -> None:
        ((work, done),) = self.waiting
        self.waiting = []
        execute(work).chainDeferred(done)


class Solo(SynchronousTestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        self.thread = SlowThread()
        self.failures: list[WeedError] = []
        self.file = LedgerFile.open(self.folder)
        self.addCleanup(self.file.close)
        self.ledger = SoloLedger(self.file, "m:1", self.thread, self.failures.append)

    def submit(self, command: Command) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.ledger.submit(command))

    def test_the_result_comes_when_it_is_stored_and_not_before(self) -> None:
        result = self.submit(ExtendKeys(100))
        self.assertNoResult(result)
        assert self.ledger.state.key_high_water == 0
        self.thread.run()
        assert self.successResultOf(result) == KeyRange(1, 100)
        assert self.ledger.state.key_high_water == 100
        assert LedgerFile.open(self.folder).state.key_high_water == 100

    def test_what_comes_while_the_disk_is_busy_goes_together_and_in_order(self) -> None:
        results = [self.submit(AllocateVolumeIds(1)) for _ in range(5)]
        self.thread.run()
        self.assertNoResult(results[1])
        self.thread.run()
        assert [self.successResultOf(result) for result in results] == [1, 2, 3, 4, 5]
        assert self.thread.waiting == []

    def test_a_command_that_cannot_be_done_fails_alone(self) -> None:
        self.submit(ExtendKeys(1))
        bad, good = self.submit(ExtendKeys(MAX_KEY + 1)), self.submit(AllocateVolumeIds(1))
        self.thread.run()
        self.thread.run()
        self.failureResultOf(bad, NoRoom)
        assert self.successResultOf(good) == 1

    def test_a_command_that_changes_nothing_on_disk_needs_no_disk(self) -> None:
        self.failureResultOf(self.submit(ExtendKeys(MAX_KEY + 1)), NoRoom)
        assert self.thread.waiting == []

    def test_a_disk_that_fails_ends_it(self) -> None:
        self.submit(ExtendKeys(1))
        self.thread.run()
        first, second = self.submit(ExtendKeys(2)), self.submit(ExtendKeys(3))
        self.file.close()
        self.thread.run()
        for result in (first, second, self.submit(ExtendKeys(4))):
            self.failureResultOf(result, Unavailable)
        assert [type(failure) for failure in self.failures] == [WriteFailed]
        assert not self.ledger.is_leader
        assert self.ledger.leader_address is None
        assert self.ledger.state.key_high_water == 1

    def test_anything_else_that_goes_wrong_ends_it_too(self) -> None:
        def broken(work: Callable[[], None]) -> Deferred[None]:
            raise RuntimeError("no threads")

        ledger = SoloLedger(self.file, "m:1", broken, self.failures.append)
        self.failureResultOf(Deferred.fromCoroutine(ledger.submit(ExtendKeys(1))), Unavailable)
        assert "no threads" in str(self.failures[0])

    def test_one_who_left_does_not_disturb_the_others(self) -> None:
        first, second = self.submit(ExtendKeys(1)), self.submit(ExtendKeys(2))
        first.addErrback(lambda _: None)
        first.cancel()
        self.thread.run()
        self.thread.run()
        assert self.successResultOf(second) == KeyRange(2, 2)

    def test_closing_waits_for_what_was_submitted(self) -> None:
        first, second = self.submit(ExtendKeys(1)), self.submit(ExtendKeys(2))
        closed = Deferred.fromCoroutine(self.ledger.close())
        self.failureResultOf(self.submit(ExtendKeys(3)), Unavailable)
        self.assertNoResult(closed)
        self.thread.run()
        self.thread.run()
        self.successResultOf(closed)
        assert [self.successResultOf(first), self.successResultOf(second)] == [KeyRange(1, 1), KeyRange(2, 2)]
        with pytest.raises(WriteFailed):
            self.file.append(0, [ExtendKeys(9)], self.file.state, snapshot=False)

    def test_the_log_is_folded_into_a_snapshot_now_and_then(self) -> None:
        self.patch(ledger_module, "SNAPSHOT_EVERY", 50)
        ledger = SoloLedger(self.file, "m:1", execute, self.failures.append)
        for n in range(1, 53):
            self.successResultOf(Deferred.fromCoroutine(ledger.submit(ExtendKeys(n))))
        again = LedgerFile.open(self.folder)
        assert again.in_log == 2
        assert again.state == ledger.state
        assert again.number == 52
