"""Collections: deleting whole ones, adding them up."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import LIMIT, Scene, layout, refused, volume
from weedtw import __version__
from weedtw.errors import BadRequest, CollectionNotFound, PeerError, Unavailable
from weedtw.master.collection import Collections
from weedtw.master.growth import Order
from weedtw.topology.layout import Where

DELETE = "/admin/delete_collection"


class WithCollections(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()
        self.collections = Collections(self.scene.cluster, self.scene.grower)

    def delete(self, name: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self.collections.delete(name))


class Deleting(WithCollections):
    def test_it_is_gone_at_once(self) -> None:
        self.scene.join("a:1", holds=(volume(1, collection="pics"), volume(2)))
        self.scene.join("b:1", holds=(volume(3),))
        self.successResultOf(self.delete("pics"))
        assert self.scene.peers.asked == [("a:1", DELETE, {"collection": "pics"})]
        assert self.scene.topology.copies(1) == ()
        assert sorted(self.scene.topology.servers["a:1"].volumes) == [2]
        self.failureResultOf(self.delete("pics"), CollectionNotFound)

    def test_the_default_collection_stays(self) -> None:
        self.scene.join("a:1", holds=(volume(1),))
        self.failureResultOf(self.delete(""), BadRequest)
        assert self.scene.peers.asked == []

    def test_a_server_that_fails_is_named_and_keeps_its_part(self) -> None:
        for number, address in enumerate(("a:1", "b:1"), 1):
            self.scene.join(address, holds=(volume(number, collection="pics"),))
        self.scene.peers.script("b:1", DELETE, refused("b:1"))
        assert "b:1" in str(self.failureResultOf(self.delete("pics"), PeerError).value)
        assert self.scene.topology.copies(1) == ()
        assert len(self.scene.topology.copies(2)) == 1

    def test_a_part_on_a_server_that_is_away(self) -> None:
        away = self.scene.join("a:1", holds=(volume(1, collection="pics"),))
        self.scene.join("b:1", holds=(volume(2, collection="pics"),))
        self.scene.leave(away)
        assert "a:1" in str(self.failureResultOf(self.delete("pics"), Unavailable).value)
        assert self.scene.peers.asked == []

    def test_volumes_that_are_being_made_are_waited_for(self) -> None:
        self.scene.join("a:1", holds=(volume(1, collection="pics"),))
        made: Deferred[dict[str, Any]] = Deferred()
        self.scene.peers.script("a:1", "/admin/assign_volume", made)
        self.scene.grower.grow(Order(layout(collection="pics"), Where(), 1))
        deleting = self.delete("pics")
        self.assertNoResult(deleting)
        made.callback({})
        self.successResultOf(deleting)
        assert self.scene.topology.layouts == {}


class Adding(WithCollections):
    def test_sums(self) -> None:
        told: dict[str, Any] = {
            "collection": "pics",
            "size": 1000,
            "deleted_bytes": 100,
            "file_count": 9,
            "delete_count": 2,
        }
        for address in ("a:1", "b:1"):
            self.scene.join(address, holds=(volume(1, copies="001", **told),))
        self.scene.join("c:1", holds=(volume(2, **told, read_only=True),))
        assert self.collections.total("pics") == {
            "Version": f"weedtw {__version__}",
            "Collection": "pics",
            "TotalSize": 2 * LIMIT + 1000,
            "FileCount": 14,
            "UsedSize": 2700,
            "VolumeCount": 2,
        }
        assert [part["UsedSize"] for part in self.collections.sums("pics")] == [1800, 900]

    def test_none_of_that_name(self) -> None:
        with self.assertRaises(CollectionNotFound) as caught:
            self.collections.total("pics")
        assert "pics" in str(caught.exception)
        with self.assertRaises(BadRequest):
            self.collections.sums("")
