"""A node's links to all others: kept in step with the membership, and with where nodes say that they are."""

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger

from weedtw.errors import PeerError
from weedtw.raft.lines import Hello
from weedtw.raft.membership import Membership, NodeId
from weedtw.raft.messages import Message
from weedtw.raft.peer import Inbound, Link

if TYPE_CHECKING:
    from weedtw.raft.node import RaftNode

MAX_STRANGERS = 16  # nodes of this cluster that called but are not in the membership (yet, or any more)


class Transport:
    """Sends for one node, and admits those who call it."""

    log = Logger()

    def __init__(
        self,
        node: "RaftNode",
        address: str,
        *,
        connect: Callable[[str], IStreamClientEndpoint],
        clock: IReactorTime,
        rng: random.Random,
    ) -> None:
        """`address` is where other nodes reach this one, `host:port`."""
        self.address = address
        self._node = node
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._links: dict[NodeId, Link] = {}
        self._announced: dict[NodeId, str] = {}  # where nodes said that they are; newer than the log
        self._members: frozenset[NodeId] = frozenset()
        self._running = False

    def start(self) -> None:
        """Begin to dial the members."""
        self._running = True
        self.follow(self._node.core.log.membership)

    def stop(self) -> "Deferred[list[tuple[bool, None]]]":
        """Hang up on everybody."""
        self._running = False
        links, self._links = self._links, {}
        return DeferredList([link.stop() for link in links.values()], consumeErrors=True)

    def inbound(self) -> Inbound:
        """A protocol for a connection that somebody has opened to this node."""
        return Inbound(self, self._clock)

    def send(self, messages: Iterable[Message]) -> None:
        """Send each to its receiver, or drop it: a node that cannot be reached hears of it later."""
        for message in messages:
            link = self._links.get(message.to)
            if link is not None:
                link.send(message)

    def follow(self, membership: Membership) -> None:
        """Dial new members, drop those that are none any more."""
        own = self._node.identity.node
        self._members = frozenset(membership.members) - {own}
        if not self._running:
            return
        for node in self._members:
            self._dial(node, self._announced.get(node, membership.members[node].address))
        strangers = [node for node in self._links if node not in self._members]
        for node in strangers[: max(0, len(strangers) - MAX_STRANGERS)]:
            self._drop(node)

    # ------------------------------------------------------------------ listener

    def admit(self, hello: Hello) -> Hello:
        """Let in whoever belongs to this cluster; the core knows what to make of strangers."""
        own = self._node.hello()
        if hello.cluster != own.cluster:
            raise PeerError(hello.address, f"you are of cluster {hello.cluster}, this is {own.cluster}")
        if hello.node == own.node:
            raise PeerError(hello.address, f"you claim to be node {own.node}, which is here; is your disk a copy?")
        self._announced[hello.node] = hello.address
        known = hello.node in self._links or hello.node in self._members
        if not known and len(self._links) - len(self._members) >= MAX_STRANGERS:
            raise PeerError(hello.address, "too many nodes that are no members are connected")
        if self._running:
            self._dial(hello.node, hello.address)
            self._links[hello.node].dial_now()
        return own

    def received(self, message: Message) -> None:
        """A message has come in."""
        self._node.received(message)

    # ------------------------------------------------------------------ links

    def _dial(self, node: NodeId, address: str) -> None:
        link = self._links.get(node)
        if link is not None and link.address == address:
            return
        if link is not None:
            self._drop(node)
        link = Link(
            node,
            address,
            own_hello=self._node.hello,
            connect=self._connect,
            clock=self._clock,
            rng=self._rng,
            lost=self._node.lost_contact,
            refused=self._node.refused,
        )
        self._links[node] = link
        link.start()

    def _drop(self, node: NodeId) -> None:
        self._links.pop(node).stop()
