"""The way to one master, under one address: a connection that is made again when it is lost, and what is known of it.

How soon it is made again depends on what happened.  A master that cannot be reached may be back any moment and costs
nothing to try; one that does not want us, or never acknowledges anything, is asked ever more rarely.
"""

import random
from collections.abc import Callable
from typing import Protocol

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from weedtw.formats.beat import Ack, Welcome
from weedtw.volume.conversation import Conversation, Conversations, Reporter

FIRST_DELAY = 0.1  # seconds before the first attempt to connect again
MAX_DELAY = 1.0  # seconds between two attempts to reach a master
FRUITLESS_DELAY = 5.0  # seconds at most between two connections that brought nothing
REFUSED_DELAY = 5.0  # seconds at most between two times that a master refuses us; less after the first ones
LEAST_REFUSED_DELAY = 1.0  # seconds at least, also when it has kept us waiting for its refusal


class Hub(Protocol):
    """Whom a link tells."""

    running: int
    reporter: Reporter

    @property
    def cluster_id(self) -> str | None: ...
    @property
    def way_out(self) -> str: ...
    def joined(self, welcome: Welcome) -> None: ...
    def acknowledged(self, ack: Ack) -> None: ...
    def heard(self) -> None: ...
    def lost(self, link: "Link") -> None: ...


class Link:
    """One of a server's masters."""

    log = Logger()

    def __init__(self, hub: Hub, address: str, endpoint: IStreamClientEndpoint) -> None:
        """Nothing is connected before `start`."""
        self.hub = hub
        self.address = address
        self.masters: tuple[str, ...] = ()  # as this master last named them
        self.leader: str | None = None  # as this master last said, while we are welcome
        self.leader_since = 0.0  # when it began to say so, on the clock
        self.was_named = False  # whether the cluster's masters have had one of this address
        self.conversation: Conversation | None = None  # while we are welcome
        self.refusal = ""  # why there are no reports, while there are none
        self._refusals = 0  # since the last welcome
        self._held = 0.0  # seconds that the last connection lasted
        self._fruitless = 0  # connections since the last acknowledgement
        self._was_connected = False  # since the last delay
        self._is_unreachable = False  # and that was logged
        self._reach = _backoff(min(MAX_DELAY, hub.reporter.pulse))
        self._bear = _backoff(FRUITLESS_DELAY)
        self._service = ClientService(
            endpoint,
            Conversations(self, hub.reporter),
            retryPolicy=self._delay,
            clock=hub.reporter.clock,
        )

    def start(self) -> None:
        """Connect, and keep connected."""
        self._service.startService()

    def stop(self, *, bye: bool = True) -> Deferred[None]:
        """Close the connection, with a good-bye if `bye` says so, and make no other."""
        conversation, self.conversation = self.conversation, None
        if conversation is not None and bye:
            conversation.bye()
        return self._service.stopService()

    @property
    def is_welcome(self) -> bool:
        """Whether this master takes our reports."""
        return self.conversation is not None

    # ------------------------------------------------------------- what the conversation tells

    def objection(self, welcome: Welcome) -> str:
        """See Listener."""
        ours = self.hub.cluster_id
        if ours in {None, welcome.cluster}:
            return ""
        return f"it belongs to cluster {welcome.cluster}, this server to {ours}"

    def welcomed(self, conversation: Conversation, welcome: Welcome) -> None:
        """See Listener."""
        self.log.info("master {address} takes this server's reports", address=self.address)
        self.conversation = conversation
        self.refusal, self._refusals = "", 0
        self._take(welcome.leader, welcome.masters)
        self.hub.joined(welcome)

    def acknowledged(self, ack: Ack) -> None:
        """See Listener."""
        self._fruitless = 0
        self._take(ack.leader, ack.masters)
        self.hub.acknowledged(ack)

    def heard(self, leader: str | None, masters: tuple[str, ...]) -> None:
        """See Listener."""
        if self.is_welcome:
            self._take(leader, masters)
            self.hub.heard()

    def _take(self, leader: str | None, masters: tuple[str, ...]) -> None:
        self.masters = masters
        if leader != self.leader:
            self.leader, self.leader_since = leader, self.hub.reporter.clock.seconds()

    def refused(self, reason: str) -> None:
        """See Listener."""
        ours = self.hub.cluster_id
        if ours is not None and ours in reason:  # it is about that
            reason = f"{reason}; {self.hub.way_out}"
        if reason != self.refusal:
            self.log.error(
                "no reports to master {address}: {reason}; asking again", address=self.address, reason=reason
            )
        self.refusal = reason
        self._refusals += 1

    def lost(self, conversation: Conversation) -> None:
        """See Listener."""
        self._was_connected = True
        self._held = conversation.lasted
        self._fruitless += 1
        if self.conversation is conversation:
            self.conversation = self.leader = None
            if self.hub.running:  # otherwise we ended it
                self.log.warn("lost the connection to master {address}", address=self.address)
            self.hub.lost(self)

    # ------------------------------------------------------------- connecting again

    def _delay(self, attempt: int) -> float:
        """Seconds until the next attempt, after a connection was lost or could not be made."""
        was_connected, self._was_connected = self._was_connected, False
        if not was_connected and not self._is_unreachable:
            self.log.warn("master {address} cannot be reached; trying again", address=self.address)
        self._is_unreachable = not was_connected
        if not was_connected:
            return self._reach(attempt)
        if self.refusal:
            pause = min(LEAST_REFUSED_DELAY * 2.0 ** min(self._refusals - 1, 10), REFUSED_DELAY)
            return max(pause - self._held, LEAST_REFUSED_DELAY)
        return self._bear(self._fruitless - 1)


def _backoff(longest: float) -> Callable[[int], float]:
    policy: Callable[[int], float] = backoffPolicy(
        FIRST_DELAY, longest, jitter=lambda: random.uniform(0, FIRST_DELAY)
    )
    return policy
