"""What a request's parameters ask for: a kind of volume, a place, a number of file ids."""

from weedtw.config.model import MasterConfig
from weedtw.errors import BadRequest
from weedtw.formats.collection import check_collection
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.http.requests import Params
from weedtw.master.assign import Wish
from weedtw.master.keys import MAX_COUNT
from weedtw.topology.layout import LayoutKey, Where
from weedtw.topology.server import canonical_disk_type

MAX_GROWTH = 10_000  # volumes in one request


def layout_of(params: Params, config: MasterConfig) -> LayoutKey:
    """The kind of volume: collection, replication, ttl and disk; raises BadRequest, one for each of them."""
    replication = params.text("replication")
    disk_type = canonical_disk_type(params.text("disk"))
    if not disk_type.isprintable() or len(disk_type) > 32:
        raise BadRequest(f"disk={disk_type[:40]!r} cannot be a type of disk")
    for name in ("preallocate", "memoryMapMaxSizeMb"):  # taken and checked for SeaweedFS's sake, of no effect here
        params.integer(name, 0)
    return LayoutKey(
        collection=check_collection(params.text("collection")),
        replication=ReplicaPlacement.parse(replication) if replication else config.default_replication,
        ttl=Ttl.parse(params.text("ttl")),
        disk_type=disk_type,
    )


def place_of(params: Params) -> Where:
    """Where it is wanted."""
    return Where(params.text("dataCenter"), params.text("rack"), params.text("dataNode"))


def wish_of(params: Params, config: MasterConfig) -> Wish:
    """What `/dir/assign` is asked for, but for the count."""
    grow = params.integer("writableVolumeCount", 0, most=MAX_GROWTH)
    return Wish(layout_of(params, config), place_of(params), grow=grow)


def count_of(params: Params) -> int:
    """How many file ids; raises BadRequest unless it is 1 to MAX_COUNT."""
    return params.integer("count", 1, least=1, most=MAX_COUNT)
