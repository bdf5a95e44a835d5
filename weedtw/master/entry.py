"""How a master comes to its cluster: what is on its disk decides, and `--peers` only says whom to talk to.

    nothing on disk, no --peers                 a new cluster of one
    nothing on disk, others in --peers          join the cluster that one of them belongs to
    … and this master itself among them         if none of them belongs to any, found one together
    a member's state on disk                    go on as that member

A member whose address has changed first makes sure that nobody else runs with its identity: its folder may have been
copied.  Nothing is ever wiped, and another cluster's masters are named, not obeyed.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from weedtw.config.model import MasterConfig
from weedtw.errors import ChangeRefused, PeerError, Unavailable, WeedError
from weedtw.http.agent import PeerAgent
from weedtw.master import founding
from weedtw.master.beliefs import Belief, ask, ask_all
from weedtw.master.consensus import RaftLedger, make_node
from weedtw.master.flight import Changes, outcomes
from weedtw.master.founding import Acceptor, Ballot, Birth, is_same
from weedtw.master.foundingfile import FoundingFile
from weedtw.master.lookout import Lookout
from weedtw.master.upgrade import carry_over
from weedtw.raft.log import Log
from weedtw.raft.membership import Member, Membership
from weedtw.raft.node import RaftNode
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Identity

NAME = "raft.sqlite3"
PAUSE = 0.25  # seconds between two looks at the others, while there is something to wait for
REFUSED_PAUSE = 5.0  # seconds before asking again a cluster that does not take this master
GRACE = 1.0  # seconds that a majority waits for the rest, so that all begin as members
JOIN_TIMEOUT = 8.0  # seconds
MOST_SAID = 50  # reasons to wait that are remembered, to be logged once
TWIN_WATCH = 4  # looks at the former address before the start: a twin may be just starting, too


@attrs.define(eq=False)
class Entrance:
    """One master's way in; `address` is where others reach it, `stopped` is told when its node had to stop."""

    log = Logger()

    config: MasterConfig
    address: str
    ledger: RaftLedger
    peers: PeerAgent
    reactor: Any
    random: Callable[[], float]
    stopped: Callable[[WeedError], None]
    entered: Callable[[RaftNode], None]  # told once this master is a member, just before its node starts
    reason: str = "it has not started"  # why it is no member yet; empty once it is
    _storage: SqliteStorage | None = None
    _file: FoundingFile | None = None
    _invitations: tuple[str, ...] = ()  # masters that have asked this one to join
    _own_names: set[str] = attrs.field(init=False)  # the addresses in lists that are this master's
    _majority_since: float | None = None
    _said: set[str] = attrs.Factory(set)  # what was waited for, and is in the log
    _has_proposed: bool = False  # the birth of the cluster, and seen it through
    _wake: Changes = attrs.field(init=False)
    _task: "Deferred[None] | None" = None
    _running: bool = False

    def __attrs_post_init__(self) -> None:
        self._wake = Changes(self.reactor)
        typed = set(founding.canonical(self.config.named)) - set(founding.canonical(self.config.peers))
        self._own_names = {*typed, *founding.canonical((self.address,))}

    # ------------------------------------------------------------------ starting

    @property
    def path(self) -> str:
        """The member's memory."""
        return os.path.join(self.config.mdir, NAME)

    @property
    def founds_with(self) -> tuple[str, ...]:
        """The list of masters with which this one takes part, or would, in founding a cluster."""
        if self._file is None or self.ledger.cluster_id:
            return ()
        acceptor = self._file.acceptor
        own = founding.canonical(self.config.named) if self.config.founder else ()
        return acceptor.masters if acceptor.birth is not None or set(own) <= set(acceptor.masters) else own

    @property
    def founding(self) -> dict[str, Any] | None:
        """That list and the last ballot promised, for others; None when no cluster is founded here."""
        masters = self.founds_with
        if self._file is None or not masters:
            return None
        return {"list": list(masters), "ballot": self._file.acceptor.promised[0]}

    def open(self) -> None:
        """Read what is on disk, and found a cluster of one when there is nothing and nobody; raises WeedError."""
        kept = carry_over(self.path, self.address)
        if kept is not None:
            self.log.info(
                "{path} was written by an earlier weedtw and is carried over; the former file is kept as {kept}",
                path=self.path,
                kept=kept,
            )
        if os.path.exists(self.path):
            self._storage = SqliteStorage.open(self.path)
            return
        self._file = FoundingFile(self.config.mdir, self.ledger.node_id)
        self.ledger.go_by(self._file.acceptor.node)
        if not self.config.peers and not self._file.is_bound:
            self._mint(Birth(str(uuid.uuid4()), {self.ledger.node_id: self.address}))
            self.log.info("founded a cluster of one master")

    def close(self) -> None:
        """Let go of what `open` took, unless a node has it."""
        storage, self._storage = self._storage, None
        if storage is not None:
            storage.close()

    def start(self) -> None:
        """Begin to be a member, or to look for the cluster."""
        self._running = True
        work = self._come_back() if self._storage is not None else self._look_for_cluster()
        self._task = Deferred.fromCoroutine(work).addErrback(self._broke_down)

    async def stop(self) -> None:
        """Look no further."""
        self._running = False
        self._wake.announce()
        if self._task is not None:
            await self._task
        self.close()

    def invite(self, masters: Iterable[str]) -> None:
        """Somebody of a cluster asks this master to join it."""
        self._invitations = tuple(dict.fromkeys(masters))[:20]
        self._wake.announce()

    def _broke_down(self, failure: Any) -> None:
        if failure.check(WeedError) is None:
            self.log.failure("while entering the cluster", failure)
        self._wait_for(f"it cannot go on: {failure.value}")
        self.stopped(failure.value if isinstance(failure.value, WeedError) else Unavailable(str(failure.value)))

    def _wait_for(self, reason: str) -> None:
        """Say what is waited for, once: several things may be waited for in turn."""
        if reason not in self._said:
            self._said = {*self._said, reason} if len(self._said) < MOST_SAID else {reason}
            self.log.warn("this master is not in a cluster yet: {reason}", reason=reason)
        self.reason = reason

    async def _pause(self, seconds: float = PAUSE) -> None:
        if self._running:
            await self._wake.wait(seconds * (0.75 + self.random() / 2))

    # ------------------------------------------------------------------ a member's state on disk

    async def _come_back(self) -> None:
        storage = self._storage
        assert storage is not None
        membership = _latest(storage)
        own = membership.members.get(storage.identity.node)
        self._compare_peers(membership)
        former = own.address if own is not None and not is_same(own.address, self.address) else None
        looks = 0
        while former is not None and self._running and looks < TWIN_WATCH:
            looks += 1
            if await self._is_twin(former, storage.identity):
                looks = 0
                self._wait_for(
                    f"the folder {self.config.mdir} is a copy of that of the master at {former}, which runs as "
                    f"node {storage.identity.node}; stop one of the two, and for a further master start with an "
                    "empty folder"
                )
            await self._pause(PAUSE if looks else REFUSED_PAUSE)
        if self._running:
            await self._look_around(self._begin(storage))

    async def _is_twin(self, address: str, identity: Identity) -> bool:
        try:
            belief = await ask(self.peers, address)
        except PeerError:
            return False
        return belief.node == identity.node and not is_same(belief.address, self.address)

    def _compare_peers(self, membership: Membership) -> None:
        """What is on disk counts; say so when `--peers` says something else."""
        others = {m.address for m in membership.members.values() if not is_same(m.address, self.address)}
        named, known = founding.canonical(self.config.peers), founding.canonical(others)
        if self.config.peers and named != known:
            self.log.warn(
                "--peers names {named}, but the other members on disk are {known}; the disk counts. "
                "'weedtw cluster add' and 'weedtw cluster remove' change the membership",
                named=", ".join(named),
                known=", ".join(known) or "none",
            )

    async def _look_around(self, node: RaftNode) -> None:
        """Look for members that are missing, as long as this one is a member."""
        lookout = Lookout(self.config, self.address, self.ledger, self.peers, node, self.path)
        while self._running and node.failed is None:
            await lookout.look(self._invitations)  # at first before it can come to lead: the others may know better
            self.reason = lookout.removed
            await self._pause(4 * PAUSE if self.ledger.leader_address is None else REFUSED_PAUSE)

    # ------------------------------------------------------------------ nothing on disk

    async def _look_for_cluster(self) -> None:
        while self._running and self._storage is None:
            beliefs = await self._ask_all((*self._invitations, *self.config.peers, *self.founds_with))
            clusters = {belief.cluster: belief for belief in beliefs if belief.cluster}
            if len(clusters) > 1:
                named = "; ".join(f"{belief.asked} to {cluster}" for cluster, belief in clusters.items())
                self._wait_for(f"the masters of --peers belong to different clusters: {named}. Name one's only")
                await self._pause(REFUSED_PAUSE)
            elif clusters:
                await self._join([belief for belief in beliefs if belief.cluster])
            elif not await self._found(beliefs):
                await self._pause()
        storage = self._storage
        if self._running and storage is not None:
            node = self._begin(storage)
            if self._has_proposed:
                node.campaign()
            await self._look_around(node)

    async def _join(self, beliefs: list[Belief]) -> None:
        """Ask to be taken in, the leader first."""
        for belief in sorted(beliefs, key=lambda each: not each.leads):
            query = {"node": self.ledger.node_id, "address": self.address}
            try:
                answer = await self.peers.post_json(belief.asked, "/cluster/join", query, timeout=JOIN_TIMEOUT)
                birth, beginning = Birth(str(answer["cluster"]), {}), _beginning(answer)
            except PeerError as error:
                self._wait_for(f"cluster {belief.cluster} has not taken it in: {error.reason}")
                if error.status is not None and 400 <= error.status < 500:
                    await self._pause(REFUSED_PAUSE)
                    return
                continue
            except (KeyError, TypeError, WeedError) as error:
                self._wait_for(f"{belief.asked} answers in a way that is not understood: {error}")
                continue
            if self._storage is None:
                self._mint(birth, beginning)
                self.log.info("joined cluster {cluster}", cluster=birth.cluster)
            return
        await self._pause()

    async def _found(self, beliefs: list[Belief]) -> bool:
        """Try to found a cluster with the others; whether this master is a member now."""
        masters = self.founds_with
        if not masters:
            self._wait_for(
                f"none of {', '.join(self.config.peers)} belongs to a cluster that could be joined; start one of "
                f"them, or name all first masters, this one ({self.address}) included, in --peers of each"
            )
            return False
        assert self._file is not None  # nothing is on disk
        here = {belief.node for belief in beliefs} | {self.ledger.node_id}
        if len(here) < founding.majority_of(masters):
            self._majority_since = None
            self._wait_for(
                f"{len(here)} of the {len(masters)} masters {', '.join(masters)} are here, "
                f"{founding.majority_of(masters)} are needed to found a cluster{self._why_that_list}"
            )
            return False
        now = self.reactor.seconds()
        if self._majority_since is None:
            self._majority_since = now
        if len(here) < len(masters) and now - self._majority_since < GRACE:
            return False
        if min(here) != self.ledger.node_id and self.random() < 0.7:  # mostly one proposes; never only one may
            return False
        return await self._propose(masters, beliefs)

    @property
    def _why_that_list(self) -> str:
        """A word on a list that nobody has given to this master; "" when somebody has."""
        if self._file is None or self.founds_with == founding.canonical(self.config.named):
            return ""
        return f", which this master has promised to others; {self._file.path} says so"

    async def _propose(self, masters: tuple[str, ...], beliefs: list[Belief]) -> bool:
        """One ballot: promises of a majority, agreement of a majority, and all are told."""
        file = self._file
        assert file is not None
        others = [belief.asked for belief in beliefs]
        ballot = (
            max(0, file.acceptor.promised[0], *(belief.ballot for belief in beliefs)) + 1,
            self.ledger.node_id,
        )
        try:
            answers = {self.address: (self.promise(masters, ballot), self.address)}
            answers |= await self._put_to_all(others, "promise", masters, ballot, None)
            promises = [acceptor for acceptor, _ in answers.values()]
            if not self._are_enough(masters, answers, promises):
                return False
            members = {acceptor.node: address for acceptor, address in answers.values()}
            birth = founding.choose(promises, Birth(str(uuid.uuid4()), members))
            agreed = {self.address: (self.accept(masters, ballot, birth), self.address)}
            agreed |= await self._put_to_all(others, "accept", masters, ballot, birth)
        except ChangeRefused:  # another proposal has overtaken this one
            return False
        if not self._are_enough(masters, agreed, ()):
            return False
        self.born(birth)
        await self._put_to_all(others, "born", masters, ballot, birth)
        self._has_proposed = self._storage is not None
        return self._has_proposed

    def _are_enough(self, masters: tuple[str, ...], agreed: Iterable[str], promises: Iterable[Acceptor]) -> bool:
        """Whether they can decide; says so when only other lists, of which the promises tell, keep them from it."""
        here = {*founding.canonical(agreed), *self._own_names}
        lacking = founding.lacking(masters, here, promises)
        if lacking and masters not in lacking:
            listed = " and ".join(map(founding.names, lacking))
            self._wait_for(
                f"a cluster of {founding.names(masters)} is not founded before a majority of {listed} agrees, which "
                "others name or have named in --peers; give all the same --peers"
            )
        return not lacking

    async def _put_to_all(
        self, others: list[str], step: str, masters: tuple[str, ...], ballot: Ballot, birth: Birth | None
    ) -> dict[str, tuple[Acceptor, str]]:
        """Those who agree to a step, by the address that was asked, with the one they go by."""
        value: dict[str, Any] = {"step": step, "masters": list(masters), "ballot": list(ballot)}
        if birth is not None:
            value["birth"] = founding.dump_birth(birth)

        async def put(address: str) -> tuple[Acceptor, str]:
            answer = await self.peers.post_json(address, "/cluster/found", value=value, timeout=JOIN_TIMEOUT)
            return founding.load(answer.get("acceptor")), str(answer.get("address"))

        agreed = {}
        refusals = []
        for address, outcome in zip(others, await outcomes(put(address) for address in others), strict=True):
            if isinstance(outcome, tuple):
                agreed[address] = outcome
            elif outcome.check(WeedError) is None:
                outcome.raiseException()
            else:
                refusals.append(str(outcome.value))
        if refusals:
            self._wait_for(f"no agreement on a new cluster: {'; '.join(sorted(refusals))}")
        return agreed

    # ------------------------------------------------------------------ a part in founding

    def promise(self, masters: tuple[str, ...], ballot: Ballot) -> Acceptor:
        """See `Acceptor.promise`; it is on disk when this returns.  Raises ChangeRefused."""
        return self._keep(lambda acceptor, own: acceptor.promise(masters, ballot, own))

    def accept(self, masters: tuple[str, ...], ballot: Ballot, birth: Birth) -> Acceptor:
        """See `Acceptor.accept`; it is on disk when this returns.  Raises ChangeRefused."""
        return self._keep(lambda acceptor, own: acceptor.accept(masters, ballot, birth, own))

    def born(self, birth: Birth) -> Acceptor:
        """A majority has agreed; a master that was among it becomes a member.  Raises ChangeRefused."""
        if self._file is None:
            raise ChangeRefused(f"it belongs to cluster {self.ledger.cluster_id}")
        is_new = self._storage is None and not self.ledger.cluster_id
        if is_new and self._file.acceptor.birth == birth and self.ledger.node_id in birth.members:
            self._mint(birth)
            self.log.info(
                "founded cluster {cluster} with {count} masters", cluster=birth.cluster, count=len(birth.members)
            )
        self._wake.announce()
        return self._file.acceptor

    def _keep(self, step: Callable[[Acceptor, tuple[str, ...]], Acceptor]) -> Acceptor:
        if self._file is None or self._storage is not None or self.ledger.cluster_id:
            raise ChangeRefused(f"it belongs to cluster {self.ledger.cluster_id or 'that is just being founded'}")
        before = self._file.acceptor
        acceptor = step(before, founding.canonical(self.config.named or self.config.peers))
        if acceptor != before:
            self._file.keep(acceptor)
        return acceptor

    # ------------------------------------------------------------------ becoming a member

    def _mint(self, birth: Birth, beginning: Membership | None = None) -> None:
        """Make this master's memory; `beginning` is the membership at the log's beginning, if not the birth's."""
        if beginning is None:
            beginning = Membership({node: Member(address) for node, address in birth.members.items()})
        self._storage = SqliteStorage.create(self.path, Identity(birth.cluster, self.ledger.node_id), beginning)
        if self._file is not None:
            self._file.remove()

    def _begin(self, storage: SqliteStorage) -> RaftNode:
        node, transport = make_node(
            storage, self.config, self.address, self.ledger.machine, self.reactor, self.stopped
        )
        self._storage = None
        self.ledger.attach(node, transport)
        self.reason = ""
        self.entered(node)
        node.startService()
        return node

    async def _ask_all(self, addresses: Iterable[str]) -> list[Belief]:
        """What the others believe that answer, each once; never ourselves."""
        asked = [address for address in addresses if not is_same(address, self.address)]
        found: dict[str, Belief] = {}
        for belief in await ask_all(self.peers, asked):
            if belief.node != self.ledger.node_id:
                found.setdefault(belief.node, belief)
            else:
                self._own_names.update(founding.canonical((belief.asked,)))
        return list(found.values())


def _latest(storage: SqliteStorage) -> Membership:
    """The membership that is in force for a node with that memory."""
    stored = storage.load()
    return Log(stored.snapshot, stored.entries, stored.hard_state.commit).membership


def _beginning(answer: Mapping[str, Any]) -> Membership:
    members = answer["beginning"]
    if not isinstance(members, dict):
        raise ChangeRefused("the beginning is no membership")
    return Membership({str(node): Member(str(m["address"]), bool(m["voter"])) for node, m in members.items()})
