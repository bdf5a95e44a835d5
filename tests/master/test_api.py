"""The master's endpoints over real connections."""

import itertools
import json
from urllib.parse import quote

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from tests.master.scene import volume
from tests.master.stage import Stage, until
from weedtw.errors import WriteFailed
from weedtw.formats.beat import Delta
from weedtw.formats.fileid import FileId
from weedtw.master.keys import MAX_COUNT

FORM = "application/x-www-form-urlencoded"


# ------------------------------------------------------------------ assign


@ensureDeferred
async def test_assign_makes_volumes_and_gives_ids_that_follow_each_other(stage: Stage) -> None:
    server = await stage.add()
    first, second = await stage.get("/dir/assign"), await stage.get("/dir/assign")
    assert set(first) == {"fid", "url", "publicUrl", "count"}
    assert (first["url"], first["count"]) == (server.address, 1)
    assert FileId.parse(second["fid"]).key == FileId.parse(first["fid"]).key + 1
    assert FileId.parse(second["fid"]).cookie != FileId.parse(first["fid"]).cookie
    assert len(server.volumes) == 7


@ensureDeferred
async def test_assign_takes_a_form_and_a_put_and_the_form_wins(stage: Stage) -> None:
    await stage.add()
    posted = await stage.ask("POST", "/dir/assign?count=7", b"count=2", Content_Type=FORM)
    assert posted.json["count"] == 2
    assert (await stage.ask("PUT", "/dir/assign?count=4")).json["count"] == 4
    assert (await stage.ask("POST", "/dir/assign", b"count=2", Content_Type="text/plain")).json["count"] == 1


@ensureDeferred
async def test_no_other_method_assigns(stage: Stage) -> None:
    await stage.add()
    key = FileId.parse((await stage.get("/dir/assign"))["fid"]).key
    for method in ("HEAD", "DELETE", "OPTIONS", "PATCH"):
        answer = await stage.ask(method, "/dir/assign")
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, POST, PUT"
    assert FileId.parse((await stage.get("/dir/assign"))["fid"]).key == key + 1


@ensureDeferred
async def test_assign_refuses_what_makes_no_sense(stage: Stage) -> None:
    await stage.add()
    refusals = {
        "replication=abc": 406,
        "replication=1": 406,
        "replication=01": 406,
        "replication=0000": 406,
        "replication=999": 406,
        "ttl=xx": 406,
        "ttl=3q": 406,
        "collection=..%2Fx": 406,
        "disk=ssd": 406,
        "preallocate=abc": 406,
        "replication=100": 406,
        "count=abc": 400,
        "count=0": 400,
        "count=-1": 400,
        "count=1.5": 400,
        f"count={MAX_COUNT + 1}": 400,
        "dataCenter=nowhere": 400,
        "rack=nowhere": 400,
        "dataNode=1.2.3.4:5": 400,
        "%FF=%FF": 400,
    }
    for query, status in refusals.items():
        answer = await stage.ask("GET", f"/dir/assign?{query}")
        assert answer.status == status, (query, answer.body)
        assert set(answer.json) == {"error"}
    assert "nowhere" in (await stage.ask("GET", "/dir/assign?dataCenter=nowhere")).error


@ensureDeferred
async def test_many_ids_at_once_do_not_overlap(stage: Stage) -> None:
    await stage.add()
    taken = [(await stage.get(f"/dir/assign?count={count}")) for count in (MAX_COUNT, 1, MAX_COUNT, 5)]
    ranges = [(FileId.parse(each["fid"]).key, each["count"]) for each in taken]
    assert all(key >= before + count for (before, count), (key, _) in itertools.pairwise(ranges))


@ensureDeferred
async def test_a_hundred_who_come_at_once_get_different_ids_and_seven_volumes(stage: Stage) -> None:
    server = await stage.add()
    answers = await gatherResults([Deferred.fromCoroutine(stage.get("/dir/assign")) for _ in range(100)])
    assert len({FileId.parse(answer["fid"]).key for answer in answers}) == 100
    assert len(server.volumes) == 7


@ensureDeferred
async def test_a_volume_of_which_a_copy_could_not_be_made_is_deleted_again(stage: Stage) -> None:
    good, bad = await stage.add(), await stage.add()
    bad.fail["/admin/assign_volume"] = WriteFailed("/data", "the disk is full")
    answer = await stage.ask("GET", "/dir/assign?replication=001&writableVolumeCount=1")
    assert answer.status == 503
    assert "the disk is full" in answer.error
    assert good.volumes == {}
    assert "retry-after" in answer.headers


# ------------------------------------------------------------------ lookup and redirect


@ensureDeferred
async def test_lookup(stage: Stage) -> None:
    server = await stage.add("dc7", public_url="files.example:80", volumes={3: volume(3)})
    found = {
        "volumeOrFileId": "3",
        "locations": [{"url": server.address, "publicUrl": "files.example:80", "dataCenter": "dc7"}],
    }
    for query in ("volumeId=3", "volumeId=3,01637037d6", "fileId=3,01637037d6", "volumeId=9&fileId=3,01637037d6"):
        assert await stage.get(f"/dir/lookup?{query}") == found
    assert (await stage.ask("POST", "/dir/lookup", b"volumeId=3", Content_Type=FORM)).json == found
    for wrong in ("99", "abc", "0", "-3", "4294967299", "3/01637037d6", "3.jpg", "٣"):
        answer = await stage.get(f"/dir/lookup?volumeId={quote(wrong)}", 404)
        assert answer == {"volumeOrFileId": wrong, "error": answer["error"]}
        assert wrong in answer["error"]
    assert (await stage.ask("GET", "/dir/lookup")).status == 400
    assert (await stage.ask("GET", "/dir/lookup?volumeId=3&collection=pics")).status == 404


@ensureDeferred
async def test_a_server_that_leaves_is_not_assigned_or_looked_up_any_more(stage: Stage) -> None:
    server = await stage.add(volumes={3: volume(3)})
    await stage.add("dc2")
    await server.leave()
    await until(lambda: stage.master.cluster is not None and len(stage.master.cluster.topology.servers) == 1)
    answer = await stage.ask("GET", "/dir/lookup?volumeId=3")
    assert answer.status == 503  # not 404: the volume exists
    assert answer.json["volumeOrFileId"] == "3"
    assert server.address in answer.error
    assert int(answer.headers["retry-after"]) >= 1
    assert (await stage.get("/dir/assign?dataCenter=dc2"))["url"] != server.address
    await server.join(stage.master.address)
    await stage.get("/dir/lookup?volumeId=3")


@ensureDeferred
async def test_redirect(stage: Stage) -> None:
    await stage.add(public_url="files.example:80", volumes={3: volume(3)})
    for path in ("/3,01637037d6", "/3,01637037d6.jpg?dl=true&a=b%20c", "/3/01637037d6", "/3/01637037d6/a%20b.jpg"):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            answer = await stage.ask(method, path)
            assert answer.status == 307
            assert answer.headers["location"] == f"http://files.example:80{path}"
    for path, status in {
        "/99,01637037d6": 404,
        "/abc,01637037d6": 404,
        "/,": 404,
        "/3,xyz": 400,
        "/4294967299,01637037d6": 400,
        "/foo": 404,
        "/3": 404,
        "/no/such/thing": 404,
        "/dir/nosuch": 404,
        "//dir/status": 404,
    }.items():
        answer = await stage.ask("GET", path)
        assert answer.status == status, path
        assert answer.error
    assert "99" in (await stage.ask("GET", "/99,01637037d6")).error


# ------------------------------------------------------------------ volumes and collections


@ensureDeferred
async def test_grow(stage: Stage) -> None:
    for number in (1, 2):
        await stage.add("dc1", f"r{number}")
    assert await stage.get("/vol/grow?count=2&replication=010&collection=pics") == {"count": 2}
    assert await stage.get("/vol/grow?count=1&collection=pics&rack=r2") == {"count": 1}
    assert len(stage.servers[1].volumes) == 3
    layouts = (await stage.get("/dir/status"))["Topology"]["Layouts"]
    assert [(layout["replication"], len(layout["writables"])) for layout in layouts] == [("000", 1), ("010", 2)]
    for query in ("", "count=0", "count=x", "count=1&replication=x", "count=100000", "count=18", "count=1&rack=r9"):
        answer = await stage.ask("GET", f"/vol/grow?collection=pics&{query}")
        assert answer.status == 406, query
        assert set(answer.json) == {"error"}
    assert (await stage.ask("HEAD", "/vol/grow?count=1")).status == 405


@ensureDeferred
async def test_vacuum(stage: Stage) -> None:
    server = await stage.add(volumes={3: volume(3)})
    status = await stage.get("/vol/vacuum?garbageThreshold=0.5")
    assert status["Topology"]["Layouts"][0]["writables"] == [3]
    steps = ("check", "compact", "check", "commit")
    assert [path for path, _ in server.asked] == [f"/admin/vacuum/{step}" for step in steps]
    for wrong in ("abc", "nan", "-1", "2"):
        answer = await stage.ask("GET", f"/vol/vacuum?garbageThreshold={wrong}")
        assert answer.status == 406
        assert wrong in answer.error


@ensureDeferred
async def test_collections(stage: Stage) -> None:
    server = await stage.add(volumes={3: volume(3, collection="pics"), 4: volume(4)})
    assert (await stage.get("/collection/info?collection=pics"))["VolumeCount"] == 1
    assert len(await stage.get("/collection/info?collection=pics&detail=true")) == 1
    answer = await stage.ask("GET", "/col/delete?collection=pics")
    assert (answer.status, answer.body) == (204, b"")
    assert list(server.volumes) == [4]
    assert (await stage.ask("GET", "/dir/lookup?volumeId=3")).status == 404
    for path in ("/col/delete?collection=pics", "/collection/info?collection=pics"):
        assert "pics" in (await stage.ask("GET", path)).error
    for path in ("/col/delete", "/col/delete?collection=", "/collection/info"):
        answer = await stage.ask("GET", path)
        assert answer.status == 400
        assert "collection" in answer.error
    assert list(server.volumes) == [4]


# ------------------------------------------------------------------ submit


@ensureDeferred
async def test_submit(stage: Stage) -> None:
    server = await stage.add(public_url="files.example:80")
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    kind = "multipart/form-data; boundary=x"
    answer = await stage.ask("POST", "/submit?collection=pics&ttl=&ts=99", body, Content_Type=kind, Seaweed_Tag="t")
    assert answer.status == 201
    fid = answer.json["fid"]
    assert answer.json == {
        "eTag": "0a0b0c0d",
        "fid": fid,
        "fileName": "told.txt",
        "fileUrl": f"files.example:80/{fid}",
        "size": len(body),
    }
    assert server.files[fid] == body
    assert server.headers[fid] == {"Content-Type": kind, "Content-Encoding": None, "Seaweed-Tag": "t"}
    assert server.asked[-1] == (f"/{fid}", {"ttl": "", "ts": "99"})
    assert server.volumes[FileId.parse(fid).volume_id].collection == "pics"


@ensureDeferred
async def test_submit_passes_a_bare_body_on_even_one_that_looks_like_a_form(stage: Stage) -> None:
    server = await stage.add()
    for kind in ("text/plain", FORM):
        answer = await stage.ask("POST", "/submit", b"collection=x", Content_Type=kind)
        assert answer.status == 201
        assert server.files[answer.json["fid"]] == b"collection=x"
    assert {each.collection for each in server.volumes.values()} == {""}


@ensureDeferred
async def test_submit_refuses(stage: Stage) -> None:
    server = await stage.add()
    assert "POST" in (await stage.ask("GET", "/submit")).error
    assert (await stage.ask("PUT", "/submit", b"x")).status == 405
    assert (await stage.ask("POST", "/submit", b"")).status == 400
    assert (await stage.ask("POST", "/submit", b"x", Content_Type="multipart/form-data")).status == 400
    assert (await stage.ask("POST", "/submit?replication=abc", b"x")).status == 400
    assert (await stage.ask("POST", "/submit?replication=200", b"x")).status == 406
    assert server.files == {}
    no_part = await stage.ask("POST", "/submit", b"--x--", Content_Type="multipart/form-data; boundary=x")
    assert (no_part.status, no_part.error) == (400, "there is no part in this form")


@ensureDeferred
async def test_submit_when_the_volume_server_fails(stage: Stage) -> None:
    server = await stage.add()
    await stage.get("/dir/assign")
    await server.stop_listening()
    answer = await stage.ask("POST", "/submit", b"x", Content_Type="text/plain")
    assert answer.status == 502
    assert server.address in answer.error


# ------------------------------------------------------------------ how the cluster is


@ensureDeferred
async def test_status_pages(stage: Stage) -> None:
    assert await stage.get("/cluster/status") == {"IsLeader": True, "Leader": stage.master.address}
    await stage.add(volumes={3: volume(3)})
    assert (await stage.get("/cluster/status"))["MaxVolumeId"] == 3
    assert "Volumes" in await stage.get("/vol/status")
    for path in ("/healthz", "/readyz", "/cluster/healthz"):
        answer = await stage.ask("GET", path)
        assert (answer.status, answer.body) == (200, b"")
        assert (await stage.ask("POST", path, b"")).status == 405
    for path in ("/", "/ui/index.html"):
        page = await stage.ask("GET", path)
        assert page.headers["content-type"].startswith("text/html")
        assert b"<html" in page.body
    icon = await stage.ask("GET", "/favicon.ico")
    assert icon.headers["content-type"].startswith("image/")
    assert icon.body
    pretty = await stage.ask("GET", "/dir/status?pretty=y")
    assert b"\n" in pretty.body
    assert pretty.json == await stage.get("/dir/status?callback=alert")


@ensureDeferred
async def test_forgetting_a_server(stage: Stage) -> None:
    server = await stage.add(volumes={3: volume(3)})
    assert "connected" in (await stage.ask("POST", f"/cluster/forget?server={server.address}")).error
    await server.leave()
    await until(lambda: stage.master.cluster is not None and not stage.master.cluster.topology.servers)
    assert (await stage.ask("GET", "/dir/lookup?volumeId=3")).status == 503
    assert (await stage.ask("GET", f"/cluster/forget?server={server.address}")).status == 405
    assert (await stage.ask("POST", f"/cluster/forget?server={server.address}")).status == 200
    assert (await stage.ask("GET", "/dir/lookup?volumeId=3")).status == 404
    assert (await stage.ask("POST", f"/cluster/forget?server={server.address}")).status == 400


@ensureDeferred
async def test_the_white_list_guards_what_changes_something(stage: Stage) -> None:
    await stage.stop()
    stage.start(white_list=("10.0.0.0/8",))
    await stage.lead()
    await stage.add(volumes={3: volume(3, collection="pics")})
    for path in ("/dir/assign", "/vol/grow?count=1", "/vol/vacuum", "/col/delete?collection=pics"):
        answer = await stage.ask("GET", path)
        assert answer.status == 403, path
        assert "127.0.0.1" in answer.error
    assert (await stage.ask("POST", "/submit", b"x" * 100_000)).status == 403
    assert (await stage.ask("POST", "/cluster/forget?server=a:1")).status == 403
    for path in ("/dir/lookup?volumeId=3", "/dir/status", "/vol/status", "/cluster/status"):
        await stage.get(path)


@ensureDeferred
async def test_a_body_nobody_asked_for_is_not_taken(stage: Stage) -> None:
    answer = await stage.ask("POST", "/dir/assign", b"x" * 1_000_000)
    assert answer.status in {400, 413}
    assert answer.error


# ------------------------------------------------------------------ over a restart


@ensureDeferred
async def test_after_a_restart_nothing_is_given_out_twice_and_nothing_is_404_too_early(stage: Stage) -> None:
    server = await stage.add()
    keys = [FileId.parse((await stage.get("/dir/assign"))["fid"]).key for _ in range(3)]
    cluster = (await stage.get("/dir/status"))["TopologyId"]
    volume_id = max(server.volumes)
    port = int(stage.master.address.rpartition(":")[2])
    await server.leave()
    await stage.stop()
    stage.start(port=port)
    assert (await stage.get("/dir/status"))["TopologyId"] == cluster
    assert (await stage.ask("GET", f"/dir/lookup?volumeId={volume_id}")).status == 503
    assert (await stage.ask("GET", f"/{volume_id},01637037d6")).status == 503
    await stage.lead()
    assert (await stage.ask("GET", f"/dir/lookup?volumeId={volume_id + 1}")).status == 404
    waiting = Deferred.fromCoroutine(stage.get("/dir/assign"))
    held = len(server.volumes)
    await server.join(stage.master.address)
    assert FileId.parse((await waiting)["fid"]).key > max(keys)
    assert len(server.volumes) == held  # none was made while this one was awaited
    assert (await stage.get("/vol/grow?count=1")) == {"count": 1}
    assert max(server.volumes) == volume_id + 1


@ensureDeferred
async def test_keys_of_volumes_brought_from_elsewhere_are_not_given_out(stage: Stage) -> None:
    server = await stage.add(volumes={40: volume(40, max_key=5_000_000)}, max_key=5_000_000)
    assert FileId.parse((await stage.get("/dir/assign"))["fid"]).key == 5_000_001
    assert server.beats is not None
    server.beats.say(Delta(2, (attrs.evolve(volume(41), max_key=6_000_000),), (), (), 10, 6_000_000))
    await until(lambda: stage.master.cluster is not None and bool(stage.master.cluster.topology.copies(41)))
    assert FileId.parse((await stage.get("/dir/assign"))["fid"]).key == 6_000_001
    await stage.get("/vol/grow?count=1")
    assert max(server.volumes) == 42


# ------------------------------------------------------------------ the wire


@ensureDeferred
async def test_heartbeats_and_http_share_the_port(stage: Stage) -> None:
    server = await stage.add()
    assert server.beats is not None
    assert server.beats.heard[0].cluster == (await stage.get("/dir/status"))["TopologyId"]
    stranger = attrs.evolve(server.beats.server, address=server.address, data_center="dc9", volumes={})
    stranger.address = server.address
    await stranger.join(stage.master.address)  # the same folders: it takes the place of the first
    assert (await stage.get("/dir/status"))["Topology"]["DataCenters"][0]["Id"] == "dc9"
    await stranger.leave()


@pytest.mark.parametrize("method", ["GET", "POST"])
@ensureDeferred
async def test_errors_are_json(stage: Stage, method: str) -> None:
    answer = await stage.ask(method, "/dir/assign?replication=x&pretty=y")
    assert json.loads(answer.body)["error"]
    assert b"\n" in answer.body
