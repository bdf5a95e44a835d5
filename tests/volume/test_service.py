"""Starting, stopping, and what the server says of itself."""

import os
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from weedtw import __version__
from weedtw.config import FolderConfig, MinFree
from weedtw.errors import ConfigError, FolderInUse, StorageError
from weedtw.formats.beat import Bye
from weedtw.volume.membership import FILE_NAME
from weedtw.volume.threads import MOST

reactor: Any = installed_reactor
FID = "/3,01637037d6"


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await deferLater(reactor, 0.01)
    pytest.fail("waited in vain")


@pytest_twisted.ensureDeferred
async def test_what_a_server_tells_its_master(cluster: Any) -> None:
    (server,) = await cluster.start(data_center="dc7", rack="r9", public_url="example.org:80")
    hello = cluster.master.hellos[-1]
    assert (hello.address, hello.public_url) == (server.address, "example.org:80")
    assert (hello.data_center, hello.rack, hello.cluster) == ("dc7", "r9", None)
    assert hello.uuids == server.store.uuids
    await until(lambda: cluster.master.reports)
    (full,) = cluster.master.reports
    assert (full.max_volumes, full.disks[0].max_volumes, full.disks[0].total_bytes > 0) == (30, 30, True)
    await cluster.volume(3, [server], collection="c")
    assert cluster.master.reports[-1].new[0].collection == "c"
    await cluster.ask("POST", server, "/admin/delete_volume?volume=3")
    await until(lambda: cluster.master.reports[-1].gone == (3,))


@pytest_twisted.ensureDeferred
async def test_a_restart_keeps_everything(cluster: Any, tmp_path: Path) -> None:
    (server,) = await cluster.start()
    await cluster.volume(3, [server])
    await cluster.put(server, FID, b"kept", "a/b")
    folder = tmp_path / "server0"
    await cluster.stop(server)
    assert isinstance(cluster.master.reports[-1], Bye)
    assert server.address not in cluster.master.held
    again = cluster.make(folder, masters=("127.0.0.1:1",))  # the master is remembered
    again.prepare()
    again.startService()
    cluster.servers.append(again)
    await until(lambda: cluster.master.held.get(again.address) == {3})
    assert cluster.master.hellos[-1].cluster == "0b1e0000-0000-4000-8000-000000000001"
    assert (await cluster.get(again, FID)).body == b"kept"
    assert (folder / FILE_NAME).exists()


@pytest_twisted.ensureDeferred
async def test_what_keeps_it_from_starting_is_one_error_and_leaves_nothing(cluster: Any, tmp_path: Path) -> None:
    (server,) = await cluster.start()
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(FolderInUse):
        cluster.make(tmp_path / "server0").prepare()
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ConfigError, match="cannot listen") as caught:
        cluster.make(other, port=port).prepare()
    assert str(caught.value).startswith(f"--port: cannot listen on 127.0.0.1:{port}: the port is taken")
    assert not list(other.iterdir())
    for bad in (FolderConfig(str(tmp_path / "missing" / "deeper")), FolderConfig("/proc")):
        with pytest.raises(StorageError, match=bad.path):
            cluster.make(other, folders=(bad,)).prepare()
    with pytest.raises(ConfigError, match="whiteList"):
        cluster.make(other, white_list=("nonsense",))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        fine = cluster.make(other, port=free.getsockname()[1])
    fine.prepare()  # nothing of what failed is held
    fine.startService()
    await fine.stopService()


@pytest_twisted.ensureDeferred
async def test_a_service_that_was_only_prepared_can_be_stopped(cluster: Any, tmp_path: Path) -> None:
    folder = tmp_path / "only"
    folder.mkdir()
    service = cluster.make(folder)
    service.prepare()
    with pytest.raises(StorageError, match="in use"):
        cluster.make(folder).prepare()
    await service.stopService()
    again = cluster.make(folder)
    again.prepare()  # it holds the folder no more
    await again.stopService()


@pytest_twisted.ensureDeferred
async def test_requests_under_way_are_finished(cluster: Any) -> None:
    (server,) = await cluster.start()
    await cluster.volume(3, [server])
    noise = os.urandom(7 << 20)
    await cluster.put(server, FID, noise, "a/b")
    response = await cluster.agent.request("GET", server.address, FID)
    stopped = Deferred.fromCoroutine(cluster.stop(server))
    await until(lambda: server.address not in cluster.master.held)
    assert await response.read(8 << 20) == noise
    await stopped
    with pytest.raises(Exception, match="refuse"):
        await cluster.get(server, FID)


@pytest_twisted.ensureDeferred
async def test_health(cluster: Any, tmp_path: Path) -> None:
    (server,) = await cluster.start()
    for path in ("/healthz", "/readyz"):
        answer = await cluster.get(server, path)
        assert (answer.status, answer.body) == (200, b"")
    lonely = cluster.make(tmp_path, masters=("127.0.0.1:1",))
    lonely.prepare()
    lonely.startService()
    cluster.servers.append(lonely)
    assert (await cluster.get(lonely, "/healthz")).status == 200
    answer = await cluster.get(lonely, "/readyz")
    assert (answer.status, "master" in answer.error) == (503, True)


@pytest_twisted.ensureDeferred
async def test_status_and_page(cluster: Any, tmp_path: Path) -> None:
    folder = tmp_path / "server0"
    folder.mkdir()
    (folder / "9.note").write_text("")
    (folder / "9.dat").write_bytes(bytes([3]) + bytes(7))
    (folder / "9.idx").write_bytes(b"")
    (server,) = await cluster.start()
    for number, collection in ((3, "<script>"), (4, "")):
        await cluster.volume(number, [server], collection=collection, replication="010", ttl="5h")
    value = (await cluster.get(server, "/status?pretty=y")).json
    assert (value["Version"], len(value["DiskStatuses"])) == (f"weedtw {__version__}", 1)
    assert value["DiskStatuses"][0]["dir"] == str(folder)
    volume = value["Volumes"][0]
    assert (volume["Id"], volume["Collection"], volume["ReadOnly"]) == (3, "<script>", False)
    assert (volume["ReplicaPlacement"], volume["Ttl"]) == ({"rack": 1}, {"Count": 5, "Unit": 2})
    assert value["Problems"][0]["Id"] == 9
    page = await cluster.get(server, "/ui/index.html")
    assert page["Content-Type"].startswith("text/html")
    assert (b"&lt;script&gt;" in page.body, b"<script>" in page.body) == (True, False)
    assert cluster.master.address.encode() in page.body
    for titles in re.findall(rb"<thead><tr>(.*?)</tr></thead>", page.body):
        assert len(set(titles.split(b"</th>"))) == titles.count(b"</th>") + 1, titles
    assert (await cluster.get(server, "/favicon.ico"))["Content-Type"] == "image/png"
    assert (await cluster.get(server, "/", Accept="text/html,*/*;q=0.8"))["Content-Type"].startswith("text/html")
    assert (await cluster.get(server, "/", Accept="*/*")).status == 400


@pytest_twisted.ensureDeferred
async def test_a_disk_with_too_little_room_takes_no_writes(cluster: Any) -> None:
    (server,) = await cluster.start(min_free_space=MinFree(percent=0, bytes=1 << 60))
    assert cluster.master.reports[-1].max_volumes == 0
    answer = await cluster.ask("POST", server, "/admin/assign_volume?volume=3")
    assert answer.status == 406


@pytest_twisted.ensureDeferred
async def test_mended_volumes_are_served(cluster: Any, tmp_path: Path) -> None:
    (server,) = await cluster.start()
    await cluster.volume(3, [server])
    await cluster.put(server, FID, b"whole", "a/b")
    await cluster.stop(server)
    with (tmp_path / "server0" / "3.dat").open("ab") as file:
        file.write(b"torn tail")
    again = cluster.make(tmp_path / "server0")
    again.prepare()
    assert [repair.kind for repair in again.store.repairs] == ["tail-cut"]
    again.startService()
    cluster.servers.append(again)
    assert (await cluster.get(again, FID)).body == b"whole"


@pytest_twisted.ensureDeferred
async def test_requests_that_take_all_threads_do_not_silence_the_server(cluster: Any) -> None:
    (server,) = await cluster.start(pulse_seconds=0.1)
    release = threading.Event()
    busy = [Deferred.fromCoroutine(server.threads(release.wait, 60)) for _ in range(2 * MOST)]
    try:
        cluster.master.reports.clear()
        await until(lambda: len(cluster.master.reports) > 2)
        assert not any(each.called for each in busy)
        assert (await cluster.get(server, "/healthz")).status == 200
    finally:
        release.set()
        await DeferredList(busy)


def _tells_read_only(report: Any) -> bool:
    return any(volume.read_only for volume in getattr(report, "changed", ()))


@pytest_twisted.ensureDeferred
async def test_a_folder_that_has_gone(cluster: Any, tmp_path: Path) -> None:
    (server,) = await cluster.start()
    await cluster.volume(3, [server])
    await cluster.put(server, FID, b"whole", "a/b")
    (tmp_path / "server0").rename(tmp_path / "away")
    try:
        await server._look_after_disks()
        answer = await cluster.get(server, "/status")
        (disk,), (volume,) = answer.json["DiskStatuses"], answer.json["Volumes"]
        assert (disk["all"], disk["Error"]) == (0, "cannot be asked for its room: No such file or directory")
        assert "was removed or replaced" in volume["ReadOnlyReason"]
        assert b"cannot be asked for its room" in (await cluster.get(server, "/ui/index.html")).body
        assert (await cluster.put(server, FID, b"lost", "a/b")).status == 409
        assert (await cluster.get(server, FID)).body == b"whole"
        await until(lambda: any(_tells_read_only(report) for report in cluster.master.reports))
    finally:
        (tmp_path / "away").rename(tmp_path / "server0")
    await server._look_after_disks()
    assert (await cluster.put(server, FID, b"kept", "a/b")).status == 201


@pytest_twisted.ensureDeferred
async def test_uploads_and_downloads_at_once_are_bounded(cluster: Any) -> None:
    (server,) = await cluster.start(concurrent_upload_limit_mb=1, concurrent_download_limit_mb=2)
    await cluster.volume(3, [server])
    uploads, downloads = server._site.room.in_flight, server._api.server.downloads
    large = "/3,02637037d6"
    assert (await cluster.put(server, large, os.urandom(3 << 20), "a/b")).status == 201  # alone, it may
    assert (await cluster.get(server, large)).status == 200
    assert uploads.take(1)
    assert downloads.take(1)
    assert (await cluster.put(server, FID, bytes(2 << 20), "a/b")).status == 503
    assert (await cluster.put(server, FID, os.urandom(1 << 19), "a/b")).status == 201
    answer = await cluster.get(server, large)
    assert (answer.status, bool(answer.error)) == (503, True)
    assert (await cluster.get(server, FID)).status == 200
    assert (await cluster.get(server, large, Range="bytes=0-1000000")).status == 206
    uploads.give(1)
    downloads.give(1)
    assert (uploads.used, downloads.used) == (0, 0)
