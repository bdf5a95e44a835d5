"""The recipes of SeaweedFS's documentation, as typed: only the program's name is changed, and ports are free ones."""

import pytest

from tests.cluster.masters import Scratch, assign, get, put, wait_for_cluster

pytestmark = pytest.mark.process


def test_three_servers_started_at_once(scratch: Scratch) -> None:
    peers = "-master.peers=localhost:9333,localhost:9334,localhost:9335"
    servers = [
        scratch.start(f"weedtw server -master.port=9333 -dir=./1 -volume.port=8080 {peers}"),
        scratch.start(f"weedtw server -master.port=9334 -dir=./2 -volume.port=8081 {peers}"),
        scratch.start(f"weedtw server -master.port=9335 -dir=./3 -volume.port=8082 {peers}"),
    ]
    wait_for_cluster(servers)
    fid = put(assign(servers), b"body")
    for server in servers:
        assert get(server, fid) == b"body"
