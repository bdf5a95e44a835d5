"""Uploads against servers that fail in every way a test can script."""

import io
import json
import pathlib
from typing import TYPE_CHECKING

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred

from weedtw.client import Placement
from weedtw.client.bodies import PIECE
from weedtw.errors import BadRequest, BadTtl, PeerError, StorageError, Unavailable

if TYPE_CHECKING:
    from tests.client.conftest import Answer, Cluster, Seen

CONTENT = bytes(range(256)) * 1000


@ensureDeferred
async def test_bytes_are_stored_under_the_id_that_was_assigned(cluster: "Cluster") -> None:
    uploaded = await cluster.client().upload(b"hello", name="h.txt", placement=Placement(collection="c", ttl="3m"))
    assert cluster.files == {f"/{uploaded.fid}": b"hello"}
    assert (uploaded.name, uploaded.size, uploaded.etag, uploaded.chunks) == ("h.txt", 5, "0badcafe", ())
    (assigned,) = cluster.master.asked("GET", "/dir/assign")
    assert assigned.query == {"count": "1", "collection": "c", "ttl": "3m"}
    (stored,) = [one for volume in cluster.volumes for one in volume.requests]
    assert stored.query == {"ttl": "3m"}
    assert b'filename="h.txt"\r\nContent-Type: text/plain\r\n' in stored.body


@ensureDeferred
async def test_a_path_and_a_file_object_are_stored_from_where_they_stand(
    cluster: "Cluster", tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    client = cluster.client()
    whole = await client.upload(path)
    file = io.BytesIO(b"skipped" + CONTENT)
    file.seek(7)
    rest = await client.upload(file, name="rest")
    assert (whole.name, whole.size) == ("data.bin", len(CONTENT))
    assert set(cluster.files) == {f"/{whole.fid}", f"/{rest.fid}"}
    assert set(cluster.files.values()) == {CONTENT}
    assert not file.closed


@ensureDeferred
async def test_a_long_body_is_sent_in_pieces_and_progress_adds_up(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(CONTENT * 12)
    moves: list[int] = []
    await cluster.client().upload(str(path), progress=moves.append)
    assert list(cluster.files.values()) == [CONTENT * 12]
    assert sum(moves) == len(CONTENT) * 12
    assert max(moves) <= PIECE


@ensureDeferred
async def test_a_large_file_becomes_chunks_and_a_manifest(cluster: "Cluster") -> None:
    uploaded = await cluster.client().upload(CONTENT, name="big.bin", max_bytes=100_000)
    assert [(chunk.offset, chunk.size) for chunk in uploaded.chunks] == [
        (0, 100_000),
        (100_000, 100_000),
        (200_000, 56_000),
    ]
    files = cluster.files
    manifest = json.loads(files.pop(f"/{uploaded.fid}"))
    assert (manifest["name"], manifest["size"], manifest["mime"]) == ("big.bin", 256_000, "application/octet-stream")
    assert b"".join(files[f"/{one['fid']}"] for one in manifest["chunks"]) == CONTENT
    assert len(files) == 3
    assert [one.query for volume in cluster.volumes for one in volume.requests if one.query] == [{"cm": "true"}]


@ensureDeferred
async def test_a_file_of_exactly_the_limit_is_not_split(cluster: "Cluster") -> None:
    uploaded = await cluster.client().upload(b"x" * 10, max_bytes=10)
    assert uploaded.chunks == ()


@ensureDeferred
async def test_nothing_stays_when_a_chunk_is_refused(cluster: "Cluster") -> None:
    def refuse_fourth(request: "Seen") -> "Answer | None":
        return cluster.no(400, "not that one") if b"big.bin-4" in request.body else None

    for volume in cluster.volumes:
        volume.faults.append(refuse_fourth)
    with pytest.raises(PeerError, match="not that one"):
        await cluster.client().upload(CONTENT, name="big.bin", max_bytes=50_000)
    assert cluster.files == {}
    assert any(volume.asked("DELETE") for volume in cluster.volumes)


@ensureDeferred
async def test_nothing_stays_when_the_manifest_is_refused(cluster: "Cluster") -> None:
    def refuse_manifest(request: "Seen") -> "Answer | None":
        return cluster.no(500, "no manifests here") if request.query.get("cm") else None

    for volume in cluster.volumes:
        volume.faults.append(refuse_manifest)
    with pytest.raises(PeerError, match="no manifests here"):
        await cluster.client().upload(CONTENT, max_bytes=100_000)
    assert cluster.files == {}


@ensureDeferred
async def test_nothing_stays_when_the_caller_gives_up(cluster: "Cluster") -> None:
    begun: Deferred[None] = Deferred()

    def stall_third(request: "Seen") -> "Answer | None":
        if b'-3"' not in request.body:
            return None
        if not begun.called:
            begun.callback(None)
        return cluster.silence

    for volume in cluster.volumes:
        volume.faults.append(stall_third)
    upload = Deferred.fromCoroutine(cluster.client(answer_timeout=30.0).upload(CONTENT, max_bytes=100_000))
    await begun
    upload.cancel()
    with pytest.raises(CancelledError):
        await upload
    assert cluster.files == {}


@ensureDeferred
async def test_an_answer_that_was_lost_is_asked_for_again_under_the_same_id(cluster: "Cluster") -> None:
    for volume in cluster.volumes:
        volume.fail_once(cluster.hang_up, "POST", store=True)
    uploaded = await cluster.client().upload(b"once")
    assert cluster.files == {f"/{uploaded.fid}": b"once"}
    assert len(cluster.master.asked("GET", "/dir/assign")) == 1


@ensureDeferred
async def test_a_server_that_stays_silent_is_left_for_another_and_its_copy_is_deleted(cluster: "Cluster") -> None:
    mute = cluster.volumes[1]  # the first to be assigned

    def store_and_say_nothing(request: "Seen") -> "Answer | None":
        if request.method != "POST":
            return None
        mute.files[request.path] = b"a copy that nobody knows of"
        return cluster.silence

    mute.faults.append(store_and_say_nothing)
    uploaded = await cluster.client().upload(b"patience")
    assert cluster.files == {f"/{uploaded.fid}": b"patience"}
    assert uploaded.fid.volume_id == 1


@ensureDeferred
async def test_a_server_that_is_gone_is_left_for_another_at_once(cluster: "Cluster") -> None:
    await cluster.volumes[1].stop()
    uploaded = await cluster.client().upload(b"moved on")
    assert cluster.volumes[0].files == {f"/{uploaded.fid}": b"moved on"}


@ensureDeferred
@pytest.mark.parametrize("status", [404, 409, 500, 503, 507])
async def test_a_volume_that_takes_no_writes_is_left_for_another(cluster: "Cluster", status: int) -> None:
    refusal = cluster.no(status, **{"Retry-After": "0"})
    cluster.volumes[1].faults.append(lambda request: refusal if request.method == "POST" else None)
    uploaded = await cluster.client(patience=5.0).upload(b"elsewhere")
    assert cluster.files == {f"/{uploaded.fid}": b"elsewhere"}


@ensureDeferred
async def test_a_refusal_for_good_is_not_tried_again(cluster: "Cluster") -> None:
    cluster.volumes[1].fail_once(cluster.no(400, "bad form"))
    with pytest.raises(PeerError, match="bad form") as raised:
        await cluster.client().upload(b"x")
    assert raised.value.status == 400
    assert len(cluster.volumes[1].asked("POST")) == 1


@ensureDeferred
async def test_servers_that_fail_every_time_are_not_asked_for_ever(cluster: "Cluster") -> None:
    for volume in cluster.volumes:
        volume.faults.append(lambda request: cluster.no(500, "disk on fire") if request.method == "POST" else None)
    with pytest.raises(PeerError, match="disk on fire"):
        await cluster.client().upload(b"x")
    assert sum(len(volume.asked("POST")) for volume in cluster.volumes) == 3


@ensureDeferred
async def test_a_server_that_miscounts_is_not_believed(cluster: "Cluster") -> None:
    cluster.volumes[1].fail_once(cluster.answer.json({"size": 3}, 201), "POST", store=True)
    with pytest.raises(PeerError, match="3 bytes of 5"):
        await cluster.client().upload(b"12345")
    assert cluster.files == {}


@ensureDeferred
async def test_bytes_damaged_on_the_way_are_sent_again(cluster: "Cluster") -> None:
    wrong = cluster.answer.json({"size": 5, "contentMd5": "AAAAAAAAAAAAAAAAAAAAAA=="}, 201)
    cluster.volumes[1].fail_once(wrong, "POST", store=True)
    uploaded = await cluster.client().upload(b"12345")
    assert cluster.files == {f"/{uploaded.fid}": b"12345"}


@ensureDeferred
async def test_a_file_that_shrinks_meanwhile_is_an_error(cluster: "Cluster", tmp_path: pathlib.Path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(CONTENT * 20)
    moved: list[int] = []

    def shrink(count: int) -> None:
        if not moved:
            path.write_bytes(b"short now")
        moved.append(count)

    with pytest.raises(StorageError, match="became shorter"):
        await cluster.client().upload(path, progress=shrink)
    assert cluster.files == {}


@ensureDeferred
async def test_what_no_server_would_take_is_refused_before_anything_is_sent(
    cluster: "Cluster", tmp_path: pathlib.Path
) -> None:
    client = cluster.client()
    with pytest.raises(StorageError, match="not a regular file"):
        await client.upload(tmp_path)
    with pytest.raises(StorageError, match="No such file"):
        await client.upload(tmp_path / "nothing")
    with pytest.raises(StorageError):
        await client.upload("nul\0byte")
    with pytest.raises(BadTtl):
        Placement(ttl="3q")
    with pytest.raises(BadRequest):
        Placement(data_center="dc\udcff")
    with pytest.raises(BadRequest):
        await client.assign(0)
    assert cluster.master.requests == []


@ensureDeferred
async def test_a_content_type_cannot_carry_headers(cluster: "Cluster") -> None:
    with pytest.raises(BadRequest, match="content type"):
        await cluster.client().upload(b"x", mime="text/plain\r\nX-Evil: 1")
    assert cluster.files == {}


@ensureDeferred
async def test_when_no_server_can_be_reached_the_error_says_so(cluster: "Cluster") -> None:
    for volume in cluster.volumes:
        await volume.stop()
    with pytest.raises(PeerError, match="refuses connections"):
        await cluster.client(patience=0.5).upload(b"x")


@ensureDeferred
async def test_a_cluster_that_can_take_nothing_now_is_unavailable(cluster: "Cluster") -> None:
    for volume in cluster.volumes:
        volume.faults.append(lambda _: cluster.no(503, "starting", **{"Retry-After": "1"}))
    with pytest.raises(Unavailable, match="starting"):
        await cluster.client(patience=0.5).upload(b"x")


@ensureDeferred
async def test_a_file_object_that_cannot_be_read_any_more_is_an_error(cluster: "Cluster") -> None:
    file = io.BytesIO(CONTENT * 20)
    with pytest.raises(StorageError, match="the file: I/O operation on closed file"):
        await cluster.client().upload(file, progress=lambda _: file.close())
    assert cluster.files == {}
