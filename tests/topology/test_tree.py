"""The tree of servers and volumes, told by reports."""

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.formats.beat import Delta, Disk, Full, Pulse, VolumeReport
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import NO_TTL
from weedtw.topology.layout import LayoutKey
from weedtw.topology.server import Server
from weedtw.topology.tree import Topology

LIMIT = 1000


def volume(
    volume_id: int, *, copies: str = "000", collection: str = "", size: int = 8, files: int = 0
) -> VolumeReport:
    return VolumeReport(volume_id, collection, size, files, 0, 0, 0, 0, 3, ReplicaPlacement.parse(copies), NO_TTL)


def full(*volumes: VolumeReport, part: int = 1, parts: int = 1, room: int = 10) -> Full:
    return Full(1, part, parts, volumes, room, 0, (), 0)


def delta(
    *, new: tuple[VolumeReport, ...] = (), gone: tuple[int, ...] = (), changed: tuple[VolumeReport, ...] = ()
) -> Delta:
    return Delta(2, new, gone, changed, 10, 0)


def server(name: str, dc: str = "dc1", rack: str = "r1") -> Server:
    return Server(f"{name}:1", f"{name}:1", dc, rack)


class Cluster:
    """A topology with servers that joined and reported."""

    def __init__(self, **holdings: tuple[VolumeReport, ...]) -> None:
        self.tree = Topology(LIMIT)
        for name, volumes in holdings.items():
            self.join(name, *volumes)

    def join(self, name: str, *volumes: VolumeReport) -> Server:
        joined = server(name)
        self.tree.join(joined)
        self.tree.apply_full(joined, [full(*volumes)])
        return joined

    def __getitem__(self, name: str) -> Server:
        return self.tree.servers[f"{name}:1"]

    def copies(self, volume_id: int) -> list[str]:
        return [each.address[:-2] for each in self.tree.copies(volume_id)]

    def writables(self) -> list[int]:
        return sorted(volume_id for layout in self.tree.layouts.values() for volume_id in layout.writables())


class Reports(SynchronousTestCase):
    def test_a_full_report_tells_all(self) -> None:
        it = Cluster(a=(volume(1), volume(2)), b=(volume(3),))
        assert it.copies(1) == ["a"]
        assert it.copies(3) == ["b"]
        assert it.writables() == [1, 2, 3]

    def test_what_a_full_report_leaves_out_is_gone(self) -> None:
        it = Cluster(a=(volume(1), volume(2)))
        it.tree.apply_full(it["a"], [full(volume(2))])
        assert it.copies(1) == []
        assert it.writables() == [2]

    def test_the_parts_of_a_report_make_one(self) -> None:
        it = Cluster(a=(volume(9),))
        it.tree.apply_full(it["a"], [full(volume(1), part=1, parts=2), full(volume(2), part=2, parts=2)])
        assert it.writables() == [1, 2]

    def test_a_server_is_not_reported_before_its_full_report(self) -> None:
        tree = Topology(LIMIT)
        joined = server("a")
        tree.join(joined)
        assert not joined.reported
        assert not tree.apply_delta(joined, delta(new=(volume(1),)))  # so it is asked for a full one
        tree.apply_full(joined, [full(volume(1))])
        assert joined.reported

    def test_a_delta_adds_removes_and_changes(self) -> None:
        it = Cluster(a=(volume(1), volume(2)))
        known = it.tree.apply_delta(it["a"], delta(new=(volume(3),), gone=(1,), changed=(volume(2, size=LIMIT),)))
        assert known
        assert it.writables() == [3]
        assert it.copies(2) == ["a"]

    def test_a_change_does_not_bring_a_deleted_volume_back(self) -> None:
        it = Cluster(a=(volume(1),))
        it.tree.remove_volume(it["a"], 1)
        assert not it.tree.apply_pulse(it["a"], Pulse(3, (volume(1, size=9),), 10, 0))
        assert it.copies(1) == []

    def test_a_layout_without_volumes_is_no_more(self) -> None:
        it = Cluster(a=(volume(1, collection="pics"),))
        assert len(it.tree.collection_layouts("pics")) == 1
        it.tree.apply_delta(it["a"], delta(gone=(1,)))
        assert it.tree.collection_layouts("pics") == []
        assert it.tree.layouts == {}

    def test_room_and_disks(self) -> None:
        it = Cluster(a=(volume(1),))
        assert it["a"].free == 9
        disks = (Disk(0, "/x", "hdd", 5, 7, 9), Disk(1, "/y", "SSD", 3, 7, 9))
        it.tree.apply_pulse(it["a"], Pulse(3, (), 8, 0, disks))
        assert it["a"].free == 7
        assert it["a"].slots("") == (1, 5)
        assert it["a"].slots("ssd") == (0, 3)
        it.tree.apply_pulse(it["a"], Pulse(4, (), 8, 0))
        assert it["a"].disks == disks


class HoldingBack(SynchronousTestCase):
    def test_a_volume_held_back_takes_no_files_until_it_is_released(self) -> None:
        it = Cluster(a=(), b=(volume(2),))
        it.tree.hold_back(1)
        it.tree.hold_back(2)
        it.tree.add_volume(it["a"], volume(1))
        assert it.copies(1) == ["a"]
        assert it.writables() == []
        it.tree.release(1)
        it.tree.release(2)
        assert it.writables() == [1, 2]


class Leaving(SynchronousTestCase):
    def test_a_server_that_leaves_takes_its_volumes_along(self) -> None:
        it = Cluster(a=(volume(1, copies="001"), volume(2)), b=(volume(1, copies="001"),))
        assert it.writables() == [1, 2]
        it.tree.leave(it["a"])
        assert it.writables() == []
        assert it.copies(1) == ["b"]
        assert it.copies(2) == []

    def test_its_volumes_are_awaited(self) -> None:
        it = Cluster(a=(volume(1),), b=())
        expected = ["a:1", "b:1"]
        assert it.tree.awaited(1, expected, 5) == []
        it.tree.leave(it["a"])
        assert it.tree.awaited(1, expected, 5) == ["a:1"]
        assert it.tree.awaited(2, expected, 5) == []
        it.join("a")
        assert it.tree.awaited(1, expected, 5) == []

    def test_a_server_never_seen_may_hold_anything_that_was_made(self) -> None:
        it = Cluster(b=())
        assert it.tree.awaited(5, ["a:1", "b:1"], 5) == ["a:1"]
        assert it.tree.awaited(6, ["a:1", "b:1"], 5) == []

    def test_one_that_joined_but_has_not_reported_is_awaited(self) -> None:
        it = Cluster()
        it.tree.join(server("a"))
        assert it.tree.awaited(1, ["a:1"], 5) == ["a:1"]

    def test_a_second_connection_takes_over_without_a_gap(self) -> None:
        it = Cluster(a=(volume(1),))
        before = it["a"]
        after = server("a")
        it.tree.join(after)
        assert it.tree.copies(1) == (after,)
        it.tree.leave(before)  # the old connection goes: nothing to do
        assert it.tree.copies(1) == (after,)
        it.tree.apply_full(after, [full()])
        assert it.tree.copies(1) == ()


class Conflicts(SynchronousTestCase):
    def test_the_same_id_in_another_collection(self) -> None:
        it = Cluster(a=(volume(1),), b=(volume(1, collection="pics"),))
        assert it.copies(1) == ["a"]
        assert it.writables() == [1]
        (conflict,) = it.tree.take_new_conflicts()
        assert (conflict.volume_id, conflict.address) == (1, "b:1")
        assert "'pics'" in conflict.reason
        assert "a:1" in conflict.reason
        assert it.tree.take_new_conflicts() == []
        assert set(it.tree.quarantined) == {(1, "b:1")}

    def test_more_copies_than_there_should_be(self) -> None:
        it = Cluster(a=(volume(1, files=3),), b=(volume(1, files=5),))
        assert it.copies(1) == ["a"]
        (conflict,) = it.tree.take_new_conflicts()
        assert "another number of live files" in conflict.reason

    def test_copies_as_many_as_there_should_be_are_copies(self) -> None:
        it = Cluster(a=(volume(1, copies="001", files=3),), b=(volume(1, copies="001", files=4),))
        assert it.copies(1) == ["a", "b"]
        assert not it.tree.take_new_conflicts()

    def test_the_second_claim_counts_when_the_first_is_gone(self) -> None:
        it = Cluster(a=(volume(1),), b=(volume(1, collection="pics"),))
        it.tree.leave(it["a"])
        assert it.copies(1) == ["b"]
        assert it.tree.key_of(1) == LayoutKey.of(volume(1, collection="pics"))
        assert it.tree.quarantined == {}
        assert [layout.key.collection for layout in it.tree.layouts.values()] == ["pics"]

    def test_a_quarantined_copy_that_goes_leaves_nothing_behind(self) -> None:
        it = Cluster(a=(volume(1),), b=(volume(1, collection="pics"),))
        it.tree.leave(it["b"])
        assert it.tree.quarantined == {}
        assert it.copies(1) == ["a"]

    def test_settings_that_change_on_one_copy_after_the_other(self) -> None:
        it = Cluster(a=(volume(1, copies="001"),), b=(volume(1, copies="001"),))
        it.tree.apply_delta(it["a"], delta(changed=(volume(1, copies="010"),)))
        assert it.copies(1) == ["a"]
        it.tree.apply_delta(it["b"], delta(changed=(volume(1, copies="010"),)))
        assert it.copies(1) == ["a", "b"]
        assert it.tree.quarantined == {}

    def test_a_collection_counts_its_quarantined_volumes_too(self) -> None:
        it = Cluster(a=(volume(1),), b=(volume(1, collection="pics"),))
        assert [each.address for each in it.tree.holders_of_collection("pics")] == ["b:1"]


# ------------------------------------------------------------------ any history

NAMES = st.sampled_from(["a", "b", "c"])
VOLUMES = st.builds(
    volume,
    st.integers(1, 4),
    copies=st.sampled_from(["000", "001"]),
    collection=st.sampled_from(["", "", "x"]),
    size=st.sampled_from([8, 950, 1000]),
)
STEPS = st.one_of(
    st.tuples(st.just("join"), NAMES),
    st.tuples(st.just("leave"), NAMES),
    st.tuples(st.just("full"), NAMES, st.lists(VOLUMES, max_size=4)),
    st.tuples(st.just("add"), NAMES, VOLUMES),
    st.tuples(st.just("gone"), NAMES, st.integers(1, 4)),
)


class AnyHistory(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(STEPS, max_size=30))
    def test_the_tree_is_what_its_servers_hold(self, steps: list[tuple[object, ...]]) -> None:
        tree = Topology(LIMIT)
        for step in steps:
            self.take(tree, *step)
            self.check(tree)

    def take(self, tree: Topology, what: object, name: object, about: object = None) -> None:
        known = tree.servers.get(f"{name}:1")
        if what == "join":
            tree.join(server(str(name)))
        elif known is None:
            return
        elif what == "leave":
            tree.leave(known)
        elif isinstance(about, list):
            tree.apply_full(known, [full(*{each.id: each for each in about}.values())])
        elif isinstance(about, VolumeReport):
            tree.apply_delta(known, delta(new=(about,)))
        elif isinstance(about, int):
            tree.apply_delta(known, delta(gone=(about,)))

    def check(self, tree: Topology) -> None:
        for volume_id in range(1, 5):
            claims = [each for each in tree.servers.values() if volume_id in each.volumes]
            copies = tree.copies(volume_id)
            quarantined = {address for number, address in tree.quarantined if number == volume_id}
            assert {each.address for each in copies} | quarantined == {each.address for each in claims}
            assert not quarantined & {each.address for each in copies}
            assert bool(copies) == bool(claims)
            settings_of = {attrs.evolve(LayoutKey.of(each.volumes[volume_id]), disk_type="") for each in copies}
            assert len(settings_of) <= 1
            key = tree.key_of(volume_id)
            assert (key is None) == (not copies)
            if key is not None:
                sizes = [each.volumes[volume_id].size for each in copies]
                assert len(copies) <= key.replication.copies
                writable = len(copies) == key.replication.copies and max(sizes) < LIMIT
                assert (volume_id in tree.layouts[key].writables()) == writable
        placed = [volume_id for layout in tree.layouts.values() for volume_id in layout.volume_ids()]
        assert sorted(placed) == [n for n in range(1, 5) if tree.copies(n)]
