"""`weedtw cluster show` and `recover`: what is printed of a master's folder, and what becomes of it."""

import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing, redirect_stderr, redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli import main
from weedtw.master.offline import NAME, look
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Entry, EntryKind, HardState
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity, Update
from weedtw.topology.state import AllocateVolumeIds, Command, ExtendKeys, RegisterServer, dump_command

CLUSTER = "0b7e9d4e-0000-4000-8000-000000000000"
NODES = [f"{n}0000000-0000-4000-8000-000000000000" for n in "1234"]
MEMBERS = Membership({node: Member(f"10.0.0.{n}:9333", n != 3) for n, node in enumerate(NODES[:3], 1)})
THREE = Membership({node: Member(f"10.0.0.{n}:9333") for n, node in enumerate(NODES[:3], 1)})
COMMANDS: tuple[Command, ...] = (
    ExtendKeys(100_000),
    RegisterServer("10.0.1.1:8080", "pub.example:80", "dc1", "r1", ("uuid-1",)),
    AllocateVolumeIds(7),
    ExtendKeys(200_000),
)


class FolderCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, NAME)

    def write(self, membership: Membership = THREE, commit: int = 4, commands: Sequence[Command] = COMMANDS) -> None:
        """A master's file: a membership and some commands, in term 7."""
        contents = [(EntryKind.CONFIG, membership.render())]
        contents += [(EntryKind.COMMAND, dump_command(command).encode()) for command in commands]
        entries = tuple(Entry(index, 7, kind, data) for index, (kind, data) in enumerate(contents, 1))
        with closing(SqliteStorage.create(self.path, Identity(CLUSTER, NODES[0]), membership)) as storage:
            storage.save(Update(HardState(7, NODES[1], commit), entries, None, replaces_log=False, keep_from=0))

    def weedtw(self, *words: str, typed: str = "") -> tuple[int, list[str], str]:
        """Exit status, lines printed, standard error."""
        self.patch(sys, "stdin", io.StringIO(typed))
        self.patch(os, "environ", {**os.environ, "COLUMNS": "100"})
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main.main(["cluster", *words])
        return status, out.getvalue().splitlines(), err.getvalue()

    def files(self) -> dict[str, bytes]:
        found = {}
        for name in os.listdir(self.folder):
            with open(os.path.join(self.folder, name), "rb") as file:
                found[name] = file.read()
        return found


class ShowTests(FolderCase):
    def test_all_of_it(self) -> None:
        self.write(MEMBERS)
        before = self.files()
        self.assertEqual(
            self.weedtw("show", "--mdir", self.folder),
            (
                0,
                [
                    f"File     {self.path}",
                    f"Cluster  {CLUSTER}",
                    f"Node     {NODES[0]}",
                    "Address  10.0.0.1:9333",
                    f"Term     7, voted for {NODES[1]}",
                    "Log      entries 1 to 5, the last of term 7; snapshot at 0",
                    "Decided  up to 4 at least; 1 more entry may be decided or not",
                    "",
                    "Members since entry 1",
                    "NODE                                  ADDRESS        PART",
                    f"{NODES[0]}  10.0.0.1:9333  voter, this master",
                    f"{NODES[1]}  10.0.0.2:9333  voter",
                    f"{NODES[2]}  10.0.0.3:9333  learner",
                    "",
                    "What was agreed on",
                    "                      AT 4  AT THE END",
                    "highest volume id        7           7",
                    "file keys up to     100000      200000",
                    "volumes being made       7           7",
                    "volume servers           1           1",
                    "",
                    "Volume servers",
                    "DATA CENTER  RACK  ADDRESS        PUBLIC ADDRESS",
                    "dc1          r1    10.0.1.1:8080  pub.example:80",
                ],
                "",
            ),
        )
        self.assertEqual(self.files(), before)

    def test_while_the_master_runs(self) -> None:
        self.write(commands=())
        with closing(SqliteStorage.open(self.path)) as storage:
            status, lines, _ = self.weedtw("show", "--mdir", self.folder)
            self.assertEqual((status, lines[0]), (0, f"File     {self.path}"))
            entry = Entry(2, 7, EntryKind.NOOP)
            storage.save(Update(None, (entry,), None, replaces_log=False, keep_from=0))

    def test_nothing_is_open(self) -> None:
        self.write(commit=5)
        status, lines, _ = self.weedtw("show", "--mdir", self.folder)
        self.assertEqual(status, 0)
        self.assertIn("Decided  up to 5 at least", lines)
        self.assertIn("                      AT 5", lines)

    def test_a_membership_that_is_not_decided(self) -> None:
        self.write(commit=0)
        self.assertIn(
            "Members since entry 1, which may be decided or not", self.weedtw("show", "--mdir", self.folder)[1]
        )

    def test_one_that_was_removed(self) -> None:
        self.write(Membership({NODES[1]: Member("10.0.0.2:9333")}))
        self.assertIn("Address  none, it is no member", self.weedtw("show", "--mdir", self.folder)[1])

    def test_json(self) -> None:
        self.write(MEMBERS)
        status, lines, _ = self.weedtw("show", "-mdir", self.folder, "--json")
        found = json.loads("\n".join(lines))
        self.assertEqual(status, 0)
        self.assertEqual((found["cluster"], found["node"], found["commit"]), (CLUSTER, NODES[0], 4))
        self.assertEqual(found["members"][2], {"node": NODES[2], "address": "10.0.0.3:9333", "voter": False})
        self.assertEqual(found["committed"]["key_high_water"], 100_000)
        self.assertEqual(found["latest"]["key_high_water"], 200_000)
        self.assertEqual(found["latest"]["servers"][0]["address"], "10.0.1.1:8080")

    def test_what_is_wrong_is_one_line(self) -> None:
        status, lines, err = self.weedtw("show", "--mdir", self.folder)
        self.assertEqual((status, lines, err.count("\n")), (1, [], 1))
        self.assertIn("no master of weedtw has kept its state in this folder", err)
        with open(self.path, "wb") as file:
            file.write(b"mine")
        status, lines, err = self.weedtw("show", "--mdir", self.folder)
        self.assertEqual((status, lines), (1, []))
        self.assertEqual(
            err,
            f"weedtw cluster show: {self.path}: is not a database of weedtw; move it away or choose another folder\n",
        )


class RecoverTests(FolderCase):
    def test_what_it_says(self) -> None:
        self.write()
        status, lines, err = self.weedtw("recover", "--mdir", self.folder, "--yes")
        self.assertEqual((status, err), (0, ""))
        after = look(self.folder)
        self.assertEqual(
            lines[:17],
            [
                "This master becomes the only one of its cluster, and goes on with what it knows. That is for a",
                "majority that is lost for good: while 2 of the 3 voters can be started, start those, and nothing is",
                "lost.",
                "What the others decided and this master never learned is lost:",
                "- Ids that they gave out. None is given out again: file keys go on above 4295167296 instead of",
                "  200000, volume ids above 10007 instead of 7.",
                "- Volume servers that joined. They are known again when they report; until then a lookup of their",
                "  volumes says that there are none.",
                "- Which volumes were being made. What was left half made stays until somebody deletes it.",
                "- Masters that were added or removed, and their addresses.",
                "What may not have been decided here, the log behind entry 4, is decided from now on. That does no",
                "harm: it is ids that will not be used, and which volume servers there are.",
                "",
                f"File     {self.path}",
                f"Cluster  {CLUSTER}",
                f"Node     {NODES[0]}",
                "Address  10.0.0.1:9333",
            ],
        )
        said = " ".join(line.strip() for line in lines[-17:])
        for words in (
            f"Cluster {CLUSTER} has one master now, node {after.identity.node} at 10.0.0.1:9333. ",
            f"The file as it was: {self.path}.before-recover-1 ",
            f"10.0.0.2:9333, node {NODES[1]} 10.0.0.3:9333, node {NODES[2]} ",
            "2 of them with their old files would be the old cluster, beside this one",
            "--peers=10.0.0.1:9333: ",
        ):
            self.assertIn(words, said)

    def test_what_it_does(self) -> None:
        self.write()
        self.weedtw("recover", "--mdir", self.folder, "--yes", "--address", "10.0.0.9:1")
        after = look(self.folder)
        self.assertEqual(after.identity.cluster, CLUSTER)
        self.assertNotIn(after.identity.node, NODES)
        self.assertEqual(after.membership, Membership({after.identity.node: Member("10.0.0.9:1")}))
        self.assertEqual(look(f"{self.path}.before-recover-1").identity.node, NODES[0])

    def test_one_of_two(self) -> None:
        """The other one alone is no majority."""
        self.write(Membership({node: THREE.members[node] for node in NODES[:2]}))
        _, lines, _ = self.weedtw("recover", "--mdir", self.folder, "--yes")
        self.assertNotIn("would be the old cluster", " ".join(lines))

    def test_asking(self) -> None:
        self.write()
        before = self.files()
        for typed in ("n\n", "\n", ""):
            status, _, err = self.weedtw("recover", "--mdir", self.folder, typed=typed)
            self.assertEqual(status, 1)
            self.assertIn("Make this master the only one of its cluster? [y/N]: ", err)
            self.assertTrue(err.endswith("weedtw cluster recover: nothing was changed\n"))
            self.assertEqual(self.files(), before)
        self.assertEqual(self.weedtw("recover", "--mdir", self.folder, typed="y\n")[0], 0)

    def test_refusals(self) -> None:
        self.write(Membership({NODES[0]: Member("10.0.0.1:9333")}))
        for options, saying in (
            (
                ("--mdir", self.folder),
                "there is nothing to recover, this master is a majority by itself; just start it",
            ),
            (("--mdir", f"{self.folder}x"), "there is no such folder"),
        ):
            status, lines, err = self.weedtw("recover", *options, typed="y\n")
            self.assertEqual((status, lines, err.count("\n")), (1, [], 1))
            self.assertIn(saying, err)

    def test_while_the_master_runs(self) -> None:
        self.write()
        with closing(SqliteStorage.open(self.path)):
            status, lines, err = self.weedtw("recover", "--mdir", self.folder, "--yes")
        self.assertEqual((status, lines), (1, []))
        self.assertIn("another process is using it; stop that one first", err)

    def test_an_address_that_is_none(self) -> None:
        self.write()
        status, _, err = self.weedtw("recover", "--mdir", self.folder, "--yes", "--address", "here")
        self.assertEqual((status, err), (1, "weedtw cluster recover: 'here' is not host:port\n"))
        self.assertEqual(look(self.folder).identity.node, NODES[0])
