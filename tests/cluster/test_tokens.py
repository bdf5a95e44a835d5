"""A cluster with keys: its own servers and clients get in, and nobody without a token."""

import json
import subprocess
from typing import Any

import pytest

from tests.cluster.masters import Scratch, wait_for_cluster
from tests.cluster.processes import LIMIT, WEEDTW, Answer, request, wait_until

pytestmark = pytest.mark.process

KEYS = """
[jwt.signing]
key = "a key for writing, which is long enough for everybody"
expires_after_seconds = 600
[jwt.signing.read]
key = "a key for reading, which is long enough for everybody"
"""


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_only_with_a_token(scratch: Scratch) -> None:
    folder = scratch.folder / "c"
    folder.mkdir()
    (folder / "security.toml").write_text(KEYS)
    master = scratch.start("weedtw -config_dir=./c master -port=9333 -mdir=./m -ip=127.0.0.1")
    lines = [
        f"weedtw -config_dir=./c volume -port=808{n} -dir=./{n} -ip=127.0.0.1 -mserver=127.0.0.1:9333" for n in (0, 1)
    ]
    volumes = [scratch.start(line) for line in lines]
    wait_for_cluster([master])

    def assigned() -> dict[str, Any]:
        answer = master.ask("/dir/assign?replication=001&count=2")
        return answer.json() if answer is not None and answer.status == 200 else {}

    wait_until(assigned, "an id")
    place = assigned()
    url, write = f"{place['url']}/{place['fid']}", bearer(place["auth"])
    assert request("PUT", url, b"content").status == 401
    assert request("PUT", url, b"content", bearer(assigned()["auth"])).status == 401  # of another file
    assert request("PUT", url, b"content", write).status == 201  # so the other copy took it, too
    assert request("PUT", f"{url}_1", b"second", write).status == 201

    def looked_up(reads: str) -> dict[str, Any]:
        answer = master.ask(f"/dir/lookup?fileId={place['fid']}{reads}")
        assert answer is not None
        assert answer.headers["Authorization"] == "BEARER " + answer.json()["auth"]
        found = answer.json()
        assert isinstance(found, dict)
        return found

    read = bearer(looked_up("&read=yes")["auth"])
    for volume in volumes:
        path = f"{volume.address}/{place['fid']}"
        assert request("GET", path).status == 401
        assert request("GET", path, None, write).status == 401
        answer: Answer = request("GET", path, None, read)
        assert (answer.status, answer.body) == (200, b"content")
    assert request("DELETE", url, None, read).status == 401
    assert request("DELETE", url, None, bearer(looked_up("")["auth"])).status == 202
    assert request("GET", url, None, read).status == 404

    submitted = request("POST", f"{master.address}/submit", b"by the master", {"Content-Type": "a/b"})
    assert submitted.status in {200, 201}, submitted

    def run(*words: str) -> str:
        command = [*WEEDTW, words[0], f"-master={master.address}", *words[1:]]
        ran = subprocess.run(command, cwd=scratch.folder, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert ran.returncode == 0, ran
        return ran.stdout

    (scratch.folder / "file.txt").write_text("of the commands")
    stored = json.loads(run("upload", "-replication=001", "--json", "file.txt"))
    (scratch.folder / "out").mkdir()
    run("download", "-dir=out", stored["fid"])
    assert (scratch.folder / "out" / "file.txt").read_text() == "of the commands"
    run("delete", stored["fid"])
