"""Clients that ask for file ids all the time, and what may be said of the answers.

A history is every call with its beginning and its end on the monotonic clock.  It is kept beside the logs of the
test's daemons, as JSON lines.
"""

import bisect
import http.client
import itertools
import json
import os
import random
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.cluster.masters import Daemon
from tests.cluster.processes import wait_until

TORTURE = bool(os.environ.get("WEEDTW_TORTURE"))  # the long runs by hand: `make torture`
PATIENCE = 20.0  # seconds for an answer, whatever it is
BREATH = 0.002  # seconds between two questions of one client


def rounds(usual: int, torture: int) -> int:
    """How often to do it: for every build, or in a long run."""
    return torture if TORTURE else usual


def seed() -> int:
    """The seed of this run: WEEDTW_SEED, or a new one.  It is printed, and pytest shows it when the test fails."""
    number = int(os.environ.get("WEEDTW_SEED") or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"WEEDTW_SEED={number}\n")
    return number


@attrs.frozen
class Call:
    """One question and its answer; `status` 0 is none."""

    begin: float
    end: float
    asked: str  # the master's address
    status: int
    answer: dict[str, Any]
    client: int = 0  # which one asked

    @property
    def keys(self) -> range:
        """The file keys that it got; none unless it got some."""
        if self.status != 200:
            return range(0)
        first = int(str(self.answer["fid"]).partition(",")[2][:-8], 16)
        return range(first, first + int(self.answer["count"]))


@attrs.define(eq=False)
class Clients:
    """So many threads, each of which asks the masters in turn; stays with one as long as that gives ids."""

    masters: Sequence[Daemon]
    count: int
    history: Path
    parameters: Sequence[Mapping[str, object]] = ({},)
    calls: list[Call] = attrs.Factory(list)
    _threads: list[threading.Thread] = attrs.Factory(list)
    _end: threading.Event = attrs.Factory(threading.Event)

    def __enter__(self) -> "Clients":
        for number in range(self.count):
            thread = threading.Thread(target=self._run, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive(), "a request was left without an answer"
        with self.history.open("w") as file:
            for call in sorted(self.calls, key=lambda each: each.begin):
                file.write(json.dumps(attrs.asdict(call)) + "\n")

    def _turns(self, number: int) -> list[Mapping[str, object]]:
        """What one client asks for, in turn; each begins elsewhere."""
        begin = number % len(self.parameters)
        return [*self.parameters[begin:], *self.parameters[:begin]]

    def _run(self, number: int) -> None:
        turn = number
        for parameters in itertools.cycle(self._turns(number)):
            if self._end.wait(BREATH):
                return
            call = ask(self.masters[turn % len(self.masters)].address, parameters)
            self.calls.append(attrs.evolve(call, client=number))
            if call.status != 200:
                turn += 1
                self._end.wait(10 * BREATH)

    @property
    def successes(self) -> int:
        """How many answers brought ids so far."""
        return sum(call.status == 200 for call in list(self.calls))

    def wait_for_more(self, count: int = 20) -> None:
        """Until so many more ids were given out."""
        enough = self.successes + count
        wait_until(lambda: self.successes >= enough, "file ids go on coming")


def ask(address: str, parameters: Mapping[str, object], *, path: str = "/dir/assign") -> Call:
    """One call; it always comes to an end."""
    query = urllib.parse.urlencode(parameters)
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    begin = time.monotonic()
    try:
        connection.request("GET", f"{path}?{query}")
        response = connection.getresponse()
        status, answer = response.status, json.loads(response.read() or b"{}")
    except TimeoutError as error:
        raise AssertionError(f"{address} has left a request without an answer for {PATIENCE:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        status, answer = 0, {"error": repr(error)}
    finally:
        connection.close()
    return Call(begin, time.monotonic(), address, status, answer)


# ------------------------------------------------------------------ what must hold of a history


def check_unique(calls: Iterable[Call]) -> None:
    """No key was given out twice."""
    given = sorted((call for call in calls if call.keys), key=lambda call: call.keys[0])
    for lower, upper in itertools.pairwise(given):
        assert upper.keys[0] > lower.keys[-1], f"keys from {upper.keys[0]:x} on came twice:\n{lower}\n{upper}"


def check_order(calls: Iterable[Call]) -> None:
    """Keys behave as those of one counter that only goes up: who asks after an answer gets a higher one.

    With uniqueness this is linearizability of a counter that may skip numbers: each call can be put at a moment
    between its beginning and its end so that the keys rise.
    """
    given = sorted((call for call in calls if call.keys), key=lambda call: call.end)
    ends = [call.end for call in given]
    highest = list(itertools.accumulate((call.keys[-1] for call in given), max))
    for call in given:
        before = bisect.bisect_left(ends, call.begin)
        if before:
            assert call.keys[0] > highest[before - 1], (
                f"{call} began after an answer with key {highest[before - 1]:x} had come"
            )
