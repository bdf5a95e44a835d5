"""Volume servers on real sockets, with a master that does no more than listen to them and look volumes up."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from klein import Klein
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver

from weedtw.config import FolderConfig, VolumeConfig
from weedtw.formats.beat import (
    MAX_LINE,
    PREFIX,
    Ack,
    Bye,
    Delta,
    Full,
    Hello,
    Pulse,
    Welcome,
    decode_hello,
    decode_report,
    encode,
)
from weedtw.http.agent import PeerAgent, make_agent
from weedtw.http.channel import make_site
from weedtw.http.requests import Request, query
from weedtw.http.responses import endpoint, json_errors, json_response
from weedtw.volume.service import VolumeService

reactor: Any = installed_reactor
CLUSTER_ID = "0b1e0000-0000-4000-8000-000000000001"


@attrs.frozen
class Answer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name.lower()]

    def get(self, name: str) -> str | None:
        return self.headers.get(name.lower())

    @property
    def json(self) -> Any:
        assert self["Content-Type"] == "application/json", (self.status, self.body[:200])
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


class _Reports(LineReceiver):
    delimiter = b"\r\n"
    MAX_LENGTH = MAX_LINE

    def __init__(self, master: "Master") -> None:
        self.master = master
        self.hello: Hello | None = None

    def lineReceived(self, line: bytes) -> None:
        assert self.transport is not None
        if self.hello is None:
            self.hello = decode_hello(line)
            self.master.hellos.append(self.hello)
            own = (self.master.address,)
            self.transport.write(encode(Welcome(CLUSTER_ID, own[0], own, 30 << 30)))
            return
        report = decode_report(line)
        held = self.master.held.setdefault(self.hello.address, set())
        if isinstance(report, Full):
            held |= {volume.id for volume in report.volumes}
        elif isinstance(report, Delta):
            held |= {volume.id for volume in report.new}
            held -= set(report.gone)
        self.master.reports.append(report)
        if isinstance(report, Bye):
            del self.master.held[self.hello.address]
        elif isinstance(report, Delta | Pulse) or report.part == report.parts:
            self.transport.write(encode(Ack(report.seq, self.master.address, (self.master.address,), 30 << 30)))


@attrs.define(eq=False)
class Master:
    """Knows which server holds what, as far as it was told; `hidden` locations are left out of lookups."""

    app = Klein()
    json_errors(app)

    address: str = ""
    held: dict[str, set[int]] = attrs.Factory(dict)
    extra: dict[int, list[str]] = attrs.Factory(dict)  # locations that no server reports
    hellos: list[Hello] = attrs.Factory(list)
    reports: list[Any] = attrs.Factory(list)
    lookups: int = 0
    _close: Callable[[], Coroutine[Any, Any, None]] | None = None

    @app.route("/dir/lookup")
    @endpoint
    async def lookup(self, request: Request) -> bytes:
        self.lookups += 1
        wanted = query(request).required_integer("volumeId")
        urls = [address for address, volumes in self.held.items() if wanted in volumes] + self.extra.get(wanted, [])
        if not urls:
            return json_response(request, {"volumeOrFileId": str(wanted), "error": "volume id not found"}, 404)
        locations = [{"url": url, "publicUrl": url} for url in urls]
        return json_response(request, {"volumeOrFileId": str(wanted), "locations": locations})

    def start(self) -> None:
        site = make_site(
            self.app.resource(), reactor=reactor, body_limit=1000, protocols={PREFIX: lambda: _Reports(self)}
        )
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.address = f"127.0.0.1:{port.getHost().port}"

        async def close() -> None:
            await port.stopListening()
            await site.drain(1)

        self._close = close

    async def stop(self) -> None:
        assert self._close is not None
        await self._close()


@attrs.define(eq=False)
class Cluster:
    """Servers and a way to talk to them."""

    folder: Path
    master: Master
    agent: PeerAgent
    servers: list[VolumeService] = attrs.Factory(list)
    _stopped: set[VolumeService] = attrs.Factory(set)

    async def start(self, count: int = 1, **settings: Any) -> list[VolumeService]:
        """Start servers, and wait until the master knows them."""
        started = []
        for _ in range(count):
            folder = self.folder / f"server{len(self.servers)}"
            folder.mkdir(exist_ok=True)
            started.append(self.make(folder, **settings))
            started[-1].prepare()
            started[-1].startService()
            self.servers.append(started[-1])
        await until(lambda: all(server.address in self.master.held for server in started))
        return started

    def make(self, folder: Path, **settings: Any) -> VolumeService:
        defaults: dict[str, Any] = {
            "ip": "127.0.0.1",
            "port": 0,
            "folders": (FolderConfig(str(folder), 30),),
            "masters": (self.master.address,),
            "file_size_limit_mb": 8,
        }
        return VolumeService(VolumeConfig(**(defaults | settings)), reactor)

    async def stop(self, server: VolumeService) -> None:
        if server not in self._stopped:
            self._stopped.add(server)
            await server.stopService()

    async def volume(self, volume_id: int, on: list[VolumeService], **settings: str) -> None:
        """Make a volume, and wait until the master knows where it is."""
        for server in on:
            parameters = {"volume": volume_id, **settings}
            answer = await self.ask("POST", server, "/admin/assign_volume", query=parameters)
            assert (answer.status, answer.json) == (200, {})
        await until(lambda: all(volume_id in self.master.held[server.address] for server in on))

    async def ask(
        self,
        method: str,
        server: VolumeService | str,
        path: str,
        body: bytes | None = None,
        *,
        query: dict[str, Any] | None = None,
        timeout: float = 30.0,
        **headers: Any,
    ) -> Answer:
        """One request; underscores in names of headers stand for dashes."""
        address = server if isinstance(server, str) else server.address
        lines = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        response = await self.agent.request(
            method,
            address,
            path,
            query,
            headers=lines,
            body=None if body is None else [body],
            timeout=timeout,
        )
        received = {
            name.decode().lower(): b", ".join(values).decode("utf-8", "surrogateescape")
            for name, values in response.response.headers.getAllRawHeaders()
        }
        if response.length is not None:
            received.setdefault("content-length", str(response.length))
        return Answer(response.status, received, await response.read(1 << 30))

    async def put(
        self, server: VolumeService | str, path: str, body: bytes, kind: str = "", **headers: Any
    ) -> Answer:
        """PUT a file of that type."""
        typed: dict[str, Any] = {"Content_Type": kind} if kind else {}
        return await self.ask("PUT", server, path, body, **typed, **headers)

    async def post(
        self,
        server: VolumeService | str,
        path: str,
        body: bytes,
        name: str = "",
        kind: str = "",
        part: dict[str, str] | None = None,
        **headers: Any,
    ) -> Answer:
        """POST a form with one file."""
        lines = [f'Content-Disposition: form-data; name="file"; filename="{name}"']
        lines += [f"Content-Type: {kind}"] if kind else []
        lines += [f"{key}: {value}" for key, value in (part or {}).items()]
        head = "--x27y\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        form = head.encode() + body + b"\r\n--x27y--\r\n"
        return await self.ask(
            "POST", server, path, form, Content_Type="multipart/form-data; boundary=x27y", **headers
        )

    async def get(self, server: VolumeService | str, path: str, **headers: Any) -> Answer:
        return await self.ask("GET", server, path, **headers)

    async def head(self, server: VolumeService | str, path: str, **headers: Any) -> Answer:
        return await self.ask("HEAD", server, path, **headers)

    async def delete(self, server: VolumeService | str, path: str, **headers: Any) -> Answer:
        return await self.ask("DELETE", server, path, **headers)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition; fails when it does not come true."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        pause: Deferred[None] = deferLater(reactor, 0.01)
        await pause
    pytest.fail("waited in vain")


@pytest_twisted.async_yield_fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A master, and nothing yet that reports to it."""
    master = Master()
    master.start()
    made = Cluster(tmp_path, master, make_agent(reactor))
    yield made
    for server in made.servers:
        await made.stop(server)
    await made.agent.close()
    await master.stop()


@pytest_twisted.async_yield_fixture
async def servers(cluster: Cluster) -> AsyncIterator[list[VolumeService]]:
    """Two of them: volume 3 is on the first, volume 4 on the second."""
    made = await cluster.start(2)
    await cluster.volume(3, [made[0]])
    await cluster.volume(4, [made[1]])
    yield made
