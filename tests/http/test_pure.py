"""What is said to be pure in http/ needs no Twisted."""

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

PURE = ("accept", "conditional", "disposition", "framing", "head", "multipart", "ranges", "spool")


class PurityTests(SynchronousTestCase):
    def test_nothing_of_twisted_is_imported(self) -> None:
        names = ", ".join(f"weedtw.http.{name}" for name in PURE)
        unwanted = {"twisted", "zope", "klein", "socket"}
        program = f"import sys, {names}\nprint(sorted({unwanted} & set(sys.modules)))"
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual(result.stdout.strip(), "[]")
