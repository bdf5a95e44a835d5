"""The masters' ledger over Raft: what is decided, what is refused, and in which words."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.master.council import Council, CouncilTest
from weedtw.config.model import MasterConfig
from weedtw.errors import (
    InvariantBroken,
    MaybeCommitted,
    NoRoom,
    NotLeader,
    StoreFailed,
    TooBusy,
    Unavailable,
    WeedError,
)
from weedtw.master.consensus import ClusterMachine, RaftLedger, settings_of
from weedtw.raft.interface import Timing
from weedtw.topology.state import (
    MAX_KEY,
    AllocateVolumeIds,
    ClusterState,
    Command,
    ExtendKeys,
    KeyRange,
    RaiseKeys,
    RegisterServer,
    dump_command,
)

REGISTER = RegisterServer("v:8080", "v:8080", "dc1", "r1", ("u1",))


class MachineTests(SynchronousTestCase):
    def test_a_snapshot_is_all_of_it(self) -> None:
        machine = ClusterMachine()
        commands: tuple[Command, ...] = (AllocateVolumeIds(3), ExtendKeys(500), REGISTER)
        for index, command in enumerate(commands, 1):
            machine.apply(index, dump_command(command).encode())
        other = ClusterMachine(ClusterState(max_volume_id=99))
        other.restore(machine.snapshot())
        self.assertEqual(other.state, machine.state)
        self.assertEqual(other.snapshot(), machine.snapshot())
        other.restore(b"")
        self.assertEqual(other.state, ClusterState())

    def test_a_refusal_changes_nothing(self) -> None:
        machine = ClusterMachine()
        self.assertRaises(NoRoom, machine.apply, 1, dump_command(ExtendKeys(MAX_KEY + 1)).encode())
        self.assertEqual(machine.state, ClusterState())

    def test_a_command_of_a_newer_version_is_no_refusal(self) -> None:
        """A member that passed over it would have another state than the others."""
        with self.assertRaises(ValueError):
            ClusterMachine().apply(1, b'{"do":"dance"}')


class AloneTests(CouncilTest):
    def test_before_there_is_a_cluster(self) -> None:
        ledger = RaftLedger("me")
        self.assertEqual((ledger.node_id, ledger.cluster_id, ledger.masters), ("me", "", ()))
        self.assertEqual((ledger.is_leader, ledger.has_lead, ledger.leader_address), (False, False, None))
        self.assertEqual((ledger.state, ledger.status, ledger.address_of("me")), (ClusterState(), None, None))
        for work in (ledger.submit(RaiseKeys(1)), ledger.confirm()):
            failure = self.failureResultOf(Deferred.fromCoroutine(work), Unavailable)
            self.assertEqual(str(failure.value), "this master belongs to no cluster yet")

    def test_a_master_alone_decides(self) -> None:
        council = Council("a")
        ledger = council.leader().ledger
        self.assertEqual((ledger.leader_address, ledger.masters), ("a:9333", ("a:9333",)))
        self.assertEqual(self.ask(council, ledger.submit(ExtendKeys(100))), KeyRange(1, 100))
        self.assertEqual(self.ask(council, ledger.submit(AllocateVolumeIds(2))), 1)
        self.assertEqual(ledger.state.key_high_water, 100)

    def test_what_was_decided_is_there_after_a_crash(self) -> None:
        council = Council("a", timing=Timing(snapshot_every=3))
        for number in range(1, 9):
            self.ask(council, council.leader().ledger.submit(ExtendKeys(number * 10)))
        state = council["a"].ledger.state
        self.assertGreater(council["a"].storage.state.snapshot.index, 0)
        council["a"].kill()
        council["a"].start()
        self.assertEqual(council.leader().ledger.state, state)

    def test_the_ones_that_come_at_once_are_decided_in_order(self) -> None:
        council = Council("a")
        ledger = council.leader().ledger
        work = [Deferred.fromCoroutine(ledger.submit(AllocateVolumeIds(1))) for _ in range(5)]
        bad = Deferred.fromCoroutine(ledger.submit(ExtendKeys(MAX_KEY + 1)))
        after = Deferred.fromCoroutine(ledger.submit(AllocateVolumeIds(1)))
        self.assertNoResult(work[0])
        self.assertEqual(ledger.state.max_volume_id, 0)  # nothing before the disk has it
        council.until(lambda: after.called)
        self.assertEqual([self.successResultOf(one) for one in (*work, after)], [1, 2, 3, 4, 5, 6])
        self.failureResultOf(bad, NoRoom)

    def test_a_disk_that_fails(self) -> None:
        council = Council("a")
        master = council.leader()
        work = Deferred.fromCoroutine(master.ledger.submit(ExtendKeys(10)))

        def save(update: object) -> None:
            raise StoreFailed("raft.sqlite3", "no space left")

        master.storage.save = save  # type: ignore[method-assign]
        council.until(lambda: work.called)
        reason = str(self.failureResultOf(work, Unavailable).value)
        self.assertEqual(reason, "it is not known whether this was decided: raft.sqlite3: no space left")
        self.expect_logged()
        self.assertEqual(len(master.stopped), 1)
        ledger = master.ledger
        self.assertEqual((ledger.is_leader, ledger.has_lead, ledger.leader_address), (False, False, None))
        for attempt in (ledger.submit(RaiseKeys(1)), ledger.confirm()):
            self.assertIn("no space left", self.refusal(council, Unavailable, attempt))


class ManyTests(CouncilTest):
    def setUp(self) -> None:
        self.council = Council("abc")

    def test_all_come_to_the_same_state(self) -> None:
        council = self.council
        leader = council.leader()
        self.ask(council, leader.ledger.submit(REGISTER))
        self.ask(council, leader.ledger.submit(AllocateVolumeIds(4)))
        for follower in council.followers():
            council.until(lambda f=follower: f.ledger.state == leader.ledger.state)  # type: ignore[misc]
            self.assertEqual(follower.ledger.leader_address, leader.address)
            self.assertEqual(follower.ledger.masters, ("a:9333", "b:9333", "c:9333"))
            self.assertFalse(follower.ledger.is_leader or follower.ledger.has_lead)

    def test_a_follower_decides_nothing(self) -> None:
        ledger = self.council.followers()[0].ledger
        for work in (ledger.submit(RaiseKeys(1)), ledger.confirm()):
            self.assertIn("does not lead any more", self.refusal(self.council, Unavailable, work))

    def test_a_leader_that_was_asleep_is_none_at_once(self) -> None:
        """Before it has heard of anything: by its clock alone."""
        leader = self.council.leader()
        self.assertTrue(leader.ledger.is_leader)
        leader.asleep += 1.5
        self.assertFalse(leader.ledger.is_leader)

    def test_a_leader_without_a_majority(self) -> None:
        council = self.council
        leader = council.leader()
        for follower in council.followers():
            council.network.cut.add(follower.address)
        reason = self.refusal(council, Unavailable, leader.ledger.submit(RaiseKeys(7)))
        self.assertEqual(reason, "it is not known whether this was decided: this node has lost the lead")
        council.until(lambda: not leader.ledger.has_lead)
        self.assertEqual((leader.ledger.state.key_high_water, leader.ledger.leader_address), (0, None))

    def test_confirming_is_quick_with_a_lease_and_asks_the_majority_without(self) -> None:
        council = self.council
        leader = council.leader()
        self.successResultOf(Deferred.fromCoroutine(leader.ledger.confirm()))
        follower = council.followers()[0]
        council.network.silent.add(follower.address)
        leader.node.transfer(follower.id)  # from here on it has no lease in this term
        self.assertFalse(leader.ledger.is_leader)
        asked = Deferred.fromCoroutine(leader.ledger.confirm())
        self.assertNoResult(asked)
        council.until(lambda: asked.called)
        asked.addErrback(lambda failure: failure.trap(Unavailable))  # the other may have been faster
        self.successResultOf(asked)


class WordsTests(SynchronousTestCase):
    """Every way in which Raft refuses is a 503 to those who asked for a decision."""

    def test_each(self) -> None:
        for error, said in (
            (NotLeader("x"), "does not lead any more"),
            (TooBusy("too much is under way"), "no decision was reached: too much is under way"),
            (MaybeCommitted(7, "no majority in 5 s"), "not known whether this was decided: no majority in 5 s"),
            (StoreFailed("f", "is full"), "cannot store its decisions any more"),
            (InvariantBroken("odd"), "cannot store its decisions any more"),
        ):
            ledger = RaftLedger("me")

            class Node:
                running = True
                failed = error

                def has_lease(self) -> bool:
                    return False

                def propose(self, data: bytes, error: WeedError = error) -> Deferred[object]:
                    return fail(error)

                def read_index(self, error: WeedError = error) -> Deferred[None]:
                    return fail(error)

            ledger._node = Node()  # type: ignore[assignment]
            asked: list[Coroutine[Any, Any, Any]] = [ledger.submit(RaiseKeys(1))]
            if not isinstance(error, MaybeCommitted):  # a question leaves nothing in doubt
                asked.append(ledger.confirm())
            for work in asked:
                failure = self.failureResultOf(Deferred.fromCoroutine(work), Unavailable)
                self.assertIn(said, str(failure.value))

    def test_seconds_become_ticks(self) -> None:
        settings = settings_of(MasterConfig(election_timeout=2.0, heartbeat_interval=0.1), 0.02)
        self.assertEqual((settings.election, settings.heartbeat), (100, 5))
        self.assertEqual(settings_of(MasterConfig(heartbeat_interval=0.001), 0.02).heartbeat, 1)
