"""What every needle map does, in memory and on disk: the same as a dict, through merges and loading."""

import os
import shutil
from typing import Final

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config.model import IndexKind
from weedtw.formats.idx import TOMBSTONE, pack_row
from weedtw.storage import diskmap
from weedtw.storage.fileops import DiskFile, FileOps
from weedtw.storage.maps import AnyMap, load_map
from weedtw.storage.mark import Mark
from weedtw.storage.names import VolumeFiles
from weedtw.storage.needlemap import Counters, Place
from weedtw.storage.testing import scratch

U64: Final = 2**64 - 1
KEYS = st.integers(0, 12) | st.sampled_from([2**63 - 1, 2**63, U64 - 1, U64])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "merge", "half", "load", "forget"]), KEYS, st.integers(0, 2**31 - 1)
    ),
    max_size=40,
)


@attrs.define
class Model:
    """The same the simple way, and the counters by their definition."""

    places: dict[int, Place] = attrs.Factory(dict)
    counters: Counters = attrs.Factory(Counters)

    def put(self, key: int, offset: int, size: int) -> None:
        self.delete_before(key)
        self.counters.file_count += 1
        self.counters.content_bytes += size
        self.counters.deleted_count += key in self.places and not self.places[key].deleted
        self.places[key] = Place(offset, size)
        self.counters.max_key = max(self.counters.max_key, key)

    def delete(self, key: int) -> None:
        self.delete_before(key)
        self.counters.deleted_count += 1
        self.counters.max_key = max(self.counters.max_key, key)
        if key in self.places:
            self.places[key] = Place(*self.places[key][:2], True)

    def delete_before(self, key: int) -> None:
        before = self.places.get(key)
        if before is not None and not before.deleted:
            self.counters.deleted_bytes += before.size


class MapContract:
    """Steps on a map with an index beside it, as a volume has one."""

    kind: IndexKind

    def setUp(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        self.folder = scratch(self)
        self.patch(diskmap, "_SYNC", False)

    def begin(self, width: int) -> None:
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        self.files = VolumeFiles(self.folder, self.folder, "", 3)
        self.width = width
        self.idx = DiskFile(FileOps(), self.files.idx, os.O_RDWR | os.O_CREAT)
        self.idx_size, self.offset = 0, 8
        self.model = Model()
        self.needles: AnyMap | None = None
        self.load()

    def mark(self) -> Mark:
        return Mark.of(0, self.width, self.idx, self.idx_size, self.offset, 0)

    def load(self) -> None:
        self.needles = None  # which lets go of its files
        self.needles = load_map(self.kind, self.files, self.idx, self.mark())

    def forget(self) -> None:
        """Somebody removes what is derived."""
        self.needles = None
        for folder in self.files.map_folders():
            shutil.rmtree(folder)
        self.load()

    def row(self, key: int, size: int) -> None:
        self.idx_size += self.idx.write([pack_row(key, self.offset, size, self.width)], self.idx_size)

    def step(self, name: str, key: int, size: int) -> None:
        needles = self.needles
        assert needles is not None
        if name in {"put", "delete"}:
            was_there, changes = needles.get(key) is not None, needles.changes
            self.change(needles, name, key, size)
            assert needles.changes == changes + was_there
        elif name == "merge":
            needles.begin_merge(self.mark)
            needles.end_merge(needles.merged())
        elif name == "half":
            needles.begin_merge(self.mark)
            self.step("put", key, size)
            merged = needles.merged()
            self.check()
            needles.end_merge(merged)
        elif name == "load":
            self.load()
        else:
            self.forget()

    def change(self, needles: AnyMap, name: str, key: int, size: int) -> None:
        if name == "put":
            before = self.model.places.get(key)
            self.row(key, size)
            found = needles.put(key, self.offset, size)
            assert found == (None if before is None or before.deleted else before)
            self.model.put(key, self.offset, size)
            self.offset += 8 if self.width == 4 else 2**33  # beyond what four bytes hold
        else:
            self.row(key, TOMBSTONE)
            needles.delete(key)
            self.model.delete(key)

    def check(self) -> None:
        needles = self.needles
        assert needles is not None
        for key in {*self.model.places, 0, 5, U64, 2**40}:
            found = self.model.places.get(key)
            assert needles.find(key) == found, key
            assert needles.get(key) == (None if found is None or found.deleted else found), key
        live = {key: place for key, place in self.model.places.items() if not place.deleted}
        assert list(needles.items()) == sorted(live.items(), key=lambda item: item[1].offset)
        assert needles.counters == self.model.counters
        snapshot = needles.snapshot()
        pieces = list(snapshot.pieces(lambda start, end: self.idx.read(end - start, start), self.idx_size))
        keys = [key for piece in pieces for key in piece.keys.tolist()]
        assert keys == [key for key, _ in needles.items()]
        assert snapshot.room(3)[0] >= sum(place.size for place in live.values())
        snapshot.close()

    def check_steps(self, steps: list[tuple[str, int, int]], width: int) -> None:
        self.begin(width)
        for step in steps:
            self.step(*step)
        self.check()
        self.load()
        self.check()

    def test_a_snapshot_stays_as_it_was(self) -> None:
        self.begin(4)
        for key in range(10):
            self.step("put", key, 5)
        self.step("merge", 0, 0)
        needles, size = self.needles, self.idx_size
        assert needles is not None
        snapshot = needles.snapshot()
        for key in range(5):
            self.step("put", key, 6)
        self.step("delete", 9, 0)
        self.step("merge", 0, 0)
        [piece] = snapshot.pieces(lambda start, end: self.idx.read(end - start, start), size)
        assert piece.keys.tolist() == list(range(10))
        assert set(piece.sizes.tolist()) == {5}
        snapshot.close()
        self.check()


class MemoryTests(MapContract, SynchronousTestCase):
    kind: IndexKind = "memory"

    @settings(deadline=None, max_examples=100)
    @given(STEPS, st.sampled_from([4, 5]))
    def test_behaves_like_a_dict(self, steps: list[tuple[str, int, int]], width: int) -> None:
        self.check_steps(steps, width)


class LmdbTests(MapContract, SynchronousTestCase):
    kind: IndexKind = "lmdb"

    @settings(deadline=None, max_examples=100)
    @given(STEPS, st.sampled_from([4, 5]))
    def test_behaves_like_a_dict(self, steps: list[tuple[str, int, int]], width: int) -> None:
        self.check_steps(steps, width)
