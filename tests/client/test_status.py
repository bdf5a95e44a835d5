"""The state of a cluster, put together from what its servers say."""

from typing import Any

import pytest_twisted

from weedtw.client import Trouble


def _volume(volume_id: int, **more: Any) -> dict[str, Any]:
    counts = {"Size": 8, "FileCount": 3, "DeleteCount": 1, "DeletedByteCount": 5}
    return {"Id": volume_id, "Collection": "", "ReadOnly": False, **counts, **more}


@pytest_twisted.ensureDeferred
async def test_all_that_is_amiss_is_told(cluster: Any) -> None:
    first, second = (stub.address for stub in cluster.volumes)
    nodes = [{"Url": url, "PublicUrl": url, "Volumes": 2, "Max": 7} for url in (first, second)]
    full = {"ReadOnly": True, "ReadOnlyReason": "the disk is full"}
    copies = {first: [_volume(1), _volume(2, **full)], second: [_volume(2, ReadOnly=True)]}
    master = {
        "/dir/status": {
            "Topology": {"DataCenters": [{"Id": "dc", "Racks": [{"Id": "r", "DataNodes": nodes}]}]},
            "Absent": ["gone:8080"],
            "Quarantined": [{"Id": 1, "Url": second, "Reason": "it is another volume"}],
        },
        "/vol/status": {"Volumes": {"DataCenters": {"dc": {"r": copies}}}},
    }
    serve = cluster.master.script
    cluster.master.script = lambda seen: (
        cluster.answer.json(master[seen.path]) if seen.path in master else serve(seen)
    )
    problem = {"Id": 9, "Collection": "", "Path": "/d/9.dat", "Reason": "it is torn"}
    cluster.volumes[0].script = lambda seen: cluster.answer.json({"Problems": [problem]})
    cluster.volumes[1].script = lambda seen: cluster.no(500, "out of order")
    found = await cluster.client().status()
    assert found.absent == ("gone:8080",)
    assert found.quarantined == (Trouble(second, "volume 1: it is another volume"),)
    assert found.problems[0] == Trouble(first, "/d/9.dat is not served: it is torn")
    assert (found.problems[1].server, "out of order" in found.problems[1].reason) == (second, True)
    writable, read_only = found.volumes
    assert (writable.read_only, writable.reasons, writable.files) == (False, (), 2)
    assert read_only.read_only
    assert read_only.reasons == tuple(sorted([f"{first}: the disk is full", f"{second}: it does not say why"]))


@pytest_twisted.ensureDeferred
async def test_a_master_is_there_once_whatever_it_is_called(cluster: Any) -> None:
    empty: dict[str, Any] = {"/dir/status": {"Topology": {}}, "/vol/status": {"Volumes": {}}}
    own = cluster.master.address
    serve = cluster.master.script

    def answer(seen: Any) -> Any:
        if seen.path == "/cluster/members":
            return cluster.answer.json({"node": "node-1", "address": own})
        return cluster.answer.json(empty[seen.path]) if seen.path in empty else serve(seen)

    cluster.master.script = answer
    other_name = own.replace("127.0.0.1", "localhost")
    found = await cluster.client(other_name, own).status()
    assert [one.address for one in found.masters] == [own]
    found = await cluster.client(other_name).status()  # it names itself
    assert [one.address for one in found.masters] == [own]
    own = "10.0.0.7:9333"  # a name that is not known from here
    found = await cluster.client(other_name).status()
    assert other_name in [one.address for one in found.masters]
