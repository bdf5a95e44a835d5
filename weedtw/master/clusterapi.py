"""The master's HTTP endpoints under `/cluster/`, whose paths stand here without that prefix."""

import json
from typing import Any

import attrs

from weedtw.errors import BadRequest, ChangeRefused, PeerError, Unavailable
from weedtw.http.guard import WhiteList, guarded
from weedtw.http.requests import Request, params
from weedtw.http.responses import empty_response, endpoint, json_response, uninterrupted
from weedtw.http.routes import Routes
from weedtw.master import founding
from weedtw.master.beliefs import own_beliefs
from weedtw.master.cluster import Cluster
from weedtw.master.consensus import RaftLedger
from weedtw.master.entry import Entrance
from weedtw.master.forward import Forwarder, led
from weedtw.master.lock import EXPIRES, AdminLocks
from weedtw.master.maintenance import Maintenance
from weedtw.master.members import Members
from weedtw.topology.state import ForgetServer


@attrs.define(eq=False)
class ClusterApi:
    """The cluster over HTTP; `white_list` guards what changes something."""

    app = Routes()

    cluster: Cluster
    ledger: RaftLedger
    entrance: Entrance
    members: Members
    forwarder: Forwarder
    white_list: WhiteList
    locks: AdminLocks = attrs.field(init=False)
    maintenance: Maintenance = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.locks = AdminLocks(self.cluster)
        self.maintenance = Maintenance(self.cluster, self.locks)

    @app.route("/status", methods=["GET", "POST", "PUT"])  # as all that reads in SeaweedFS
    @endpoint
    async def cluster_status(self, request: Request) -> bytes:
        """Who leads."""
        ledger = self.cluster.ledger
        status: dict[str, Any] = {"IsLeader": ledger.is_leader, "Leader": ledger.leader_address or ""}
        others = [address for address in self.cluster.masters if address != self.cluster.address]
        if others:
            status["Peers"] = others
        if ledger.state.max_volume_id:
            status["MaxVolumeId"] = ledger.state.max_volume_id
        return json_response(request, status)

    @app.route("/healthz", methods=["GET"])
    @endpoint
    async def healthz(self, request: Request) -> bytes:
        """Whether the process answers at all."""
        return empty_response(request, 200)

    @app.route("/forget", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def cluster_forget(self, request: Request) -> bytes:
        """Expect a volume server no longer; one that is connected is refused."""
        address = params(request).required("server")
        if address in self.cluster.topology.servers:
            raise BadRequest(f"volume server {address} is connected; stop it first")
        if not await uninterrupted(self.cluster.ledger.submit(ForgetServer(address))):
            raise BadRequest(f"no volume server {address} belongs to the cluster")
        self.cluster.topology.forget(address)
        return json_response(request, {"forgotten": address})

    # -------------------------------------------------------------- the admin lock

    @app.route("/lock", methods=["GET"])
    @endpoint
    @guarded
    @led
    async def lock_status(self, request: Request) -> bytes:
        """Who holds the admin lock, and for how many seconds yet."""
        locks = self.locks
        return json_response(request, {"holder": locks.held.holder, "seconds": round(locks.left, 1)})

    @app.route("/lock", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def take_lock(self, request: Request) -> bytes:
        """Take the admin lock, or renew it with its token."""
        asked = params(request)
        token = await uninterrupted(self.locks.take(asked.required("holder"), asked.text("token")))
        return json_response(request, {"token": token, "seconds": EXPIRES})

    @app.route("/unlock", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def unlock(self, request: Request) -> bytes:
        """Let the admin lock go."""
        await uninterrupted(self.locks.release(params(request).required("token")))
        return json_response(request, {})

    @app.route("/maintain", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def maintain(self, request: Request) -> bytes:
        """Do a task of maintenance, or without `apply` say what it would do."""
        asked = params(request)
        task, apply = asked.required("task"), asked.flag("apply")
        return json_response(request, await self.maintenance.run(task, apply=apply, token=asked.text("token")))

    # -------------------------------------------------------------- the masters

    @app.route("/members", methods=["GET"])
    @endpoint
    async def cluster_members(self, request: Request) -> bytes:
        """What this master believes."""
        return json_response(request, self.beliefs())

    @app.route("/join", methods=["POST"])
    @endpoint
    @guarded
    async def join(self, request: Request) -> bytes:
        """Take a newcomer in; one with which the cluster began is told by whoever is asked, leader or not."""
        by_birth = self.members.by_birth(params(request).required("node"))
        return json_response(request, by_birth) if by_birth is not None else await self._take_in(request)

    @led
    async def _take_in(self, request: Request) -> bytes:
        asked = params(request)
        node, address = asked.required("node"), asked.required("address")
        return json_response(request, await uninterrupted(self.members.join(node, address)))

    @app.route("/add", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def add(self, request: Request) -> bytes:
        """Invite a master that belongs to no cluster."""
        address = params(request).required("address")
        try:
            await uninterrupted(self.members.add(address))
        except PeerError as error:
            raise BadRequest(f"no master at {address} can be asked to join: {error.reason}") from error
        return json_response(request, self.beliefs())

    @app.route("/remove", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def remove(self, request: Request) -> bytes:
        """End a membership."""
        await uninterrupted(self.members.remove(params(request).required("node")))
        return json_response(request, self.beliefs())

    @app.route("/rename", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def rename(self, request: Request) -> bytes:
        """Commit another address of a member."""
        asked = params(request)
        await uninterrupted(self.members.rename(asked.required("node"), asked.required("address")))
        return json_response(request, self.beliefs())

    @app.route("/transfer", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def transfer(self, request: Request) -> bytes:
        """Let another master lead."""
        await uninterrupted(self.members.transfer(params(request).text("to")))
        return json_response(request, self.beliefs())

    # -------------------------------------------------------------- for a master that is no member yet

    @app.route("/invite", methods=["POST"])
    @endpoint
    @guarded
    async def invite(self, request: Request) -> bytes:
        """A cluster asks this master to join it."""
        asked = params(request)
        if self.ledger.cluster_id:
            raise BadRequest(f"this master belongs to cluster {self.ledger.cluster_id} already")
        self.entrance.invite(founding.load_masters(asked.required("masters").split(",")))
        return json_response(request, {"node": self.ledger.node_id})

    @app.route("/found", methods=["POST"])
    @endpoint
    @guarded
    async def found(self, request: Request) -> bytes:
        """A step of founding a cluster, proposed by another master that has none."""
        step, masters, ballot, birth = _step_of(request)
        try:
            if step == "promise":
                acceptor = self.entrance.promise(masters, ballot)
            elif birth is None:
                raise BadRequest("the birth is missing")
            elif step == "accept":
                acceptor = self.entrance.accept(masters, ballot, birth)
            else:
                acceptor = self.entrance.born(birth)
        except ChangeRefused as error:
            raise Unavailable(str(error)) from error
        return json_response(request, {"acceptor": founding.dump(acceptor), "address": self.cluster.address})

    def beliefs(self) -> dict[str, Any]:
        """What this master believes, as `/members` tells it."""
        entrance = self.entrance
        return own_beliefs(self.ledger, self.cluster.address, entrance.reason, entrance.founding)


def _step_of(request: Request) -> tuple[str, tuple[str, ...], founding.Ballot, founding.Birth | None]:
    try:
        fields = json.loads(bytes(request.body))
    except ValueError as error:
        raise BadRequest(f"the body is no JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("step") not in {"promise", "accept", "born"}:
        raise BadRequest("the step is none of promise, accept, born")
    birth = fields.get("birth")
    return (
        fields["step"],
        founding.load_masters(fields.get("masters")),
        founding.load_ballot(fields.get("ballot")),
        None if birth is None else founding.load_birth(birth),
    )
