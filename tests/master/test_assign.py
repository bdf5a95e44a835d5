"""Giving out file ids: from what is there, by making volumes, or with an error that says what is wrong."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import LIMIT, Scene, layout, refused, take, volume
from weedtw.errors import BadRequest, NoRoom, Unavailable
from weedtw.master.assign import PATIENCE, SETTLING_PATIENCE, Assigner, Assignment, Wish
from weedtw.master.growth import PAUSE, Order
from weedtw.topology.layout import Where

MAKE = "/admin/assign_volume"


class Assigning(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()
        self.assigner = Assigner(self.scene.cluster, self.scene.grower, lambda: 0xC00C1E)

    def assign(self, wish: Wish | None = None) -> Deferred[Assignment]:
        return Deferred.fromCoroutine(self.assigner.assign(wish or Wish(layout())))

    def assigned(self, wish: Wish | None = None) -> Assignment:
        assignment: Assignment = self.successResultOf(self.assign(wish))
        return assignment


class FromWhatIsThere(Assigning):
    def test_an_id(self) -> None:
        self.scene.join("a:1", holds=(volume(7),))
        first, second = self.assigned(), self.assigned()
        assert str(first.file_id) == "7,0100c00c1e"
        assert (first.count, first.server.address, first.server.public_url) == (1, "a:1", "public.a:1")
        assert second.file_id.key == 2

    def test_several_ids_at_once(self) -> None:
        self.scene.join("a:1", holds=(volume(7),))
        assert self.assigned(Wish(layout(), count=5)).file_id.key == 1
        assert self.assigned().file_id.key == 6

    def test_at_once_means_without_waiting(self) -> None:
        assert self.assigner.assign_at_once(Wish(layout())) is None
        self.scene.join("a:1", holds=(volume(7),))
        assert self.assigner.assign_at_once(Wish(layout())) is None  # no keys are at hand yet
        self.assigned()
        assignment = self.assigner.assign_at_once(Wish(layout()))
        assert assignment is not None
        assert assignment.file_id.key == 2

    def test_the_place_asked_for(self) -> None:
        self.scene.join("a:1", "dc1", holds=(volume(1, copies="100"),))
        self.scene.join("b:1", "dc2", holds=(volume(1, copies="100"),))
        for _ in range(10):
            assert self.assigned(Wish(layout("100"), Where("dc2"))).server.address == "b:1"

    def test_a_key_is_above_those_of_a_server_that_came_while_it_was_waited_for(self) -> None:
        made: Deferred[dict[str, Any]] = Deferred()
        self.scene.join("a:1")
        self.scene.peers.script("a:1", MAKE, made)
        waiting = self.assign()
        Deferred.fromCoroutine(self.scene.cluster.keys.saw(5000))
        self.scene.join("b:1", holds=(volume(9),))
        made.callback({})
        assert self.successResultOf(waiting).file_id.key > 5000


class ByMakingVolumes(Assigning):
    def test_as_many_as_configured_for_that_many_copies(self) -> None:
        for name in ("a:1", "b:1", "c:1"):
            self.scene.join(name, room=100)
        for copies, count in (("000", 7), ("001", 6), ("002", 3)):
            self.assigned(Wish(layout(copies)))
            assert len(self.scene.topology.layouts[layout(copies)].writables()) == count

    def test_as_many_as_asked_for(self) -> None:
        self.scene.join("a:1")
        self.assigned(Wish(layout(), grow=2))
        assert self.scene.topology.layouts[layout()].writables() == [1, 2]

    def test_in_a_place_where_there_is_none_though_there_are_elsewhere(self) -> None:
        self.scene.join("a:1", "dc1", holds=(volume(1),))
        self.scene.join("b:1", "dc2")
        assert self.assigned(Wish(layout(), Where("dc2"))).server.address == "b:1"

    def test_those_who_come_meanwhile_wait_for_the_same_volumes(self) -> None:
        self.scene.join("a:1")
        made: Deferred[dict[str, Any]] = Deferred()
        self.scene.peers.script("a:1", MAKE, made)
        wish = Wish(layout(), grow=1)
        waiting = [self.assign(wish) for _ in range(5)]
        assert len(self.scene.peers.asked) == 1
        made.callback({})
        keys = [self.successResultOf(each).file_id.key for each in waiting]
        assert len(set(keys)) == 5
        assert len(self.scene.peers.asked) == 1

    def test_who_wants_another_place_has_his_turn_afterwards(self) -> None:
        self.scene.join("a:1", "dc1")
        self.scene.join("b:1", "dc2")
        made: Deferred[dict[str, Any]] = Deferred()
        self.scene.peers.script("a:1", MAKE, made)
        here = self.assign(Wish(layout(), Where("dc1"), grow=1))
        there = self.assign(Wish(layout(), Where("dc2"), grow=1))
        self.assertNoResult(there)
        made.callback({})
        assert self.successResultOf(here).server.address == "a:1"
        assert self.successResultOf(there).server.address == "b:1"

    def test_a_failure_elsewhere_is_not_ones_own(self) -> None:
        self.scene.join("a:1", "dc1")
        self.scene.join("b:1", "dc2")
        made: Deferred[dict[str, Any]] = Deferred()
        self.scene.peers.script("a:1", MAKE, made)
        here = self.assign(Wish(layout(), Where("dc1"), grow=1))
        there = self.assign(Wish(layout(), Where("dc2"), grow=1))
        made.errback(refused("a:1"))
        self.failureResultOf(here, Unavailable)
        assert self.successResultOf(there).server.address == "b:1"

    def test_no_room_elsewhere_is_not_no_room_here(self) -> None:
        self.scene.join("a:1", "dc1", room=0)
        self.scene.join("b:1", "dc2")
        blocked: Deferred[Any] = Deferred()
        flight = self.scene.grower.grow(Order(layout(), Where("dc1"), 1))
        self.failureResultOf(Deferred.fromCoroutine(flight.join()), NoRoom)
        self.scene.peers.script("b:1", MAKE, blocked)
        there = self.assign(Wish(layout(), Where("dc2"), grow=1))
        nowhere = self.assign(Wish(layout(), Where("dc1"), grow=1))
        self.assertNoResult(nowhere)
        blocked.callback({})
        assert self.successResultOf(there).server.address == "b:1"
        self.failureResultOf(nowhere, NoRoom)

    def test_ahead_of_need_when_all_are_crowded(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(take(self.scene.cluster.keys)))
        self.scene.join("a:1", holds=(volume(1, size=LIMIT * 95 // 100),))
        assert self.assigned().file_id.volume_id == 1
        assert len(self.scene.topology.layouts[layout()].writables()) == 8
        before = len(self.scene.peers.asked)
        assert self.assigned().file_id.volume_id != 1
        assert len(self.scene.peers.asked) == before

    def test_making_ahead_may_fail_without_a_word_to_the_client(self) -> None:
        self.scene.join("a:1", holds=(volume(1, size=LIMIT * 95 // 100),), room=1)
        assert self.assigned().file_id.volume_id == 1

    def test_making_ahead_is_not_tried_at_every_assign_when_it_fails(self) -> None:
        self.scene.join("a:1", holds=(volume(1, size=LIMIT * 95 // 100),))
        self.scene.peers.script("a:1", MAKE, refused("a:1"))
        self.assigned()
        tried = len(self.scene.peers.asked)
        for _ in range(10):
            self.assigned()
        assert len(self.scene.peers.asked) == tried
        self.scene.clock.advance(PAUSE)
        self.scene.peers.script("a:1", MAKE, {})
        self.assigned()
        assert len(self.scene.topology.layouts[layout()].writables()) == 8


class Refusing(Assigning):
    def refusal(self, wish: Wish, kind: type[Exception]) -> str:
        return str(self.failureResultOf(self.assign(wish), kind).value)

    def test_an_unknown_place_by_name_and_at_once(self) -> None:
        self.scene.join("a:1", "dc1", "r1")
        self.scene.join("b:1", "dc2", "r2")
        for where, named in (
            (Where("mars"), "no data center 'mars'; known: dc1, dc2"),
            (Where("dc1", "r2"), "no rack 'r2' in data center 'dc1'; known: r1"),
            (Where("dc1", "r1", "b:1"), "no server 'b:1' in data center 'dc1', rack 'r1'; known: a:1"),
            (Where(node="c:1"), "no server 'c:1'; known: a:1, b:1"),
        ):
            assert named in self.refusal(Wish(layout(), where), BadRequest)
        assert self.scene.peers.asked == []

    def test_what_can_never_be(self) -> None:
        self.scene.join("a:1")
        assert "2 data centers" in self.refusal(Wish(layout("100")), NoRoom)
        assert "'ssd'" in self.refusal(Wish(layout(disk_type="ssd")), NoRoom)

    def test_no_server_at_all(self) -> None:
        assert "no volume server is connected" in self.refusal(Wish(layout()), NoRoom)

    def test_no_room_while_servers_are_away_may_change(self) -> None:
        server = self.scene.join("a:1", "dc2")
        self.scene.join("b:1")
        self.scene.leave(server)
        assert "not connected now: a:1" in self.refusal(Wish(layout("100")), Unavailable)
        assert "not connected now: a:1" in self.refusal(Wish(layout(), Where("dc2")), Unavailable)

    def test_servers_that_fail(self) -> None:
        self.scene.join("a:1")
        self.scene.peers.script("a:1", MAKE, refused("a:1"))
        assert "scripted to fail" in self.refusal(Wish(layout(), grow=1), Unavailable)

    def test_a_server_that_hangs(self) -> None:
        self.scene.join("a:1")
        self.scene.peers.script("a:1", MAKE, Deferred)
        waiting = self.assign(Wish(layout(), grow=1))
        self.scene.clock.advance(PATIENCE - 0.1)
        self.assertNoResult(waiting)
        self.scene.clock.advance(0.2)
        assert "being made" in str(self.failureResultOf(waiting, Unavailable).value)

    def test_a_ledger_that_cannot_decide(self) -> None:
        self.scene.join("a:1", holds=(volume(1),))
        self.assigned()
        self.scene.ledger.break_down()
        assert self.assigner.assign_at_once(Wish(layout())) is None
        self.failureResultOf(self.assign(), Unavailable)


class AfterAStart(Assigning):
    def setUp(self) -> None:
        super().setUp()
        self.scene.register("a:1")
        self.scene.start_again()

    def test_it_waits_for_the_servers_that_are_expected(self) -> None:
        waiting = self.assign()
        self.scene.clock.advance(SETTLING_PATIENCE - 1)
        self.assertNoResult(waiting)
        self.scene.join("a:1", holds=(volume(7),))
        assert self.successResultOf(waiting).file_id.volume_id == 7
        assert self.scene.peers.asked == []

    def test_it_makes_no_volumes_before_all_have_reported(self) -> None:
        self.scene.register("b:1")
        waiting = self.assign(Wish(layout(), grow=1))
        self.scene.join("a:1")
        self.assertNoResult(waiting)
        self.scene.join("b:1", holds=(volume(7),))
        assert self.successResultOf(waiting).file_id.volume_id == 7

    def test_it_makes_them_when_all_have_reported(self) -> None:
        waiting = self.assign(Wish(layout(), grow=1))
        self.scene.join("a:1")
        assert self.successResultOf(waiting).file_id.volume_id == 1

    def test_it_does_not_wait_for_ever(self) -> None:
        waiting = self.assign()
        self.scene.clock.advance(SETTLING_PATIENCE)
        assert "a:1" in str(self.failureResultOf(waiting, Unavailable).value)

    def test_one_that_is_gone_for_good_is_not_waited_for_long_after(self) -> None:
        self.scene.join("b:1")
        waiting = self.assign(Wish(layout(), grow=1))
        self.scene.clock.advance(SETTLING_PATIENCE)
        self.failureResultOf(waiting, Unavailable)
        self.scene.clock.advance(10)
        assert self.assigned(Wish(layout(), grow=1)).server.address == "b:1"

    def test_who_leaves_is_not_answered(self) -> None:
        waiting = self.assign()
        gone: list[object] = []
        waiting.addErrback(gone.append)
        waiting.cancel()
        self.scene.join("a:1", holds=(volume(7),))
        assert len(gone) == 1
        assert self.scene.clock.getDelayedCalls() == []
