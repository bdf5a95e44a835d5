"""Taking the lead, and losing it."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from tests.master.scene import Scene, take, volume
from tests.master.test_heartbeats import Wire, full, hello
from tests.raft.logged import LoggedTestCase
from weedtw.errors import InvariantBroken
from weedtw.master.heartbeats import Heartbeats
from weedtw.master.keys import RANGE
from weedtw.master.office import PAUSE, Office
from weedtw.raft.interface import Changed, Status
from weedtw.raft.membership import Membership
from weedtw.topology.state import Command, ExtendKeys, RaiseKeys, RaiseVolumeIds, RegisterServer


class Node:
    """Tells of changes what the test wants."""

    def __init__(self) -> None:
        self.tell: Callable[[Changed], None] = lambda _: None

    def observe(self, observer: Callable[[Changed], None]) -> None:
        self.tell = observer

    def is_now(self, role: str, term: int, leader: str | None = None, failed: str | None = None) -> None:
        status = Status(
            node="me",
            role=role,
            term=term,
            leader=leader,
            membership=Membership(),
            last_index=0,
            commit=0,
            applied=0,
            snapshot_index=0,
            has_lease=False,
            stuck=False,
            failed=failed,
            connected=frozenset(),
        )
        self.tell(Changed(status))


class OfficeTests(LoggedTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.scene = Scene(slow=True)
        self.ledger = self.scene.ledger
        self.ledger.lose_lead()
        self.hub = Heartbeats(self.scene.cluster)
        self.office = Office(self.scene.cluster, self.hub)
        self.node = Node()
        self.office.watch(self.node)  # type: ignore[arg-type]

    def waiting(self) -> list[Command | None]:
        return [command for command, _ in self.ledger.waiting]

    def elect(self, term: int, *, lease: bool = True) -> None:
        self.ledger.gain_lead(lease=lease)
        self.node.is_now("leader", term, "me")

    def depose(self, term: int, successor: str | None = "n:9333") -> None:
        self.ledger.lose_lead(successor)
        self.node.is_now("follower", term, "other")

    def test_leads_are_counted(self) -> None:
        """One that ends and begins anew counts too, when a master cannot keep it."""
        for term, leader, changes in (
            (1, None, 0),
            (1, "a", 0),  # the first
            (1, None, 0),
            (1, "a", 0),  # it was merely not heard of
            (2, "b", 1),
            (3, None, 1),
            (4, "b", 2),
        ):
            self.node.is_now("follower", term, leader)
            self.assertEqual(self.office.leader_changes, changes, (term, leader))

    def test_what_was_seen_is_written_down_in_this_order(self) -> None:
        """Volume ids before anybody can ask for new ones, keys before the first is given out, then the servers."""
        wire = Wire(self.hub)
        wire.say(hello("a:1", "u1"), full(volume(30, max_key=700_000)))
        self.assertEqual(self.ledger.commands, [])
        self.elect(1)
        self.assertEqual(self.waiting(), [RaiseVolumeIds(30)])
        self.ledger.store_all()
        self.assertEqual(self.waiting(), [RaiseKeys(700_000)])
        self.ledger.store_all()
        self.assertEqual(self.waiting(), [ExtendKeys(700_000 + RANGE)])
        self.assertIsNone(self.scene.cluster.keys.take_at_once(1))
        self.ledger.store_all()
        self.assertEqual(self.waiting(), [RegisterServer("a:1", "public.a:1", "dc1", "r1", ("u1",))])
        self.ledger.store_all()
        self.assertEqual((self.waiting(), self.scene.cluster.keys.take_at_once(1)), ([], 700_001))

    def test_what_is_known_already_is_not_written_again(self) -> None:
        self.ledger.slow = False
        self.elect(1)
        Wire(self.hub).say(hello("a:1", "u1"), full(volume(3)))
        self.depose(2)
        self.ledger.commands.clear()
        self.elect(3)
        self.assertEqual(self.ledger.commands, [ExtendKeys(2 * RANGE)])

    def test_keys_of_an_earlier_lead_are_not_given_out_in_a_later_one(self) -> None:
        self.ledger.slow = False
        self.elect(1)
        self.assertEqual(self.scene.cluster.keys.take_at_once(1), 1)
        self.depose(2)
        self.assertIsNone(self.scene.cluster.keys.take_at_once(1))
        self.elect(3)
        self.assertEqual(self.scene.cluster.keys.take_at_once(1), RANGE + 1)

    def test_so_it_is_when_two_elections_came_between_two_looks(self) -> None:
        """From one lead to the next without a word of what was between them."""
        self.ledger.slow = False
        self.elect(1)
        self.elect(5)
        self.assertEqual(self.scene.cluster.keys.take_at_once(1), RANGE + 1)

    def test_the_same_lead_is_taken_once(self) -> None:
        self.ledger.slow = False
        self.elect(1)
        self.scene.cluster.keys.take_at_once(1)
        self.node.is_now("leader", 1, "me")
        self.assertEqual(self.ledger.commands, [ExtendKeys(RANGE)])
        self.assertEqual(self.scene.cluster.keys.take_at_once(1), 2)

    def test_since_when(self) -> None:
        self.ledger.slow = False
        self.assertIsNone(self.office.since)
        self.elect(1)
        began = self.scene.clock.seconds()
        self.scene.clock.advance(7)
        self.node.is_now("leader", 1, "me")
        self.assertEqual(self.office.since, began)
        self.depose(2)
        self.assertIsNone(self.office.since)

    def test_what_does_not_succeed_is_tried_again(self) -> None:
        """A decision of the lead before may be under way, and come to nothing."""
        self.elect(1)
        self.ledger.fail_all()
        self.assertEqual(self.waiting(), [])
        self.scene.clock.advance(PAUSE)
        self.assertEqual(self.waiting(), [ExtendKeys(RANGE)])
        self.ledger.store_all()
        self.assertEqual(self.scene.cluster.keys.take_at_once(1), 1)
        self.assertEqual(self.scene.clock.getDelayedCalls(), [])

    def test_nothing_is_tried_for_a_lead_that_is_lost(self) -> None:
        self.elect(1)
        self.depose(2)
        self.scene.clock.advance(10 * PAUSE)
        self.assertEqual((self.waiting(), self.scene.clock.getDelayedCalls()), ([], []))

    def test_nobody_is_told_before_the_lead_is_proven(self) -> None:
        wire = Wire(self.hub)
        wire.say(hello("a:1", "u1"))
        self.elect(1, lease=False)
        self.ledger.store_all()
        self.assertEqual(self.waiting(), [None])  # the question to the majority
        told = [answer["leader"] for answer in wire.answers()]
        self.ledger.store_all()
        self.assertEqual([answer["leader"] for answer in wire.answers()], ["m:9333"], told)

    def test_volume_servers_hear_who_leads(self) -> None:
        self.ledger.slow = False
        wire = Wire(self.hub)
        wire.say(hello("a:1", "u1"))
        self.elect(1)
        self.assertEqual(wire.answers()[-1]["leader"], "m:9333")
        self.depose(2, "n:9333")
        self.assertEqual([answer["leader"] for answer in wire.answers()], ["n:9333"])
        self.node.is_now("follower", 2, "other")
        self.assertEqual(wire.answers(), [])

    def test_those_who_wait_hear_of_every_change(self) -> None:
        for change in (lambda: self.depose(2), lambda: self.elect(3), self.office.lose):
            waiting = Deferred.fromCoroutine(self.scene.cluster.changes.wait(60))
            self.assertNoResult(waiting)
            change()
            self.successResultOf(waiting)

    def test_a_disk_that_fails(self) -> None:
        self.ledger.slow = False
        wire = Wire(self.hub)
        wire.say(hello("a:1", "u1"))
        self.elect(1)
        wire.answers()
        self.ledger.break_down()
        self.office.lose()
        self.assertIsNone(self.office.since)
        self.assertEqual(wire.answers()[-1]["leader"], None)
        self.assertIsNone(self.scene.cluster.keys.take_at_once(1))
        self.node.is_now("leader", 1, "me", failed="the disk is full")
        self.assertIsNone(self.office.since)

    def test_what_should_not_happen_is_said(self) -> None:
        self.elect(1)
        ((_, waiter),) = self.ledger.waiting
        self.ledger.waiting = []
        waiter.errback(InvariantBroken("odd"))
        self.assertIn("while taking the lead: ", "; ".join(self.log.texts(LogLevel.error)))
        self.elect(2)
        ((_, waiter),) = self.ledger.waiting
        self.ledger.waiting = []
        waiter.errback(ZeroDivisionError())
        self.assertEqual(self.expect_logged(ZeroDivisionError), 1)

    def test_keys_wait_for_what_was_seen_meanwhile(self) -> None:
        """A report that comes while the range is on its way."""
        wire = Wire(self.hub)
        wire.say(hello("a:1", "u1"))
        self.elect(1)
        wire.say(full(volume(1, max_key=5000)))
        first = Deferred.fromCoroutine(take(self.scene.cluster.keys))
        while self.ledger.waiting:
            self.ledger.store_all()
        self.assertEqual(self.successResultOf(first), 5001)
