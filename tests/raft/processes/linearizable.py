"""Whether a history of operations on one number could have come from one copy of it.

Wing and Gong's search with Lowe's memory of what was tried ("Testing for linearizability", 2016).  Operations on
different keys are independent, so that a history is linearizable when that of each key is.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import attrs


@attrs.frozen
class Operation:
    """Something that a client did.  Times are of one clock; without an answer `returned` is infinite.

    An operation whose fate is unknown may have taken effect at any time since its call, or never.
    """

    verb: str  # "set", "add" or "get"
    key: str
    number: int  # to set or to add
    called: float
    returned: float = math.inf
    answer: int | None = None  # the number afterwards


def apply(state: int, operation: Operation) -> int:
    """The number after an operation."""
    if operation.verb == "set":
        return operation.number
    return state + operation.number if operation.verb == "add" else state


def violation(history: Iterable[Operation]) -> str | None:
    """The first key whose history cannot have come from one copy; None when all can."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key, operations in sorted(by_key.items()):
        if not is_linearizable(operations):
            return key
    return None


def is_linearizable(operations: Iterable[Operation], state: int = 0) -> bool:
    """Whether there is an order of all answered operations that explains every answer."""
    in_order = sorted(operations, key=lambda operation: operation.called)
    return _Search(
        [o for o in in_order if o.returned < math.inf], [o for o in in_order if o.returned == math.inf]
    ).run(state)


@attrs.frozen
class _Point:
    """How far a search has come: all answered operations before `first`, some behind it, some of the unanswered."""

    first: int
    done: int  # bit i: the answered operation `first + i`
    used: int  # bit i: the unanswered operation i
    state: int
    unseen: int = -1  # the last of the unanswered that nothing answered has followed yet


@attrs.define
class _Search:
    answered: list[Operation]
    unanswered: list[Operation]
    _seen: dict[tuple[int, int, int, int], list[int]] = attrs.Factory(dict)

    def run(self, state: int) -> bool:
        stack = [_Point(0, 0, 0, state)]  # instead of recursion: histories are long
        while stack:
            point = stack.pop()
            if point.first == len(self.answered):
                return True
            if self._is_new(point):
                stack += self._steps(point)
        return False

    def _is_new(self, point: _Point) -> bool:
        """Whether nobody has been here with no more of the unanswered used up: what they could, this could not."""
        before = self._seen.setdefault((point.first, point.done, point.state, point.unseen), [])
        if any(used & point.used == used for used in before):
            return False
        before.append(point.used)
        return True

    def _steps(self, point: _Point) -> list[_Point]:
        """What may come next, the likeliest last.

        That something unanswered took effect matters only when what comes next shows it.  So nothing that sets the
        number follows it, and several are taken in one order only, a set first.
        """
        candidates, end = [], math.inf
        for i in range(len(self.answered) - point.first):
            operation = self.answered[point.first + i]
            if operation.called > end:
                break  # nothing may take effect after the end of one that has not
            if not point.done >> i & 1:
                end = min(end, operation.returned)
                candidates.append((operation.returned, i, operation))
        steps, follows = [], point.unseen >= 0
        for i, operation in enumerate(self.unanswered):
            follows_set = follows and self.unanswered[point.unseen].verb == "set"
            in_order = not follows or (operation.verb == "add" and (follows_set or i > point.unseen))
            if in_order and operation.called <= end and not point.used >> i & 1:
                after = apply(point.state, operation)
                steps.append(_Point(point.first, point.done, point.used | 1 << i, after, i))
        for _, i, operation in sorted(candidates, key=lambda candidate: -candidate[0]):
            after = apply(point.state, operation)
            if operation.called <= end and operation.answer == after and not (follows and operation.verb == "set"):
                steps.append(self._after(point, i, after))
        return steps

    @staticmethod
    def _after(point: _Point, i: int, state: int) -> _Point:
        first, done = point.first, point.done | 1 << i
        while done & 1:
            first, done = first + 1, done >> 1
        return _Point(first, done, point.used, state)
