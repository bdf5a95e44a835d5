"""kill -9 in the middle of saving: every acknowledged save is there, and none by half."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from weedtw.raft.membership import Member, Membership
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity, StoredState

KILLS = 8
SAVER = """
import sys
from weedtw.raft.messages import Entry, HardState, Snapshot
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Update

storage = SqliteStorage.open(sys.argv[1])
number = storage.load().hard_state.term
while True:
    number += 1
    first = 3 * number - 2  # three entries a save; every seventh save compacts all but the newest of them
    entries = tuple(Entry(index, number, data=b"%d" % number * 200) for index in range(first, first + 3))
    membership = storage.load().snapshot.membership
    snapshot = Snapshot(first, number, membership, b"%d" % number * 5000) if number % 7 == 0 else None
    storage.save(Update(HardState(number, "n", first), entries, snapshot, False, first))
    print(number, flush=True)
"""


def check_whole(state: StoredState) -> int:
    """That the state is what some save left, and nothing of a later one; returns that save's number."""
    number = state.hard_state.term
    snapshot_number = number - number % 7
    first = 3 * snapshot_number - 2 if snapshot_number else 1
    assert state.snapshot.index == (first if snapshot_number else 0)
    assert state.snapshot.data == (b"%d" % snapshot_number * 5000 if snapshot_number else b"")
    assert state.hard_state.commit == max(0, 3 * number - 2)
    assert [entry.index for entry in state.entries] == list(range(first, 3 * number + 1))
    assert all(entry.data == b"%d" % entry.term * 200 for entry in state.entries)
    return number


@pytest.mark.process
def test_kill_9_while_saving(tmp_path: "os.PathLike[str]") -> None:
    path = os.path.join(tmp_path, "raft.sqlite3")
    SqliteStorage.create(path, Identity("c", "n"), Membership({"n": Member("localhost:1")})).close()
    reached = 0
    for _ in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", SAVER, path], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            first = int(child.stdout.readline())
            assert first == reached + 1
            # Not waiting for a condition, but choosing the moment of death.
            time.sleep(random.random() * 0.05)
            child.send_signal(signal.SIGKILL)
            acknowledged = [first, *map(int, child.stdout.read().split())][-1]
        storage = SqliteStorage.open(path)
        reached = check_whole(storage.load())
        storage.close()
        assert reached in {acknowledged, acknowledged + 1}
    assert reached >= KILLS
