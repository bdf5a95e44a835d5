"""The demonstration's servers: the first recipe of SeaweedFS's documentation, in a folder and on ports of its own.

weedtw server -master.port=9333 -dir=./1 -volume.port=8080 -master.peers=localhost:9333,localhost:9334,…
"""

import os
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from weedtw.cli.children import Child, Children
from weedtw.cli.demo_files import DemoFailed
from weedtw.cli.report import table, wide_console
from weedtw.errors import WeedError

if TYPE_CHECKING:
    from weedtw.http.agent import PeerAgent

SERVERS: Final = 3
_HOST: Final = "localhost"
_PORTS: Final = range(12000, 32000)  # below those that a system gives to outgoing connections: they are dialled again
_READY_WITHIN: Final = 60.0  # seconds
_LOOK_AGAIN: Final = 0.05  # seconds


@attrs.define(eq=False)
class Server:
    """A master and a volume server in one process."""

    number: int
    master: str  # "host:port"
    volume: str  # "host:port"
    words: Sequence[str]  # behind `weedtw`
    child: Child

    @property
    def name(self) -> str:
        """As people call it."""
        return self.child.name


@attrs.define(eq=False)
class DemoCluster:
    """Three of them, started at once."""

    reactor: Any
    children: Children
    peers: "PeerAgent"
    servers: list[Server] = attrs.Factory(list)

    @property
    def masters(self) -> list[str]:
        """Where they listen, dead or alive."""
        return [server.master for server in self.servers]

    def start(self) -> None:
        """Start all, each in a folder that is empty."""
        ports = free_ports(2 * SERVERS)
        peers = ",".join(f"{_HOST}:{port}" for port in ports[:SERVERS])
        for number, (master, volume) in enumerate(zip(ports[:SERVERS], ports[SERVERS:], strict=True), 1):
            os.mkdir(os.path.join(self.children.folder, str(number)))
            where = (f"-master.port={master}", f"-dir=./{number}", f"-volume.port={volume}")
            words = ("server", *where, f"-master.peers={peers}")
            child = self.children.start(f"server {number}", words)
            self.servers.append(Server(number, f"{_HOST}:{master}", f"{_HOST}:{volume}", words, child))

    def show(self) -> None:
        """What was started, and how."""
        print(f"Started in {self.children.folder}, which goes at the end:\n")
        rows = []
        for server in self.servers:
            print(f"weedtw {' '.join(server.words)}")
            page = f"http://{server.volume}/ui/index.html"
            rows.append((server.name, f"http://{server.master}/", page, str(server.child.pid)))
        print()
        table(wide_console(), "Servers", ("", "MASTER", "VOLUME SERVER", "#PID"), rows)
        print()

    async def ready(self) -> None:
        """Wait until the masters are a cluster to which all volume servers report."""
        await self.until("the masters to become a cluster, and for the volume servers' reports", self._is_whole)

    async def leader(self) -> Server:
        """The one that leads, by its own word; raises DemoFailed when none does in time."""
        found: list[Server] = []

        async def leads() -> bool:
            alive = [server for server in self.servers if not server.child.ended()]
            found[:] = [server for server in alive if (await self._state(server)).get("IsLeader")]
            return bool(found)

        await self.until("", leads)
        return found[0]

    def kill(self, server: Server) -> None:
        """`kill -9`, and nothing else."""
        self.children.kill(server.child)

    async def bring_back(self, server: Server) -> None:
        """Start a dead one by the same command line, and wait until all is as it was."""
        server.child = self.children.start(server.name, server.words)
        await self.until(f"{server.name}, started again as process {server.child.pid},", self._is_whole)

    async def until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait, with a limit, until that holds; errors of the cluster mean "not yet".  `what` "" is not shown."""
        if what:
            print(f"Waiting for {what} ...", end=" ", flush=True)
        started, last = self.reactor.seconds(), ""
        while True:
            try:
                if await holds():
                    break
            except WeedError as error:
                last = f": {error}"
            waited = self.reactor.seconds() - started
            if waited > _READY_WITHIN or self.children.fallen():
                print()
                raise DemoFailed(f"gave up waiting for {what or 'a leader'} after {waited:.1f} s{last}")
            await self.pause(_LOOK_AGAIN)
        if what:
            print(f"{self.reactor.seconds() - started:.1f} s")

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        from twisted.internet.task import deferLater

        await deferLater(self.reactor, seconds)

    # ------------------------------------------------------------------ what they say

    async def _state(self, server: Server) -> dict[str, Any]:
        return await self.peers.get_json(server.master, "/cluster/status", timeout=2.0)

    async def _is_whole(self) -> bool:
        """All follow one leader, and each knows of every volume server: any of them may have to lead."""
        leaders = {str((await self._state(server)).get("Leader", "")) for server in self.servers}
        if len(leaders) > 1 or "" in leaders:
            return False
        known = [await self._volume_servers(server) for server in self.servers]
        return all(known_here == {server.volume for server in self.servers} for known_here in known)

    async def _volume_servers(self, server: Server) -> set[str]:
        topology = (await self.peers.get_json(server.master, "/dir/status"))["Topology"]
        racks = [rack for center in topology["DataCenters"] for rack in center["Racks"]]
        return {node["Url"] for rack in racks for node in rack["DataNodes"]}


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens; all are held at once, so that they differ."""
    ports: list[int] = []
    with ExitStack() as held:
        for port in random.sample(_PORTS, len(_PORTS)):
            one = held.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                break
        else:
            raise DemoFailed(f"there are no {count} free ports from {_PORTS.start} to {_PORTS.stop - 1}")
    return ports
