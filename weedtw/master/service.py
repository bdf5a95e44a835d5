"""The master as a Twisted service: its folder, its port, its part in consensus, and an end in good order.

service = MasterService(config, reactor)
service.prepare()        binds the port, takes the folder, opens what is in it; raises WeedError
service.startService()   answers, and enters its cluster
service.stopService()    a Deferred: the lead is handed over, requests under way have finished, all is on the disk
"""

import random
import time
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred  # noqa: A004 - Twisted's own
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger, LogLevel
from twisted.web.resource import Resource

from weedtw.config.folders import make_folder
from weedtw.config.model import MasterConfig, join_address
from weedtw.errors import LeftBehind, WeedError
from weedtw.formats.beat import PREFIX as BEAT
from weedtw.formats.beat import Refused, encode
from weedtw.http.agent import make_agent
from weedtw.http.channel import Site, make_site
from weedtw.http.guard import WhiteList
from weedtw.http.hops import Hops
from weedtw.http.hot import Hot
from weedtw.http.listen import listen
from weedtw.http.metrics import Gauge, Metrics
from weedtw.http.origins import check_secret, is_below
from weedtw.http.requests import Request
from weedtw.http.routes import Warmth
from weedtw.http.tokens import Tokens
from weedtw.http.traffic import Traffic
from weedtw.http.ways import UNPROVEN, WITHOUT_CERTIFICATE, connector
from weedtw.master.api import MasterApi
from weedtw.master.assign import Assigner
from weedtw.master.cluster import Cluster
from weedtw.master.clusterapi import ClusterApi
from weedtw.master.collection import Collections
from weedtw.master.consensus import RaftLedger
from weedtw.master.entry import Entrance
from weedtw.master.flight import Changes
from weedtw.master.forward import Forwarder
from weedtw.master.growth import Grower
from weedtw.master.heartbeats import Heartbeats
from weedtw.master.hot import Cookies, HotIds
from weedtw.master.keys import KeySequence
from weedtw.master.maintenance import Maintenance
from weedtw.master.members import Members
from weedtw.master.metrics import HOT_WIDTH, kind_of, numbers
from weedtw.master.office import Office
from weedtw.master.orphans import Orphans
from weedtw.master.outlook import Outlook
from weedtw.master.pages import Overview
from weedtw.master.recall import Recall
from weedtw.master.submit import Submitter
from weedtw.master.unjoined import NotYet
from weedtw.master.vacuum import Vacuum
from weedtw.raft.lines import PREFIX as RAFT
from weedtw.raft.lines import encode_refusal
from weedtw.raft.node import RaftNode
from weedtw.storage.folderlock import FolderLock
from weedtw.topology.tree import Topology

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LOCK_NAME = "master.lock"
FINISH = 10.0  # seconds that requests under way have to end when the service stops
HAND_OVER = 1.0  # seconds that another master has to take the lead then
FORM_SLACK = 64 * 1024  # bytes that a multipart form takes beside the file in it
SUBMITS_IN_FLIGHT = 16  # uploads of the largest size allowed that /submit holds on disk at once; more have to wait


@attrs.define(eq=False)
class Parts:
    """What a master is made of, in the order in which it stops."""

    cluster: Cluster
    heartbeats: Heartbeats
    office: Office
    members: Members
    orphans: Orphans
    vacuum: Vacuum
    recall: Recall
    forwarder: Forwarder
    api: MasterApi
    maintenance: Maintenance

    def start(self) -> None:
        """Begin what goes on by itself."""
        for part in (self.members, self.orphans, self.vacuum, self.recall, self.maintenance):
            part.start()

    def stop(self) -> None:
        """End it."""
        for part in (self.maintenance, self.recall, self.vacuum, self.orphans, self.members):
            part.stop()


class MasterService(Service):
    """One master."""

    log = Logger()
    metrics: Metrics

    def __init__(self, config: MasterConfig, reactor: Any) -> None:
        """Nothing is touched before `prepare`."""
        self.config = config
        self.reactor = reactor
        self.white_list = WhiteList.parse(config.white_list)
        self.tokens = Tokens(config.security, time.time)
        self.peers = make_agent(reactor, security=config.security)
        self.ledger = RaftLedger(str(uuid.uuid4()))
        self.warmth = Warmth(reactor)
        self.parts: Parts | None = None
        self.entrance: Entrance | None = None
        self._lock: FolderLock | None = None
        self._port: Any = None  # a twisted.internet.tcp.Port
        self._bound = 0  # its number
        self._site: Site | None = None

    @property
    def address(self) -> str:
        """`ip:port`, with the port that was bound when none was asked for."""
        return join_address(self.config.ip, self._bound or self.config.port)

    @property
    def cluster(self) -> Cluster:
        """What the parts share; there is one after `prepare`."""
        assert self.parts is not None
        return self.parts.cluster

    # ------------------------------------------------------------- starting

    def prepare(self) -> None:
        """Bind the port, take the folder, open what is in it; raises WeedError, and then holds nothing.

        In this order, because what cannot start must not leave a new cluster behind.
        """
        try:
            if self._port is None:
                self.bind()
            if self._lock is None:
                self.hold()
            self.entrance = self._entrance()
            self.entrance.open()
        except WeedError:
            self._let_go()
            raise
        self._assemble(self.entrance)

    def hold(self) -> None:
        """The second step of `prepare`: take the folder, and make it if it is not there; raises WeedError."""
        if make_folder(self.config.mdir):
            self.log.info("made the folder {folder}, which was not there", folder=self.config.mdir)
        self._lock = FolderLock(self.config.mdir, LOCK_NAME)

    def bind(self) -> None:
        """The first step: take the port, and change nothing yet; raises WeedError."""
        config = self.config
        self._site = make_site(
            Resource(),  # until there is something to serve
            reactor=self.reactor,
            body_limit=(config.file_size_limit_mb << 20) + FORM_SLACK,
            protocols={BEAT: self._beats, RAFT: self._raft},
            spool_folder=config.mdir,
            in_flight_limit=SUBMITS_IN_FLIGHT * (config.file_size_limit_mb << 20),
            admission=self._admit,
            now=time.time,
            traffic=Traffic(kind_of, HOT_WIDTH),
        )
        self._site.names = frozenset({config.ip.lower()})
        self._site.secret = config.security.secret
        self._site.certified = config.security.tls is not None
        refusal = UNPROVEN if config.security.secret else WITHOUT_CERTIFICATE
        self._site.refusals = {RAFT: encode_refusal(refusal) + b"\r\n", BEAT: encode(Refused(refusal))}
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
        self._bound = self._port.getHost().port

    @property
    def _is_guarded(self) -> bool:
        return bool(self.white_list.networks) or self.tokens.guard_writes or self.tokens.guard_reads

    def _beats(self) -> IProtocol:
        assert self.parts is not None  # connections are accepted after prepare
        return self.parts.heartbeats.protocol()

    def _raft(self) -> IProtocol:
        transport = self.ledger.transport
        return transport.inbound() if transport is not None else NotYet()

    def _admit(self, request: Request) -> int | None:
        assert self.parts is not None
        if request.method == b"POST" and is_below(request.path, b"/cluster/"):
            check_secret(request)
        return self.parts.api.admit(request)

    def _let_go(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()
        if self.entrance is not None:
            self.entrance.close()
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _entrance(self) -> Entrance:
        return Entrance(
            config=self.config,
            address=self.address,
            ledger=self.ledger,
            peers=self.peers,
            reactor=self.reactor,
            random=random.random,
            stopped=self._consensus_stopped,
            entered=self._entered,
        )

    def _assemble(self, entrance: Entrance) -> None:
        """Put the parts together."""
        cluster = Cluster(
            config=self.config,
            address=self.address,
            ledger=self.ledger,
            keys=KeySequence(self.ledger),
            topology=Topology(self.config.volume_size_limit),
            peers=self.peers,
            clock=self.reactor,
            now=time.time,
            rng=random.Random(),
            changes=Changes(self.reactor),
            born=self.reactor.seconds(),
        )
        heartbeats = Heartbeats(cluster)
        members = Members(self.ledger, self.peers, self.reactor)
        office = Office(cluster, heartbeats)
        grower = Grower(cluster)
        assigner = Assigner(cluster, grower, Cookies())
        forwarder = Forwarder(
            cluster, Hops(connector(self.reactor, self.config.security), self.reactor), self._standing
        )
        vacuum = Vacuum(cluster)
        masters = ClusterApi(cluster, self.ledger, entrance, members, forwarder, self.white_list)
        outlook = Outlook(self.peers, self.reactor, self._other_masters)
        api = MasterApi(
            cluster=cluster,
            assigner=assigner,
            grower=grower,
            vacuum=vacuum,
            collections=Collections(cluster, grower),
            submitter=Submitter(assigner, self.peers, self.tokens),
            forwarder=forwarder,
            white_list=self.white_list,
            masters=masters,
            metrics=self._render_metrics,
            tokens=self.tokens,
            overview=Overview(cluster, outlook, masters.beliefs, forwarder.standing, heartbeats.ages),
        )
        orphans = Orphans(cluster, grower, office)
        maintenance = masters.maintenance
        self.parts = Parts(
            cluster, heartbeats, office, members, orphans, vacuum, Recall(cluster), forwarder, api, maintenance
        )
        assert self._site is not None
        self._site.resource = api.app.resource()
        self._site.hot = Hot(HotIds(cluster, assigner, self._site.date, self._is_guarded))

    def startService(self) -> None:
        """Answer requests, listen to volume servers and other masters, and enter the cluster."""
        super().startService()  # type: ignore[no-untyped-call]
        if self.parts is None:
            self.prepare()
        assert self.parts is not None
        assert self.entrance is not None
        self.parts.cluster.born = self.reactor.seconds()
        self._port.startReading()
        self.parts.start()
        self.entrance.start()
        self.warmth.start()
        self.log.info("master {address} keeps its state in {folder}", address=self.address, folder=self.config.mdir)
        if self.config.ip == "localhost":
            self.log.info(
                "this master is known as {address}, so nobody on another host can reach it; "
                "to change that, give --ip the address that others use",
                address=self.address,
            )

    def _entered(self, node: RaftNode) -> None:
        assert self.parts is not None
        self.parts.cluster.born = self.reactor.seconds()  # before, no volume server could come
        self.parts.office.watch(node)
        self.parts.cluster.changes.announce()
        self.log.info(
            "master {address} is node {node} of cluster {cluster}",
            address=self.address,
            node=node.identity.node,
            cluster=node.identity.cluster,
        )

    # ------------------------------------------------------------- stopping

    def stopService(self) -> Deferred[None]:
        """Hand the lead over, take no more connections, finish what is under way, and close all files."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.warmth.stop()
        await self._hand_over()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        if self.parts is not None:
            self.parts.stop()
        if self._site is not None:
            await self._site.drain(FINISH)
        if self.parts is not None:
            self.parts.heartbeats.close()
            await self.parts.forwarder.close()
        if self.entrance is not None:
            await self.entrance.stop()
        await self.peers.close()
        if self.ledger.node is not None:
            await self.ledger.node.stopService()
        self._unlock()
        self.log.info("master {address} has stopped", address=self.address)

    async def _hand_over(self) -> None:
        """Let another master lead, while this one still passes requests on to it."""
        node = self.ledger.node
        if node is None or not self.ledger.has_lead or len(node.core.log.membership.voters) < 2:
            return
        try:
            await node.hand_over().addTimeout(HAND_OVER, self.reactor)
        except (WeedError, TimeoutError) as error:
            self.log.warn(
                "the lead could not be handed over: {reason}", reason=str(error) or "nobody took it in time"
            )

    # ------------------------------------------------------------- meanwhile

    def _standing(self) -> str:
        """Why nobody leads, as far as this master knows."""
        node = self.ledger.node
        if node is None:
            return f"this master is not in a cluster yet: {self.entrance.reason if self.entrance else 'not started'}"
        if node.failed is not None:
            return f"this master takes no part in decisions any more: {node.failed}"
        if self.entrance is not None and self.entrance.reason:
            return self.entrance.reason
        voters = node.core.log.membership.voters
        here = len(voters & (node.status().connected | {node.identity.node}))
        if here < node.core.log.membership.majority:
            return f"no master leads now: {here} of {len(voters)} masters can be reached, a majority is needed"
        return "no master leads now; an election is under way"

    def _other_masters(self) -> list[str]:
        return [address for address in self.cluster.masters if address != self.address]

    async def told(self) -> Iterable["Metric"]:
        """Everything that is counted, for a port of its own."""
        return self.metrics.families(self._numbers())

    def _render_metrics(self) -> tuple[bytes, str]:
        return self.metrics.render(self._numbers())

    def _numbers(self) -> Iterable[Gauge]:
        assert self.parts is not None
        return numbers(self.parts.cluster, self.ledger, self.parts.office, self.parts.heartbeats)

    def _consensus_stopped(self, error: WeedError) -> None:
        # That it was removed is no trouble of its own: somebody wanted it.
        self.log.emit(
            LogLevel.error if isinstance(error, LeftBehind) else LogLevel.critical,
            "this master takes no part in decisions any more: {reason}; mend that and start it again",
            reason=str(error),
        )
        if self.parts is not None:
            self.parts.office.lose()
