"""A cluster that speaks TLS: all works, nobody else is let in, and certificates are exchanged while it runs."""

import contextlib
import http.client
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.masters import Daemon, Scratch
from tests.cluster.processes import LIMIT, WEEDTW, wait_until

pytestmark = pytest.mark.process

PEERS = "localhost:9333,localhost:9334,localhost:9335"
SECURITY = """
[tls]
ca = "certs/ca.crt"
cert = "certs/localhost.crt"
key = "certs/localhost.key"
"""


def scaffold(folder: Path, *hosts: str) -> None:
    words = [*WEEDTW, "scaffold", "certs", "--dir", str(folder), *(f"--host={host}" for host in hosts)]
    subprocess.run(words, check=True, capture_output=True, timeout=LIMIT)


def context(ca: Path, own: Path | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(ca))
    if own is not None:
        made.load_cert_chain(own.with_suffix(".crt"), own.with_suffix(".key"))
    return made


def ask(
    address: str,
    method: str,
    target: str,
    tls: ssl.SSLContext,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes, http.client.HTTPMessage]:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=LIMIT, context=tls)
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def speak(address: str, line: bytes, tls: ssl.SSLContext | None) -> bytes:
    """Send a line, and read until the other side closes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), LIMIT) as plain:
        connection: Any = plain if tls is None else tls.wrap_socket(plain, server_hostname=host)
        connection.sendall(line)
        heard = b""
        try:
            while piece := connection.recv(4096):
                heard += piece
        except (ConnectionResetError, ssl.SSLError):
            pass
        return heard


def serial(address: str, tls: ssl.SSLContext) -> str:
    host, _, port = address.rpartition(":")
    plain = socket.create_connection((host, int(port)), LIMIT)
    with plain, tls.wrap_socket(plain, server_hostname=host) as connection:
        shown = connection.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


@pytest.fixture
def cluster(scratch: Scratch) -> list[Daemon]:
    """Three masters and two volume servers; all use the certificate of localhost."""
    scaffold(scratch.folder / "certs", "localhost")
    (scratch.folder / "security.toml").write_text(SECURITY)
    daemons = [
        scratch.start(f"weedtw master -port={port} -mdir=./{port} -peers={PEERS}") for port in (9333, 9334, 9335)
    ]
    daemons += [scratch.start(f"weedtw volume -port=808{n} -dir=./v{n} -mserver={PEERS}") for n in (0, 1)]
    return daemons


def test_a_cluster_with_certificates(scratch: Scratch, cluster: list[Daemon]) -> None:
    certs = scratch.folder / "certs"
    known, server = context(certs / "ca.crt"), context(certs / "ca.crt", certs / "localhost")
    addresses = [daemon.address.replace("127.0.0.1", "localhost") for daemon in cluster]
    master, volume = addresses[0], addresses[3]

    def has_id() -> bool:
        try:
            return ask(master, "GET", "/dir/assign?replication=001", known)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    wait_until(has_id, "an id over TLS, from masters and volume servers that found each other")

    def run(*words: str) -> str:
        command = [*WEEDTW, words[0], f"-master={master}", *words[1:]]
        ran = subprocess.run(command, cwd=scratch.folder, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert ran.returncode == 0, ran
        return ran.stdout

    (scratch.folder / "file.txt").write_text("over TLS")
    fid = run("upload", "-replication=001", "file.txt").split()[0]
    (scratch.folder / "out").mkdir()
    run("download", "-dir=out", fid)
    assert (scratch.folder / "out" / "file.txt").read_text() == "over TLS"
    for address in addresses[3:]:  # both copies
        assert ask(address, "GET", f"/{fid}", known)[:2] == (200, b"over TLS")
    status, _, headers = ask(master, "GET", f"/{fid}", known)
    assert (status, headers["Location"][:8]) == (307, "https://")

    # Who has no certificate is no server of this cluster.
    for address, line in ((master, b"RAFT/1 {}\r\n"), (master, b"BEAT/1 {}\r\n")):
        assert b"certificates are asked for" in speak(address, line, known)
    assert ask(volume, "POST", "/admin/sync", known)[0] == 401
    assert ask(volume, "POST", "/admin/sync", server)[0] == 200
    assert ask(master, "POST", "/cluster/transfer", known)[0] == 401
    # One of another authority is none, and neither is plain HTTP.
    scaffold(scratch.folder / "others", "localhost")
    foreign = context(certs / "ca.crt", scratch.folder / "others" / "localhost")
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert b"HTTP" not in speak(master, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", foreign)
    assert b"HTTP" not in speak(master, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", None)

    # New certificates, without a restart: those that cannot be read change nothing.
    before = serial(volume, known)
    certificate = certs / "localhost.crt"
    good = certificate.read_bytes()
    certificate.write_text("broken")
    cluster[3].signal(signal.SIGHUP)
    cluster[3].wait_to_say("go on with the certificates of before")
    assert serial(volume, known) == before
    certificate.write_bytes(good)
    renewed = scratch.folder / "renewed"
    renewed.mkdir()
    for name in ("ca.crt", "ca.key"):
        shutil.copy(certs / name, renewed)
    scaffold(renewed, "localhost")
    for name in ("localhost.key", "localhost.crt"):
        shutil.copy(renewed / name, certs / name)
    for daemon in cluster:
        daemon.signal(signal.SIGHUP)
        daemon.wait_to_say("certificates were read again")
    assert serial(volume, known) != before
    assert ask(volume, "GET", f"/{fid}", known)[1] == b"over TLS"
    cluster[0].restart()
    wait_until(has_id, "an id after a restart with the new certificates")
