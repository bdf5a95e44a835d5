"""Command lines that make no sense: one line on standard error, status 2, and nothing is asked of any server."""

import io
from contextlib import redirect_stderr, redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.main import main


def _run(*words: str) -> tuple[int, str, str]:
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        status = main(words)
    return status, out.getvalue(), error.getvalue()


class WordsTests(SynchronousTestCase):
    def test_each_misuse_is_one_line_that_names_it(self) -> None:
        for words, said in {
            ("upload",): "Name at least one FILE",
            ("upload", "--include", "*.txt", "a"): "--include goes with --dir",
            ("upload", "--ttl", "3q", "a"): "ttl '3q'",
            ("upload", "-replication=1", "a"): "replication '1'",
            ("upload", "-collection=../x", "a"): "collection '../x'",
            ("upload", "-maxMB=-1", "a"): "--maxMB: -1 is not in the range",
            ("upload", "-maxMB=lots", "a"): "'lots' is not a valid integer",
            ("upload", "--colection", "a"): "--colection: unknown option; did you mean --collection?",
            ("download",): "Missing argument 'FID...'",
            ("download", "--dir", "/nowhere/at/all", "3,01637037d6"): "/nowhere/at/all is not a folder",
            ("delete",): "Missing argument 'FID...'",
            ("status", "me"): "unexpected extra argument",
        }.items():
            status, out, error = _run(*words)
            self.assertEqual((status, out), (2, ""))
            self.assertEqual(error.count("\n"), 1)
            self.assertIn(said, error)
            self.assertTrue(error.startswith(f"weedtw {words[0]}: "))
            self.assertTrue(error.endswith(f" See weedtw {words[0]} --help.\n"))

    def test_help_explains_every_option(self) -> None:
        for command, options in {
            "upload": ("master", "collection", "replication", "ttl", "maxMB", "dir", "include", "dataCenter", "json"),
            "download": ("master", "server", "dir", "force", "json"),
            "delete": ("master", "json"),
            "status": ("master", "json"),
        }.items():
            for words in ((command, "--help"), (command, "-h"), ("help", command)):
                status, out, error = _run(*words)
                self.assertEqual((status, error), (0, ""))
                for option in options:
                    self.assertIn(f"--{option}", out)
