"""The commands on folders of volumes, whatever was done to the files: a sentence, no traceback, and no leavings."""

import os
import shutil
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.main import main

SAMPLE = Path(__file__).parent.parent / "sample"
LEAVINGS = (".tmp", ".cpd", ".cpx", ".cpc", ".part")


def run(*words: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(words)
    return status, out.getvalue(), err.getvalue()


def damaged(data: bytes, share: float, kind: str, junk: bytes) -> bytes:
    """The bytes of a file with something done to them, at that share of its length."""
    at = int(share * len(data))
    if kind == "cut":
        return data[:at]
    if kind == "longer":
        return data + junk
    return data[:at] + junk + data[at + len(junk) :] if kind == "other" else data[:at] + data[at + len(junk) :]


class AnyDamageTests(SynchronousTestCase):
    """One file of a volume is not as it was."""

    @settings(max_examples=40, deadline=None)
    @given(
        base=st.sampled_from(["1", "3", "4", "old_112", "pics_2"]),
        suffix=st.sampled_from([".dat", ".dat", ".idx", ".vif"]),
        kind=st.sampled_from(["cut", "longer", "other", "less"]),
        share=st.floats(0, 0.999),
        junk=st.binary(min_size=1, max_size=80),
        begins_with=st.sampled_from(["fix", "compact"]),
    )
    def test_every_command(
        self, base: str, suffix: str, kind: str, share: float, junk: bytes, begins_with: str
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="weedtw-test-") as folder:
            for each in (".dat", ".idx", ".vif"):
                shutil.copy(SAMPLE / f"{base}{each}", folder)
            hurt = Path(folder) / f"{base}{suffix}"
            hurt.write_bytes(damaged(hurt.read_bytes(), share, kind, junk))
            named = ("-dir", folder, "-volumeId", base.rpartition("_")[2])
            looking = [
                ("verify", folder),
                ("export", *named, "-deleted"),
                ("export", *named, "-o", os.path.join(folder, "x.tar")),
                *(("inspect", os.path.join(folder, base + each)) for each in (".dat", ".idx", ".vif")),
            ]
            mending = [("fix", folder), ("compact", *named)]
            if begins_with == "compact":
                mending.reverse()
            for words in (*looking, *mending, *looking):
                self.check(folder, words)

    def check(self, folder: str, words: tuple[str, ...]) -> None:
        status, out, err = run(*words)
        self.assertIn(status, (0, 1), words)
        if status:
            self.assertTrue(err or "wrong" in out, words)  # it says why
        self.assertEqual([name for name in os.listdir(folder) if name.endswith(LEAVINGS)], [], words)
