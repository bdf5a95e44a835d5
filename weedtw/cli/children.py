"""Daemons started as processes of their own: their output is kept, and each is ended by its own pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

import attrs

_PATIENCE: Final = 20.0  # seconds after SIGTERM; a daemon takes ten at most to finish what is under way
_LAST_LINES: Final = 8
_ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # where `weedtw` lies


@attrs.define(eq=False)
class Child:
    """One daemon."""

    name: str  # for people
    log: str  # path of the file that has its output
    _process: "subprocess.Popen[bytes]"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ended(self) -> str:
        """How it ended, "" while it runs."""
        status = self._process.poll()
        if status is None:
            return ""
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"

    def last_words(self) -> str:
        """The last lines of its output."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "".join(f"    {line}" for line in log.readlines()[-_LAST_LINES:]).rstrip()


@attrs.define(eq=False)
class Children:
    """The daemons of a demonstration, to be ended together."""

    folder: str
    running: list[Child] = attrs.Factory(list)

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Run `weedtw` with these arguments, in the folder.

        It gets a session of its own, so that Ctrl-C reaches us alone and we end it in our order.  Under a name that
        was there before it continues that one's log.
        """
        path = os.path.join(self.folder, f"{name.replace(' ', '-')}.log")
        words = [sys.executable, "-m", "weedtw.cli.main", *arguments]
        paths = [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]  # `weedtw` need not be installed
        with open(path, "ab") as log:
            process = subprocess.Popen(  # noqa: S603  # our own program, by its full path
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,
            )
        child = Child(name, path, process)
        self.running.append(child)
        return child

    def kill(self, child: Child) -> None:
        """Let one die at once, without a word; it is none of them any more."""
        child._process.kill()
        child._process.wait()
        self.running.remove(child)

    def fallen(self) -> list[Child]:
        """Those that have ended by themselves."""
        return [child for child in self.running if child.ended()]

    def end(self) -> list[str]:
        """End all, those started last first, and return complaints: who had to be killed, or ended badly.

        A Ctrl-C meanwhile kills those that are left.
        """
        complaints = []
        for child in reversed(self.running):
            if not child.ended():
                os.kill(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        for child in reversed(self.running):
            if not self._gone(child, deadline):
                os.kill(child.pid, signal.SIGKILL)
                child._process.wait()
                complaints.append(f"{child.name} did not end within {_PATIENCE:g} s of SIGTERM and was killed")
            elif child._process.returncode != 0:
                complaints.append(f"{child.name} {child.ended()}")
        self.running.clear()
        return complaints

    def _gone(self, child: Child, deadline: float) -> bool:
        try:
            child._process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            return False
        return True
