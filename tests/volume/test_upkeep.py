"""What a volume server does now and then: volumes expire, and a disk with little room takes no writes for a while."""

import errno
import os
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.task import deferLater

from weedtw.config import MinFree
from weedtw.storage.fileops import DiskSpace
from weedtw.volume import service

reactor: Any = installed_reactor
FID = "/3,01637037d6"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "UPKEEP", 0.02)


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await deferLater(reactor, 0.01)
    pytest.fail("waited in vain")


def told(cluster: Any) -> list[bool]:
    """Whether the volume takes no writes, each time that a master was told something new about that."""
    changed = [one.read_only for report in cluster.master.reports for one in getattr(report, "changed", ())]
    return [now for before, now in zip([False, *changed], changed, strict=False) if now != before]


@pytest_twisted.ensureDeferred
async def test_a_volume_expires_with_all_its_files(cluster: Any, tmp_path: Any) -> None:
    (server,) = await cluster.start()
    await cluster.volume(3, [server], ttl="5m")
    await cluster.volume(4, [server])
    assert (await cluster.put(server, FID, b"for five minutes")).status == 201
    assert (await cluster.put(server, "/4,01637037d6", b"for good")).status == 201
    volume, store = server.store.find(3), server.store
    now = volume.clock
    volume.clock = lambda: now() + 301
    assert (await cluster.get(server, FID)).status == 404
    assert store.at_hand(3) is not None  # the volume stays a little longer than its files
    store._clock = volume.clock = lambda: now() + 300 + 30 + 1
    await until(lambda: store.at_hand(3) is None)
    await until(lambda: cluster.master.held[server.address] == {4})
    assert not list((tmp_path / "server0").glob("3.*"))
    assert (await cluster.get(server, "/4,01637037d6")).body == b"for good"


@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_an_error_and_nobody_is_sent_here_until_there_is_room(cluster: Any) -> None:
    """Whichever of the two ways a write takes; nothing of it stays."""
    (server,) = await cluster.start(min_free_space=MinFree(percent=0, bytes=0))
    await cluster.volume(3, [server])
    assert (await cluster.put(server, FID, b"before")).status == 201
    volume = server.store.find(3)
    ops = server.store.locations[0].ops
    write, room, size = ops.pwritev, ops.disk_space, volume.info().size
    found_full: list[int] = []

    def half(fd: int, buffers: Any, offset: int) -> int:
        """The kernel takes a part, and then no more."""
        if offset > size:
            found_full.append(fd)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(write(fd, [b"".join(buffers)[:9]], offset))

    ops.disk_space = lambda path: DiskSpace(room(path).total, 0) if found_full else room(path)
    slow: dict[str, str] = {"X_Weedtw_Path": "klein"}
    # What the hot way meets the other one says, and by then the volume takes no writes.
    for way, status, words in ((slow, 500, "No space left on device"), ({}, 409, "the disk is full")):
        cluster.master.reports.clear()
        ops.pwritev = half
        refused = await cluster.put(server, "/3,02637037d6", b"more" * 50, **way)
        assert (refused.status, words in refused.error) == (status, True), (way, refused)
        assert volume.info().size == size
        assert (await cluster.get(server, "/3,02637037d6")).status == 404
        assert (await cluster.get(server, FID)).body == b"before"
        await until(lambda: told(cluster) == [True])
        again = await cluster.put(server, "/3,02637037d6", b"more", **way)
        assert (again.status, "3.dat: " in again.error) == (409, True), (way, again)
        ops.pwritev = write
        found_full.clear()
        await until(lambda: told(cluster) == [True, False])
    assert (await cluster.put(server, "/3,02637037d6", b"more")).status == 201


@pytest_twisted.ensureDeferred
async def test_a_disk_with_little_room_is_read_only_until_there_is_more(cluster: Any) -> None:
    (server,) = await cluster.start(min_free_space=MinFree(percent=0, bytes=1 << 20))
    await cluster.volume(3, [server])
    assert (await cluster.put(server, FID, b"before")).status == 201
    ops = server.store.locations[0].ops
    room = ops.disk_space
    ops.disk_space = lambda path: DiskSpace(room(path).total, 1 << 19)
    volume = server.store.find(3)
    await until(lambda: volume.read_only_reason)
    assert "less room than is to be kept free" in volume.read_only_reason
    refused = await cluster.put(server, "/3,02637037d6", b"more")
    assert (refused.status >= 400, "less room" in refused.error) == (True, True)
    assert (await cluster.get(server, FID)).body == b"before"
    await until(lambda: told(cluster) == [True])  # so nobody is sent here any more
    made = await cluster.ask("POST", server, "/admin/assign_volume?volume=5")
    assert made.status == 406
    assert (await cluster.delete(server, FID)).status == 202  # which makes room, by and by
    ops.disk_space = room
    await until(lambda: not volume.read_only_reason)
    await until(lambda: told(cluster) == [True, False])
    assert (await cluster.put(server, "/3,02637037d6", b"more")).status == 201
