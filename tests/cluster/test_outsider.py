"""Somebody who reaches the ports, and knows nothing: each endpoint and each protocol is tried."""

import gzip
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.cluster.masters import Daemon, Scratch, assign, wait_for_cluster
from tests.cluster.processes import LIMIT, WEEDTW, Answer, request
from weedtw.http.routes import Routes
from weedtw.master.api import MasterApi
from weedtw.master.clusterapi import ClusterApi
from weedtw.volume.admin import Admin

pytestmark = pytest.mark.process

SECRET = "the secret of this cluster, which nobody guesses"
FOREIGN = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Referer": "http://evil.example/page"},
    {"User-Agent": "Mozilla/5.0", "Host": "evil.example:9333"},
)
READING = {"/dir/lookup", "/collection/info", "/dir/status", "/vol/status", "/cluster/status"}  # though by POST, too


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Daemon], Daemon]]:
    scratch = Scratch(tmp_path_factory.mktemp("outsider"))
    try:
        folder = scratch.folder / "c"
        folder.mkdir()
        (folder / "security.toml").write_text(f'[cluster]\nsecret = "{SECRET}"\n')
        peers = "127.0.0.1:9333,127.0.0.1:9334,127.0.0.1:9335"
        masters = [
            scratch.start(f"weedtw -config_dir=./c master -port={port} -mdir=./m{port} -ip=127.0.0.1 -peers={peers}")
            for port in (9333, 9334, 9335)
        ]
        volume = scratch.start(f"weedtw -config_dir=./c volume -port=8080 -dir=./v -ip=127.0.0.1 -mserver={peers}")
        wait_for_cluster(masters)
        assign(masters)  # so the volume server has found the leader, which has had it make volumes
        yield masters, volume
    finally:
        scratch.end()


def paths(app: Routes, below: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of each endpoint."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or {"GET", "POST", "PUT", "DELETE"}) - {"OPTIONS", "HEAD"}):
            yield method, below + re.sub(r"<[^>]*>", "1", rule.rule)


def changing() -> list[tuple[str, str]]:
    """What a master does that is more than reading."""
    doing = {"/dir/assign", "/submit", "/vol/grow", "/vol/vacuum", "/col/delete"}
    of_master = [(method, path) for method, path in paths(MasterApi.app) if path in doing]
    of_cluster = [(method, path) for method, path in paths(ClusterApi.app, "/cluster") if method == "POST"]
    return of_master + [(method, path) for method, path in of_cluster if path not in READING]


def ask(daemon: Daemon, method: str, path: str, headers: dict[str, str]) -> Answer:
    return request(method, f"{daemon.address}{path}", b"" if method in {"POST", "PUT"} else None, headers)


def speak(daemon: Daemon, data: bytes) -> bytes:
    """All that a daemon says to those bytes until it closes."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=LIMIT) as connection:
        connection.sendall(data)
        said = b""
        while piece := connection.recv(65536):
            said += piece
        return said


def test_pages_of_others(cluster: tuple[list[Daemon], Daemon]) -> None:
    masters, volume = cluster
    tried = [(masters[0], *endpoint) for endpoint in changing()]
    tried += [(volume, *endpoint) for endpoint in paths(Admin.app, "/admin")]
    assert len(tried) > 25
    for daemon, method, path in tried:
        for headers in FOREIGN:
            status = ask(daemon, method, path, headers).status
            assert status in {401, 403}, (method, path, headers, status)
    for headers in FOREIGN:
        assert ask(masters[0], "GET", "/dir/assign?count=2", headers).status == 403


def test_without_the_secret(cluster: tuple[list[Daemon], Daemon]) -> None:
    masters, volume = cluster
    for method, path in paths(Admin.app, "/admin"):
        assert ask(volume, method, path, {}).status == 401, path
        assert ask(volume, method, path.replace("/admin", "/%61dmin"), {}).status == 401, path
    for method, path in paths(ClusterApi.app, "/cluster"):
        if method == "POST":
            assert ask(masters[0], method, path, {}).status == 401, path
    hello = b'{"cluster":"x","node":"y","address":"127.0.0.1:1","version":1}\r\n'
    for master in masters:
        assert speak(master, b"RAFT/1 " + hello).startswith(b"refused a secret is configured here")
        assert b"a secret is configured here" in speak(master, b"BEAT/1 " + hello)
        assert (
            speak(master, b"PROVE/1 " + b"0" * 64 + b"\r\nPROVE/1 " + b"0" * 64 + b"\r\nRAFT/1 " + hello).count(
                b"\r\n"
            )
            == 1
        )
    wait_for_cluster(masters)  # which all this has not shaken


def test_commands_that_know_it(cluster: tuple[list[Daemon], Daemon]) -> None:
    masters, volume = cluster
    word = [*WEEDTW, "cluster", "transfer", f"-master={masters[0].address}"]
    folder = volume.folder
    ran = subprocess.run(word, cwd=folder / "c", capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ran.returncode == 0, ran
    ran = subprocess.run(word, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ran.returncode != 0, ran
    assert "secret" in ran.stderr, ran
    shell = [*WEEDTW, "shell", f"-master={masters[0].address}", "-c", "lock; volume.list; unlock"]
    ran = subprocess.run(shell, cwd=folder / "c", capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ran.returncode == 0, ran
    wait_for_cluster(masters)


def test_names(cluster: tuple[list[Daemon], Daemon]) -> None:
    masters, _ = cluster
    for name in ("../x", "..%2fx", "a%00b", "a%0d%0ab", "a/b", "%2e%2e", "a" * 300):
        answer = ask(masters[0], "GET", f"/dir/assign?collection={name}", {})
        assert 400 <= answer.status < 500, (name, answer)
    for name in ("../../etc/passwd", "a%00b", 'a";b="c', "x%0d%0aSet-Cookie: a=b"):
        place = assign(masters)
        body = (
            f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: text/plain\r\n\r\ncontent\r\n--b--\r\n"
        ).encode()
        url = f"{place['url']}/{place['fid']}"
        stored = request("POST", url, body, {"Content-Type": "multipart/form-data; boundary=b"})
        if stored.status >= 400:
            assert stored.status == 400, (name, stored)
            continue
        read = request("GET", url)
        assert (read.status, read.body) == (200, b"content")
        assert "set-cookie" not in {header.lower() for header in read.headers}
        assert "/" not in read.headers.get("Content-Disposition", ""), (name, read)


def test_a_bomb(cluster: tuple[list[Daemon], Daemon]) -> None:
    """What unpacks to far more than a file may have is not unpacked into memory."""
    masters, volume = cluster
    place = assign(masters)
    url = f"{place['url']}/{place['fid']}"
    bomb = gzip.compress(gzip.compress(bytes(300 << 20), 9), 9)
    bomb = gzip.decompress(bomb)  # some 300 kB that hold 300 MiB
    before = memory(volume)
    request("PUT", url, bomb, {"Content-Encoding": "gzip", "Content-Type": "text/plain"})
    request("GET", url, None, {"Accept-Encoding": "identity"})
    assert memory(volume) - before < 200 << 20
    assert request("GET", f"{volume.address}/healthz").status == 200


def memory(daemon: Daemon) -> int:
    """The most bytes that a process has had in memory."""
    assert daemon.process is not None
    with open(f"/proc/{daemon.process.pid}/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) << 10
