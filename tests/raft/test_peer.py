"""Single connections and single links: hellos, ends that say why, pauses, and peers that do not read."""

import itertools
import random
from operator import attrgetter
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from tests.raft.logged import LoggedTestCase
from tests.raft.wires import End, Network, Script
from weedtw.errors import BadRequest, PeerError, WeedError
from weedtw.raft import lines
from weedtw.raft.complaints import FIRST_REPEAT, LAST_REPEAT, Complaints
from weedtw.raft.lines import Hello
from weedtw.raft.link import MAX_PAUSE, Link
from weedtw.raft.messages import Append, Entry, Heartbeat, Message
from weedtw.raft.peer import HELLO_TIMEOUT, LINGER, MAX_UNSENT, Inbound

HERE, THERE = "here:1", "there:1"
OWN = Hello("c", "n1", HERE)
OTHER = Hello("c", "n2", THERE)


def hello_line(hello: Hello) -> bytes:
    return lines.encode_hello(hello) + b"\r\n"


def beat(number: int) -> Heartbeat:
    return Heartbeat("n1", "n2", 1, 0, number)


@attrs.define
class Listener:
    """A node that takes calls."""

    refusal: WeedError | None = None
    disgust: Exception | None = None
    messages: list[Message] = attrs.Factory(list)
    gone: list[Inbound] = attrs.Factory(list)

    def admit(self, connection: Inbound, hello: Hello) -> Hello:
        if self.refusal is not None:
            raise self.refusal
        return OTHER

    def received(self, message: Message) -> None:
        self.messages.append(message)
        if self.disgust is not None:
            raise self.disgust

    def hung_up(self, connection: Inbound) -> None:
        self.gone.append(connection)


@attrs.define
class Observer:
    """What a link tells, in order."""

    told: list[str] = attrs.Factory(list)

    def up(self, node: str) -> None:
        self.told.append(f"up {node}")

    def down(self, node: str) -> None:
        self.told.append(f"down {node}")

    def refused(self, node: str) -> None:
        self.told.append(f"refused {node}")


class NetworkTest(LoggedTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.network = Network(self.clock)
        self.complaints = Complaints(self.clock)
        self.listener = Listener()
        self.listen()

    def listen(self) -> None:
        self.network.listening[THERE] = lambda: Inbound(
            self.listener, self.clock, self.complaints.complain, certified=False
        )

    def reasons(self) -> list[str]:
        return self.log.texts()


class InboundTests(NetworkTest):
    def call(self, *data: bytes) -> tuple[Script, End]:
        script = Script()
        transport = self.network.call(HERE, THERE, script)
        for part in data:
            transport.write(part)
            self.network.run(0.005)
        return script, transport

    def assert_refused(self, script: Script, saying: str) -> None:
        """The caller got one line, and then the end; it was logged once."""
        self.assertTrue(script.got.startswith(b"refused "), script.got)
        self.assertEqual(script.got.count(b"\r\n"), 1)
        self.assertIn(saying, script.got.decode())
        self.assertTrue(script.ended)
        self.assertEqual(len(self.reasons()), 1)
        self.assertIn(saying, self.reasons()[0])

    def test_an_admitted_caller_is_answered_and_heard(self) -> None:
        script, _ = self.call(hello_line(OWN), lines.encode(beat(7)) + b"\r\n")
        self.assertEqual(script.got, hello_line(OTHER))
        self.assertEqual(self.listener.messages, [beat(7)])

    def test_bytes_may_come_in_any_portions(self) -> None:
        whole = hello_line(OWN) + b"".join(lines.encode(beat(i)) + b"\r\n" for i in range(3))
        self.call(*[whole[i : i + 1] for i in range(len(whole))])
        self.assertEqual(self.listener.messages, [beat(0), beat(1), beat(2)])

    def test_all_at_once(self) -> None:
        self.call(hello_line(OWN) + b"".join(lines.encode(beat(i)) + b"\r\n" for i in range(3)))
        self.assertEqual(len(self.listener.messages), 3)

    def test_a_refused_caller_reads_why(self) -> None:
        self.listener.refusal = PeerError(HERE, "you are of another cluster")
        script, _ = self.call(hello_line(OWN))
        self.assert_refused(script, "you are of another cluster")

    def test_garbage_instead_of_a_hello(self) -> None:
        script, _ = self.call(b"\x16\x03\x01 hello?\r\n")
        self.assert_refused(script, "no RAFT/1 hello")

    def test_version_skew(self) -> None:
        script, _ = self.call(b'RAFT/1 {"cluster":"c","node":"n1","address":"a:1","version":2}\r\n')
        self.assert_refused(script, "protocol version 2 is spoken there, 1 here")

    def test_a_hello_that_is_too_long_is_not_collected(self) -> None:
        script, _ = self.call(b"RAFT/1 " + b"x" * lines.MAX_HELLO)
        self.assert_refused(script, f"longer than {lines.MAX_HELLO} bytes")

    def test_garbage_instead_of_a_message(self) -> None:
        script, _ = self.call(hello_line(OWN), b"{}\r\n")
        script.got = script.got.removeprefix(hello_line(OTHER))
        self.assert_refused(script, "unknown message type")

    def test_a_message_that_is_too_long_is_not_collected(self) -> None:
        script, transport = self.call(hello_line(OWN))
        script.got = b""
        for _ in range(20):
            transport.write(b"x" * (lines.MAX_LINE // 16))
            self.network.run(0.005)
        self.assert_refused(script, f"longer than {lines.MAX_LINE} bytes")

    def test_a_message_that_no_honest_node_sends(self) -> None:
        self.listener.disgust = BadRequest("never sent")
        script, _ = self.call(hello_line(OWN), lines.encode(beat(1)) + b"\r\n")
        script.got = script.got.removeprefix(hello_line(OTHER))
        self.assert_refused(script, "never sent")

    def test_nothing_is_heard_after_a_refusal(self) -> None:
        self.listener.disgust = BadRequest("never sent")
        two = (lines.encode(beat(1)) + b"\r\n") * 2
        _, transport = self.call(hello_line(OWN), two)
        transport.write(two)
        self.network.run(LINGER)
        self.assertEqual(self.listener.messages, [beat(1)])

    def test_no_hello_in_time(self) -> None:
        script, _ = self.call()
        self.network.run(HELLO_TIMEOUT - 0.1, step=0.05)
        self.assertFalse(script.ended)
        self.network.run(0.2)
        self.assert_refused(script, "no hello within 10 s")

    def test_a_hello_byte_by_byte_is_no_excuse(self) -> None:
        script, transport = self.call()
        for byte in b"RAFT/1 {":
            transport.write(bytes([byte]))
            self.network.run(HELLO_TIMEOUT / 7, step=0.05)
        self.assert_refused(script, "no hello within 10 s")

    def test_an_admitted_caller_may_be_silent(self) -> None:
        script, _ = self.call(hello_line(OWN))
        self.network.run(100 * HELLO_TIMEOUT, step=1)
        self.assertFalse(script.ended)

    def test_a_caller_that_does_not_read_its_refusal_is_cut_off(self) -> None:
        self.network.deaf.add(HERE)
        self.listener.refusal = PeerError(HERE, "no")
        script, _ = self.call(hello_line(OWN))
        self.network.run(LINGER / 2)
        self.assertFalse(script.ended)
        self.network.run(LINGER)
        self.assertTrue(script.ended)

    def test_the_node_is_told_of_every_end(self) -> None:
        _, transport = self.call(hello_line(OWN))
        transport.loseConnection()
        self.call(b"garbage\r\n")
        self.network.run(0.01)
        self.assertEqual(len(self.listener.gone), 2)
        self.assertEqual(self.network.ends, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_refusal_is_not_answered(self) -> None:
        script, _ = self.call(hello_line(OWN), b"refused I do not like you\r\n")
        self.assertEqual(script.got, hello_line(OTHER))
        self.assertTrue(script.ended)
        self.assertIn("refused there: I do not like you", self.reasons()[0])

    def test_a_bug_in_the_node_is_loud(self) -> None:
        self.listener.disgust = ZeroDivisionError()
        script, _ = self.call(hello_line(OWN), lines.encode(beat(1)) + b"\r\n")
        self.assertEqual(self.expect_logged(ZeroDivisionError), 1)
        self.assertTrue(script.ended)


class AnyBytes(NetworkTest):
    @settings(max_examples=200, deadline=None)
    @given(st.booleans(), st.lists(st.binary(max_size=60) | st.sampled_from([b"\r\n", hello_line(OWN), b"{}\r\n"])))
    def test_end_with_one_line_or_are_waited_for(self, admitted: bool, portions: list[bytes]) -> None:
        script = Script()
        transport = self.network.call(HERE, THERE, script)
        for portion in [hello_line(OWN)] * admitted + portions:
            transport.write(portion)
            self.network.run(0.002)
        *lines_back, rest = script.got.split(b"\r\n")
        self.assertEqual(rest, b"")
        for line in lines_back:
            self.assertTrue(line.startswith((b"refused ", lines.PREFIX)), line)
        self.assertLessEqual(sum(line.startswith(b"refused ") for line in lines_back), 1)
        transport.abortConnection()
        self.network.run(0.01)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LinkTest(NetworkTest):
    def setUp(self) -> None:
        super().setUp()
        self.observer = Observer()
        self.link = self.make_link()

    def make_link(self, **kwargs: Any) -> Link:
        options: dict[str, Any] = {
            "own_hello": lambda: OWN,
            "connect": self.network.connector(HERE),
            "clock": self.clock,
            "rng": random.Random(1),
            "observer": self.observer,
            "complaints": self.complaints,
            "certified": False,
        }
        return Link("n2", THERE, **{**options, **kwargs})

    def attempts(self) -> int:
        return len(self.network.dialled)


class Sending(LinkTest):
    def test_messages_leave_once_admitted(self) -> None:
        self.link.start()
        self.link.send(beat(1))
        self.network.run(0.01)
        self.assertTrue(self.link.connected)
        self.link.send(beat(2))
        self.network.run(0.01)
        self.assertEqual(self.listener.messages, [beat(2)])
        self.assertEqual(self.observer.told, ["up n2"])

    def test_stopping_hangs_up(self) -> None:
        self.link.start()
        self.network.run(0.01)
        stopped = self.link.stop()
        self.network.run(0.01)
        self.successResultOf(stopped)
        self.assertEqual(self.network.ends, [])
        self.assertEqual(self.observer.told, ["up n2"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_before_it_was_ever_up(self) -> None:
        for state in ("pausing", "dialling", "waiting for a hello"):
            self.listen()
            if state == "pausing":
                del self.network.listening[THERE]
            if state == "waiting for a hello":
                self.network.deaf.add(THERE)
            link = self.make_link()
            link.start()
            if state != "dialling":
                self.network.run(0.01)
            stopped = link.stop()
            self.network.run(LINGER + 0.1)
            self.successResultOf(stopped)
            self.assertEqual(self.network.ends, [], state)
            self.assertEqual(self.clock.getDelayedCalls(), [], state)

    def test_stopping_twice_or_without_starting(self) -> None:
        self.successResultOf(self.link.stop())
        self.link.start()
        first, second = self.link.stop(), self.link.stop()
        self.network.run(LINGER + 0.1)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.network.ends, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_written_to_a_deaf_peer_is_bounded(self) -> None:
        self.link.start()
        self.network.run(0.01)
        self.network.deaf.add(THERE)
        big = Append("n1", "n2", 1, 0, 0, (Entry(1, 1, data=b"x" * 200_000),), 0)
        for _ in range(200):
            self.link.send(big)
            self.network.run(0.001)
        (end,) = [end for end in self.network.ends if self.network.owner(end) == HERE]
        self.assertLess(end.unread_bytes, MAX_UNSENT + 1_000_000)
        self.assertGreater(end.unread_bytes, MAX_UNSENT - 1_000_000)
        self.network.hear_again(THERE)
        self.network.run(0.01)
        heard = len(self.listener.messages)
        self.assertGreater(heard, 20)
        self.link.send(beat(1))
        self.network.run(0.01)
        self.assertEqual(self.listener.messages[heard:], [beat(1)])

    def test_stopping_does_not_wait_for_a_deaf_peer(self) -> None:
        self.link.start()
        self.network.run(0.01)
        self.network.deaf.add(THERE)
        self.link.send(Append("n1", "n2", 1, 0, 0, (Entry(1, 1, data=b"x" * 200_000),), 0))
        stopped = self.link.stop()
        self.network.run(LINGER + 0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.network.ends, [])

    def test_a_message_that_is_too_long_for_a_line_is_a_loud_bug(self) -> None:
        self.link.start()
        self.network.run(0.01)
        self.link.send(Append("n1", "n2", 1, 0, 0, (Entry(1, 1, data=b"x" * lines.MAX_LINE),), 0))
        self.network.run(0.01)
        self.assertEqual(self.listener.messages, [])
        self.expect_logged()


class Answers(LinkTest):
    """What a link makes of what it finds at the address."""

    def answer(self, data: bytes) -> list[Script]:
        scripts: list[Script] = []

        def build() -> Script:
            script = Script()
            self.clock.callLater(0.0005, lambda: script.transport.write(data))  # type: ignore[union-attr]
            scripts.append(script)
            return script

        self.network.listening[THERE] = build
        self.link.start()
        self.network.run(0.01)
        return scripts

    def assert_turned_away(self, data: bytes, saying: str, answered: bytes | None) -> None:
        script = self.answer(data)[0]
        self.assertTrue(script.ended)
        self.assertFalse(self.link.connected)
        self.assertIn(saying, self.reasons()[0])
        said = script.got.removeprefix(hello_line(OWN))
        if answered is None:
            self.assertEqual(said, b"")
        else:
            self.assertTrue(said.startswith(b"refused "), said)
            self.assertIn(answered, said)
            self.assertEqual(said.count(b"\r\n"), 1)

    def test_a_node_of_another_cluster(self) -> None:
        said = b"you are of cluster d, this is c"
        self.assert_turned_away(hello_line(Hello("d", "n2", THERE)), said.decode(), said)

    def test_another_node(self) -> None:
        said = b"you are node n3, n2 was expected here"
        self.assert_turned_away(hello_line(Hello("c", "n3", THERE)), said.decode(), said)

    def test_a_refusal_is_logged_and_not_answered(self) -> None:
        self.assert_turned_away(b"refused is your disk a copy?\r\n", "refused there: is your disk a copy?", None)

    def test_something_that_is_no_weedtw(self) -> None:
        self.assert_turned_away(b"HTTP/1.1 400 Bad Request\r\n", "no RAFT/1 hello", b"no RAFT/1 hello")

    def test_too_long_a_line(self) -> None:
        self.assert_turned_away(b"x" * 5000, "longer than 2048 bytes", b"longer than 2048")

    def test_a_peer_that_speaks_where_it_should_listen(self) -> None:
        data = hello_line(OTHER) + lines.encode(beat(1)) + b"\r\n"
        self.assert_turned_away(data, "speaks where it should listen", b"speaks where it should")

    def test_a_peer_that_ends_without_a_word(self) -> None:
        def build() -> Script:
            script = Script()
            self.network.later(lambda: attrgetter("transport")(script).loseConnection())
            return script

        self.network.listening[THERE] = build
        self.link.start()
        self.network.run(0.02)
        self.assertIn("ended the connection without an answer", self.reasons()[0])

    def test_no_hello_in_time(self) -> None:
        self.network.deaf.add(THERE)
        self.link.start()
        self.network.run(HELLO_TIMEOUT + LINGER + 0.1)
        self.assertIn("no hello within 10 s", self.reasons()[0])
        self.assertGreaterEqual(self.attempts(), 2)

    def test_what_is_wrong_for_hours_is_not_said_at_every_attempt(self) -> None:
        self.answer(b"refused no\r\n")
        self.network.run(600, step=0.01)
        self.assertGreater(self.attempts(), 200)
        self.assertLess(len(self.reasons()), 6)
        self.assertEqual(self.log.texts(LogLevel.info), [])

    def test_attempts_get_rarer_though_the_call_is_taken(self) -> None:
        """A peer that admits and then refuses what it hears must not be dialled in a tight loop."""
        self.listener.disgust = BadRequest("no")
        self.link.start()
        for _ in range(2000):
            self.network.run(0.01)
            self.link.send(beat(1))
        self.assertLess(self.attempts(), 30)
        self.assertLess(len(self.reasons()) + len(self.log.texts(LogLevel.info)), 10)


class Pauses(LinkTest):
    def pauses(self) -> list[float]:
        """Seconds between attempts over the next minute."""
        times = []
        for _ in range(6000):
            before = self.attempts()
            self.network.run(0.01, step=0.01)
            times += [self.clock.seconds()] * (self.attempts() - before)
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    def test_they_grow_and_stay_bounded(self) -> None:
        del self.network.listening[THERE]
        self.link.start()
        pauses = self.pauses()
        self.assertLess(pauses[0], 0.2)
        self.assertLess(max(pauses), 1.5 * MAX_PAUSE + 0.1)
        self.assertGreater(sum(pauses[-5:]) / 5, MAX_PAUSE / 2)

    def test_they_differ_from_node_to_node(self) -> None:
        del self.network.listening[THERE]
        self.link.start()
        one = self.pauses()
        self.network.dialled.clear()
        self.link.stop()
        self.link = self.make_link(rng=random.Random(2))
        self.link.start()
        self.assertNotEqual(one, self.pauses())

    def test_after_a_loss_the_next_attempt_goes_out_at_once(self) -> None:
        self.link.start()
        self.network.run(2)
        self.network.kill(THERE)
        self.network.run(0.01)
        self.assertEqual(self.observer.told, ["up n2", "down n2", "refused n2"])

    def test_every_refused_attempt_is_reported(self) -> None:
        del self.network.listening[THERE]
        self.link.start()
        self.network.run(0.3)
        self.assertGreater(len(self.observer.told), 2)
        self.assertEqual(set(self.observer.told), {"refused n2"})

    def test_a_host_that_does_not_answer_is_not_taken_for_a_dead_process(self) -> None:
        self.network.silent.add(THERE)
        self.link.start()
        self.network.run(20, step=0.01)
        self.assertEqual(self.observer.told, [])
        self.assertIn("cannot be reached", self.reasons()[0])

    def test_dial_now_cuts_a_pause_short(self) -> None:
        del self.network.listening[THERE]
        self.link.start()
        self.network.run(20, step=0.01)
        self.listen()
        before = self.attempts()
        self.link.dial_now()
        self.network.run(0.01)
        self.assertTrue(self.link.connected)
        self.assertEqual(self.attempts(), before + 1)

    def test_dial_now_leaves_an_attempt_under_way_alone(self) -> None:
        self.network.silent.add(THERE)
        self.link.start()
        self.link.dial_now()
        self.network.run(0.1)
        self.assertEqual(self.attempts(), 1)

    def test_dial_now_leaves_a_connection_alone(self) -> None:
        self.link.start()
        self.network.run(0.01)
        self.link.dial_now()
        self.network.run(0.1)
        self.assertEqual(self.attempts(), 1)
        self.assertTrue(self.link.connected)

    def test_dial_now_does_not_start_a_stopped_link(self) -> None:
        self.link.dial_now()
        self.link.start()
        self.link.stop()
        self.link.dial_now()
        self.network.run(5, step=0.01)
        self.assertEqual(self.attempts(), 1)


class Bugs(LinkTest):
    """`ClientService` would retry in silence whatever is wrong with the program itself."""

    def assert_loud(self, link: Link, error: type[Exception]) -> None:
        link.start()
        self.network.run(0.01)
        self.assertEqual(self.expect_logged(error), 1)
        self.network.run(1)
        self.assertGreaterEqual(self.expect_logged(error), 1)

    def test_in_making_an_endpoint(self) -> None:
        def connect(address: str) -> Any:
            raise ZeroDivisionError

        self.assert_loud(self.make_link(connect=connect), ZeroDivisionError)

    def test_in_connecting(self) -> None:
        class Broken:
            def connect(self, factory: Any) -> Any:
                raise attrs.exceptions.FrozenInstanceError

        self.assert_loud(self.make_link(connect=lambda address: Broken()), attrs.exceptions.FrozenInstanceError)

    def test_in_building_the_protocol(self) -> None:
        class Picky(Complaints):
            @property
            def complain(self) -> Any:
                raise ZeroDivisionError

        self.assert_loud(self.make_link(complaints=Picky(self.clock)), ZeroDivisionError)

    def test_an_address_that_is_none_is_no_bug(self) -> None:
        def connect(address: str) -> Any:
            raise BadRequest("'x' is not host:port")

        self.make_link(connect=connect).start()
        self.network.run(10, step=0.01)
        self.assertEqual(len(self.reasons()), 1)
        self.assertIn("cannot be reached: 'x' is not host:port", self.reasons()[0])


class ComplaintsTests(NetworkTest):
    def test_the_same_is_said_ever_more_rarely(self) -> None:
        said = []
        for _ in range(12 * 3600):
            before = len(self.reasons())
            self.complaints.complain("n2", "refused")
            if len(self.reasons()) > before:
                said.append(self.clock.seconds())
            self.clock.advance(1)
        self.assertEqual(said[:4], [0, 60, 180, 420])
        self.assertLessEqual(said[-1] - said[-2], LAST_REPEAT)
        self.assertLess(len(said), 20)

    def test_what_is_different_is_said(self) -> None:
        for who, what in (("n2", "a"), ("n2", "b"), ("n3", "a"), ("n2", "a")):
            self.complaints.complain(who, what)
        self.assertEqual(self.reasons(), ["n2: a", "n2: b", "n3: a"])

    def test_what_comes_again_after_a_while_is_news(self) -> None:
        for _ in range(3):
            self.complaints.complain("n2", "a")
            self.clock.advance(FIRST_REPEAT + 1)
        self.assertEqual(len(self.reasons()), 3)

    def test_strangers_cannot_make_it_grow(self) -> None:
        for number in range(10_000):
            self.complaints.complain(f"stranger {number}", "refused")
        self.assertLess(len(self.complaints._said), 300)
