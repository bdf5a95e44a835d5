"""The disk's thread."""

import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.raft.waiting import reactor
from weedtw.errors import StoreFailed
from weedtw.raft.disk import DiskThread


@pytest_twisted.ensureDeferred
async def test_one_call_at_a_time_in_order_and_on_one_thread() -> None:
    disk = DiskThread(reactor)
    disk.start()
    seen: list[tuple[int, int]] = []
    calls: list[Deferred[None]] = [
        disk.run(lambda number=number: seen.append((number, threading.get_ident())))  # type: ignore[misc]
        for number in range(200)
    ]
    await gatherResults(calls)
    disk.stop()
    assert [number for number, _ in seen] == list(range(200))
    (thread,) = {thread for _, thread in seen}
    assert thread != threading.get_ident()


@pytest_twisted.ensureDeferred
async def test_what_is_raised_there_arrives_here() -> None:
    disk = DiskThread(reactor)
    disk.start()

    def call() -> None:
        raise StoreFailed("/f", "full")

    with pytest.raises(StoreFailed):
        await disk.run(call)
    answers: list[Any] = []
    await disk.run(lambda: answers.append(threading.get_ident()))
    disk.stop()
    assert answers


def test_stopping_without_having_started() -> None:
    before = set(threading.enumerate())
    DiskThread(reactor).stop()
    assert set(threading.enumerate()) <= before
