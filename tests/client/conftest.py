"""A cluster to talk to that does exactly what a test says: scripted servers on real sockets."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from weedtw.client import Client

reactor: Any = installed_reactor


@attrs.frozen
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@attrs.frozen
class Answer:
    """What to send back.  `announced` lies about the length; `cut` closes the connection after the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = attrs.Factory(dict)
    announced: int | None = None
    cut: bool = False

    @classmethod
    def json(cls, value: object, status: int = 200, **headers: str) -> "Answer":
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


HANG_UP = Answer(status=0)  # close the connection without a word
SILENCE = Answer(status=-1)  # never answer

Script = Callable[[Seen], Answer]


class _Conversation(Protocol):
    """Just enough of an HTTP server to be told what to do."""

    def __init__(self, stub: "Stub") -> None:
        self._stub = stub
        self._received = b""

    def connectionMade(self) -> None:
        self._stub.connections.append(self)
        self._stub.connected += 1

    def connectionLost(self, reason: object = None) -> None:
        self._stub.connections.remove(self)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while (request := self._take()) is not None:
            self._stub.requests.append(request)
            self._reply(request, self._stub.script(request))

    def hang_up(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _take(self) -> Seen | None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        self._received = rest[length:]
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        return Seen(method, path, dict(parse_qsl(query)), headers, rest[:length])

    def _reply(self, request: Seen, answer: Answer) -> None:
        if answer is SILENCE:
            return
        if answer is HANG_UP:
            self.hang_up()
            return
        length = len(answer.body) if answer.announced is None else answer.announced
        lines = [f"HTTP/1.1 {answer.status} Said", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        assert self.transport is not None
        body = b"" if request.method == "HEAD" or answer.status == 204 else answer.body
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        if answer.cut:
            self.transport.loseConnection()


class Stub(Factory):
    """One server: `script` decides each answer, `requests` holds what was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Seen] = []
        self.connections: list[_Conversation] = []
        self.connected = 0  # connections made so far
        self._port: Any = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.address = f"127.0.0.1:{self._port.getHost().port}"

    def buildProtocol(self, addr: object) -> _Conversation:
        return _Conversation(self)

    def asked(self, method: str, prefix: str = "/") -> list[Seen]:
        return [one for one in self.requests if one.method == method and one.path.startswith(prefix)]

    async def stop(self) -> None:
        """Refuse connections from now on, and end those there are."""
        if self._port is not None:
            port, self._port = self._port, None
            await port.stopListening()
        for connection in list(self.connections):
            connection.hang_up()


class VolumeStub(Stub):
    """A volume server that keeps files in memory.  `faults` are tried first: the next answer, or None."""

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.files: dict[str, bytes] = {}
        self.faults: list[Callable[[Seen], Answer | None]] = []

    def fail_once(self, answer: Answer, method: str = "", *, store: bool = False) -> None:
        """Answer the next request (of that method) so; with `store`, after doing what it asks."""

        def fault(request: Seen) -> Answer | None:
            if method and request.method != method:
                return None
            self.faults.remove(fault)
            if store:
                self._do(request)
            return answer

        self.faults.append(fault)

    def _serve(self, request: Seen) -> Answer:
        for fault in list(self.faults):
            answer = fault(request)
            if answer is not None:
                return answer
        return self._do(request)

    def _do(self, request: Seen) -> Answer:
        if request.method == "POST":
            content = form_content(request)
            unchanged = self.files.get(request.path) == content
            self.files[request.path] = content
            if unchanged:
                return Answer(204, headers={"ETag": '"0badcafe"'})
            return Answer.json({"name": "x", "size": len(content), "eTag": "0badcafe"}, 201)
        if request.path not in self.files:
            return Answer.json({"error": "no such file"}, 404)
        if request.method == "DELETE":
            return Answer.json({"size": len(self.files.pop(request.path))}, 202)
        return self._content(request, self.files[request.path])

    def _content(self, request: Seen, content: bytes) -> Answer:
        headers = {
            "ETag": '"0badcafe"',
            "Content-Type": "text/plain",
            "Content-Disposition": 'inline; filename="x.txt"',
        }
        if "range" not in request.headers:
            return Answer(200, content, headers)
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(content)) + 1, len(content))
        if start >= len(content):
            return Answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return Answer(206, content[start:stop], headers)


class MasterStub(Stub):
    """A master that assigns ids on the servers in turn; `leader` is what it says of who leads."""

    def __init__(self, volumes: list[VolumeStub]) -> None:
        super().__init__(self._serve)
        self.volumes = volumes
        self.holders: dict[str, list[VolumeStub]] = {}  # of a volume, where that is not "its own server"
        self.leader: str | None = None  # None: itself
        self.peers: list[str] = []
        self.refusals: list[Answer] = []  # given to the next questions other than /cluster/status
        self._next = 0

    def _serve(self, request: Seen) -> Answer:
        if request.path == "/cluster/status":
            leader = self.address if self.leader is None else self.leader
            return Answer.json({"IsLeader": leader == self.address, "Leader": leader, "Peers": self.peers})
        if self.refusals:
            return self.refusals.pop(0)
        if request.path == "/dir/assign":
            self._next += 1
            volume = self._next % len(self.volumes)
            url = self.volumes[volume].address
            count = int(request.query.get("count", 1))
            fid = f"{volume + 1},{self._next:02x}deadbeef"
            return Answer.json({"fid": fid, "url": url, "publicUrl": url, "count": count})
        if request.path == "/dir/lookup":
            return self._lookup(request.query["volumeId"])
        return Answer.json({"error": f"{request.path} is nothing"}, 404)

    def _lookup(self, volume_id: str) -> Answer:
        own = self.volumes[int(volume_id) - 1 :][:1]
        found = [{"url": one.address, "publicUrl": one.address} for one in self.holders.get(volume_id, own)]
        if not found:
            return Answer.json({"volumeOrFileId": volume_id, "error": f"volume id {volume_id} not found"}, 404)
        return Answer.json({"volumeOrFileId": volume_id, "locations": found})


@attrs.define
class Cluster:
    """A master and two volume servers, and clients that wait briefly."""

    master: MasterStub
    volumes: list[VolumeStub]
    stubs: list[Stub]
    hang_up: Answer = HANG_UP
    silence: Answer = SILENCE
    answer: type[Answer] = Answer
    clients: list[Client] = attrs.Factory(list)

    def client(self, *masters: str, **options: Any) -> Client:
        settings: dict[str, Any] = {"patience": 3.0, "answer_timeout": 0.4, "idle_timeout": 0.4} | options
        client = Client(masters or [self.master.address], reactor, **settings)
        self.clients.append(client)
        return client

    def another_master(self) -> MasterStub:
        """One that is up as well."""
        master = MasterStub(self.volumes)
        self.stubs.append(master)
        return master

    def no(self, status: int, error: str = "no", **headers: str) -> Answer:
        """A refusal as the daemons word theirs."""
        return Answer.json({"error": error}, status, **headers)

    async def turns(self, seconds: float) -> None:
        """Let the reactor run for so long; 0 is one turn."""
        turned: Deferred[None] = Deferred()
        reactor.callLater(seconds, turned.callback, None)
        await turned

    @property
    def files(self) -> dict[str, bytes]:
        """All that the volume servers hold."""
        return {path: content for volume in self.volumes for path, content in volume.files.items()}


def form_content(request: Seen) -> bytes:
    """The content of a form's only part."""
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    assert request.body.startswith(b"--" + boundary + b"\r\n")
    assert request.body.endswith(b"\r\n--" + boundary + b"--\r\n")
    return request.body.partition(b"\r\n\r\n")[2][: -len(boundary) - 8]


@pytest_twisted.async_yield_fixture
async def cluster() -> AsyncIterator[Cluster]:
    volumes = [VolumeStub(), VolumeStub()]
    master = MasterStub(volumes)
    built = Cluster(master, volumes, [master, *volumes])
    yield built
    for client in built.clients:
        await client.close()
    for stub in built.stubs:
        await stub.stop()
    await built.turns(0)  # the ends of connections arrive in the next turn
