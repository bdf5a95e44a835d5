"""`make demo`: a master and three volume servers on this machine, with a few files in them, to look at.

Everything lies in a scratch folder and is gone at the end.  On a terminal the servers stay until Ctrl-C; without
one the demo ends by itself.  The exit status is 0 when every file read back as it was, and every server ended when
it was told to.
"""

import hashlib
import io
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import attrs

from weedtw.cli.children import Child, Children
from weedtw.cli.demo_files import LARGE, digest_of, sample_files
from weedtw.cli.report import table, wide_console
from weedtw.errors import WeedError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client, Uploaded

HOST: Final = "127.0.0.1"
RACKS: Final = ("r1", "r1", "r2")  # of the volume servers; two in one, so that replication 001 has where to go
REPLICATED: Final = "001"  # one more copy, on another server of the same rack
CHUNK: Final = 1024 * 1024  # bytes
_READY_WITHIN: Final = 60.0  # seconds
_LOOK_AGAIN: Final = 0.1  # seconds


class DemoFailed(Exception):
    """The demonstration cannot go on; the text says why."""


@attrs.frozen
class Kept:
    """A file and what it became."""

    path: str
    uploaded: "Uploaded"
    copies: int  # that were read and compared


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

    def begin(reactor: Any) -> Any:
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reactor.stop))  # the terminal was closed
        demo = Demo(reactor, children)
        running = demo.start()
        end_with(reactor, running, signal.SIG_IGN)  # the servers have to be ended whatever happens
        return running

    try:
        react(begin)
    except SystemExit as ended:
        return int(ended.code or 0)
    except KeyboardInterrupt:  # before the reactor ran
        return 1
    return 0


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

    reactor: Any
    children: Children
    master: str = ""  # "host:port"
    servers: list[str] = attrs.Factory(list)

    def start(self) -> Any:
        """Begin; the Deferred fails with SystemExit unless all went well."""
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(self._whole())

    async def _whole(self) -> None:
        from twisted.internet.defer import CancelledError

        from weedtw.client import Client

        await self._pause(0.0)  # the reactor minds signals from here on, so that no server can be left behind
        try:
            self._start_servers()
            client = Client([self.master], self.reactor, patience=5.0)
            try:
                await self._ready(client)
                kept = [await self._keep(client, path) for path in sample_files(self.children.folder)]
            finally:
                await client.close()
            self._show(kept)
        except (WeedError, DemoFailed, OSError) as error:
            print(f"demo: {error}", file=sys.stderr)
            self._show_logs()
            raise SystemExit(1) from error
        except CancelledError:
            print("demo: interrupted", file=sys.stderr)
            raise SystemExit(1) from None
        if sys.stdin.isatty() and sys.stdout.isatty():
            await self._until_interrupted()

    def _start_servers(self) -> None:
        ports = _free_ports(1 + len(RACKS))
        self.master = f"{HOST}:{ports[0]}"
        print(f"The files of this demonstration lie in {self.children.folder}, until its end.\n")
        rows = [("master", f"http://{self.master}/", "", self._start("master", ports[0], "--mdir"))]
        for number, (port, rack) in enumerate(zip(ports[1:], RACKS, strict=True), 1):
            where = ("--max", "30", "--mserver", self.master, "--dataCenter", "dc1", "--rack", rack)
            child = self._start(f"volume server {number}", port, "--dir", *where)
            self.servers.append(f"{HOST}:{port}")
            rows.append((child.name, f"http://{HOST}:{port}/ui/index.html", f"dc1/{rack}", child))
        shown = ((name, url, rack, str(child.pid)) for name, url, rack, child in rows)
        table(wide_console(), "Servers", ("", "URL", "RACK", "#PID"), shown)
        print()

    def _start(self, name: str, port: int, folder_option: str, *options: str) -> Child:
        folder = os.path.join(self.children.folder, name.replace(" ", "-"))
        os.mkdir(folder)
        words = [name.split(maxsplit=1)[0], "--ip", HOST, "--port", str(port), folder_option, folder, *options]
        return self.children.start(name, words)

    async def _ready(self, client: "Client") -> None:
        async def master_leads() -> bool:
            return bool((await client.status()).leader)

        async def servers_reported() -> bool:
            return {one.url for one in (await client.status()).servers} >= set(self.servers)

        await self._wait("the master", master_leads)
        await self._wait(f"{len(self.servers)} volume servers to report to it", servers_reported)
        print()

    async def _wait(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait, with a limit, until `condition` holds; errors of the cluster mean "not yet"."""
        print(f"Waiting for {what} ...", end=" ", flush=True)
        started, last = self.reactor.seconds(), ""
        while True:
            try:
                if await condition():
                    break
            except WeedError as error:
                last = f": {error}"
            waited = self.reactor.seconds() - started
            if waited > _READY_WITHIN or self.children.fallen():
                print()
                raise DemoFailed(f"gave up waiting for {what} after {waited:.1f} s{last}")
            await self._pause(_LOOK_AGAIN)
        print(f"{self.reactor.seconds() - started:.1f} s")

    async def _keep(self, client: "Client", path: str) -> Kept:
        """Store a file, read every copy of it back, and compare."""
        from weedtw.client import Placement

        placement = Placement(replication=REPLICATED if path.endswith(".png") else "")
        uploaded = await client.upload(path, placement=placement, max_bytes=CHUNK)
        wanted = digest_of(path)
        read = hashlib.sha256()
        await client.stream(uploaded.fid, read.update)
        if read.digest() != wanted:
            raise DemoFailed(f"{path} did not read back as it was")
        locations = await client.lookup(uploaded.fid.volume_id)
        for location in locations:
            if hashlib.sha256(await self._copy_at(location.url, uploaded)).digest() != wanted:
                raise DemoFailed(f"the copy of {path} on {location.url} is not what was stored")
        return Kept(path, uploaded, len(locations))

    async def _copy_at(self, address: str, uploaded: "Uploaded") -> bytes:
        from weedtw.http.agent import make_agent

        peers = make_agent(self.reactor)
        try:
            answer = await peers.request("GET", address, f"/{uploaded.fid}")
            content: bytes = await answer.read(LARGE)
        finally:
            await peers.close()
        return content

    def _show(self, kept: list[Kept]) -> None:
        rows = []
        for one in kept:
            stored = one.uploaded
            chunks = f"in {len(stored.chunks)} chunks" if stored.chunks else ""
            size, count = format_size(stored.size), str(one.copies)
            rows.append((stored.name, size, str(stored.fid), count, f"same as stored {chunks}".strip()))
        table(wide_console(), "Files", ("NAME", "#SIZE", "ID", "#COPIES", "READ BACK"), rows)
        picture = next(one.uploaded for one in kept if one.path.endswith(".png"))
        text = kept[0].uploaded
        program = _program()
        print(f"\nOpen  http://{self.master}/  the master's page")
        for stored in (picture, text):
            print(f"      http://{stored.url}/{stored.fid}  {stored.name}")
        print(f"Try   {program} status --master {self.master}")
        print(f"      {program} upload --master {self.master} FILE")
        print(f"      curl http://{self.master}/dir/assign")

    async def _until_interrupted(self) -> None:
        from twisted.internet.defer import CancelledError

        print("\nCtrl-C ends it.", flush=True)
        complained: list[Child] = []
        try:
            while True:
                for child in self.children.fallen():
                    if child not in complained:
                        complained.append(child)
                        print(f"demo: the {child.name} {child.ended()}:\n{child.last_words()}", file=sys.stderr)
                await self._pause(_LOOK_AGAIN)
        except CancelledError:
            return

    def _show_logs(self) -> None:
        """What the servers said last; their logs go with the scratch folder."""
        for child in self.children.running:
            print(f"demo: the {child.name} {child.ended() or 'is running'}. Its last words:", file=sys.stderr)
            print(child.last_words(), file=sys.stderr)

    async def _pause(self, seconds: float) -> None:
        from twisted.internet.task import deferLater

        await deferLater(self.reactor, seconds)


def _program() -> str:
    """How to call `weedtw` from this folder."""
    if shutil.which("weedtw"):
        return "weedtw"
    script = os.path.join(os.path.dirname(sys.executable), "weedtw")
    return os.path.relpath(script) if os.access(script, os.X_OK) else f"{sys.executable} -m weedtw.cli.main"


def _free_ports(count: int) -> list[int]:
    """Ports on which nothing listens; all are held at once, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
