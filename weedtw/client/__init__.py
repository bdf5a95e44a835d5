"""The public async client: store, read and delete files in a cluster, whichever of its masters leads.

Each name is imported when it is asked for: the master uses a few modules of this package, and none of the rest.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weedtw.client.agreement import Agreement
    from weedtw.client.answers import Assignment, FileInfo, Location
    from weedtw.client.assign import Placement
    from weedtw.client.beliefs import Belief, KnownMember
    from weedtw.client.blocking import BlockingClient, BlockingReading
    from weedtw.client.client import Client
    from weedtw.client.masters import MasterState
    from weedtw.client.reading import Reading
    from weedtw.client.status import ClusterStatus, ServerStatus, Trouble, VolumeStatus
    from weedtw.client.uploads import Chunk, Uploaded

_HOMES = {
    "Agreement": "agreement",
    "Assignment": "answers",
    "Belief": "beliefs",
    "BlockingClient": "blocking",
    "BlockingReading": "blocking",
    "Chunk": "uploads",
    "Client": "client",
    "ClusterStatus": "status",
    "FileInfo": "answers",
    "KnownMember": "beliefs",
    "Location": "answers",
    "MasterState": "masters",
    "Placement": "assign",
    "Reading": "reading",
    "ServerStatus": "status",
    "Trouble": "status",
    "Uploaded": "uploads",
    "VolumeStatus": "status",
}

__all__ = [
    "Agreement",
    "Assignment",
    "Belief",
    "BlockingClient",
    "BlockingReading",
    "Chunk",
    "Client",
    "ClusterStatus",
    "FileInfo",
    "KnownMember",
    "Location",
    "MasterState",
    "Placement",
    "Reading",
    "ServerStatus",
    "Trouble",
    "Uploaded",
    "VolumeStatus",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
