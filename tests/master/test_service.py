"""Starting and stopping a master."""

import os
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent

from tests.master.scene import volume
from tests.master.stage import Stage, reactor, until
from weedtw.config.model import MasterConfig
from weedtw.errors import ConfigError, FolderInUse, StorageError, StoreFailed, WeedError
from weedtw.formats.beat import Leader
from weedtw.master.entry import NAME
from weedtw.master.service import MasterService


def make(folder: Path, **config: Any) -> MasterService:
    usual: dict[str, Any] = {"ip": "127.0.0.1", "port": 0, "mdir": str(folder)}
    return MasterService(MasterConfig(**(usual | config)), reactor)


def refusal(service: MasterService, kind: type[WeedError]) -> str:
    with pytest.raises(kind) as caught:
        service.prepare()
    return str(caught.value)


@ensureDeferred
async def test_a_folder_in_use(stage: Stage) -> None:
    reason = refusal(make(stage.folder / "m"), FolderInUse)
    assert str(stage.folder / "m") in reason


@ensureDeferred
async def test_a_port_in_use_leaves_the_folder_free(stage: Stage, tmp_path: Path) -> None:
    port = int(stage.master.address.rpartition(":")[2])
    other = tmp_path / "other"
    reason = refusal(make(other, port=port), ConfigError)
    assert f"--port: cannot listen on 127.0.0.1:{port}: the port is taken" in reason
    assert not other.exists()
    service = make(other)
    service.prepare()
    service.startService()
    await service.stopService()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refusal(make(tmp_path / "file" / "m"), StorageError)


def test_a_folder_is_made_in_one_that_is_there(tmp_path: Path) -> None:
    service = make(tmp_path / "m")
    service.hold()
    assert (tmp_path / "m").is_dir()
    service._let_go()
    assert "no such folder" in refusal(make(tmp_path / "typo" / "m"), StorageError)
    assert not (tmp_path / "typo").exists()


@ensureDeferred
async def test_a_master_that_nobody_else_can_reach_says_so(tmp_path: Path) -> None:
    for ip, times in (("localhost", 1), ("127.0.0.1", 0)):
        service = make(tmp_path, ip=ip)
        with capturedLogs() as events:
            service.prepare()
            service.startService()
        lines = [formatEvent(event) for event in events if event["log_level"] is LogLevel.info]
        assert [("another host" in line, "--ip" in line) for line in lines].count((True, True)) == times
        await service.stopService()


def test_a_file_that_cannot_be_the_masters(tmp_path: Path) -> None:
    """What the store makes of each kind of damage is in tests/raft/test_sqlite.py."""
    (tmp_path / NAME).write_bytes(b"x" * 5000)
    assert NAME in refusal(make(tmp_path), StoreFailed)
    assert (tmp_path / NAME).read_bytes() == b"x" * 5000  # nothing is wiped
    (tmp_path / NAME).write_bytes(b"")
    assert NAME in refusal(make(tmp_path), StoreFailed)
    os.unlink(tmp_path / NAME)
    with closing(sqlite3.connect(tmp_path / NAME)) as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    assert "another program" in refusal(make(tmp_path), StoreFailed)


@ensureDeferred
async def test_a_file_of_a_newer_version(stage: Stage) -> None:
    await stage.stop()
    with closing(sqlite3.connect(stage.folder / "m" / NAME)) as database:
        database.execute("PRAGMA user_version = 99")
    assert "newer weedtw (schema 99)" in refusal(make(stage.folder / "m"), StoreFailed)


@ensureDeferred
async def test_requests_under_way_finish_when_it_stops(stage: Stage) -> None:
    server = await stage.add()
    released: Deferred[None] = Deferred()
    server.gate = released
    answer = Deferred.fromCoroutine(stage.get("/dir/assign"))
    await until(lambda: bool(server.asked))
    stopped = Deferred.fromCoroutine(stage.stop())
    assert not stopped.called
    released.callback(None)
    assert (await answer)["fid"]
    await stopped


@ensureDeferred
async def test_a_disk_that_hangs_keeps_nobody_waiting_who_asks_how_the_master_is(stage: Stage) -> None:
    server = await stage.add(volumes={3: volume(3)})
    assert server.beats is not None
    node = stage.master.ledger.node
    assert node is not None
    release = threading.Event()

    def hang() -> None:
        release.wait(60)

    hanging = node._disk.run(hang)
    try:
        growing = Deferred.fromCoroutine(stage.ask("GET", "/vol/grow?count=1"))  # which has to be written down
        for path in ("/cluster/status", "/cluster/healthz", "/healthz", "/cluster/members", "/metrics"):
            assert (await stage.ask("GET", path)).status == 200, path
        assert (await stage.ask("GET", "/dir/lookup?volumeId=3")).status == 200
        assert not hanging.called, "all that was answered was answered while the disk hung"
    finally:
        release.set()
        await hanging
    await growing


@ensureDeferred
async def test_after_a_stop_the_port_the_folder_and_the_volume_servers_are_free(stage: Stage) -> None:
    server = await stage.add(volumes={3: volume(3)})
    address = stage.master.address
    await stage.stop()
    await until(lambda: server.beats is not None and server.beats.is_lost)
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0
    stage.start(port=int(port))
    assert stage.master.address == address
    await server.join(address)
    await stage.get("/dir/lookup?volumeId=3")


@ensureDeferred
async def test_a_ledger_that_fails_is_said_loudly_and_ends_assigning(
    stage: Stage, logged_failures: list[LogEvent]
) -> None:
    server = await stage.add()
    await stage.get("/dir/assign")
    with closing(sqlite3.connect(stage.folder / "m" / NAME)) as intruder, intruder:
        intruder.execute("DELETE FROM log")
    answer = await stage.ask("GET", "/vol/grow?count=1")
    assert answer.status == 503
    assert NAME in answer.error
    assert (await stage.ask("GET", "/dir/assign")).status == 503
    assert (await stage.ask("GET", "/readyz")).status == 503
    assert (await stage.ask("GET", "/healthz")).status == 200
    assert (await stage.get("/cluster/status"))["IsLeader"] is False
    assert (await stage.ask("GET", "/dir/lookup?volumeId=1")).status == 200  # reading goes on
    nobody_leads = Leader(None, (stage.master.address,))
    await until(lambda: server.beats is not None and server.beats.heard[-1] == nobody_leads)
    said = [formatEvent(event) for event in logged_failures]
    assert ["changed by another program" in line for line in said] == [True, True]
    assert "start it again" in said[1]
    logged_failures.clear()


@ensureDeferred
async def test_a_master_never_started_stops_without_a_complaint(tmp_path: Path) -> None:
    service = make(tmp_path)
    service.prepare()
    with capturedLogs() as said:
        await service.stopService()
    assert {event["log_level"] for event in said} <= {LogLevel.info}
    again = make(tmp_path)
    again.prepare()  # it holds the folder no more
    await again.stopService()
