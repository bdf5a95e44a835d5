"""The master as a Twisted service: its folder, its port, the volume servers' heartbeats, and an end in good order.

service = MasterService(config, reactor)
service.prepare()        binds the port, takes the folder, opens the ledger; raises WeedError
service.startService()   answers
service.stopService()    a Deferred: requests under way have finished, decisions are on the disk
"""

import os
import random
import secrets
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.web.resource import Resource

from weedtw.config.folders import make_folder
from weedtw.config.model import MasterConfig, join_address
from weedtw.errors import WeedError
from weedtw.formats.beat import PREFIX
from weedtw.http.agent import make_agent
from weedtw.http.channel import Site, make_site
from weedtw.http.guard import WhiteList
from weedtw.http.listen import listen
from weedtw.http.requests import Request
from weedtw.master.api import MasterApi
from weedtw.master.assign import Assigner
from weedtw.master.cluster import Cluster
from weedtw.master.collection import Collections
from weedtw.master.flight import Changes
from weedtw.master.growth import Grower
from weedtw.master.heartbeats import Beats, Heartbeats
from weedtw.master.keys import KeySequence
from weedtw.master.ledger import SoloLedger
from weedtw.master.ledgerfile import LedgerFile, lock_folder
from weedtw.master.submit import Submitter
from weedtw.master.vacuum import Vacuum
from weedtw.topology.tree import Topology

FINISH = 10.0  # seconds that requests under way have to end when the service stops
FORM_SLACK = 64 * 1024  # bytes that a multipart form takes beside the file in it
SUBMITS_IN_FLIGHT = 16  # uploads of the largest size allowed that /submit holds on disk at once; more have to wait


class MasterService(Service):
    """One master."""

    log = Logger()

    def __init__(self, config: MasterConfig, reactor: Any) -> None:
        """Nothing is touched before `prepare`."""
        self.config = config
        self.reactor = reactor
        self.white_list = WhiteList.parse(config.white_list)
        self.peers = make_agent(reactor)
        self.cluster: Cluster | None = None
        self._lock: int | None = None
        self._file: LedgerFile | None = None
        self._port: Any = None  # a twisted.internet.tcp.Port
        self._bound = 0  # its number
        self._site: Site | None = None
        self._threads = ThreadPool(1, 1, "ledger")
        self._ledger: SoloLedger | None = None
        self._heartbeats: Heartbeats | None = None
        self._vacuum: Vacuum | None = None
        self._api: MasterApi | None = None

    @property
    def address(self) -> str:
        """`ip:port`, with the port that was bound when none was asked for."""
        return join_address(self.config.ip, self._bound or self.config.port)

    # ------------------------------------------------------------- starting

    def prepare(self) -> None:
        """Bind the port, take the folder, open the ledger; raises WeedError, and then holds nothing.

        In this order, because what cannot start must not leave a new cluster behind.
        """
        try:
            if self._port is None:
                self.bind()
            if self._lock is None:
                self.hold()
            self._file = LedgerFile.open(self.config.mdir)
            self._file.found_cluster()
        except WeedError:
            self._let_go()
            raise
        self._assemble(self._file)

    def hold(self) -> None:
        """The second step of `prepare`: take the folder, and make it if it is not there; raises WeedError."""
        if make_folder(self.config.mdir):
            self.log.info("made the folder {folder}, which was not there", folder=self.config.mdir)
        self._lock = lock_folder(self.config.mdir)

    def bind(self) -> None:
        """The first step: take the port, and change nothing yet; raises WeedError."""
        config = self.config
        self._site = make_site(
            Resource(),  # until there is something to serve
            reactor=self.reactor,
            body_limit=(config.file_size_limit_mb << 20) + FORM_SLACK,
            protocols={PREFIX: self._beats},
            spool_folder=config.mdir,
            in_flight_limit=SUBMITS_IN_FLIGHT * (config.file_size_limit_mb << 20),
            admission=self._admit,
        )
        self._port = listen(
            self.reactor,
            self._site,
            ip=config.ip,
            bind=config.bind,
            port=config.port,
            port_option=config.port_option,
        )
        self._bound = self._port.getHost().port

    def _beats(self) -> Beats:
        assert self._heartbeats is not None  # connections are accepted after prepare
        return self._heartbeats.protocol()

    def _admit(self, request: Request) -> int | None:
        assert self._api is not None
        return self._api.admit(request)

    def _let_go(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()
        if self._file is not None:
            self._file.close()
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _assemble(self, file: LedgerFile) -> None:
        """Put the parts together."""
        ledger = self._ledger = SoloLedger(file, self.address, self._in_thread, self._disk_failed)
        cluster = self.cluster = Cluster(
            config=self.config,
            address=self.address,
            ledger=ledger,
            keys=KeySequence(ledger),
            topology=Topology(self.config.volume_size_limit),
            peers=self.peers,
            clock=self.reactor,
            rng=random.Random(),
            changes=Changes(self.reactor),
            born=self.reactor.seconds(),
        )
        self._heartbeats = Heartbeats(cluster)
        grower = Grower(cluster)
        assigner = Assigner(cluster, grower, lambda: secrets.randbits(32))
        self._vacuum = Vacuum(cluster)
        self._api = MasterApi(
            cluster=cluster,
            assigner=assigner,
            grower=grower,
            vacuum=self._vacuum,
            collections=Collections(cluster, grower),
            submitter=Submitter(assigner, self.peers),
            white_list=self.white_list,
        )
        assert self._site is not None
        self._site.resource = self._api.app.resource()

    def _in_thread(self, work: Any) -> Deferred[None]:
        return deferToThreadPool(self.reactor, self._threads, work)

    def startService(self) -> None:
        """Answer requests, and listen to volume servers."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._api is None:
            self.prepare()
        assert self.cluster is not None
        assert self._vacuum is not None
        self.cluster.born = self.reactor.seconds()
        self._threads.start()
        self._port.startReading()
        self._vacuum.start()
        self.log.info(
            "master {address} of cluster {cluster} keeps its state in {folder}",
            address=self.address,
            cluster=self.cluster.ledger.state.cluster_id,
            folder=self.config.mdir,
        )

        if self.config.ip == "localhost":
            self.log.info(
                "this master is known as {address}, so nobody on another host can reach it; "
                "to change that, give --ip the address that others use",
                address=self.address,
            )

    # ------------------------------------------------------------- stopping

    def stopService(self) -> Deferred[None]:
        """Take no more connections, finish what is under way, and close the ledger."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        if self._vacuum is not None:
            self._vacuum.stop()
        if self._site is not None:
            await self._site.drain(FINISH)
        if self._heartbeats is not None:
            self._heartbeats.close()
        await self.peers.close()
        if self._ledger is not None:
            await self._ledger.close()
        self._threads.stop()
        self._unlock()
        self.log.info("master {address} has stopped", address=self.address)

    # ------------------------------------------------------------- meanwhile

    def _disk_failed(self, error: WeedError) -> None:
        self.log.critical(
            "the ledger cannot be written any more: {reason}; this master gives out no ids until it is started again",
            reason=str(error),
        )
        if self.cluster is not None and self._heartbeats is not None:
            self.cluster.keys.drop()
            self._heartbeats.tell_leader()
