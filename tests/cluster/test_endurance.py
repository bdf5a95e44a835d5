"""Everything at once for long: writes, overwrites, deletes, reads, vacuums and kill -9; then all is looked at.

What was acknowledged is there, on both copies; what was not is on both or on neither; nothing else is there; and the
processes are no larger than they were.  `make torture` runs it for ten minutes.
"""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from tests.cluster.clients import TORTURE, ask, seed
from tests.cluster.load import File, Load, Reader, check_file
from tests.cluster.masters import Daemon, Scratch
from tests.cluster.processes import HOST, request, wait_until
from weedtw.formats.idx import unpack_rows
from weedtw.storage.needlemap import NeedleMap

pytestmark = pytest.mark.process

LENGTH = 600.0 if TORTURE else 7.0  # seconds under load
BETWEEN_KILLS = 15.0 if TORTURE else 2.5
DOWN = 3.0 if TORTURE else 0.5  # seconds for which a killed server stays away
BETWEEN_VACUUMS = 3.0 if TORTURE else 1.0
AGREEING = 120.0  # seconds for copies to become equal again: a server asks for 40 s to have a write dropped
MEMORY = 48 << 20  # bytes that a process may grow by after it has warmed up


def test_nothing_is_lost_and_nothing_grows(scratch: Scratch) -> None:
    chance = random.Random(seed())
    master = scratch.start(
        f"weedtw master -ip={HOST} -port=9333 -mdir=./m -pulseSeconds=1 -vacuumIntervalSeconds=86400"
    )
    steady, *others = servers = [
        scratch.start(  # the files kept ready are so few that all have been there when the load has warmed up
            f"weedtw volume -ip={HOST} -port={port} -dir=./v{port} -mserver={HOST}:9333 -pulseSeconds=1 -hotCacheMB=4"
        )
        for port in (8080, 8081, 8082)
    ]
    for server in servers:
        wait_until(lambda server=server: answers(server), f"the master hears of {server.line}")  # type: ignore[misc]
    load = Load(master, servers, chance)
    with vacuums(master) as vacuumed:
        with load:  # until every pool, cache and arena has seen some use
            wait_for(load, LENGTH / 6)
        before = {daemon: footprint(daemon) for daemon in (master, steady)}
        with load:
            until = time.monotonic() + LENGTH
            while time.monotonic() < until:
                wait_for(load, BETWEEN_KILLS)
                victim = chance.choice(others)
                victim.kill()
                wait_for(load, DOWN)
                victim.start()
                wait_until(lambda victim=victim: answers(victim), f"{victim.line} is back")  # type: ignore[misc]
    sys.stdout.write(f"done {dict(load.done)}, refused {dict(load.refused)}, vacuums {vacuumed}\n")
    assert load.lost == []
    assert vacuumed[0] >= LENGTH / BETWEEN_VACUUMS / 4, "there was hardly a vacuum"
    places = wait_for_copies(master, servers)
    wait_until(lambda: not differences(places), "both copies of each volume hold the same", limit=AGREEING)
    audit(load.files, places)
    for volume in places:
        request("POST", f"{master.address}/vol/vacuum?garbageThreshold=0.0001&volumeId={volume}")
    audit(load.files, places)
    for daemon, (files, memory) in before.items():
        wait_until(lambda d=daemon, f=files: footprint(d)[0] <= f + 8, f"{daemon.line} closes files: {files} before")  # type: ignore[misc]
        assert footprint(daemon)[1] <= memory + MEMORY, f"{daemon.line} grew from {memory} to {footprint(daemon)[1]}"


def wait_for(load: Load, seconds: float) -> None:
    """Until the load has gone on for so long, and has got something done."""
    until, enough = time.monotonic() + seconds, load.done.total() + 20
    wait_until(
        lambda: (time.monotonic() >= until and load.done.total() >= enough) or load.lost,
        "the load goes on",
        limit=seconds + 60,
    )
    assert load.lost == []


@contextmanager
def vacuums(master: Daemon) -> Iterator[list[int]]:
    """Has the master vacuum every few seconds; the list has how many times it was asked."""
    asked = [0]
    end = threading.Event()

    def run() -> None:
        while not end.wait(BETWEEN_VACUUMS):
            asked[0] += master.ask("/vol/vacuum?garbageThreshold=0.02", method="POST") is not None

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        end.set()
        thread.join()


# ------------------------------------------------------------------ the audit


Places = dict[int, tuple[str, ...]]  # volume -> addresses of the servers that hold it


def wait_for_copies(master: Daemon, servers: Sequence[Daemon]) -> Places:
    """Until the master has both copies of every volume."""
    held: dict[int, list[str]] = {}
    for server in servers:
        answer = server.ask("/status")
        assert answer is not None, f"{server.line} does not answer"
        assert "Problems" not in answer.json(), answer.body
        for volume in answer.json()["Volumes"]:
            held.setdefault(volume["Id"], []).append(server.address)
            assert not volume["ReadOnly"], volume
    assert {len(places) for places in held.values()} == {2}, held

    def knows(volume: int) -> bool:
        return len(ask(master.address, {"volumeId": volume}, path="/dir/lookup").answer.get("locations", ())) == 2

    for volume in held:
        wait_until(lambda volume=volume: knows(volume), f"the master has both copies of volume {volume}")  # type: ignore[misc]
    return {volume: tuple(places) for volume, places in held.items()}


def live(place: str, volume: int) -> tuple[NeedleMap, dict[int, int]]:
    """What the index of one copy says: the map, and the sizes of the needles that are there by their keys."""
    answer = request("GET", f"{place}/admin/volume/index?volume={volume}")
    assert answer.status == 200, answer
    width = int(answer.headers["X-Weedtw-Offset-Width"])
    needles = NeedleMap.from_rows(unpack_rows(answer.body, width), width)
    return needles, {key: found.size for key, found in needles.items()}


def differences(places: Places) -> dict[int, dict[str, tuple[int | None, ...]]]:
    """Where copies differ: volume -> key -> the size on each, None where it is not there."""
    found = {}
    for volume, addresses in places.items():
        copies = [live(place, volume)[1] for place in addresses]
        keys = {key for one in copies for key in one}
        differing = {f"{key:x}": tuple(one.get(key) for one in copies) for key in sorted(keys)}
        differing = {key: sizes for key, sizes in differing.items() if len(set(sizes)) > 1}
        if differing:
            found[volume] = differing
    if found:
        sys.stdout.write(f"copies differ: {json.dumps(found)[:2000]}\n")
    return found


def audit(files: Sequence[File], places: Places) -> None:
    """Both copies of every file are alike and such as they may be; there is no other file; the counters are right."""
    wrong: list[str] = []
    there: dict[int, set[int]] = {volume: set() for volume in places}
    with closing(Reader()) as reader:
        for file in files:
            copies = [check_file(file, place, reader) for place in places[file.volume]]
            wrong += [reason for reason, _ in copies if reason]
            if len({found for _, found in copies}) > 1:
                wrong.append(f"the copies of {file.fid} differ: {[found and found[:40] for _, found in copies]}")
            if copies[0][1] is not None:
                there[file.volume].add(file.key)
    for volume, addresses in places.items():
        for place in addresses:
            needles, sizes = live(place, volume)
            if sizes.keys() != there[volume]:
                odd = sorted(sizes.keys() ^ there[volume])
                wrong.append(f"volume {volume} on {place} has other files than it should: {odd[:20]}")
            wrong += _miscounted(place, volume, needles)
    assert not wrong, "\n".join(wrong[:50])


def _miscounted(place: str, volume: int, needles: NeedleMap) -> list[str]:
    [status] = [one for one in request("GET", f"{place}/status").json()["Volumes"] if one["Id"] == volume]
    counters = needles.counters
    told = status["FileCount"], status["DeleteCount"], status["DeletedByteCount"]
    right = counters.file_count, counters.deleted_count, counters.deleted_bytes
    return [] if told == right else [f"volume {volume} on {place} counts {told}, its index {right}"]


# ------------------------------------------------------------------ the processes


def answers(daemon: Daemon) -> bool:
    """Whether a volume server is back, and a master knows what it has."""
    answer = daemon.ask("/readyz")
    return answer is not None and answer.status == 200


def footprint(daemon: Daemon) -> tuple[int, int]:
    """How many files a process has open besides those of its volumes, and how many bytes of memory it has."""
    pid = daemon.process.pid
    status = daemon.ask("/status")
    volumes = len(status.json().get("Volumes", ())) if status is not None and status.status == 200 else 0
    with open(f"/proc/{pid}/statm") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(os.listdir(f"/proc/{pid}/fd")) - 2 * volumes, memory
