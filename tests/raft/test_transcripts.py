"""Classic scenarios as readable files: what every node stores, sends and applies at each step.

After a wanted change of behaviour, `WEEDTW_REWRITE_TRANSCRIPTS=1 pytest tests/raft/test_transcripts.py` writes the
new output into the files; read the difference before committing it.  Nothing is rewritten where `CI` is set.
"""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.transcripts.files import BrokenTranscriptError, parse, replay

FILES = sorted((Path(__file__).parent / "transcripts" / "testdata").glob("*.txt"))
REWRITE = bool(os.environ.get("WEEDTW_REWRITE_TRANSCRIPTS")) and not os.environ.get("CI")


class Transcripts(SynchronousTestCase):
    """One test per file; they are added below."""


def _check(path: Path) -> Callable[[Transcripts], None]:
    def test(case: Transcripts) -> None:
        expected = path.read_text()
        actual = replay(expected)
        if REWRITE:
            path.write_text(actual)
        elif actual != expected:
            lines = difflib.unified_diff(
                expected.splitlines(), actual.splitlines(), f"{path.name}, expected", "as it went", lineterm="", n=8
            )
            case.fail("\n".join(lines))

    return test


for _path in FILES:
    setattr(Transcripts, "test_" + _path.stem.replace("-", "_"), _check(_path))


class TheForm(SynchronousTestCase):
    """What the other tests rely on."""

    def test_all_the_files_are_found(self) -> None:
        self.assertGreaterEqual(len(FILES), 14)

    def test_a_wrong_expectation_is_noticed(self) -> None:
        text = "cluster 1\ntick 1 10\n----\nok\n"
        self.assertNotEqual(replay(text), text)

    def test_comments_and_commands_survive_a_rewrite(self) -> None:
        text = "# why\n\n# how\ncluster 3\n----\nok\n"
        self.assertEqual(replay(text), text)
        self.assertEqual([block.commands for block in parse(text)], [[], ["cluster 3"]])

    def test_a_run_can_be_repeated(self) -> None:
        text = "cluster 3\nrun 40\npropose 1 a\nsettle\nstatus\n----\n"
        once = replay(text)
        self.assertEqual(replay(once), once)

    def test_a_command_that_does_not_exist_is_named_with_its_place(self) -> None:
        with self.assertRaises(BrokenTranscriptError) as raised:
            replay("cluster 1\n----\nok\n\nfrobnicate 1\n----\nok\n")
        self.assertIn("line 5", str(raised.exception))
        self.assertIn("frobnicate", str(raised.exception))

    def test_a_dead_node_cannot_be_asked(self) -> None:
        with self.assertRaises(BrokenTranscriptError):
            replay("cluster 1\ncrash 1\npropose 1 a\n----\n")
