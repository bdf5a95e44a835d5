"""Hypothesis strategies for what Raft nodes keep and say."""

import uuid
from typing import Any

import attrs
from hypothesis import strategies as st

from weedtw.raft.lines import MAX_NUMBER
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    HardState,
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
from weedtw.raft.storage import StoredState, Update

SENDER = "11111111-1111-4111-8111-111111111111"
TO = "22222222-2222-4222-8222-222222222222"

numbers = st.one_of(st.integers(0, 20), st.integers(0, MAX_NUMBER))
data = st.binary(max_size=40)
nodes = st.uuids().map(str)
hosts = st.sampled_from(["localhost", "10.0.0.7", "[::1]", "master-1.example.org"])
addresses = st.builds(lambda host, port: f"{host}:{port}", hosts, st.integers(1, 65535))
members = st.builds(Member, addresses, st.booleans())
memberships = st.dictionaries(nodes, members, max_size=5).map(Membership)

_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "sender": st.just(SENDER),
    "to": st.just(TO),
    "pre": st.booleans(),
    "transfer": st.booleans(),
    "granted": st.booleans(),
    "rejected": st.booleans(),
}
_PLAIN: list[type[Message]] = [
    VoteRequest,
    VoteReply,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    SnapshotReply,
    TimeoutNow,
]


def _of(cls: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(cls, **{field.name: _FIELDS.get(field.name, numbers) for field in attrs.fields(cls)})


@st.composite
def entry_runs(draw: st.DrawFn, first: int, term: int, *, max_size: int = 4) -> tuple[Entry, ...]:
    """Entries as they follow each other in a log, from index `first` on, of terms from `term` on."""
    entries = []
    for index in range(first, first + draw(st.integers(0, max_size))):
        term += draw(st.integers(0, 2))
        kind = draw(st.sampled_from(EntryKind))
        content = draw(memberships).render() if kind is EntryKind.CONFIG else draw(data)
        entries.append(Entry(index, term, kind, content))
    return tuple(entries)


@st.composite
def appends(draw: st.DrawFn) -> Append:
    """An append whose entries follow from where it says they do."""
    prev_index, prev_term = draw(st.integers(0, 2**40)), draw(st.integers(0, 2**40))
    entries = draw(entry_runs(prev_index + 1, prev_term))
    newest = entries[-1].term if entries else prev_term
    return Append(SENDER, TO, newest + draw(st.integers(0, 3)), prev_index, prev_term, entries, draw(numbers))


@st.composite
def chunks(draw: st.DrawFn) -> SnapshotChunk:
    """A chunk that lies within its snapshot."""
    offset, content = draw(st.integers(0, 2**40)), draw(data)
    total = offset + len(content) + draw(st.integers(0, 9))
    return SnapshotChunk(
        SENDER, TO, draw(numbers), draw(numbers), draw(numbers), draw(memberships), offset, total, content
    )


messages: st.SearchStrategy[Message] = st.one_of(appends(), chunks(), *map(_of, _PLAIN))


@st.composite
def updates(draw: st.DrawFn, state: StoredState) -> Update:
    """What a `ready()` may want stored on top of `state`: more log, a compaction, a leader's snapshot, or several."""
    hard_states = st.builds(HardState, numbers, st.none() | st.builds(lambda: str(uuid.UUID(int=7))), numbers)
    hard_state = draw(st.none() | hard_states)
    last = state.entries[-1].index if state.entries else state.snapshot.index
    if draw(st.integers(0, 5)) == 0:
        index = last + draw(st.integers(1, 5))
        snapshot = Snapshot(index, draw(st.integers(1, 9)), draw(memberships), draw(data))
        return Update(hard_state, draw(entry_runs(index + 1, snapshot.term)), snapshot, True, index + 1)
    first = draw(st.integers(state.snapshot.index + 1, last + 1))
    entries = draw(entry_runs(first, 1))
    last = entries[-1].index if entries else last
    if draw(st.integers(0, 3)) == 0 and last > state.snapshot.index:
        index = draw(st.integers(state.snapshot.index + 1, last))
        kept = state.entries[0].index if state.entries else state.snapshot.index + 1
        keep_from = draw(st.integers(min(kept, index + 1), index + 1))
        return Update(
            hard_state,
            entries,
            Snapshot(index, 1, draw(memberships), draw(data)),
            replaces_log=False,
            keep_from=keep_from,
        )
    return Update(hard_state, entries, None, replaces_log=False, keep_from=0)
