"""Histories of growing and of membership, taken while leaders die: each is one that a single machine could have had.

(That of file ids is checked wherever clients ask for them, see `clients.check_order`.)
"""

import itertools
import json
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.cluster.clients import Call, ask, rounds, seed
from tests.cluster.masters import Daemon, Scratch, wait_for_cluster, wait_for_leader
from tests.cluster.processes import HOST, wait_until
from tests.cluster.test_ids import three_masters

pytestmark = pytest.mark.process


@attrs.define(eq=False)
class Observers:
    """Threads that each do one kind of call at all masters in turn, until the end of the block."""

    masters: Sequence[Daemon]
    kinds: Sequence[tuple[str, dict[str, object]]]  # path and parameters
    history: Path
    calls: dict[str, list[Call]] = attrs.Factory(dict)  # by path
    _threads: list[threading.Thread] = attrs.Factory(list)
    _end: threading.Event = attrs.Factory(threading.Event)

    def __enter__(self) -> "Observers":
        for number, (path, parameters) in enumerate(self.kinds):
            self.calls.setdefault(path, [])
            thread = threading.Thread(target=self._run, args=(number, path, parameters), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        with self.history.open("w") as file:
            for path, calls in self.calls.items():
                file.writelines(json.dumps({"path": path, **attrs.asdict(call)}) + "\n" for call in calls)

    def _run(self, number: int, path: str, parameters: dict[str, object]) -> None:
        for turn in itertools.count(number):
            if self._end.wait(0.05):
                return
            self.calls[path].append(ask(self.masters[turn % len(self.masters)].address, parameters, path=path))

    def good(self, path: str) -> list[Call]:
        """The answers there so far that are no errors."""
        return [call for call in list(self.calls[path]) if call.status == 200]


def test_volume_ids_are_those_of_one_counter(scratch: Scratch) -> None:
    chance = random.Random(seed())
    masters = three_masters(scratch, volumes=1, most=3000)
    one_more: tuple[str, dict[str, object]] = ("/vol/grow", {"count": 1})
    kinds = [one_more, one_more, ("/cluster/status", {}), ("/cluster/status", {})]
    with Observers(masters, kinds, scratch.folder / "history.jsonl") as observers:
        for _ in range(rounds(3, 20)):
            enough = len(observers.good("/vol/grow")) + chance.randrange(2, 5)
            wait_until(lambda enough=enough: len(observers.good("/vol/grow")) >= enough, "volumes are made")  # type: ignore[misc]
            leader = wait_for_leader(masters)
            leader.restart()
            wait_for_cluster(masters)
        wait_until(
            lambda: len(observers.good("/vol/grow")) > 5 and len(_by_leaders(observers)) > 20, "enough was answered"
        )
    grown = observers.good("/vol/grow")
    seen = sorted(_by_leaders(observers), key=_end)
    for earlier, later in itertools.combinations(seen, 2):
        if earlier.end < later.begin:
            between = sum(
                call.answer["count"] for call in grown if earlier.end < call.begin and call.end < later.begin
            )
            assert _highest(later) >= _highest(earlier) + between, (earlier, later, between)


def _by_leaders(observers: Observers) -> list[Call]:
    return [call for call in observers.good("/cluster/status") if call.answer["IsLeader"]]


def _with_lease(observers: Observers) -> list[Call]:
    return [call for call in observers.good("/cluster/members") if call.answer["hasLease"]]


def _end(call: Call) -> float:
    return call.end


def _highest(call: Call) -> int:
    return int(call.answer.get("MaxVolumeId", 0))


def test_a_membership_that_a_leader_tells_of_is_never_an_older_one(scratch: Scratch) -> None:
    seed()
    masters = three_masters(scratch, volumes=1)
    spare = scratch.start(f"weedtw master -ip={HOST} -port=9336 -mdir=./m9336 -peers={HOST}:9333")
    everybody = [*masters, spare]
    wait_for_cluster(everybody)
    with Observers(everybody, [("/cluster/members", {})] * 3, scratch.folder / "history.jsonl") as observers:
        for number in range(rounds(2, 10)):
            leader = wait_for_leader(everybody)
            leader.restart()
            wait_for_cluster(everybody)
            gone = next(m for m in everybody if m is not wait_for_leader(everybody))
            wait_until(lambda gone=gone: _is_removed(everybody, gone), "it is removed")  # type: ignore[misc]
            gone.kill()
            everybody.remove(gone)
            wait_for_cluster(everybody)
            newcomer = scratch.start(
                f"weedtw master -ip={HOST} -port={9337 + number % 5} -mdir=./n{number} -peers={everybody[0].address}"
            )
            everybody.append(newcomer)
            wait_for_cluster(everybody)
        wait_until(lambda: len(_with_lease(observers)) > 20, "enough was answered")
    told = sorted(_with_lease(observers), key=_end)
    for earlier, later in itertools.pairwise(told):
        if earlier.end < later.begin:
            assert later.answer["term"] >= earlier.answer["term"], (earlier, later)
            assert later.answer["commit"] >= earlier.answer["commit"], (earlier, later)
    changes = [after for before, after in itertools.pairwise(map(_voters, told)) if before != after]
    for before, after in itertools.pairwise([_voters(told[0]), *changes]):
        assert len(before ^ after) <= 1, "two memberships in a row differ by more than one voter"


def _voters(call: Call) -> frozenset[str]:
    members: list[dict[str, Any]] = call.answer["members"]
    return frozenset(member["node"] for member in members if member["voter"])


def _is_removed(masters: Sequence[Daemon], gone: Daemon) -> bool:
    asked = next(master for master in masters if master is not gone)
    asked.ask(f"/cluster/remove?node={gone.address}", method="POST")
    members = asked.believes().get("members", [])
    return bool(members) and gone.address not in {member["address"] for member in members}
