"""File keys: never one twice, never a wait for the disk but at the start."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.master.memory import MemoryLedger
from tests.master.scene import take
from weedtw.errors import NoRoom, Unavailable
from weedtw.master.keys import ABSURD, KeySequence
from weedtw.topology.state import MAX_KEY, ClusterState, RaiseKeys


class Giving(SynchronousTestCase):
    def take(self, keys: KeySequence, count: int = 1) -> int:
        result: int = self.successResultOf(Deferred.fromCoroutine(take(keys, count)))
        return result

    def test_keys_rise_without_gaps(self) -> None:
        keys = KeySequence(MemoryLedger(), size=10)
        assert [self.take(keys) for _ in range(25)] == list(range(1, 26))
        assert self.take(keys, 5) == 26
        assert self.take(keys) == 31

    def test_no_key_beyond_what_is_stored(self) -> None:
        ledger = MemoryLedger(slow=True)
        keys = KeySequence(ledger, size=10)
        first = Deferred.fromCoroutine(take(keys, 1))
        self.assertNoResult(first)
        assert keys.take_at_once(1) is None
        ledger.store_all()
        assert self.successResultOf(first) == 1

    def test_the_next_range_is_asked_for_before_this_one_is_used_up(self) -> None:
        ledger = MemoryLedger(slow=True)
        keys = KeySequence(ledger, size=10)
        Deferred.fromCoroutine(take(keys, 1))
        ledger.store_all()
        assert [keys.take_at_once(1) for _ in range(4)] == [2, 3, 4, 5]
        assert ledger.waiting == []
        assert keys.take_at_once(1) == 6
        assert len(ledger.waiting) == 1
        assert keys.take_at_once(1) == 7
        assert len(ledger.waiting) == 1
        ledger.store_all()
        assert [keys.take_at_once(1) for _ in range(8)] == list(range(8, 16))

    def test_many_wait_for_one_commit(self) -> None:
        ledger = MemoryLedger(slow=True)
        keys = KeySequence(ledger, size=100)
        results = [Deferred.fromCoroutine(take(keys, 10)) for _ in range(5)]
        assert len(ledger.waiting) == 1
        ledger.store_all()
        assert [self.successResultOf(result) for result in results] == [1, 11, 21, 31, 41]

    def test_a_successor_skips_what_was_committed(self) -> None:
        ledger = MemoryLedger()
        assert self.take(KeySequence(ledger, size=10)) == 1
        assert self.take(KeySequence(ledger, size=10)) == 11

    def test_a_range_given_up_is_not_used(self) -> None:
        ledger = MemoryLedger()
        keys = KeySequence(ledger, size=10)
        self.take(keys)
        keys.drop()
        assert keys.take_at_once(1) is None
        assert self.take(keys) == 11

    def test_a_range_that_is_not_the_continuation_replaces_this_one(self) -> None:
        ledger = MemoryLedger(slow=True)
        keys = KeySequence(ledger, size=10)
        Deferred.fromCoroutine(take(keys, 1))
        ledger.store_all()
        ledger.state, _ = ledger.state.apply(RaiseKeys(500))
        result = Deferred.fromCoroutine(take(keys, 10))
        ledger.store_all()
        assert self.successResultOf(result) == 501

    def test_when_the_ledger_fails_nobody_gets_a_key(self) -> None:
        ledger = MemoryLedger(slow=True)
        keys = KeySequence(ledger, size=10)
        results = [Deferred.fromCoroutine(take(keys, 1)) for _ in range(3)]
        ledger.fail_all()
        for result in results:
            self.failureResultOf(result, Unavailable)
        again = Deferred.fromCoroutine(take(keys, 1))
        ledger.store_all()
        assert self.successResultOf(again) == 1

    def test_the_end_of_all_keys(self) -> None:
        keys = KeySequence(MemoryLedger(ClusterState(key_high_water=MAX_KEY - 1)), size=10)
        assert self.take(keys) == MAX_KEY
        self.failureResultOf(Deferred.fromCoroutine(take(keys, 1)), NoRoom)


class Seeing(SynchronousTestCase):
    def saw(self, keys: KeySequence, key: int) -> bool:
        result: bool = self.successResultOf(Deferred.fromCoroutine(keys.saw(key)))
        return result

    def take(self, keys: KeySequence) -> int:
        result: int = self.successResultOf(Deferred.fromCoroutine(take(keys, 1)))
        return result

    def test_keys_go_on_above_what_was_seen(self) -> None:
        ledger = MemoryLedger()
        keys = KeySequence(ledger, size=10)
        assert self.saw(keys, 5000)
        assert ledger.state.key_high_water == 5000
        assert self.take(keys) == 5001

    def test_one_within_the_range_at_hand_needs_no_commit(self) -> None:
        ledger = MemoryLedger()
        keys = KeySequence(ledger, size=100)
        self.take(keys)
        commits = len(ledger.commands)
        assert self.saw(keys, 40)
        assert self.take(keys) == 41
        assert len(ledger.commands) == commits

    def test_what_was_given_out_changes_nothing(self) -> None:
        keys = KeySequence(MemoryLedger(), size=100)
        for _ in range(5):
            self.take(keys)
        assert self.saw(keys, 3)
        assert self.take(keys) == 6

    def test_one_seen_while_the_range_is_on_its_way(self) -> None:
        ledger = MemoryLedger(slow=True)
        keys = KeySequence(ledger, size=10)
        result = Deferred.fromCoroutine(take(keys, 1))
        Deferred.fromCoroutine(keys.saw(7))
        ledger.store_all()
        assert self.successResultOf(result) == 8

    def test_an_absurd_one_is_refused(self) -> None:
        ledger = MemoryLedger()
        keys = KeySequence(ledger, size=10)
        with capturedLogs() as logged:
            for key in (ABSURD, 1 << 63, MAX_KEY, ABSURD):
                assert not self.saw(keys, key)
        said = [formatEvent(event) for event in logged if event["log_level"] is LogLevel.error]
        self.assertEqual(len(said), 3)  # once each
        self.assertIn(f"a volume server reports the absurd file key {ABSURD:x}", said[0])
        assert self.take(keys) == 1
        assert self.saw(keys, ABSURD - 1)

    def test_one_of_our_own_is_never_absurd(self) -> None:
        ledger = MemoryLedger(ClusterState(key_high_water=ABSURD + 10))
        assert self.saw(KeySequence(ledger, size=10), ABSURD + 5)


STEPS = st.one_of(
    st.tuples(st.just("take"), st.integers(1, 12)),
    st.tuples(st.just("saw"), st.integers(0, 200)),
    st.tuples(st.just("store"), st.just(0)),
    st.tuples(st.just("fail"), st.just(0)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("drop"), st.just(0)),
)


class AnyHistory(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(STEPS, max_size=60))
    def test_no_key_twice_and_none_that_was_seen(self, steps: list[tuple[str, int]]) -> None:
        ledger = MemoryLedger(slow=True)
        keys = KeySequence(ledger, size=12)
        given_out: set[int] = set()
        highest_seen = 0

        def got(first: int, count: int, floor: int) -> None:
            fresh = set(range(first, first + count))
            assert not fresh & given_out
            assert first > floor
            assert first + count - 1 <= ledger.state.key_high_water
            given_out.update(fresh)

        for what, number in steps:
            if what == "take":
                taken = Deferred.fromCoroutine(take(keys, number))
                taken.addCallback(got, number, highest_seen)
                taken.addErrback(lambda failure: failure.trap(Unavailable))
            elif what == "saw":
                highest_seen = max(highest_seen, number)
                Deferred.fromCoroutine(keys.saw(number)).addErrback(lambda failure: failure.trap(Unavailable))
            elif what == "store":
                ledger.store_all()
            elif what == "fail":
                ledger.fail_all()
            elif what == "drop":
                keys.drop()
            else:  # what was not stored is lost, what was given out is not
                state, ledger = ledger.state, MemoryLedger(slow=True)
                ledger.state = state
                keys = KeySequence(ledger, size=12)
                highest_seen = 0
