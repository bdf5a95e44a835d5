"""Each call that an operation makes to the operating system fails in turn: of every kind, in every way.

After each the caller has an error or the operation is done, never neither; what the volume says is what it says
when it is opened again; and it takes writes again, or says why not.  A run without failures tells which calls there
are, so that none is forgotten.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator

import attrs
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config.model import IndexKind
from weedtw.errors import NeedleNotFound, StorageError, VolumeNotFound, WeedError
from weedtw.formats.needle import Needle
from weedtw.storage import diskmap
from weedtw.storage.location import DiskLocation
from weedtw.storage.store import Store
from weedtw.storage.testing import Crash, CrashingOps, FaultyOps, ManualClock, QuickOps, scratch
from weedtw.storage.volume import Volume

CHANGES = ("open", "pwritev", "truncate", "sync", "rename", "unlink", "sync_folder")  # what is made to fail
BEFORE: dict[int, bytes | None] = {1: b"one", 2: b"two", 3: b"three" * 400, 4: None, 5: b""}


@attrs.define
class Nth:
    """Refuses one call, the nth of all that change something; or takes a part of a write, and refuses the rest."""

    at: int
    error: int
    part: int | None = None


class NthOps(FaultyOps):
    """Counts the calls that change something, and fails the one that `nth` says."""

    def __init__(self) -> None:
        super().__init__()
        self.nth: Nth | None = None
        self.count = 0
        self.failed: tuple[str, str] | None = None
        self.seen: list[str] = []

    def begin(self, nth: Nth | None) -> None:
        self.nth, self.count, self.failed = nth, 0, None
        self.seen.clear()

    def _meet(self, call: str, path: str) -> None:
        super()._meet(call, path)
        if call not in CHANGES:
            return
        self.count += 1
        self.seen.append(call)
        if self.nth is not None and self.count == self.nth.at:
            self.failed = call, path
            raise OSError(self.nth.error, os.strerror(self.nth.error), path)

    def pwritev(self, fd: int, buffers: object, offset: int) -> int:
        nth = self.nth
        if nth is not None and nth.part is not None and self.count + 1 == nth.at:
            whole = b"".join(buffers)  # type: ignore[arg-type]
            if len(whole) > nth.part:
                self.count += 1
                self.seen.append("pwritev")
                nth.at += 1  # the kernel is asked for the rest, and that is refused
                return os.pwritev(fd, [whole[: nth.part]], offset)
        return super().pwritev(fd, buffers, offset)  # type: ignore[arg-type]

    def sync(self, fd: int) -> None:
        self._meet("sync", self.path_of[fd])  # nothing dies here but calls: there is nothing to wait for

    def sync_folder(self, path: str) -> None:
        self._meet("sync_folder", path)


Operation = Callable[[Store], None]


def write(store: Store) -> None:
    store.find(7).write(Needle(9, 9, b"new" * 100, name=b"n"))


def write_synced(store: Store) -> None:
    store.find(7).write(Needle(9, 9, b"new"), fsync=True)


def overwrite(store: Store) -> None:
    store.find(7).write(Needle(1, 1, b"one again"))


def overwrite_synced(store: Store) -> None:
    store.find(7).write(Needle(1, 1, b"one again"), fsync=True)


def delete(store: Store) -> None:
    store.find(7).delete(2, 2)


def delete_synced(store: Store) -> None:
    store.find(7).delete(2, 2, fsync=True)


def vacuum(store: Store) -> None:
    store.compact(7)
    store.commit(7)


def vacuum_in_use(store: Store) -> None:
    store.compact(7)
    store.find(7).write(Needle(1, 1, b"one again"))
    store.find(7).delete(2, 2)
    store.commit(7)


def give_up(store: Store) -> None:
    store.compact(7)
    store.cleanup(7)


def lock(store: Store) -> None:
    store.find(7).set_read_only("for a test", persist=True)


DONE: dict[str, tuple[Operation, dict[int, bytes | None]]] = {
    "write": (write, {9: b"new" * 100}),
    "write, synced": (write_synced, {9: b"new"}),
    "overwrite": (overwrite, {1: b"one again"}),
    "overwrite, synced": (overwrite_synced, {1: b"one again"}),
    "delete": (delete, {2: None}),
    "delete, synced": (delete_synced, {2: None}),
    "vacuum": (vacuum, {}),
    "vacuum in use": (vacuum_in_use, {1: b"one again", 2: None}),
    "vacuum given up": (give_up, {}),
    "read-only": (lock, {}),
}
STEPS: dict[str, list[dict[int, bytes | None]]] = {
    "vacuum in use": [{}, {1: b"one again"}, {1: b"one again", 2: None}]
}


class EveryCallCase(SynchronousTestCase):
    index: IndexKind = "memory"

    def setUp(self) -> None:
        self.patch(diskmap, "_SYNC", False)
        self.folder = scratch(self)
        self.template = scratch(self)
        self.clock = ManualClock()
        store = self.opened(QuickOps(), self.template)
        volume = store.create_volume(7, "pics")
        for key, data in BEFORE.items():
            volume.write(Needle(key, key, b"old %d" % key))
            volume.write(Needle(key, key, data or b""))
            if data is None:
                volume.delete(key, key)
        store.close()

    def opened(self, ops: QuickOps | FaultyOps | CrashingOps, folder: str) -> Store:
        location = DiskLocation(folder, clock=self.clock, ops=ops, index=self.index)
        store = Store([location], clock=self.clock)
        store.open()
        return store

    def fresh(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.template, self.folder)

    def abandon(self, store: Store) -> None:
        """As a process that has died leaves it."""
        for location in store.locations:
            for volume in location.volumes.values():
                volume.drop()
            location.volumes.clear()
            location.close()

    def contents(self, volume: Volume) -> dict[int, bytes | None]:
        found: dict[int, bytes | None] = {}
        for key in (*BEFORE, 9):
            try:
                found[key] = bytes(volume.read(key, key).data)
            except NeedleNotFound:
                found[key] = None
        return found

    def ways(self, operation: Operation) -> Iterator[tuple[Nth, str]]:
        """Every way in which it can fail."""
        self.fresh()
        ops = NthOps()
        store = self.opened(ops, self.folder)
        ops.begin(None)
        operation(store)
        calls = list(ops.seen)
        store.close()
        for at, call in enumerate(calls, 1):
            for error in (errno.EIO, errno.ENOSPC):
                yield Nth(at, error), call
            for part in (1, 15, 40) if call == "pwritev" else ():
                yield Nth(at, errno.ENOSPC, part), call

    def check_operation(self, name: str) -> int:
        operation, changes = DONE[name]
        before = BEFORE | {9: None}
        count = 0
        for nth, _ in self.ways(operation):
            self.fresh()
            ops = NthOps()
            store = self.opened(ops, self.folder)
            volume = store.find(7)
            ops.begin(nth)
            error: WeedError | None = None
            try:
                operation(store)
            except StorageError as caught:
                error = caught
            where = f"{name}: {nth}, {ops.failed}"
            ops.begin(None)
            found = self.contents(volume)
            done = [before | some for some in STEPS.get(name, [changes])]
            if ops.failed is None and error is None:
                self.assertEqual(found, done[-1], where)
            allowed = [before, *done] if error is not None else done
            self.assertIn(found, allowed, where)
            if (
                error is not None
                and "fsync" not in str(error)
                and name not in STEPS
                and "new files" not in str(error)
            ):
                self.assertEqual(found, before, where)
            reason = volume.read_only_reason
            after = dict(found)
            if not reason:
                volume.write(Needle(10, 10, b"goes on"))
            elif "disk is full" in reason:
                store.check_disks()
                self.assertEqual(volume.read_only_reason, "", where)
                volume.write(Needle(10, 10, b"goes on"))
            stat = volume.info()
            self.abandon(store)
            self.check_again(after, stat.read_only, where, goes_on=volume_has(stat.max_key))
            count += 1
        return count

    def check_again(
        self, wanted: dict[int, bytes | None], was_distrusted: bool, where: str, *, goes_on: bool
    ) -> None:
        """What it holds after a start is what it held before."""
        store = self.opened(QuickOps(), self.folder)
        self.assertEqual(store.problems, [], where)
        volume = store.find(7)
        found = self.contents(volume)
        if not was_distrusted:
            self.assertEqual(found, wanted, where)
        else:  # a write that could not be taken back may be there
            for key, data in found.items():
                self.assertIn(data, {wanted[key], *(done.get(key) for _, done in DONE.values())}, where)
        if goes_on:
            self.assertEqual(bytes(volume.read(10, 10).data), b"goes on", where)
        if volume.read_only_reason:
            self.assertIn("operator", volume.read_only_reason, where)
            volume.set_read_only(None, persist=True)
        volume.write(Needle(11, 11, b"and on"))
        store.compact(7)
        store.commit(7)
        self.assertEqual(self.contents(volume), found, where)
        store.close()
        names = {name.partition(".")[2] for name in os.listdir(self.folder) if name.startswith("pics_7")}
        self.assertEqual(names & {"cpd", "cpx", "cpc", "dat.tmp", "idx.tmp"}, set(), where)


def volume_has(max_key: int) -> bool:
    return max_key == 10


class FailingTests(EveryCallCase):
    def test_writes(self) -> None:
        self.assertGreaterEqual(self.check_operation("write"), 8)
        self.assertGreaterEqual(self.check_operation("write, synced"), 10)

    def test_overwrites(self) -> None:
        self.assertGreaterEqual(self.check_operation("overwrite"), 8)
        self.assertGreaterEqual(self.check_operation("overwrite, synced"), 10)

    def test_deletions(self) -> None:
        self.assertGreaterEqual(self.check_operation("delete"), 8)
        self.assertGreaterEqual(self.check_operation("delete, synced"), 10)

    def test_vacuums(self) -> None:
        self.assertGreaterEqual(self.check_operation("vacuum"), 30)
        self.assertGreaterEqual(self.check_operation("vacuum in use"), 40)
        self.assertGreaterEqual(self.check_operation("vacuum given up"), 15)

    def test_turning_read_only(self) -> None:
        self.assertGreaterEqual(self.check_operation("read-only"), 6)

    def test_making_a_volume(self) -> None:
        def make(store: Store) -> None:
            store.create_volume(8, "pics").write(Needle(1, 1, b"first"), fsync=True)

        for nth, _ in self.ways(make):
            self.fresh()
            ops = NthOps()
            store = self.opened(ops, self.folder)
            ops.begin(nth)
            where = f"{nth}, {ops.failed}"
            error = None
            try:
                make(store)
            except StorageError as caught:
                error = caught
            self.assertTrue(error is not None or nth.part is not None or store.find(8).has(1), where)
            ops.begin(None)
            try:
                had = store.find(8).has(1)
            except VolumeNotFound:
                store.create_volume(8, "pics").write(Needle(1, 1, b"first"))
                had = True
            self.abandon(store)
            store = self.opened(QuickOps(), self.folder)
            self.assertEqual(store.problems, [], where)
            self.assertEqual(store.find(8).has(1), had, where)
            self.assertEqual(self.contents(store.find(7)), BEFORE | {9: None}, where)
            store.close()

    def test_deleting_a_volume(self) -> None:
        def remove(store: Store) -> None:
            store.delete_volume(7)

        for nth, _ in self.ways(remove):
            self.fresh()
            ops = NthOps()
            store = self.opened(ops, self.folder)
            ops.begin(nth)
            self.assertRaises(StorageError, remove, store)
            where = f"{nth}, {ops.failed}"
            self.abandon(store)
            store = self.opened(QuickOps(), self.folder)
            self.assertEqual(store.problems, [], where)
            for volume in store.volumes():  # all of it, or nothing
                self.assertEqual(self.contents(volume), BEFORE | {9: None}, where)
            if not store.volumes():
                self.assertEqual([name for name in os.listdir(self.folder) if "pics_7" in name], [], where)
            store.close()

    def test_closing(self) -> None:
        def change_and_close(store: Store) -> None:
            write(store)
            overwrite(store)
            failures = store.close()
            if failures:
                raise failures[0]

        for nth, call in self.ways(change_and_close):
            self.fresh()
            ops = NthOps()
            store = self.opened(ops, self.folder)
            ops.begin(nth)
            error = None
            try:
                change_and_close(store)
            except StorageError as caught:
                error = caught
            where = f"{nth}, {ops.failed}"
            self.assertIsNotNone(error, where)
            self.abandon(store)
            store = self.opened(QuickOps(), self.folder)
            found = self.contents(store.find(7))
            wanted = [BEFORE | {9: None}, BEFORE | {9: b"new" * 100}, BEFORE | {9: b"new" * 100, 1: b"one again"}]
            self.assertIn(found, wanted, where)
            if call == "sync":
                self.assertEqual(found, wanted[-1], where)
            store.close()

    def test_opening(self) -> None:
        """A start that fails says so, and the next one finds all."""

        def reopen(store: Store) -> None:
            store.close()
            store.open()

        for nth, _ in self.ways(reopen):
            self.fresh()
            store = self.opened(QuickOps(), self.folder)
            store.close()
            ops = NthOps()
            store = Store([DiskLocation(self.folder, clock=self.clock, ops=ops, index=self.index)], clock=self.clock)
            ops.begin(nth)
            try:
                store.open()
            except StorageError:
                self.assertIsNotNone(ops.failed, nth)
            else:
                reasons = [volume.read_only_reason for volume in store.volumes() if volume.read_only_reason]
                self.assertTrue(ops.failed is None or store.problems or reasons, f"{nth}, {ops.failed}")
                self.abandon(store)
            store = self.opened(QuickOps(), self.folder)
            self.assertEqual(self.contents(store.find(7)), BEFORE | {9: None})
            store.close()


class FailingLmdbTests(FailingTests):
    index: IndexKind = "lmdb"


class FullTests(EveryCallCase):
    """The disk is full from some call on, and stays so."""

    def test_in_the_middle_of_a_vacuum(self) -> None:
        before = BEFORE | {9: None}
        for at in range(1, 40):
            self.fresh()
            ops = NthOps()
            store = self.opened(ops, self.folder)

            def meet(call: str, path: str, ops: NthOps = ops, at: int = at) -> None:
                ops.count += call in CHANGES
                if call in {"pwritev", "open"} and ops.count >= at:  # what takes room
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

            ops.begin(None)
            ops._meet = meet  # type: ignore[method-assign]
            done = False
            try:
                vacuum(store)
                done = True
            except StorageError:
                pass
            found = self.contents(store.find(7))
            self.assertEqual(found, before)
            self.abandon(store)
            self.check_again(found, False, f"full from call {at}", goes_on=False)
            if done:
                break
        else:
            self.fail("the vacuum makes more calls than that")


class KilledTests(EveryCallCase):
    """The process dies at each call in turn, of every operation; what was acknowledged before is there."""

    def test_everywhere(self) -> None:
        killed = 0
        for name, (operation, changes) in DONE.items():
            for torn in (False, True):
                for steps in range(60):
                    self.fresh()
                    ops = CrashingOps()
                    store = self.opened(ops, self.folder)
                    ops.steps, ops.done, ops.torn = steps, 0, torn
                    finished = True
                    try:
                        operation(store)
                    except Crash:
                        finished = False
                    ops.steps = None
                    self.abandon(store)
                    store = self.opened(QuickOps(), self.folder)
                    where = f"{name} dies at call {steps}"
                    self.assertEqual(store.problems, [], where)
                    found = self.contents(store.find(7))
                    self.abandon(store)
                    done = [(BEFORE | {9: None}) | some for some in [{}, *STEPS.get(name, [changes])]]
                    self.assertIn(found, done[-1:] if finished else done, where)
                    self.check_again(found, False, where, goes_on=False)
                    killed += not finished
                    if finished:
                        break
                else:
                    self.fail(f"{name} makes more calls than that")
        self.assertGreater(killed, 80)


class KilledLmdbTests(KilledTests):
    index: IndexKind = "lmdb"
