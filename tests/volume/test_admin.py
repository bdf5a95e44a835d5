"""What the master and operators call."""

import json
import os
from pathlib import Path
from typing import Any

import pytest_twisted

from tests.volume.conftest import CLUSTER_ID, until
from weedtw.config import FolderConfig
from weedtw.formats.idx import unpack_rows
from weedtw.volume.membership import FILE_NAME

FID = "/3,01637037d6"


@pytest_twisted.async_yield_fixture
async def server(cluster: Any) -> Any:
    (made,) = await cluster.start()
    await cluster.volume(3, [made])
    yield made


@pytest_twisted.ensureDeferred
async def test_making_volumes(cluster: Any, server: Any) -> None:
    settings = {"volume": 5, "collection": "pics", "replication": "010", "ttl": "3d"}
    for _ in range(2):
        answer = await cluster.ask("POST", server, "/admin/assign_volume", query=settings)
        assert (answer.status, answer.json) == (200, {})
    stat = server.store.find(5).info()
    assert (stat.collection, stat.replication, stat.ttl) == ("pics", "010", "3d")
    form = b"volume=6&collection=" + "ä".encode()
    kind = "application/x-www-form-urlencoded"
    assert (await cluster.ask("POST", server, "/admin/assign_volume", form, Content_Type=kind)).status == 200
    assert server.store.find(6).collection == "ä"
    for change in ({"collection": "x"}, {"replication": "000"}, {"ttl": "3m"}):
        answer = await cluster.ask("POST", server, "/admin/assign_volume", query=settings | change)
        assert (
            answer.status,
            "5 is there already, of collection 'pics', replication 010, ttl 3d" in answer.error,
        ) == (409, True)


@pytest_twisted.ensureDeferred
async def test_bad_wishes(cluster: Any, server: Any) -> None:
    for path, query, named in (
        ("assign_volume", {}, "volume"),
        ("assign_volume", {"volume": "x"}, "volume"),
        ("assign_volume", {"volume": 0}, "volume"),
        ("assign_volume", {"volume": 1 << 32}, "volume"),
        ("assign_volume", {"volume": 9, "collection": "../x"}, "collection"),
        ("assign_volume", {"volume": 9, "replication": "1"}, "replication"),
        ("assign_volume", {"volume": 9, "ttl": "3q"}, "ttl"),
        ("delete_collection", {}, "default collection"),
        ("delete_collection", {"collection": ""}, "default collection"),
        ("delete_collection", {"collection": "a/b"}, "collection"),
    ):
        answer = await cluster.ask("POST", server, f"/admin/{path}", query=query)
        assert (answer.status, named in answer.error) == (400, True), (path, query)
    for path in ("delete_volume", "vacuum/check", "vacuum/compact", "vacuum/commit", "volume/readonly"):
        answer = await cluster.ask("POST", server, f"/admin/{path}", query={"volume": 99})
        assert (answer.status, "99" in answer.error) == (404, True), path
    assert (await cluster.ask("POST", server, "/admin/nonsense")).status == 404
    assert (await cluster.get(server, "/admin/assign_volume?volume=9")).status == 405
    assert [volume.id for volume in server.store.volumes()] == [3]


@pytest_twisted.ensureDeferred
async def test_full_folders_take_no_more(cluster: Any, tmp_path: Any) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    (server,) = await cluster.start(folders=(FolderConfig(str(folder), 2),))
    await cluster.volume(1, [server])
    await cluster.volume(2, [server])
    answer = await cluster.ask("POST", server, "/admin/assign_volume?volume=3")
    assert (answer.status, bool(answer.error)) == (406, True)


@pytest_twisted.ensureDeferred
async def test_deleting_volumes_and_collections(cluster: Any, server: Any) -> None:
    for number in (5, 6):
        await cluster.volume(number, [server], collection="pics")
    assert (await cluster.ask("POST", server, "/admin/delete_volume?volume=3")).status == 200
    assert (await cluster.ask("POST", server, "/admin/delete_volume?volume=3")).status == 404
    answer = await cluster.ask("POST", server, "/admin/delete_collection?collection=pics")
    assert (answer.status, answer.json) == (200, {"volumes": [5, 6]})
    assert (await cluster.ask("POST", server, "/admin/delete_collection?collection=pics")).json == {"volumes": []}
    assert (await cluster.get(server, "/status")).json["Volumes"] == []


@pytest_twisted.ensureDeferred
async def test_deleting_a_volume_only_if_it_is_empty(cluster: Any, server: Any) -> None:
    await cluster.volume(5, [server])
    await cluster.put(server, FID, b"content", "a/b")
    answer = await cluster.ask("POST", server, "/admin/delete_volume?volume=3&onlyEmpty=true")
    assert (answer.status, "holds files" in answer.json["error"]) == (409, True)
    assert (await cluster.get(server, FID)).body == b"content"
    assert (await cluster.ask("POST", server, "/admin/delete_volume?volume=5&onlyEmpty=true")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_vacuum_in_its_steps(cluster: Any, server: Any) -> None:
    for number in range(10):
        await cluster.put(server, f"{FID}_{number}", os.urandom(1000), "a/b")
    for number in range(5):
        await cluster.delete(server, f"{FID}_{number}")
    checked = (await cluster.ask("POST", server, "/admin/vacuum/check?volume=3")).json
    assert 0.4 < checked["garbageRatio"] < 0.6
    assert (checked["revision"], checked["compacted"]) == (0, False)
    before = server.store.find(3).info().size
    assert (await cluster.ask("POST", server, "/admin/vacuum/commit?volume=3")).status == 500  # nothing is prepared
    assert (await cluster.ask("POST", server, "/admin/vacuum/compact?volume=3")).json == {}
    assert (await cluster.ask("POST", server, "/admin/vacuum/check?volume=3")).json["compacted"] is True
    late = await cluster.put(server, f"{FID}_99", b"meanwhile", "a/b")
    assert late.status == 201
    done = (await cluster.ask("POST", server, "/admin/vacuum/commit?volume=3")).json
    assert (done["readOnly"], done["size"] < before) == (False, True)
    assert (await cluster.get(server, f"{FID}_99")).body == b"meanwhile"
    assert (await cluster.get(server, f"{FID}_7")).status == 200
    checked = {"garbageRatio": 0.0, "revision": 1, "compacted": False}
    assert (await cluster.ask("POST", server, "/admin/vacuum/check?volume=3")).json == checked
    assert (await cluster.ask("POST", server, "/admin/vacuum/compact?volume=3")).status == 200
    assert (await cluster.ask("POST", server, "/admin/vacuum/cleanup?volume=3")).status == 200
    assert (await cluster.ask("POST", server, "/admin/vacuum/cleanup?volume=3")).status == 200


@pytest_twisted.ensureDeferred
async def test_read_only_lasts_and_is_reported(cluster: Any, server: Any) -> None:
    cluster.master.reports.clear()
    assert (await cluster.ask("POST", server, "/admin/volume/readonly?volume=3")).status == 200
    (shown,) = (await cluster.get(server, "/status")).json["Volumes"]
    assert (shown["ReadOnly"], bool(shown["ReadOnlyReason"])) == (True, True)
    folder = os.path.dirname(server.store.find(3).files.dat)
    await cluster.stop(server)
    assert any(report.changed and report.changed[0].read_only for report in cluster.master.reports[:-1])
    again = cluster.make(folder)
    again.prepare()
    again.startService()
    cluster.servers.append(again)
    assert (await cluster.put(again, FID, b"x", "a/b")).status == 409
    again.store.find(3).set_read_only("the disk refuses writes: File too large", cause="failing disk")
    again.store.find(3).set_read_only("lost", cause="lost files")
    answer = await cluster.ask("POST", again, "/admin/volume/writable?volume=3")
    assert answer.json == {"readOnly": True, "reason": "lost"}
    again.store.find(3).set_read_only(None, cause="lost files")
    answer = await cluster.ask("POST", again, "/admin/volume/writable?volume=3")
    assert answer.json == {"readOnly": False, "reason": ""}
    assert (await cluster.put(again, FID, b"x", "a/b")).status == 201


@pytest_twisted.ensureDeferred
async def test_the_index_and_sync(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, b"x", "a/b")
    await cluster.delete(server, FID)
    answer = await cluster.get(server, "/admin/volume/index?volume=3")
    rows = unpack_rows(answer.body, int(answer["X-Weedtw-Offset-Width"]))
    assert rows.keys.tolist() == [1, 1]
    assert rows.sizes.tolist()[-1] == -1
    assert (await cluster.ask("POST", server, "/admin/sync")).json == {}


@pytest_twisted.ensureDeferred
async def test_the_white_list_guards_writes_and_admin(cluster: Any) -> None:
    (server,) = await cluster.start(white_list=("10.1.2.3",))
    for method, path in (
        ("PUT", FID),
        ("POST", FID),
        ("DELETE", FID),
        ("POST", "/admin/assign_volume?volume=3"),
        ("GET", "/admin/volume/index?volume=3"),
        ("GET", "/%61dmin/volume/index?volume=3"),
    ):
        answer = await cluster.ask(method, server, path, b"x" if method in {"PUT", "POST"} else None)
        assert (answer.status, "127.0.0.1" in answer.error) == (403, True), path
    assert (await cluster.get(server, "/status")).status == 200
    assert (await cluster.get(server, FID)).status == 404


@pytest_twisted.ensureDeferred
async def test_where_the_masters_are(cluster: Any, tmp_path: Path) -> None:
    """They are not where the server remembers them."""
    (tmp_path / "lost").mkdir()
    remembered = tmp_path / "lost" / FILE_NAME
    remembered.write_text(json.dumps({"cluster": CLUSTER_ID, "masters": ["127.0.0.1:1"]}))
    lost = cluster.make(tmp_path / "lost", masters=("127.0.0.1:1",))
    lost.prepare()
    lost.startService()
    cluster.servers.append(lost)
    told = {"cluster": CLUSTER_ID, "masters": f"127.0.0.1:1,{cluster.master.address}"}
    answer = await cluster.ask("POST", lost, "/admin/masters", query=told)
    assert (answer.status, answer.json) == (200, {})
    await until(lambda: lost.address in cluster.master.held)
    expected = {"cluster": CLUSTER_ID, "masters": [cluster.master.address]}
    await until(lambda: json.loads(remembered.read_text()) == expected)


@pytest_twisted.ensureDeferred
async def test_masters_that_make_no_sense(cluster: Any, server: Any) -> None:
    for query, status in (
        ({"cluster": "another", "masters": "localhost:1"}, 409),
        ({"cluster": CLUSTER_ID, "masters": "localhost:x"}, 400),
        ({"cluster": CLUSTER_ID, "masters": ""}, 400),
        ({"cluster": CLUSTER_ID}, 400),
        ({"masters": "localhost:1"}, 400),
    ):
        answer = await cluster.ask("POST", server, "/admin/masters", query=query)
        assert (answer.status, bool(answer.error)) == (status, True), query
    assert server.heartbeats.masters == (cluster.master.address,)
    (guarded,) = await cluster.start(white_list=("10.1.2.3",))
    told = {"cluster": CLUSTER_ID, "masters": "localhost:1"}
    assert (await cluster.ask("POST", guarded, "/admin/masters", query=told)).status == 403
