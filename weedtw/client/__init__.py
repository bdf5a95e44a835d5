"""The public async client: store, read and delete files in a cluster, whichever of its masters leads."""

from weedtw.client.answers import Assignment, FileInfo, Location
from weedtw.client.assign import Placement
from weedtw.client.client import Client
from weedtw.client.masters import MasterState
from weedtw.client.status import ClusterStatus, ServerStatus, Trouble, VolumeStatus
from weedtw.client.uploads import Chunk, Uploaded

__all__ = [
    "Assignment",
    "Chunk",
    "Client",
    "ClusterStatus",
    "FileInfo",
    "Location",
    "MasterState",
    "Placement",
    "ServerStatus",
    "Trouble",
    "Uploaded",
    "VolumeStatus",
]
