"""The master's HTTP endpoints: what they take and answer.  What they do is in the modules beside this one."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import attrs

from weedtw.errors import (
    BadFileId,
    BadRequest,
    NotFound,
    PeerError,
    Unavailable,
    VolumeNotFound,
)
from weedtw.formats.fileid import FileId, parse_path, parse_volume_id
from weedtw.http.guard import WhiteList, guarded
from weedtw.http.pages import FAVICON, FAVICON_TYPE, page_response
from weedtw.http.requests import FORM_LIMIT, Params, Request, params, query
from weedtw.http.responses import (
    body_response,
    empty_response,
    endpoint,
    error_headers,
    error_value,
    json_response,
    redirect_response,
    status_of,
    uninterrupted,
)
from weedtw.http.routes import Routes
from weedtw.http.tokens import Tokens
from weedtw.master.assign import Assigner
from weedtw.master.cluster import Cluster
from weedtw.master.clusterapi import ClusterApi
from weedtw.master.collection import Collections
from weedtw.master.forward import Forwarder, led
from weedtw.master.growth import Grower, Order
from weedtw.master.pages import Overview
from weedtw.master.status import topology_status, volume_status
from weedtw.master.submit import Submitter
from weedtw.master.vacuum import Vacuum
from weedtw.master.wishes import MAX_GROWTH, count_of, layout_of, place_of, wish_of
from weedtw.topology.server import Server

NOT_ACCEPTABLE = 406  # what clients of SeaweedFS know for a wish that cannot be granted

_READ = ("GET", "POST", "PUT")  # parameters may come as a form, so reading may be a POST
_DO = ("GET", "POST", "PUT")


# The paths that name a file: `3,01637037d6`, `3/01637037d6` and `3/01637037d6/name`, with any ending.
_FILE = r"[^/]*,[^/]*|[0-9]+/[^/]+(?:/[^/]*)?"


@attrs.define(eq=False)
class MasterApi:
    """The endpoints; `white_list` guards those that change something."""

    app = Routes({"file": _FILE})

    cluster: Cluster
    assigner: Assigner
    grower: Grower
    vacuum: Vacuum
    collections: Collections
    submitter: Submitter
    forwarder: Forwarder
    white_list: WhiteList
    masters: ClusterApi
    metrics: Callable[[], tuple[bytes, str]]  # the text, and its type
    tokens: Tokens
    overview: Overview

    def admit(self, request: Request) -> int | None:
        """Called with the head of a request: the most bytes its body may have, None for the usual limit."""
        if request.path != b"/submit":
            return FORM_LIMIT
        self.white_list.check(request)
        return None

    # -------------------------------------------------------------- file ids

    @app.route("/dir/assign", methods=_DO, head=False)
    @endpoint
    @guarded
    @led
    async def dir_assign(self, request: Request) -> bytes:
        """Give out file ids."""
        asked = params(request)
        try:
            wish = wish_of(asked, self.cluster.config)
        except BadRequest as error:
            return json_response(request, error_value(error), NOT_ACCEPTABLE)
        wish = attrs.evolve(wish, count=count_of(asked))
        assignment = self.assigner.assign_at_once(wish) or await self.assigner.assign(wish)
        answer: dict[str, object] = {
            "fid": str(assignment.file_id),
            "url": assignment.server.address,
            "publicUrl": assignment.server.public_url,
            "count": assignment.count,
        }
        token = self.tokens.for_writing(assignment.file_id)
        if token:
            answer["auth"] = token
            request.setHeader(b"Authorization", b"BEARER " + token.encode())
        return json_response(request, answer)

    @app.route("/submit", methods=["POST"])
    @endpoint
    @guarded
    @led
    async def submit(self, request: Request) -> bytes:
        """Assign and upload in one."""
        asked = query(request)
        wish = wish_of(asked, self.cluster.config)
        try:
            return json_response(request, await self.submitter.submit(request, asked, wish), 201)
        except PeerError as error:
            if error.status is not None and 400 <= error.status < 500:  # the volume server blames the client
                return json_response(request, {"error": error.reason}, error.status)
            raise

    @app.route("/dir/lookup", methods=_READ)
    @endpoint
    async def dir_lookup(self, request: Request) -> bytes:
        """Where a volume is."""
        asked = params(request)
        wanted = asked.text("fileId") or asked.text("volumeId")
        if not wanted:
            raise BadRequest("the parameter volumeId or fileId is missing")
        volume = wanted.partition(",")[0]
        answer: dict[str, Any] = {"volumeOrFileId": volume}
        try:
            volume_id = _volume_id(volume)
            if self._is_news(volume_id) and (body := await self.forwarder.forward(request)) is not None:
                return body
            servers = self.cluster.locate(volume_id, asked.text("collection"))
        except (NotFound, Unavailable) as error:
            for name, value in error_headers(error):
                request.setHeader(name, value)
            return json_response(request, {**answer, **error_value(error)}, status_of(error))
        self._sign(request, asked, wanted, answer)
        return json_response(request, {**answer, "locations": locations_value(servers)})

    def _sign(self, request: Request, asked: Params, wanted: str, answer: dict[str, Any]) -> None:
        """Let whoever looks a file up write it, or with `read=yes` read it, where that takes a token."""
        if not (self.tokens.guard_writes or self.tokens.guard_reads) or "," not in wanted:
            return
        file_id = FileId.parse(wanted.partition("_")[0])
        reads = asked.text("read") == "yes"
        token = self.tokens.for_reading(file_id) if reads else self.tokens.for_writing(file_id)
        if token:
            answer["auth"] = token
            request.setHeader(b"Authorization", b"BEARER " + token.encode())

    @app.route("/<file:_path>", methods=["GET", "POST", "PUT", "DELETE"])
    @endpoint
    async def redirect(self, request: Request, _path: str) -> bytes:
        """Send whoever asks for a file to a server that has it."""
        path = unquote(request.path.decode("ascii", "replace"))
        if not path[1:2].isdecimal():
            raise VolumeNotFound(path[1:].partition(",")[0][:40])
        volume_id = parse_path(path).file_id.volume_id
        if self._is_news(volume_id) and (body := await self.forwarder.forward(request)) is not None:
            return body
        servers = self.cluster.locate(volume_id)
        server = servers[int(self.cluster.rng.random() * len(servers))]
        # Not 308: clients keep that for ever, and a volume may move.
        scheme = self.cluster.config.security.scheme
        return redirect_response(
            request, f"{scheme}://{server.public_url}{request.uri.decode('ascii', 'replace')}", 307
        )

    def _is_news(self, volume_id: int) -> bool:
        """Whether a volume that is unknown to this master may be known to the leader, which hears of it first."""
        return self.cluster.topology.key_of(volume_id) is None and not self.cluster.ledger.is_leader

    # -------------------------------------------------------------- volumes and collections

    @app.route("/vol/grow", methods=_DO, head=False)
    @endpoint
    @guarded
    @led
    async def vol_grow(self, request: Request) -> bytes:
        """Make volumes; answers how many."""
        try:
            asked = params(request)
            count = asked.required_integer("count", least=1, most=MAX_GROWTH)
            key, where = layout_of(asked, self.cluster.config), place_of(asked)
            self.cluster.check_place(where)
        except BadRequest as error:
            return json_response(request, error_value(error), NOT_ACCEPTABLE)
        made = await uninterrupted(self.grower.grow_all(Order(key, where, count, or_none=True)))
        return json_response(request, {"count": made})

    @app.route("/vol/vacuum", methods=_DO, head=False)
    @endpoint
    @guarded
    @led
    async def vol_vacuum(self, request: Request) -> bytes:
        """Vacuum all volumes with too much garbage; answers, when that is done, with the topology."""
        try:
            default = self.cluster.config.garbage_threshold
            threshold = params(request).number("garbageThreshold", default, least=0.0, most=1.0)
        except BadRequest as error:
            return json_response(request, error_value(error), NOT_ACCEPTABLE)
        await uninterrupted(self.vacuum.run(threshold))
        return json_response(request, topology_status(self.cluster))

    @app.route("/col/delete", methods=[*_DO, "DELETE"], head=False)
    @endpoint
    @guarded
    @led
    async def col_delete(self, request: Request) -> bytes:
        """Delete a collection with all its files."""
        await uninterrupted(self.collections.delete(params(request).text("collection")))
        return empty_response(request, 204)

    @app.route("/collection/info", methods=_READ)
    @endpoint
    async def collection_info(self, request: Request) -> bytes:
        """Add a collection up, or with `detail` each kind of volume in it."""
        asked = params(request)
        name = asked.text("collection")
        if asked.flag("detail"):
            return json_response(request, self.collections.sums(name))
        return json_response(request, self.collections.total(name))

    # -------------------------------------------------------------- how the cluster is

    @app.route("/dir/status", methods=_READ)
    @endpoint
    async def dir_status(self, request: Request) -> bytes:
        """Data centers, racks, servers, and which volumes take files."""
        return json_response(request, topology_status(self.cluster))

    @app.route("/vol/status", methods=_READ)
    @endpoint
    async def vol_status(self, request: Request) -> bytes:
        """Every volume."""
        return json_response(request, volume_status(self.cluster))

    @app.route("/cluster/", branch=True)
    def cluster_masters(self, request: Request) -> Any:  # noqa: ARG002 - Klein's signature
        """What is about the cluster itself."""
        return self.masters.app.resource()

    @app.route("/healthz", methods=["GET"])
    @endpoint
    async def healthz(self, request: Request) -> bytes:
        """Whether the process answers at all."""
        return empty_response(request, 200)

    @app.route("/readyz", methods=["GET"])
    @endpoint
    async def readyz(self, request: Request) -> bytes:
        """Whether ids can be had here: from this master, or from the leader that it knows."""
        if not self.cluster.ledger.is_leader and self.forwarder.leader is None:
            raise Unavailable(self.forwarder.standing())
        return empty_response(request, 200)

    @app.route("/metrics", methods=["GET"])
    @endpoint
    async def scrape(self, request: Request) -> bytes:
        """Everything that is counted, for Prometheus."""
        return body_response(request, *self.metrics())

    # -------------------------------------------------------------- for people

    @app.route("/", methods=["GET"])
    @app.route("/ui/index.html", methods=["GET"])
    @endpoint
    async def page(self, request: Request) -> bytes:
        """The page that says how the cluster is."""
        return page_response(request, await self.overview.page())

    @app.route("/favicon.ico", methods=["GET"])
    @endpoint
    async def favicon(self, request: Request) -> bytes:
        """The icon of the page."""
        request.setHeader(b"Cache-Control", b"public, max-age=86400")
        return body_response(request, FAVICON, FAVICON_TYPE)


def _volume_id(text: str) -> int:
    """The number of a volume; raises VolumeNotFound, as SeaweedFS does, for what can be none."""
    try:
        return parse_volume_id(text)
    except BadFileId:
        raise VolumeNotFound(text[:40]) from None


def locations_value(servers: Iterable[Server]) -> list[dict[str, str]]:
    """What a lookup says of servers."""
    return [
        {"url": server.address, "publicUrl": server.public_url, "dataCenter": server.data_center}
        for server in servers
    ]
