"""Making volumes on servers: all copies or none, one order a layout at a time."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import Scene, layout, refused, volume
from weedtw.errors import NoRoom, Unavailable, Unreachable
from weedtw.master.growth import BREATH, RESPITE, Order
from weedtw.topology.layout import LayoutKey, Where

MAKE, TAKE_BACK = "/admin/assign_volume", "/admin/delete_volume"


class Growing(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()

    def grow(
        self, key: LayoutKey, count: int = 1, where: Where | None = None, *, or_none: bool = False
    ) -> Deferred[int]:
        order = Order(key, where or Where(), count, or_none)
        return Deferred.fromCoroutine(self.scene.grower.grow_all(order))

    def reserved(self) -> int:
        return sum(server.reserved for server in self.scene.topology.servers.values())

    def test_volumes_are_made_on_the_servers_and_taken_into_use(self) -> None:
        self.scene.join("a:1")
        self.scene.join("b:1")
        assert self.successResultOf(self.grow(layout("001", "pics"), 2)) == 2
        assert sorted(self.scene.peers.asked, key=str) == [
            (address, MAKE, {"volume": n, "collection": "pics", "replication": "001", "ttl": "", "disk": None})
            for address in ("a:1", "b:1")
            for n in (1, 2)
        ]
        assert self.scene.topology.layouts[layout("001", "pics")].writables() == [1, 2]
        assert self.scene.ledger.state.max_volume_id == 2
        assert self.reserved() == 0

    def test_the_id_is_committed_before_anything_is_made(self) -> None:
        self.scene.join("a:1")
        committed: list[int] = []

        def answer() -> dict[str, Any]:
            committed.append(self.scene.ledger.state.max_volume_id)
            return {}

        self.scene.peers.script("", MAKE, answer)
        self.successResultOf(self.grow(layout(), 3))
        assert committed == [3, 3, 3]

    def test_a_volume_with_a_copy_that_failed_is_taken_back_and_its_id_not_used_again(self) -> None:
        self.scene.join("a:1")
        self.scene.join("b:1")
        self.scene.peers.script("b:1", MAKE, refused("b:1"))
        self.failureResultOf(self.grow(layout("001")), Unavailable)
        assert (("a:1", TAKE_BACK, {"volume": 1})) in self.scene.peers.asked
        assert (("b:1", TAKE_BACK, {"volume": 1})) in self.scene.peers.asked
        assert self.scene.topology.layouts == {}
        assert self.reserved() == 0
        self.scene.peers.script("b:1", MAKE, {})
        self.successResultOf(self.grow(layout("001")))
        assert self.scene.topology.key_of(1) is None

    def test_another_server_is_tried_when_one_fails(self) -> None:
        for name in ("a:1", "b:1", "c:1"):
            self.scene.join(name)
        self.scene.peers.script("a:1", MAKE, Unreachable("a:1", "connection refused"))
        for _ in range(3):
            assert self.successResultOf(self.grow(layout("001"))) == 1
        held = {address: len(server.volumes) for address, server in self.scene.topology.servers.items()}
        assert held == {"a:1": 0, "b:1": 3, "c:1": 3}
        assert TAKE_BACK not in self.scene.peers.paths("a:1")  # which never got that far
        assert self.reserved() == 0

    def test_nobody_writes_to_a_volume_before_all_its_copies_are_made(self) -> None:
        """The server's own report may come before its answer; and if it is taken back, files in it would be lost."""
        server = self.scene.join("a:1")
        answer: Deferred[dict[str, Any]] = Deferred()
        self.scene.peers.script("a:1", MAKE, answer)
        growing = self.grow(layout())
        self.scene.topology.add_volume(server, volume(1))
        assert self.scene.topology.layouts[layout()].writables() == []
        answer.callback({})
        self.successResultOf(growing)
        assert self.scene.topology.layouts[layout()].writables() == [1]

    def test_one_that_cannot_be_taken_back_stays_out_of_use(self) -> None:
        server = self.scene.join("a:1")
        self.scene.peers.script("a:1", MAKE, refused("a:1"))
        self.scene.peers.script("a:1", TAKE_BACK, refused("a:1"))
        self.failureResultOf(self.grow(layout()), Unavailable)
        self.scene.topology.add_volume(server, volume(1))
        assert self.scene.topology.layouts[layout()].writables() == []

    def test_one_that_was_not_there_to_take_back_is_settled(self) -> None:
        server = self.scene.join("a:1")
        self.scene.peers.script("a:1", MAKE, refused("a:1"))
        self.scene.peers.script("a:1", TAKE_BACK, refused("a:1", 404))
        self.failureResultOf(self.grow(layout()), Unavailable)
        self.scene.topology.add_volume(server, volume(1))
        assert self.scene.topology.layouts[layout()].writables() == [1]

    def test_who_refuses_is_not_told_to_delete(self) -> None:
        """It has made nothing; and what it holds under that id, if it does, is not ours."""
        server = self.scene.join("a:1")
        for status in (403, 406, 409):
            self.scene.peers.asked.clear()
            self.scene.peers.script("a:1", MAKE, refused("a:1", status))
            self.failureResultOf(self.grow(layout()), Unavailable)
            assert self.scene.peers.paths("a:1") == [MAKE], status
        highest = self.scene.ledger.state.max_volume_id
        self.scene.topology.add_volume(server, volume(highest))
        assert self.scene.topology.layouts[layout()].writables() == [highest]  # it is not held back for ever

    def test_what_has_just_failed_is_not_tried_for_the_next_client(self) -> None:
        self.scene.join("a:1")
        self.scene.peers.script("a:1", MAKE, refused("a:1", 403))
        grower, where = self.scene.grower, Where()
        grower.check_respite(layout(), where)
        with capturedLogs() as logged:
            for _ in range(3):
                failed = self.failureResultOf(self.grow(layout()), Unavailable)
        assert len([event for event in logged if event["log_level"] is LogLevel.warn]) == 1
        refusal = self.assertRaises(Unavailable, grower.check_respite, layout(), where)
        assert str(refusal) == str(failed.value)
        grower.check_respite(layout("001"), where)
        grower.check_respite(layout(), Where("dc1"))
        self.scene.clock.advance(RESPITE)
        grower.check_respite(layout(), where)
        self.scene.peers.script("a:1", MAKE, {})
        self.successResultOf(self.grow(layout()))
        with capturedLogs() as logged:
            self.scene.peers.script("a:1", MAKE, refused("a:1", 403))
            self.failureResultOf(self.grow(layout()), Unavailable)
        assert [event["log_level"] for event in logged] == [LogLevel.warn]  # it is news again

    def test_a_server_that_leaves_meanwhile_does_not_count(self) -> None:
        server = self.scene.join("a:1")
        answer: Deferred[dict[str, Any]] = Deferred()
        self.scene.peers.script("a:1", MAKE, answer)
        growing = self.grow(layout())
        self.scene.leave(server)
        answer.callback({})
        self.failureResultOf(growing, Unavailable)

    def test_fewer_when_there_is_no_room_for_all(self) -> None:
        self.scene.join("a:1", room=3)
        assert self.successResultOf(self.grow(layout(), 7)) == 3
        self.failureResultOf(self.grow(layout(), 7), NoRoom)

    def test_or_none(self) -> None:
        self.scene.join("a:1", room=3)
        self.scene.join("b:1", "dc2", room=3)
        for growing, words in (
            (
                self.grow(layout(), 7, or_none=True),
                "7 volumes of collection '', replication 000 take 7 volume slots, 6 are free",
            ),
            (self.grow(layout("100"), 4, or_none=True), "replication 100 take 8 volume slots, 6 are free"),
            (self.grow(layout(), 4, Where("dc2"), or_none=True), "3 of 4"),
        ):
            self.assertIn(words, str(self.failureResultOf(growing, NoRoom).value))
        assert self.reserved() == 0
        assert self.scene.peers.asked == []
        assert self.scene.ledger.state.max_volume_id == 0

    def test_many_are_made_without_keeping_others_from_their_turn(self) -> None:
        self.scene.join("a:1", room=1000)
        growing = self.grow(layout(), 3 * BREATH, or_none=True)
        self.assertNoResult(growing)
        self.scene.clock.pump([0, 0, 0, 0])
        assert self.successResultOf(growing) == 3 * BREATH

    def test_orders_for_one_layout_follow_each_other(self) -> None:
        self.scene.join("a:1")
        answer: Deferred[dict[str, Any]] = Deferred()
        self.scene.peers.script("a:1", MAKE, answer)
        first, second = self.grow(layout()), self.grow(layout())
        assert len(self.scene.peers.asked) == 1
        other = self.grow(layout(collection="pics"))
        assert len(self.scene.peers.asked) == 2
        self.assertNoResult(second)
        self.scene.peers.script("a:1", MAKE, {})
        answer.callback({})
        for growing in (first, second, other):
            assert self.successResultOf(growing) == 1

    def test_an_id_that_a_server_holds_already_is_passed_over(self) -> None:
        server = self.scene.join("a:1")
        self.scene.topology.add_volume(server, volume(1, collection="old"))
        assert self.successResultOf(self.grow(layout())) == 1
        assert self.scene.topology.layouts[layout()].writables() == [2]
        assert self.scene.topology.copies(1) == (server,)

    def test_a_disk_type_is_passed_on(self) -> None:
        self.scene.join("a:1")
        self.failureResultOf(self.grow(layout(disk_type="ssd")), NoRoom)
