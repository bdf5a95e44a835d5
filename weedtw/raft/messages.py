"""What Raft nodes say to each other, and what they keep.  Values only.

Indexes and terms start at 1; 0 means "before the first".  Every message names its sender, its receiver and the
sender's term (for a pre-vote: the term that it would campaign in).
"""

import enum

import attrs

from weedtw.raft.membership import Membership, NodeId


class EntryKind(enum.IntEnum):
    """What a log entry is for."""

    COMMAND = 0  # `data` is the state machine's
    NOOP = 1  # the first entry of every term; nothing is decided before it is applied
    CONFIG = 2  # `data` is a rendered `Membership`, in force from the moment it is appended


@attrs.frozen
class Entry:
    """One log entry.  Term and index together identify its content, in every log (log matching)."""

    index: int
    term: int
    kind: EntryKind = EntryKind.COMMAND
    data: bytes = b""

    @property
    def size(self) -> int:
        """Bytes this entry counts for in batches and limits: its data and some framing."""
        return len(self.data) + 64


@attrs.frozen
class HardState:
    """What must survive a crash besides the log: the term, the vote given in it, and (as a hint) the commit."""

    term: int = 0
    vote: NodeId | None = None
    commit: int = 0


def _length(data: bytes) -> str:
    return f"<{len(data)} bytes>"


@attrs.frozen
class Snapshot:
    """The state machine after applying everything up to `index`, with the membership in force there."""

    index: int = 0
    term: int = 0
    membership: Membership = attrs.field(factory=Membership)
    data: bytes = attrs.field(default=b"", repr=_length)


# ------------------------------------------------------------------ messages


@attrs.frozen
class VoteRequest:
    """A candidate asks for a vote; `pre` only asks whether it would get it (dissertation §9.6).

    `transfer` says that the leader itself asked for this election, so that voters need not wait for its lease to end.
    """

    sender: NodeId
    to: NodeId
    term: int
    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False


@attrs.frozen
class VoteReply:
    """The answer to a `VoteRequest`.  A granted pre-vote bears the term asked for, a refusal the voter's own."""

    sender: NodeId
    to: NodeId
    term: int
    granted: bool
    pre: bool = False


@attrs.frozen
class Append:
    """Entries that follow (`prev_index`, `prev_term`) in the leader's log, and how far it has committed."""

    sender: NodeId
    to: NodeId
    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int


@attrs.frozen
class AppendReply:
    """The logs match up to `index`; or, `rejected`, they do not match there, and `hint` says where to try."""

    sender: NodeId
    to: NodeId
    term: int
    index: int
    rejected: bool = False
    hint_index: int = 0
    hint_term: int = 0


@attrs.frozen
class Heartbeat:
    """The leader lives.  `round` numbers its heartbeats within the term; the answer repeats it."""

    sender: NodeId
    to: NodeId
    term: int
    commit: int
    round: int


@attrs.frozen
class HeartbeatReply:
    """The follower heard round `round`, and will vote for nobody else for an election timeout from then on."""

    sender: NodeId
    to: NodeId
    term: int
    round: int


@attrs.frozen
class SnapshotChunk:
    """The bytes of a snapshot from `offset` on; `total` is the length of the whole."""

    sender: NodeId
    to: NodeId
    term: int
    index: int
    index_term: int
    membership: Membership
    offset: int
    total: int
    data: bytes = attrs.field(repr=_length)


@attrs.frozen
class SnapshotReply:
    """The follower has the first `offset` bytes of the snapshot at `index`."""

    sender: NodeId
    to: NodeId
    term: int
    index: int
    offset: int


@attrs.frozen
class TimeoutNow:
    """The leader asks the receiver to campaign at once (leadership transfer, dissertation §3.10)."""

    sender: NodeId
    to: NodeId
    term: int


Message = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | SnapshotChunk
    | SnapshotReply
    | TimeoutNow
)
