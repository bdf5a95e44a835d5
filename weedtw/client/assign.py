"""What to ask a master for when a file is to be written."""

import attrs

from weedtw.client.answers import Assignment, parse_assignment
from weedtw.client.masters import Masters
from weedtw.errors import BadRequest
from weedtw.formats.collection import check_collection
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl


@attrs.frozen
class Placement:
    """Where a file may go.  Everything empty: the default collection, wherever there is room, for ever.

    Raises BadRequest (BadCollection, BadReplication, BadTtl) when made, so that nothing is sent that no master
    would take.
    """

    collection: str = attrs.field(default="", converter=check_collection)
    replication: str = attrs.field(default="")  # three digits such as "001"; "" is the master's default
    ttl: str = attrs.field(default="")  # such as "3m" or "1d"; "" keeps the file
    data_center: str = ""
    rack: str = ""
    data_node: str = ""  # "host:port" of one volume server

    def __attrs_post_init__(self) -> None:
        if self.replication:
            ReplicaPlacement.parse(self.replication)
        Ttl.parse(self.ttl)
        for where in (self.data_center, self.rack, self.data_node):
            if not where.isprintable():
                raise BadRequest(f"{where!r} is not the name of a place")

    def query(self) -> dict[str, str]:
        """The parameters of `/dir/assign`."""
        return {
            "collection": self.collection,
            "replication": self.replication,
            "ttl": self.ttl,
            "dataCenter": self.data_center,
            "rack": self.rack,
            "dataNode": self.data_node,
        }


async def assign(masters: Masters, placement: Placement, count: int = 1) -> Assignment:
    """Reserve `count` consecutive file ids; raises Unavailable, PeerError, and BadRequest for a count below one."""
    if count < 1:
        raise BadRequest(f"{count} file ids cannot be assigned")
    address, answer = await masters.ask("/dir/assign", {"count": str(count), **placement.query()})
    return parse_assignment(address, answer)
