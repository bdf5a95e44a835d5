"""How many small files a second one volume server takes and gives, over kept connections on this machine.

    python bench/small_files.py [files] [connections] [bytes]      20000 files, 16 connections, 1024 bytes

A master and a volume server are started in a scratch folder.  The generator of the load shares the machine, and is
written in Python as well: what it prints is a lower bound.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater, react

from weedtw.cli.children import Children
from weedtw.client import Client
from weedtw.errors import WeedError
from weedtw.formats.fileid import FileId

BOUNDARY = b"weedtwbench"


@attrs.define
class Tally:
    """What one round has measured."""

    seconds: list[float] = attrs.Factory(list)  # of each request
    errors: int = 0


class Caller(Protocol):
    """One connection that sends the next request when the answer to the last is there."""

    def __init__(self, requests: Iterator[bytes], tally: Tally) -> None:
        self.requests = requests
        self.tally = tally
        self.done: Deferred[None] = Deferred()
        self.buffer = b""
        self.begun = 0.0

    def connectionMade(self) -> None:
        self.next()

    def next(self) -> None:
        request = next(self.requests, None)
        if request is None:
            assert self.transport is not None
            self.transport.loseConnection()
            self.done.callback(None)
            return
        self.begun = time.perf_counter()
        assert self.transport is not None
        self.transport.write(request)

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        head, gap, body = self.buffer.partition(b"\r\n\r\n")
        if not gap:
            return
        length = next(
            (line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0"
        )
        if len(body) < int(length):
            return
        self.tally.seconds.append(time.perf_counter() - self.begun)
        self.tally.errors += not head.startswith(b"HTTP/1.1 2")
        self.buffer = b""
        self.next()


def upload(fid: FileId, host: bytes, content: bytes) -> bytes:
    body = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%b\r\n--%b--\r\n'
    body %= (BOUNDARY, content, BOUNDARY)
    head = b"POST /%b HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n" % (str(fid).encode(), host, len(body))
    return head + b"Content-Type: multipart/form-data; boundary=%b\r\n\r\n" % BOUNDARY + body


def download(fid: FileId, host: bytes) -> bytes:
    return b"GET /%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (str(fid).encode(), host)


async def round_of(name: str, requests: list[bytes], port: int, connections: int) -> None:
    """Send all requests over so many connections, and print how it went."""
    tally, queue = Tally(), iter(requests)
    begun = time.perf_counter()
    callers = [Caller(queue, tally) for _ in range(connections)]
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    for caller in callers:
        await connectProtocol(endpoint, caller)
    await DeferredList([caller.done for caller in callers])
    took = time.perf_counter() - begun
    times = sorted(tally.seconds)
    middle, slow = times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000
    print(f"{name:<5} {len(times) / took:8.0f}/s   p50 {middle:6.2f} ms   p99 {slow:6.2f} ms   errors {tally.errors}")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ids(client: Client, count: int) -> list[FileId]:
    """So many file ids, as soon as the servers have found each other."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return list((await client.assign(count=count)).ids())
        except WeedError:
            if time.monotonic() > deadline:
                raise
        await deferLater(reactor, 0.1)


async def bench(files: int, connections: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        children = Children(folder)
        master, volume = free_port(), free_port()
        ports = [f"-master.port={master}", f"-volume.port={volume}"]
        children.start("server", ["server", f"-dir={folder}", *ports])
        client = Client([f"127.0.0.1:{master}"], reactor)
        try:
            fids = await ids(client, files)
            host, content = b"127.0.0.1:%d" % volume, os.urandom(size)
            await round_of("write", [upload(fid, host, content) for fid in fids], volume, connections)
            await round_of("read", [download(fid, host) for fid in fids], volume, connections)
        finally:
            await client.close()
            for complaint in children.end():
                print(complaint, file=sys.stderr)


def main(_: object, *numbers: str) -> Deferred[None]:
    files, connections, size = [*map(int, numbers), *(20000, 16, 1024)[len(numbers) :]]
    return Deferred.fromCoroutine(bench(files, connections, size))


if __name__ == "__main__":
    react(main, sys.argv[1:])
