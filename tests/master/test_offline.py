"""A master's memory without the master: what is seen in it, and what a recovery makes of it."""

import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest, ChangeRefused, FolderInUse, StoreFailed
from weedtw.master import entry
from weedtw.master.offline import KEYS_AHEAD, NAME, VOLUME_IDS_AHEAD, OnDisk, Stopped, look, path_in, plan
from weedtw.raft.core import RaftCore, Settings
from weedtw.raft.leader import Leader
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Entry, EntryKind, HardState, Snapshot
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity, Update
from weedtw.topology.state import (
    MAX_KEY,
    MAX_VOLUME_ID,
    AllocateVolumeIds,
    ClusterState,
    Command,
    ExtendKeys,
    RaiseKeys,
    RaiseVolumeIds,
    RegisterServer,
    dump_command,
    dump_state,
)

THREE = Membership({name: Member(f"{name}:9333") for name in ("a", "b", "c")})
SERVER = RegisterServer("v:8080", "v:8080", "dc", "r", ("uuid-1",))
COMMANDS: tuple[Command, ...] = (ExtendKeys(100_000), AllocateVolumeIds(3), SERVER, ExtendKeys(200_000))


def log_of(*contents: Command | Membership, first: int = 1, term: int = 7) -> tuple[Entry, ...]:
    entries = []
    for index, content in enumerate(contents, first):
        if isinstance(content, Membership):
            entries.append(Entry(index, term, EntryKind.CONFIG, content.render()))
        else:
            entries.append(Entry(index, term, EntryKind.COMMAND, dump_command(content).encode()))
    return tuple(entries)


class FolderTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, NAME)

    def write(
        self,
        entries: Sequence[Entry] = log_of(*COMMANDS),
        commit: int = 3,
        *,
        beginning: Membership = THREE,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Make the file of master `a`."""
        if os.path.exists(self.path):
            os.unlink(self.path)
        with closing(SqliteStorage.create(self.path, Identity("cluster-1", "a"), beginning)) as storage:
            storage.save(Update(HardState(7, "b", commit), tuple(entries), snapshot, replaces_log=True, keep_from=0))

    def written(
        self,
        entries: Sequence[Entry] = log_of(*COMMANDS),
        commit: int = 3,
        *,
        beginning: Membership = THREE,
        snapshot: Snapshot | None = None,
    ) -> OnDisk:
        """What is seen of it."""
        self.write(entries, commit, beginning=beginning, snapshot=snapshot)
        return look(self.folder)

    def recovered(self, address: str = "", node: str = "new") -> OnDisk:
        with Stopped(self.folder) as stopped:
            stopped.recover(plan(stopped.look(), address), node)
        return look(self.folder)

    def assert_fails(self, saying: str, place: str) -> None:
        error = self.assertRaises(StoreFailed, look, place)
        self.assertIn(saying, str(error))
        self.assertEqual(str(error).count("\n"), 0)


class LookTests(FolderTest):
    def test_the_name_of_the_file(self) -> None:
        self.assertEqual(NAME, entry.NAME)

    def test_what_is_decided_and_what_may_be(self) -> None:
        found = self.written()
        self.assertEqual((found.identity, found.term, found.vote), (Identity("cluster-1", "a"), 7, "b"))
        self.assertEqual((found.commit, found.first_index, found.last_index, found.last_term), (3, 1, 4, 7))
        self.assertEqual((found.membership, found.membership_index, found.member), (THREE, 0, Member("a:9333")))
        self.assertEqual(found.committed.key_high_water, 100_000)
        self.assertEqual(found.latest.key_high_water, 200_000)
        for state in (found.committed, found.latest):
            self.assertEqual((state.max_volume_id, list(state.servers)), (3, ["v:8080"]))

    def test_from_a_snapshot_on(self) -> None:
        state = ClusterState(max_volume_id=50, key_high_water=900_000)
        snapshot = Snapshot(40, 6, THREE, dump_state(state).encode())
        two = Membership({"a": Member("a:9333"), "b": Member("b:9333", voter=False)})
        kept = log_of(ExtendKeys(900_000), first=40, term=6)  # for followers that lag
        found = self.written((*kept, *log_of(two, AllocateVolumeIds(1), first=41)), 42, snapshot=snapshot)
        self.assertEqual((found.snapshot_index, found.first_index, found.last_index), (40, 40, 42))
        self.assertEqual((found.membership, found.membership_index), (two, 41))
        self.assertEqual((found.latest.key_high_water, found.latest.max_volume_id), (900_000, 51))

    def test_nothing_but_a_snapshot(self) -> None:
        state = ClusterState(max_volume_id=50)
        found = self.written((), 0, snapshot=Snapshot(40, 6, THREE, dump_state(state).encode()))
        self.assertEqual((found.commit, found.first_index, found.last_index, found.last_term), (40, 41, 40, 6))
        self.assertEqual((found.committed, found.latest), (state, state))

    def test_what_was_refused_is_no_trouble(self) -> None:
        found = self.written(log_of(AllocateVolumeIds(0), AllocateVolumeIds(2)))
        self.assertEqual(found.latest.max_volume_id, 2)

    def test_a_file_of_its_own(self) -> None:
        self.assertEqual(self.written(), look(self.path))
        self.assertEqual(path_in(self.path), self.path)

    def test_what_is_wrong_is_one_line(self) -> None:
        self.assert_fails("there is no such folder", os.path.join(self.folder, "missing"))
        self.assert_fails("no master of weedtw has kept its state in this folder", self.folder)
        for content, saying in (
            (Entry(1, 7, EntryKind.COMMAND, b'{"do":"juggle"}'), "log entry 1: unknown command 'juggle'"),
            (Entry(1, 7, EntryKind.COMMAND, b"\xff"), "log entry 1: "),
            (Entry(1, 7, EntryKind.CONFIG, b"nobody"), "not a membership"),
        ):
            self.write((content,), 0)
            self.assert_fails(f"holds what this version does not understand: {saying}", self.folder)


class RecoverTests(FolderTest):
    def test_a_cluster_of_one(self) -> None:
        before = self.written()
        after = self.recovered()
        self.assertEqual(after.identity, Identity("cluster-1", "new"))
        self.assertEqual(after.membership, Membership({"new": Member("a:9333")}))
        self.assertGreater(after.term, before.term)
        self.assertEqual(after.last_term, after.term)
        self.assertEqual((after.commit, after.last_index), (before.last_index + 1,) * 2)
        self.assertIsNone(after.vote)

    def test_ids_go_on_beyond_all_that_may_be_given_out(self) -> None:
        """Beyond the end of the log, not beyond what is known to be decided."""
        before = self.written()
        after = self.recovered().committed
        self.assertEqual(after.key_high_water, 200_000 + KEYS_AHEAD)
        self.assertEqual(after.max_volume_id, 3 + VOLUME_IDS_AHEAD)
        self.assertEqual((after.servers, after.growing), (before.latest.servers, before.latest.growing))

    def test_ids_that_would_be_used_up(self) -> None:
        self.written(log_of(RaiseKeys(MAX_KEY - 5), RaiseVolumeIds(MAX_VOLUME_ID - 5)))
        after = self.recovered().committed
        self.assertEqual((after.key_high_water, after.max_volume_id), (MAX_KEY - 5, MAX_VOLUME_ID - 5))

    def test_it_leads_at_once(self) -> None:
        self.written()
        self.recovered()
        with closing(SqliteStorage.open(self.path)) as storage:
            core = RaftCore(storage.identity.node, storage.load(), Settings(), random.Random(1))
            core.tick()
            core.advance(core.ready())
            self.assertIsInstance(core.role, Leader)
            core.ready()
            self.assertEqual(core.log.membership.voters, {"new"})

    def test_the_file_as_it_was_is_kept(self) -> None:
        before = self.written()
        with Stopped(self.folder) as stopped:
            copy = stopped.recover(plan(stopped.look()), "new")
        self.assertEqual(copy, f"{self.path}.before-recover-1")
        kept = look(copy)
        self.assertEqual((kept.identity, kept.latest), (before.identity, before.latest))
        self.write()
        with Stopped(self.folder) as stopped:
            self.assertEqual(stopped.recover(plan(stopped.look()), "new"), f"{self.path}.before-recover-2")

    def test_another_address(self) -> None:
        self.written()
        self.assertEqual(self.recovered("x:1").member, Member("x:1"))

    def test_no_address(self) -> None:
        found = self.written()
        self.assertRaises(BadRequest, plan, found, "x")

    def test_while_it_runs(self) -> None:
        self.written()
        with closing(SqliteStorage.open(self.path)):
            self.assertRaises(FolderInUse, Stopped, self.folder)
        with Stopped(self.folder):
            self.assertRaises(FolderInUse, SqliteStorage.open, self.path)

    def test_nothing_to_recover(self) -> None:
        alone = Membership({"a": Member("a:9333"), "b": Member("b:9333", voter=False)})
        found = self.written(log_of(ExtendKeys(5)), beginning=alone)
        self.assertIn("just start it", str(self.assertRaises(ChangeRefused, plan, found)))
        self.assertIn("just start it", str(self.assertRaises(ChangeRefused, plan, found, "x:1")))

    def test_recovered_once(self) -> None:
        self.written()
        after = self.recovered()
        self.assertRaises(ChangeRefused, plan, after)

    def test_one_without_a_vote_will_do(self) -> None:
        """When its disk is all that is left."""
        members = {**THREE.members, "a": Member("a:9333", voter=False)}
        self.written(beginning=Membership(members))
        self.assertEqual(self.recovered().membership, Membership({"new": Member("a:9333")}))

    def test_one_that_was_removed_will_do(self) -> None:
        without = Membership({node: member for node, member in THREE.members.items() if node != "a"})
        found = self.written(log_of(*COMMANDS, without))
        self.assertIn("--address", str(self.assertRaises(ChangeRefused, plan, found)))
        self.assertEqual(self.recovered("a:9333").membership, Membership({"new": Member("a:9333")}))

    def test_one_that_knows_nothing(self) -> None:
        found = self.written((), 0, beginning=Membership())
        self.assertIn("take another one", str(self.assertRaises(ChangeRefused, plan, found, "a:1")))

    def test_who_is_lost(self) -> None:
        lost = plan(self.written()).lost
        self.assertEqual(lost, (("b", Member("b:9333")), ("c", Member("c:9333"))))
