"""The master's side of the heartbeat protocol: what each volume server says about itself.

A server is in the topology while its connection stands.  When the connection is lost, or silent for two
pulses, the server leaves it at once: its volumes are neither written to nor looked up.
"""

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from weedtw.errors import BadBeat, NotJoined, Unavailable, WeedError
from weedtw.formats.beat import (
    MAX_LINE,
    Ack,
    Bye,
    Delta,
    Full,
    Hello,
    Leader,
    Pulse,
    Refused,
    Report,
    VolumeReport,
    Welcome,
    decode_hello,
    decode_report,
    encode,
)
from weedtw.http.deadline import Deadline
from weedtw.master.cluster import Cluster
from weedtw.topology.server import Server
from weedtw.topology.state import RaiseVolumeIds, RegisteredServer, RegisterServer

HELLO_PATIENCE = 10.0  # seconds from the connection to its first line
JOIN_PATIENCE = 5.0  # seconds that a server is kept waiting by a master that belongs to no cluster yet
ABSURD_VOLUME_ID = 1 << 31  # ids from here on are served, but new ones are not counted on from them


@implementer(IPushProducer)
class Beats(LineReceiver):
    """One connection of a volume server.  Its lines are taken one at a time, each when the last is done with."""

    log = Logger()
    delimiter = b"\r\n"
    MAX_LENGTH = MAX_LINE
    transport: Any  # an ITCPTransport

    def __init__(self, hub: "Heartbeats") -> None:
        self.hub = hub
        self.hello: Hello | None = None
        self.server: Server | None = None  # once it is welcome
        self.is_gone = False
        self.heard_at = hub.cluster.clock.seconds()  # when the last line came
        self._is_ending = False
        self._parts: list[Full] = []
        self._holds: set[str] = set()  # why nothing is read now
        self._silence = Deadline(hub.cluster.clock, self._fell_silent)

    def connectionMade(self) -> None:
        """Wait for the hello."""
        self.hub.connections.add(self)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # a line must not wait for the last one to be acknowledged
        self.transport.registerProducer(self, True)
        self._silence.set(HELLO_PATIENCE)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's signature
        """The server is not there any more."""
        self.is_gone = True
        self._silence.drop()
        self.hub.connections.discard(self)
        self.hub.lost(self)

    def lineReceived(self, line: bytes) -> None:
        """Take one line."""
        self._silence.clear()
        self._hold("busy")
        Deferred.fromCoroutine(self._take(line)).addErrback(self._failed).addCallback(lambda _: self._go_on("busy"))

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002 - Twisted's signature
        """A line without an end."""
        self.refuse(f"a line of more than {MAX_LINE} bytes")

    def refuse(self, reason: str) -> None:
        """End the connection with a line that says why."""
        if not self.is_gone:
            self.transport.write(encode(Refused(reason)))
            self.end()

    def end(self) -> None:
        """Close the connection once what was written is on its way; nothing more is read."""
        if not self.is_gone:
            self._is_ending = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def tell(self, message: Welcome | Ack | Leader) -> None:
        """Send a line."""
        if not self.is_gone:
            self.transport.write(encode(message))

    # -------------------------------------------------------------- reading only when there is time for it

    def pauseProducing(self) -> None:
        """The server does not read our answers: take no more of its lines."""
        self._hold("full")

    def resumeProducing(self) -> None:
        """It reads them."""
        self._go_on("full")

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` tells."""

    def _hold(self, reason: str) -> None:
        if not self._holds:
            super().pauseProducing()  # type: ignore[no-untyped-call]
        self._holds.add(reason)

    def _go_on(self, reason: str) -> None:
        self._holds.discard(reason)
        if not (self._holds or self.is_gone or self._is_ending):
            super().resumeProducing()  # type: ignore[no-untyped-call]

    # -------------------------------------------------------------- what the lines say

    async def _take(self, line: bytes) -> None:
        self.heard_at = self.hub.cluster.clock.seconds()
        if self.hello is None:
            self.hello = decode_hello(line)
            await self._greet(self.hello)
        else:
            await self._heard(decode_report(line))
        if not (self.is_gone or self._is_ending):
            self._silence.set(2 * self.hello.pulse)

    async def _greet(self, hello: Hello) -> None:
        await self.hub.register(hello)
        if not self.is_gone:
            self.server = self.hub.join(self, hello)
            self.tell(self.hub.welcome())

    async def _heard(self, report: Report) -> None:
        assert self.server is not None  # nothing is read before the greeting is over
        if isinstance(report, Bye):
            self.hub.lost(self, said_bye=True)
            self.end()
        elif isinstance(report, Full):
            await self._heard_part(self.server, report)
        else:
            wants_full = await self.hub.changed(self.server, report)
            self.tell(self.hub.ack(report.seq, full=wants_full))

    async def _heard_part(self, server: Server, part: Full) -> None:
        expected = len(self._parts) + 1
        if part.part == 1:
            self._parts = []
        elif part.part != expected or (part.seq, part.parts) != (self._parts[0].seq, self._parts[0].parts):
            raise BadBeat(f"part {part.part} of report {part.seq} came where part {expected} was due")
        self._parts.append(part)
        if part.part == part.parts:
            parts, self._parts = self._parts, []
            await self.hub.reported(server, parts)
            self.tell(self.hub.ack(part.seq, full=False))

    def _failed(self, failure: Failure) -> None:
        if failure.check(WeedError) is None:
            self.log.failure("while listening to {server}", failure, server=self.hello)
            self.refuse("the master made a mistake; its log has the particulars")
        else:
            if failure.check(NotJoined) is None:  # that is said by the master itself
                self.hub.complain(self, str(failure.value))
            self.refuse(str(failure.value))

    def _fell_silent(self) -> None:
        silence = HELLO_PATIENCE if self.hello is None else 2 * self.hello.pulse
        self.log.warn(
            "volume server {address} said nothing for {silence:g} s",
            address=self.hello.address if self.hello else "that has not said its name",
            silence=silence,
        )
        self.transport.abortConnection()


@attrs.define(eq=False)
class Heartbeats:
    """All connections of volume servers, and what comes of what they say."""

    log = Logger()

    cluster: Cluster
    connections: set[Beats] = attrs.Factory(set)
    _of_server: dict[str, Beats] = attrs.Factory(dict)  # by address
    _complaints: dict[str, str] = attrs.Factory(dict)  # the last one logged, by address
    _highest_volume: int = 0  # the highest id that was ever reported here
    _is_closing: bool = False

    def protocol(self) -> Beats:
        """What a new connection speaks; for the port's table of protocols."""
        return Beats(self)

    def ages(self) -> dict[str, float]:
        """Seconds since each volume server that is here was heard, by address."""
        now = self.cluster.clock.seconds()
        return {address: now - connection.heard_at for address, connection in self._of_server.items()}

    def close(self) -> None:
        """Close all connections; who leaves from here on is no news."""
        self._is_closing = True
        for connection in list(self.connections):
            connection.end()

    # -------------------------------------------------------------- coming

    async def register(self, hello: Hello) -> None:
        """Make sure that the cluster expects this server from now on; raises BadBeat when it cannot be taken in.

        Only the leader can write it down.  The other masters take the server in all the same; whoever comes to lead
        writes down what has not been.
        """
        await self._joined()
        self._check(hello)
        wanted = _registered(hello)
        ledger = self.cluster.ledger
        if ledger.has_lead and ledger.state.servers.get(hello.address) != wanted:
            try:
                await ledger.submit(RegisterServer(**attrs.asdict(wanted)))
            except Unavailable as error:
                self.log.info("{address} is not registered yet: {reason}", address=hello.address, reason=str(error))
            self._check(hello)  # another may have come while this one was written down
        for address in set(self.cluster.topology.left) - set(ledger.state.servers):
            self.cluster.topology.forget(address)

    async def write_down(self) -> None:
        """This master has come to lead: register who is here and not known to all.

        Raises Unavailable when the lead is lost meanwhile.
        """
        ledger = self.cluster.ledger
        for connection in list(self._of_server.values()):
            wanted = _registered(connection.hello) if connection.hello is not None else None
            if wanted is not None and ledger.state.servers.get(wanted.address) != wanted:
                await ledger.submit(RegisterServer(**attrs.asdict(wanted)))

    async def raise_volume_ids(self) -> None:
        """This master has come to lead: allocate no volume id up to the highest it has seen; raises Unavailable."""
        ledger = self.cluster.ledger
        if self._highest_volume > ledger.state.max_volume_id:
            await ledger.submit(RaiseVolumeIds(self._highest_volume))

    async def _joined(self) -> None:
        """Wait a little for this master to belong to a cluster: volume servers are started together with it."""
        clock = self.cluster.clock
        until = clock.seconds() + JOIN_PATIENCE
        while not self.cluster.ledger.cluster_id and clock.seconds() < until:
            await self.cluster.changes.wait(until - clock.seconds())

    def _check(self, hello: Hello) -> None:
        ours = self.cluster.ledger.cluster_id
        if not ours:
            raise NotJoined("this master belongs to no cluster yet")
        if hello.cluster is not None and hello.cluster != ours:
            raise BadBeat(
                f"volume server {hello.address} belongs to cluster {hello.cluster}, this master to cluster {ours}"
            )
        if len(set(hello.uuids)) != len(hello.uuids):
            raise BadBeat(f"two folders of {hello.address} have the same vol_dir.uuid: one was copied from the other")
        for other in self._of_server.values():
            assert other.hello is not None  # it has been welcomed
            shared = set(hello.uuids) & set(other.hello.uuids)
            if shared and other.hello.address != hello.address:
                raise BadBeat(
                    f"the folder with vol_dir.uuid {min(shared)} is served by {other.hello.address} already; "
                    "if it was copied, remove vol_dir.uuid from the copy"
                )
            if not shared and other.hello.address == hello.address:
                raise BadBeat(f"another volume server with other folders is connected as {hello.address}")

    def join(self, connection: Beats, hello: Hello) -> Server:
        """Take a registered server into the topology; an older connection of the same server is cut."""
        server = Server(
            hello.address, hello.public_url, hello.data_center, hello.rack, hello.uuids, version=hello.version
        )
        older = self._of_server.get(hello.address)
        self._of_server[hello.address] = connection
        if hello.address not in self.cluster.topology.servers:
            self.cluster.topology_grew = self.cluster.clock.seconds()
        self.cluster.topology.join(server)
        if older is not None:
            older.transport.abortConnection()
        self._complaints.pop(hello.address, None)
        self.log.info(
            "volume server {address} of {dc}/{rack} is here",
            address=server.address,
            dc=server.data_center,
            rack=server.rack,
        )
        return server

    def welcome(self) -> Welcome:
        """The answer to a hello."""
        cluster = self.cluster
        return Welcome(
            cluster=cluster.ledger.cluster_id,
            leader=cluster.ledger.leader_address,
            masters=cluster.masters,
            volume_size_limit=cluster.topology.size_limit,
        )

    def ack(self, seq: int, *, full: bool) -> Ack:
        """The answer to a report."""
        cluster = self.cluster
        return Ack(seq, cluster.ledger.leader_address, cluster.masters, cluster.topology.size_limit, full)

    def tell_leader(self) -> None:
        """Tell all servers who leads now."""
        told = Leader(self.cluster.ledger.leader_address, self.cluster.masters)
        for connection in self._of_server.values():
            connection.tell(told)

    # -------------------------------------------------------------- reports

    async def reported(self, server: Server, parts: list[Full]) -> None:
        """A full report came in whole."""
        volumes = [volume for part in parts for volume in part.volumes]
        await self._apply(volumes, parts[-1].max_file_key, lambda: self.cluster.topology.apply_full(server, parts))

    async def changed(self, server: Server, report: Delta | Pulse) -> bool:
        """Something changed; True when a full report is needed to make sense of it."""
        topology = self.cluster.topology
        fits = False

        def apply() -> None:
            nonlocal fits
            if isinstance(report, Delta):
                fits = topology.apply_delta(server, report)
            else:
                fits = topology.apply_pulse(server, report)

        new = report.new if isinstance(report, Delta) else ()
        await self._apply([*new, *report.changed], report.max_file_key, apply)
        return not fits

    async def _apply(self, volumes: list[VolumeReport], max_file_key: int, apply: Callable[[], None]) -> None:
        """Raise the sequences above what is in use, and change the topology.

        The keys at hand are above what was reported before the first of these volumes can be picked; what is to be
        written down about it is written down before the report is acknowledged.
        """
        raised = Deferred.fromCoroutine(self._raise(volumes, max_file_key))
        apply()
        self.cluster.changes.announce()
        for conflict in self.cluster.topology.take_new_conflicts():
            self.log.error(
                "volume {id} on {address} is quarantined: {reason}",
                id=conflict.volume_id,
                address=conflict.address,
                reason=conflict.reason,
            )
        try:
            await raised
        except WeedError as error:  # the next report says it again; meanwhile no key is given out at all
            self.log.warn("the highest ids in use could not be written down: {reason}", reason=str(error))

    async def _raise(self, volumes: Iterable[VolumeReport], max_file_key: int) -> None:
        volumes = list(volumes)
        for key in sorted({max_file_key, *(volume.max_key for volume in volumes)}, reverse=True):
            if await self.cluster.keys.saw(key):
                break
        highest = max((volume.id for volume in volumes if volume.id < ABSURD_VOLUME_ID), default=0)
        self._highest_volume = max(self._highest_volume, highest)
        ledger = self.cluster.ledger
        if highest > ledger.state.max_volume_id and ledger.has_lead:
            await ledger.submit(RaiseVolumeIds(highest))

    # -------------------------------------------------------------- going

    def lost(self, connection: Beats, *, said_bye: bool = False) -> None:
        """A server said good-bye, or its connection is gone; nothing to do when another has taken its place."""
        hello, server = connection.hello, connection.server
        if hello is None or server is None or self._of_server.get(hello.address) is not connection:
            return
        del self._of_server[hello.address]
        self.cluster.topology.leave(server)
        self.cluster.changes.announce()
        if self._is_closing:
            return
        if said_bye:
            self.log.info("volume server {address} has left: it stops", address=hello.address)
        else:
            self.log.warn("volume server {address} is away: its connection was lost", address=hello.address)

    def complain(self, connection: Beats, reason: str) -> None:
        """Log why a connection is ended, once while the reason stays the same: it will be tried again."""
        address = connection.hello.address if connection.hello else _host_of(connection)
        if self._complaints.get(address) != reason:
            if len(self._complaints) > 1000:
                self._complaints.clear()
            self._complaints[address] = reason
            self.log.error("refused {address}: {reason}", address=address, reason=reason)


def _host_of(connection: Beats) -> str:
    """Whence a connection comes, for people; its port says nothing, and would be another each time."""
    return f"a connection from {getattr(connection.transport.getPeer(), 'host', 'somewhere')}"


def _registered(hello: Hello) -> RegisteredServer:
    return RegisteredServer(hello.address, hello.public_url, hello.data_center, hello.rack, hello.uuids)
