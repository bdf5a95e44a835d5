"""Command lines for standard input and output that make no sense."""

import io
from contextlib import redirect_stderr, redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.main import main


class WordsTests(SynchronousTestCase):
    def test_each_misuse_is_one_line_that_names_it(self) -> None:
        for words, said in {
            ("upload", "-", "a", "-"): "Standard input can be stored once",
            ("upload", "--name", "x", "a"): "--name goes with the FILE -",
            ("download", "-o", "-", "--json", "3,01637037d6"): "to standard output",
            ("download", "-o", "x", "3,01637037d6", "4,01637037d6"): "-o is the path of one file",
            ("download", "-o", "/", "3,01637037d6"): "-o: / is a folder",
            ("download", "-o", "x/", "3,01637037d6"): "-o: ./x/ is a folder",
        }.items():
            out, error = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(error):
                status = main(words)
            self.assertEqual((status, out.getvalue(), error.getvalue().count("\n")), (2, "", 1))
            self.assertIn(said, error.getvalue())
