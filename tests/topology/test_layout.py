"""Which volumes take new files, and which of them is picked."""

import random
from collections import Counter

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.formats.beat import VolumeReport
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import NO_TTL, Ttl
from weedtw.topology.layout import Layout, LayoutKey, Where
from weedtw.topology.server import Server

LIMIT = 1000
A = Server("a:1", "a:1", "1", "r1")
B = Server("b:1", "b:1", "1", "r2")
C = Server("c:1", "c:1", "2", "r1")


def report(volume_id: int, *, size: int = 8, read_only: bool = False, copies: str = "000") -> VolumeReport:
    return VolumeReport(volume_id, "", size, 0, 0, 0, 0, 0, 3, ReplicaPlacement.parse(copies), NO_TTL, read_only)


def layout(copies: str = "000") -> Layout:
    return Layout(LayoutKey("", ReplicaPlacement.parse(copies), NO_TTL), LIMIT)


class Writable(SynchronousTestCase):
    def test_a_volume_with_room_is(self) -> None:
        it = layout()
        it.place(1, [(A, report(1))])
        assert it.writables() == [1]

    def test_one_at_the_limit_is_not(self) -> None:
        it = layout()
        it.place(1, [(A, report(1, size=LIMIT - 1))])
        assert it.writables() == [1]
        it.place(1, [(A, report(1, size=LIMIT))])
        assert it.writables() == []
        it.place(1, [(A, report(1, size=LIMIT // 2))])  # it was vacuumed
        assert it.writables() == [1]

    def test_one_that_is_read_only_on_one_server_is_not(self) -> None:
        it = layout("001")
        it.place(1, [(A, report(1)), (B, report(1, read_only=True))])
        assert it.writables() == []

    def test_one_that_lacks_a_copy_is_not(self) -> None:
        it = layout("001")
        it.place(1, [(A, report(1))])
        assert it.writables() == []
        assert it.volume_ids() == [1]
        it.place(1, [(A, report(1)), (B, report(1))])
        assert it.writables() == [1]

    def test_one_that_is_gone_is_not(self) -> None:
        it = layout()
        it.place(1, [(A, report(1))])
        it.drop(1)
        assert it.pick(random.Random(1)) is None
        assert len(it) == 0


class Picking(SynchronousTestCase):
    def test_every_volume_has_the_same_chance(self) -> None:
        it = layout()
        for volume_id in range(1, 6):
            it.place(volume_id, [(A, report(volume_id))])
        rng = random.Random(5)
        picked = Counter(pick.volume_id for _ in range(5000) if (pick := it.pick(rng)))
        assert set(picked) == {1, 2, 3, 4, 5}
        assert max(picked.values()) < 1.2 * min(picked.values())

    def test_crowded_volumes_come_last(self) -> None:
        it = layout()
        it.place(1, [(A, report(1, size=950))])
        it.place(2, [(A, report(2))])
        rng = random.Random(5)
        assert {pick.volume_id for _ in range(50) if (pick := it.pick(rng))} == {2}
        it.place(2, [(A, report(2, size=LIMIT))])
        pick = it.pick(rng)
        assert pick is not None
        assert (pick.volume_id, pick.crowded) == (1, True)

    def test_a_place_narrows_the_choice(self) -> None:
        it = layout()
        for volume_id, server in enumerate((A, B, C), 1):
            it.place(volume_id, [(server, report(volume_id))])
        rng = random.Random(5)
        for where, wanted in (
            (Where(data_center="1"), {1, 2}),
            (Where(data_center="1", rack="r2"), {2}),
            (Where(rack="r1"), {1, 3}),
            (Where(node=C.address), {3}),
            (Where(data_center="9"), set()),
        ):
            assert {pick.volume_id for _ in range(50) if (pick := it.pick(rng, where))} == wanted, where

    def test_of_several_copies_the_one_in_the_place_is_named(self) -> None:
        it = layout("100")
        it.place(1, [(A, report(1, copies="100")), (C, report(1, copies="100"))])
        rng = random.Random(5)
        assert {p.server.address for _ in range(50) if (p := it.pick(rng, Where(data_center="2")))} == {C.address}
        assert {p.server.address for _ in range(50) if (p := it.pick(rng))} == {A.address, C.address}

    def test_what_was_found_in_a_place_is_not_remembered_too_long(self) -> None:
        it = layout()
        here, rng = Where(data_center="1"), random.Random(5)
        it.place(1, [(A, report(1))])
        assert it.pick(rng, here) is not None
        it.place(1, [(C, report(1))])
        assert it.pick(rng, here) is None
        it.place(2, [(A, report(2))])
        assert it.pick(rng, here) is not None
        it.place(2, [(A, report(2, read_only=True))])
        assert it.pick(rng, here) is None


STEPS = st.tuples(st.integers(1, 6), st.integers(0, 1100), st.booleans(), st.integers(0, 2))


class AnyHistory(SynchronousTestCase):
    @given(
        st.lists(st.tuples(st.integers(1, 6), st.integers(0, 1100), st.booleans(), st.integers(0, 2)), max_size=40)
    )
    def test_writables_are_those_whose_last_word_says_so(self, steps: list[tuple[int, int, bool, int]]) -> None:
        it, last = layout("001"), dict[int, bool]()
        for volume_id, size, read_only, copies in steps:
            described = attrs.evolve(report(volume_id, size=size), read_only=read_only)
            if copies == 0:
                it.drop(volume_id)
            else:
                it.place(volume_id, [(server, described) for server in (A, B)[:copies]])
            last[volume_id] = copies == 2 and size < LIMIT and not read_only
            assert it.writables() == sorted(volume for volume, writable in last.items() if writable)
            assert it.writable_count == len(it.writables())
            pick = it.pick(random.Random(1))
            assert (pick is None) == (it.writables() == [])


class Keys(SynchronousTestCase):
    def test_hdd_need_not_be_named(self) -> None:
        assert LayoutKey.of(attrs.evolve(report(1), disk_type="hdd")) == LayoutKey.of(report(1))
        assert LayoutKey.of(attrs.evolve(report(1), disk_type="SSD")) != LayoutKey.of(report(1))

    def test_texts_name_what_matters(self) -> None:
        key = LayoutKey("pics", ReplicaPlacement.parse("001"), Ttl.parse("3m"), "ssd")
        assert str(key) == "collection 'pics', replication 001, ttl 3m, disk type ssd"
        assert str(Where("dc1", "r1", "a:1")) == " in data center 'dc1', rack 'r1', server 'a:1'"
        assert str(Where()) == ""
