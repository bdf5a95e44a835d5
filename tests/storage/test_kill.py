"""A process that is killed with -9 while it writes: what it acknowledged is there afterwards."""

import hashlib
import os
import random
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from weedtw.errors import NeedleNotFound
from weedtw.storage.location import DiskLocation
from weedtw.storage.store import Store

pytestmark = pytest.mark.process

NEEDLES = 100_000
SIZE = 1024

PRELUDE = """
import hashlib, os, random, struct, sys, threading, time
from weedtw.formats.needle import Needle
from weedtw.storage.location import DiskLocation
from weedtw.storage.store import Store
store = Store([DiskLocation(sys.argv[1], clock=time.time)], clock=time.time)
store.open()
def content(key, turn, size):
    return hashlib.shake_128(b"%d %d" % (key, turn)).digest(size)
"""

# Writes keys from argv[2] to argv[3], and says each on stdout when it is written.
WRITER = (
    PRELUDE
    + """
volume = store.create_volume(1)
for key in range(int(sys.argv[2]), int(sys.argv[3])):
    volume.write(Needle(key & 0xFFFFFFFF, key, content(key, 0, 1024), name=b"a name", last_modified=key))
    os.write(1, struct.pack(">Q", key))
store.close()
"""
)

# Writes, overwrites and deletes in two threads while a third one vacuums without end.
BUSY = (
    PRELUDE
    + """
seed = int(sys.argv[2])
volume = store.create_volume(1)
def change(number):
    draw = random.Random(seed * 10 + number)
    turn = seed << 32
    while True:
        turn += 1
        key = draw.randrange(1, 2000) * 2 + number
        if draw.random() < 0.3:
            os.write(1, struct.pack(">BQQ", 0, key, 0))
            volume.delete(key, key)
            os.write(1, struct.pack(">BQQ", 1, key, 0))
        else:
            os.write(1, struct.pack(">BQQ", 0, key, turn))
            volume.write(Needle(key, key, content(key, turn, turn % 300)))
            os.write(1, struct.pack(">BQQ", 1, key, turn))
for number in (0, 1):
    threading.Thread(target=change, args=(number,), daemon=True).start()
while True:
    store.compact(1)
    store.commit(1)
"""
)


def content(key: int, turn: int, size: int) -> bytes:
    return hashlib.shake_128(b"%d %d" % (key, turn)).digest(size)


def run_and_kill(program: str, arguments: list[str], *, enough: int) -> bytes:
    """Run until it has said `enough` bytes, kill it, and return all that it said."""
    child = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
    watch = threading.Timer(120, child.kill)
    watch.start()
    try:
        assert child.stdout is not None
        with child.stdout as pipe:
            said = pipe.read(enough)
            child.kill()
            return said + pipe.read()  # what it had said by then is still in the pipe
    finally:
        watch.cancel()
        child.kill()
        child.wait(30)


def opened(folder: Path) -> Store:
    store = Store([DiskLocation(str(folder), clock=time.time)], clock=time.time)
    store.open()
    assert store.problems == []
    return store


def test_100000_needles_killed_in_the_middle(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    seed = int(os.environ.get("WEEDTW_SEED") or random.SystemRandom().randrange(1 << 32))
    draw = random.Random(seed)
    done = 0
    kills = 0
    while done < NEEDLES:
        enough = draw.randrange(20_000, 60_000)
        said = run_and_kill(WRITER, [str(folder), str(done + 1), str(NEEDLES + 1)], enough=enough * 8)
        acknowledged = [key for (key,) in struct.iter_unpack(">Q", said[: len(said) // 8 * 8])]
        assert acknowledged == list(range(done + 1, done + 1 + len(acknowledged))), f"seed {seed}"
        done += len(acknowledged)
        kills += 1
        store = opened(folder)
        volume = store.find(1)
        assert volume.read_only_reason == ""
        for key in range(1, done + 1):
            needle = volume.read(key, key & 0xFFFFFFFF)
            assert needle.data == content(key, 0, SIZE), f"needle {key}, seed {seed}"
        store.close()
    assert kills >= 2


def test_killed_during_vacuums(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    seed = int(os.environ.get("WEEDTW_SEED") or random.SystemRandom().randrange(1 << 32))
    draw = random.Random(seed)
    state: dict[int, int] = {}  # key -> turn, 0 when deleted
    revisions = 0
    for number in range(1, 13):
        enough = draw.randrange(100, 8000) * 17 * 2
        said = run_and_kill(BUSY, [str(folder), str(number)], enough=enough)
        begun: dict[int, int] = {}
        for is_done, key, turn in struct.iter_unpack(">BQQ", said[: len(said) // 17 * 17]):
            if is_done:
                state[key] = begun.pop(key)
                assert state[key] == turn
            else:
                begun[key] = turn
        store = opened(folder)
        volume = store.find(1)
        assert volume.read_only_reason == ""
        for key in state.keys() | begun.keys():
            allowed = {state.get(key, 0)} | ({begun[key]} if key in begun else set())
            try:
                data: bytes | None = bytes(volume.read(key, key).data)
            except NeedleNotFound:
                data = None
            wanted = {turn: None if turn == 0 else content(key, turn, turn % 300) for turn in allowed}
            [found] = [turn for turn, expected in wanted.items() if expected == data] or [-1]
            assert found >= 0, f"needle {key}, round {number}, seed {seed}"
            state[key] = found
        revisions = volume.info().compact_revision
        store.close()
        assert not [name for name in os.listdir(folder) if name.endswith((".cpd", ".cpx", ".cpc", ".tmp"))]
    assert revisions > 12, "there was hardly a vacuum"
