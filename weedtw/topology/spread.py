"""Choosing servers so that the copies of a volume lie on as many hosts as can be.

The question is a flow of copies: each group (the main rack, the other racks, the other data centers) sends
so many, at most one through each place of it (the main rack takes several), and at most one onto each host.
What the flow cannot place, because hosts are short, is placed on hosts that have a copy already.
"""

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar

from weedtw.topology.server import Server


class HasServer(Protocol):
    """Whatever stands for a server here."""

    @property
    def server(self) -> Server:
        """The server itself."""
        ...


Choice = TypeVar("Choice", bound=HasServer)
Group = tuple[int, Sequence[Sequence[Choice]]]  # so many copies, from these places, the best server of each first


def spread_over_hosts(groups: Sequence["Group[Choice]"], chosen: Sequence[Choice] = ()) -> list[Choice]:
    """As many choices from each group as it asks for, on as many hosts as possible, `chosen` taken into account.

    A group with one place may take several servers of it, one with several places takes one from each.
    The caller makes sure that each group has enough of them.
    """
    taken = {choice.server.host for choice in chosen}
    picked = _greedily(groups, taken)
    if sum(map(len, picked)) < sum(count for count, _ in groups):
        picked = _by_flow(groups, taken)
        _fill(groups, picked)
    return [choice for group in picked for choice in group]


def _greedily(groups: Sequence["Group[Choice]"], taken: set[str]) -> list[list[Choice]]:
    """The best servers first, none on a host that has a copy; a group may come out short."""
    used = set(taken)
    picked: list[list[Choice]] = []
    for count, places in groups:
        got: list[Choice] = []
        for place in places:
            limit = count if len(places) == 1 else min(count, len(got) + 1)
            for choice in place:
                if len(got) >= limit:
                    break
                if choice.server.host not in used:
                    used.add(choice.server.host)
                    got.append(choice)
        picked.append(got)
    return picked


# ------------------------------------------------------------------ when hosts are short

_SOURCE, _SINK = "source", "sink"
_Edges = dict[Hashable, dict[Hashable, int]]  # what can still flow from a node to another


def _by_flow(groups: Sequence["Group[Choice]"], taken: set[str]) -> list[list[Choice]]:
    """The most choices on different hosts that there can be."""
    edges: _Edges = {_SOURCE: {}, _SINK: {}}
    best: dict[tuple[Hashable, Hashable], tuple[int, Choice]] = {}
    for number, (count, places) in enumerate(groups):
        group = ("group", number)
        edges[_SOURCE][group] = count
        edges[group] = {}
        for index, place in enumerate(places):
            node = ("place", number, index)
            edges[group][node] = count if len(places) == 1 else 1
            edges[node] = {}
            for choice in place:
                host = ("host", choice.server.host)
                if choice.server.host not in taken and (node, host) not in best:
                    best[node, host] = number, choice
                    edges[node][host] = 1
                    edges.setdefault(host, {})[_SINK] = 1
    while _augment(edges, _SOURCE, set()):
        pass
    picked: list[list[Choice]] = [[] for _ in groups]
    for (node_from, host_to), (number, choice) in best.items():
        if edges[node_from][host_to] == 0:
            picked[number].append(choice)
    return picked


def _augment(edges: _Edges, node: Hashable, seen: set[Hashable]) -> bool:
    """Send one more copy from `node` to the sink, rerouting others where that helps."""
    if node == _SINK:
        return True
    seen.add(node)
    for towards, room in list(edges[node].items()):
        if room > 0 and towards not in seen and _augment(edges, towards, seen):
            edges[node][towards] -= 1
            edges[towards][node] = edges[towards].get(node, 0) + 1
            return True
    return False


def _fill(groups: Sequence["Group[Choice]"], picked: list[list[Choice]]) -> None:
    """Complete each group with the best servers left, on hosts that have a copy already."""
    for (count, places), got in zip(groups, picked, strict=True):
        for place in places:
            fresh = [choice for choice in place if choice not in got]
            if len(places) > 1 and len(fresh) < len(place):
                continue  # this place has its copy
            limit = count if len(places) == 1 else min(count, len(got) + 1)
            got.extend(fresh[: limit - len(got)])
