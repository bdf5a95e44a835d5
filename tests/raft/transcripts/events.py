"""Commands that begin a cluster, and what befalls its nodes and messages.  Times are ticks.

A node's election timeout is 9 + its number unless it is told.
"""

import attrs

from tests.raft.transcripts import words
from tests.raft.transcripts.cluster import Cluster
from tests.raft.transcripts.vocabulary import chosen, command, selection
from weedtw.raft.core import Settings
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Entry, EntryKind, HardState, Snapshot
from weedtw.raft.storage import StoredState

SHORT = Settings(election=10, heartbeat=2, keep_entries=0, chunk=4)


def _timeout(cluster: Cluster, name: str) -> int:
    return cluster.settings.election + (int(name) - 1) % cluster.settings.election


@command
def cluster(cluster: Cluster, count: str, *settings: str) -> None:
    """`cluster 3 chunk=4`: voters 1 to 3, with settings of `weedtw.raft.core.Settings`."""
    changed = {name: int(value) for name, value in (setting.split("=") for setting in settings)}
    cluster.begin(attrs.evolve(SHORT, **changed))
    names = [str(number) for number in range(1, int(count) + 1)]
    founders = Membership({name: Member(words.address_of(name)) for name in names})
    for name in names:
        state = StoredState(snapshot=Snapshot(membership=founders))
        cluster.add(name, state, _timeout(cluster, name)).start()


@command
def newcomer(cluster: Cluster, name: str) -> None:
    """`newcomer 4`: a node with an empty disk, that belongs to nothing yet."""
    cluster.add(name, StoredState(), _timeout(cluster, name)).start()


@command
def given(cluster: Cluster, name: str, term: str, commit: str, *terms: str) -> None:
    """`given 2 term=4 commit=1 1 1 4`: the node starts with entries of these terms, named after where they stand."""
    log = tuple(
        Entry(index, int(of), EntryKind.COMMAND, f"{chr(96 + index)}{of}".encode())
        for index, of in enumerate(terms, start=1)
    )
    node = cluster.node(name)
    hard_state = HardState(int(term.removeprefix("term=")), None, int(commit.removeprefix("commit=")))
    node.crash()
    node.storage.state = attrs.evolve(node.storage.state, hard_state=hard_state, entries=log)
    node.start()


@command
def timeout(cluster: Cluster, name: str, ticks: str) -> None:
    """`timeout 2 14`: from its next draw on."""
    cluster.node(name).timeout.ticks = int(ticks)


# ------------------------------------------------------------------ time, network, crashes


@command
def tick(cluster: Cluster, nodes: str, count: str = "1") -> None:
    """`tick all 3`: each of them, one tick at a time."""
    for _ in range(int(count)):
        for node in chosen(cluster, nodes):
            node.input(lambda core: core.tick())
            cluster.check()


@command
def asleep(cluster: Cluster, name: str, count: str) -> None:
    """`asleep 1 50`: the process was paused; it learns first how long."""
    cluster.node(name).input(lambda core: core.tick(int(count)))


@command
def run(cluster: Cluster, count: str) -> None:
    """`run 20`: time passes for all, and messages arrive within a tick."""
    for _ in range(int(count)):
        tick(cluster, "all")
        cluster.settle()


@command
def deliver(cluster: Cluster, *which: str) -> None:
    """`deliver 1->2 append`: what is in flight now; answers stay in flight."""
    cluster.deliver(selection(which))


@command
def settle(cluster: Cluster) -> None:
    """Deliver everything, and what is sent in answer, until nothing is in flight."""
    cluster.settle()


@command
def drop(cluster: Cluster, *which: str) -> None:
    """`drop 1->2`: lose what is in flight."""
    cluster.drop(selection(which))


@command
def duplicate(cluster: Cluster, *which: str) -> None:
    """`duplicate 1-> append`: what is in flight will arrive once more, after everything else."""
    selected = selection(which)
    cluster.flying += [message for message in cluster.flying if selected(message)]


@command
def reverse(cluster: Cluster, *which: str) -> None:
    """`reverse 1->2`: what was sent last arrives first, after everything else."""
    selected = selection(which)
    chosen = [message for message in cluster.flying if selected(message)]
    cluster.flying = [message for message in cluster.flying if not selected(message)] + chosen[::-1]


@command
def cut(cluster: Cluster, *links: str) -> None:
    """`cut 1->2 2->1`: nothing comes through any more."""
    pairs = (link.split("->") for link in links)
    cluster.cut({(sender, receiver) for sender, receiver in pairs})


@command
def partition(cluster: Cluster, *groups: str) -> None:
    """`partition 1,2 3,4,5`: only members of one group hear each other."""
    sets = [group.split(",") for group in groups]
    cluster.cut({(a, b) for one in sets for other in sets if one is not other for a in one for b in other})


@command
def heal(cluster: Cluster) -> None:
    """Every link works again."""
    cluster.cuts.clear()


@command
def crash(cluster: Cluster, name: str) -> None:
    """`crash 2`: it keeps what it has stored, and what it has sent is still under way."""
    cluster.node(name).crash()


@command
def restart(cluster: Cluster, name: str) -> None:
    """`restart 2`: from its disk."""
    cluster.node(name).start()


@command
def gone(cluster: Cluster, name: str) -> None:
    """`gone 1`: the others' connections to it drop, and nothing listens there."""
    for node in cluster.living():
        if node.name != name:
            lost(cluster, node.name, name)
            refused(cluster, node.name, name)


@command
def lost(cluster: Cluster, name: str, other: str) -> None:
    """`lost 2 1`: 2's connection to 1 drops."""
    cluster.node(name).input(lambda core: core.lost_contact(other))


@command
def refused(cluster: Cluster, name: str, other: str) -> None:
    """`refused 2 1`: 2 dials 1, and nothing listens there."""
    cluster.node(name).input(lambda core: core.refused(other))


@command
def slow(cluster: Cluster, name: str) -> None:
    """`slow 1`: from now on a save is under way until `saved 1`."""
    cluster.node(name).slow = True


@command
def fast(cluster: Cluster, name: str) -> None:
    """`fast 1`: the next save is done at once again."""
    cluster.node(name).slow = False


@command
def saved(cluster: Cluster, name: str) -> None:
    """`saved 1`: the save that is under way is done."""
    cluster.node(name).saved()


@command
def step_down(cluster: Cluster, name: str) -> None:
    """`step-down 1`: as the driver does when the disk is stuck."""
    cluster.node(name).input(lambda core: core.step_down())
