"""The endpoints under /admin, which the master and operators call: making, deleting, vacuuming and locking volumes.

    POST /admin/assign_volume?volume=&collection=&replication=&ttl=    make a volume; {} also when it is there already
    POST /admin/delete_volume?volume=        POST /admin/delete_collection?collection=
    POST /admin/vacuum/check?volume=         {"garbageRatio": 0.3, "revision": 1, "compacted": false}
    POST /admin/vacuum/compact?volume=       POST /admin/vacuum/cleanup?volume=
    POST /admin/vacuum/commit?volume=        {"readOnly": false, "size": 1234}
    POST /admin/volume/readonly?volume=      POST /admin/volume/writable?volume=       last over a restart
    GET  /admin/volume/index?volume=         the rows of the index as they are on disk
    GET  /admin/volume/tail?volume=&offset=   the data from there on, piece by piece, for `weedtw backup`
    GET  /admin/volume/changes, /admin/volume/needle  POST /admin/volume/agree    see `agreement`
    GET  /admin/volume/damaged?volume=       {"keys": [2]} of the files that are not as they were written
    POST /admin/volume/heal?volume=&key=&with=    take such a file from the copy of another server
    POST /admin/sync                         put everything on the disks
    POST /admin/masters?cluster=&masters=    where the masters are now, for a server that has lost all of them

Parameters come in the query or in an url-encoded form.  The white list is checked before a request gets here.
"""

from collections.abc import Callable

import attrs
from twisted.internet.defer import DeferredSemaphore

from weedtw.config.kinds import SERVERS
from weedtw.errors import BadRequest, NeedleNotFound
from weedtw.formats.collection import check_collection
from weedtw.formats.fileid import MAX_VOLUME_ID
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.http.requests import Request, params
from weedtw.http.responses import body_response, endpoint, json_response, uninterrupted
from weedtw.http.routes import Routes
from weedtw.storage.changes import Change, changes_of, changes_since, record_of
from weedtw.storage.report import VolumeStat
from weedtw.storage.soundness import damaged_keys
from weedtw.storage.store import Store
from weedtw.volume.agreement import Agreement
from weedtw.volume.contents import Run

TAIL_PIECE = 4 << 20  # bytes
MOST_KEYS = 1000  # in one request
_VACUUMS_AT_ONCE = 1  # each copies a whole volume; more at once only make the disk's arm jump


def volume_of(request: Request) -> int:
    """The volume that a request names; raises BadRequest."""
    return params(request).required_integer("volume", least=1, most=MAX_VOLUME_ID)


def _keys_of(request: Request) -> list[int]:
    """The keys in `keys=1,2`; raises BadRequest."""
    words = [word for word in params(request).text("keys").split(",") if word]
    if len(words) > MOST_KEYS or not all(word.isascii() and word.isdecimal() and len(word) <= 20 for word in words):
        raise BadRequest(f"keys is not a list of at most {MOST_KEYS} numbers with commas between them")
    return [int(word) for word in words]


@attrs.define(eq=False)
class Admin:
    """Answers the requests; what blocks runs in threads."""

    app = Routes()

    store: Store
    run: Run
    call: Callable[[str, tuple[str, ...]], None]  # see Heartbeats
    agreement: Agreement
    _vacuums: DeferredSemaphore = attrs.field(factory=lambda: DeferredSemaphore(_VACUUMS_AT_ONCE), init=False)

    @app.route("/assign_volume", methods=["POST"])
    @endpoint
    async def assign_volume(self, request: Request) -> bytes:
        """Make a volume of those settings; the same again is fine."""
        query = params(request)
        volume_id = volume_of(request)
        collection = check_collection(query.text("collection"))
        replication = ReplicaPlacement.parse(query.text("replication") or "000")
        ttl = Ttl.parse(query.text("ttl"))
        disk_type = query.text("disk") if "disk" in query else None
        make = self.run(self.store.create_volume, volume_id, collection, replication, ttl, disk_type=disk_type)
        await uninterrupted(make)
        return json_response(request, {})

    @app.route("/delete_volume", methods=["POST"])
    @endpoint
    async def delete_volume(self, request: Request) -> bytes:
        """Delete a volume with all its files; with `onlyEmpty`, only if none was ever written to it."""
        only_empty = params(request).flag("onlyEmpty")
        await uninterrupted(self.run(self.store.delete_volume, volume_of(request), only_empty=only_empty))
        return json_response(request, {})

    @app.route("/delete_collection", methods=["POST"])
    @endpoint
    async def delete_collection(self, request: Request) -> bytes:
        """Delete all volumes of a collection; the default one, which has no name, never."""
        name = check_collection(params(request).text("collection"))
        if not name:
            raise BadRequest("collection is missing; the default collection cannot be deleted as a whole")
        deleted: list[VolumeStat] = await uninterrupted(self.run(self.store.delete_collection, name))
        return json_response(request, {"volumes": [stat.id for stat in deleted]})

    @app.route("/vacuum/check", methods=["POST"])
    @endpoint
    async def vacuum_check(self, request: Request) -> bytes:
        """How much of a volume is garbage, how often it was vacuumed, and whether `commit` has what it needs."""
        volume = self.store.find(volume_of(request))
        value = {
            "garbageRatio": volume.garbage_ratio(),
            "revision": volume.generation.superblock.compaction_revision,
            "compacted": self.store.is_compacted(volume.id),
        }
        return json_response(request, value)

    @app.route("/vacuum/compact", methods=["POST"])
    @endpoint
    async def vacuum_compact(self, request: Request) -> bytes:
        """Copy what is live to new files; answers when that is done."""
        volume_id = volume_of(request)
        self.store.find(volume_id)
        await uninterrupted(self._compact(volume_id))
        return json_response(request, {})

    async def _compact(self, volume_id: int) -> None:
        await self._vacuums.acquire()
        try:
            await self.run(self.store.compact, volume_id)
        finally:
            self._vacuums.release()

    @app.route("/vacuum/commit", methods=["POST"])
    @endpoint
    async def vacuum_commit(self, request: Request) -> bytes:
        """Put the new files in place."""
        stat: VolumeStat = await uninterrupted(self.run(self.store.commit, volume_of(request)))
        return json_response(request, {"readOnly": stat.read_only, "size": stat.size})

    @app.route("/vacuum/cleanup", methods=["POST"])
    @endpoint
    async def vacuum_cleanup(self, request: Request) -> bytes:
        """Throw the new files away."""
        await uninterrupted(self.run(self.store.cleanup, volume_of(request)))
        return json_response(request, {})

    @app.route("/volume/readonly", methods=["POST"])
    @endpoint
    async def volume_readonly(self, request: Request) -> bytes:
        """Take no more writes to a volume, also after a restart."""
        volume = self.store.find(volume_of(request))
        await uninterrupted(self.run(volume.set_read_only, "set read-only by an operator", persist=True))
        return json_response(request, {})

    @app.route("/volume/writable", methods=["POST"])
    @endpoint
    async def volume_writable(self, request: Request) -> bytes:
        """Lift what `readonly` did, and try a disk again that refused writes; other reasons to be read-only stay."""
        volume = self.store.find(volume_of(request))
        await uninterrupted(self.run(volume.set_read_only, None, cause="failing disk"))
        await uninterrupted(self.run(volume.set_read_only, None, persist=True))
        return json_response(request, {"readOnly": bool(volume.read_only_reason), "reason": volume.read_only_reason})

    @app.route("/volume/index", methods=["GET"])
    @endpoint
    async def volume_index(self, request: Request) -> bytes:
        """The index of a volume, row by row; `X-Weedtw-Offset-Width` tells the width of its offsets."""
        volume = self.store.find(volume_of(request))
        rows: bytes = await self.run(volume.index_rows)
        request.setHeader(b"X-Weedtw-Offset-Width", b"%d" % volume.generation.needles.offset_width)
        return body_response(request, rows, "application/octet-stream")

    @app.route("/volume/tail", methods=["GET"])
    @endpoint
    async def volume_tail(self, request: Request) -> bytes:
        """The data of a volume from `offset` on, TAIL_PIECE bytes at most; headers tell what it is a piece of."""
        asked = params(request)
        volume = self.store.find(volume_of(request))
        offset = asked.integer("offset", 0)
        generation = volume.generation
        size = generation.dat_size
        data: bytes = await self.run(generation.dat.read, max(0, min(TAIL_PIECE, size - offset)), offset)
        request.setHeader(b"X-Weedtw-Size", b"%d" % size)
        request.setHeader(b"X-Weedtw-Revision", b"%d" % generation.superblock.compaction_revision)
        request.setHeader(b"X-Weedtw-Offset-Width", b"%d" % generation.needles.offset_width)
        request.setHeader(b"X-Weedtw-Collection", volume.collection)
        return body_response(request, data, "application/octet-stream")

    @app.route("/volume/changes", methods=["GET"])
    @endpoint
    async def volume_changes(self, request: Request) -> bytes:
        """The last change of every key since a time in unix nanoseconds, or of those that are named."""
        volume = self.store.find(volume_of(request))
        since = params(request).required_integer("since", least=0, most=2**63 - 1)
        keys = _keys_of(request)
        now = int(volume.clock() * 1e9)
        changes: dict[int, Change] = await (
            self.run(changes_of, volume, keys) if keys else self.run(changes_since, volume, since)
        )
        return json_response(request, {"now": now, "changes": [one.as_json() for one in changes.values()]})

    @app.route("/volume/needle", methods=["GET"])
    @endpoint
    async def volume_needle(self, request: Request) -> bytes:
        """The record of a needle."""
        volume = self.store.find(volume_of(request))
        key = params(request).required_integer("key", least=0, most=2**64 - 1)
        record: bytes | None = await self.run(record_of, volume, key)
        if record is None:
            raise NeedleNotFound(volume.id, key)
        return body_response(request, record, "application/octet-stream")

    @app.route("/volume/agree", methods=["POST"])
    @endpoint
    async def volume_agree(self, request: Request) -> bytes:
        """Take over what is newer in the copy of another server."""
        volume = self.store.find(volume_of(request))
        since = params(request).required_integer("since", least=0, most=2**63 - 1)
        other, keys = params(request).required("with"), _keys_of(request)
        changed: int = await uninterrupted(self.agreement.follow(volume, other, since, keys))
        return json_response(request, {"changed": changed})

    @app.route("/volume/damaged", methods=["GET"])
    @endpoint
    async def volume_damaged(self, request: Request) -> bytes:
        """The keys of the files that are not as they were written; all of the volume is read."""
        volume = self.store.find(volume_of(request))
        keys: list[int] = await self.run(damaged_keys, volume)
        return json_response(request, {"keys": keys})

    @app.route("/volume/heal", methods=["POST"])
    @endpoint
    async def volume_heal(self, request: Request) -> bytes:
        """Take one damaged file from the copy of another server; nothing is done when it is not damaged here."""
        asked = params(request)
        volume = self.store.find(volume_of(request))
        key = asked.required_integer("key", least=0, most=2**64 - 1)
        healed: bool = await uninterrupted(self.agreement.heal(volume, asked.required("with"), key))
        return json_response(request, {"healed": healed})

    @app.route("/sync", methods=["POST"])
    @endpoint
    async def sync(self, request: Request) -> bytes:
        """Put everything that was written on the disks."""
        await uninterrupted(self.run(self.store.sync))
        return json_response(request, {})

    @app.route("/masters", methods=["POST"])
    @endpoint
    async def masters(self, request: Request) -> bytes:
        """Report to these masters as well, if they are of this server's cluster; 409 when another one is named."""
        parameters = params(request)
        cluster_id, named = parameters.required("cluster"), parameters.required("masters")
        try:
            masters = SERVERS.parse(named)
        except ValueError as error:
            raise BadRequest(f"masters={named[:100]!r} is not {SERVERS.takes}") from error
        self.call(cluster_id, masters)
        return json_response(request, {})
