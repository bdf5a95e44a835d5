"""Volumes that were half made when a leader died."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import Scene, layout, refused, volume
from weedtw.errors import PeerError
from weedtw.formats.beat import VolumeReport
from weedtw.master.heartbeats import Heartbeats
from weedtw.master.office import Office
from weedtw.master.orphans import PATIENCE, ROUND, Orphans
from weedtw.topology.state import AllocateVolumeIds

DELETE = "/admin/delete_volume"


class OrphanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()
        self.office = Office(self.scene.cluster, Heartbeats(self.scene.cluster))
        self.office.since = self.scene.clock.seconds() - PATIENCE
        self.orphans = Orphans(self.scene.cluster, self.scene.grower, self.office)

    def half_make(self, *holders: str, **more: object) -> None:
        """A leader has allocated id 1 and made it there, and has died."""
        self.scene.submit(AllocateVolumeIds(1))
        for address in holders:
            self.scene.join(address, holds=(self.report(**more),))

    def report(self, **more: object) -> VolumeReport:
        return volume(1, **{"copies": "001", **more})  # type: ignore[arg-type]

    def settle(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.orphans.settle()))

    @property
    def growing(self) -> tuple[int, ...]:
        return self.scene.ledger.state.growing

    def deleted(self) -> list[str]:
        for address, path, query in self.scene.peers.asked:
            self.assertEqual((path, query), (DELETE, {"volume": 1, "onlyEmpty": "true"}), address)
        return sorted(address for address, _, _ in self.scene.peers.asked)

    # -------------------------------------------------------------- what becomes of each

    def test_one_with_all_its_copies_is_finished(self) -> None:
        self.half_make("a:1", "b:1")
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((), []))

    def test_one_with_too_few_and_nothing_in_it_is_deleted(self) -> None:
        self.half_make("a:1")
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((), ["a:1"]))

    def test_one_that_nobody_has(self) -> None:
        self.half_make()
        self.scene.join("a:1")
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((), []))

    def test_one_with_files_in_it_is_kept(self) -> None:
        """Whoever wrote them was sent there: it had all its copies once."""
        self.half_make("a:1", file_count=1)
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((), []))

    def test_one_with_files_that_were_deleted_is_kept(self) -> None:
        self.half_make("a:1", file_count=1, delete_count=1)
        self.settle()
        self.assertEqual(self.deleted(), [])

    def test_while_a_server_is_away_that_may_have_a_copy_nothing_is_done(self) -> None:
        self.half_make("a:1")
        self.scene.register("b:1")
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((1,), []))
        self.scene.join("b:1", holds=(self.report(),))
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((), []))

    def test_a_server_that_is_away_and_had_no_copy_is_not_waited_for(self) -> None:
        self.half_make("a:1")
        self.scene.leave(self.scene.join("b:1"))
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((), ["a:1"]))

    def test_a_server_that_does_not_delete_it_is_asked_again(self) -> None:
        self.half_make("a:1")
        self.scene.peers.script("a:1", DELETE, refused("a:1"))
        self.settle()
        self.assertEqual(self.growing, (1,))
        self.scene.peers.script("a:1", DELETE, {})
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((), ["a:1", "a:1"]))

    def test_it_may_be_gone_already(self) -> None:
        self.half_make("a:1")
        self.scene.peers.script("a:1", DELETE, PeerError("a:1", "there is no volume 1", 404))
        self.settle()
        self.assertEqual(self.growing, ())

    def test_what_is_being_made_here_is_left_alone(self) -> None:
        self.half_make("a:1")
        self.scene.grower.making.add(1)
        self.settle()
        self.assertEqual((self.growing, self.deleted()), ((1,), []))

    def test_what_this_master_could_not_take_back_is_written_to_once_it_is_whole(self) -> None:
        self.half_make("a:1", "b:1")
        self.scene.topology.hold_back(1)
        self.assertEqual(self.scene.topology.layouts[layout("001")].writables(), [])
        self.settle()
        self.assertEqual(self.scene.topology.layouts[layout("001")].writables(), [1])

    # -------------------------------------------------------------- when

    def start(self) -> None:
        self.orphans.start()
        self.addCleanup(self.orphans.stop)

    def test_only_a_leader_that_has_led_for_a_while(self) -> None:
        """The one before it may still be making them."""
        self.half_make("a:1")
        self.office.since = None
        self.start()
        self.scene.clock.pump([ROUND] * 5)
        self.assertEqual(self.growing, (1,))
        self.office.since = self.scene.clock.seconds()
        self.scene.clock.advance(PATIENCE - 0.1)
        self.assertEqual(self.growing, (1,))
        self.scene.clock.advance(ROUND)
        self.assertEqual(self.growing, ())

    def test_not_without_the_lease(self) -> None:
        self.half_make("a:1")
        self.scene.ledger.has_lease = False
        self.start()
        self.scene.clock.pump([ROUND] * 3)
        self.assertEqual((self.growing, self.deleted()), ((1,), []))

    def test_one_round_after_the_other(self) -> None:
        self.half_make("a:1")
        slow: Deferred[dict[str, object]] = Deferred()
        self.scene.peers.script("a:1", DELETE, slow)
        self.start()
        self.scene.clock.pump([ROUND] * 4)
        self.assertEqual(self.deleted(), ["a:1"])
        slow.callback({})
        self.assertEqual(self.growing, ())

    def test_a_lead_that_is_lost_meanwhile(self) -> None:
        self.half_make("a:1")
        slow: Deferred[dict[str, object]] = Deferred()
        self.scene.peers.script("a:1", DELETE, slow)
        self.start()
        self.scene.clock.advance(ROUND)
        self.scene.ledger.lose_lead("n:9333")
        slow.callback({})
        self.assertEqual(self.growing, (1,))
        self.scene.ledger.gain_lead()
        self.scene.peers.script("a:1", DELETE, {})
        self.scene.clock.advance(ROUND)
        self.assertEqual(self.growing, ())
