"""What volume servers say, and what the master makes of it, line by line."""

import json
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import LIMIT, Scene, layout, take, volume
from weedtw.errors import Unavailable
from weedtw.formats.beat import MAX_LINE, Bye, Delta, Full, Hello, Pulse, VolumeReport, encode
from weedtw.master.heartbeats import ABSURD_VOLUME_ID, HELLO_PATIENCE, JOIN_PATIENCE, Beats, Heartbeats
from weedtw.master.keys import ABSURD

GONE = Failure(ConnectionDone())


class Wire:
    """A volume server's end of a connection to the master."""

    def __init__(self, hub: Heartbeats) -> None:
        self.beats: Beats = hub.protocol()
        self.transport = StringTransport()
        self.beats.makeConnection(self.transport)
        self._read = 0

    def say(self, *lines: bytes) -> list[dict[str, Any]]:
        """Send lines and take what was answered."""
        self.beats.dataReceived(b"".join(lines))
        return self.answers()

    def answers(self) -> list[dict[str, Any]]:
        new = self.transport.value()[self._read :]
        self._read += len(new)
        assert new == b"" or new.endswith(b"\r\n")
        return [json.loads(line) for line in new.splitlines()]

    @property
    def is_closed(self) -> bool:
        return self.transport.disconnecting or self.transport.disconnected

    def lose(self) -> None:
        self.beats.connectionLost(GONE)


def hello(address: str = "a:1", *uuids: str, **more: Any) -> bytes:
    """The first line of a server."""
    told = Hello(None, address, f"public.{address}", "dc1", "r1", "1.0", uuids or (f"uuid of {address}",), 5.0)
    return encode(attrs.evolve(told, **more))


def full(*volumes: VolumeReport, seq: int = 1, part: int = 1, parts: int = 1, key: int = 0) -> bytes:
    return encode(Full(seq, part, parts, volumes, 10, 0, (), key))


def delta(*new: VolumeReport, gone: tuple[int, ...] = (), seq: int = 2, key: int = 0) -> bytes:
    return encode(Delta(seq, new, gone, (), 10, key))


def pulse(*changed: VolumeReport, seq: int = 3, key: int = 0) -> bytes:
    return encode(Pulse(seq, changed, 10, key))


class Listening(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()
        self.hub = Heartbeats(self.scene.cluster)

    def connect(self, address: str = "a:1", *volumes: VolumeReport, **more: Any) -> Wire:
        """A server that was welcomed and has reported."""
        wire = Wire(self.hub)
        assert [answer["type"] for answer in wire.say(hello(address, **more))] == ["welcome"]
        assert [answer["type"] for answer in wire.say(full(*volumes))] == ["ack"]
        return wire

    def where(self, volume_id: int) -> list[str]:
        return [server.address for server in self.scene.topology.copies(volume_id)]


class Welcoming(Listening):
    def test_the_answers(self) -> None:
        wire = Wire(self.hub)
        lead = {"leader": "m:9333", "masters": ["m:9333"], "volumeSizeLimit": LIMIT}
        cluster = self.scene.ledger.cluster_id
        assert wire.say(hello()) == [{"type": "welcome", "cluster": cluster, "full": True, **lead}]
        assert wire.say(full(volume(3), seq=7)) == [{"type": "ack", "seq": 7, "full": False, **lead}]
        assert self.where(3) == ["a:1"]
        assert self.scene.topology.servers["a:1"].public_url == "public.a:1"

    def test_a_server_belongs_to_the_cluster_before_it_is_welcome(self) -> None:
        self.connect("a:1")
        (registered,) = self.scene.ledger.state.servers.values()
        assert (registered.address, registered.data_center, registered.uuids) == ("a:1", "dc1", ("uuid of a:1",))

    def test_one_that_is_known_costs_no_commit(self) -> None:
        wire = self.connect("a:1")
        wire.lose()
        commits = len(self.scene.ledger.commands)
        self.connect("a:1")
        assert len(self.scene.ledger.commands) == commits

    def test_one_that_moved(self) -> None:
        self.connect("a:1", volume(1)).lose()
        Wire(self.hub).say(hello("a:2", "uuid of a:1"))
        assert list(self.scene.ledger.state.servers) == ["a:2"]
        assert self.scene.topology.left == {}

    def test_bytes_in_any_pieces(self) -> None:
        wire = Wire(self.hub)
        for byte in hello() + full(volume(3)) + delta(volume(4)):
            wire.beats.dataReceived(bytes([byte]))
        assert [answer["type"] for answer in wire.answers()] == ["welcome", "ack", "ack"]
        assert self.where(4) == ["a:1"]

    def test_lines_that_come_at_once_are_taken_in_order(self) -> None:
        wire = Wire(self.hub)
        answers = wire.say(hello() + full(volume(3), seq=1) + delta(gone=(3,), seq=2) + delta(volume(3), seq=3))
        assert [answer.get("seq") for answer in answers] == [None, 1, 2, 3]
        assert self.where(3) == ["a:1"]


class Refusing(Listening):
    def refusal(self, *lines: bytes, wire: Wire | None = None) -> str:
        wire = wire or Wire(self.hub)
        answers = wire.say(*lines)
        assert answers[-1]["type"] == "refused"
        assert wire.is_closed
        reason: str = answers[-1]["reason"]
        return reason

    def test_another_cluster(self) -> None:
        reason = self.refusal(hello(cluster="other"))
        assert "cluster other" in reason
        assert self.scene.ledger.cluster_id in reason
        assert self.scene.ledger.state.servers == {}

    def test_its_own_cluster_is_fine(self) -> None:
        self.connect("a:1", volume(1), cluster=self.scene.ledger.cluster_id)
        assert self.where(1) == ["a:1"]

    def test_an_address_that_another_live_server_has(self) -> None:
        self.connect("a:1", volume(1))
        assert "connected as a:1" in self.refusal(hello("a:1", "another uuid"))
        assert self.where(1) == ["a:1"]

    def test_a_copied_folder(self) -> None:
        self.connect("a:1")
        reason = self.refusal(hello("b:1", "fresh", "uuid of a:1"))
        assert "uuid of a:1" in reason
        assert "a:1 already" in reason
        assert "two folders" in self.refusal(hello("c:1", "u", "u"))

    def test_the_address_and_the_folder_are_free_again_when_the_server_has_left(self) -> None:
        self.connect("a:1", volume(1)).lose()
        self.connect("b:1", volume(1), uuids=("uuid of a:1",))
        assert self.where(1) == ["b:1"]

    def test_garbage(self) -> None:
        assert "not JSON" in self.refusal(b"BEAT/1 {\r\n")
        assert "address" in self.refusal(b"BEAT/1 {}\r\n")
        wire = self.connect("a:1", volume(1))
        assert "unknown type" in self.refusal(b'{"type":"dance"}\r\n', delta(volume(2)), wire=wire)
        assert self.where(2) == []  # nothing after it was read
        assert "1048576" in self.refusal(b"BEAT/1 " + b"x" * MAX_LINE)

    def test_a_stranger_is_named_by_its_host_and_once(self) -> None:
        with capturedLogs() as logged:
            for _ in range(3):
                wire = Wire(self.hub)
                assert wire.say(b"BEAT/1 {}\r\n")[0]["type"] == "refused"
        (line,) = [formatEvent(event) for event in logged]
        assert line.startswith("refused a connection from 192.168.1.1: "), line

    def test_parts_that_do_not_belong_together(self) -> None:
        for lines in (
            [full(part=2, parts=3)],
            [full(part=1, parts=3), full(part=3, parts=3)],
            [full(part=1, parts=3), full(part=2, parts=4)],
            [full(part=1, parts=3), full(part=2, parts=3, seq=9)],
        ):
            assert "part" in self.refusal(hello("a:1", "u"), *lines)


class WithoutALead(Listening):
    def setUp(self) -> None:
        super().setUp()
        self.scene.ledger.lose_lead("n:9333")

    def test_a_server_is_taken_in_all_the_same_and_told_who_leads(self) -> None:
        wire = Wire(self.hub)
        (welcome,) = wire.say(hello())
        assert (welcome["type"], welcome["leader"]) == ("welcome", "n:9333")
        (ack,) = wire.say(full(volume(3, max_key=70)))
        assert (ack["type"], ack["leader"]) == ("ack", "n:9333")
        assert self.where(3) == ["a:1"]
        assert self.scene.ledger.commands == []

    def test_whoever_comes_to_lead_writes_it_down(self) -> None:
        self.connect("a:1", volume(3))
        self.scene.ledger.gain_lead(lease=False)  # it may be that there is none for the whole term
        self.successResultOf(Deferred.fromCoroutine(self.hub.raise_volume_ids()))
        self.successResultOf(Deferred.fromCoroutine(self.hub.write_down()))
        assert list(self.scene.ledger.state.servers) == ["a:1"]
        assert self.scene.ledger.state.max_volume_id == 3
        self.connect("b:1", volume(5, max_key=9))
        state = self.scene.ledger.state
        assert (list(state.servers), state.max_volume_id, state.key_high_water) == (["a:1", "b:1"], 5, 9)

    def test_a_decision_that_comes_to_nothing_does_not_keep_a_server_out(self) -> None:
        self.scene.ledger.gain_lead()
        self.scene.ledger.slow = True
        wire = Wire(self.hub)
        assert wire.say(hello()) == []
        self.scene.ledger.fail_all()
        assert [answer["type"] for answer in wire.answers()] == ["welcome"]


class WithoutACluster(Listening):
    def setUp(self) -> None:
        super().setUp()
        self.scene.ledger.lose_lead()
        self.cluster_id, self.scene.ledger.cluster_id = self.scene.ledger.cluster_id, ""

    def test_a_server_waits_for_a_moment(self) -> None:
        wire = Wire(self.hub)
        assert wire.say(hello()) == []
        self.scene.cluster.changes.announce()
        assert wire.answers() == []
        self.scene.ledger.cluster_id = self.cluster_id
        self.scene.cluster.changes.announce()
        assert [answer["type"] for answer in wire.answers()] == ["welcome"]

    def test_and_is_then_sent_away_without_a_word_in_the_log(self) -> None:
        wire = Wire(self.hub)
        with capturedLogs() as events:
            wire.say(hello())
            self.scene.clock.advance(JOIN_PATIENCE)
        (answer,) = wire.answers()
        assert (answer["type"], "no cluster yet" in answer["reason"]) == ("refused", True)
        assert events == []


class Racing(SynchronousTestCase):
    def test_of_two_servers_that_come_at_once_under_one_address_the_first_is_taken(self) -> None:
        scene = Scene(slow=True)
        hub = Heartbeats(scene.cluster)
        first, second, third = Wire(hub), Wire(hub), Wire(hub)
        first.say(hello("a:1", "u1"))
        second.say(hello("a:1", "u2"))
        third.say(hello("b:1", "u3") + full(volume(1)))
        third.lose()  # before it was welcome
        assert first.answers() == []
        while scene.ledger.waiting:
            scene.ledger.store_all()
        assert [answer["type"] for answer in first.answers()] == ["welcome"]
        assert [answer["type"] for answer in second.answers()] == ["refused"]
        assert list(scene.topology.servers) == ["a:1"]
        assert scene.topology.servers["a:1"].uuids == ("u1",)


class Reporting(Listening):
    def test_a_report_in_parts_counts_when_it_is_whole(self) -> None:
        wire = Wire(self.hub)
        wire.say(hello())
        assert wire.say(full(volume(1), part=1, parts=2)) == []
        assert self.where(1) == []
        (answer,) = wire.say(full(volume(2), part=2, parts=2))
        assert answer["type"] == "ack"
        assert (self.where(1), self.where(2)) == (["a:1"], ["a:1"])

    def test_a_report_begun_anew(self) -> None:
        wire = Wire(self.hub)
        wire.say(hello())
        wire.say(full(volume(1), part=1, parts=2))
        wire.say(full(volume(2), seq=2))
        assert (self.where(1), self.where(2)) == ([], ["a:1"])

    def test_changes_without_a_full_report_ask_for_one(self) -> None:
        wire = Wire(self.hub)
        wire.say(hello())
        assert wire.say(delta(volume(1)))[0]["full"] is True
        assert wire.say(full(volume(1)))[0]["full"] is False
        assert wire.say(pulse(volume(1, size=9)))[0]["full"] is False
        assert wire.say(pulse(volume(2, size=9)))[0]["full"] is True

    def test_those_who_wait_are_told(self) -> None:
        waiting = Deferred.fromCoroutine(self.scene.cluster.changes.wait(10))
        self.assertNoResult(waiting)
        self.connect("a:1")
        self.successResultOf(waiting)

    def test_nothing_is_read_while_the_answers_are_not(self) -> None:
        wire = self.connect("a:1")
        wire.beats.pauseProducing()
        assert wire.transport.producerState == "paused"
        wire.beats.resumeProducing()
        assert wire.transport.producerState == "producing"


class Sequences(Listening):
    def next_key(self) -> int:
        key: int = self.successResultOf(Deferred.fromCoroutine(take(self.scene.cluster.keys)))
        return key

    def test_keys_and_volume_ids_go_on_above_what_is_in_use(self) -> None:
        self.connect("a:1", volume(30, max_key=700), volume(20))
        assert self.scene.ledger.state.max_volume_id == 30
        assert self.scene.ledger.state.key_high_water == 700
        assert self.next_key() == 701

    def test_the_servers_own_maximum_counts_too(self) -> None:
        wire = self.connect("a:1")
        wire.say(pulse(key=900))
        assert self.next_key() == 901

    def test_an_absurd_key_does_not_hide_the_others(self) -> None:
        wire = self.connect("a:1", volume(1, max_key=ABSURD), volume(2, max_key=50))
        wire.say(pulse(key=ABSURD))
        assert self.next_key() == 51

    def test_an_absurd_volume_id_is_served_and_not_counted_from(self) -> None:
        self.connect("a:1", volume(ABSURD_VOLUME_ID), volume(5))
        assert self.where(ABSURD_VOLUME_ID) == ["a:1"]
        assert self.scene.ledger.state.max_volume_id == 5

    def test_a_disk_that_fails_does_not_keep_the_report_from_counting(self) -> None:
        wire = self.connect("a:1")
        self.scene.ledger.break_down()
        assert wire.say(delta(volume(9, max_key=5)))[0]["type"] == "ack"
        assert self.where(9) == ["a:1"]
        self.failureResultOf(Deferred.fromCoroutine(take(self.scene.cluster.keys)), Unavailable)


class Leaving(Listening):
    def test_a_lost_connection_takes_the_server_out_at_once(self) -> None:
        wire = self.connect("a:1", volume(1))
        assert self.scene.topology.layouts
        wire.lose()
        assert self.where(1) == []
        assert not self.scene.topology.layouts
        assert self.scene.cluster.absent() == ["a:1"]

    def test_so_does_a_good_bye(self) -> None:
        wire = self.connect("a:1", volume(1))
        assert wire.say(encode(Bye())) == []
        assert wire.is_closed
        assert self.where(1) == []
        wire.lose()

    def said(self, events: Sequence[LogEvent]) -> list[tuple[str, str]]:
        return [(event["log_level"].name, formatEvent(event)) for event in events]

    def test_the_log_tells_who_stops_from_who_is_lost(self) -> None:
        first, second, third = (self.connect(f"{name}:1") for name in "abc")
        with capturedLogs() as events:
            first.say(encode(Bye()))
            first.lose()
            second.lose()
            self.hub.close()
            third.lose()  # because the master stops
        self.assertEqual(
            self.said(events),
            [
                ("info", "volume server a:1 has left: it stops"),
                ("warn", "volume server b:1 is away: its connection was lost"),
            ],
        )

    def test_two_pulses_of_silence(self) -> None:
        """Of the server's own pulse, whatever the others' is."""
        for number, seconds in enumerate((5.0, 3.0, 60.0), 1):
            wire = self.connect(f"{number}:1", volume(number), pulse=seconds)
            self.scene.clock.advance(1.9 * seconds)
            assert not wire.transport.disconnected
            wire.say(pulse())
            self.scene.clock.advance(1.9 * seconds)
            assert not wire.transport.disconnected
            with capturedLogs() as events:
                self.scene.clock.advance(0.2 * seconds)
            assert wire.transport.disconnected
            said = ("warn", f"volume server {number}:1 said nothing for {2 * seconds:g} s")
            self.assertEqual(self.said(events), [said])
            wire.lose()
            assert self.where(number) == []

    def test_a_client_that_says_nothing(self) -> None:
        wire = Wire(self.hub)
        self.scene.clock.advance(HELLO_PATIENCE + 1)
        assert wire.transport.disconnected

    def test_no_timer_outlives_its_connection(self) -> None:
        wire = self.connect("a:1", volume(1))
        wire.lose()
        assert self.scene.clock.getDelayedCalls() == []

    def test_a_server_that_comes_back_before_its_old_connection_is_gone(self) -> None:
        old = self.connect("a:1", volume(1))
        new = Wire(self.hub)
        new.say(hello("a:1"))
        assert old.transport.disconnected
        assert self.where(1) == ["a:1"]  # no gap
        old.lose()
        assert self.where(1) == ["a:1"]
        new.say(full())
        assert self.where(1) == []

    def test_closing(self) -> None:
        wires = [self.connect("a:1"), self.connect("b:1")]
        self.hub.close()
        assert all(wire.is_closed for wire in wires)


class Conflicts(Listening):
    def test_a_second_claim_is_quarantined(self) -> None:
        self.connect("a:1", volume(1, file_count=3))
        self.connect("b:1", volume(1, collection="pics"))
        self.connect("c:1", volume(1, file_count=4))
        assert self.where(1) == ["a:1"]
        assert set(self.scene.topology.quarantined) == {(1, "b:1"), (1, "c:1")}

    def test_it_is_reported_once_and_given_nothing_to_write(self) -> None:
        self.connect("a:1", volume(1, file_count=3))
        with capturedLogs() as events:
            wire = self.connect("b:1", volume(1, collection="pics"))
            wire.say(pulse(volume(1, collection="pics", size=9)))
        said = [formatEvent(event) for event in events if event["log_level"].name == "error"]
        self.assertEqual(len(said), 1)
        self.assertIn("volume 1 on b:1 is quarantined", said[0])
        self.assertIn("a:1", said[0])
        writable = {key.collection: layout.writables() for key, layout in self.scene.topology.layouts.items()}
        self.assertEqual(writable, {"": [1]})
        for _ in range(20):
            pick = self.scene.topology.layouts[layout()].pick(self.scene.cluster.rng)
            assert pick is not None
            self.assertEqual(pick.server.address, "a:1")


class Telling(Listening):
    def test_who_leads(self) -> None:
        wire = self.connect("a:1")
        self.hub.tell_leader()
        assert wire.answers() == [{"type": "leader", "leader": "m:9333", "masters": ["m:9333"]}]
