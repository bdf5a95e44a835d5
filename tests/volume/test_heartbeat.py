"""The loop of reports, with masters in memory and time made by hand."""

import json
from typing import Any

import attrs
from twisted.internet import error
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.protocols.basic import LineReceiver
from twisted.test.iosim import IOPump, connectedServerAndClient
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from weedtw.formats.beat import (
    MAX_LINE,
    Ack,
    Bye,
    Delta,
    Disk,
    Full,
    Hello,
    Leader,
    Pulse,
    Refused,
    VolumeReport,
    Welcome,
    decode_hello,
    decode_report,
    encode,
)
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import NO_TTL
from weedtw.volume.conversation import Reporter
from weedtw.volume.heartbeat import MAX_DELAY, REFUSED_DELAY, Heartbeats
from weedtw.volume.standing import Standing

CLUSTER = "11111111-2222-3333-4444-555555555555"
PULSE = 5.0


def volume(volume_id: int, **changes: Any) -> VolumeReport:
    report = VolumeReport(
        id=volume_id,
        collection="",
        size=8,
        file_count=0,
        delete_count=0,
        deleted_bytes=0,
        modified_at=1700000000,
        compact_revision=0,
        version=3,
        replication=ReplicaPlacement.parse("000"),
        ttl=NO_TTL,
    )
    return attrs.evolve(report, **changes)


def standing(*volumes: VolumeReport) -> Standing:
    return Standing(
        volumes={report.id: report for report in volumes},
        max_volumes=8,
        free_bytes=10**9,
        disks=(Disk(0, "/data", "", 8, 10**9, 2 * 10**9),),
        max_file_key=77,
    )


class MasterSide(LineReceiver):
    """One connection as a master sees it; answers by itself unless told to be silent."""

    delimiter = b"\r\n"
    MAX_LENGTH = MAX_LINE

    def __init__(self, master: "FakeMaster") -> None:
        self.master = master
        self.hello: Hello | None = None
        self.reports: list[Any] = []
        self.lost = False

    def lineReceived(self, line: bytes) -> None:
        if self.hello is None:
            self.hello = decode_hello(line)
            self.say(self.master.greeting())
            return
        report = decode_report(line)
        self.reports.append(report)
        if isinstance(report, Bye) or (isinstance(report, Full) and report.part < report.parts):
            return
        if not self.master.silent:
            self.say(self.master.ack(report.seq))

    def say(self, answer: Any) -> None:
        assert self.transport is not None
        self.transport.write(encode(answer))

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True


@attrs.define
class FakeMaster:
    address: str
    masters: tuple[str, ...] = ()
    leader: str | None = None
    refusal: str = ""
    want_full: bool = False
    silent: bool = False
    up: bool = True
    cluster: str = CLUSTER
    connections: list[MasterSide] = attrs.Factory(list)

    def greeting(self) -> Welcome | Refused:
        if self.refusal:
            return Refused(self.refusal)
        return Welcome(self.cluster, self.leader, self.masters, 30 << 30)

    def ack(self, seq: int) -> Ack:
        full, self.want_full = self.want_full, False
        return Ack(seq, self.leader, self.masters, 30 << 30, full)

    @property
    def last(self) -> MasterSide:
        return self.connections[-1]

    @property
    def open(self) -> int:
        return sum(not side.lost for side in self.connections)


@implementer(IStreamClientEndpoint)
@attrs.define
class Road:
    net: "Net"
    address: str

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        self.net.attempts.append(self.address)
        master = self.net.masters.get(self.address)
        if master is None or not master.up:
            return fail(error.ConnectionRefusedError())
        protocol = factory.buildProtocol(None)  # type: ignore[arg-type]
        assert protocol is not None
        side = MasterSide(master)
        master.connections.append(side)
        self.net.pumps.append(connectedServerAndClient(lambda: side, lambda: protocol, greet=False)[2])
        return succeed(protocol)


@attrs.define
class Net:
    masters: dict[str, FakeMaster] = attrs.Factory(dict)
    pumps: list[IOPump] = attrs.Factory(list)
    attempts: list[str] = attrs.Factory(list)

    def add(self, *addresses: str, **settings: Any) -> list[FakeMaster]:
        added = [FakeMaster(address, masters=addresses, **settings) for address in addresses]
        self.masters.update({master.address: master for master in added})
        return added

    def flush(self) -> None:
        moved = True
        while moved:
            moved = sum(bool(pump.pump()) for pump in list(self.pumps)) > 0


@attrs.define
class Memory:
    cluster_id: str | None = None
    masters: tuple[str, ...] = ()
    way_out: str = "remove the file"

    def remember(self, cluster_id: str, masters: tuple[str, ...]) -> None:
        self.cluster_id, self.masters = cluster_id, masters


class HeartbeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.net = Net()
        self.memory = Memory()
        self.now = standing(volume(1), volume(2))

    def start(self, *seeds: str) -> Heartbeats:
        async def report() -> Standing:
            return self.now

        reporter = Reporter(
            clock=self.clock,
            hello=lambda: Hello(
                self.memory.cluster_id, "127.0.0.1:8080", "127.0.0.1:8080", "dc1", "r1", "test", ("u1",), PULSE
            ),
            standing=report,
            pulse=PULSE,
        )
        beats = Heartbeats(
            reporter=reporter,
            seeds=seeds,
            cluster=self.memory,
            endpoint=lambda address: Road(self.net, address),
        )
        beats.startService()
        self.addCleanup(self.stop, beats)
        self.net.flush()
        return beats

    def stop(self, beats: Heartbeats) -> None:
        if beats.running:
            stopped = beats.stopService()
            self.net.flush()
            self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.1)):
            self.clock.advance(0.1)
            self.net.flush()

    def test_the_first_report_is_full(self) -> None:
        (master,) = self.net.add("m1:9333", leader="m1:9333")
        beats = self.start("m1:9333")
        assert master.last.hello is not None
        self.assertEqual((master.last.hello.address, master.last.hello.cluster), ("127.0.0.1:8080", None))
        (full,) = master.last.reports
        self.assertIsInstance(full, Full)
        self.assertEqual([report.id for report in full.volumes], [1, 2])
        self.assertEqual((full.max_volumes, full.max_file_key), (8, 77))
        self.assertTrue(beats.is_known)
        self.assertEqual(beats.leader, "m1:9333")
        self.assertEqual(beats.volume_size_limit, 30 << 30)
        self.assertEqual(self.memory.cluster_id, CLUSTER)

    def test_a_lost_connection_is_news_only_while_it_is_wanted(self) -> None:
        (master,) = self.net.add("m1:9333")
        beats = self.start("m1:9333")
        with capturedLogs() as events:
            master.last.transport.loseConnection()  # type: ignore[union-attr]
            self.net.flush()
        self.assertEqual([event["log_level"] for event in events if "lost" in event["log_format"]], [LogLevel.warn])
        self.advance(1)
        self.assertTrue(beats.is_known)
        with capturedLogs() as events:
            self.stop(beats)
        self.assertIsInstance(master.last.reports[-1], Bye)
        self.assertEqual([event for event in events if event["log_level"] >= LogLevel.warn], [])

    def test_a_pulse_tells_only_what_moved(self) -> None:
        (master,) = self.net.add("m1:9333")
        self.start("m1:9333")
        self.now = standing(volume(1), volume(2, size=4096, file_count=1))
        self.advance(PULSE - 0.5)
        self.assertEqual(len(master.last.reports), 1)
        self.advance(1)
        pulse = master.last.reports[1]
        self.assertIsInstance(pulse, Pulse)
        self.assertEqual([(report.id, report.size) for report in pulse.changed], [(2, 4096)])
        self.advance(PULSE)
        self.assertEqual(master.last.reports[2].changed, ())

    def test_a_change_is_told_at_once(self) -> None:
        (master,) = self.net.add("m1:9333")
        beats = self.start("m1:9333")
        self.now = standing(volume(2, read_only=True, reason="disk full"), volume(3))
        beats.changed()
        self.net.flush()
        delta = master.last.reports[1]
        self.assertIsInstance(delta, Delta)
        self.assertEqual([report.id for report in delta.new], [3])
        self.assertEqual(delta.gone, (1,))
        self.assertEqual([(report.id, report.reason) for report in delta.changed], [(2, "disk full")])

    def test_changes_while_an_acknowledgement_is_awaited_come_right_after_it(self) -> None:
        (master,) = self.net.add("m1:9333")
        beats = self.start("m1:9333")
        master.silent = True
        self.now = standing(volume(1), volume(2), volume(3))
        beats.changed()
        self.net.flush()
        self.now = standing(volume(1), volume(2), volume(3), volume(4))
        beats.changed()
        beats.changed()
        self.net.flush()
        self.assertEqual(len(master.last.reports), 2)
        master.last.say(master.ack(2))
        self.net.flush()
        self.assertEqual([report.id for report in master.last.reports[2].new], [4])

    def test_a_master_may_ask_for_everything_again(self) -> None:
        (master,) = self.net.add("m1:9333")
        beats = self.start("m1:9333")
        master.want_full = True
        beats.changed()
        self.net.flush()
        self.assertIsInstance(master.last.reports[1], Pulse)
        self.assertIsInstance(master.last.reports[2], Full)
        self.assertEqual(len(master.last.reports), 3)

    def test_a_report_of_many_volumes_comes_in_parts_with_one_number(self) -> None:
        (master,) = self.net.add("m1:9333")
        self.now = standing(*(volume(number) for number in range(1, 2501)))
        self.start("m1:9333")
        parts = master.last.reports
        self.assertEqual([(part.part, part.parts, part.seq) for part in parts], [(1, 3, 1), (2, 3, 1), (3, 3, 1)])
        self.assertEqual(sum(len(part.volumes) for part in parts), 2500)

    def test_one_master_leads_to_all_and_they_are_remembered(self) -> None:
        masters = self.net.add("m1:9333", "m2:9333", "m3:9333", leader="m2:9333")
        beats = self.start("m1:9333")
        self.assertEqual([master.open for master in masters], [1, 1, 1])
        self.assertEqual(beats.masters[0], "m2:9333")
        self.assertEqual(self.memory.masters, ("m1:9333", "m2:9333", "m3:9333"))
        for master in masters:
            self.assertIsInstance(master.last.reports[0], Full)

    def test_remembered_masters_are_found_when_the_named_one_is_dead(self) -> None:
        masters = self.net.add("m1:9333", "m2:9333", leader="m2:9333")
        masters[0].up = False
        self.memory = Memory(CLUSTER, ("m1:9333", "m2:9333"))
        beats = self.start("m1:9333")
        self.assertTrue(beats.is_known)
        assert masters[1].last.hello is not None
        self.assertEqual(masters[1].last.hello.cluster, CLUSTER)

    def test_a_new_leader_is_heard_of_at_any_time(self) -> None:
        masters = self.net.add("m1:9333", "m2:9333", leader="m1:9333")
        beats = self.start("m1:9333")
        masters[1].last.say(Leader("m2:9333", masters[1].masters))
        self.net.flush()
        self.assertEqual(beats.masters, ("m2:9333", "m1:9333"))

    def test_another_name_of_a_master_is_given_up_for_its_own(self) -> None:
        (master,) = self.net.add("10.0.0.7:9333", leader="10.0.0.7:9333")
        self.net.masters["localhost:9333"] = master
        with capturedLogs() as logged:
            beats = self.start("localhost:9333")
        self.assertEqual(beats.masters, ("10.0.0.7:9333",))
        self.assertEqual((len(master.connections), master.open), (2, 1))
        self.assertEqual({event["log_level"] for event in logged}, {LogLevel.info})  # nothing is wrong
        said = "master localhost:9333 calls itself 10.0.0.7:9333: it is reported to under that name"
        self.assertIn(said, [formatEvent(event) for event in logged])

    def test_another_name_stays_when_the_own_one_leads_nowhere(self) -> None:
        (master,) = self.net.add("10.0.0.7:9333")
        self.net.masters = {"localhost:9333": master}
        beats = self.start("localhost:9333")
        self.advance(20)
        self.assertEqual(master.open, 1)
        self.assertTrue(beats.is_known)
        self.assertEqual(beats.masters[0], "localhost:9333")

    def test_a_lost_connection_is_made_again_and_starts_with_everything(self) -> None:
        (master,) = self.net.add("m1:9333")
        beats = self.start("m1:9333")
        assert master.last.transport is not None
        master.last.transport.loseConnection()
        self.net.flush()
        self.assertFalse(beats.is_known)
        self.advance(1)
        self.assertEqual(len(master.connections), 2)
        self.assertIsInstance(master.last.reports[0], Full)
        self.assertTrue(beats.is_known)

    def test_attempts_become_rarer_but_never_rarer_than_the_limit(self) -> None:
        (master,) = self.net.add("m1:9333")
        master.up = False
        self.start("m1:9333")
        self.advance(60)
        self.assertTrue(60 / MAX_DELAY - 2 <= len(self.net.attempts) <= 40, len(self.net.attempts))
        master.up = True
        self.advance(MAX_DELAY * 2)
        self.assertEqual(master.open, 1)

    def test_a_refusal_is_shown_and_asked_again_until_it_is_lifted(self) -> None:
        (master,) = self.net.add("m1:9333")
        master.refusal = "another server has this address"
        beats = self.start("m1:9333")
        self.assertEqual(beats.refusals, {"m1:9333": "another server has this address"})
        self.assertFalse(beats.is_known)
        self.advance(REFUSED_DELAY * 4)
        self.assertTrue(3 <= len(master.connections) <= 6, len(master.connections))
        master.refusal = ""
        self.advance(REFUSED_DELAY * 1.5)
        self.assertTrue(beats.is_known)
        self.assertEqual(beats.refusals, {})

    def test_a_master_of_another_cluster_gets_no_report(self) -> None:
        (master,) = self.net.add("m1:9333", cluster="another")
        self.memory = Memory(CLUSTER, ())
        beats = self.start("m1:9333")
        self.assertFalse(beats.is_known)
        self.assertEqual(master.last.reports, [])
        self.assertTrue(master.last.lost)
        self.assertIn("remove the file", beats.refusals["m1:9333"])
        self.advance(20)
        self.assertLess(len(master.connections), 7)
        self.assertEqual(self.memory.cluster_id, CLUSTER)

    def test_a_silent_master_is_given_up_after_a_while(self) -> None:
        (master,) = self.net.add("m1:9333")
        master.silent = True
        self.start("m1:9333")
        self.advance(3 * PULSE + 3)
        self.assertTrue(master.connections[0].lost)
        self.assertEqual(len(master.connections), 2)

    def test_garbage_ends_the_connection(self) -> None:
        for garbage in (b"not json\r\n", b'{"type":"ack"}\r\n', b'{"type":"surprise"}\r\n', b"x" * (MAX_LINE + 10)):
            with self.subTest(garbage[:20]):
                (master,) = self.net.add("m1:9333")
                beats = self.start("m1:9333")
                assert master.last.transport is not None
                master.last.transport.write(garbage)
                self.net.flush()
                self.assertTrue(master.connections[0].lost)
                self.stop(beats)

    def test_an_acknowledgement_of_something_else_ends_the_connection(self) -> None:
        (master,) = self.net.add("m1:9333")
        master.silent = True
        self.start("m1:9333")
        master.last.say(master.ack(99))
        self.net.flush()
        self.assertTrue(master.last.lost)

    def test_a_master_that_never_acknowledges_is_not_pestered(self) -> None:
        (master,) = self.net.add("m1:9333")
        master.silent = True
        self.start("m1:9333")
        for _ in range(120):
            if not master.last.lost:
                assert master.last.transport is not None
                master.last.transport.write(b"garbage\r\n")
            self.advance(0.5)
        self.assertLess(len(master.connections), 30)

    def test_a_clean_stop_says_good_bye(self) -> None:
        masters = self.net.add("m1:9333", "m2:9333")
        beats = self.start("m1:9333")
        self.stop(beats)
        for master in masters:
            self.assertIsInstance(master.last.reports[-1], Bye)
            self.assertTrue(master.last.lost)

    def test_reports_are_json_that_a_person_can_read(self) -> None:
        line = encode(self.now.full(1)[0])
        self.assertEqual([v["id"] for v in json.loads(line)["volumes"]], [1, 2])


class StandingTests(SynchronousTestCase):
    def test_so_much_changed_that_a_full_report_is_better(self) -> None:
        before = standing()
        after = standing(*(volume(number) for number in range(1, 1002)))
        self.assertIsNone(after.since(before, 5))

    def test_disks_are_told_when_they_changed(self) -> None:
        before = standing(volume(1))
        after = attrs.evolve(before, disks=(attrs.evolve(before.disks[0], free_bytes=5),))
        difference = after.since(before, 5)
        assert isinstance(difference, Pulse)
        self.assertEqual(difference.disks, after.disks)
        again = after.since(after, 6)
        assert isinstance(again, Pulse)
        self.assertIsNone(again.disks)
