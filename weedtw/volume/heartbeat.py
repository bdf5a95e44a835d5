"""The volume server's side of the heartbeat: one kept connection to every master it has heard of.

Each connection runs the same loop (`conversation`): say who we are, report everything, then what changed, at once
when something appeared or went and at every pulse otherwise.  One that is lost is made again (`link`).

The masters name each other and their leader in every answer, and at once when that changes.  Those that are new get a
connection, those that are named no more lose theirs, and the leader is asked first when a volume has to be looked up.
A master may be reachable under another name than its own (`localhost` for `10.0.0.7`): then the connection under its
own name stays, and the other one is given up.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from weedtw.errors import ChangeRefused
from weedtw.formats.beat import Ack, Welcome
from weedtw.volume.conversation import Reporter
from weedtw.volume.link import Link

MOST_CALLED = 20  # masters whose addresses somebody else may bring us


class Cluster(Protocol):
    """What is remembered of the cluster between two runs."""

    @property
    def cluster_id(self) -> str | None: ...
    @property
    def masters(self) -> tuple[str, ...]: ...
    @property
    def way_out(self) -> str: ...
    def remember(self, cluster_id: str, masters: tuple[str, ...]) -> None: ...


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
        self.leader: str | None = None  # as most of the masters say that we report to
        self.volume_size_limit: int | None = None  # bytes, as the masters say
        self._said_leader: str | None = None  # and that was logged
        self._called: tuple[str, ...] = ()  # addresses that somebody else brought us last
        self._links: dict[str, Link] = {}

    @property
    def cluster_id(self) -> str | None:
        """The cluster that this server belongs to; None before it has joined one."""
        return self.cluster.cluster_id

    @property
    def way_out(self) -> str:
        """What to do to let this server join another cluster."""
        return self.cluster.way_out

    @property
    def is_known(self) -> bool:
        """Whether at least one master has acknowledged what this server holds."""
        return self.volume_size_limit is not None and bool(self.welcome)

    @property
    def masters(self) -> tuple[str, ...]:
        """Addresses to ask, best first: the leader, those that we report to, the others; none that refuses us."""
        asked = [link for link in self._links.values() if not link.refusal]
        asked.sort(key=lambda link: (not link.is_welcome, link.address != self.leader))
        return tuple(link.address for link in asked) if self._links else self.seeds

    @property
    def refusals(self) -> dict[str, str]:
        """Why masters refuse this server, by address."""
        return {link.address: link.refusal for link in self._links.values() if link.refusal}

    def startService(self) -> None:
        """Connect to every master that was named or is remembered."""
        super().startService()  # type: ignore[no-untyped-call]
        self._add(self.seeds, self.cluster.masters)

    def stopService(self) -> Deferred[None]:
        """Say good-bye to every master and close the connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        links = list(self._links.values())
        self._links.clear()
        stopped = DeferredList([link.stop() for link in links], consumeErrors=True)
        return stopped.addCallback(lambda _: None)

    def changed(self) -> None:
        """Report at once: a volume has appeared, gone, or changed its nature."""
        for link in self.welcome:
            assert link.conversation is not None
            link.conversation.change.ring()

    def call(self, cluster_id: str, masters: tuple[str, ...]) -> None:
        """Somebody says that masters of our cluster are at these addresses: report to them if that is so.

        Raises ChangeRefused when it is another cluster.  What the masters answer decides; until one of them takes us
        in, nothing is remembered of it, and the next call takes the place of this one.
        """
        if self.cluster_id not in {None, cluster_id}:
            raise ChangeRefused(f"this server belongs to cluster {self.cluster_id}, not {cluster_id}; {self.way_out}")
        if not self.running:
            return
        before, self._called = self._called, masters[:MOST_CALLED]
        kept = {*self._called, *self.seeds, *self.cluster.masters, *self._named()}
        for address in before:
            link = self._links.get(address)
            if link is not None and not link.is_welcome and address not in kept:
                self._drop(link)
        self._add(self._called)

    # ------------------------------------------------------------- what the links tell

    def joined(self, welcome: Welcome) -> None:
        """A master has taken us in."""
        self._settle(welcome.cluster)

    def acknowledged(self, ack: Ack) -> None:
        """A master has applied a report."""
        self.volume_size_limit = ack.volume_size_limit
        self._settle(self.cluster_id)

    def heard(self) -> None:
        """A master has something new to say about who they are and who leads."""
        self._settle(self.cluster_id)

    def lost(self, link: Link) -> None:
        """A connection is gone; without any other, all who were ever known are tried."""
        if not self.running:
            return
        for other in self._links.values():
            if other.leader == link.address:  # that may not be so any more, and is said again if it is
                other.leader = None
        self._follow()
        if not self.welcome:
            self._add(self.seeds, self.cluster.masters)

    # ------------------------------------------------------------- who leads

    def _follow(self) -> None:
        """Believe what most masters say: one that is cut off from the others does not know yet who leads now."""
        said = [link for link in self.welcome if link.leader is not None]
        votes = Counter(link.leader for link in said)
        said.sort(key=lambda link: (votes[link.leader], link.leader_since))  # of two opinions the newer is the better
        self.leader = said[-1].leader if said else None
        if self.leader is not None and self.leader != self._said_leader:
            self.log.info("the leading master is {leader}", leader=self.leader)
            self._said_leader = self.leader

    # ------------------------------------------------------------- which links there are

    @property
    def welcome(self) -> list[Link]:
        """The links to masters that take this server's reports."""
        return [link for link in self._links.values() if link.is_welcome]

    def _leading(self) -> Link | None:
        """The link to the leader, whose word on the membership is the latest there is; None while there is none."""
        link = self._links.get(self.leader or "")
        return link if link is not None and link.is_welcome and link.masters else None

    def _named(self) -> set[str]:
        """The cluster's masters as the leader names them, or else as any does that we report to."""
        leading = self._leading()
        links = self.welcome if leading is None else [leading]
        return {address for link in links for address in link.masters}

    def _settle(self, cluster_id: str | None) -> None:
        """Draw the conclusions from what was said last."""
        self._follow()
        masters = self._named()
        if self._leading() is None:  # somebody who was removed may speak: forget nobody
            masters |= {*self.cluster.masters}
        remembered = tuple(sorted(masters))
        if cluster_id and remembered and (cluster_id, remembered) != (self.cluster_id, self.cluster.masters):
            self.cluster.remember(cluster_id, remembered)
        if self.running:
            self._review()

    def _review(self) -> None:
        """Open links to masters that are named; give up those that no more are, and other names for the same."""
        named = self._named()
        self._add(sorted(named))
        for address in named:
            self._links[address].was_named = True
        served = {link.address for link in self.welcome}
        for link in list(self._links.values()):
            own = set(link.masters) or named
            if link.address in named:
                continue
            if link.was_named or link.address in own:
                if self._leading() is not None:
                    self.log.info("master {address} does not belong to the cluster any more", address=link.address)
                    self._drop(link, bye=True)
            elif own & served and (not link.is_welcome or own <= served):
                self._say_alias(link, own)
                self._drop(link)

    def _say_alias(self, link: Link, own: set[str]) -> None:
        names = sorted(own)
        if link.masters:
            self.log.info(
                "master {address} calls itself {names}: it is reported to under that name",
                address=link.address,
                names=" or ".join(names),
            )
        else:
            self.log.info(
                "there is no master at {address}; the cluster's are {names}",
                address=link.address,
                names=", ".join(names),
            )

    def _add(self, *lists: "tuple[str, ...] | list[str]") -> None:
        for address in dict.fromkeys(address for addresses in lists for address in addresses):
            if address not in self._links:
                link = self._links[address] = Link(self, address, self.endpoint(address))
                link.start()

    def _drop(self, link: Link, *, bye: bool = False) -> None:
        """Give a link up; no good-bye to a master that has us under another name."""
        del self._links[link.address]
        link.stop(bye=bye).addErrback(
            lambda failure: self.log.failure("closing the link to {address}", failure, address=link.address)
        )
