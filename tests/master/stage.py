"""A master on a real socket, and volume servers that are no more than their heartbeats and admin endpoints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from klein import Klein
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver

from tests.master.scene import volume as reported
from weedtw.config.model import MasterConfig
from weedtw.errors import BadRequest, VolumeNotFound, WeedError
from weedtw.formats.beat import MAX_LINE, Ack, Delta, Full, Hello, VolumeReport, Welcome, decode_answer, encode
from weedtw.http.agent import PeerAgent, make_agent
from weedtw.http.channel import Site, make_site
from weedtw.http.multipart import is_form
from weedtw.http.requests import Request, params
from weedtw.http.responses import body_response, endpoint, json_errors, json_response
from weedtw.master.service import MasterService

reactor: Any = installed_reactor
LIMIT = 1 << 20  # bytes: the size limit of volumes


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition; fails when it does not come true."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        pause: Deferred[None] = deferLater(reactor, 0.01)
        await pause
    raise AssertionError("what was waited for did not come")


@attrs.frozen
class Answer:
    """An answer as it came; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", (self.status, self.body[:200])
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


class _Beats(LineReceiver):
    """The server's end of the heartbeat protocol: hello, a full report, and whatever the test sends."""

    delimiter = b"\r\n"
    MAX_LENGTH = MAX_LINE

    transport: Any

    def __init__(self, server: "FakeVolumeServer") -> None:
        self.server = server
        self.heard: list[Any] = []
        self.is_lost = False

    def connectionMade(self) -> None:
        self.sendLine(encode(self.server.hello)[:-2])

    def connectionLost(self, reason: Any = None) -> None:
        self.is_lost = True

    def lineReceived(self, line: bytes) -> None:
        answer = decode_answer(line)
        self.heard.append(answer)
        if isinstance(answer, Welcome) or (isinstance(answer, Ack) and answer.full):
            held = tuple(self.server.volumes.values())
            self.say(Full(1, 1, 1, held, self.server.room, 0, (), self.server.max_key))

    def say(self, report: Full | Delta) -> None:
        self.sendLine(encode(report)[:-2])


@attrs.define(eq=False)
class FakeVolumeServer:
    """Makes volumes in memory; keeps what is uploaded to it; `fail` holds paths that answer 500."""

    app = Klein()
    json_errors(app)

    data_center: str
    rack: str
    room: int = 10
    public_url: str = ""
    volumes: dict[int, VolumeReport] = attrs.Factory(dict)
    files: dict[str, bytes] = attrs.Factory(dict)
    headers: dict[str, dict[str, str | None]] = attrs.Factory(dict)
    asked: list[tuple[str, dict[str, str]]] = attrs.Factory(list)
    fail: dict[str, WeedError] = attrs.Factory(dict)
    max_key: int = 0
    gate: Deferred[None] | None = None  # volumes are made when it opens
    address: str = ""
    beats: _Beats | None = None
    _site: Site | None = None
    _port: Any = None

    @property
    def hello(self) -> Hello:
        url = self.public_url or self.address
        return Hello(None, self.address, url, self.data_center, self.rack, "0", (f"uuid of {self.address}",), 5.0)

    def listen(self) -> None:
        self._site = make_site(self.app.resource(), reactor=reactor, body_limit=1 << 24)
        self._port = reactor.listenTCP(0, self._site, interface="127.0.0.1")
        self.address = f"127.0.0.1:{self._port.getHost().port}"

    async def join(self, master: str) -> None:
        """Connect to a master; returns when it has taken the first report, or refused."""
        host, _, port = master.rpartition(":")
        beats = self.beats = _Beats(self)
        await connectProtocol(HostnameEndpoint(reactor, host, int(port)), beats)
        await until(lambda: len(beats.heard) >= 2 or beats.is_lost)

    async def leave(self) -> None:
        """Drop the connection to the master."""
        beats, self.beats = self.beats, None
        if beats is not None:
            beats.transport.abortConnection()
            await until(lambda: beats.is_lost)

    async def close(self) -> None:
        await self.leave()
        await self.stop_listening()

    async def stop_listening(self) -> None:
        """Refuse all requests from now on; heartbeats go on."""
        if self._port is not None:
            await self._port.stopListening()
            assert self._site is not None
            await self._site.drain(1)
            self._port = None

    def _take(self, request: Request) -> dict[str, str]:
        path, asked = request.path.decode(), params(request).values
        self.asked.append((path, asked))
        if path in self.fail:
            raise self.fail[path]
        return asked

    @app.route("/admin/assign_volume", methods=["POST"])
    @endpoint
    async def assign_volume(self, request: Request) -> bytes:
        asked = self._take(request)
        gate, self.gate = self.gate, None
        if gate is not None:
            await gate
        number = int(asked["volume"])
        self.volumes[number] = reported(number, copies=asked["replication"], collection=asked.get("collection", ""))
        return json_response(request, {})

    @app.route("/admin/delete_volume", methods=["POST"])
    @endpoint
    async def delete_volume(self, request: Request) -> bytes:
        number = int(self._take(request)["volume"])
        if self.volumes.pop(number, None) is None:
            raise VolumeNotFound(number)
        return json_response(request, {})

    @app.route("/admin/delete_collection", methods=["POST"])
    @endpoint
    async def delete_collection(self, request: Request) -> bytes:
        name = self._take(request)["collection"]
        self.volumes = {number: each for number, each in self.volumes.items() if each.collection != name}
        return json_response(request, {})

    @app.route("/admin/vacuum/<step>", methods=["POST"])
    @endpoint
    async def vacuum(self, request: Request, step: str) -> bytes:
        self._take(request)
        return json_response(request, {"garbageRatio": 0.9} if step == "check" else {})

    @app.route("/<fid>", methods=["POST"])
    @endpoint
    async def upload(self, request: Request, fid: str) -> bytes:
        body = bytes(request.body)
        self._take(request)
        if is_form(request.header("Content-Type")) and b"name=" not in body:
            raise BadRequest("there is no part in this form")
        self.files[fid] = body
        names = ("Content-Type", "Content-Encoding", "Seaweed-Tag")
        self.headers[fid] = {name: request.header(name) for name in names}
        return json_response(request, {"name": "told.txt", "size": len(body), "eTag": "0a0b0c0d"}, 201)

    @app.route("/<fid>", methods=["GET"])
    @endpoint
    async def download(self, request: Request, fid: str) -> bytes:
        return body_response(request, self.files[fid], "application/octet-stream")


@attrs.define(eq=False)
class Stage:
    """A master and its servers, and a way to ask them."""

    folder: Path
    agent: PeerAgent = attrs.Factory(lambda: make_agent(reactor))
    servers: list[FakeVolumeServer] = attrs.Factory(list)
    _masters: list[MasterService] = attrs.Factory(list)

    @property
    def master(self) -> MasterService:
        return self._masters[-1]

    def start(self, **config: Any) -> MasterService:
        """Start the master, again after `stop` if need be, on the folder of before."""
        usual: dict[str, Any] = {"ip": "127.0.0.1", "port": 0, "mdir": str(self.folder / "m")}
        service = MasterService(MasterConfig(**(usual | {"volume_size_limit_mb": 1} | config)), reactor)
        service.prepare()
        service.startService()
        self._masters.append(service)
        return service

    async def lead(self) -> None:
        """Wait until the master decides, and has keys to give out."""
        await until(lambda: self.master.ledger.is_leader and self.master.ledger.state.key_high_water > 0)

    async def stop(self) -> None:
        await self._masters.pop().stopService()

    async def add(self, data_center: str = "dc1", rack: str = "r1", **more: Any) -> FakeVolumeServer:
        """A volume server that has joined the master."""
        server = FakeVolumeServer(data_center, rack, **more)
        server.listen()
        self.servers.append(server)
        await server.join(self.master.address)
        return server

    async def close(self) -> None:
        for server in self.servers:
            await server.close()
        while self._masters:
            await self.stop()
        await self.agent.close()

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request to the master; underscores in names of headers stand for dashes."""
        lines = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else [body]
        response = await self.agent.request(
            method, self.master.address, path, headers=lines, body=content, timeout=30.0
        )
        received = {
            name.decode().lower(): b", ".join(values).decode()
            for name, values in response.response.headers.getAllRawHeaders()
        }
        return Answer(response.status, received, await response.read())

    async def get(self, path: str, status: int = 200) -> Any:
        """The JSON at a path, which must have that status."""
        answer = await self.ask("GET", path)
        assert answer.status == status, (answer.status, answer.body)
        return answer.json
