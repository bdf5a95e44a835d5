"""Reading, downloading and deleting, against servers that fail in every way a test can script."""

import os
import pathlib
from typing import TYPE_CHECKING

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred

from weedtw.client import FileInfo
from weedtw.errors import (
    AnswerTooLarge,
    BadFileId,
    NeedleNotFound,
    PeerError,
    StorageError,
    Unavailable,
    VolumeNotFound,
)

if TYPE_CHECKING:
    from tests.client.conftest import Answer, Cluster, Seen

CONTENT = bytes(range(256)) * 4000
FID = "1,01deadbeef"
PATH = f"/{FID}"


def _store(cluster: "Cluster", *, copies: int = 1, content: bytes = CONTENT) -> None:
    """Put a file on the first servers, and let the master know of them in that order."""
    cluster.master.holders["1"] = cluster.volumes[:copies]
    for volume in cluster.volumes[:copies]:
        volume.files[PATH] = content


@ensureDeferred
async def test_a_file_is_read_and_described(cluster: "Cluster") -> None:
    _store(cluster)
    client = cluster.client()
    assert await client.read(FID) == CONTENT
    info = await client.head(FID)
    assert (info.name, info.mime, info.size, info.etag) == ("x.txt", "text/plain", len(CONTENT), '"0badcafe"')
    assert info.url == cluster.volumes[0].address
    assert len(cluster.master.asked("GET", "/dir/lookup")) == 1


@ensureDeferred
async def test_connections_are_kept_and_used_again(cluster: "Cluster") -> None:
    _store(cluster)
    client = cluster.client()
    for _ in range(5):
        await client.read(FID)
        await client.head(FID)
    assert cluster.volumes[0].connected == 1


@ensureDeferred
async def test_what_is_too_large_for_memory_is_refused_before_it_is_read(cluster: "Cluster") -> None:
    _store(cluster)
    with pytest.raises(AnswerTooLarge) as raised:
        await cluster.client().read(FID, limit=1000)
    assert (raised.value.limit, raised.value.size) == (1000, len(CONTENT))


@ensureDeferred
async def test_an_answer_longer_than_announced_does_not_fill_memory(cluster: "Cluster") -> None:
    endless = cluster.answer(200, b"2000\r\n" + b"x" * 0x2000 + b"\r\n", {"Transfer-Encoding": "chunked"})
    _store(cluster)

    def chunked(request: "Seen") -> "Answer":
        return endless

    cluster.volumes[0].faults.append(chunked)
    with pytest.raises((AnswerTooLarge, PeerError)):
        await cluster.client(patience=0.3).read(FID, limit=1000)


@ensureDeferred
async def test_a_slow_reader_holds_the_connection_up(cluster: "Cluster") -> None:
    _store(cluster, content=CONTENT * 8)
    pieces: list[bytes] = []
    waiting: list[Deferred[None]] = []
    begun: Deferred[None] = Deferred()

    def write(piece: bytes) -> Deferred[None]:
        pieces.append(piece)
        waiting.append(Deferred())
        if not begun.called:
            begun.callback(None)
        return waiting[-1]

    streaming = Deferred.fromCoroutine(cluster.client(idle_timeout=0.2).stream(FID, write))
    await begun
    await cluster.turns(0.5)  # longer than the idle limit: it is the reader that is slow, not the server
    assert len(pieces) == 1
    assert len(pieces[0]) < 1_000_000
    while not streaming.called:
        if waiting:
            waiting.pop().callback(None)
        await cluster.turns(0)
    await streaming
    assert b"".join(pieces) == CONTENT * 8


@ensureDeferred
async def test_what_the_writer_raises_reaches_the_caller_and_ends_the_connection(cluster: "Cluster") -> None:
    _store(cluster, content=CONTENT * 8)
    for error in (ValueError("enough"), PeerError("somewhere", "the writer's own")):

        def write(piece: bytes, error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as raised:
            await cluster.client().stream(FID, write)
        assert raised.value is error
    assert len(cluster.volumes[0].asked("GET")) == 2


@ensureDeferred
async def test_a_body_that_breaks_off_is_resumed_elsewhere_without_a_gap(cluster: "Cluster") -> None:
    _store(cluster, copies=2)
    half = cluster.answer(200, CONTENT[:500_000], {"ETag": '"0badcafe"'}, announced=len(CONTENT), cut=True)
    for volume in cluster.volumes:
        volume.faults.append(lambda request: None if "range" in request.headers else half)
    assert await cluster.client().read(FID) == CONTENT
    resumed = [one for volume in cluster.volumes for one in volume.asked("GET") if "range" in one.headers]
    assert [one.headers["range"] for one in resumed] == ["bytes=500000-"]
    assert [one.headers["if-range"] for one in resumed] == ['"0badcafe"']


@ensureDeferred
async def test_a_file_that_changed_meanwhile_is_not_patched_together(cluster: "Cluster") -> None:
    _store(cluster)
    half = cluster.answer(200, CONTENT[:500_000], {"ETag": '"another"'}, announced=len(CONTENT), cut=True)
    cluster.volumes[0].fail_once(half, "GET")
    with pytest.raises(PeerError, match="broke off after 500000 bytes"):
        await cluster.client().read(FID)


@ensureDeferred
async def test_a_body_that_stalls_is_given_up(cluster: "Cluster") -> None:
    _store(cluster)
    cluster.volumes[0].fail_once(cluster.answer(200, b"and then", announced=100), "GET")
    with pytest.raises(PeerError, match=r"stalled for 0\.4 s"):
        await cluster.client().read(FID)


@ensureDeferred
async def test_an_empty_file_is_a_file(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    _store(cluster, content=b"")
    client = cluster.client()
    assert await client.read(FID) == b""
    path, info = await client.download(FID, str(tmp_path))
    assert info.size == 0
    assert pathlib.Path(path).read_bytes() == b""


@ensureDeferred
async def test_another_copy_is_asked_when_one_is_gone_or_fails(cluster: "Cluster") -> None:
    _store(cluster, copies=2)
    client = cluster.client()
    cluster.volumes[0].faults.append(lambda _: cluster.no(500, "damaged"))
    for _ in range(5):
        assert await client.read(FID) == CONTENT
    cluster.volumes[0].faults[0] = lambda _: cluster.no(404)
    for _ in range(5):
        assert await client.read(FID) == CONTENT
    await cluster.volumes[0].stop()
    for _ in range(5):
        assert await client.read(FID) == CONTENT


@ensureDeferred
async def test_a_damaged_only_copy_is_an_error_at_once(cluster: "Cluster") -> None:
    _store(cluster)
    cluster.volumes[0].faults.append(lambda _: cluster.no(500, "1.dat: the checksum does not match"))
    with pytest.raises(PeerError, match="the checksum does not match"):
        await cluster.client(patience=60.0).read(FID)


@ensureDeferred
async def test_a_volume_that_moved_is_found_again(cluster: "Cluster") -> None:
    _store(cluster)
    client = cluster.client()
    await client.read(FID)
    cluster.volumes[1].files[PATH] = cluster.volumes[0].files.pop(PATH)
    cluster.master.holders["1"] = [cluster.volumes[1]]
    assert await client.read(FID) == CONTENT
    assert len(cluster.master.asked("GET", "/dir/lookup")) == 2


@ensureDeferred
async def test_what_is_not_there_is_not_found(cluster: "Cluster") -> None:
    client = cluster.client()
    with pytest.raises(NeedleNotFound):
        await client.read(FID)
    with pytest.raises(VolumeNotFound):
        await client.read("77,01deadbeef")
    with pytest.raises(BadFileId):
        await client.read("not a file id")


@ensureDeferred
async def test_a_busy_server_is_asked_again(cluster: "Cluster") -> None:
    _store(cluster)
    cluster.volumes[0].fail_once(cluster.no(503, "busy", **{"Retry-After": "0"}), "GET")
    cluster.volumes[0].fail_once(cluster.hang_up, "HEAD")
    client = cluster.client()
    assert await client.read(FID) == CONTENT
    assert (await client.head(FID)).size == len(CONTENT)
    cluster.volumes[0].faults.append(lambda _: cluster.no(503, "still busy"))
    with pytest.raises(Unavailable, match="still busy"):
        await cluster.client(patience=0.3).read(FID)


@ensureDeferred
async def test_a_file_is_deleted_once(cluster: "Cluster") -> None:
    _store(cluster)
    client = cluster.client()
    assert await client.delete(FID) == len(CONTENT)
    with pytest.raises(NeedleNotFound):
        await client.delete(FID)


@ensureDeferred
async def test_a_delete_whose_answer_was_lost_counts_as_done(cluster: "Cluster") -> None:
    _store(cluster)
    cluster.volumes[0].fail_once(cluster.hang_up, "DELETE", store=True)
    await cluster.client().delete(FID)
    assert cluster.files == {}


@ensureDeferred
async def test_a_wrong_cookie_is_no_reason_to_ask_another_copy(cluster: "Cluster") -> None:
    _store(cluster, copies=2)
    for volume in cluster.volumes:
        volume.faults.append(lambda _: cluster.no(400, "the cookie does not match"))
    with pytest.raises(PeerError, match="cookie"):
        await cluster.client(patience=60.0).delete(FID)


@ensureDeferred
async def test_a_download_appears_whole_under_its_stored_name(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    _store(cluster)
    told: list[FileInfo] = []
    moved: list[int] = []
    path, info = await cluster.client().download(FID, str(tmp_path), begin=told.append, progress=moved.append)
    assert pathlib.Path(path) == tmp_path / "x.txt"
    assert (tmp_path / "x.txt").read_bytes() == CONTENT
    assert told == [info]
    assert sum(moved) == len(CONTENT)
    assert os.listdir(tmp_path) == ["x.txt"]


@ensureDeferred
async def test_a_download_that_fails_leaves_no_file(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    _store(cluster)
    half = cluster.answer(200, CONTENT[:500_000], announced=len(CONTENT), cut=True)
    cluster.volumes[0].faults.append(lambda _: half)
    with pytest.raises(PeerError, match="broke off"):
        await cluster.client().download(FID, str(tmp_path))
    assert os.listdir(tmp_path) == []


@ensureDeferred
async def test_a_name_that_is_taken_is_not_overwritten_unless_asked(
    cluster: "Cluster", tmp_path: pathlib.Path
) -> None:
    _store(cluster)
    mine = tmp_path / "x.txt"
    mine.write_bytes(b"mine")
    client = cluster.client()
    with pytest.raises(StorageError, match="exists already"):
        await client.download(FID, str(tmp_path))
    assert mine.read_bytes() == b"mine"
    await client.download(FID, str(tmp_path), overwrite=True)
    assert mine.read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["x.txt"]


@ensureDeferred
async def test_a_name_taken_while_the_file_came_in_is_not_overwritten(
    cluster: "Cluster", tmp_path: pathlib.Path
) -> None:
    _store(cluster)

    def somebody_else(info: FileInfo) -> None:
        (tmp_path / "x.txt").write_bytes(b"theirs")

    with pytest.raises(StorageError, match="exists already"):
        await cluster.client().download(FID, str(tmp_path), begin=somebody_else)
    assert (tmp_path / "x.txt").read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["x.txt"]


@ensureDeferred
@pytest.mark.parametrize("name", ["../../x.txt", "/etc/x.txt", "..\\x.txt"])
async def test_a_stored_name_cannot_leave_the_folder(cluster: "Cluster", tmp_path: pathlib.Path, name: str) -> None:
    _store(cluster)
    disposition = {"Content-Disposition": f'inline; filename="{name}"'}
    cluster.volumes[0].fail_once(cluster.answer(200, b"evil", disposition), "GET")
    path, _ = await cluster.client().download(FID, str(tmp_path))
    assert pathlib.Path(path).parent == tmp_path
    assert os.listdir(tmp_path) == ["x.txt"]


@ensureDeferred
async def test_a_file_without_a_usable_name_is_called_by_its_id(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    _store(cluster)
    cluster.volumes[0].fail_once(cluster.answer(200, b"x", {"Content-Disposition": 'inline; filename=".."'}), "GET")
    path, _ = await cluster.client().download(FID, str(tmp_path))
    assert os.path.basename(path) == FID


@ensureDeferred
async def test_a_folder_that_is_not_there_is_an_error_of_the_disk(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    _store(cluster)
    with pytest.raises(StorageError, match="No such file or directory"):
        await cluster.client().download(FID, str(tmp_path / "nowhere"))


@ensureDeferred
async def test_cancelling_a_download_leaves_no_file(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    _store(cluster)
    begun: Deferred[None] = Deferred()
    cluster.volumes[0].fail_once(cluster.answer(200, CONTENT[:1000], announced=len(CONTENT)), "GET")
    download = Deferred.fromCoroutine(
        cluster.client(idle_timeout=60.0).download(FID, str(tmp_path), progress=lambda _: begun.callback(None))
    )
    await begun
    download.cancel()
    with pytest.raises(CancelledError):
        await download
    assert os.listdir(tmp_path) == []


@ensureDeferred
async def test_a_download_may_be_given_another_name(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    _store(cluster)
    path, info = await cluster.client().download(FID, str(tmp_path), name="mine.bin")
    assert (path, info.name) == (str(tmp_path / "mine.bin"), "x.txt")
    assert (tmp_path / "mine.bin").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["mine.bin"]
