"""Commands that ask something of a node, and those that look at it."""

from tests.raft.transcripts import words
from tests.raft.transcripts.cluster import Cluster
from tests.raft.transcripts.vocabulary import chosen, command
from weedtw.raft.core import RaftCore
from weedtw.raft.leader import Leader
from weedtw.raft.membership import AddLearner, Change, ChangeAddress, Demote, Promote, Remove


@command
def propose(cluster: Cluster, name: str, *texts: str) -> None:
    """`propose 1 hello world`: two commands."""

    def all_of_them(core: RaftCore) -> None:
        for text in texts:
            core.propose(text.encode())

    cluster.node(name).input(all_of_them)


@command
def change(cluster: Cluster, name: str, *what: str) -> None:
    """`change 1 add-learner 4`, `promote 4`, `demote 2`, `remove 2`, `address 2 elsewhere:9333`."""
    cluster.node(name).input(lambda core: core.change(_change(*what)))


def _change(kind: str, node: str, address: str = "") -> Change:
    match kind:
        case "add-learner":
            return AddLearner(node, address or words.address_of(node))
        case "address":
            return ChangeAddress(node, address)
        case "promote":
            return Promote(node)
        case "demote":
            return Demote(node)
        case "remove":
            return Remove(node)
        case _:
            raise ValueError(f"there is no change {kind!r}")


@command
def read(cluster: Cluster, name: str, token: str) -> None:
    """`read 1 question`: asks for a ReadIndex."""
    cluster.node(name).input(lambda core: core.read_index(token))


@command
def transfer(cluster: Cluster, name: str, target: str) -> None:
    """`transfer 1 2`: 1 hands its lead to 2."""
    cluster.node(name).input(lambda core: core.transfer(target))


@command
def compact(cluster: Cluster, name: str) -> None:
    """`compact 1`: a snapshot of all that is applied."""
    node = cluster.node(name)
    node.input(lambda core: core.compact(core.log.applied, node.state().encode()))


# ------------------------------------------------------------------ looking


@command
def status(cluster: Cluster, nodes: str = "all") -> None:
    """Role, term, vote, how far the log goes and is committed, and whom the node counts as members."""
    for node in chosen(cluster, nodes):
        core = node.living()
        told = f"{node.name} is {core.role.name} of term {core.term}, voted {core.vote or 'nobody'}"
        end = f"log ends {core.log.last_index}@{core.log.last_term}, commit {core.log.commit}"
        cluster.telling.news(f"{told}; {end}; members {words.members(core.log.membership)}")


@command
def log(cluster: Cluster, nodes: str = "all") -> None:
    """The entries in memory, and what lies before them."""
    for node in chosen(cluster, nodes):
        held = node.living().log
        entries = words.entries(held.slice(held.base_index + 1, held.last_index, 1 << 62))
        before = f"{held.base_index}@{held.base_term}, then " if held.base_index else ""
        cluster.telling.news(f"{node.name} has {before}{entries}; commit {held.commit}")


@command
def progress(cluster: Cluster, name: str) -> None:
    """What a leader knows of the others."""
    role = cluster.node(name).living().role
    assert isinstance(role, Leader), f"{name} does not lead"
    for other, seen in sorted(role.progress.items()):
        cluster.telling.news(f"{name} sees {other}: {seen.flow.value}, match {seen.match}, next {seen.next}")


@command
def lease(cluster: Cluster, nodes: str = "all") -> None:
    """Who may answer reads without asking anybody."""
    for node in chosen(cluster, nodes):
        cluster.telling.news(f"{node.name} has {'the' if node.living().has_lease() else 'no'} lease")


@command
def state(cluster: Cluster, nodes: str = "all") -> None:
    """What the state machine holds."""
    for node in chosen(cluster, nodes):
        cluster.telling.news(f"{node.name} holds {node.state() or 'nothing'}")
