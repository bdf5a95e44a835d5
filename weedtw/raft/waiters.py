"""Those who wait for an answer: proposers, readers, and who wants another node to lead."""

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from weedtw.errors import ChangeRefused, MaybeCommitted, NotLeader, TooBusy, Unavailable, WeedError
from weedtw.raft.core import RaftCore
from weedtw.raft.leader import Leader
from weedtw.raft.membership import NodeId
from weedtw.raft.messages import Entry

MAX_READS = 10_000  # readers waiting at a time


@attrs.define(eq=False)
class _Proposal:
    term: int
    timer: IDelayedCall
    waiting: "Deferred[object]"


class Proposals:
    """Proposals of this node that are not decided yet, by index."""

    def __init__(self, clock: IReactorTime, patience: float, settling: float) -> None:
        """Wait for `patience` seconds, or for `settling` more once the lead is lost."""
        self._clock = clock
        self._patience = patience
        self._settling = settling
        self._open: dict[int, _Proposal] = {}

    def add(self, index: int, term: int) -> "Deferred[object]":
        """Wait for the entry (`index`, `term`) to be applied."""
        self._superseded(index, None)  # an older one would stand in the log where the new one stands now
        timer = self._clock.callLater(self._patience, self._expire, index, f"no majority in {self._patience:g} s")
        waiting: Deferred[object] = Deferred()
        self._open[index] = _Proposal(term, timer, waiting)
        return waiting

    def applied(self, entry: Entry, outcome: object, leader: NodeId | None) -> None:
        """An entry was applied, with this outcome.

        Terms never fall along a log: with this entry decided, no proposal of an earlier term behind it can be.
        """
        proposal = self._open.get(entry.index)
        if proposal is not None and proposal.term == entry.term:
            self._end(entry.index, outcome)
        if self._open and next(iter(self._open.values())).term < entry.term:
            for index in [index for index, proposal in self._open.items() if proposal.term < entry.term]:
                self._superseded(index, leader)

    def lost_lead(self, leader: NodeId | None) -> None:
        """Another leader decides now; it usually does so at once, so that most who wait can still be told."""
        for index, proposal in self._open.items():
            left = proposal.timer.getTime() - self._clock.seconds()
            if left > self._settling:
                proposal.timer.cancel()
                reason = f"this node has lost the lead{f' to {leader}' if leader else ''}"
                proposal.timer = self._clock.callLater(self._settling, self._expire, index, reason)

    def fail_all(self, reason: str) -> None:
        """Nobody will learn here what became of them."""
        for index in list(self._open):
            self._expire(index, reason)

    def fail_up_to(self, last: int, reason: str) -> None:
        """Those up to index `last` are decided, one way or the other."""
        for index in [index for index in self._open if index <= last]:
            self._expire(index, reason)

    def _superseded(self, index: int, leader: NodeId | None) -> None:
        if index in self._open:
            self._end(index, Failure(NotLeader(leader)))

    def _expire(self, index: int, reason: str) -> None:
        self._end(index, Failure(MaybeCommitted(index, reason)))

    def _end(self, index: int, outcome: object) -> None:
        proposal = self._open.pop(index)
        if proposal.timer.active():
            proposal.timer.cancel()
        proposal.waiting.callback(outcome)


@attrs.define(eq=False)
class _Read:
    waiting: "Deferred[None]"
    timer: IDelayedCall
    index: int | None = None  # known once the lead was confirmed


class Reads:
    """Readers waiting for proof of the lead, and then for the log to be applied as far as it was."""

    def __init__(self, clock: IReactorTime, patience: float, ask: Callable[[object], None]) -> None:
        """`ask` puts a question to the core, and raises when the core does not lead."""
        self._clock = clock
        self._patience = patience
        self._ask = ask
        self._open: dict[object, _Read] = {}  # in the order in which they came

    def add(self) -> "Deferred[None]":
        """Wait until what was decided before now is applied.  Raises what the core does, or `TooBusy`."""
        if len(self._open) >= MAX_READS:
            raise TooBusy(f"{len(self._open)} readers wait already")
        token = object()
        self._ask(token)
        waiting: Deferred[None] = Deferred()
        self._open[token] = _Read(waiting, self._clock.callLater(self._patience, self._expire, token))
        return waiting

    def confirmed(self, token: object, index: int) -> None:
        """The lead was proven; everything up to `index` has to be applied."""
        if token in self._open:
            self._open[token].index = index

    def refused(self, token: object, error: WeedError) -> None:
        """The lead is lost."""
        if token in self._open:
            self._end(token, Failure(error))

    def applied(self, index: int) -> None:
        """The state machine has come as far as `index`."""
        done = []
        for token, read in self._open.items():
            if read.index is None or read.index > index:
                break  # those behind it asked later, so they wait for no less
            done.append(token)
        for token in done:
            self._end(token, None)

    def fail_all(self, error: WeedError) -> None:
        """No answers will come."""
        for token in list(self._open):
            self._end(token, Failure(error))

    def _expire(self, token: object) -> None:
        self._end(token, Failure(Unavailable(f"no majority confirmed the lead in {self._patience:g} s")))

    def _end(self, token: object, outcome: Failure | None) -> None:
        read = self._open.pop(token, None)
        if read is None:
            return  # ended by what another one did when it was told
        if read.timer.active():
            read.timer.cancel()
        read.waiting.callback(outcome)


class Handover:
    """Somebody who waits for another node to lead."""

    def __init__(self, clock: IReactorTime, patience: float) -> None:
        """Wait for `patience` seconds."""
        self._clock = clock
        self._patience = patience
        self._waiting: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def check(self) -> None:
        """Raises `ChangeRefused` when somebody waits already."""
        if self._waiting is not None:
            raise ChangeRefused("the lead is being handed over already")

    def begin(self) -> "Deferred[None]":
        """The core has been asked for it."""
        self._timer = self._clock.callLater(self._patience, self.end, Unavailable("nobody has come to lead"))
        self._waiting = Deferred()
        return self._waiting

    def follow(self, core: RaftCore) -> None:
        """Look whether it has come about, or was given up."""
        if isinstance(core.role, Leader):
            if core.role.transfer_to is None:
                self.end(Unavailable("the other node did not take the lead"))
        elif core.leader is not None:
            self.end(None)

    def end(self, error: WeedError | None) -> None:
        """Tell who waits, if somebody does."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or self._timer is None:
            return
        if self._timer.active():
            self._timer.cancel()
        waiting.callback(None if error is None else Failure(error))
