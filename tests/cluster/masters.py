"""Masters and volume servers as real processes, started by the command lines that a person would type.

scratch.start("weedtw master -port=9333 -mdir=./1")      a Daemon, in the scratch folder; nothing is waited for
scratch.start("twist weed-volume --port 8080 --dir ./1")

The ports 9333 to 9342, 8080 to 8089 and 19333 to 19342 stand for ports that are free on this machine, the same one
each time.  What the daemons say is kept, and shown when a test fails; all are ended, by their own pids, when it ends.
Take a scratch folder from the fixture of that name.
"""

import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import attrs

from tests.cluster.processes import HOST, LIMIT, WEEDTW, Answer, free_ports, request, wait_until

PROGRAMS = {
    "weedtw": WEEDTW,
    "twist": [str(Path(sys.executable).parent / "twist")],
    "crashing": [sys.executable, str(Path(__file__).with_name("crashing.py"))],
    "vacuuming": [sys.executable, str(Path(__file__).with_name("vacuuming.py"))],
}
TYPED = {"9333": 0, "8080": 10}  # the first of ten ports each, as typed -> where they begin in the list of free ones
PORT = re.compile(r"-(?:master\.)?port[= ](\d+)")
QUICKLY = 3.0  # seconds for a master to say what it believes; a frozen one says nothing
FAILURE = re.compile(r"Traceback \(most recent call last\)|#critical\]")


@attrs.define(eq=False)
class Daemon:
    """One process after the other, by the same command line."""

    line: str  # as typed, with the ports that are really used
    folder: Path  # where it was typed
    log: Path  # everything that it has said since its first start
    process: "subprocess.Popen[bytes]" = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.start()

    @property
    def port(self) -> int:
        """The port that it answers at; the master's if it is both."""
        found = PORT.search(self.line)
        assert found is not None, f"which port does it have? {self.line}"
        return int(found[1])

    @property
    def address(self) -> str:
        """Where to ask it."""
        return f"{HOST}:{self.port}"

    @property
    def runs(self) -> bool:
        """Whether the process is there, be it frozen."""
        return self.process.poll() is None

    @property
    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace")

    @property
    def said_since(self) -> str:
        """What it has logged since its last start."""
        return self.said.rpartition("\n$ ")[2]

    def start(self, line: str = "") -> None:
        """Start it, or start it again: with another command line, if there is one."""
        self.line = line or self.line
        program, *words = shlex.split(self.line)
        with self.log.open("ab") as log:
            log.write(f"\n$ {self.line}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*PROGRAMS[program], *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests, which end it then
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is dead."""
        self.process.kill()
        self.process.wait(LIMIT)

    def terminate(self) -> None:
        """SIGTERM, and wait until it has ended in good order."""
        terminate([self])

    def freeze(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def restart(self, line: str = "") -> None:
        """kill -9, and start it again."""
        self.kill()
        self.start(line)

    def ask(self, target: str, *, method: str = "GET", timeout: float = LIMIT) -> Answer | None:
        """Ask it over HTTP; None when there is no answer."""
        try:
            return request(method, f"{self.address}{target}", timeout=timeout)
        except (OSError, HTTPException):
            return None

    def believes(self) -> dict[str, Any]:
        """What a master believes of its cluster (`/cluster/members`); nothing when it does not answer."""
        answer = self.ask("/cluster/members", timeout=QUICKLY)
        parsed = answer.json() if answer is not None and answer.status == 200 else {}
        assert isinstance(parsed, dict)
        return parsed

    def wait_to_say(self, pattern: str) -> str:
        """Until its log since the last start has this regular expression; the line with it."""
        wait_until(
            lambda: re.search(pattern, self.said_since) or not self.runs, f"{self.line} says {pattern}:\n{self.said}"
        )
        found = re.search(rf".*(?:{pattern}).*", self.said_since)
        assert found is not None, f"{self.line} has ended with {self.process.poll()}:\n{self.said}"
        return found[0]


def terminate(daemons: Iterable[Daemon]) -> None:
    """SIGTERM to all at once, and wait until each has ended in good order."""
    ending = list(daemons)
    for daemon in ending:
        daemon.signal(signal.SIGTERM)
    for daemon in ending:
        assert daemon.process.wait(LIMIT) == 0, (
            f"{daemon.line} ended with {daemon.process.returncode}:\n{daemon.said}"
        )


def kill(daemons: Iterable[Daemon]) -> None:
    """kill -9 for all at once, and wait until they are dead."""
    ending = list(daemons)
    for daemon in ending:
        daemon.signal(signal.SIGKILL)
    for daemon in ending:
        daemon.process.wait(LIMIT)


# ------------------------------------------------------------------ what the masters say together


def ids(daemons: Iterable[Daemon]) -> set[str]:
    """The clusters that they belong to; "" is none."""
    return {str(daemon.believes().get("cluster", "")) for daemon in daemons}


def leaders(masters: Iterable[Daemon]) -> list[Daemon]:
    """Those that lead, by their own word: there may be none, and for a moment a former one that is cut off."""
    return [master for master in masters if master.runs and master.believes().get("hasLease")]


def wait_for_leader(masters: Sequence[Daemon], other_than: Daemon | None = None) -> Daemon:
    """Until one of them leads, and it is not that one."""
    found: list[Daemon] = []

    def is_there() -> bool:
        found[:] = [master for master in leaders(masters) if master is not other_than]
        return bool(found)

    wait_until(is_there, "a master leads")
    return found[0]


def wait_for_cluster(masters: Sequence[Daemon], size: int | None = None) -> str:
    """Until all of them are voters of one cluster of that size, all follow one leader; the cluster's id.

    The size is their number unless it is given, for members that are dead.
    """
    size = len(masters) if size is None else size
    last: list[dict[str, Any]] = []

    def is_whole() -> bool:
        for master in masters:
            assert master.runs, f"{master.line} has ended with {master.process.returncode}:\n{master.said}"
        last[:] = [master.believes() for master in masters]
        members = [sorted((m["node"], m["address"], m["voter"]) for m in one.get("members", ())) for one in last]
        return (
            all(last)
            and {one["cluster"] for one in last} != {""}
            and len({(one["cluster"], one["leader"], one["term"]) for one in last}) == 1
            and sum(one["hasLease"] for one in last) == 1
            and len(members[0]) == size
            and all(one == members[0] for one in members)
            and all(voter for _, _, voter in members[0])
        )

    try:
        wait_until(is_whole, "all masters belong to one cluster")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{json.dumps(last, indent=1)}") from None
    return str(last[0]["cluster"])


# ------------------------------------------------------------------ files


def assign(masters: Sequence[Daemon], **parameters: object) -> dict[str, Any]:
    """A file id from any of them that runs, asked in turn until one has it; parameters are /dir/assign's."""
    query = urllib.parse.urlencode(parameters)
    turns = itertools.cycle(masters)
    found: list[dict[str, Any]] = []
    last: list[object] = []

    def is_assigned() -> bool:
        master = next(turns)
        answer = master.ask(f"/dir/assign?{query}") if master.runs else None
        if answer is not None and answer.status == 200:
            found.append(answer.json())
        last[:] = [answer]
        return bool(found)

    try:
        wait_until(is_assigned, "a file id is assigned")
    except AssertionError as error:
        raise AssertionError(f"{error}; the last answer: {last[0]}") from None
    return found[0]


def put(assigned: Mapping[str, Any], body: bytes) -> str:
    """Write a file where it was assigned to; its id."""
    answer = request("PUT", f"{assigned['url']}/{assigned['fid']}", body)
    assert answer.status == 201, answer
    return str(assigned["fid"])


def get(master: Daemon, fid: str) -> bytes:
    """Read a file from the first place that the master knows of."""
    answer = master.ask(f"/dir/lookup?volumeId={fid.partition(',')[0]}")
    assert answer is not None, f"{master.line} does not answer"
    assert answer.status == 200, answer
    answer = request("GET", f"{answer.json()['locations'][0]['url']}/{fid}")
    assert answer.status == 200, answer
    return answer.body


def knows(master: Daemon, fid: str) -> bool:
    """Whether a master has heard of the volume of a file."""
    answer = master.ask(f"/dir/lookup?volumeId={fid.partition(',')[0]}")
    return answer is not None and answer.status == 200


def check_cluster(masters: Sequence[Daemon], size: int | None = None) -> str:
    """They become one cluster in which files are kept, whoever is asked, and which all call by one id; the id."""
    cluster = wait_for_cluster(masters, size)
    kept = {}
    for master in masters:
        for _ in range(3):
            fid = put(assign([master]), master.line.encode())
            assert fid not in kept, f"{fid} was issued twice"
            kept[fid] = master.line.encode()
    for master in masters:
        for fid, body in kept.items():
            wait_until(lambda master=master, fid=fid: knows(master, fid), f"{master.line} knows {fid}")  # type: ignore[misc]
            assert get(master, fid) == body
        answer = master.ask("/dir/status")
        assert answer is not None
        assert answer.json()["TopologyId"] == cluster
    return cluster


# ------------------------------------------------------------------ where they run


@attrs.define(eq=False)
class Scratch:
    """A scratch folder, free ports, and what was started there."""

    folder: Path
    daemons: list[Daemon] = attrs.Factory(list)
    may_fail: bool = False  # a log may have a failure; else the test fails for it
    _ports: list[int] = attrs.field(factory=lambda: free_ports(20))

    def port(self, typed: int) -> int:
        """The port that is used for a typed one."""
        return int(self.line(str(typed)))

    def line(self, typed: str) -> str:
        """A command line as typed, with the ports that are used."""
        for first, begin in TYPED.items():
            for number, port in enumerate(self._ports[begin : begin + 10], int(first)):
                typed = re.sub(rf"\b{number}\b", str(port), typed)
                typed = re.sub(rf"\b1{number}\b", str(port + 10000), typed)
        return typed

    def start(self, typed: str) -> Daemon:
        """Type a command."""
        daemon = Daemon(self.line(typed), self.folder, self.folder / f"{len(self.daemons)}.log")
        self.daemons.append(daemon)
        return daemon

    def end(self) -> None:
        """Kill what is left, show what all have said, and fail when that was a failure."""
        for daemon in self.daemons:
            daemon.process.kill()
        for daemon in self.daemons:
            daemon.process.wait(LIMIT)
            sys.stdout.write(daemon.said)  # pytest shows it when the test failed
        failed = [daemon.line for daemon in self.daemons if FAILURE.search(daemon.said)]
        assert self.may_fail or not failed, f"logged a failure: {failed}"
