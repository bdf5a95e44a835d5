"""The endpoints under /admin/copy: bringing a copy of a volume here from another server, and letting one go.

    GET  state?volume=&sum=            what the copy here is: sizes, revision, settings; with `sum` a checksum as well
    GET  data?volume=&offset=          the data from there on, PIECE bytes at most
    POST take?volume=&from=            bring a copy here; with `mount=false` only what there is now
    GET  progress?volume=              {"bytes": 1234, "size": 5678} of a copy that comes in
    POST freeze?volume=                take no more writes, because the volume is being moved; lasts over a restart
    POST thaw?volume=                  lift that; what an operator has set stays
    POST drop?volume=                  remove what has come of a copy that is not whole
    POST release?volume=&size=&indexSize=&revision=    delete the copy here, if it is still exactly that

A volume may be in use while it is copied: what was appended meanwhile is fetched, until sizes, revision and checksum
of both sides are the same.  Only then is it a volume here.  `release` deletes nothing that has changed since it was
compared: it takes no more writes, then looks, then deletes.
"""

from typing import Any, Final

import attrs

from weedtw.errors import BadCollection, BadRequest, ChangeRefused, Damaged, PeerError
from weedtw.formats.collection import check_collection
from weedtw.formats.superblock import BASE_SIZE
from weedtw.formats.vif import VolumeInfo
from weedtw.http.agent import PeerAgent
from weedtw.http.requests import Request, params
from weedtw.http.responses import body_response, endpoint, json_response, uninterrupted
from weedtw.http.routes import Routes
from weedtw.storage.incoming import Incoming, checksum_of, find_arriving, remove_arriving
from weedtw.storage.store import Store
from weedtw.storage.volume import Volume
from weedtw.volume.admin import volume_of
from weedtw.volume.contents import Run

PIECE: Final = 4 << 20  # bytes
PASSES: Final = 8  # over a volume that is written to while it is copied
SUM_TIMEOUT: Final = 3600.0  # seconds: a volume of 30 GB on a slow disk
_MOVING: Final = "weedtwMoving"  # a key in the .vif: it is read-only for this alone
_MOVED: Final = "it is being moved to another server"
_TIMEOUT: Final = 60.0  # seconds for a piece
_MOST_ROWS: Final = 1 << 32  # bytes of an index


@attrs.define(eq=False)
class Transfer:
    """Answers the requests; what blocks runs in threads."""

    app = Routes()

    store: Store
    run: Run
    peers: PeerAgent
    _coming: dict[int, dict[str, int]] = attrs.field(factory=dict, init=False)  # by volume: how far a copy has come

    @app.route("/state", methods=["GET"])
    @endpoint
    async def state(self, request: Request) -> bytes:
        """What the copy here is; the checksum is that of the data as long as `size`."""
        volume = self.store.find(volume_of(request))
        return json_response(request, await self.run(_state_of, volume, summed=params(request).flag("sum")))

    @app.route("/data", methods=["GET"])
    @endpoint
    async def data(self, request: Request) -> bytes:
        """A piece of the data."""
        volume = self.store.find(volume_of(request))
        offset = params(request).required_integer("offset", least=0)
        generation = volume.generation
        length = max(0, min(PIECE, generation.dat_size - offset))
        piece: bytes = await self.run(generation.dat.read, length, offset)
        return body_response(request, piece, "application/octet-stream")

    @app.route("/take", methods=["POST"])
    @endpoint
    async def take(self, request: Request) -> bytes:
        """Bring a copy here; a client that leaves ends it, and the next call goes on from there."""
        asked = params(request)
        volume_id, source = volume_of(request), asked.required("from")
        self.store.require_absent(volume_id)
        if volume_id in self._coming:
            raise ChangeRefused(f"a copy of volume {volume_id} is coming in already")
        progress = self._coming[volume_id] = {"bytes": 0, "size": 0}
        try:
            return json_response(
                request,
                await self._take(volume_id, source, progress, mount=asked.flag("mount", True)),
            )
        finally:
            del self._coming[volume_id]

    @app.route("/progress", methods=["GET"])
    @endpoint
    async def progress(self, request: Request) -> bytes:
        """How far a copy has come; zeros when none is coming."""
        return json_response(request, self._coming.get(volume_of(request), {"bytes": 0, "size": 0}))

    @app.route("/freeze", methods=["POST"])
    @endpoint
    async def freeze(self, request: Request) -> bytes:
        """Take no more writes while the volume is moved."""
        await uninterrupted(self.run(_freeze, self.store.find(volume_of(request))))
        return json_response(request, {})

    @app.route("/thaw", methods=["POST"])
    @endpoint
    async def thaw(self, request: Request) -> bytes:
        """Take writes again, unless something else speaks against it."""
        await uninterrupted(self.run(_thaw, self.store.find(volume_of(request))))
        return json_response(request, {})

    @app.route("/drop", methods=["POST"])
    @endpoint
    async def drop(self, request: Request) -> bytes:
        """Remove what has come of a copy that is not whole."""
        volume_id = volume_of(request)
        if volume_id in self._coming:
            raise ChangeRefused(f"a copy of volume {volume_id} is coming in; end that first")
        dropped = 0
        for location, files in await self.run(find_arriving, self.store, volume_id):
            await uninterrupted(self.run(remove_arriving, files, location.ops))
            dropped += 1
        return json_response(request, {"dropped": dropped})

    @app.route("/release", methods=["POST"])
    @endpoint
    async def release(self, request: Request) -> bytes:
        """Delete the copy here, unless it is not what the caller has compared with another one."""
        asked = params(request)
        volume = self.store.find(volume_of(request))
        wanted = tuple(asked.required_integer(name) for name in ("size", "indexSize", "revision"))
        await uninterrupted(self.run(_release, self.store, volume, wanted))
        return json_response(request, {})

    # -------------------------------------------------------------- the steps of taking

    async def _take(self, volume_id: int, source: str, progress: dict[str, int], *, mount: bool) -> dict[str, Any]:
        state = await self._ask_state(source, volume_id)
        incoming: Incoming = await self.run(
            Incoming.begin,
            self.store,
            volume_id,
            state["collection"],
            needs=state["size"] + state["indexSize"],
            disk_type=None,
        )
        for _ in range(PASSES):
            await self._fetch(incoming, source, state, progress)
            if not mount:
                return {"size": incoming.size, "mounted": False}
            rows = await self._index(source, volume_id)
            state = await self._ask_state(source, volume_id, summed=True)
            if (state["size"], state["indexSize"]) != (incoming.size, len(rows)):
                continue  # it has grown
            if state["sum"] != await self.run(incoming.checksum):
                await self.run(incoming.start_over)
                continue
            vif = _vif_of(state, source)
            volume: Volume = await uninterrupted(self.run(incoming.install, self.store, rows, vif))
            return {**await self.run(_state_of, volume), "mounted": True}
        raise ChangeRefused(
            f"volume {volume_id} on {source} changes faster than it can be copied; mark it read-only first"
        )

    async def _fetch(self, incoming: Incoming, source: str, state: dict[str, Any], progress: dict[str, int]) -> None:
        """Get what is not here yet."""
        volume_id = incoming.files.volume_id
        here: bytes = await self.run(incoming.header, BASE_SIZE)
        if incoming.size > state["size"] or here.hex() != state["header"][: 2 * len(here)]:
            await self.run(incoming.start_over)  # it was vacuumed since, or is another one
        while incoming.size < state["size"]:
            progress.update(bytes=incoming.size, size=state["size"])
            query = {"volume": volume_id, "offset": incoming.size}
            response = await self.peers.request("GET", source, "/admin/copy/data", query, timeout=_TIMEOUT)
            piece = await response.read(2 * PIECE)
            if response.status != 200 or not piece:
                raise PeerError(
                    source, f"gives no data of volume {volume_id} from {incoming.size} on", response.status
                )
            await self.run(incoming.append, piece)
        progress.update(bytes=incoming.size, size=state["size"])

    async def _index(self, source: str, volume_id: int) -> bytes:
        query = {"volume": volume_id}
        response = await self.peers.request("GET", source, "/admin/volume/index", query, timeout=_TIMEOUT)
        rows = await response.read(_MOST_ROWS)
        if response.status != 200:
            raise PeerError(source, f"gives no index of volume {volume_id}", response.status)
        return rows

    async def _ask_state(self, source: str, volume_id: int, *, summed: bool = False) -> dict[str, Any]:
        query = {"volume": volume_id, **({"sum": "true"} if summed else {})}
        state = await self.peers.get_json(source, "/admin/copy/state", query, timeout=SUM_TIMEOUT)
        try:
            check_collection(state["collection"])
            numbers = [state[name] for name in ("size", "indexSize", "revision", *(("sum",) if summed else ()))]
            if not all(type(number) is int for number in numbers):
                raise ValueError("a number is missing")
            bytes.fromhex(state["header"])
        except (BadCollection, KeyError, TypeError, ValueError) as error:
            raise PeerError(source, f"what it says of volume {volume_id} makes no sense: {error}", 400) from error
        return state


def _state_of(volume: Volume, *, summed: bool = False) -> dict[str, Any]:
    with volume.lock:
        generation = volume.generation
        size, index_size = generation.dat_size, generation.idx_size
        vif, causes = volume.vif, dict(volume.causes.reasons)
    counters = generation.needles.counters
    state: dict[str, Any] = {
        "collection": volume.collection,
        "size": size,
        "indexSize": index_size,
        "revision": generation.superblock.compaction_revision,
        "header": generation.dat.read(BASE_SIZE, 0).hex(),
        "files": counters.file_count - counters.deleted_count,
        "vif": vif.render(),
        "moving": bool(vif.others.get(_MOVING)),
        "readOnly": bool(causes),
        "offsetWidth": generation.needles.offset_width,
    }
    if summed:
        state["sum"] = checksum_of(generation.dat, size)
    return state


def _vif_of(state: dict[str, Any], source: str) -> bytes:
    """The .vif of a copy: that of the other one, without what was set there to move it."""
    try:
        info = VolumeInfo.parse(str(state["vif"]), path=source)
    except (KeyError, Damaged) as error:
        raise PeerError(source, f"its volume information makes no sense: {error}", 400) from error
    info = attrs.evolve(info, bytes_offset=int(state["offsetWidth"]))
    if info.others.get(_MOVING):
        others = {name: value for name, value in info.others.items() if name != _MOVING}
        info = attrs.evolve(info, read_only=False, others=others)
    return info.render().encode()


def _freeze(volume: Volume) -> None:
    """Mark a volume so that it is known later that nobody but a move made it read-only."""
    if not volume.vif.read_only:
        volume.set_read_only(_MOVED, persist=True, note={_MOVING: True})


def _thaw(volume: Volume) -> None:
    if volume.vif.others.get(_MOVING):
        volume.set_read_only(None, persist=True)


def _release(store: Store, volume: Volume, wanted: tuple[int, ...]) -> None:
    if store.at_hand(volume.id) is not volume:
        raise BadRequest(f"volume {volume.id} was replaced meanwhile")
    was = volume.causes.reasons.get("operator")
    volume.set_read_only(was or _MOVED)
    generation = volume.generation
    found = (generation.dat_size, generation.idx_size, generation.superblock.compaction_revision)
    if found != wanted:
        volume.set_read_only(was)
        raise ChangeRefused(
            f"volume {volume.id} has changed since it was compared: {found} is not {wanted}; do it again"
        )
    store.delete_volume(volume.id)
