"""A master that follows, reduced to what passing on needs: who leads, a few endpoints, and the way to the leader."""

import hashlib
from collections.abc import Callable
from typing import Any

import attrs
from klein import Klein
from twisted.internet.defer import Deferred

from weedtw.errors import NoRoom, Unavailable, Undecided
from weedtw.http.guard import WhiteList, guarded
from weedtw.http.hop import Question
from weedtw.http.requests import Request, params
from weedtw.http.responses import (
    empty_response,
    endpoint,
    json_errors,
    json_response,
    redirect_response,
    uninterrupted,
)
from weedtw.master.flight import Changes
from weedtw.master.forward import Forwarder, led
from weedtw.topology.state import ClusterState


@attrs.define(eq=False)
class Ledger:
    """Says of the lead what the test wants."""

    node_id: str = "node-of-m1"
    cluster_id: str = "cluster-1"
    is_leader: bool = False
    has_lead: bool = False
    leader_address: str | None = None
    node: None = None
    masters: tuple[str, ...] = ("m1:9333", "m2:9333", "m3:9333")
    state: ClusterState = attrs.Factory(ClusterState)
    has_majority: bool = False  # whether the others would say that this master leads

    async def confirm(self) -> None:
        """See weedtw.master.ledger.Ledger."""
        if not (self.is_leader or (self.has_lead and self.has_majority)):
            raise Unavailable("no majority says so")


@attrs.define(eq=False)
class Cluster:
    clock: Any
    address: str = "m1:9333"
    ledger: Ledger = attrs.Factory(Ledger)
    changes: Changes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.changes = Changes(self.clock)

    def follow(self, address: str | None) -> None:
        """Another master leads, or nobody."""
        self.ledger.leader_address, self.ledger.is_leader, self.ledger.has_lead = address, False, False
        self.changes.announce()

    def lead(self, *, lease: bool = True) -> None:
        """This master leads, or is about to."""
        self.ledger.leader_address, self.ledger.is_leader, self.ledger.has_lead = self.address, lease, True
        self.changes.announce()


@attrs.define(eq=False)
class Errand:
    """A request that the test answers."""

    address: str
    question: Question
    connect_within: float
    answer_within: float
    done: Deferred[Any] = attrs.field(init=False)
    given_up: bool = False
    hurried: list[tuple[float, str]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.done = Deferred(self._give_up)

    def _give_up(self, _: Deferred[Any]) -> None:
        self.given_up = True

    def hurry(self, seconds: float, reason: str) -> None:
        self.hurried.append((seconds, reason))


@attrs.define(eq=False)
class Hops:
    """Takes the place of the connections; keeps what was sent."""

    sent: list[Errand] = attrs.Factory(list)

    def send(self, address: str, question: Question, *, connect_within: float, answer_within: float) -> Errand:
        self.sent.append(Errand(address, question, connect_within, answer_within))
        return self.sent[-1]

    async def close(self) -> None:
        """There is nothing to close."""


@attrs.define(eq=False)
class Api:
    """Endpoints as a master has them."""

    app = Klein()
    json_errors(app)

    cluster: Any
    forwarder: Forwarder
    white_list: WhiteList = attrs.Factory(WhiteList)
    asked: list[Request] = attrs.Factory(list)  # what was answered here
    gate: Deferred[None] | None = None  # growing waits for it
    deposed: Callable[[], None] | None = None  # called once by assign and by growing, which then cannot decide
    grown: int = 0

    @app.route("/dir/assign", methods=["GET", "POST", "PUT"])
    @endpoint
    @guarded
    @led
    async def assign(self, request: Request) -> bytes:
        self.asked.append(request)
        self._lose_the_lead()
        return json_response(request, {"count": params(request).text("count"), "at": self.cluster.address})

    @app.route("/vol/grow", methods=["GET", "POST"])
    @endpoint
    @guarded
    @led
    async def grow(self, request: Request) -> bytes:
        self.asked.append(request)
        await uninterrupted(self._grow())
        return json_response(request, {"count": 1})

    async def _grow(self) -> None:
        if self.gate is not None:
            await self.gate
        self._lose_the_lead()
        self.grown += 1

    def _lose_the_lead(self) -> None:
        deposed, self.deposed = self.deposed, None
        if deposed is not None:
            deposed()
            raise Undecided("this master does not lead any more")

    @app.route("/submit", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def submit(self, request: Request) -> bytes:
        self.asked.append(request)
        return json_response(request, {"sha256": hashlib.sha256(request.body).hexdigest()}, 201)

    @app.route("/col/delete", methods=["GET", "DELETE"])
    @endpoint
    @guarded
    @led
    async def delete(self, request: Request) -> bytes:
        self.asked.append(request)
        what = params(request).text("collection")
        if what == "full":
            raise NoRoom("no room")
        if what == "later":
            raise Unavailable("not now", 7.0)
        if what == "moved":
            return redirect_response(request, "http://a:1/?x=%20")
        return empty_response(request, 204)
