"""Measures the needle map and the volume under it, and prints a table.

    python bench/needle_map.py [--needles 5000000] [--files 100000] [--folder /tmp]

One process, one thread but for the last line; what is read was just written, so it comes from the page cache.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.table import Table

from weedtw.formats.idx import ROW_SIZES, unpack_rows
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.storage.diskmap import DiskMap
from weedtw.storage.fileops import DiskFile, FileOps
from weedtw.storage.maps import load_map
from weedtw.storage.mark import Mark
from weedtw.storage.names import VolumeFiles
from weedtw.storage.needlemap import NeedleMap
from weedtw.storage.vacuum import compact
from weedtw.storage.volume import Volume

LOOKUPS = 200_000


class Report:
    """Rows of (what, how much)."""

    def __init__(self) -> None:
        self.table = Table("what", "figure", title="needle map and volume")

    def add(self, what: str, figure: str) -> None:
        self.table.add_row(what, figure)

    @contextmanager
    def rate(self, what: str, count: int) -> Iterator[None]:
        """Time a block that does something `count` times."""
        begun = time.perf_counter()
        yield
        seconds = time.perf_counter() - begun
        self.add(what, f"{count / seconds:,.0f}/s   ({seconds / count * 1e6:.2f} µs each)")

    @contextmanager
    def seconds(self, what: str) -> Iterator[None]:
        """Time a block."""
        begun, worked = time.perf_counter(), time.process_time()
        yield
        self.add(what, f"{time.perf_counter() - begun:.3f} s   ({time.process_time() - worked:.3f} s of CPU)")


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def index_bytes(count: int, width: int) -> bytes:
    """An index of that many needles with every tenth row an overwrite and every twentieth a deletion."""
    fields = [("key", ">u8"), ("low", ">u4"), ("high", "u1"), ("size", ">i4")]
    rows = np.zeros(count, [field for field in fields if width == 5 or field[0] != "high"])
    rows["key"] = np.arange(1, count + 1)
    rows["low"] = 1 + 135 * np.arange(count)
    rows["size"] = 1051
    rows["key"][10::10] = np.arange(1, count + 1)[9:-1:10]
    rows["size"][19::20] = -1
    return rows.tobytes()


def measure_map(report: Report, count: int, width: int) -> None:
    data = index_bytes(count, width)
    before = resident()
    with report.seconds(f"load an index of {count:,} rows, {ROW_SIZES[width]} bytes each"):
        needles = NeedleMap.from_rows(unpack_rows(data, width), width)
    report.add("  process memory a needle, after loading", f"{(resident() - before) / len(needles):.2f} bytes")
    report.add("  base columns a needle", f"{needles.nbytes / len(needles):.2f} bytes")
    report.add("  live needles", f"{len(needles.snapshot().live().keys):,}")
    keys = [random.Random(1).randrange(1, count) for _ in range(LOOKUPS)]
    with report.rate("  lookups, random keys", LOOKUPS):
        for key in keys:
            needles.find(key)
    fresh = min(LOOKUPS, count)
    with report.rate("  puts of new keys, merges included", fresh):
        for key in range(count + 1, count + 1 + fresh):
            needles.put(key, 8 * key, 100)
            if needles.wants_merge():
                needles.begin_merge()
                needles.end_merge(needles.merged())
    for key in range(2 * count, 2 * count + 65536):
        needles.put(key, 8 * key, 100)
    measure_merge(report, needles, keys)


def measure_merge(report: Report, needles: NeedleMap, keys: list[int]) -> None:
    """One merge of 65,536 needles in a thread, and the longest that a reader waited for a look-up meanwhile."""
    needles.begin_merge()
    quiet = longest_lookup(needles, keys)
    with report.seconds("  one merge of 65,536 needles, with a reader"), ThreadPoolExecutor(1) as other:
        merging = other.submit(needles.merged)
        longest = 0.0
        while not merging.done():
            longest = max(longest, longest_lookup(needles, keys[:1000]))
        needles.end_merge(merging.result())
    report.add("  longest look-up during it (and without one)", f"{longest * 1e3:.2f} ms   ({quiet * 1e3:.2f} ms)")


def longest_lookup(needles: NeedleMap, keys: list[int]) -> float:
    """The longest of so many look-ups, in seconds."""
    longest, before = 0.0, time.perf_counter()
    for key in keys:
        needles.find(key)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return longest


def measure_disk_map(report: Report, count: int, folder: str) -> None:
    """The same on disk: made from the index, then opened again."""
    files = VolumeFiles(folder, folder, "", 9)
    idx = DiskFile(FileOps(), files.idx, os.O_RDWR | os.O_CREAT)
    data = index_bytes(count, 4)
    idx.write([data], 0)
    mark = Mark.of(0, 4, idx, len(data), 1 << 35, 0)
    before = resident()
    with report.seconds(f"lmdb: make the map of {count:,} rows"):
        needles = load_map("lmdb", files, idx, mark)
    assert isinstance(needles, DiskMap)
    report.add("  disk a needle", f"{needles.disk_bytes / len(needles):.1f} bytes")
    del needles
    with report.seconds("  open it again"):
        needles = load_map("lmdb", files, idx, mark)
    keys = [random.Random(1).randrange(1, count) for _ in range(LOOKUPS)]
    with report.rate("  lookups, random keys", LOOKUPS):
        for key in keys:
            needles.find(key)
    report.add(
        "  process memory a needle, pages of the map's file among it", f"{(resident() - before) / count:.1f} bytes"
    )
    fresh = min(LOOKUPS, count)
    with report.rate("  puts of new keys, merges included", fresh):
        for key in range(count + 1, count + 1 + fresh):
            needles.put(key, 8 * key, 100)
            if needles.wants_merge():
                needles.begin_merge(lambda: mark)
                needles.end_merge(needles.merged())


def measure_volume(report: Report, count: int, folder: str) -> None:
    volume = Volume.create(folder, None, "", 1, replication=ReplicaPlacement(), offset_width=5, clock=time.time)
    data = os.urandom(1024)

    def each(action: Callable[[int], object]) -> None:
        for key in range(1, count + 1):
            action(key)

    with report.rate("write 1 KB", count):
        each(lambda key: volume.write(Needle(1, key, data, name=b"a.bin", last_modified=key)))
    with report.rate("read 1 KB", count):
        each(lambda key: volume.read(key, 1))
    with report.rate("read 1 KB without waiting (RWF_NOWAIT)", count):
        each(lambda key: volume.try_read_cached(key, 1))
    with report.rate("overwrite 1 KB", count):
        each(lambda key: volume.write(Needle(1, key, data, name=b"b.bin", last_modified=key)))
    with report.rate("delete", count // 2):
        for key in range(1, count + 1, 2):
            volume.delete(key, 1)
    with report.seconds(f"vacuum, {count // 2:,} of {count:,} needles are live"):
        compact(volume).commit()
    volume.close()
    files = VolumeFiles(folder, folder, "", 1)
    with report.seconds("open"):
        volume = Volume.open(files, clock=time.time)
    volume.close()
    os.unlink(files.idx)
    with report.seconds("open without index"):
        volume = Volume.open(files, clock=time.time)
    with report.rate("write 1 KB with fsync, alone", 200):
        for key in range(1, 201):
            volume.write(Needle(1, 10**9 + key, data), fsync=True)
    threads, each_writes = 40, 50
    with (
        ThreadPoolExecutor(threads) as pool,
        report.rate(f"write 1 KB with fsync, {threads} threads", threads * each_writes),
    ):
        list(pool.map(lambda start: write_synced(volume, start, each_writes, data), range(threads)))
    volume.close()


def write_synced(volume: Volume, number: int, count: int, data: bytes) -> None:
    """One of several writers that share their fsyncs."""
    for key in range(count):
        volume.write(Needle(1, 2 * 10**9 + number * count + key, data), fsync=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--needles", type=int, default=5_000_000, help="rows of the index to load")
    parser.add_argument("--files", type=int, default=100_000, help="files to write to a volume")
    parser.add_argument("--folder", default=None, help="where to make the scratch folder")
    options = parser.parse_args()
    report = Report()
    for width in (4, 5):
        measure_map(report, options.needles, width)
    folder = tempfile.mkdtemp(prefix="weedtw-bench-", dir=options.folder)
    try:
        measure_disk_map(report, options.needles, folder)
        measure_volume(report, options.files, folder)
    finally:
        shutil.rmtree(folder)
    Console().print(report.table)


if __name__ == "__main__":
    main()
