"""A node's links to all others: kept in step with the membership, and with where nodes say that they are.

A process is taken for dead when it neither speaks nor listens: its own connection to this node has ended, and
dialling it is refused.  Either alone may be a mere accident on the way.
"""

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from weedtw.errors import PeerError, Unavailable
from weedtw.raft.complaints import Complaints
from weedtw.raft.dial import Connect
from weedtw.raft.lines import Hello
from weedtw.raft.link import Link
from weedtw.raft.membership import Membership, NodeId
from weedtw.raft.messages import Message
from weedtw.raft.peer import Inbound

if TYPE_CHECKING:
    from weedtw.raft.node import RaftNode

MAX_STRANGERS = 16  # nodes of this cluster that called but are not in the membership (yet, or any more)


class Transport:
    """Sends for one node, and admits those who call it."""

    def __init__(
        self,
        node: "RaftNode",
        address: str,
        *,
        connect: Connect,
        clock: IReactorTime,
        rng: random.Random,
        certified: bool = False,
        fast_election: bool = True,
    ) -> None:
        """`address` is where other nodes reach this one, `host:port`; `certified` demands certificates of them.

        Without `fast_election` a node that is gone is waited for as if it could not be heard: leases are then strict.
        """
        self.address = address
        self._fast_election = fast_election
        self._node = node
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._certified = certified
        self._complaints = Complaints(clock)
        self._links: dict[NodeId, Link] = {}
        self._inbound: set[Inbound] = set()  # every connection that others have opened and that has not ended
        self._callers: dict[NodeId, Inbound] = {}  # the admitted ones
        self._announced: dict[NodeId, str] = {}  # where nodes said that they are; newer than the log
        self._refusing: set[NodeId] = set()  # nothing listened where they should be, at the last attempt
        self._membership = Membership()
        self._hanging_up: set[Deferred[None]] = set()
        self._quiet: Deferred[None] = Deferred()  # fires when all inbound connections have ended after a stop
        self._running = False

    def start(self) -> None:
        """Begin to dial the members."""
        self._running = True
        self._quiet = Deferred()
        self.follow(self._node.core.log.membership)

    def stop(self) -> "Deferred[list[tuple[bool, None]]]":
        """Hang up on everybody."""
        self._running = False
        for node in list(self._links):
            self._drop(node)
        for connection in list(self._inbound):
            connection.hang_up()
        self._check_quiet()
        return DeferredList([self._quiet, *self._hanging_up], consumeErrors=True)

    def inbound(self) -> Inbound:
        """A protocol for a connection that somebody has opened to this node."""
        connection = Inbound(self, self._clock, self._complaints.complain, certified=self._certified)
        self._inbound.add(connection)
        return connection

    def send(self, messages: Iterable[Message]) -> None:
        """Send each to its receiver, or drop it: a node that cannot be reached hears of it later."""
        for message in messages:
            link = self._links.get(message.to)
            if link is not None:
                link.send(message)

    def follow(self, membership: Membership) -> None:
        """Dial new members, drop those that are none any more."""
        if not self._running or membership is self._membership:
            return
        before, self._membership = self._membership, membership
        for node, member in membership.members.items():
            if node == self._node.identity.node:
                continue
            if node not in before.members or before.members[node].address != member.address:
                if node in before.members:
                    self._announced.pop(node, None)  # the log knows better now
                self._dial(node, self._announced.get(node, member.address))
        for node in [n for n in self._links if n not in membership and n not in self._callers]:
            self._drop(node)

    def connected(self) -> frozenset[NodeId]:
        """Nodes that messages can leave for now."""
        return frozenset(node for node, link in self._links.items() if link.connected)

    # ------------------------------------------------------------------ where nodes are

    def address_of(self, node: NodeId) -> str | None:
        """Where a node says that it listens, or else where the log has it; None when neither knows."""
        if node == self._node.identity.node:
            return self.address
        member = self._node.core.log.membership.members.get(node)
        return self._announced.get(node, member.address if member is not None else None)

    def learn(self, node: NodeId, address: str) -> None:
        """Somebody trustworthy says that this member listens there now: dial it there."""
        if self._running and node in self._membership and node != self._node.identity.node:
            self._announced[node] = address
            self._dial(node, address)

    # ------------------------------------------------------------------ what callers tell

    def admit(self, connection: Inbound, hello: Hello) -> Hello:
        """Let in whoever belongs to this cluster; the core knows what to make of strangers."""
        own = self._node.hello()
        if hello.cluster != own.cluster:
            raise PeerError(hello.address, f"you are of cluster {hello.cluster}, this is {own.cluster}")
        if hello.node == own.node:
            raise PeerError(hello.address, f"you claim to be node {own.node}, which is here; is your disk a copy?")
        if not self._running:
            raise Unavailable(f"node {own.node} is stopping")
        self._refuse_a_copy(hello)
        if hello.node not in self._membership and hello.node not in self._callers:
            strangers = sum(node not in self._membership for node in self._callers)
            if strangers >= MAX_STRANGERS:
                raise PeerError(hello.address, "too many nodes that are no members are connected")
        self._take_the_place_of_an_older_one(connection, hello)
        self._announced[hello.node] = hello.address
        self._refusing.discard(hello.node)
        self._dial(hello.node, hello.address)
        self._links[hello.node].dial_now()
        return own

    def received(self, message: Message) -> None:
        """A message has come in."""
        self._node.received(message)

    def hung_up(self, connection: Inbound) -> None:
        """A caller is gone.  If it is the process that is, dialling it will be refused."""
        self._inbound.discard(connection)
        self._check_quiet()
        node = next((n for n, caller in self._callers.items() if caller is connection), None)
        if node is None:
            return
        del self._callers[node]
        if not self._running:
            return
        if node not in self._membership:
            self._announced.pop(node, None)
            self._drop(node)
        elif node in self._refusing:
            self._is_gone(node)
        elif node in self._links:
            self._links[node].dial_now()

    def _check_quiet(self) -> None:
        if not self._running and not self._inbound and not self._quiet.called:
            self._quiet.callback(None)

    def _refuse_a_copy(self, hello: Hello) -> None:
        """Two processes with one identity could vote twice: the first one stays, as long as its connection stands."""
        caller = self._callers.get(hello.node)
        if caller is not None and caller.hello is not None and caller.hello.address != hello.address:
            raise PeerError(
                hello.address,
                f"node {hello.node} is connected already, from {caller.hello.address}; is your disk a copy of its?",
            )

    def _take_the_place_of_an_older_one(self, connection: Inbound, hello: Hello) -> None:
        older = self._callers.get(hello.node)
        self._callers[hello.node] = connection
        if older is not None:
            older.hang_up()

    # ------------------------------------------------------------------ what links tell

    def up(self, node: NodeId) -> None:
        """Messages can leave for `node`."""
        self._refusing.discard(node)

    def down(self, node: NodeId) -> None:
        """The connection to `node` has ended."""
        self._node.lost_contact(node)

    def refused(self, node: NodeId) -> None:
        """Nothing listens where `node` should be."""
        self._refusing.add(node)
        if node not in self._callers:
            self._is_gone(node)

    def _is_gone(self, node: NodeId) -> None:
        self._node.lost_contact(node)
        if self._fast_election:
            self._node.refused(node)

    # ------------------------------------------------------------------ links

    def _dial(self, node: NodeId, address: str) -> None:
        link = self._links.get(node)
        if link is not None and link.address == address:
            return
        self._drop(node)
        link = Link(
            node,
            address,
            own_hello=self._node.hello,
            connect=self._connect,
            clock=self._clock,
            rng=self._rng,
            observer=self,
            complaints=self._complaints,
            certified=self._certified,
        )
        self._links[node] = link
        link.start()

    def _drop(self, node: NodeId) -> None:
        link = self._links.pop(node, None)
        self._refusing.discard(node)
        if link is None:
            return
        stopped = link.stop()
        if not stopped.called:
            self._hanging_up.add(stopped)
            stopped.addCallback(lambda _: self._hanging_up.discard(stopped))
