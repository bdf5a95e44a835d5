"""Writes to another copy, many at once on one connection: each gets its own answer, or hears of the end."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import PeerError
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import Needle
from weedtw.http.hop import Hop
from weedtw.http.hops import Hops
from weedtw.volume.copies import CopyResult, Order
from weedtw.volume.lane import Lane, Lanes

SAID = b'{"name":"a","size":1}'


def usual(number: int) -> bytes:
    """As the hot path answers."""
    head = (
        f'HTTP/1.1 201 Created\r\nServer: weedtw\r\nDate: now\r\nETag: "0a0b0c0d"\r\nX-Weedtw-Undo: {number}.-1\r\n'
        f"Cache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: {len(SAID)}\r\n"
        "X-Content-Type-Options: nosniff\r\n\r\n"
    )
    return head.encode() + SAID


def other(number: int) -> bytes:
    """The same from a server that puts it another way."""
    head = f"HTTP/1.1 201 Created\r\nX-Weedtw-Undo: {number}.-1\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"3\r\nabc\r\n0\r\n\r\n"


REFUSED = b'HTTP/1.1 409 Conflict\r\nContent-Length: 15\r\n\r\n{"error":"full"}'[:-1] + b"}"
REFUSED = REFUSED.replace(b": 15", b": %d" % len(REFUSED.partition(b"\r\n\r\n")[2]))


class Wire(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True


class Scene:
    """A lane whose other end is the test's."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.hops = Hops(lambda _: None, self.clock)  # type: ignore[arg-type, return-value]
        self.wire = Wire()
        self.lane = Lane(self.hops, "b:1")
        self.lane.makeConnection(self.wire)
        self.outcomes: dict[int, Any] = {}

    def write(self, number: int, within: float = 10.0) -> bool:
        def told(outcome: CopyResult | Failure) -> None:
            assert number not in self.outcomes
            self.outcomes[number] = outcome.value if isinstance(outcome, Failure) else outcome.undo

        return self.lane.take_on(b"<%d>" % number, within, told)

    def sent(self) -> bytes:
        self.clock.advance(0)
        sent: bytes = self.wire.value()
        self.wire.clear()
        return sent


class LaneTests(SynchronousTestCase):
    def test_what_comes_in_one_turn_leaves_in_one_piece(self) -> None:
        scene = Scene()
        assert all(map(scene.write, range(3)))
        assert scene.sent() == b"<0><1><2>"
        scene.lane.dataReceived(usual(0) + usual(1))
        assert scene.outcomes == {0: "0.-1", 1: "1.-1"}
        assert scene.write(3)
        assert scene.sent() == b"<3>"
        scene.lane.dataReceived(usual(2) + usual(3))
        assert scene.outcomes[3] == "3.-1"

    def test_of_many_the_first_leave_before_the_turn_is_over(self) -> None:
        scene = Scene()
        assert all(map(scene.write, range(20)))
        at_once = scene.wire.value()
        assert at_once == b"".join(b"<%d>" % number for number in range(16))
        scene.wire.clear()
        assert scene.sent() == b"<16><17><18><19>"
        assert scene.sent() == b""
        scene.lane.dataReceived(b"".join(map(usual, range(20))))
        assert len(scene.outcomes) == 20

    @given(st.lists(st.booleans(), min_size=1, max_size=6), st.lists(st.integers(1, 900), max_size=8))
    def test_answers_may_come_in_any_pieces(self, kinds: list[bool], cuts: list[int]) -> None:
        scene = Scene()
        assert all(map(scene.write, range(len(kinds))))
        data = b"".join(usual(n) if is_usual else other(n) for n, is_usual in enumerate(kinds))
        at = 0
        for end in [*sorted(cuts), len(data)]:
            if end > at:
                scene.lane.dataReceived(data[at:end])
                at = end
        assert scene.outcomes == {n: f"{n}.-1" for n in range(len(kinds))}

    def test_an_error_is_its_own_writes(self) -> None:
        scene = Scene()
        assert all(map(scene.write, range(3)))
        scene.lane.dataReceived(usual(0) + REFUSED + usual(2))
        assert (scene.outcomes[0], scene.outcomes[2]) == ("0.-1", "2.-1")
        assert isinstance(scene.outcomes[1], PeerError)
        assert (scene.outcomes[1].status, scene.outcomes[1].reason) == (409, "full")

    def test_the_end_of_the_connection_is_told_to_all(self) -> None:
        for end in ("lost", "closed", "nonsense", "stopped", "late"):
            scene = Scene()
            assert all(map(scene.write, range(3)))
            scene.sent()
            if end == "lost":
                scene.lane.connectionLost(Failure(ConnectionDone()))
            elif end == "closed":
                scene.lane.dataReceived(usual(0).replace(b"Server: weedtw", b"Connection: close"))
            elif end == "nonsense":
                scene.lane.dataReceived(usual(0) + b"nonsense\r\n\r\n")
            elif end == "stopped":
                scene.lane.stop()
            else:
                scene.lane.dataReceived(usual(0))
                scene.clock.advance(10.1)
            told = scene.outcomes
            assert isinstance(told[1], PeerError), end
            assert isinstance(told[2], PeerError), end
            assert told[1].status is None
            assert scene.lane.is_over
            assert not scene.write(4)

    def test_it_takes_nothing_while_an_answer_is_owed_for_long_or_many_are(self) -> None:
        scene = Scene()
        assert scene.write(0)
        scene.clock.advance(0.06)
        assert not scene.write(1)
        scene.lane.dataReceived(usual(0))
        assert all(map(scene.write, range(1, 65)))
        assert not scene.write(65)
        scene.lane.dataReceived(b"".join(map(usual, range(1, 65))))
        assert scene.write(65)

    def test_an_answer_that_nobody_asked_for_ends_it(self) -> None:
        for data in (usual(0), usual(0) + usual(1)):
            scene = Scene()
            if data != usual(0):
                assert scene.write(0)
            scene.lane.dataReceived(data)
            assert scene.wire.disconnecting
            assert scene.lane.is_over

    def test_an_idle_one_is_closed(self) -> None:
        scene = Scene()
        assert scene.write(0)
        scene.sent()
        scene.lane.dataReceived(usual(0))
        scene.clock.advance(14)
        assert not scene.wire.disconnecting
        scene.clock.advance(2)
        assert scene.wire.disconnecting


class LanesTests(SynchronousTestCase):
    def test_one_is_made_when_it_is_wanted_and_again_when_it_has_ended(self) -> None:
        clock: Any = Clock()
        hops = Hops(lambda _: None, clock)  # type: ignore[arg-type, return-value]
        connecting: list[Deferred[Hop]] = []

        def connect(address: str, kind: type[Hop] = Hop) -> Deferred[Hop]:
            assert (address, kind) == ("b:1", Lane)
            connecting.append(Deferred())
            return connecting[-1]

        hops.connect = connect  # type: ignore[method-assign]
        lanes = Lanes(hops)
        assert lanes.to("b:1") is None
        assert lanes.to("b:1") is None
        assert len(connecting) == 1
        connecting[0].errback(ConnectError())
        assert lanes.to("b:1") is None
        lane = Lane(hops, "b:1")
        lane.makeConnection(Wire())
        connecting[1].callback(lane)
        assert lanes.to("b:1") is lane
        lane.stop()
        assert lanes.to("b:1") is None
        assert len(connecting) == 3


class OrderTests(SynchronousTestCase):
    def test_the_whole_request(self) -> None:
        needle = Needle(7, 1, b"data", name="ü b".encode(), mime=b"a/b", last_modified=77, checksum=0)
        order = Order.write(FileId(3, 1, 7), "0f" * 16, needle, fsync=False, time_given=False)
        head, _, body = order.request("b:1").partition(b"\r\n\r\n")
        line, host, agent, *lines = head.split(b"\r\n")
        assert line == b"PUT /3,0100000007?type=replicate&write=%b&ts=77&tsGiven=false HTTP/1.1" % (b"0f" * 16)
        assert (host, body) == (b"Host: b:1", b"data")
        assert re.match(rb"User-Agent: ", agent)
        assert lines == [*(b"%b: %b" % field for field in order.headers), b"Content-Length: 4"]
        assert dict(order.headers)[b"Content-Type"] == b"a/b"
