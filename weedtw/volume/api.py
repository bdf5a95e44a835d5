"""The volume server's HTTP API: files under their ids, and how the server is.

    GET HEAD POST PUT DELETE OPTIONS   /VID,FID   /VID,FID.ext   /VID/FID   /VID/FID.ext   /VID/FID/name.ext
    GET                                / /ui/index.html /status /healthz /readyz /metrics /favicon.ico
    GET POST                           /admin/copy/…, see `transfer`; /admin/…, see `admin`

What a request says is read here, what it does is done in `needles`, `represent` and `serving`; requests for
volumes that are elsewhere go to `proxy`.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import attrs
from twisted.logger import Logger
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from zope.interface import implementer

from weedtw.errors import Damaged, MethodNotAllowed, Unavailable, VolumeNotFound, WeedError
from weedtw.formats.fileid import FileId, FilePath, parse_path
from weedtw.http.guard import WhiteList
from weedtw.http.multipart import is_form
from weedtw.http.pages import FAVICON, FAVICON_TYPE, Cell, page_response
from weedtw.http.requests import Params, Request, query
from weedtw.http.responses import (
    body_response,
    empty_response,
    endpoint,
    json_response,
    uninterrupted,
)
from weedtw.http.routes import Routes
from weedtw.http.tokens import Tokens
from weedtw.storage.store import Store
from weedtw.storage.volume import Volume
from weedtw.volume.admin import Admin
from weedtw.volume.agreement import Agreement
from weedtw.volume.contents import Run
from weedtw.volume.copies import UNDO_HEADER
from weedtw.volume.needles import Needles, Stored
from weedtw.volume.pages import server_page
from weedtw.volume.proxy import Proxy, is_marked
from weedtw.volume.record import open_for_reader
from weedtw.volume.represent import Representer
from weedtw.volume.serving import Server
from weedtw.volume.status import status_value
from weedtw.volume.transfer import Transfer
from weedtw.volume.upload import FORM_SLACK, Offer, read_offer

METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
_OTHER_BODIES = 64 * 1024  # bytes of the body of a request that carries no file


@attrs.define(eq=False)
class Api:
    """Answers requests; `address` is this server's own."""

    log = Logger()
    app = Routes()

    address: str
    store: Store
    needles: Needles
    representer: Representer
    server: Server
    proxy: Proxy
    white_list: WhiteList
    tokens: Tokens
    run: Run
    limit: int  # bytes of content that a file may have
    is_ready: Callable[[], str]  # "" or what is missing
    facts: Callable[[], list[tuple[str, Cell]]]  # what the page says about the cluster
    call: Callable[[str, tuple[str, ...]], None]  # see Heartbeats
    metrics: Callable[[], Awaitable[tuple[bytes, str]]]  # the text, and its type
    damaged_reads: int = attrs.field(default=0, init=False)  # since the start: of files that were not as written
    rescued_reads: int = attrs.field(default=0, init=False)  # those of them that another copy answered
    agreement: Agreement = attrs.field(init=False)
    _admin: IResource = attrs.field(init=False)
    _transfer: IResource = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        replicator = self.needles.replicator
        self.agreement = Agreement(self.store, self.run, self.proxy.peers, replicator, self.needles.clock)
        self._admin = Admin(self.store, self.run, self.call, self.agreement).app.resource()
        self._transfer = Transfer(self.store, self.run, self.proxy.peers).app.resource()

    def resource(self) -> IResource:
        """What the site serves."""
        return _AnyOrigin(self.app.resource())

    def admit(self, request: Request) -> int | None:
        """The most bytes a request's body may have; raises Forbidden and Unauthorized, before the body is taken."""
        reads = request.method in {b"GET", b"HEAD", b"OPTIONS"}
        path = unquote(request.path.decode("ascii", "replace"))
        is_admin = path.startswith("/admin/")
        if not reads or is_admin:
            self.white_list.check(request)
        if not is_admin:
            self.tokens.check(request, path)
        if is_admin or request.method not in {b"POST", b"PUT"}:
            return _OTHER_BODIES
        return self.limit + (FORM_SLACK if is_form(request.header("Content-Type")) else 0)

    # ------------------------------------------------------------- files

    @app.route("/")
    @app.route("/<path:_path>")
    @endpoint
    async def file(self, request: Request, _path: str = "") -> bytes | None:
        """Whatever is asked of a file."""
        if request.method == b"OPTIONS":
            return self._options(request)
        if request.method not in {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE"}:
            raise _not_allowed(request, tuple(METHODS.split(", ")))
        named = unquote(request.path.decode("ascii", "replace"))
        if named == "/" and request.method in {b"GET", b"HEAD"} and "text/html" in (request.header("Accept") or ""):
            return await self.page(request)  # for a browser: a program is told that this is no file's id
        if named in _ENDPOINTS:  # which does not take this method
            raise _not_allowed(request, _ENDPOINTS[named])
        path = parse_path(named)
        parameters = query(request)
        if request.method in {b"GET", b"HEAD"}:
            return await self._read(request, parameters, path)
        if request.method == b"DELETE":
            return await uninterrupted(self._delete(request, parameters, path.file_id, request.body))
        return await self._write(request, parameters, path.file_id)

    def _options(self, request: Request) -> bytes:
        request.setHeader(b"Allow", METHODS.encode())
        request.setHeader(b"Access-Control-Allow-Methods", METHODS.encode())
        wanted = request.header("Access-Control-Request-Headers")
        request.setHeader(b"Access-Control-Allow-Headers", wanted or "*")
        request.setHeader(b"Access-Control-Max-Age", b"86400")
        return empty_response(request, 200)

    async def _read(self, request: Request, parameters: Params, path: FilePath) -> bytes | None:
        volume_id = path.file_id.volume_id
        try:
            volume = self.store.find(volume_id)
        except VolumeNotFound:
            return await self.proxy.answer(request, parameters, volume_id, None)
        try:
            return await self._serve(request, parameters, path, volume)
        except Damaged as error:
            self.note_damage(path.file_id, error)
            has_others = volume.replication.copies > 1 and not is_marked(request, parameters)
            if request.startedWriting or request.is_gone or not has_others or self.proxy.mode == "local":
                raise
            answer = await self._read_another_copy(request, parameters, volume_id, error)
            self.rescued_reads += 1
            self.log.warn("{fid} was read from another copy", fid=str(path.file_id))
            return answer

    def note_damage(self, file_id: FileId, error: Damaged) -> None:
        """A file was found to be damaged while it was read."""
        self.damaged_reads += 1
        self.log.warn("{fid} is damaged here: {reason}", fid=str(file_id), reason=str(error))

    async def _read_another_copy(
        self, request: Request, parameters: Params, volume_id: int, damage: Damaged
    ) -> bytes | None:
        try:
            return await self.proxy.answer(request, parameters, volume_id, None)
        except WeedError as error:
            if request.startedWriting:
                raise
            raise damage from error

    async def _serve(self, request: Request, parameters: Params, path: FilePath, volume: Volume) -> bytes | None:
        read_deleted = parameters.flag("readDeleted")
        opened = await open_for_reader(volume, path.file_id, self.run, read_deleted=read_deleted)
        shown = await self.representer.of(
            opened,
            parameters,
            accept=request.header("Accept-Encoding"),
            wants_range=request.method == b"GET" and request.header("Range") is not None,
            url_name=path.filename,
            url_extension=path.extension,
        )
        needle = opened.needle
        return await self.server.serve(
            request, parameters, shown, modified=needle.last_modified, pairs=bytes(needle.pairs)
        )

    async def _write(self, request: Request, parameters: Params, file_id: FileId) -> bytes | None:
        try:
            self.store.find(file_id.volume_id)
        except VolumeNotFound:
            return await self._write_elsewhere(request, parameters, file_id)
        if await self._is_handed_on(request, parameters, file_id):
            return None
        offer = read_offer(request, parameters)
        stored: Stored = await uninterrupted(self.needles.write(file_id, offer))
        request.setHeader(b"ETag", f'"{stored.etag}"')
        if offer.is_replica and stored.undo:
            request.setHeader(UNDO_HEADER, stored.undo)
        if offer.md5:
            request.setHeader(b"Content-MD5", offer.md5)
        if stored.unchanged:
            return empty_response(request, 204)
        return json_response(request, _upload_value(offer, stored), 201)

    async def _is_handed_on(self, request: Request, parameters: Params, file_id: FileId) -> bool:
        """Whether another copy has answered, since it is the one that orders the changes of this file."""
        if parameters.text("type") == "replicate" or is_marked(request, parameters):
            return False
        orderer = await self.needles.orderer(file_id)
        if orderer is not None:
            await uninterrupted(self.proxy.hand_on(request, file_id.volume_id, orderer))
        return orderer is not None

    async def _write_elsewhere(self, request: Request, parameters: Params, file_id: FileId) -> bytes | None:
        if parameters.text("type") == "replicate":  # meant for a copy that this server does not have
            raise VolumeNotFound(file_id.volume_id)
        body = request.body
        return await uninterrupted(self.proxy.answer(request, parameters, file_id.volume_id, body))

    async def _delete(self, request: Request, parameters: Params, file_id: FileId, body: memoryview) -> bytes | None:
        is_replica = parameters.text("type") == "replicate"
        if is_replica and "undo" in parameters:
            undone = await self.needles.take_back(file_id, parameters.required("undo"), parameters.text("of"))
            return json_response(request, {"undone": undone})
        try:
            self.store.find(file_id.volume_id)
        except VolumeNotFound as error:
            if is_replica:
                return _nothing_deleted(request, error)
            try:
                return await self.proxy.answer(request, parameters, file_id.volume_id, body)
            except VolumeNotFound:
                return _nothing_deleted(request, error)
        if await self._is_handed_on(request, parameters, file_id):
            return None
        size = await self.needles.delete(
            file_id,
            fsync=parameters.flag("fsync"),
            is_replica=is_replica,
            with_chunks=parameters.flag("cm", True),
            write_id=parameters.text("write"),
        )
        return json_response(request, {"size": size or 0}, 404 if size is None else 202)

    # ------------------------------------------------------------- the server

    @app.route("/admin/copy/", branch=True)
    def transfers(self, _request: IRequest) -> IResource:
        """The endpoints that bring copies of volumes here."""
        return self._transfer

    @app.route("/admin/", branch=True)
    def admin(self, _request: IRequest) -> IResource:
        """The endpoints for the master and for operators."""
        return self._admin

    @app.route("/status", methods=["GET"])
    @endpoint
    async def status(self, request: Request) -> bytes:
        """Disks and volumes."""
        return json_response(request, await self.run(status_value, self.store))

    @app.route("/metrics", methods=["GET"])
    @endpoint
    async def scrape(self, request: Request) -> bytes:
        """Everything that is counted, for Prometheus."""
        return body_response(request, *await self.metrics())

    @app.route("/healthz", methods=["GET"])
    @endpoint
    async def healthz(self, request: Request) -> bytes:
        """Whether the process answers at all."""
        return empty_response(request, 200)

    @app.route("/readyz", methods=["GET"])
    @endpoint
    async def readyz(self, request: Request) -> bytes:
        """Whether a master knows what is here."""
        missing = self.is_ready()
        if missing:
            raise Unavailable(missing)
        return empty_response(request, 200)

    @app.route("/favicon.ico", methods=["GET"])
    @endpoint
    async def favicon(self, request: Request) -> bytes:
        """The icon of the page."""
        request.setHeader(b"Cache-Control", b"public, max-age=86400")
        return body_response(request, FAVICON, FAVICON_TYPE)

    @app.route("/ui/index.html", methods=["GET"])
    @endpoint
    async def page(self, request: Request) -> bytes:
        """What /status says, for people."""
        value = await self.run(status_value, self.store)
        page = server_page(
            self.address,
            value,
            facts=self.facts(),
            missing=self.is_ready(),
            size_limit=self.store.volume_size_limit,
            seconds=self.needles.now(),
        )
        return page_response(request, page)


_ENDPOINTS = {  # the paths that are no file's, with the methods that they take
    rule.path: tuple(sorted(rule.methods)) for rule in Api.app if rule.methods
}


def _not_allowed(request: Request, allowed: tuple[str, ...]) -> MethodNotAllowed:
    return MethodNotAllowed(request.method.decode("ascii", "replace")[:40], allowed)


def _nothing_deleted(request: Request, error: VolumeNotFound) -> bytes:
    return json_response(request, {"size": 0, "error": str(error)}, 404)


def _upload_value(offer: Offer, stored: Stored) -> dict[str, Any]:
    value = {
        "name": offer.name,
        "size": stored.size,
        "eTag": stored.etag,
        "mime": offer.mime,
        "contentMd5": offer.md5,
    }
    return {name: entry for name, entry in value.items() if entry}


@implementer(IResource)
@attrs.frozen(eq=False)
class _AnyOrigin:
    """Lets scripts of any origin read every answer of a resource."""

    resource: IResource
    isLeaf = True

    def render(self, request: Request) -> Any:
        """Say so to requests that come from a page."""
        if request.requestHeaders.hasHeader(b"Origin"):
            request.setHeader(b"Access-Control-Allow-Origin", b"*")
            request.setHeader(b"Access-Control-Expose-Headers", b"*")
        return self.resource.render(request)

    def getChildWithDefault(self, name: bytes, request: IRequest) -> IResource:  # noqa: ARG002
        """It has no children."""
        raise LookupError(name)

    def putChild(self, path: bytes, child: IResource) -> None:  # noqa: ARG002
        """It has no children."""
        raise LookupError(path)
