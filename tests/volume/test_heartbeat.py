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

from weedtw.errors import ChangeRefused
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
from weedtw.volume.heartbeat import MOST_CALLED, Heartbeats
from weedtw.volume.link import LEAST_REFUSED_DELAY, MAX_DELAY, REFUSED_DELAY
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
            if not self.master.hold:
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
    hold: bool = False  # the answer to a hello
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


class BeatTests(SynchronousTestCase):
    """What the tests below share."""

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


class HeartbeatTests(BeatTests):
    """The loop of reports, and connections that are lost."""

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

    def test_any_one_of_them_leads_to_all_within_two_pulses(self) -> None:
        """Whichever is named, whoever leads or nobody, and though the others come up only then."""
        names = ("m1:9333", "m2:9333", "m3:9333")
        for named in names:
            for leader in (*names, None):
                for late in (False, True):
                    self.net, self.memory = Net(), Memory()
                    masters = self.net.add(*names, leader=leader)
                    for master in masters:
                        master.up = master.address == named or not late
                    beats = self.start(named)
                    for master in masters:
                        master.up = True
                    self.advance(2 * PULSE)
                    self.assertEqual([master.open for master in masters], [1, 1, 1], (named, leader, late))
                    self.assertEqual(beats.leader, leader)
                    self.assertEqual(self.memory.masters, names)
                    self.stop(beats)

    def test_a_new_leader_is_known_within_two_pulses_though_nobody_announces_it(self) -> None:
        """It is in every acknowledgement; the former one is killed, or freezes, or follows."""
        for end in ("killed", "frozen", "follows"):
            self.net, self.memory = Net(), Memory()
            first, *others = self.net.add("m1:9333", "m2:9333", "m3:9333", leader="m1:9333")
            beats = self.start("m1:9333")
            self.assertEqual(beats.leader, "m1:9333")
            if end == "killed":
                first.up = False
                first.last.transport.loseConnection()  # type: ignore[union-attr]
                self.net.flush()
            first.silent = end == "frozen"
            for master in others if end != "follows" else (first, *others):
                master.leader = "m2:9333"
            self.advance(2 * PULSE)
            self.assertEqual((beats.leader, beats.masters[0]), ("m2:9333", "m2:9333"), end)
            self.stop(beats)

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
        self.assertTrue(60 / MAX_DELAY - 2 <= len(self.net.attempts) <= 60 / MAX_DELAY + 10, len(self.net.attempts))
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

    def test_who_is_refused_is_asked_ever_more_rarely(self) -> None:
        (master,) = self.net.add("m1:9333", refusal="not now")
        self.start("m1:9333")
        seen = []
        for _ in range(5):
            seen.append(len(master.connections))
            self.advance(1.5)
        self.assertEqual(seen, [1, 2, 2, 3, 3])

    def test_a_master_that_kept_us_waiting_for_its_refusal_is_asked_again_soon(self) -> None:
        """One that belongs to no cluster yet holds its answer back, in case it comes to one."""
        (master,) = self.net.add("m1:9333", hold=True)
        beats = self.start("m1:9333")
        for number in range(1, 6):
            self.advance(REFUSED_DELAY)
            self.assertEqual(len(master.connections), number)
            master.last.say(Refused("this master belongs to no cluster yet"))
            self.net.flush()
            self.advance(LEAST_REFUSED_DELAY + 0.2)
        self.assertEqual(len(master.connections), 6)
        master.hold = False
        master.last.say(master.greeting())
        self.net.flush()
        self.assertTrue(beats.is_known)

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


class MembershipTests(BeatTests):
    """Masters come, go, lead, and are found again."""

    def agree(self, leader: str | None, *masters: str) -> None:
        """Those masters say so from now on, at once to whoever is connected."""
        for address in masters:
            master = self.net.masters[address]
            master.leader, master.masters = leader, masters
            if master.open:
                master.last.say(Leader(leader, masters))
        self.net.flush()

    def cut(self, address: str, *, up: bool = False) -> None:
        master = self.net.masters[address]
        master.up = up
        assert master.last.transport is not None
        master.last.transport.loseConnection()
        self.net.flush()

    def open(self) -> list[str]:
        return sorted(address for address, master in self.net.masters.items() if master.open)

    def test_a_new_master_is_reported_to_at_once(self) -> None:
        self.net.add("m1:9333", "m2:9333", leader="m1:9333")
        self.start("m1:9333")
        (third,) = self.net.add("m3:9333")
        self.agree("m1:9333", "m1:9333", "m2:9333", "m3:9333")
        self.assertIsInstance(third.last.reports[0], Full)
        self.assertEqual(self.memory.masters, ("m1:9333", "m2:9333", "m3:9333"))

    def test_one_that_only_the_next_acknowledgement_names(self) -> None:
        masters = self.net.add("m1:9333", "m2:9333", leader="m1:9333")
        self.start("m1:9333")
        (third,) = self.net.add("m3:9333")
        for master in masters:
            master.masters = ("m1:9333", "m2:9333", "m3:9333")
        self.advance(PULSE + 1)
        self.assertEqual(third.open, 1)

    def test_a_removed_master_is_left_with_a_good_bye(self) -> None:
        self.net.add("m1:9333", "m2:9333", "m3:9333", leader="m1:9333")
        beats = self.start("m3:9333")
        with capturedLogs() as logged:
            self.agree("m1:9333", "m1:9333", "m2:9333")  # the third, removed, knows nothing of it
        self.assertEqual(self.open(), ["m1:9333", "m2:9333"])
        self.assertIsInstance(self.net.masters["m3:9333"].last.reports[-1], Bye)
        self.assertEqual(self.memory.masters, ("m1:9333", "m2:9333"))
        said = "master m3:9333 does not belong to the cluster any more"
        self.assertEqual([formatEvent(event) for event in logged].count(said), 1)
        self.advance(20)
        self.assertEqual(self.open(), ["m1:9333", "m2:9333"])
        self.assertEqual(beats.masters, ("m1:9333", "m2:9333"))

    def test_a_removed_master_that_is_dead_is_not_tried_any_more(self) -> None:
        self.net.add("m1:9333", "m2:9333", "m3:9333", leader="m1:9333")
        self.start("m1:9333")
        self.cut("m3:9333")
        self.agree("m1:9333", "m1:9333", "m2:9333")
        self.net.attempts.clear()
        self.advance(10)
        self.assertEqual(self.net.attempts, [])

    def test_a_removed_master_that_still_runs_leads_to_the_others(self) -> None:
        """It knows the members of before; they know better."""
        old, *_ = self.net.add("m1:9333", "m2:9333", "m3:9333")
        self.agree("m2:9333", "m2:9333", "m3:9333", *[m.address for m in self.net.add("m4:9333")])
        old.masters = ("m1:9333", "m2:9333", "m3:9333")
        self.start("m1:9333")
        self.advance(PULSE + 1)
        self.assertEqual(self.open(), ["m2:9333", "m3:9333", "m4:9333"])
        self.assertEqual(self.memory.masters, ("m2:9333", "m3:9333", "m4:9333"))

    def test_without_a_leader_nobody_who_is_named_is_dropped(self) -> None:
        self.net.add("m1:9333", "m2:9333", "m3:9333")
        self.start("m1:9333")
        self.agree(None, "m1:9333", "m2:9333")
        self.assertEqual(self.open(), ["m1:9333", "m2:9333", "m3:9333"])

    def test_a_leader_whose_connection_is_lost_is_not_asked_first(self) -> None:
        self.net.add("m1:9333", "m2:9333", "m3:9333", leader="m2:9333")
        beats = self.start("m1:9333")
        self.assertEqual(beats.masters[0], "m2:9333")
        self.cut("m2:9333")
        self.assertIsNone(beats.leader)
        self.assertEqual(beats.masters[2], "m2:9333")
        self.advance(PULSE + 1)  # the others have not noticed yet and name it again
        self.assertEqual((beats.leader, beats.masters[2]), ("m2:9333", "m2:9333"))
        self.agree("m3:9333", "m1:9333", "m3:9333")
        self.assertEqual(beats.masters[0], "m3:9333")

    def test_a_leader_that_is_cut_off_from_the_others_is_not_believed(self) -> None:
        self.net.add("m1:9333", "m2:9333", "m3:9333", leader="m1:9333")
        beats = self.start("m1:9333")
        with capturedLogs() as logged:
            for address in ("m2:9333", "m3:9333"):
                master = self.net.masters[address]
                master.leader = "m2:9333"
                master.last.say(Leader("m2:9333", master.masters))
                self.net.flush()
            self.advance(4 * PULSE)  # the first says at every pulse that it leads
        self.assertEqual(beats.masters[0], "m2:9333")
        said = [formatEvent(event) for event in logged]
        self.assertEqual([line for line in said if "leading" in line], ["the leading master is m2:9333"])

    def test_of_two_opinions_the_newer_counts(self) -> None:
        first, second = self.net.add("m1:9333", "m2:9333", leader="m1:9333")
        beats = self.start("m1:9333")
        self.advance(1)
        second.leader = "m2:9333"
        second.last.say(Leader("m2:9333", second.masters))
        self.net.flush()
        self.advance(3 * PULSE)
        self.assertEqual((first.leader, beats.leader), ("m1:9333", "m2:9333"))

    def test_a_master_that_was_dead_is_found_within_two_pulses_of_a_second(self) -> None:
        (master,) = self.net.add("m1:9333", leader="m1:9333")
        beats = self.start("m1:9333")
        self.cut("m1:9333")
        self.advance(300)
        master.up = True
        self.advance(2)
        self.assertTrue(beats.is_known)

    def test_all_masters_are_lost_and_those_that_are_remembered_come_back(self) -> None:
        """The one that was named at the start was removed long ago."""
        self.net.add("m1:9333", "m2:9333", leader="m2:9333")
        self.memory = Memory(CLUSTER, ("m2:9333", "m3:9333"))
        beats = self.start("m1:9333")
        self.net.add("m3:9333")
        self.agree("m2:9333", "m2:9333", "m3:9333")
        self.assertEqual(self.open(), ["m2:9333", "m3:9333"])
        self.net.masters["m1:9333"].up = False
        for address in ("m2:9333", "m3:9333"):
            self.cut(address)
        self.assertFalse(beats.is_known)
        self.advance(30)
        self.net.masters["m3:9333"].up = True
        self.advance(MAX_DELAY * 2)
        self.assertEqual(self.open(), ["m3:9333"])

    def test_a_removed_master_makes_nobody_forget_the_others(self) -> None:
        """All others are away; it takes the server in, and does not know of the third."""
        self.net.add("m1:9333", "m2:9333", leader="m2:9333")
        beats = self.start("m1:9333")
        self.net.add("m3:9333")
        self.agree("m2:9333", "m2:9333", "m3:9333")
        for address in ("m2:9333", "m3:9333"):
            self.cut(address)
        self.advance(10)
        self.assertEqual((beats.leader, self.open()), ("m2:9333", ["m1:9333"]))
        self.assertEqual(self.memory.masters, ("m1:9333", "m2:9333", "m3:9333"))
        self.net.masters["m3:9333"].up = True
        self.agree("m3:9333", "m2:9333", "m3:9333")
        self.advance(MAX_DELAY * 2 + PULSE)
        self.assertEqual(self.open(), ["m3:9333"])
        self.assertEqual(self.memory.masters, ("m2:9333", "m3:9333"))

    def test_masters_that_refuse_are_not_asked_where_volumes_are(self) -> None:
        self.net.add("m1:9333", cluster="another")
        self.net.add("m2:9333")
        self.memory = Memory(CLUSTER, ())
        beats = self.start("m1:9333", "m2:9333")
        self.assertEqual(beats.masters, ("m2:9333",))


class CallTests(BeatTests):
    """Somebody tells where the masters are now."""

    def lost_all(self) -> Heartbeats:
        """A server whose masters have gone."""
        self.memory = Memory(CLUSTER, ("m1:9333", "m2:9333"))
        beats = self.start("m1:9333")
        self.advance(10)
        return beats

    def test_masters_that_moved_are_found_and_remembered(self) -> None:
        beats = self.lost_all()
        self.net.add("n1:9333", "n2:9333", leader="n2:9333")
        beats.call(CLUSTER, ("n1:9333", "n2:9333"))
        self.net.flush()
        self.assertTrue(beats.is_known)
        self.assertEqual(self.memory.masters, ("n1:9333", "n2:9333"))
        self.assertEqual(beats.masters, ("n2:9333", "n1:9333"))

    def test_those_who_moved_one_by_one_are_no_masters_any_more(self) -> None:
        """What is not named any more, and was not named in this life, is another name of somebody, or nobody."""
        beats = self.lost_all()
        self.net.add("n1:9333", leader="n1:9333")
        beats.call(CLUSTER, ("n1:9333",))
        self.net.flush()
        self.net.attempts.clear()
        self.advance(10)
        self.assertEqual(self.net.attempts, [])

    def test_another_cluster(self) -> None:
        beats = self.lost_all()
        self.net.attempts.clear()
        with self.assertRaises(ChangeRefused) as caught:
            beats.call("another", ("n1:9333",))
        self.assertEqual(
            str(caught.exception), f"this server belongs to cluster {CLUSTER}, not another; remove the file"
        )
        self.advance(5)
        self.assertNotIn("n1:9333", self.net.attempts)

    def test_a_master_that_lies_about_its_cluster_gets_nothing(self) -> None:
        beats = self.lost_all()
        (liar,) = self.net.add("n1:9333", cluster="another")
        beats.call(CLUSTER, ("n1:9333",))
        self.net.flush()
        self.assertEqual(liar.last.reports, [])
        self.assertEqual(self.memory, Memory(CLUSTER, ("m1:9333", "m2:9333")))

    def test_a_server_without_a_cluster_takes_the_first_that_takes_it(self) -> None:
        beats = self.start("m1:9333")
        self.net.add("n1:9333", leader="n1:9333")
        beats.call(CLUSTER, ("n1:9333",))
        self.net.flush()
        self.assertEqual(self.memory, Memory(CLUSTER, ("n1:9333",)))

    def test_what_was_told_before_is_forgotten(self) -> None:
        beats = self.lost_all()
        for number in range(100):
            beats.call(CLUSTER, tuple(f"n{number}-{each}:9333" for each in range(50)))
        self.assertEqual(len(beats.masters), 2 + MOST_CALLED)
        beats.call(CLUSTER, ("m1:9333",))
        self.assertEqual(sorted(beats.masters), ["m1:9333", "m2:9333"])

    def test_one_that_is_well_connected_tries_and_gives_up(self) -> None:
        self.net.add("m1:9333", leader="m1:9333")
        beats = self.start("m1:9333")
        beats.call(CLUSTER, ("n1:9333",))
        self.advance(2 * PULSE)
        self.assertEqual(beats.masters, ("m1:9333",))

    def test_after_the_end(self) -> None:
        beats = self.lost_all()
        self.stop(beats)
        beats.call(CLUSTER, ("n1:9333",))
        self.assertNotIn("n1:9333", self.net.attempts)


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
