"""A master's memory while the master does not run: what is in it, and how to go on when the majority is lost.

What consensus promises cannot be kept without a majority.  `recover` gives up what the others may have decided, and
makes a cluster of one from what this master knows.  Three things keep the damage small:

  - Ids go on far beyond those known here, so that none is given out again that the others gave out.
  - The cluster keeps its id: volume servers remember it, and come back.
  - The master gets a new node id.  For the other old members it is a stranger then, as they are for it: neither their
    votes nor their entries ever reach each other, whatever comes up again.

What cannot be prevented here: a majority of the old members, started with their old files, is the old cluster.
"""

import os
from typing import Final

import attrs

from weedtw.errors import BadRequest, ChangeRefused, InvariantBroken, StoreFailed, WeedError
from weedtw.raft.inspection import inspect
from weedtw.raft.lines import split_address
from weedtw.raft.log import Log
from weedtw.raft.membership import Member, Membership, NodeId
from weedtw.raft.messages import EntryKind, HardState, Snapshot
from weedtw.raft.rewriting import StoppedStorage
from weedtw.raft.storage import Identity, StoredState
from weedtw.topology.state import (
    MAX_KEY,
    MAX_VOLUME_ID,
    ClusterState,
    RaiseKeys,
    RaiseVolumeIds,
    dump_state,
    load_command,
    load_state,
)

NAME: Final = "raft.sqlite3"  # in a master's folder
# What the others may have given out and this master has never heard of.  It may have been behind for long before they
# were lost, and the room is there: 64 bits for keys, 32 for volume ids.
KEYS_AHEAD: Final = 1 << 32  # more than a month of 1,500 keys a second
VOLUME_IDS_AHEAD: Final = 10_000
TERMS_AHEAD: Final = 1_000_000  # elections; what is done from now on is of a later term than anything of theirs


# ------------------------------------------------------------------ what is on disk


@attrs.frozen
class OnDisk:
    """A master's memory.  Entries from `commit` to `last_index` may be decided or not: only a leader can tell."""

    path: str
    identity: Identity
    term: int
    vote: NodeId | None
    commit: int  # at least so far all is decided
    snapshot_index: int
    first_index: int  # of the log's entries; beyond `last_index` when there are none
    last_index: int
    last_term: int
    membership: Membership  # in force, decided or not
    membership_index: int
    committed: ClusterState  # at `commit`
    latest: ClusterState  # at `last_index`

    @property
    def member(self) -> Member | None:
        """This master, as the membership has it."""
        return self.membership.members.get(self.identity.node)


def look(place: str) -> OnDisk:
    """What is in a master's folder, or in a file of its own; nothing is written, and the master may run.

    Raises StoreFailed, naming what is wrong.
    """
    path = path_in(place)
    contents = inspect(path)
    return _understood(path, contents.identity, contents.stored)


def path_in(place: str) -> str:
    """The file in a master's folder; `place` itself when it is a file.  Raises StoreFailed when there is none."""
    if os.path.isfile(place):
        return place
    path = os.path.join(place, NAME)
    if not os.path.isdir(place):
        raise StoreFailed(place, "there is no such folder")
    try:
        os.stat(path)
    except FileNotFoundError:
        raise StoreFailed(path, "is not there; no master of weedtw has kept its state in this folder") from None
    except OSError as error:
        raise StoreFailed(path, error.strerror or str(error)) from error
    return path


def _understood(path: str, identity: Identity, stored: StoredState) -> OnDisk:
    try:
        log = Log(stored.snapshot, stored.entries, stored.hard_state.commit)
        committed = _state_at(stored, log.commit)
        latest = _state_at(stored, log.last_index)
    except (ValueError, BadRequest, InvariantBroken) as error:
        raise StoreFailed(path, f"holds what this version does not understand: {error}") from error
    return OnDisk(
        path=path,
        identity=identity,
        term=stored.hard_state.term,
        vote=stored.hard_state.vote,
        commit=log.commit,
        snapshot_index=stored.snapshot.index,
        first_index=stored.entries[0].index if stored.entries else log.last_index + 1,
        last_index=log.last_index,
        last_term=log.last_term,
        membership=log.membership,
        membership_index=log.membership_index,
        committed=committed,
        latest=latest,
    )


def _state_at(stored: StoredState, upto: int) -> ClusterState:
    """The agreed state after the entry at `upto`; raises ValueError for what this version does not know."""
    data = stored.snapshot.data
    state = load_state(data.decode()) if data else ClusterState()
    for entry in stored.entries:
        if entry.kind is EntryKind.COMMAND and stored.snapshot.index < entry.index <= upto:
            try:
                command = load_command(entry.data.decode())
            except ValueError as error:
                raise ValueError(f"log entry {entry.index}: {error}") from error
            try:
                state, _ = state.apply(command)
            except WeedError:
                continue  # refused, then as now, on every master
    return state


# ------------------------------------------------------------------ going on alone


@attrs.frozen
class Recovery:
    """What a master's memory would be after `recover`."""

    before: OnDisk
    address: str
    state: ClusterState

    @property
    def lost(self) -> tuple[tuple[NodeId, Member], ...]:
        """The other members, which this master goes on without."""
        own = self.before.identity.node
        return tuple((node, member) for node, member in self.before.membership.members.items() if node != own)


def plan(before: OnDisk, address: str = "") -> Recovery:
    """What `recover` would do; `address` is where the master listens from now on, if not where it did.

    Raises ChangeRefused when there is nothing to recover, or nothing to recover from, and BadRequest.
    """
    node, membership = before.identity.node, before.membership
    if membership.voters == {node}:
        raise ChangeRefused(
            f"{before.path}: there is nothing to recover, this master is a majority by itself; just start it"
        )
    if before.last_index == 0 and node not in membership:
        raise ChangeRefused(f"{before.path}: this master has never learned anything of its cluster; take another one")
    if not address:
        if before.member is None:
            raise ChangeRefused(f"{before.path}: this master was removed from its cluster; give its --address")
        address = before.member.address
    split_address(address)
    return Recovery(before, address, _raised(before.latest))


def _raised(state: ClusterState) -> ClusterState:
    """Ids far beyond; one of them that would be used up by that stays as it is."""
    if state.key_high_water + KEYS_AHEAD <= MAX_KEY:
        state, _ = state.apply(RaiseKeys(state.key_high_water + KEYS_AHEAD))
    if state.max_volume_id + VOLUME_IDS_AHEAD <= MAX_VOLUME_ID:
        state, _ = state.apply(RaiseVolumeIds(state.max_volume_id + VOLUME_IDS_AHEAD))
    return state


class Stopped:
    """The memory of a master that does not run, and that cannot start before `close`; a context manager."""

    def __init__(self, folder: str) -> None:
        """Take the file.  Raises StoreFailed, and FolderInUse while a master uses it."""
        self._storage = StoppedStorage.hold(path_in(folder))

    def __enter__(self) -> "Stopped":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def look(self) -> OnDisk:
        """What is in it."""
        storage = self._storage
        return _understood(storage.path, storage.identity, storage.load())

    def recover(self, recovery: Recovery, node: NodeId) -> str:
        """Make it the memory of a cluster of one, whose master is `node`; the path of a copy of what was there.

        All that is in the log counts as decided.  Either everything is done or nothing.  Raises StoreFailed.
        """
        before = recovery.before
        copy = _unused(f"{before.path}.before-recover")
        self._storage.copy(copy)
        index, term = before.last_index + 1, before.term + TERMS_AHEAD
        self._storage.rewrite(
            Identity(before.identity.cluster, node),
            HardState(term, None, index),
            Snapshot(index, term, Membership({node: Member(recovery.address)}), dump_state(recovery.state).encode()),
        )
        return copy

    def close(self) -> None:
        """Let go of the file."""
        self._storage.close()


def _unused(beginning: str) -> str:
    number = 1
    while os.path.exists(f"{beginning}-{number}"):
        number += 1
    return f"{beginning}-{number}"
