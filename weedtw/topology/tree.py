"""Which volume servers are there, what each holds, and where each volume lies.

Reports go in, answers come out; nothing here waits, logs or knows the time.  A server is in the tree while
its connection stands: `leave` takes it and its volumes out at once.

A volume id belongs to whoever reported it first.  A later claim that does not go together with it, because it
is of another collection, replication or ttl, or because the volume has all its copies already, is quarantined:
it is neither written to nor listed among the copies, until the claims before it are gone.
"""

from collections.abc import Collection, Iterator, Sequence

import attrs

from weedtw.formats.beat import Delta, Disk, Full, Pulse, VolumeReport
from weedtw.topology.layout import Layout, LayoutKey
from weedtw.topology.server import Server


@attrs.frozen
class Conflict:
    """A claim on a volume id that cannot be honoured."""

    volume_id: int
    address: str
    reason: str


@attrs.define(eq=False)
class _Volume:
    """A volume id: who claims it, in the order they came, and which of the claims count."""

    claims: list[Server] = attrs.Factory(list)
    copies: list[Server] = attrs.Factory(list)
    key: LayoutKey | None = None


@attrs.define(eq=False)
class Topology:
    """The tree; `size_limit` is the size in bytes from which on a volume takes no new files."""

    size_limit: int
    servers: dict[str, Server] = attrs.Factory(dict)  # by address
    layouts: dict[LayoutKey, Layout] = attrs.Factory(dict)
    # what servers that have left held when they did: volume id to collection, by address
    left: dict[str, dict[int, str]] = attrs.Factory(dict)
    quarantined: dict[tuple[int, str], Conflict] = attrs.Factory(dict)
    _held_back: set[int] = attrs.Factory(set)
    _volumes: dict[int, _Volume] = attrs.Factory(dict)
    _new_conflicts: list[Conflict] = attrs.Factory(list)

    # -------------------------------------------------------------- servers

    def join(self, server: Server) -> None:
        """A server has connected.  What one of that address reported before stands until its full report."""
        before = self.servers.get(server.address)
        self.servers[server.address] = server
        if before is not None:
            self._hand_over(before, server)

    def _hand_over(self, before: Server, server: Server) -> None:
        server.volumes, before.volumes = before.volumes, {}
        server.max_volumes, server.disks = before.max_volumes, before.disks
        server.reported = before.reported
        for volume_id in server.volumes:
            volume = self._volumes[volume_id]
            volume.claims = [server if claim is before else claim for claim in volume.claims]
            self._reassess(volume_id)

    def leave(self, server: Server) -> None:
        """The connection of a server is gone, and with it all it held; no effect when another took its place."""
        if self.servers.get(server.address) is not server:
            return
        del self.servers[server.address]
        if server.reported:
            self.left[server.address] = {volume.id: volume.collection for volume in server.volumes.values()}
        for volume_id in list(server.volumes):
            self.remove_volume(server, volume_id)

    def forget(self, address: str) -> None:
        """A server that has left will not come back."""
        self.left.pop(address, None)

    # -------------------------------------------------------------- reports

    def apply_full(self, server: Server, parts: Sequence[Full]) -> None:
        """All the parts of a full report: what none of them names is gone."""
        last = parts[-1]
        self._take_room(server, last.max_volumes, last.disks)
        server.free_bytes = last.free_bytes
        server.reported = True
        self.left.pop(server.address, None)
        volumes = {volume.id: volume for part in parts for volume in part.volumes}
        for volume_id in [volume_id for volume_id in server.volumes if volume_id not in volumes]:
            self.remove_volume(server, volume_id)
        for volume in volumes.values():
            self.add_volume(server, volume)

    def apply_delta(self, server: Server, delta: Delta) -> bool:
        """What came, went or changed; False when it speaks of volumes unknown here, so that a full report is due."""
        self._take_room(server, delta.max_volumes, delta.disks)
        for volume_id in delta.gone:
            self.remove_volume(server, volume_id)
        for volume in delta.new:
            self.add_volume(server, volume)
        return self._apply_changes(server, delta.changed)

    def apply_pulse(self, server: Server, pulse: Pulse) -> bool:
        """Sizes that moved; False as for `apply_delta`."""
        self._take_room(server, pulse.max_volumes, pulse.disks)
        return self._apply_changes(server, pulse.changed)

    def _apply_changes(self, server: Server, changed: Sequence[VolumeReport]) -> bool:
        # A volume that is not known here may have been deleted since the line was written: it must not come back.
        known = [volume for volume in changed if volume.id in server.volumes]
        for volume in known:
            self.add_volume(server, volume)
        return server.reported and len(known) == len(changed)

    @staticmethod
    def _take_room(server: Server, max_volumes: int, disks: tuple[Disk, ...] | None) -> None:
        server.max_volumes = max_volumes
        if disks is not None:
            server.disks = disks

    # -------------------------------------------------------------- volumes

    def add_volume(self, server: Server, report: VolumeReport) -> None:
        """The server holds that volume, in that condition."""
        before = server.volumes.get(report.id)
        if before == report:
            return
        server.volumes[report.id] = report
        volume = self._volumes.setdefault(report.id, _Volume())
        if before is None:
            volume.claims.append(server)
        if before is None or LayoutKey.of(before) != LayoutKey.of(report):
            self._reassess(report.id)
        elif server in volume.copies:
            self._place(report.id, volume)

    def remove_volume(self, server: Server, volume_id: int) -> None:
        """The server does not hold that volume (any more)."""
        if server.volumes.pop(volume_id, None) is None:
            return
        self.quarantined.pop((volume_id, server.address), None)
        self._volumes[volume_id].claims.remove(server)
        self._reassess(volume_id)

    def hold_back(self, volume_id: int) -> None:
        """Let nobody write to that volume, whoever reports it, until it is released."""
        self._held_back.add(volume_id)
        if volume_id in self._volumes:
            self._place(volume_id, self._volumes[volume_id])

    def release(self, volume_id: int) -> None:
        """End what `hold_back` began."""
        self._held_back.discard(volume_id)
        if volume_id in self._volumes:
            self._place(volume_id, self._volumes[volume_id])

    def _reassess(self, volume_id: int) -> None:
        """Decide anew which claims count; called when a claim came, went, or changed its nature."""
        volume = self._volumes[volume_id]
        key = LayoutKey.of(volume.claims[0].volumes[volume_id]) if volume.claims else None
        if volume.key is not None and volume.key != key:
            self._drop(volume_id, volume.key)
        volume.key, volume.copies = key, []
        if key is None:
            del self._volumes[volume_id]
            return
        for server in volume.claims:
            reason = self._objection(volume, server.volumes[volume_id])
            if reason:
                self._quarantine(Conflict(volume_id, server.address, reason))
            else:
                volume.copies.append(server)
                self.quarantined.pop((volume_id, server.address), None)
        self._place(volume_id, volume)

    @staticmethod
    def _objection(volume: _Volume, report: VolumeReport) -> str:
        key = volume.key
        assert key is not None  # a volume with claims has a key
        if not volume.copies:
            return ""
        theirs = LayoutKey.of(report)
        first = volume.copies[0]
        if (theirs.collection, theirs.replication, theirs.ttl) != (key.collection, key.replication, key.ttl):
            return f"it is of {theirs}, but {first.address} holds one of that id of {key}"
        if len(volume.copies) >= key.replication.copies:
            mine = first.volumes[report.id]
            same = (mine.file_count - mine.delete_count) == (report.file_count - report.delete_count)
            what = "as many live files" if same else "another number of live files"
            holders = ", ".join(server.address for server in volume.copies)
            return f"replication {key.replication} has all its copies on {holders} already; it holds {what}"
        return ""

    def _quarantine(self, conflict: Conflict) -> None:
        place = (conflict.volume_id, conflict.address)
        if place not in self.quarantined:
            self._new_conflicts.append(conflict)
        self.quarantined[place] = conflict

    def _place(self, volume_id: int, volume: _Volume) -> None:
        assert volume.key is not None  # only volumes with claims are placed
        layout = self.layouts.get(volume.key)
        if layout is None:
            layout = self.layouts[volume.key] = Layout(volume.key, self.size_limit)
        copies = [(server, server.volumes[volume_id]) for server in volume.copies]
        layout.place(volume_id, copies, held_back=volume_id in self._held_back)

    def _drop(self, volume_id: int, key: LayoutKey) -> None:
        layout = self.layouts[key]
        layout.drop(volume_id)
        if not layout:
            del self.layouts[key]

    # -------------------------------------------------------------- questions

    def copies(self, volume_id: int) -> tuple[Server, ...]:
        """The servers that hold a copy which counts; empty when the volume is not known."""
        volume = self._volumes.get(volume_id)
        return tuple(volume.copies) if volume else ()

    def key_of(self, volume_id: int) -> LayoutKey | None:
        """What kind of volume it is; None when it is not known."""
        volume = self._volumes.get(volume_id)
        return volume.key if volume else None

    def awaited(self, volume_id: int, expected: Collection[str], highest: int) -> list[str]:
        """The servers among the `expected` addresses that are not here and may hold that volume.

        A server that left while we watched is known to hold what it last reported.  One that has not been
        seen may hold any volume up to `highest`, the highest volume id ever allocated.
        """
        absent = (address for address in expected if not self._is_here(address))
        return [
            address
            for address in absent
            if (volume_id in self.left[address] if address in self.left else volume_id <= highest)
        ]

    def _is_here(self, address: str) -> bool:
        server = self.servers.get(address)
        return server is not None and server.reported

    def collection_layouts(self, collection: str) -> list[Layout]:
        """The layouts of a collection; empty when it has no volume."""
        return [layout for key, layout in self.layouts.items() if key.collection == collection]

    def holders_of_collection(self, collection: str) -> list[Server]:
        """The servers that hold a volume of that collection, quarantined ones included."""
        return [
            server
            for server in self.servers.values()
            if any(volume.collection == collection for volume in server.volumes.values())
        ]

    def in_order(self) -> Iterator[tuple[str, str, Server]]:
        """(data center, rack, server) sorted by those names."""
        for server in sorted(self.servers.values(), key=lambda each: (each.data_center, each.rack, each.address)):
            yield server.data_center, server.rack, server

    def take_new_conflicts(self) -> list[Conflict]:
        """The conflicts that came up since the last call."""
        taken, self._new_conflicts = self._new_conflicts, []
        return taken
