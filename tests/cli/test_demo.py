"""`make demo` as a process: it shows what it promises, and nothing of it is left, however it ends."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.demo import main
from weedtw.cli.demo_files import picture
from weedtw.cli.demo_outage import Asker
from weedtw.errors import Unreachable
from weedtw.http.agent import PeerAgent

DEMO = [sys.executable, "-m", "weedtw.cli.demo"]
LIMIT = 120.0  # seconds; generous, for a machine that does something else as well


@attrs.define
class Running:
    """A demonstration on a terminal of its own."""

    process: "subprocess.Popen[bytes]"
    screen: int
    shown: str = ""

    def read_until(self, text: str) -> None:
        deadline = time.monotonic() + LIMIT
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read(), f"ended without {text!r}:\n{self.shown}"

    def read_to_end(self) -> int:
        while self._read():
            continue
        return self.process.wait(LIMIT)

    def _read(self) -> bool:
        try:
            piece = os.read(self.screen, 65536)
        except OSError:  # how the end of a terminal shows on Linux
            return False
        self.shown += piece.decode().replace("\r\n", "\n")
        return bool(piece)


@contextmanager
def on_a_terminal(scratch: Path) -> Iterator[Running]:
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        DEMO, stdin=terminal, stdout=terminal, stderr=terminal, env=environment(scratch), start_new_session=True
    )
    os.close(terminal)
    try:
        yield Running(process, screen)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(LIMIT)
        os.close(screen)


def environment(scratch: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch), "COLUMNS": "200"}


def pids(shown: str) -> dict[str, int]:
    """The servers' processes by their names: from the table, and from what is said of the one that is restarted."""
    first = re.findall(r"^(server \d) +http\S+ +http\S+ +(\d+)$", shown, re.MULTILINE)
    again = re.findall(r"for (server \d), started again as process (\d+)", shown)
    return {name: int(pid) for name, pid in (*first, *again)}


def killed(shown: str) -> tuple[str, int]:
    """The server that the demonstration kills, and its process."""
    (found,) = re.findall(r"^Killed (server \d) in the middle of it \(kill -9 (\d+)\)", shown, re.MULTILINE)
    return found[0], int(found[1])


def assert_nothing_is_left(shown: str, scratch: Path) -> None:
    found = pids(shown)
    assert len(found) == 3, shown
    for pid in found.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert os.listdir(scratch) == []


@pytest.mark.process
def test_without_a_terminal_it_ends_by_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        DEMO,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env=environment(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    shown = done.stdout
    recipe = r"^weedtw server -master\.port=\d+ -dir=\./\d -volume\.port=\d+ -master\.peers=(?:localhost:\d+,?){3}$"
    assert len(re.findall(recipe, shown, re.MULTILINE)) == 3
    files = re.findall(r"^(\S+) .* (\d+,[0-9a-f]+) +(\d) +same as stored(.*)$", shown, re.MULTILINE)
    assert len(files) >= 3
    assert [chunks for name, _, _, chunks in files if name == "large.bin"] == [" in 6 chunks"]
    assert {copies for _, _, copies, _ in files} == {"2"}
    assert re.search(r"^Open  http://localhost:\d+/  a master's page; each of them has one$", shown, re.MULTILINE)
    assert "Ctrl-C" not in shown
    assert_the_outage_is_told(shown, len(files))
    assert_nothing_is_left(shown, tmp_path)


def assert_the_outage_is_told(shown: str, files: int) -> None:
    dead, pid = killed(shown)
    assert re.search(rf"^{dead} +http.* {pid}$", shown, re.MULTILINE)  # in the table of those that were started
    assert pids(shown)[dead] != pid  # it was started again
    (outage,) = re.findall(r"^Now (server \d) leads\. +The longest time without an id was (\d+) ms\.$", shown, re.M)
    assert outage[0] != dead
    assert int(outage[1]) > 0
    assert re.search(r"^Of [1-9][\d,]* ids none came twice\.$", shown, re.MULTILINE)
    again = re.search(
        r"^All (\d+) files read back as they were; (\d+) of them had a copy on (server \d)\.$", shown, re.M
    )
    assert re.search(r"^localhost:\d+ leads in term \d+; 3 of 3 voters are here", shown, re.MULTILINE)
    assert again is not None
    assert (int(again[1]), again[3]) == (files, dead)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_on_a_terminal_it_stays_until_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    with on_a_terminal(tmp_path) as demo:
        demo.read_until("Ctrl-C ends it.")
        assert demo.process.poll() is None
        demo.process.send_signal(number)
        assert demo.read_to_end() == 0, demo.shown
        assert_nothing_is_left(demo.shown, tmp_path)


@pytest.mark.process
def test_a_server_that_falls_is_told_and_counts_as_failure(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path) as demo:
        demo.read_until("Ctrl-C ends it.")
        name, pid = list(pids(demo.shown).items())[-1]
        os.kill(pid, signal.SIGKILL)
        demo.read_until(f"demo: {name} was killed by signal 9")
        demo.process.send_signal(signal.SIGINT)
        assert demo.read_to_end() == 1, demo.shown
        assert_nothing_is_left(demo.shown, tmp_path)


@pytest.mark.process
@pytest.mark.parametrize("moment", ["Waiting for the masters", "Asking each master", "leads."])
def test_interrupted_on_its_way_it_ends_what_it_started(tmp_path: Path, moment: str) -> None:
    with on_a_terminal(tmp_path) as demo:
        demo.read_until(moment)
        demo.process.send_signal(signal.SIGTERM)
        assert demo.read_to_end() == 1, demo.shown
        assert_nothing_is_left(demo.shown, tmp_path)


@attrs.define
class Masters:
    """Answers in the order of a script; "" is no answer."""

    answers: list[str]
    clock: Clock
    asked: list[str] = attrs.Factory(list)

    async def get_json(
        self, address: str, path: str, query: Mapping[str, object], *, timeout: float
    ) -> dict[str, object]:
        self.asked.append(address)
        fid = self.answers.pop(0)
        if not fid:
            raise Unreachable(address, "nobody listens there")
        return {"fid": fid}


class DemoTests(SynchronousTestCase):
    def test_it_takes_no_options(self) -> None:
        self.assertEqual(main(["--fast"]), 1)
        self.assertEqual(main(["--help"]), 0)

    def test_an_id_that_comes_twice_is_noticed_and_the_longest_wait_for_one_measured(self) -> None:
        clock = Clock()
        masters = Masters(["1,0a00000001", "", "2,0b00000001", "", "1,0a00000002"], clock)
        asker = Asker(clock, cast(PeerAgent, masters), ["a:1", "b:1"])
        asking = Deferred.fromCoroutine(asker.run())
        while masters.answers:
            clock.advance(0.5)
        asker.stop()
        clock.advance(0.5)
        self.successResultOf(asking)
        self.assertEqual((asker.count, asker.twice, asker.longest), (3, 1, 1.0))
        self.assertEqual(masters.asked, ["a:1", "b:1", "a:1", "b:1", "a:1"])

    def test_the_picture_it_makes_is_one(self) -> None:
        pillow = pytest.importorskip("PIL.Image")
        with pillow.open(io.BytesIO(picture(8))) as image:
            image.load()
            self.assertEqual((image.format, image.size, image.getpixel((1, 2))), ("PNG", (8, 8), (4, 8, 128)))
