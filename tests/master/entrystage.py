"""One master on its way into a cluster, and others that it can ask: on a clock, with a real folder and no sockets."""

import os
import tempfile
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from tests.raft.logged import LoggedTestCase
from weedtw.config.model import MasterConfig
from weedtw.errors import ChangeRefused, PeerError, Unreachable, WeedError
from weedtw.master import entry, founding
from weedtw.master.consensus import RaftLedger
from weedtw.master.entry import NAME, Entrance
from weedtw.raft.membership import Member, Membership
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity

X, Y = "cluster-x", "cluster-y"
A, B, C, D = "a:9333", "b:9333", "c:9333", "d:9333"


@attrs.define(eq=False)
class Other:
    """Another master, as far as it can be asked; the first of its answers stays when it is the last."""

    address: str
    cluster: str = ""
    leads: bool = False
    members: tuple[str, ...] = ()
    joins: list[dict[str, Any] | WeedError] = attrs.Factory(list)
    acceptor: founding.Acceptor = attrs.field(init=False)
    own: tuple[str, ...] = ()
    asked: list[tuple[str, dict[str, Any]]] = attrs.Factory(list)
    claims: str = ""  # another node's id
    reaches: Mapping[str, str] = attrs.Factory(dict)  # nodes, and where
    failed: str = ""
    strange: dict[str, Any] | None = None  # what it says of itself instead

    def __attrs_post_init__(self) -> None:
        self.acceptor = founding.Acceptor(self.node)

    @property
    def node(self) -> str:
        return self.claims or f"node-{self.address[0]}"

    def beliefs(self) -> dict[str, Any]:
        if self.strange is not None:
            return self.strange
        members = [{"node": node, "address": f"{node[-1]}:9333", "connected": False} for node in self.members]
        members += [{"node": node, "address": at, "connected": True} for node, at in self.reaches.items()]
        return {
            "cluster": self.cluster,
            "node": self.node,
            "address": self.address,
            "term": 1,
            "failed": self.failed,
            "hasLease": self.leads,
            "members": members,
            "founding": {"list": list(self.own), "ballot": self.acceptor.promised[0]},
        }

    def post(self, path: str, told: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((path, told))
        if path == "/cluster/join":
            answer = self.joins.pop(0) if len(self.joins) > 1 else self.joins[0]
            if isinstance(answer, WeedError):
                raise answer
            return answer
        assert path == "/cluster/found"
        masters, ballot = tuple(told["masters"]), (told["ballot"][0], told["ballot"][1])
        try:
            if told["step"] == "promise":
                self.acceptor = self.acceptor.promise(masters, ballot, self.own)
            elif told["step"] == "accept":
                self.acceptor = self.acceptor.accept(masters, ballot, founding.load_birth(told["birth"]), self.own)
            else:
                self.cluster = told["birth"]["cluster"]
        except ChangeRefused as error:
            raise PeerError(self.address, str(error), 503) from error
        return {"acceptor": founding.dump(self.acceptor), "address": self.address}

    def steps(self) -> list[str]:
        return [told["step"] for path, told in self.asked if path == "/cluster/found"]

    def asked_to_join(self) -> int:
        return sum(path == "/cluster/join" for path, _ in self.asked)


class Network:
    """Takes the place of a PeerAgent."""

    def __init__(self) -> None:
        self.others: dict[str, Other] = {}
        self.looked: list[str] = []

    def add(self, address: str, **more: Any) -> Other:
        self.others[address] = Other(address, **more)
        return self.others[address]

    def _at(self, address: str) -> Other:
        if address not in self.others:
            raise Unreachable(address, "connection refused")
        return self.others[address]

    async def get_json(self, address: str, path: str, **_: object) -> dict[str, Any]:
        assert path == "/cluster/members"
        self.looked.append(address)
        return self._at(address).beliefs()

    async def post_json(
        self,
        address: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        value: object = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        assert timeout is not None
        assert value is None or isinstance(value, dict)
        return self._at(address).post(path, {**(query or {}), **(value or {})})


@attrs.define(eq=False, slots=False)
class Node:
    """Takes the place of a RaftNode, and of its core, log, and transport."""

    storage: SqliteStorage
    leader: str | None = None
    failed: WeedError | None = None
    running: bool = False
    campaigned: bool = False
    term: int = 1
    learnt: dict[str, str] = attrs.Factory(dict)
    connected: frozenset[str] = frozenset()

    def __attrs_post_init__(self) -> None:
        self.identity = self.storage.identity
        self.core = self.log = self
        self.membership = self.storage.load().snapshot.membership

    def startService(self) -> None:
        self.running = True

    def stopService(self) -> Deferred[None]:
        self.running = False
        self.storage.close()
        return succeed(None)

    def retire(self, error: WeedError) -> None:
        self.failed = error

    def campaign(self) -> None:
        self.campaigned = True

    def status(self) -> "Node":
        return self

    def has_lease(self) -> bool:
        return False

    def address_of(self, node: str) -> str | None:
        member = self.membership.members.get(node)
        return self.learnt.get(node, member.address if member else None)

    def learn(self, node: str, address: str) -> None:
        self.learnt[node] = address


class EntryTest(LoggedTestCase):
    """One master, at `a:9333` unless told otherwise."""

    def setUp(self) -> None:
        super().setUp()
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        self.clock = Clock()
        self.network = Network()
        self.nodes: list[Node] = []
        self.stopped: list[WeedError] = []
        self.chance = 0.0  # the next random number; small ones wait for others to propose
        self.entrance: Entrance
        self.patch(entry, "make_node", self._make_node)

    def _make_node(self, storage: SqliteStorage, *_: object) -> tuple[Node, Node]:
        self.nodes.append(Node(storage))
        return self.nodes[-1], self.nodes[-1]

    def make(self, *peers: str, named: tuple[str, ...] = (), address: str = A, node: str = "node-a") -> Entrance:
        config = MasterConfig(mdir=self.folder, peers=peers, named=named or peers, founder=address in named)
        self.entrance = Entrance(
            config=config,
            address=address,
            ledger=RaftLedger(node),
            peers=self.network,  # type: ignore[arg-type]
            reactor=self.clock,
            random=lambda: self.chance,
            stopped=self.stopped.append,
            entered=lambda _: self.assertFalse(self.nodes[-1].running),  # told before the node starts
        )
        return self.entrance

    def start(self, *peers: str, **more: Any) -> Entrance:
        entrance = self.make(*peers, **more)
        entrance.open()
        entrance.start()
        self.addCleanup(self.end)
        return entrance

    def end(self) -> None:
        """The process ends."""
        self.successResultOf(Deferred.fromCoroutine(self.entrance.stop()))
        for node in self.nodes:
            if node.running:
                node.stopService()

    def found_with(self, *others: str, **more: Any) -> Entrance:
        """Start with the others and itself in `--peers`."""
        return self.start(*others, named=(A, *others), **more)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)

    def remember(self, *, cluster: str = X, node: str = "node-a", **members: str) -> None:
        """Leave a member's memory in the folder."""
        membership = Membership({f"node-{name}": Member(address) for name, address in members.items()})
        SqliteStorage.create(os.path.join(self.folder, NAME), Identity(cluster, node), membership).close()

    @property
    def node(self) -> Node:
        """That of this master, once it is a member."""
        (node,) = self.nodes
        assert node.running
        return node

    def assert_waits(self, *words: str) -> None:
        self.assertEqual(self.nodes, [])
        for word in words:
            self.assertIn(word, self.entrance.reason)
            self.assertIn(word, "; ".join(self.log.texts(LogLevel.warn)))
