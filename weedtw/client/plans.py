"""Which copies to make, move and remove, so that every volume has what its replication asks for.  Pure.

A replication `xyz` asks for x copies in other data centers, one in each, y on other racks of the main data center,
one on each, and z more in the main rack.  Two copies are never put on one host when another host
could take one, and the emptiest servers come first.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import attrs

from weedtw.client.inventory import Copy, Holder, Inventory
from weedtw.formats.replication import ReplicaPlacement


@attrs.frozen
class Step:
    """One copy to be made, or with `moves` one to be taken from `source` to `target` ("host:port").

    With `drops` the copy on `target` is to be removed; `source` has one of those that stay.
    """

    volume_id: int
    collection: str
    source: str
    target: str
    size: int  # bytes
    moves: bool = False
    drops: bool = False

    def __str__(self) -> str:
        what = "move" if self.moves else "copy"
        called = f" of collection {self.collection}" if self.collection else ""
        if self.drops:
            return f"remove the surplus copy of volume {self.volume_id}{called} on {self.target} ({self.size} bytes)"
        return f"{what} volume {self.volume_id}{called} from {self.source} to {self.target} ({self.size} bytes)"


@attrs.frozen
class Plan:
    """What to do, in this order, and what cannot be done, a line each."""

    steps: tuple[Step, ...] = ()
    remarks: tuple[str, ...] = ()

    def __add__(self, other: "Plan") -> "Plan":
        """This, and then the other."""
        return Plan(self.steps + other.steps, self.remarks + other.remarks)


def admits(replication: ReplicaPlacement, places: Sequence[Holder]) -> bool:
    """Whether copies on these servers are a part of what the replication asks for, or all of it."""
    if len({place.url for place in places}) < len(places) or len(places) > replication.copies:
        return False
    return not places or any(_fits(replication, places, place.data_center, place.rack) for place in _mains(places))


def _mains(places: Sequence[Holder]) -> Iterator[Holder]:
    """One of each rack, and for each data center a rack that has no copy yet, as has one without any."""
    nowhere = Holder("", "", "", 0, {})
    yield from places
    for place in places:
        yield attrs.evolve(nowhere, data_center=place.data_center, rack="\0")
    yield attrs.evolve(nowhere, data_center="\0", rack="\0")


def _fits(replication: ReplicaPlacement, places: Sequence[Holder], center: str, rack: str) -> bool:
    """Whether they are a part of it if the main rack is that one."""
    centers = Counter(place.data_center for place in places if place.data_center != center)
    racks = Counter(place.rack for place in places if place.data_center == center and place.rack != rack)
    main = sum(place.data_center == center and place.rack == rack for place in places)
    return (
        main <= 1 + replication.same_rack
        and racks.total() <= replication.other_racks
        and centers.total() <= replication.other_dcs
        and all(count == 1 for count in (*racks.values(), *centers.values()))
    )


@attrs.define
class _Room:
    """The servers with what is planned for them."""

    used: dict[str, int]

    def load(self, holder: Holder) -> tuple[float, str]:
        """How full it is with one volume more; less is better."""
        return (self.used[holder.url] + 1) / max(1, holder.max_volumes), holder.url

    def free(self, holders: Iterable[Holder]) -> list[Holder]:
        """Those with a free slot, the emptiest first."""
        return sorted((one for one in holders if self.used[one.url] < one.max_volumes), key=self.load)


def plan_repairs(inventory: Inventory, only: Sequence[int] = (), collection: str | None = None) -> Plan:
    """The copies to be made of volumes that are short of some; of those in `only`, if any are named."""
    room = _Room({one.url: len(one.copies) for one in inventory.holders})
    steps: list[Step] = []
    remarks: list[str] = []
    for volume_id in inventory.volume_ids():
        copies = inventory.copies_of(volume_id)
        source = _best(copies)
        replication, missing = source[1].replication, source[1].replication.copies - len(copies)
        if missing <= 0 or (only and volume_id not in only) or collection not in {None, source[1].collection}:
            continue
        held = [holder for holder, _ in copies]
        holding = {one.url for one in inventory.holders if volume_id in one.copies}
        candidates = [one for one in room.free(inventory.holders) if one.url not in holding]
        chosen = _choose(replication, held, candidates, missing)
        for target in chosen:
            room.used[target.url] += 1
            steps.append(Step(volume_id, source[1].collection, source[0].url, target.url, source[1].size))
        if len(chosen) < missing:
            where = ", ".join(f"{one.url} ({one.data_center} {one.rack})" for one in held)
            remarks.append(
                f"volume {volume_id} has {len(copies)} of {replication.copies} copies (replication {replication}), "
                f"on {where}; no server with a free slot in a fitting place can take {missing - len(chosen)} more"
            )
    return Plan(tuple(steps), tuple(remarks))


def plan_surplus(inventory: Inventory, only: Sequence[int] = (), collection: str | None = None) -> Plan:
    """The copies to be removed of volumes that have all they need without them: those that the master does not count.

    A claim to the id of another collection or replication is no copy of the volume, and none of ours to remove.
    """
    steps: list[Step] = []
    for volume_id, url in sorted(inventory.quarantined):
        holder, copies = inventory.holder(url), inventory.copies_of(volume_id)
        if holder is None or volume_id not in holder.copies or not copies or (only and volume_id not in only):
            continue
        (source, counted), surplus = copies[0], holder.copies[volume_id]
        if (
            len(copies) >= counted.replication.copies
            and (surplus.collection, surplus.replication) == (counted.collection, counted.replication)
            and collection in {None, surplus.collection}
        ):
            steps.append(Step(volume_id, surplus.collection, source.url, url, surplus.size, drops=True))
    return Plan(tuple(steps))


def _best(copies: Sequence[tuple[Holder, Copy]]) -> tuple[Holder, Copy]:
    """The copy to make others from: the one with most files, which is not damaged."""
    return max(copies, key=lambda one: ("cannot be" not in one[1].reason, one[1].files, one[1].size, one[0].url))


def _choose(
    replication: ReplicaPlacement, held: Sequence[Holder], candidates: Sequence[Holder], missing: int
) -> list[Holder]:
    """As many as can be had; on hosts without a copy if that can be."""
    for wanted in range(missing, 0, -1):
        for shares_hosts in (False, True):
            found = _search(replication, list(held), candidates, wanted, shares_hosts=shares_hosts)
            if found is not None:
                return _on_most_hosts(replication, held, candidates, found) if shares_hosts else found
    return []


def _search(
    replication: ReplicaPlacement,
    held: list[Holder],
    candidates: Sequence[Holder],
    wanted: int,
    *,
    shares_hosts: bool,
) -> list[Holder] | None:
    if not wanted:
        return []
    hosts = {one.host for one in held}
    seen: set[tuple[str, str, str]] = set()
    for index, one in enumerate(candidates):
        place = (one.data_center, one.rack, one.host)
        if place in seen or (one.host in hosts and not shares_hosts):
            continue  # another server of that place is as good, and not as empty
        if not shares_hosts:
            seen.add(place)
        if admits(replication, [*held, one]):
            rest = _search(replication, [*held, one], candidates[index + 1 :], wanted - 1, shares_hosts=shares_hosts)
            if rest is not None:
                return [one, *rest]
    return None


def _on_most_hosts(
    replication: ReplicaPlacement, held: Sequence[Holder], candidates: Sequence[Holder], found: Sequence[Holder]
) -> list[Holder]:
    """The same number, with as few on hosts that have a copy as exchanging one at a time can bring about."""
    chosen = list(found)
    for index in range(len(chosen)):
        others = [*held, *chosen[:index], *chosen[index + 1 :]]
        hosts = {one.host for one in others}
        if chosen[index].host in hosts:
            better = [one for one in candidates if one.host not in hosts and admits(replication, [*others, one])]
            chosen[index : index + 1] = better[:1] or [chosen[index]]
    return chosen


def plan_balance(inventory: Inventory, collection: str | None = None) -> Plan:
    """Moves after which servers are as full as each other, counted as volumes held per volume allowed.

    Only volumes that have all their copies are moved, and none to a worse place: never against the replication, never
    to a host with another copy, never with more copies on one host than before.
    """
    holders = {one.url: one for one in inventory.holders}
    used = {url: len(one.copies) for url, one in holders.items()}
    places = {volume_id: [one for one, _ in inventory.copies_of(volume_id)] for volume_id in inventory.volume_ids()}
    whole = {
        volume_id: copy
        for volume_id in places
        for _, copy in inventory.copies_of(volume_id)[:1]
        if len(places[volume_id]) == copy.replication.copies and collection in {None, copy.collection}
    }
    steps: list[Step] = []
    moved: set[int] = set()
    while (step := _next_move(holders, used, places, whole, moved)) is not None:
        moved.add(step.volume_id)
        used[step.source] -= 1
        used[step.target] += 1
        places[step.volume_id] = [
            holders[step.target] if one.url == step.source else one for one in places[step.volume_id]
        ]
        steps.append(step)
    return Plan(tuple(steps))


def _next_move(
    holders: dict[str, Holder],
    used: dict[str, int],
    places: dict[int, list[Holder]],
    whole: dict[int, Copy],
    moved: set[int],
) -> Step | None:
    """From the fullest server to the emptiest that may take something; None when that makes nothing better."""

    def fullness(url: str) -> tuple[float, str]:
        return used[url] / max(1, holders[url].max_volumes), url

    by_load = sorted((url for url in holders if holders[url].max_volumes > 0), key=fullness)
    for source in reversed(by_load):
        for target in by_load:
            after = (used[target] + 1) / holders[target].max_volumes
            if (used[source] - 1) / holders[source].max_volumes < after or used[target] >= holders[
                target
            ].max_volumes:
                break
            for volume_id in sorted(whole, key=lambda one: (whole[one].size, one)):
                if volume_id not in moved and _may_move(
                    places[volume_id], holders[source], holders[target], whole[volume_id]
                ):
                    copy = whole[volume_id]
                    return Step(volume_id, copy.collection, source, target, copy.size, moves=True)
    return None


def _may_move(places: Sequence[Holder], source: Holder, target: Holder, copy: Copy) -> bool:
    if source not in places or copy.volume_id in target.copies:
        return False
    rest = [one for one in places if one is not source]
    return target.host not in {one.host for one in rest} and admits(copy.replication, [*rest, target])
