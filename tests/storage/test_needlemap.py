"""The needle map does what a dict would do, counts as SeaweedFS counts, and stays small."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.formats.idx import TOMBSTONE, pack_row, unpack_rows
from weedtw.storage.needlemap import NeedleMap, Place

U64 = 2**64 - 1
FEW_KEYS = st.integers(0, 12) | st.sampled_from([2**63 - 1, 2**63, U64 - 1, U64])
OFFSETS = st.integers(1, 2**32 - 1).map(lambda units: units * 8)
SIZES = st.integers(0, 2**31 - 1)
STEPS = st.lists(
    st.tuples(st.just("put"), FEW_KEYS, OFFSETS, SIZES) | st.tuples(st.sampled_from(["delete", "merge"]), FEW_KEYS)
)


def merge(needles: NeedleMap) -> None:
    needles.begin_merge()
    needles.end_merge(needles.merged())


class Model:
    """The same as a needle map, the simple way: a dict and counters that follow the definition."""

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        self.puts = self.content = self.deleted = self.deleted_bytes = 0

    def put(self, key: int, offset: int, size: int) -> None:
        self.puts += 1
        self.content += size
        before = self.places.get(key)
        if before is not None and not before.deleted:
            self.deleted += 1
            self.deleted_bytes += before.size
        self.places[key] = Place(offset, size)

    def delete(self, key: int) -> None:
        self.deleted += 1
        before = self.places.get(key)
        if before is not None and not before.deleted:
            self.deleted_bytes += before.size
            self.places[key] = Place(before.offset, before.size, True)

    def check(self, case: SynchronousTestCase, needles: NeedleMap) -> None:
        for key in {*self.places, 0, 5, U64, 2**40}:
            found = self.places.get(key)
            case.assertEqual(needles.find(key), found)
            case.assertEqual(needles.get(key), None if found is None or found.deleted else found)
        live = {key: place for key, place in self.places.items() if not place.deleted}
        case.assertEqual(dict(needles.items()), live)
        offsets = [place.offset for _, place in needles.items()]
        case.assertEqual(offsets, sorted(offsets))
        counters = needles.counters
        case.assertEqual(
            (counters.file_count, counters.content_bytes, counters.deleted_count, counters.deleted_bytes),
            (self.puts, self.content, self.deleted, self.deleted_bytes),
        )


class PropertyTests(SynchronousTestCase):
    @given(STEPS, st.sampled_from([4, 5]))
    def test_behaves_like_a_dict(self, steps: list[tuple[object, ...]], width: int) -> None:
        needles, model = NeedleMap(width), Model()
        for name, key, *rest in steps:
            assert isinstance(key, int)
            if name == "put":
                offset, size = rest
                assert isinstance(offset, int)
                assert isinstance(size, int)
                needles.put(key, offset, size)
                model.put(key, offset, size)
            elif name == "delete":
                needles.delete(key)
                model.delete(key)
            else:
                merge(needles)
        model.check(self, needles)

    @given(STEPS, st.sampled_from([4, 5]))
    def test_loading_rows_gives_the_same(self, steps: list[tuple[object, ...]], width: int) -> None:
        model, rows = Model(), bytearray()
        for name, key, *rest in steps:
            assert isinstance(key, int)
            if name == "put":
                offset, size = rest
                assert isinstance(offset, int)
                assert isinstance(size, int)
                model.put(key, offset, size)
                rows += pack_row(key, offset, size, width)
            elif name == "delete":
                model.delete(key)
                rows += pack_row(key, 4096, TOMBSTONE, width)
        needles = NeedleMap.from_rows(unpack_rows(bytes(rows), width), width)
        model.check(self, needles)
        keys = [key for name, key, *_ in steps if name != "merge" and isinstance(key, int)]
        self.assertEqual(needles.counters.max_key, max(keys, default=0))

    @settings(deadline=None)
    @given(st.lists(st.integers(1, 10**6), unique=True), st.lists(st.integers(1, 10**6), unique=True))
    def test_reads_between_the_halves_of_a_merge(self, first: list[int], second: list[int]) -> None:
        needles = NeedleMap(4)
        for key in first:
            needles.put(key, key * 8, 1)
        merge(needles)
        for key in second:
            needles.put(key, key * 16, 2)
        needles.begin_merge()
        late = [*first[:3], *second[:3], 10**7]
        for key in late:
            needles.put(key, key * 24, 3)
        columns = needles.merged()
        wanted = (
            {key: Place(key * 8, 1) for key in first}
            | {key: Place(key * 16, 2) for key in second}
            | {key: Place(key * 24, 3) for key in late}
        )
        self.assertEqual({key: needles.get(key) for key in wanted}, wanted)
        needles.end_merge(columns)
        self.assertEqual({key: needles.get(key) for key in wanted}, wanted)


class FormTests(SynchronousTestCase):
    def test_a_fifth_offset_byte(self) -> None:
        needles = NeedleMap(5)
        far = (2**40 - 1) * 8
        needles.put(7, far, 1)
        self.assertEqual(needles.get(7), Place(far, 1))
        merge(needles)
        self.assertEqual(needles.get(7), Place(far, 1))

    def test_a_row_without_a_place_deletes(self) -> None:
        rows = pack_row(7, 8, 100, 5) + pack_row(7, 0, 0, 5)  # as SeaweedFS writes it at the end of a vacuum
        needles = NeedleMap.from_rows(unpack_rows(rows, 5), 5)
        self.assertEqual(needles.find(7), Place(8, 100, True))

    def test_a_merge_is_due_by_and_by(self) -> None:
        needles = NeedleMap(4)
        merges = 0
        for key in range(1, 20_000):
            needles.put(key, key * 8, 1)
            if needles.wants_merge():
                merge(needles)
                merges += 1
        self.assertGreater(merges, 3)
        self.assertLess(merges, 40)
        self.assertEqual([needles.get(key) for key in (1, 19_999)], [Place(8, 1), Place(159_992, 1)])

    def test_no_merge_while_one_is_under_way(self) -> None:
        needles = NeedleMap(4)
        for key in range(2000):
            needles.put(key, 8, 1)
        needles.begin_merge()
        for key in range(2000):
            needles.put(key, 8, 1)
        self.assertFalse(needles.wants_merge())
        needles.end_merge(needles.merged())
        self.assertTrue(needles.wants_merge())

    def test_bytes_a_needle(self) -> None:
        count = 100_000
        keys = np.arange(1, count + 1, dtype=np.uint64)
        for width, most in ((4, 16), (5, 17)):
            rows = b"".join(pack_row(int(key), int(key) * 8, 1, width) for key in keys)
            needles = NeedleMap.from_rows(unpack_rows(rows, width), width)
            self.assertLessEqual(needles.nbytes / count, most)
