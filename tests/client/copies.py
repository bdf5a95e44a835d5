"""Copies of one volume on servers that do what a test says, and a leader that tells of them."""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.client.scripted import Asked, Said, ScriptedAgent
from weedtw.client.volumes import Volumes
from weedtw.formats.idx import pack_row

VOLUME = 7
MASTER = "m:1"
Copy = dict[str, Any]  # what `/admin/copy/state` says of it


def copy(**different: Any) -> Copy:
    """A copy's state; all that are made so are the same."""
    return {"size": 800, "indexSize": 32, "revision": 2, "sum": 99, **different}


def index(*rows: tuple[int, int, int], width: int = 4) -> Said:
    """The answer with an index of those (key, offset, size)."""
    packed = b"".join(pack_row(key, offset, size, width) for key, offset, size in rows)
    return Said(packed, headers={"X-Weedtw-Offset-Width": str(width)})


class Copies:
    """The servers by address, with their copies of the volume VOLUME; `hears` is what the leader knows of."""

    def __init__(self, clock: Clock, *, asked_for: str = "001", **copies: Copy | None) -> None:
        """Servers `a`, `b`, … at "a:1", "b:1", with a copy or (None) without; `asked_for` is the replication."""
        self.copies = {f"{name}:1": copy for name, copy in copies.items()}
        self.asked_for = asked_for
        self.deaf = False  # the leader hears of nothing new
        self.heard = {server for server, copy in self.copies.items() if copy}
        self.quarantined: set[str] = set()
        self.frozen: set[str] = set()
        self.changes: dict[str, list[list[int]]] = {}  # as `/admin/volume/changes` tells them
        self.answers: dict[str, Said | Callable[[], Said]] = {}  # by how the question begins; tried first
        self.agent = ScriptedAgent(self._answer)
        self.volumes = Volumes(self.agent.masters(clock, MASTER), self.agent.wire(clock), clock)

    def transcript(self) -> list[str]:
        """What the volume servers were asked since the last time, but for the number of the volume."""
        asked = [str(one).replace(f" volume={VOLUME}", "") for one in self.agent.asked if one.address != MASTER]
        self.agent.asked.clear()
        return asked

    def _answer(self, asked: Asked) -> Said:
        for beginning, said in self.answers.items():
            if str(asked).startswith(beginning):
                return said if isinstance(said, Said) else said()
        if asked.address == MASTER:
            return self._leader(asked.path)
        assert asked.query.get("volume") == str(VOLUME), asked
        return self._server(asked.address, asked.path.rpartition("/")[2], asked.query)

    def _leader(self, path: str) -> Said:
        counted = {server for server, copy in self.copies.items() if copy} & self.heard
        if not self.deaf:
            counted = self.heard = {server for server, copy in self.copies.items() if copy}
        if path == "/cluster/status":
            return Said({"IsLeader": True, "Leader": MASTER, "Peers": []})
        if path == "/dir/status":
            nodes = [{"Url": server, "Max": 10} for server in self.copies]
            place = {"DataCenters": [{"Id": "dc", "Racks": [{"Id": "r", "DataNodes": nodes}]}]}
            unbelieved = [{"Id": VOLUME, "Url": server} for server in sorted(self.quarantined & counted)]
            return Said({"Topology": place, "Quarantined": unbelieved})
        if path == "/vol/status":
            nodes_with = {server: [self._listed()] if server in counted else [] for server in self.copies}
            return Said({"Volumes": {"DataCenters": {"dc": {"r": nodes_with}}}})
        return Said({})

    def _listed(self) -> dict[str, Any]:
        placement = dict(zip(("dc", "rack", "node"), map(int, self.asked_for), strict=True))
        numbers = dict.fromkeys(("Size", "FileCount", "DeleteCount", "DeletedByteCount"), 0)
        return {"Id": VOLUME, "ReplicaPlacement": placement, "ReadOnly": False, **numbers}

    def _server(self, server: str, what: str, query: dict[str, str]) -> Said:
        held = self.copies[server]
        if what == "take":
            if query["mount"] == "true":
                self.copies[server] = dict(self.copies[query["from"]] or {})
            return Said({})
        if held is None:
            return Said.no(404, f"volume {VOLUME} is not here")
        if what == "state":
            return Said(held)
        if what in {"freeze", "thaw"}:
            (self.frozen.add if what == "freeze" else self.frozen.discard)(server)
        elif what == "release":
            if any(query[name] != str(held[name]) for name in ("size", "indexSize", "revision")):
                return Said.no(409, "it has changed")
            self.copies[server] = None
        elif what == "agree":
            return Said({"changed": 2})
        elif what == "changes":
            return Said({"changes": self.changes.get(server, [])})
        elif what == "damaged":
            return Said({"keys": []})
        return Said({})


class CopiesTestCase(SynchronousTestCase):
    """Tests on a clock of their own."""

    def setUp(self) -> None:
        self.clock = Clock()

    def done(self, work: Coroutine["Deferred[Any]", Any, Any]) -> Any:
        """What comes of it without waiting."""
        return self.successResultOf(Deferred.fromCoroutine(work))

    def refused(self, work: Coroutine["Deferred[Any]", Any, Any], *kinds: type[Exception]) -> str:
        """What the error says that it ends with at once."""
        return str(self.failureResultOf(Deferred.fromCoroutine(work), *kinds).value)

    def later(self, work: Coroutine["Deferred[Any]", Any, Any], seconds: float) -> "Deferred[Any]":
        """What is begun, that long after it was."""
        working = Deferred.fromCoroutine(work)
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
        return working
