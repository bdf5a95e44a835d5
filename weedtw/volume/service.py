"""The volume server as a Twisted service: folders, port, heartbeats, and an end in good order.

service = VolumeService(config, reactor)
service.prepare()        binds the port, takes the folders, opens the volumes; raises WeedError
service.startService()   answers
service.stopService()    a Deferred: requests under way have finished, files are on the disks
"""

import time
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from weedtw import __version__
from weedtw.config import VolumeConfig, join_address
from weedtw.errors import StorageError, WeedError
from weedtw.formats.beat import Hello
from weedtw.http.agent import make_agent
from weedtw.http.channel import Site, make_site
from weedtw.http.guard import WhiteList
from weedtw.http.hops import Hops
from weedtw.http.hot import Hot
from weedtw.http.listen import listen
from weedtw.http.metrics import Gauge, Metrics
from weedtw.http.origins import check_origin, check_secret, is_admin
from weedtw.http.pages import Cell, Link, Mark, Simple
from weedtw.http.requests import Request
from weedtw.http.routes import Warmth
from weedtw.http.spool import Budget
from weedtw.http.tokens import Tokens
from weedtw.http.traffic import Traffic
from weedtw.http.ways import connector
from weedtw.raft.complaints import Complaints
from weedtw.storage.location import DiskLocation
from weedtw.storage.report import VolumeStat
from weedtw.storage.store import ChangeKind, Store
from weedtw.storage.volume import Volume
from weedtw.volume.api import Api
from weedtw.volume.brisk import Brisk
from weedtw.volume.chunks import Chunks
from weedtw.volume.conversation import Reporter
from weedtw.volume.copies import OtherCopies
from weedtw.volume.heartbeat import Heartbeats
from weedtw.volume.hot import HotFiles
from weedtw.volume.hotdelete import HotDeletes
from weedtw.volume.hotread import HotReads
from weedtw.volume.hotwrite import HotWrites
from weedtw.volume.images import Shape
from weedtw.volume.inventory import Inventory
from weedtw.volume.locations import Locations
from weedtw.volume.membership import Membership
from weedtw.volume.memory import give_back
from weedtw.volume.metrics import HOT_WIDTH, happened, kind_of, of_masters, stored
from weedtw.volume.needles import Needles
from weedtw.volume.notices import Notices
from weedtw.volume.proxy import Proxy
from weedtw.volume.ready import Ready
from weedtw.volume.replicate import Replicator
from weedtw.volume.represent import Representer, Reshaper
from weedtw.volume.serving import Server
from weedtw.volume.standing import Standing
from weedtw.volume.status import standing_of
from weedtw.volume.threads import Threads

if TYPE_CHECKING:
    from prometheus_client.core import Metric

FINISH = 10.0  # seconds that requests under way have to end when the service stops
UPKEEP = 10.0  # seconds between two looks at the room on the disks
CONNECT_TIMEOUT = 3.0  # seconds for a connection to a master


class VolumeService(Service):
    """One volume server."""

    log = Logger()
    metrics: Metrics

    def __init__(self, config: VolumeConfig, reactor: Any) -> None:
        """Nothing is touched before `prepare`."""
        self.config = config
        self.reactor = reactor
        self.address = config.address  # `ip:port`, the name that others know us by
        self.white_list = WhiteList.parse(config.white_list)
        self.tokens = Tokens(config.security, time.time)
        self.threads = Threads(reactor)
        # Apart from those of requests: as many of these as are slow must not keep the masters from hearing of us.
        self.own_threads = Threads(reactor, most=4, name="upkeep")
        self.peers = make_agent(reactor, security=config.security)
        self.copies = OtherCopies(Hops(connector(reactor, config.security), reactor), reactor, self.tokens)
        self.store = Store(
            [
                DiskLocation(
                    folder.path,
                    folder.max_volumes,
                    folder.idx_path,
                    config.min_free_space,
                    folder.disk_type,
                    clock=time.time,
                    offset_width=config.offset_width,
                    index=config.index,
                )
                for folder in config.folders
            ],
            clock=time.time,
            changed=self._changed,
        )
        self.notices = Notices(self.store)
        self._inventory = Inventory(self._look_at_disks, reactor)
        self.warmth = Warmth(reactor, "numpy")
        self._api: Api | None = None
        self._merging: set[int] = set()  # volumes whose map is being tidied up
        self._port: Any = None  # a twisted.internet.tcp.Port
        self._holds = False  # the folders
        self._site: Site | None = None
        self._upkeep: LoopingCall | None = None
        self.heartbeats: Heartbeats | None = None

    # ------------------------------------------------------------- starting

    def bind(self) -> None:
        """The first step of `prepare`: take the port, and change nothing yet; raises WeedError."""
        config = self.config
        self._site = make_site(
            Resource(),  # until there is something to serve
            reactor=self.reactor,
            body_limit=config.file_size_limit_mb << 20,
            idle_timeout=config.idle_timeout,
            in_flight_limit=(config.concurrent_upload_limit_mb << 20) or None,
            spool_folder=config.folders[0].path,
            admission=self._admit,
            now=time.time,
            traffic=Traffic(kind_of, HOT_WIDTH),
        )
        self._site.names = frozenset({config.ip.lower(), config.public_url.rpartition(":")[0].lower()}) - {""}
        self._site.secret = config.security.secret
        self._site.certified = config.security.tls is not None
        self.metrics = Metrics(self._site)
        self._port = listen(
            self.reactor,
            self._site,
            ip=config.ip,
            bind=config.bind,
            port=config.port,
            port_option=config.port_option,
            security=config.security,
        )
        self.address = join_address(config.ip, self._port.getHost().port)

    def hold(self) -> None:
        """The second step: take the folders, and make those that are not there; raises WeedError."""
        self.store.lock()
        self._holds = True
        for folder in self.store.made:
            self.log.info("made the folder {folder}, which was not there", folder=folder)

    def prepare(self) -> None:
        """Bind the port, take the folders, open the volumes; raises WeedError, and then holds nothing."""
        try:
            if self._port is None:
                self.bind()
            if not self._holds:
                self.hold()
            self.store.load()
        except WeedError:
            self._let_go()
            raise
        for repair in self.store.repairs:
            self.log.warn("mended: {repair}", repair=str(repair))
        for problem in self.store.problems:
            self.log.error("not served: {problem}", problem=str(problem))
        self.notices.opened()
        assert self._site is not None
        self._api = self._make_api()
        self._site.resource = self._api.resource()
        self._site.hot = Hot(self._hot_files(self._api, self._site))

    def _admit(self, request: Request) -> int | None:
        assert self._api is not None
        assert self._site is not None
        if is_admin(request.path):
            check_origin(request, self._site.names)
            check_secret(request)
        return self._api.admit(request)

    def _let_go(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()
        self._holds = False
        self.store.close()

    def _make_api(self) -> Api:
        config, run, limit = self.config, self.threads, self.config.file_size_limit_mb << 20
        heartbeats = self.heartbeats = self._make_heartbeats()
        locations = Locations(self.peers, lambda: heartbeats.masters, self.reactor)
        representer = Representer(run, limit, _reshaper())
        chunks = Chunks(
            self.address,
            self.store,
            run,
            self.peers,
            locations,
            representer.identity,
            self.tokens,
            Complaints(self.reactor),
        )
        representer.chunks = chunks
        replicator = Replicator(self.address, self.copies, locations)
        needles = Needles(
            find=self.store.find,
            run=run,
            replicator=replicator,
            chunks=chunks,
            identity=representer.identity,
            clock=self.reactor,
            now=time.time,
            limit=limit,
            fsync=config.fsync,
            brisk=Brisk(time.monotonic, self._merge),
        )
        return Api(
            address=self.address,
            store=self.store,
            needles=needles,
            representer=representer,
            server=Server(Budget((config.concurrent_download_limit_mb << 20) or None)),
            proxy=Proxy(config.read_mode, self.address, self.peers, locations, config.security.scheme),
            white_list=self.white_list,
            tokens=self.tokens,
            run=run,
            limit=limit,
            is_ready=self._what_is_missing,
            facts=self._facts,
            call=heartbeats.call,
            metrics=self._render_metrics,
        )

    def _hot_files(self, api: Api, site: Site) -> HotFiles:
        assert api.needles.brisk is not None
        return HotFiles(
            store=self.store,
            reads=HotReads(
                api.representer,
                api.server,
                site.date,
                Ready(self.config.hot_cache_mb << 20),
                api.run,
                api.note_damage,
            ),
            writes=HotWrites(api.needles.brisk, api.needles, site.date),
            deletes=HotDeletes(api.needles, site.date),
            guarded=bool(self.white_list.networks) or self.tokens.guard_writes,
            guards_reads=self.tokens.guard_reads,
            fsync=self.config.fsync,
        )

    def _merge(self, volume: Volume) -> None:
        """Have the map of a volume tidied up behind the back of whoever wrote to it."""
        if volume.id not in self._merging:
            self._merging.add(volume.id)
            merged = Deferred.fromCoroutine(self.threads(self._merge_map, volume))
            merged.addErrback(self._merge_failed, volume.id)
            merged.addBoth(lambda _: self._merging.discard(volume.id))

    def _merge_map(self, volume: Volume) -> None:
        volume.merge_map(volume.generation)

    def _merge_failed(self, failure: Failure, volume_id: int) -> None:
        if failure.check(StorageError) is None:  # which says that it was closed meanwhile
            self.log.failure("tidying up the map of volume {id}", failure, id=volume_id)

    def _make_heartbeats(self) -> Heartbeats:
        config = self.config
        membership = Membership.load(config.folders[0].path, self.reactor.callInThread)
        reporter = Reporter(
            clock=self.reactor,
            hello=lambda: self._hello(membership.cluster_id),
            standing=self._standing,
            pulse=config.pulse_seconds,
        )
        return Heartbeats(reporter=reporter, seeds=config.masters, cluster=membership, endpoint=self._endpoint)

    def _hello(self, cluster_id: str | None) -> Hello:
        return Hello(
            cluster=cluster_id,
            address=self.address,
            public_url=self.config.public_url or self.address,
            data_center=self.config.data_center,
            rack=self.config.rack,
            version=__version__,
            uuids=self.store.uuids,
            pulse=self.config.pulse_seconds,
        )

    def _endpoint(self, address: str) -> IStreamClientEndpoint:
        return connector(self.reactor, self.config.security, CONNECT_TIMEOUT)(address)

    def startService(self) -> None:
        """Answer requests, and report to the masters."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._api is None:
            self.prepare()
        assert self.heartbeats is not None
        assert self._api is not None
        self.threads.start()
        self.own_threads.start()
        self._port.startReading()
        self.heartbeats.startService()
        self.warmth.start()
        self._api.agreement.start()
        self._upkeep = LoopingCall(self._look_after_disks)
        self._upkeep.clock = self.reactor
        self._upkeep.start(UPKEEP, now=False)
        self.log.info(
            "volume server {address} serves {count} volumes in {folders}",
            address=self.address,
            count=len(self.store.volumes()),
            folders=", ".join(folder.path for folder in self.config.folders),
        )

    # ------------------------------------------------------------- stopping

    def stopService(self) -> Deferred[None]:
        """Take no more connections, finish what is under way, say good-bye, and close the files."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.warmth.stop()
        if self._upkeep is not None and self._upkeep.running:
            self._upkeep.stop()
        # First of all, so that the masters send us nobody any more; and so that a connection which ends from here on,
        # perhaps because the master stops as well, is no surprise.
        told = maybeDeferred(self.heartbeats.stopService) if self.heartbeats is not None else None
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        if told is not None:
            await told
        if self._site is not None:
            await self._site.drain(FINISH)
        if self._api is not None:
            self._api.agreement.stop()
        await self.copies.close()
        await self.peers.close()
        closing = self.threads(self.store.close) if self.threads.is_running else maybeDeferred(self.store.close)
        for error in await closing:
            self.log.error("closing: {reason}", reason=str(error))
        self.threads.stop()
        self.own_threads.stop()
        self.log.info("volume server {address} has stopped", address=self.address)

    # ------------------------------------------------------------- meanwhile

    async def _standing(self) -> Standing:
        if self.heartbeats is not None and self.heartbeats.volume_size_limit:
            self.store.volume_size_limit = self.heartbeats.volume_size_limit
        return await self.own_threads(standing_of, self.store)

    def _changed(self, kind: ChangeKind, stat: VolumeStat) -> None:
        """Called in any thread when a volume came, went, or changed its nature."""
        if kind == "changed":
            self.notices.changed(stat.id)
        self.reactor.callFromThread(self._report)

    def _report(self) -> None:
        if self.running and self.heartbeats is not None:
            self.heartbeats.changed()

    def _look_after_disks(self) -> Deferred[None]:
        looked = Deferred.fromCoroutine(self.own_threads(self._check_disks))
        return looked.addErrback(self._check_failed)

    def _check_disks(self) -> None:
        give_back()
        try:
            self.store.check_disks()
        finally:
            self.notices.looked_at_disks()
        for stat in self.store.remove_expired():
            self.log.info("volume {id} has outlived its time to live and is removed", id=stat.id)

    def _check_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, WeedError):
            self.log.warn("looking after the disks: {reason}", reason=str(failure.value))
        else:
            self.log.failure("looking after the disks", failure)

    def _what_is_missing(self) -> str:
        assert self.heartbeats is not None
        if self.heartbeats.is_known:
            return ""
        refusals = "; ".join(f"{master} refuses: {reason}" for master, reason in self.heartbeats.refusals.items())
        return refusals or "no master knows yet what is here"

    async def told(self) -> Iterable["Metric"]:
        """Everything that is counted, for a port of its own."""
        return self.metrics.families(await self._numbers())

    async def _render_metrics(self) -> tuple[bytes, str]:
        return self.metrics.render(await self._numbers())

    async def _numbers(self) -> list[Gauge]:
        api, heartbeats = self._api, self.heartbeats
        assert api is not None
        assert heartbeats is not None
        counted = happened(
            damaged=api.damaged_reads,
            rescued=api.rescued_reads,
            mended=api.agreement.mended,
            failures=api.needles.replicator.failures,
        )
        standing = of_masters(len(heartbeats.welcome), len(heartbeats.masters), heartbeats.leader is not None)
        return [*await self._inventory.numbers(), *counted, *standing]

    def _look_at_disks(self) -> Deferred[list[Gauge]]:
        return Deferred.fromCoroutine(self.own_threads(lambda: list(stored(self.store))))

    def _facts(self) -> list[tuple[str, Cell]]:
        assert self.heartbeats is not None
        leader, refusals = self.heartbeats.leader, self.heartbeats.refusals
        masters: list[Simple] = [Link(address, f"http://{address}/") for address in self.heartbeats.masters]
        masters += [Mark("bad", f"{address} refuses", reason) for address, reason in refusals.items()]
        return [
            ("Data center", self.config.data_center),
            ("Rack", self.config.rack),
            ("Leading master", Link(leader, f"http://{leader}/") if leader else Mark("bad", "unknown")),
            ("Masters", tuple(masters)),
        ]


def _reshaper() -> Reshaper | None:
    """What makes pictures smaller; None without Pillow, which is an extra and imported with the first picture."""
    if find_spec("PIL") is None:
        return None

    def reshape(data: bytes, mime: str, shape: Shape) -> bytes | None:
        from weedtw.volume import resize  # noqa: PLC0415 - see above

        return resize.reshape(data, mime, shape)

    return reshape
