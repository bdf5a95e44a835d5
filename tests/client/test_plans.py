"""Which copies are made and moved: never against the replication, nor on a host twice when another could take one."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.client.inventory import Copy, Holder, Inventory
from weedtw.client.plans import Plan, admits, plan_balance, plan_repairs, plan_surplus
from weedtw.formats.replication import ReplicaPlacement


def holder(url: str, place: str = "dc1 r1", most: int = 10, **copies: str) -> Holder:
    """A server with copies such as v3="001"."""
    center, _, rack = place.partition(" ")
    held = {int(name[1:]): Copy(int(name[1:]), "", ReplicaPlacement.parse(asked)) for name, asked in copies.items()}
    return Holder(url, center, rack, most, held)


def repairs(*holders: Holder, quarantined: frozenset[tuple[int, str]] = frozenset()) -> list[tuple[int, str, str]]:
    plan = plan_repairs(Inventory(holders, quarantined))
    return [(step.volume_id, step.source, step.target) for step in plan.steps]


class Repairs(SynchronousTestCase):
    def test_nothing_is_short(self) -> None:
        self.assertEqual(repairs(holder("a:1", v1="000"), holder("b:1")), [])

    def test_in_the_same_rack(self) -> None:
        self.assertEqual(
            repairs(holder("a:1", v1="001"), holder("b:1", "dc1 r2"), holder("c:1")), [(1, "a:1", "c:1")]
        )

    def test_in_another_rack(self) -> None:
        self.assertEqual(
            repairs(holder("a:1", v1="010"), holder("b:1"), holder("c:1", "dc1 r2")), [(1, "a:1", "c:1")]
        )

    def test_in_another_data_center(self) -> None:
        self.assertEqual(
            repairs(holder("a:1", v1="100"), holder("b:1", "dc1 r2"), holder("c:1", "dc2 r1")), [(1, "a:1", "c:1")]
        )

    def test_all_kinds_at_once(self) -> None:
        others = (holder("b:1"), holder("c:1", "dc1 r2"), holder("d:1", "dc2 r1"), holder("e:1", "dc2 r1"))
        targets = {target for _, _, target in repairs(holder("a:1", v1="111"), *others)}
        self.assertEqual(len(targets), 3)
        self.assertTrue(
            admits(ReplicaPlacement.parse("111"), [holder("a:1"), *(h for h in others if h.url in targets)])
        )

    def test_the_emptiest_first(self) -> None:
        self.assertEqual(
            repairs(holder("a:1", v1="001"), holder("b:1", v2="000"), holder("c:1")), [(1, "a:1", "c:1")]
        )

    def test_no_second_copy_on_a_host_that_another_can_spare(self) -> None:
        found = repairs(holder("a:1", v1="001"), holder("a:2"), holder("b:1", v2="000", v3="000"))
        self.assertEqual(found, [(1, "a:1", "b:1")])
        self.assertEqual(repairs(holder("a:1", v1="001"), holder("a:2")), [(1, "a:1", "a:2")])

    def test_no_room(self) -> None:
        plan = plan_repairs(Inventory((holder("a:1", v1="001"), holder("b:1", most=1, v2="000"))))
        self.assertEqual(plan.steps, ())
        self.assertIn("volume 1 has 1 of 2 copies (replication 001), on a:1 (dc1 r1)", plan.remarks[0])

    def test_room_is_used_up_by_what_is_planned(self) -> None:
        plan = plan_repairs(Inventory((holder("a:1", v1="001", v2="001"), holder("b:1", most=1))))
        self.assertEqual((len(plan.steps), len(plan.remarks)), (1, 1))

    def test_a_copy_that_is_not_believed_does_not_count_and_is_not_overwritten(self) -> None:
        found = repairs(holder("a:1", v1="001"), holder("b:1", v1="001"), quarantined=frozenset({(1, "b:1")}))
        self.assertEqual(found, [])

    def test_from_the_copy_with_most_files(self) -> None:
        placement = ReplicaPlacement.parse("002")
        less = Holder("a:1", "dc1", "r1", 10, {1: Copy(1, "", placement, files=3)})
        more = Holder("b:1", "dc1", "r1", 10, {1: Copy(1, "", placement, files=4)})
        self.assertEqual(repairs(less, more, holder("c:1")), [(1, "b:1", "c:1")])


class Surplus(SynchronousTestCase):
    HOLDERS = (holder("a:1", v1="001"), holder("b:1", v1="001"), holder("c:1", v1="001"))

    def test_what_is_not_counted_goes(self) -> None:
        plan = plan_surplus(Inventory(self.HOLDERS, frozenset({(1, "c:1")})))
        self.assertEqual([(step.volume_id, step.target, step.drops) for step in plan.steps], [(1, "c:1", True)])
        self.assertEqual(str(plan.steps[0]), "remove the surplus copy of volume 1 on c:1 (0 bytes)")

    def test_only_what_is_asked_for(self) -> None:
        found = Inventory(self.HOLDERS, frozenset({(1, "c:1")}))
        self.assertEqual(plan_surplus(found, [2]), Plan())
        self.assertEqual(plan_surplus(found, collection="x"), Plan())
        self.assertEqual(len(plan_surplus(found, [1], "").steps), 1)

    def test_never_below_the_wanted_count(self) -> None:
        self.assertEqual(plan_surplus(Inventory(self.HOLDERS[1:], frozenset({(1, "c:1")}))), Plan())
        self.assertEqual(plan_surplus(Inventory(self.HOLDERS[2:], frozenset({(1, "c:1")}))), Plan())

    def test_another_volume_of_that_id_is_no_copy(self) -> None:
        holders = (*self.HOLDERS[:2], holder("c:1", v1="000"))
        self.assertEqual(plan_surplus(Inventory(holders, frozenset({(1, "c:1")}))), Plan())

    def test_after_the_repairs(self) -> None:
        found = Inventory((*self.HOLDERS, holder("d:1", v2="001")), frozenset({(1, "c:1")}))
        plan = plan_repairs(found) + plan_surplus(found)
        self.assertEqual([step.drops for step in plan.steps], [False, True])


class Balance(SynchronousTestCase):
    def test_from_the_fullest_to_the_emptiest(self) -> None:
        full = holder("a:1", v1="000", v2="000", v3="000", v4="000")
        plan = plan_balance(Inventory((full, holder("b:1"))))
        self.assertEqual([(step.source, step.target) for step in plan.steps], [("a:1", "b:1")] * 2)

    def test_not_against_the_replication(self) -> None:
        plan = plan_balance(
            Inventory((holder("a:1", v1="010", v2="010"), holder("b:1", "dc1 r2", v1="010", v2="010"), holder("c:1")))
        )
        self.assertEqual([(step.source, step.target) for step in plan.steps], [("a:1", "c:1")])

    def test_not_while_copies_are_missing(self) -> None:
        plan = plan_balance(Inventory((holder("a:1", v1="001", v2="001", v3="001"), holder("b:1"))))
        self.assertEqual(plan.steps, ())


PLACES = st.sampled_from(["dc1 r1", "dc1 r2", "dc1 r3", "dc2 r1", "dc2 r2", "dc3 r1"])
SERVERS = st.lists(st.tuples(st.sampled_from("abcdef"), PLACES, st.integers(0, 4)), min_size=1, max_size=9)
VOLUMES = st.lists(
    st.tuples(st.sampled_from(["000", "001", "010", "100", "002", "011", "110", "200"]), st.integers(0, 8)),
    max_size=6,
)


def cluster(servers: list[tuple[str, str, int]], volumes: list[tuple[str, int]], *, whole: bool) -> Inventory:
    """Servers with volumes on them; one copy each, or as many as can be."""
    held: list[dict[int, Copy]] = [{} for _ in servers]
    for volume_id, (asked, first) in enumerate(volumes, 1):
        held[first % len(servers)][volume_id] = Copy(volume_id, "", ReplicaPlacement.parse(asked))
    holders = [
        Holder(f"{host}:{port}", place[:3], place[4:], len(held[port]) + room, held[port])
        for port, (host, place, room) in enumerate(servers)
    ]
    inventory = Inventory(tuple(holders))
    return _after(inventory, plan_repairs(inventory).steps) if whole else inventory


def _after(inventory: Inventory, steps: object) -> Inventory:
    assert isinstance(steps, tuple)
    copies = {one.url: dict(one.copies) for one in inventory.holders}
    for step in steps:
        assert step.volume_id not in copies[step.target]
        copies[step.target][step.volume_id] = copies[step.source][step.volume_id]
        if step.moves:
            del copies[step.source][step.volume_id]
    return Inventory(
        tuple(Holder(h.url, h.data_center, h.rack, h.max_volumes, copies[h.url]) for h in inventory.holders)
    )


class AnyCluster(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(SERVERS, VOLUMES)
    def test_repairs(self, servers: list[tuple[str, str, int]], volumes: list[tuple[str, int]]) -> None:
        before = cluster(servers, volumes, whole=False)
        plan = plan_repairs(before)
        after = _after(before, plan.steps)
        for one in after.holders:
            assert len(one.copies) <= one.max_volumes
        for volume_id in after.volume_ids():
            copies = after.copies_of(volume_id)
            places = [place for place, _ in copies]
            assert admits(copies[0][1].replication, places)
            taken = {place.host for place in places}
            for step in (step for step in plan.steps if step.volume_id == volume_id):
                rest = [place for place in places if place.url != step.target]
                if any(place.host == step.target.partition(":")[0] for place in rest):
                    spare = [
                        one
                        for one in after.holders
                        if one.host not in taken
                        and len(one.copies) < one.max_volumes
                        and admits(copies[0][1].replication, [*rest, one])
                    ]
                    assert not spare, (step, spare)
        assert plan_repairs(after).steps == ()

    @settings(max_examples=300, deadline=None)
    @given(SERVERS, VOLUMES)
    def test_balance(self, servers: list[tuple[str, str, int]], volumes: list[tuple[str, int]]) -> None:
        before = cluster(servers, volumes, whole=True)
        after = _after(before, plan_balance(before).steps)
        for one in after.holders:
            assert len(one.copies) <= one.max_volumes
        for volume_id in after.volume_ids():
            copies = after.copies_of(volume_id)
            assert len(copies) == len(before.copies_of(volume_id))
            assert admits(copies[0][1].replication, [place for place, _ in copies])
