"""Thousands of volume servers that only report: what `bench.fleet` lets loose on masters, in a process of its own.

    python -m bench.fleet_servers MASTERS SERVERS VOLUMES

Their connections to the masters are those of real volume servers, but what they report is made up, and made before
the first of them connects: in a real fleet each has a processor for it.  Five times a second a line of JSON on
standard output says how many are known to each master.  A number on standard input is how many volumes of a server
have grown at each of its pulses from now on.
"""

import functools
import json
import random
import sys
import time
from typing import Any

import attrs
from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from weedtw.formats.beat import Ack, Disk, Full, Hello, Pulse, VolumeReport, Welcome, encode
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl
from weedtw.volume.conversation import Conversation, Listener, Reporter
from weedtw.volume.link import Link
from weedtw.volume.standing import Standing

PULSE = 5.0  # seconds, the default
LIMIT = 30720 << 20  # bytes of a full volume, the default
WRITABLE = 10  # one volume of so many is not full
SPARE = 100  # volumes that a server could still take
NEWS = 0.2  # seconds between two lines of news
REPLICATION, TTL = ReplicaPlacement.parse("000"), Ttl.parse("")


@attrs.define
class Tally:
    """What there is to tell."""

    known: dict[str, int]  # servers whose standing a master has, by its address
    acknowledged: int = 0  # reports
    lost: int = 0  # connections
    grown: int = 0  # volumes of a server at each pulse
    began: float = 0.0  # to connect; monotonic seconds


@attrs.frozen(slots=False)
class Simulated(Standing):
    """What one server holds: nothing is kept of it, it is made up when it is told."""

    number: int
    count: int
    tally: Tally

    def report(self, place: int, age: int = 0) -> VolumeReport:
        """One of its volumes."""
        number = self.number * self.count + place + 1
        return VolumeReport(
            id=number,
            collection="",
            size=number * 7919 % (LIMIT // 2) + age * 4096 if place % WRITABLE == 0 else LIMIT + number,
            file_count=1000 + age,
            delete_count=10,
            deleted_bytes=40960,
            modified_at=1_700_000_000 + age,
            compact_revision=1,
            version=3,
            replication=REPLICATION,
            ttl=TTL,
            max_key=self.max_file_key,
        )

    @functools.cached_property
    def line(self) -> bytes:
        """All of it, as the first report of a connection."""
        return encode(
            Full(
                seq=1,
                part=1,
                parts=1,
                volumes=tuple(self.report(place) for place in range(self.count)),
                max_volumes=self.max_volumes,
                free_bytes=self.free_bytes,
                disks=self.disks,
                max_file_key=self.max_file_key,
            )
        )

    def since(self, known: Standing, seq: int) -> Pulse:  # noqa: ARG002 - there is always something new
        """A pulse, with as many grown volumes as are wanted."""
        writable = range(0, self.count, WRITABLE)
        grown = random.sample(writable, min(self.tally.grown, len(writable)))
        return Pulse(
            seq=seq,
            changed=tuple(self.report(place, seq) for place in grown),
            max_volumes=self.max_volumes,
            max_file_key=self.max_file_key,
        )


class Told(Conversation):
    """A conversation in which the full report is ready to be sent."""

    def _report(self, standing: Standing, known: Standing | None, seq: int) -> None:
        assert isinstance(standing, Simulated)
        if known is None:
            self.transport.write(standing.line.replace(b'"seq":1,', b'"seq":%d,' % seq, 1))
        else:
            self.transport.write(encode(standing.since(known, seq)))


class Tellers(Factory):
    noisy = False

    def __init__(self, link: Listener, reporter: Reporter) -> None:
        self.link = link
        self.reporter = reporter

    def buildProtocol(self, addr: IAddress | None) -> Told:  # noqa: ARG002 - Twisted's signature
        return Told(self.link, self.reporter)


class Way(Link):
    """A link with such conversations."""

    def __init__(self, hub: "OneWay", endpoint: TCP4ClientEndpoint) -> None:
        super().__init__(hub, hub.master, endpoint)
        tellers = Tellers(self, hub.reporter)
        self._service = ClientService(endpoint, tellers, retryPolicy=self._delay, clock=hub.reporter.clock)


class OneWay:
    """What a server knows of one master."""

    running = 1
    cluster_id = None
    way_out = ""

    def __init__(self, master: str, standing: Simulated, reactor: Any) -> None:
        self.master = master
        self.standing = standing
        self.is_known = False
        self.reporter = Reporter(reactor, self.hello, self.stands, PULSE)

    def hello(self) -> Hello:
        """Each server has a loopback address of its own, where nobody listens."""
        number = self.standing.number
        address = f"127.1.{number // 250}.{number % 250 + 1}:8080"
        return Hello(
            cluster=None,
            address=address,
            public_url=address,
            data_center=f"dc{number % 2}",
            rack=f"rack{number % 40}",
            version="simulated",
            uuids=(f"00000000-0000-0000-0000-{number:012}",),
            pulse=PULSE,
        )

    async def stands(self) -> Standing:
        return self.standing

    def joined(self, welcome: Welcome) -> None:
        """See Hub."""

    def heard(self) -> None:
        """See Hub."""

    def acknowledged(self, ack: Ack) -> None:
        """See Hub."""
        tally = self.standing.tally
        tally.acknowledged += 1
        tally.known[self.master] += (not ack.full) - self.is_known
        self.is_known = not ack.full

    def lost(self, link: Link) -> None:  # noqa: ARG002 - the signature of Hub
        """See Hub."""
        tally = self.standing.tally
        tally.lost += 1
        tally.known[self.master] -= self.is_known
        self.is_known = False


def make_server(number: int, count: int, tally: Tally) -> Simulated:
    """One server, ready to report."""
    room = LIMIT * SPARE
    server = Simulated(
        volumes={},
        max_volumes=count + SPARE,
        free_bytes=room,
        disks=(Disk(0, "/data", "hdd", count + SPARE, room, 2 * room),),
        max_file_key=1_000_000 + number,
        number=number,
        count=count,
        tally=tally,
    )
    assert server.line  # it is made now
    return server


def let_loose(reactor: Any, server: Simulated) -> None:
    """Let one server report to all masters."""
    for master in server.tally.known:
        host, _, port = master.rpartition(":")
        Way(OneWay(master, server, reactor), TCP4ClientEndpoint(reactor, host, int(port))).start()


class Orders(LineOnlyReceiver):
    """Standard input; its end is the end of everything."""

    delimiter = b"\n"

    def __init__(self, tally: Tally, ended: "Deferred[None]") -> None:
        self.tally = tally
        self.ended = ended

    def lineReceived(self, line: bytes) -> None:
        self.tally.grown = int(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's signature
        self.ended.callback(None)


def main(reactor: Any, masters: str, servers: str, volumes: str) -> "Deferred[None]":
    """Let them all loose."""
    tally = Tally(dict.fromkeys(masters.split(","), 0))
    fleet = [make_server(number, int(volumes), tally) for number in range(int(servers))]
    for server in fleet:
        let_loose(reactor, server)
    tally.began = time.monotonic()
    LoopingCall(lambda: print(json.dumps(attrs.asdict(tally)), flush=True)).start(NEWS)
    ended: Deferred[None] = Deferred()
    StandardIO(Orders(tally, ended))
    return ended


if __name__ == "__main__":
    react(main, sys.argv[1:])
