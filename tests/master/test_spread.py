"""Volumes over servers, and files over volumes: none gets half as much again as another."""

import random
from collections import Counter
from collections.abc import Collection

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import Scene, layout
from weedtw.master.assign import Assigner, Wish
from weedtw.master.growth import Order
from weedtw.topology.layout import Where

SPREAD = 1.5


class Spread(SynchronousTestCase):
    """A master whose volume servers make what they are asked for."""

    def begin(self, seed: int, rooms: dict[str, int]) -> None:
        self.scene = Scene()
        self.scene.cluster.rng = random.Random(seed)
        self.servers = {address: self.scene.join(address, room=room) for address, room in rooms.items()}
        self.assigner = Assigner(self.scene.cluster, self.scene.grower, lambda: 1)

    def grow(self, copies: str, count: int) -> None:
        """Volumes are made, in several orders."""
        for _ in range(count):
            grown = self.scene.grower.grow_all(Order(layout(copies), Where(), 1))
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(grown)), 1)

    def assign(self) -> int:
        """The volume of a file id."""
        found = self.successResultOf(Deferred.fromCoroutine(self.assigner.assign(Wish(layout()))))
        return found.file_id.volume_id

    def held(self) -> list[int]:
        return [len(server.volumes) for server in self.servers.values()]

    def check_spread(self, counts: Collection[float], case: object) -> None:
        self.assertLessEqual(max(counts), SPREAD * min(counts), (case, counts))

    def test_volumes_over_servers(self) -> None:
        for seed in range(10):
            for copies in ("000", "001", "002"):
                for count in (3, 4, 7):
                    self.begin(seed, {f"10.0.0.{number}:80": 100 for number in range(count)})
                    self.grow(copies, 4 * count)
                    self.check_spread(self.held(), (seed, copies, count))

    def test_volumes_over_servers_of_different_sizes_by_their_room(self) -> None:
        for seed in range(10):
            rooms = {"a:1": 40, "b:1": 80, "c:1": 160}
            self.begin(seed, rooms)
            self.grow("000", 70)
            filled = [held / room for held, room in zip(self.held(), rooms.values(), strict=True)]
            self.check_spread(filled, seed)

    def test_volumes_over_servers_of_which_some_came_later(self) -> None:
        self.begin(1, {"a:1": 100, "b:1": 100})
        self.grow("000", 10)
        self.servers |= {address: self.scene.join(address, room=100) for address in ("c:1", "d:1")}
        self.grow("000", 10)
        self.check_spread(self.held(), "later")

    def test_files_over_volumes(self) -> None:
        for seed in range(5):
            self.begin(seed, {f"10.0.0.{number}:80": 100 for number in range(4)})
            files = Counter(self.assign() for _ in range(3000))
            self.assertGreater(len(files), 3)
            self.check_spread(files.values(), seed)
