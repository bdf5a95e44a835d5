"""When a copy can be spared: only when every file of it is in the other, or something newer is."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.client.copies import Copies
from weedtw.client.inventory import Copy, Holder, Inventory
from weedtw.client.surplus import Change, lacking, parse_changes
from weedtw.client.volumes import Volumes
from weedtw.errors import ChangeRefused
from weedtw.formats.replication import ReplicaPlacement

FILE = Change(cookie=7, size=100, checksum=5, append_at_ns=1000)


class Spared(SynchronousTestCase):
    def test_the_same_file(self) -> None:
        again = Change(7, 100, 5, append_at_ns=10)
        self.assertEqual(lacking({1: FILE}, {1: FILE}), set())
        self.assertEqual(lacking({1: again}, {1: FILE}), set(), "it may have been written there before")

    def test_a_file_that_the_other_never_had(self) -> None:
        self.assertEqual(lacking({1: FILE}, {1: FILE, 2: FILE}), {2})

    def test_newer_changes_count(self) -> None:
        self.assertEqual(lacking({1: Change(7, 90, 6, 1001)}, {1: FILE}), set())
        self.assertEqual(lacking({1: Change(7, -1, 0, 1001)}, {1: FILE}), set())

    def test_older_ones_do_not(self) -> None:
        self.assertEqual(lacking({1: Change(7, 90, 6, 999)}, {1: FILE}), {1})
        self.assertEqual(lacking({1: Change(7, -1, 0, 999)}, {1: FILE}), {1})

    def test_without_times_only_the_same_counts(self) -> None:
        old = Change(7, 100, 5, 0)
        self.assertEqual(lacking({1: Change(7, -1, 0, 0)}, {1: old}), {1})
        self.assertEqual(lacking({1: Change(7, -1, 0, 2000)}, {1: old}), {1})
        self.assertEqual(lacking({1: old}, {1: old}), set())

    def test_another_file_of_that_key_or_content(self) -> None:
        for other in (Change(8, 100, 5, 1000), Change(7, 101, 5, 1000), Change(7, 100, 4, 1000)):
            self.assertEqual(lacking({1: other}, {1: FILE}), {1})

    def test_what_was_deleted_is_no_file(self) -> None:
        self.assertEqual(lacking({}, {1: Change(7, -1, 0, 1000)}), set())

    def test_what_a_server_tells(self) -> None:
        self.assertEqual(parse_changes({"now": 5, "changes": [[1, 7, 100, 5, 1000]]}), {1: FILE})
        for wrong in ({}, {"changes": [[1, 2]]}, {"changes": [[1, "7", 100, 5, 1000]]}, {"changes": 3}, None):
            self.assertRaises((KeyError, TypeError, ValueError), parse_changes, wrong)


class Servers:
    """Volume servers with copies of volume 1: what each tells, and what it was asked to do."""

    def __init__(self) -> None:
        self.copies = {address: {1: FILE, 2: FILE} for address in ("a:1", "b:1", "c:1")}
        self.counted = ["a:1", "b:1"]
        self.damaged: dict[str, list[int]] = {}
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    def inventory(self) -> Inventory:
        copy = Copy(1, "", ReplicaPlacement.parse("001"))
        holders = tuple(Holder(address, "dc", "r", 9, {1: copy}) for address in sorted(self.copies))
        return Inventory(holders, frozenset((1, address) for address in self.copies if address not in self.counted))

    async def json(self, address: str, path: str, query: dict[str, str], within: float = 0.0) -> Any:
        self.before(path)
        files = self.copies[address]
        if path == "/admin/copy/state":
            told = {"size": 100 * len(files), "indexSize": 16 * len(files), "revision": 0}
            return {**told, "sum": hash((frozenset(files.items()), tuple(self.damaged.get(address, ()))))}
        if path == "/admin/volume/damaged":
            return {"keys": self.damaged.get(address, [])}
        assert path == "/admin/volume/changes"
        rows = [[key, f.cookie, f.size, f.checksum, f.append_at_ns] for key, f in files.items()]
        return {"now": 0, "changes": rows}

    def do(self, address: str, path: str, query: dict[str, str]) -> dict[str, Any]:
        self.asked.append(f"{path.rpartition('/')[2]} {address}")
        if path == "/admin/copy/release":
            del self.copies[address]
        if path == "/admin/volume/agree":
            missing = self.copies[query["with"]].items() - self.copies[address].items()
            self.copies[address].update(missing)
            return {"changed": len(missing)}
        return {}


class Stub(Volumes):
    """Speaks to those servers."""

    def __init__(self, servers: Servers) -> None:
        super().__init__(None, servers, Clock())  # type: ignore[arg-type]
        self.servers = servers
        self.copies = StubCopies(servers, Clock())  # type: ignore[arg-type]

    async def inventory(self) -> Inventory:
        return self.servers.inventory()


class StubCopies(Copies):
    """Has those servers do something at once."""

    async def post(
        self,
        server: str,
        path: str,
        volume_id: int,
        query: dict[str, str] | None = None,
        within: float = 30.0,
    ) -> Any:
        assert isinstance(self.wire, Servers)
        return self.wire.do(server, path, query or {})


class Removing(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = Servers()

    def remove(self) -> Any:
        done: list[Any] = []
        Deferred.fromCoroutine(Stub(self.servers).remove_surplus(1, "c:1")).addBoth(done.append)
        return getattr(done[0], "value", done[0])

    def check_refused(self, *says: str, asked: Iterable[str] = ()) -> None:
        outcome = self.remove()
        self.assertIsInstance(outcome, ChangeRefused)
        for words in says:
            self.assertIn(words, str(outcome))
        self.assertEqual(self.servers.asked, list(asked))
        self.assertIn("c:1", self.servers.copies)

    def test_the_same_in_all(self) -> None:
        self.assertEqual(self.remove(), "has one copy less")
        self.assertEqual(self.servers.asked, ["release c:1", "thaw a:1", "thaw b:1"])
        self.assertEqual(sorted(self.servers.copies), ["a:1", "b:1"])

    def test_the_others_know_more(self) -> None:
        for address in ("a:1", "b:1"):
            self.servers.copies[address] |= {2: Change(7, -1, 0, 2000), 3: FILE}
        self.assertEqual(self.remove(), "has one copy less")

    def test_one_of_the_others_lacks_a_file_and_gets_it_first(self) -> None:
        del self.servers.copies["b:1"][2]
        self.assertEqual(self.remove(), "has one copy less")
        self.assertEqual(self.servers.asked[:3], ["agree b:1", "agree a:1", "release c:1"])
        self.assertEqual(self.servers.copies["b:1"], {1: FILE, 2: FILE})

    def test_it_is_the_only_one_with_a_file(self) -> None:
        self.servers.copies["c:1"][3] = FILE
        asked = ["agree b:1", "agree a:1"]
        self.check_refused("the copy on c:1 is kept: a:1 lacks 1 of its files; b:1 lacks 1", asked=asked)

    def test_another_copy_is_damaged(self) -> None:
        self.servers.damaged["b:1"] = [2]
        self.check_refused("b:1 has 1 damaged files", asked=["agree b:1", "agree a:1"])

    def test_it_is_not_one_too_many(self) -> None:
        self.servers.counted.append("c:1")
        self.check_refused("is not one too many")
        self.servers.counted = ["a:1"]
        self.servers.copies.pop("b:1")
        self.check_refused("is not one too many")

    def test_another_copy_goes_while_they_are_compared(self) -> None:
        def dies(path: str) -> None:
            if path == "/admin/copy/state" and "b:1" in self.servers.counted:
                self.servers.counted.remove("b:1")

        self.servers.before = dies
        self.check_refused("is not one too many")
