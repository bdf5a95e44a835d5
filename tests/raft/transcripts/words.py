"""How a transcript spells what nodes hold and say.  `5@2` is the entry (or the end of a log) at index 5 of term 2."""

from weedtw.raft.membership import Membership
from weedtw.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    Snapshot,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)


def address_of(node: str) -> str:
    """Where a node listens unless an address was changed."""
    return f"host{node}:9333"


def members(membership: Membership) -> str:
    """Voters, learners in brackets, and addresses other than the usual one: `1 2 3 (4) 2=elsewhere:9333`."""
    nodes = sorted(membership.members)
    words = [node if membership.members[node].voter else f"({node})" for node in nodes]
    moved = [
        f"{node}={membership.members[node].address}"
        for node in nodes
        if membership.members[node].address != address_of(node)
    ]
    return " ".join(words + moved) or "nobody"


def entry(item: Entry) -> str:
    """Where it stands and what it says."""
    match item.kind:
        case EntryKind.NOOP:
            what = "noop"
        case EntryKind.CONFIG:
            what = f"members {members(Membership.parse(item.data))}"
        case _:
            what = f'"{item.data.decode()}"'
    return f"{item.index}@{item.term} {what}"


def entries(items: tuple[Entry, ...]) -> str:
    """All of them, or that there are none."""
    return ", ".join(map(entry, items)) or "nothing"


def snapshot(item: Snapshot) -> str:
    """Where it stands, what the state machine held, and who belonged to the cluster."""
    return f'snapshot {item.index}@{item.term} "{item.data.decode()}" members {members(item.membership)}'


def message(item: Message) -> str:
    """What it says; the first word is its kind, by which commands select messages."""
    match item:
        case VoteRequest():
            kind, why = "pre-vote" if item.pre else "vote", ", the leader asked for it" if item.transfer else ""
            return f"{kind} for term {item.term}, log ends {item.last_index}@{item.last_term}{why}"
        case VoteReply():
            kind = "pre-voted" if item.pre else "voted"
            return f"{kind} {'yes' if item.granted else 'no'}, term {item.term}"
        case Append():
            after = f"{item.prev_index}@{item.prev_term}"
            return f"append term {item.term} after {after}: {entries(item.entries)}; commit {item.commit}"
        case AppendReply() if item.rejected:
            return f"rejected term {item.term} at {item.index}, try {item.hint_index}@{item.hint_term}"
        case AppendReply():
            return f"appended term {item.term} up to {item.index}"
        case Heartbeat():
            return f"beat term {item.term} round {item.round} commit {item.commit}"
        case HeartbeatReply():
            return f"beaten term {item.term} round {item.round}"
        case SnapshotChunk():
            end = item.offset + len(item.data)
            return f"chunk term {item.term} of {item.index}@{item.index_term}: {item.offset} to {end} of {item.total}"
        case SnapshotReply():
            return f"chunked term {item.term} of {item.index}: has {item.offset}"
        case TimeoutNow():
            return f"campaign term {item.term}"
