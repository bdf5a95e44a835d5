"""An agent that answers out of a test's own functions, without a socket, and writes down what it was asked."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from weedtw.client.masters import Masters
from weedtw.client.wire import Wire


@attrs.frozen
class Asked:
    """A request; as text `POST a:1/admin/copy/take volume=7 mount=true`."""

    method: str
    address: str
    path: str
    query: dict[str, str]

    def __str__(self) -> str:
        return " ".join([self.method, self.address + self.path, *(f"{k}={v}" for k, v in self.query.items())])


@attrs.frozen
class Said:
    """An answer; `body` is made JSON of, unless it is bytes."""

    body: Any = attrs.Factory(dict)
    status: int = 200
    headers: dict[str, str] = attrs.Factory(dict)

    @classmethod
    def no(cls, status: int, error: str, **headers: str) -> "Said":
        """A refusal as the daemons word theirs."""
        return cls({"error": error}, status, headers)


REFUSES = Said(status=0)  # connections
SILENT = Said(status=-1)  # no answer comes; `ScriptedAgent.waiting` has who waits for one

Script = Callable[[Asked], Said]


class _Response:
    """As much of an IResponse as the client looks at."""

    def __init__(self, said: Said) -> None:
        self._content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        self.code = said.status
        self.phrase = b"Said"
        self.length = len(self._content)
        self.headers = Headers({name: [value] for name, value in said.headers.items()})

    def deliverBody(self, protocol: Protocol) -> None:
        protocol.makeConnection(StringTransport())
        if self._content:
            protocol.dataReceived(self._content)
        protocol.connectionLost(Failure(ResponseDone()))


@implementer(IAgent)
class ScriptedAgent:
    """Asks `script` for every answer; `asked` is all that was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.waiting: list[Deferred[Any]] = []  # of those that get no answer

    def request(
        self, method: bytes, uri: bytes, headers: object = None, bodyProducer: object = None
    ) -> "Deferred[Any]":
        parts = urlsplit(uri.decode())
        asked = Asked(method.decode(), parts.netloc, parts.path, dict(parse_qsl(parts.query)))
        self.asked.append(asked)
        said = self.script(asked)
        if said is REFUSES:
            return fail(Refused())
        if said is SILENT:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(_Response(said))

    def wire(self, clock: Clock) -> Wire:
        """What the client sends its requests with."""
        agent: Any = self
        return Wire(agent, clock, 30.0, 60.0)

    def masters(self, clock: Clock, *addresses: str, patience: float = 10.0) -> Masters:
        """Masters that are asked through this."""
        return Masters(list(addresses), self.wire(clock), clock, patience, spread=lambda: 1.0)
