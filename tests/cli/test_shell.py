"""What is typed in the shell, and what becomes of the words."""

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.shell import split_commands
from weedtw.cli.shell_commands import COMMANDS
from weedtw.errors import BadRequest


class Lines(SynchronousTestCase):
    def test_several_commands(self) -> None:
        self.assertEqual(
            split_commands("lock; volume.mark -node=a:1 -volumeId 3 -readonly;;unlock;"),
            [["lock"], ["volume.mark", "-node=a:1", "-volumeId", "3", "-readonly"], ["unlock"]],
        )
        self.assertEqual(split_commands(" "), [])
        self.assertEqual(split_commands("collection.delete 'a;b'"), [["collection.delete", "a;b"]])
        self.assertRaises(ValueError, split_commands, "x 'y")

    def test_values(self) -> None:
        parse = COMMANDS["volume.move"].parse
        self.assertEqual(
            parse("volume.move", ["-volumeId", "3", "-source=a:1", "--target=b:1"]),
            {"volumeId": "3", "source": "a:1", "target": "b:1"},
        )
        for words, says in (
            (["-volumeId"], "needs a value"),
            (["-nodes=1"], "not known; it is typed volume.move -volumeId=ID -source=HOST:PORT -target=HOST:PORT"),
            (["x"], "'x' is not taken"),
        ):
            error = self.assertRaises(BadRequest, parse, "volume.move", words)
            self.assertIn(says, str(error))

    def test_both_spellings_of_doing_it(self) -> None:
        for name in ("volume.fix.replication", "volume.balance", "volume.check.disk", "collection.delete"):
            command = COMMANDS[name]
            self.assertFalse(command.changes(command.parse(name, [])))
            for word in ("-apply", "-force", "-force=true"):
                self.assertTrue(command.changes(command.parse(name, [word])))
            self.assertFalse(command.changes(command.parse(name, ["-apply=false"])))


class Unread(SynchronousTestCase):
    def test_nobody_reads_what_it_says(self) -> None:
        """`weedtw shell -c help | head -1`: no traceback when the reader has seen enough."""
        words = [sys.executable, "-m", "weedtw.cli.main", "shell", "-master=127.0.0.1:1", "-c", "help; help"]
        unread, output = os.pipe()
        os.close(unread)
        with os.fdopen(output, "wb") as nobody:
            ran = subprocess.run(words, stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual((ran.returncode, ran.stderr), (1, ""))
