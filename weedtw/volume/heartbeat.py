"""The volume server's side of the heartbeat: one kept connection to every master it has heard of.

Each connection runs the same loop (`conversation`): say who we are, report everything, then what changed, at once
when something appeared or went and at every pulse otherwise.  One that is lost is made again, with back-off.

The masters name each other and their leader in every answer; the leader is asked first when a volume has to be
looked up.  A master may be reachable under another name than its own (`localhost` for `10.0.0.7`): then the
connection under its own name stays, and the other one is given up.
"""

import random
from collections.abc import Callable
from typing import Protocol

from twisted.application.internet import ClientService, backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from weedtw.formats.beat import Ack, Welcome
from weedtw.volume.conversation import Conversation, Conversations, Reporter

FIRST_DELAY = 0.1  # seconds before the first attempt to connect again
MAX_DELAY = 5.0  # seconds between two attempts
REFUSED_DELAY = 5.0  # seconds before asking again a master that refused us


class Cluster(Protocol):
    """What is remembered of the cluster between two runs."""

    @property
    def cluster_id(self) -> str | None: ...
    @property
    def masters(self) -> tuple[str, ...]: ...
    @property
    def way_out(self) -> str: ...
    def remember(self, cluster_id: str, masters: tuple[str, ...]) -> None: ...


class Link:
    """The way to one master, under one address: a connection that is made again when it is lost."""

    log = Logger()

    def __init__(self, beats: "Heartbeats", address: str) -> None:
        self.beats = beats
        self.address = address
        self.masters: tuple[str, ...] = ()  # as this master last named them
        self.conversation: Conversation | None = None  # while we are welcome
        self.refusal = ""  # why there are no reports, while there are none
        self._fruitless = 0  # connections since the last acknowledgement
        self._was_connected = False  # since the last delay
        self._is_unreachable = False  # and that was logged
        self._backoff = backoffPolicy(FIRST_DELAY, MAX_DELAY, jitter=lambda: random.uniform(0, FIRST_DELAY))
        self.service = ClientService(
            beats.endpoint(address),
            Conversations(self, beats.reporter),
            retryPolicy=self._delay,
            clock=beats.reporter.clock,
        )

    @property
    def is_welcome(self) -> bool:
        return self.conversation is not None

    def objection(self, welcome: Welcome) -> str:
        ours = self.beats.cluster.cluster_id
        if ours in {None, welcome.cluster}:
            return ""
        return f"it belongs to cluster {welcome.cluster}, this server to {ours}"

    def welcomed(self, conversation: Conversation, welcome: Welcome) -> None:
        self.log.info("master {address} takes this server's reports", address=self.address)
        self.conversation = conversation
        self.refusal = ""
        self.heard(welcome.leader, welcome.masters)
        self.beats.joined(welcome)

    def acknowledged(self, ack: Ack) -> None:
        self._fruitless = 0
        self.heard(ack.leader, ack.masters)
        self.beats.acknowledged(ack)

    def heard(self, leader: str | None, masters: tuple[str, ...]) -> None:
        self.masters = masters
        self.beats.heard(leader)

    def refused(self, reason: str) -> None:
        cluster = self.beats.cluster
        if cluster.cluster_id is not None and cluster.cluster_id in reason:  # it is about that
            reason = f"{reason}; {cluster.way_out}"
        if reason != self.refusal:
            self.log.error(
                "no reports to master {address}: {reason}; asking again every {delay:g} s",
                address=self.address,
                reason=reason,
                delay=REFUSED_DELAY,
            )
        self.refusal = reason

    def lost(self, conversation: Conversation) -> None:
        self._was_connected = True
        self._fruitless += 1
        if self.conversation is conversation:
            self.conversation = None
            if self.beats.running:  # otherwise we ended it
                self.log.warn("lost the connection to master {address}", address=self.address)
            self.beats.lost()

    def _delay(self, attempt: int) -> float:
        """Seconds until the next attempt, after a connection was lost or could not be made."""
        if not self._was_connected and not self._is_unreachable:
            self.log.warn("master {address} cannot be reached; trying again", address=self.address)
        self._is_unreachable = not self._was_connected
        self._was_connected = False
        if self.refusal:
            return REFUSED_DELAY
        return self._backoff(max(attempt, self._fruitless - 1))


class Heartbeats(Service):
    """Reports to all masters of the cluster, and knows who they are.

    `reporter` has what there is to say, `endpoint` makes the way to an address, `seeds` are the masters to start
    with.  Nothing is logged as a failure when masters cannot be reached: that is what the next attempt is for.
    """

    log = Logger()

    def __init__(
        self,
        *,
        reporter: Reporter,
        seeds: tuple[str, ...],
        cluster: Cluster,
        endpoint: Callable[[str], IStreamClientEndpoint],
    ) -> None:
        self.reporter = reporter
        self.seeds = seeds
        self.cluster = cluster
        self.endpoint = endpoint
        self.leader: str | None = None
        self.volume_size_limit: int | None = None  # bytes, as the masters say
        self._links: dict[str, Link] = {}

    @property
    def is_known(self) -> bool:
        """Whether at least one master has acknowledged what this server holds."""
        return self.volume_size_limit is not None and any(link.is_welcome for link in self._links.values())

    @property
    def masters(self) -> tuple[str, ...]:
        """Addresses to ask, best first: the leader, those that we report to, the others."""
        order = sorted(self._links.values(), key=lambda link: not link.is_welcome)
        addresses = [link.address for link in order] or [*self.seeds]
        if self.leader in addresses:
            addresses.remove(self.leader)
            addresses.insert(0, self.leader)
        return tuple(addresses)

    @property
    def refusals(self) -> dict[str, str]:
        """Why masters refuse this server, by address."""
        return {link.address: link.refusal for link in self._links.values() if link.refusal}

    def startService(self) -> None:
        """Connect to every master that was named or is remembered."""
        super().startService()  # type: ignore[no-untyped-call]
        for address in (*self.seeds, *self.cluster.masters):
            self._add(address)

    def stopService(self) -> Deferred[None]:
        """Say good-bye to every master and close the connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        links = list(self._links.values())
        self._links.clear()
        for link in links:
            if link.conversation is not None:
                link.conversation.bye()
        stopped = DeferredList([link.service.stopService() for link in links], consumeErrors=True)
        return stopped.addCallback(lambda _: None)

    def changed(self) -> None:
        """Report at once: a volume has appeared, gone, or changed its nature."""
        for link in self._links.values():
            if link.conversation is not None:
                link.conversation.change.ring()

    # ------------------------------------------------------------- what the links tell

    def joined(self, welcome: Welcome) -> None:
        """A master has taken us in."""
        self._remember(welcome.cluster)
        self._review()

    def acknowledged(self, ack: Ack) -> None:
        """A master has applied a report."""
        self.volume_size_limit = ack.volume_size_limit
        if self.cluster.cluster_id is not None:
            self._remember(self.cluster.cluster_id)
        self._review()

    def heard(self, leader: str | None) -> None:
        """A master has named the leader."""
        if leader is not None and leader != self.leader:
            self.log.info("the leading master is {leader}", leader=leader)
            self.leader = leader

    def lost(self) -> None:
        """A connection is gone; without any other, those we were told to start with are tried as well."""
        if self.running and not any(link.is_welcome for link in self._links.values()):
            for address in self.seeds:
                self._add(address)

    # ------------------------------------------------------------- which links there are

    def _remember(self, cluster_id: str) -> None:
        named = {address for link in self._links.values() if link.is_welcome for address in link.masters}
        masters = tuple(sorted(named))
        if masters and (cluster_id, masters) != (self.cluster.cluster_id, self.cluster.masters):
            self.cluster.remember(cluster_id, masters)

    def _review(self) -> None:
        """Open links to masters that were named; give up other names for the same, and those nobody names."""
        if not self.running:
            return
        welcome = [link for link in self._links.values() if link.is_welcome]
        named = {address for link in welcome for address in link.masters}
        for address in named:
            self._add(address)
        served = {link.address for link in welcome}
        for link in list(self._links.values()):
            own = set(link.masters) or named
            is_alias = link.address not in own and bool(own & served)
            if is_alias and (not link.is_welcome or own <= served) and link.address not in named:
                self._drop(link, own)

    def _add(self, address: str) -> None:
        if address not in self._links:
            link = self._links[address] = Link(self, address)
            link.service.startService()

    def _drop(self, link: Link, own: set[str]) -> None:
        names = " or ".join(sorted(own))
        self.log.info(
            "master {address} calls itself {names}: it is reported to under that name",
            address=link.address,
            names=names,
        )
        del self._links[link.address]
        link.conversation = None
        link.service.stopService().addErrback(
            lambda failure: self.log.failure("closing the link to {address}", failure, address=link.address)
        )
