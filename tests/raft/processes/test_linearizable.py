"""The checker, with histories that it must accept and others that it must refuse."""

import itertools
import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.processes.linearizable import Operation, apply, is_linearizable, violation


def op(verb: str, number: int, called: float, returned: float = math.inf, answer: int | None = None) -> Operation:
    if answer is None and verb == "set" and returned < math.inf:
        answer = number
    return Operation(verb, "k", number, called, returned, answer)


def get(answer: int, called: float, returned: float) -> Operation:
    return op("get", 0, called, returned, answer)


def brute_force(operations: list[Operation]) -> bool:
    """Every order of every choice of unanswered operations."""
    sure = [o for o in operations if o.returned < math.inf]
    unsure = [o for o in operations if o.returned == math.inf]
    for count in range(len(unsure) + 1):
        for chosen in itertools.combinations(unsure, count):
            for order in itertools.permutations(sure + list(chosen)):
                state = 0
                for position, operation in enumerate(order):
                    if any(later.returned < operation.called for later in order[position + 1 :]):
                        break
                    state = apply(state, operation)
                    if operation.answer is not None and operation.answer != state:
                        break
                else:
                    return True
    return False


class CheckerTests(SynchronousTestCase):
    def check_accepted(self, *operations: Operation) -> None:
        self.assertTrue(is_linearizable(operations))
        self.assertTrue(brute_force(list(operations)))

    def check_refused(self, *operations: Operation) -> None:
        self.assertFalse(is_linearizable(operations))
        self.assertFalse(brute_force(list(operations)))

    def test_nothing(self) -> None:
        self.check_accepted()
        self.check_accepted(get(0, 0, 1))

    def test_one_after_the_other(self) -> None:
        self.check_accepted(op("set", 1, 0, 1), get(1, 2, 3), op("add", 2, 4, 5, 3), get(3, 6, 7))

    def test_a_stale_read(self) -> None:
        self.check_refused(op("set", 1, 0, 1), op("set", 2, 2, 3), get(1, 4, 5))

    def test_a_read_may_see_either_while_a_write_is_under_way(self) -> None:
        self.check_accepted(op("set", 1, 0, 10), get(0, 1, 2), get(1, 3, 4))
        self.check_refused(op("set", 1, 0, 10), get(1, 1, 2), get(0, 3, 4))

    def test_a_read_from_nowhere(self) -> None:
        self.check_refused(op("set", 1, 0, 1), get(7, 2, 3))

    def test_a_lost_write(self) -> None:
        self.check_refused(op("set", 1, 0, 1), get(0, 2, 3))

    def test_an_increment_that_counted_twice(self) -> None:
        self.check_refused(op("add", 1, 0, 1, 1), get(2, 2, 3))

    def test_two_increments_that_became_one(self) -> None:
        self.check_refused(op("add", 1, 0, 3, 1), op("add", 1, 0, 3, 1))
        self.check_accepted(op("add", 1, 0, 3, 1), op("add", 1, 0, 3, 2))

    def test_an_unanswered_write_may_come_at_any_time_or_never(self) -> None:
        self.check_accepted(op("set", 1, 0), get(0, 1, 2))
        self.check_accepted(op("set", 1, 0), get(0, 1, 2), get(1, 3, 4))
        self.check_accepted(op("set", 1, 0), op("set", 2, 1, 2), get(1, 3, 4))
        self.check_refused(op("set", 1, 0), get(1, 1, 2), get(0, 3, 4))
        self.check_refused(get(1, 0, 1), op("set", 1, 2))

    def test_an_unanswered_increment_comes_at_most_once(self) -> None:
        self.check_accepted(op("add", 1, 0), get(1, 1, 2))
        self.check_refused(op("add", 1, 0), get(1, 1, 2), get(2, 3, 4))

    def test_reads_that_disagree_on_the_order_of_writes(self) -> None:
        self.check_refused(op("set", 1, 0, 9), op("set", 2, 0, 9), get(1, 1, 2), get(2, 3, 4), get(1, 5, 6))

    def test_keys_are_independent(self) -> None:
        good = Operation("set", "a", 1, 0, 1, 1)
        bad = [Operation("set", "b", 1, 0, 1, 1), Operation("get", "b", 0, 2, 3, 0)]
        self.assertIsNone(violation([good]))
        self.assertEqual(violation([good, *bad]), "b")

    @settings(max_examples=500, deadline=None)
    @given(st.integers(0, 2**32))
    def test_like_trying_every_order(self, seed: int) -> None:
        rng = random.Random(seed)
        operations = []
        for _ in range(rng.randrange(1, 6)):
            called = rng.uniform(0, 10)
            returned = called + rng.uniform(0, 5) if rng.random() < 0.8 else math.inf
            verb = rng.choice(("set", "add", "get"))
            answer = rng.randrange(4) if returned < math.inf else None
            number = rng.randrange(1, 3)
            if verb == "set" and answer is not None:
                answer = number
            operations.append(op(verb, number, called, returned, answer))
        self.assertEqual(is_linearizable(operations), brute_force(operations))

    def test_long_histories(self) -> None:
        """As they come from real clients: some at a time, a few unanswered."""
        for seed in range(5):
            rng = random.Random(seed)
            state, now, history = 0, 0.0, []
            for number in range(1, 1000):
                now += rng.expovariate(1)
                operation = op(
                    rng.choice(("set", "add", "get")), number, now - rng.uniform(0, 3), now + rng.uniform(0, 3)
                )
                if number % 120 == 50 and operation.verb != "get":
                    # Its answer was lost, or it was lost itself.
                    state = apply(state, operation) if rng.random() < 0.5 else state
                    history.append(op(operation.verb, number, operation.called))
                else:
                    state = apply(state, operation)
                    history.append(op(operation.verb, number, operation.called, operation.returned, state))
            self.assertTrue(is_linearizable(history))
            broken = next(i for i, o in enumerate(history) if i > 500 and o.verb == "get" and o.answer is not None)
            history[broken] = get(-1, history[broken].called, history[broken].returned)
            self.assertFalse(is_linearizable(history))
