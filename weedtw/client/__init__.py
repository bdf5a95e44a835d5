"""The public async client: store, read and delete files in a cluster, whichever of its masters leads."""

from weedtw.client.agreement import Agreement
from weedtw.client.answers import Assignment, FileInfo, Location
from weedtw.client.assign import Placement
from weedtw.client.beliefs import Belief, KnownMember
from weedtw.client.blocking import BlockingClient
from weedtw.client.client import Client
from weedtw.client.masters import MasterState
from weedtw.client.status import ClusterStatus, ServerStatus, Trouble, VolumeStatus
from weedtw.client.uploads import Chunk, Uploaded

__all__ = [
    "Agreement",
    "Assignment",
    "Belief",
    "BlockingClient",
    "Chunk",
    "Client",
    "ClusterStatus",
    "FileInfo",
    "KnownMember",
    "Location",
    "MasterState",
    "Placement",
    "ServerStatus",
    "Trouble",
    "Uploaded",
    "VolumeStatus",
]
