"""Whole collections: deleting them and adding them up."""

from typing import Any

import attrs
from twisted.logger import Logger

from weedtw import PRODUCT
from weedtw.errors import BadRequest, CollectionNotFound, Unavailable
from weedtw.master.asking import post_to_all
from weedtw.master.cluster import Cluster
from weedtw.master.growth import Grower
from weedtw.topology.layout import Layout

DELETE_TIMEOUT = 60.0  # seconds for a server to delete its volumes of a collection


@attrs.define(eq=False)
class Collections:
    """The collections of a cluster; the default one, without a name, is none of them."""

    log = Logger()

    cluster: Cluster
    grower: Grower

    async def delete(self, name: str) -> None:
        """Delete a collection on all servers.

        Raises BadRequest without a name; CollectionNotFound; Unavailable when a server that holds a part of it is
        not connected; PeerError when one failed, and then it is deleted on the others.
        """
        _check_name(name)
        await self.grower.quiet(name)
        topology = self.cluster.topology
        away = [address for address in self.cluster.absent() if name in topology.left.get(address, {}).values()]
        if away:
            raise Unavailable(f"a part of collection {name!r} is on volume servers that are not connected: {away}")
        holders = topology.holders_of_collection(name)
        if not holders:
            raise CollectionNotFound(name)
        addresses = [server.address for server in holders]
        path, query = "/admin/delete_collection", {"collection": name}
        done = await post_to_all(self.cluster.peers, addresses, path, query, timeout=DELETE_TIMEOUT)
        for server in holders:
            if server.address in done.answers:
                for volume in [each for each in server.volumes.values() if each.collection == name]:
                    topology.remove_volume(server, volume.id)
        self.cluster.changes.announce()
        if done.failures:
            raise done.failures[0]
        self.log.info("deleted collection {name}", name=name)

    def sums(self, name: str) -> list[dict[str, Any]]:
        """The sums of each layout of a collection, as `/collection/info?detail=true` gives them.

        Raises BadRequest without a name, CollectionNotFound.
        """
        _check_name(name)
        layouts = self.cluster.topology.collection_layouts(name)
        if not layouts:
            raise CollectionNotFound(name)
        return [self._sums(layout) for layout in layouts]

    def total(self, name: str) -> dict[str, Any]:
        """The sums of a whole collection; `VolumeCount` is the number of its layouts."""
        parts = self.sums(name)
        counted = ("TotalSize", "FileCount", "UsedSize")
        return {
            "Version": PRODUCT,
            "Collection": name,
            **{field: sum(part[field] for part in parts) for field in counted},
            "VolumeCount": len(parts),
        }

    def _sums(self, layout: Layout) -> dict[str, Any]:
        """Sizes in bytes, over all copies; live files, each counted once."""
        room = used = files = 0
        for volume_id in layout.volume_ids():
            copies = [server.volumes[volume_id] for server in self.cluster.topology.copies(volume_id)]
            room += sum(copy.size if copy.read_only else layout.size_limit for copy in copies)
            used += sum(copy.size - copy.deleted_bytes for copy in copies)
            files += max(copy.file_count - copy.delete_count for copy in copies)
        return {
            "Version": PRODUCT,
            "Collection": layout.key.collection,
            "TotalSize": room,
            "FileCount": files,
            "UsedSize": used,
        }


def _check_name(name: str) -> None:
    if not name:
        raise BadRequest("the parameter collection is missing; the default collection has no name and stays")
