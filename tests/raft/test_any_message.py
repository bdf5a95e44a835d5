"""Well-formed messages of any content, in any role: the core refuses some of them, and never breaks."""

import itertools
import random
from collections.abc import Callable

import attrs
from hypothesis import given, note, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.solo import SETTINGS, membership
from weedtw.errors import BadRequest, InvariantBroken, WeedError
from weedtw.raft.core import RaftCore, Ready
from weedtw.raft.leader import Leader
from weedtw.raft.lines import MAX_NUMBER, decode, encode
from weedtw.raft.membership import AddLearner, Demote, Promote, Remove
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
from weedtw.raft.storage import MemoryStorage, StoredState

Action = Callable[["Driven"], None]

# Mostly near what the node has, so that messages are not all refused for their term.
near = st.integers(0, 9)
numbers = st.one_of(near, near, near, st.integers(0, MAX_NUMBER))
senders = st.sampled_from("234569")  # 9 is no member
flags = st.booleans()
memberships = st.sampled_from(
    [membership("1"), membership("123"), membership("23", "1"), membership("12345", "6"), membership("", "12")]
)


class Driven:
    """Node 1, whose writes end when the test says so."""

    def __init__(self, stored: StoredState, seed: int) -> None:
        self.storage = MemoryStorage(stored)
        self.core = RaftCore("1", stored, SETTINGS, random.Random(seed))
        self.ready: Ready | None = None
        self.terms = [self.core.term]

    def act(self, action: Callable[[RaftCore], object], *allowed: type[Exception]) -> None:
        try:
            action(self.core)
        except InvariantBroken:
            raise
        except allowed as refused:
            note(f"refused: {refused}")
        for message in self.core.urgent():
            self.check_message(message)
        self.check()

    def turn(self) -> None:
        """Begin a write, or end the one under way."""
        if self.ready is None:
            if self.core.has_ready():
                self.ready = self.core.ready()
        else:
            if self.ready.update is not None:
                self.storage.save(self.ready.update)
            for message in self.ready.messages:
                self.check_message(message)
            self.core.advance(self.ready)
            self.ready = None
        self.check()

    def check_message(self, message: Message) -> None:
        assert message.to != "1"
        if message.term <= MAX_NUMBER // 2:  # a node that was told of the last term there is can say no higher one
            assert decode(encode(message), message.sender, message.to) == message

    def check(self) -> None:
        core, log = self.core, self.core.log
        assert core.term >= self.terms[-1]
        self.terms.append(core.term)
        assert log.snapshot.index <= log.applied <= log.commit <= log.last_index
        assert log.stable <= log.last_index
        kept = [log.term(index) for index in range(log.base_index, log.last_index + 1)]
        assert all(a is not None and b is not None and a <= b for a, b in itertools.pairwise(kept)), kept
        assert log.last_term <= core.term
        assert log.snapshot.index <= log.membership_index <= log.last_index or log.membership_index == 0
        if isinstance(core.role, Leader):
            assert core.vote == "1"
            for progress in core.role.progress.values():
                assert 0 <= progress.match < progress.next <= log.last_index + 1


@st.composite
def entries(draw: st.DrawFn, first: int, term: int, newest: int) -> tuple[Entry, ...]:
    made = []
    for index in range(first, first + draw(st.integers(0, 4))):
        term = draw(st.integers(term, newest))
        kind = draw(st.sampled_from(EntryKind))
        made.append(Entry(index, term, kind, draw(memberships).render() if kind is EntryKind.CONFIG else b"x"))
    return tuple(made)


@st.composite
def appends(draw: st.DrawFn) -> Append:
    term, prev_index, prev_term = draw(numbers), draw(numbers), draw(numbers)
    prev_index = min(prev_index, MAX_NUMBER - 4)
    behind = draw(entries(prev_index + 1, prev_term, term)) if prev_term <= term else ()
    return Append(draw(senders), "1", term, prev_index, prev_term, behind, draw(numbers))


@st.composite
def chunks(draw: st.DrawFn) -> SnapshotChunk:
    data = draw(st.binary(max_size=3))
    offset = draw(st.integers(0, 4))
    total = offset + len(data) + draw(st.sampled_from((0, 0, 1, 1 << 40)))
    place = draw(numbers), draw(numbers), draw(numbers)
    return SnapshotChunk(draw(senders), "1", *place, draw(memberships), offset, total, data)


messages: st.SearchStrategy[Message] = st.one_of(
    appends(),
    chunks(),
    st.builds(VoteRequest, senders, st.just("1"), numbers, numbers, numbers, flags, flags),
    st.builds(VoteReply, senders, st.just("1"), numbers, flags, flags),
    st.builds(AppendReply, senders, st.just("1"), numbers, numbers, flags, numbers, numbers),
    st.builds(Heartbeat, senders, st.just("1"), numbers, numbers, numbers),
    st.builds(HeartbeatReply, senders, st.just("1"), numbers, numbers),
    st.builds(SnapshotReply, senders, st.just("1"), numbers, numbers, numbers),
    st.builds(TimeoutNow, senders, st.just("1"), numbers),
)


def _step(message: Message) -> Action:
    return lambda node: node.act(lambda core: core.step(message), BadRequest)


def _step_now(message: Message) -> Action:
    """The same message, but of the term in which it arrives; of the next one, where it asks about that."""

    def step(node: Driven) -> None:
        term = node.core.term + (getattr(message, "pre", False) is True)
        now = attrs.evolve(message, term=term)
        if isinstance(now, Append):
            run = now.entries if now.prev_term <= term else ()
            now = attrs.evolve(now, entries=tuple(e for e in run if e.term <= term))
        _step(now)(node)

    return step


def _win(node: Driven) -> None:
    """Whatever it campaigns for, everybody is for it."""
    core = node.core
    if core.role.name in ("pre-candidate", "candidate"):
        pre = core.role.name == "pre-candidate"
        for voter in "2345":
            _step(VoteReply(voter, "1", core.term + pre, granted=True, pre=pre))(node)


def _agree(node: Driven) -> None:
    """All that it has stored is acknowledged by everybody."""
    for member in "2345":
        _step(AppendReply(member, "1", node.core.term, node.core.log.stable))(node)


def _compact(node: Driven) -> None:
    node.act(lambda core: core.compact(core.log.applied, b"state"))


def _gone(member: str) -> Action:
    def gone(core: RaftCore) -> None:
        core.lost_contact(member)
        core.refused(member)

    return lambda node: node.act(gone)


def _tick(count: int) -> Action:
    return lambda node: node.act(lambda core: core.tick(count))


def _ask(action: Callable[[RaftCore], object]) -> Action:
    return lambda node: node.act(action, WeedError)


changes = st.one_of(
    st.builds(AddLearner, st.sampled_from("67"), st.just("host:1")),
    st.builds(Promote, senders),
    st.builds(Demote, st.sampled_from("123456")),
    st.builds(Remove, st.sampled_from("123456")),
)
actions: st.SearchStrategy[Action] = st.one_of(
    messages.map(_step),
    messages.map(_step_now),
    messages.map(_step_now),
    st.sampled_from((1, 3, SETTINGS.election, 2 * SETTINGS.election)).map(_tick),
    st.sampled_from((Driven.turn, Driven.turn, _win, _agree, _compact)),
    st.one_of(
        senders.map(_gone),
        st.just(_ask(lambda core: core.propose(b"command"))),
        st.just(_ask(lambda core: core.read_index("token"))),
        st.just(_ask(RaftCore.step_down)),
        changes.map(lambda change: _ask(lambda core: core.change(change))),
        senders.map(lambda target: _ask(lambda core: core.transfer(target))),
    ),
)


@st.composite
def states(draw: st.DrawFn) -> StoredState:
    """What a node may begin with."""
    snapshot = Snapshot(draw(st.sampled_from((0, 0, 2))), draw(st.integers(0, 2)), draw(memberships))
    log = draw(entries(snapshot.index + 1, snapshot.term, 4))
    term = max([snapshot.term, *(entry.term for entry in log)]) + draw(st.integers(0, 1))
    return StoredState(HardState(term, draw(st.sampled_from((None, "1", "2"))), draw(near)), snapshot, log)


# How node 1 comes to a role, if its membership lets it: messages alone seldom lead there.
CAMPAIGN: tuple[Action, ...] = (_tick(2 * SETTINGS.election), Driven.turn, Driven.turn)
BEGINNINGS: dict[str, tuple[Action, ...]] = {
    "follower": (),
    "pre-candidate": CAMPAIGN,
    "candidate": (*CAMPAIGN, _win, Driven.turn, Driven.turn),
    "leader": (*CAMPAIGN, _win, Driven.turn, Driven.turn, _win, Driven.turn, Driven.turn, _agree),
}


class AnyMessage(SynchronousTestCase):
    @settings(max_examples=400, deadline=None)
    @given(states(), st.sampled_from(sorted(BEGINNINGS)), st.lists(actions, max_size=40), st.integers(0, 99))
    def test_nothing_breaks_the_core(
        self, stored: StoredState, beginning: str, script: list[Action], seed: int
    ) -> None:
        node = Driven(stored, seed)
        for action in (*BEGINNINGS[beginning], *script):
            action(node)  # each checks what it has led to
        node.check()

    def test_beginnings_lead_to_their_roles(self) -> None:
        for role, beginning in BEGINNINGS.items():
            for seed in range(10):
                node = Driven(StoredState(snapshot=Snapshot(membership=membership("123"))), seed)
                for action in beginning:
                    action(node)
                self.assertEqual(node.core.role.name, role)
        self.assertEqual(node.core.log.commit, node.core.log.last_index)
