"""Placement of new volumes: on servers drawn at random, against a search through every possibility."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import NoRoom
from weedtw.formats.beat import Disk
from weedtw.formats.replication import ReplicaPlacement
from weedtw.topology.growth import place_volume
from weedtw.topology.layout import Where
from weedtw.topology.server import Server


def server(
    address: str,
    data_center: str = "dc1",
    rack: str = "r1",
    *,
    room: int = 10,
    held: int = 0,
    disks: tuple[Disk, ...] = (),
) -> Server:
    made = Server(address, address, data_center, rack, max_volumes=room, disks=disks, reported=True)
    made.reserved = held
    return made


def replication(text: str) -> ReplicaPlacement:
    return ReplicaPlacement.parse(text)


def fits(chosen: Sequence[Server], wanted: ReplicaPlacement) -> bool:
    """Whether the first of these could be the main copy of a volume on all of them; the definition of `xyz`."""
    main, others = chosen[0], chosen[1:]
    in_rack = [s for s in others if (s.data_center, s.rack) == (main.data_center, main.rack)]
    in_center = [s for s in others if s.data_center == main.data_center and s.rack != main.rack]
    elsewhere = [s for s in others if s.data_center != main.data_center]
    return (
        len(set(map(id, chosen))) == len(chosen)
        and len(in_rack) == wanted.same_rack
        and len(in_center) == len({s.rack for s in in_center}) == wanted.other_racks
        and len(elsewhere) == len({s.data_center for s in elsewhere}) == wanted.other_dcs
    )


def most_hosts(servers: Sequence[Server], wanted: ReplicaPlacement, where: Where) -> int:
    """The most hosts that any placement reaches, by trying all of them; 0 when there is none."""
    free = [s for s in servers if s.free > 0]
    return max(
        (
            len({s.host for s in chosen})
            for main in free
            if where.matches(main)
            for others in itertools.combinations([s for s in free if s is not main], wanted.copies - 1)
            if fits(chosen := (main, *others), wanted)
        ),
        default=0,
    )


SERVERS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from(["dc1", "dc2", "dc3"]),
        st.sampled_from(["r1", "r2", "r3"]),
        st.integers(0, 3),
    ),
    max_size=9,
).map(
    lambda rows: [
        server(f"{host}:{port}", dc, rack, room=room) for port, (host, dc, rack, room) in enumerate(rows, 1)
    ]
)
REPLICATIONS = st.sampled_from(["000", "001", "002", "010", "020", "011", "100", "101", "110", "200", "111"]).map(
    replication
)
PLACES = st.builds(
    Where,
    data_center=st.sampled_from(["", "", "dc1", "dc2"]),
    rack=st.sampled_from(["", "", "r1"]),
    node=st.sampled_from(["", "", "", "a:1", "b:2"]),
)


class AnyCluster(SynchronousTestCase):
    @settings(max_examples=400, deadline=None)
    @given(SERVERS, REPLICATIONS, PLACES, st.integers())
    def test_finds_a_placement_on_the_most_hosts_or_says_that_there_is_none(
        self, servers: list[Server], wanted: ReplicaPlacement, where: Where, seed: int
    ) -> None:
        best = most_hosts(servers, wanted, where)
        if best == 0:
            with pytest.raises(NoRoom, match=r"\w+ \w+"):
                place_volume(servers, wanted, random.Random(seed), where=where)
            return
        chosen = place_volume(servers, wanted, random.Random(seed), where=where)
        assert fits(chosen, wanted), [s.address for s in chosen]
        assert where.matches(chosen[0])
        assert all(s.free for s in chosen)
        assert len({s.host for s in chosen}) == best

    @settings(max_examples=100, deadline=None)
    @given(SERVERS, REPLICATIONS, st.integers())
    def test_the_same_draw_gives_the_same_placement(
        self, servers: list[Server], wanted: ReplicaPlacement, seed: int
    ) -> None:
        def once() -> list[str]:
            try:
                return [s.address for s in place_volume(servers, wanted, random.Random(seed))]
            except NoRoom as error:
                return [str(error)]

        assert once() == once()


def grow(servers: Sequence[Server], wanted: str, times: int, seed: int = 7) -> Counter[str]:
    rng = random.Random(seed)
    for _ in range(times):
        for chosen in place_volume(servers, replication(wanted), rng):
            chosen.reserved += 1
    return Counter({s.address: s.reserved for s in servers})


class Spread(SynchronousTestCase):
    def test_volumes_spread_evenly_over_equal_servers(self) -> None:
        for wanted in ("000", "001", "010", "100", "011", "110"):
            servers = [server(f"10.0.0.{n}:80", f"dc{n % 2}", f"r{n % 4}", room=1000) for n in range(12)]
            held = grow(servers, wanted, 100)
            assert max(held.values()) <= 1.5 * min(held.values()), (wanted, held)

    def test_a_bigger_server_gets_more(self) -> None:
        held = grow([server("a:1", room=100), server("b:1", room=20)], "000", 60)
        assert held == {"a:1": 50, "b:1": 10}

    def test_a_new_server_catches_up(self) -> None:
        held = grow([server("a:1", room=40, held=20), server("b:1", room=40)], "000", 20)
        assert held == {"a:1": 20, "b:1": 20}

    def test_every_slot_is_used_before_there_is_no_room(self) -> None:
        servers = [server(f"h{n}:1", room=n) for n in range(1, 5)]
        grow(servers, "000", 10)
        with pytest.raises(NoRoom, match="every volume slot is taken: 10 on 4 volume servers"):
            place_volume(servers, replication("000"), random.Random(1))


class Hosts(SynchronousTestCase):
    def test_copies_go_to_two_hosts_when_there_are_two(self) -> None:
        servers = [server("a:1"), server("a:2"), server("a:3"), server("b:1", held=9)]
        for seed in range(20):
            chosen = place_volume(servers, replication("001"), random.Random(seed))
            assert {s.host for s in chosen} == {"a", "b"}

    def test_copies_share_a_host_when_there_is_no_other(self) -> None:
        chosen = place_volume([server("a:1"), server("a:2")], replication("001"), random.Random(1))
        assert {s.address for s in chosen} == {"a:1", "a:2"}

    def test_the_main_copy_moves_away_from_the_only_host_another_rack_has(self) -> None:
        servers = [server("a:1", rack="r1"), server("b:1", rack="r1", held=9), server("a:2", rack="r2")]
        chosen = place_volume(servers, replication("010"), random.Random(1))
        assert {s.address for s in chosen} == {"b:1", "a:2"}

    def test_ipv6_hosts_are_told_apart(self) -> None:
        servers = [server("[fd00::1]:80"), server("[fd00::1]:81"), server("[fd00::2]:80", held=5)]
        chosen = place_volume(servers, replication("001"), random.Random(1))
        assert {s.host for s in chosen} == {"fd00::1", "fd00::2"}


class Missing(SynchronousTestCase):
    def refusal(self, servers: Sequence[Server], wanted: str, where: Where | None = None, disk_type: str = "") -> str:
        with pytest.raises(NoRoom) as caught:
            place_volume(servers, replication(wanted), random.Random(1), where=where, disk_type=disk_type)
        return str(caught.value)

    def test_no_server(self) -> None:
        assert self.refusal([], "000") == "no volume server is connected"

    def test_a_server_that_has_not_reported_takes_nothing(self) -> None:
        silent = server("a:1")
        silent.reported = False
        assert self.refusal([silent], "000") == "no volume server is connected"

    def test_unknown_place(self) -> None:
        assert "data center 'mars'" in self.refusal([server("a:1")], "000", Where(data_center="mars"))

    def test_too_few_of_each(self) -> None:
        servers = [server("a:1"), server("b:1", room=0), server("c:1", rack="r2", room=0)]
        assert "2 data centers with a free volume slot, there are 1" in self.refusal(servers, "100")
        assert "2 racks with a free volume slot in one data center, there are 1" in self.refusal(servers, "010")
        assert "2 servers with a free volume slot in one rack, there are 1" in self.refusal(servers, "001")

    def test_enough_of_each_but_not_together(self) -> None:
        servers = [
            server("a:1", "dc1", "r1"), server("b:1", "dc1", "r1"),
            server("c:1", "dc2", "r1"), server("d:1", "dc2", "r2"),
        ]  # fmt: skip
        assert "in one place" in self.refusal(servers, "011")

    def test_disk_type(self) -> None:
        disks = (Disk(0, "/hdd", "", 5, 0, 0), Disk(1, "/ssd", "ssd", 0, 0, 0))
        assert "'ssd'" in self.refusal([server("a:1", disks=disks)], "000", disk_type="ssd")
        assert "'nvme'" in self.refusal([server("a:1", disks=disks)], "000", disk_type="nvme")
        assert len(place_volume([server("a:1", disks=disks)], replication("000"), random.Random(1))) == 1
