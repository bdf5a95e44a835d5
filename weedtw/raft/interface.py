"""What a node asks of those who use it, and what it tells them."""

import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import attrs

from weedtw.raft.membership import Membership, NodeId


class StateMachine(Protocol):
    """What the log is for.  All calls come from the reactor's thread, and must not block."""

    def apply(self, index: int, data: bytes) -> object:
        """Carry out a committed command.

        What it returns goes to the proposer, and so does a `WeedError` that it raises: a refusal, which must be the
        same on every node.  Anything else that it raises stops the node.
        """

    def snapshot(self) -> bytes:
        """The whole content, as of the last command applied."""

    def restore(self, data: bytes) -> None:
        """Replace the whole content; `b""` is the beginning."""


@attrs.frozen
class Status:
    """What a node believes."""

    node: NodeId
    role: str
    term: int
    leader: NodeId | None
    membership: Membership
    last_index: int
    commit: int
    applied: int
    snapshot_index: int
    has_lease: bool
    stuck: bool
    failed: str | None
    connected: frozenset[NodeId]  # nodes that messages can leave for


@attrs.frozen
class Changed:
    """An event: role, leader, term or membership are not what they were."""

    status: Status


@attrs.frozen
class Timing:
    """Seconds, and entries between snapshots."""

    tick: float = 0.02
    propose: float = 5.0  # until a proposal's fate is reported as unknown
    settle: float = 1.0  # the same, once the lead is lost
    stuck: float = 2.0  # until a write that does not end costs the lead
    snapshot_every: int = 10_000


elapsed: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds on a clock that nobody sets, and that goes on while the machine sleeps: a lease must end meanwhile."""
