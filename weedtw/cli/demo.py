"""`make demo`: three masters and volume servers on this machine, a few files in them, and the leading one killed.

Everything lies in a scratch folder and is gone at the end.  On a terminal the servers stay until Ctrl-C; without
one the demo ends by itself.  The exit status is 0 when every file read back as it was, no file id came twice, and
every server ended when it was told to.
"""

import io
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from weedtw.cli.children import Child, Children
from weedtw.cli.demo_cluster import DemoCluster, Server
from weedtw.cli.demo_files import DemoFailed, Kept, keep, read_back, sample_files, show_files
from weedtw.cli.demo_outage import Asker
from weedtw.cli.report import Report
from weedtw.errors import WeedError

if TYPE_CHECKING:
    from weedtw.client import Client
    from weedtw.http.agent import PeerAgent

_BEFORE: Final = 1.0  # seconds for which ids are asked for, before the leader dies and with the next one
_LOOK_AGAIN: Final = 0.1  # seconds


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration; the exit status."""
    if arguments:
        print(
            __doc__.partition("\n\n")[2] if arguments[0] in {"--help", "-h"} else f"demo: {arguments[0]}: no options"
        )
        return int(arguments[0] not in {"--help", "-h"})
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in step with standard error, in a log too
    scratch = tempfile.mkdtemp(prefix="weedtw-demo-")
    children = Children(scratch)
    try:
        status = _react(children)
    finally:
        complaints = _end(children)
        shutil.rmtree(scratch, ignore_errors=True)
    for complaint in complaints:
        print(f"demo: {complaint}", file=sys.stderr)
    return 1 if complaints else status


def _react(children: Children) -> int:
    """Run the reactor until the demonstration is over."""
    from twisted.internet.task import react

    from weedtw.cli.session import end_with
    from weedtw.cli.steady import make_steady

    demo = Demo(children)

    def begin(reactor: Any) -> Any:
        make_steady(reactor)
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reactor.stop))  # the terminal was closed
        running = demo.start(reactor)
        end_with(reactor, running, signal.SIG_IGN)  # the servers have to be ended whatever happens
        return running

    status = 1
    with suppress(KeyboardInterrupt):  # before the reactor ran
        try:
            react(begin)
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status if demo.is_over else 1


def _end(children: Children) -> list[str]:
    if not children.running:
        return []
    signal.signal(signal.SIGINT, signal.default_int_handler)
    count = len(children.running)
    print(f"\nEnding the {count} servers ...", end=" ", flush=True)
    started = time.monotonic()
    complaints = children.end()
    print("not all ended well." if complaints else f"they are gone, after {time.monotonic() - started:.1f} s.")
    return complaints


@attrs.define(eq=False)
class Demo:
    """One run."""

    children: Children
    reactor: Any = None
    is_over: bool = False  # it came to its end, and was not cut short

    def start(self, reactor: Any) -> Any:
        """Begin; the Deferred fails with SystemExit unless all went well."""
        from twisted.internet.defer import Deferred

        self.reactor = reactor
        return Deferred.fromCoroutine(self._whole())

    async def _whole(self) -> None:
        from twisted.internet.defer import CancelledError
        from twisted.internet.task import deferLater

        from weedtw.http.agent import make_agent

        await deferLater(self.reactor, 0.0)  # signals are minded from here on, so that no server can be left behind
        peers = make_agent(self.reactor)
        try:
            await self._story(peers)
        except (WeedError, DemoFailed, OSError) as error:
            print(f"demo: {error}", file=sys.stderr)
            self._show_logs()
            raise SystemExit(1) from error
        except CancelledError:
            print("demo: interrupted", file=sys.stderr)
            raise SystemExit(1) from None
        finally:
            await peers.close()
        self.is_over = True
        if sys.stdin.isatty() and sys.stdout.isatty():
            await self._until_interrupted()

    async def _story(self, peers: "PeerAgent") -> None:
        cluster = DemoCluster(self.reactor, self.children, peers)
        cluster.start()
        cluster.show()
        await cluster.ready()
        print()
        files = await self._store(cluster)
        show_files(files)
        _show_places(cluster, files)
        dead = await self._outage(cluster)
        await self._read_again(cluster, files, dead)
        await cluster.bring_back(dead)
        print()
        await self._show_masters(cluster)
        _show_commands(cluster)

    async def _store(self, cluster: DemoCluster) -> list[Kept]:
        client = self._client(cluster)
        try:
            return [await keep(client, cluster.peers, path) for path in sample_files(self.children.folder)]
        finally:
            await client.close()

    async def _outage(self, cluster: DemoCluster) -> Server:
        """Ask for ids while the leader is killed, and tell how long there were none; who was killed."""
        from twisted.internet.defer import Deferred

        print("\nAsking each master in turn for one file id after the other ...")
        asker = Asker(self.reactor, cluster.peers, cluster.masters)
        asking = Deferred.fromCoroutine(asker.run())
        try:
            await cluster.pause(_BEFORE)
            leader = await cluster.leader()
            cluster.kill(leader)
            print(
                f"Killed {leader.name} in the middle of it (kill -9 {leader.child.pid}): its master was the leader."
            )
            successor = await cluster.leader()
            await cluster.pause(_BEFORE)
        finally:
            asker.stop()
        await asking
        print(f"Now {successor.name} leads.  The longest time without an id was {asker.longest * 1000:.0f} ms.")
        if asker.twice:
            raise DemoFailed(f"of {asker.count:,} ids {asker.twice:,} came twice")
        print(f"Of {asker.count:,} ids none came twice.")
        return leader

    async def _read_again(self, cluster: DemoCluster, files: list[Kept], dead: Server) -> None:
        client = self._client(cluster)  # one that has not heard of anything yet
        try:
            for one in files:
                await read_back(client, cluster.peers, one)
        finally:
            await client.close()
        concerned = sum(dead.volume in one.copies for one in files)
        print(f"All {len(files)} files read back as they were; {concerned} of them had a copy on {dead.name}.\n")

    async def _show_masters(self, cluster: DemoCluster) -> None:
        """What `weedtw cluster status` shows."""
        from weedtw.cli.cluster_status import show_status

        client = self._client(cluster)
        try:
            await show_status(client, Report("demo", bars=False))
        finally:
            await client.close()

    def _client(self, cluster: DemoCluster) -> "Client":
        from weedtw.client import Client

        return Client(cluster.masters, self.reactor, patience=10.0)

    async def _until_interrupted(self) -> None:
        from twisted.internet.defer import CancelledError
        from twisted.internet.task import deferLater

        print("\nCtrl-C ends it.", flush=True)
        complained: list[Child] = []
        try:
            while True:
                for child in self.children.fallen():
                    if child not in complained:
                        complained.append(child)
                        print(f"demo: {child.name} {child.ended()}:\n{child.last_words()}", file=sys.stderr)
                await deferLater(self.reactor, _LOOK_AGAIN)
        except CancelledError:
            return

    def _show_logs(self) -> None:
        """What the servers said last; their logs go with the scratch folder."""
        for child in self.children.running:
            print(f"demo: {child.name} {child.ended() or 'is running'}. Its last words:", file=sys.stderr)
            print(child.last_words(), file=sys.stderr)


def _show_places(cluster: DemoCluster, files: list[Kept]) -> None:
    print(f"\nOpen  http://{cluster.servers[0].master}/  a master's page; each of them has one")
    picture = next(one.uploaded for one in files if one.is_picture)
    for stored in (picture, files[0].uploaded):
        print(f"      http://{stored.url}/{stored.fid}  {stored.name}")


def _show_commands(cluster: DemoCluster) -> None:
    program, master = _program(), cluster.servers[0].master
    print(f"\nTry   {program} cluster status --master {master}")
    print(f"      {program} status --master {master}")
    print(f"      {program} upload --master {master} FILE")
    print(f"      curl http://{master}/dir/assign")


def _program() -> str:
    """How to call `weedtw` from this folder."""
    if shutil.which("weedtw"):
        return "weedtw"
    script = os.path.join(os.path.dirname(sys.executable), "weedtw")
    return os.path.relpath(script) if os.access(script, os.X_OK) else f"{sys.executable} -m weedtw.cli.main"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
