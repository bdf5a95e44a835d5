"""Where volumes are, and which places there are."""

from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import Scene, volume
from weedtw.errors import BadRequest, Unavailable, VolumeNotFound
from weedtw.topology.layout import Where
from weedtw.topology.state import ForgetServer, RaiseVolumeIds


class WithScene(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()


class Locating(WithScene):
    def where(self, volume_id: int, collection: str = "") -> list[str]:
        return [server.address for server in self.scene.cluster.locate(volume_id, collection)]

    def test_every_copy(self) -> None:
        for address in ("a:1", "b:1"):
            self.scene.join(address, holds=(volume(1, copies="001", collection="pics"),))
        assert self.where(1) == ["a:1", "b:1"]
        assert self.where(1, "pics") == ["a:1", "b:1"]
        with self.assertRaises(VolumeNotFound):
            self.where(1, "other")

    def test_none_there_and_none_awaited(self) -> None:
        self.scene.join("a:1")
        self.scene.submit(RaiseVolumeIds(9))
        with self.assertRaises(VolumeNotFound):
            self.where(5)

    def test_one_of_a_server_that_left(self) -> None:
        server = self.scene.join("a:1", holds=(volume(1),))
        self.scene.join("b:1")
        self.scene.leave(server)
        with self.assertRaises(Unavailable) as caught:
            self.where(1)
        assert "a:1" in str(caught.exception)
        with self.assertRaises(VolumeNotFound):
            self.where(2)  # a:1 did not hold it

    def test_after_a_start_any_that_was_ever_made(self) -> None:
        self.scene.submit(RaiseVolumeIds(9))
        self.scene.register("a:1")
        with self.assertRaises(Unavailable):
            self.where(9)
        with self.assertRaises(VolumeNotFound):
            self.where(10)
        self.scene.join("a:1")
        with self.assertRaises(VolumeNotFound):
            self.where(9)

    def test_only_who_leads_knows_that_there_is_none(self) -> None:
        self.scene.join("a:1")
        self.scene.submit(RaiseVolumeIds(9))
        self.scene.ledger.lose_lead("n:9333")
        with self.assertRaises(Unavailable) as caught:
            self.where(5)
        assert "this master may not know all" in str(caught.exception)
        self.scene.ledger.gain_lead()
        with self.assertRaises(VolumeNotFound):
            self.where(5)

    def test_a_server_that_is_forgotten_is_not_awaited(self) -> None:
        server = self.scene.join("a:1", holds=(volume(1),))
        self.scene.leave(server)
        self.scene.submit(ForgetServer("a:1"))
        with self.assertRaises(VolumeNotFound):
            self.where(1)


class Places(WithScene):
    def test_places_of_servers_that_are_away_count(self) -> None:
        self.scene.register("a:1", "dc1", "r1")
        self.scene.join("b:1", "dc2", "r2")
        for where in (Where(), Where("dc1"), Where("dc2", "r2"), Where(rack="r1"), Where(node="a:1")):
            self.scene.cluster.check_place(where)
        with self.assertRaises(BadRequest):
            self.scene.cluster.check_place(Where("dc1", "r2"))

    def test_in_an_empty_cluster_nothing_is_known_to_be_wrong(self) -> None:
        self.scene.cluster.check_place(Where("mars"))


class Settling(WithScene):
    def test_servers_are_awaited_for_two_pulses_after_the_start(self) -> None:
        self.scene.register("a:1")
        assert self.scene.cluster.awaited() == []
        self.scene.start_again()
        assert self.scene.cluster.awaited() == ["a:1"]
        self.scene.clock.advance(10.1)
        assert self.scene.cluster.awaited() == []

    def test_one_that_was_here_and_left_is_not_awaited(self) -> None:
        self.scene.start_again()
        self.scene.leave(self.scene.join("a:1"))
        assert self.scene.cluster.absent() == ["a:1"]
        assert self.scene.cluster.awaited() == []
