"""Values to lines and back, the wire format as it is documented, and what must not get in."""

import json
import random
import time
import tracemalloc

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.strategies import SENDER, TO, messages, nodes
from weedtw.errors import BadRequest
from weedtw.raft import lines
from weedtw.raft.lines import (
    MAX_HELLO,
    MAX_LINE,
    Hello,
    decode,
    decode_hello,
    decode_refusal,
    encode,
    encode_hello,
    encode_refusal,
    split_address,
)
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)

MEMBERSHIP = Membership({"n1": Member("a:1"), "n2": Member("[::1]:2", voter=False)})
ENTRIES = (
    Entry(8, 2, EntryKind.COMMAND, b"\x00\xff"),
    Entry(9, 3, EntryKind.NOOP),
    Entry(10, 3, EntryKind.CONFIG, MEMBERSHIP.render()),
)

# The wire format: a change here is a change of the protocol's version.
GOLDEN: list[tuple[Message, str]] = [
    (
        VoteRequest(SENDER, TO, 3, 7, 2, pre=True),
        '{"type":"vote","term":3,"last_index":7,"last_term":2,"pre":true,"transfer":false}',
    ),
    (VoteReply(SENDER, TO, 3, granted=True), '{"type":"voted","term":3,"granted":true,"pre":false}'),
    (
        Append(SENDER, TO, 3, 7, 2, ENTRIES, 6),
        '{"type":"append","term":3,"prev_index":7,"prev_term":2,"entries":[[8,2,0,"AP8="],[9,3,1,""],[10,3,2,'
        '"eyJuMSI6eyJhZGRyZXNzIjoiYToxIiwidm90ZXIiOnRydWV9LCJuMiI6eyJhZGRyZXNzIjoiWzo6MV06MiIsInZvdGVyIjpmYWxzZX19"'
        ']],"commit":6}',
    ),
    (
        AppendReply(SENDER, TO, 3, 7, rejected=True, hint_index=5, hint_term=1),
        '{"type":"appended","term":3,"index":7,"rejected":true,"hint_index":5,"hint_term":1}',
    ),
    (Heartbeat(SENDER, TO, 3, 6, 41), '{"type":"beat","term":3,"commit":6,"round":41}'),
    (HeartbeatReply(SENDER, TO, 3, 41), '{"type":"beaten","term":3,"round":41}'),
    (
        SnapshotChunk(SENDER, TO, 3, 6, 2, MEMBERSHIP, 10, 13, b"abc"),
        '{"type":"chunk","term":3,"index":6,"index_term":2,"membership":{"n1":{"address":"a:1","voter":true},'
        '"n2":{"address":"[::1]:2","voter":false}},"offset":10,"total":13,"data":"YWJj"}',
    ),
    (SnapshotReply(SENDER, TO, 3, 6, 13), '{"type":"chunked","term":3,"index":6,"offset":13}'),
    (TimeoutNow(SENDER, TO, 3), '{"type":"campaign","term":3}'),
]
HELLO = Hello("c", "n", "localhost:9333")


class RoundTrip(SynchronousTestCase):
    @settings(max_examples=400, deadline=None)
    @given(messages)
    def test_every_message(self, message: Message) -> None:
        line = encode(message)
        self.assertNotIn(b"\n", line)
        self.assertEqual(decode(line, SENDER, TO), message)

    @given(nodes, nodes)
    def test_every_hello(self, cluster: str, node: str) -> None:
        hello = Hello(cluster, node, "master-1:9333")
        self.assertEqual(decode_hello(encode_hello(hello)), hello)

    def test_the_wire_format(self) -> None:
        for message, line in GOLDEN:
            self.assertEqual(encode(message).decode(), line)
            self.assertEqual(decode(line.encode(), SENDER, TO), message)

    def test_the_hello(self) -> None:
        line = b'RAFT/1 {"cluster":"c","node":"n","address":"localhost:9333","version":1}'
        self.assertEqual(encode_hello(HELLO), line)
        self.assertEqual(decode_hello(line), HELLO)

    def test_every_type_has_a_golden_line(self) -> None:
        self.assertEqual({type(message) for message, _ in GOLDEN}, set(lines._TYPES.values()))

    def test_the_order_of_fields_and_blanks_do_not_matter(self) -> None:
        line = b' { "round" : 41, "term":3 ,"commit":6, "type" : "beat" } '
        self.assertEqual(decode(line, SENDER, TO), Heartbeat(SENDER, TO, 3, 6, 41))

    def test_what_is_sent_in_one_append_fits_in_a_line(self) -> None:
        """The core's limits count raw bytes; the line has base64 and numbers of any length."""
        for size in (0, 1, 2, 3, 100, 256 * 1024):
            count = max(1, (256 * 1024) // (size + 64))
            entries = tuple(Entry(2**61 + i, 2**61, EntryKind.COMMAND, b"\xff" * size) for i in range(count))
            append = Append(SENDER, TO, 2**62, 2**61 - 1, 2**61, entries, 2**62)
            self.assertLess(len(encode(append)), MAX_LINE)


class Refusals(SynchronousTestCase):
    def test_a_reason_goes_through(self) -> None:
        self.assertEqual(
            decode_refusal(encode_refusal("you are of cluster c, this is d")), "you are of cluster c, this is d"
        )

    def test_anything_else_is_no_refusal(self) -> None:
        for line in (b"", b"refused", b"RAFT/1 {}", b"Refused x"):
            self.assertIsNone(decode_refusal(line))

    @given(st.text())
    @example("a\r\nRAFT/1 {}\x1b[31m\ud800" * 200)
    def test_a_reason_is_one_short_printable_line(self, reason: str) -> None:
        line = encode_refusal(reason)
        self.assertLess(len(line), MAX_HELLO)
        self.assertTrue(line.decode().isprintable())
        self.assertIsNotNone(decode_refusal(line))

    @given(st.binary())
    @example(b"\xff" * MAX_LINE)
    def test_what_the_other_side_says_is_made_one_short_printable_line(self, tail: bytes) -> None:
        reason = decode_refusal(b"refused " + tail)
        assert reason is not None
        self.assertLessEqual(len(reason), 500)
        self.assertTrue(reason.isprintable())


class Hellos(SynchronousTestCase):
    def check_refused(self, line: bytes, saying: str) -> None:
        self.assertIn(saying, str(self.assertRaises(BadRequest, decode_hello, line)))

    def test_other_protocols(self) -> None:
        for line in (b"", b"GET / HTTP/1.1", b"RAFT/2 {}", b"RAFT/1", b"BEAT/1 {}", b"\x16\x03\x01\x02"):
            self.check_refused(line, "no RAFT/1 hello")

    def test_too_long(self) -> None:
        self.check_refused(encode_hello(Hello("c" * MAX_HELLO, "n", "a:1")), "no RAFT/1 hello")

    def test_version_skew_is_named_whatever_else_differs(self) -> None:
        self.check_refused(b'RAFT/1 {"version":2,"name":"x"}', "protocol version 2 is spoken there, 1 here")

    def test_fields_of_the_wrong_kind(self) -> None:
        for field, value in [
            ("cluster", None),
            ("cluster", ""),
            ("node", 7),
            ("node", "a\x1b[2J"),
            ("node", "\ud800"),
            ("address", "x" * 301),
            ("version", "1"),
            ("version", True),
            ("version", 1.0),
            ("version", None),
        ]:
            document = {"cluster": "c", "node": "n", "address": "localhost:1", "version": 1, field: value}
            self.assertRaises(BadRequest, decode_hello, b"RAFT/1 " + json.dumps(document).encode())

    def test_an_address_that_nobody_could_dial(self) -> None:
        for address in (
            "localhost",
            "localhost:",
            ":9333",
            "localhost:0",
            "localhost:65536",
            "a:٣",
            "::1:9333",
            "a b:1",
        ):
            self.check_refused(encode_hello(Hello("c", "n", address)), "is not host:port")

    def test_addresses(self) -> None:
        for address, expected in (
            ("localhost:9333", ("localhost", 9333)),
            ("[::1]:1", ("::1", 1)),
            ("10.0.0.7:65535", ("10.0.0.7", 65535)),
            ("[10.0.0.7]:80", ("10.0.0.7", 80)),
        ):
            self.assertEqual(split_address(address), expected)


class Garbage(SynchronousTestCase):
    def check_refused(self, line: bytes) -> None:
        """Refused with a `BadRequest` whose text is short, as a message and as a hello."""
        error = self.assertRaises(BadRequest, decode, line, SENDER, TO)
        self.assertLess(len(str(error)), 500)
        self.assertRaises(BadRequest, decode_hello, b"RAFT/1 " + line)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200))
    def test_any_bytes(self, line: bytes) -> None:
        self.check_refused(line)

    @settings(max_examples=300, deadline=None)
    @given(messages, st.data())
    def test_a_message_with_bytes_changed(self, message: Message, drawn: st.DataObject) -> None:
        line = bytearray(encode(message))
        for _ in range(drawn.draw(st.integers(1, 4))):
            at = drawn.draw(st.integers(0, len(line) - 1))
            line[at : at + drawn.draw(st.integers(0, 3))] = drawn.draw(st.binary(max_size=3))
        try:
            changed = decode(bytes(line), SENDER, TO)
        except BadRequest:
            return
        self.assertEqual(decode(encode(changed), SENDER, TO), changed)

    @settings(max_examples=300, deadline=None)
    @given(
        messages,
        st.data(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    )
    def test_a_message_with_a_value_changed(self, message: Message, drawn: st.DataObject, value: object) -> None:
        document = json.loads(encode(message))
        document[drawn.draw(st.sampled_from(sorted(document)))] = value
        try:
            changed = decode(json.dumps(document).encode(), SENDER, TO)
        except BadRequest:
            return
        self.assertEqual(decode(encode(changed), SENDER, TO), changed)

    @given(messages, st.data())
    def test_a_message_with_a_field_missing_or_too_many(self, message: Message, drawn: st.DataObject) -> None:
        document = json.loads(encode(message))
        missing = dict(document)
        del missing[drawn.draw(st.sampled_from(sorted(document)))]
        self.check_refused(json.dumps(missing).encode())
        self.check_refused(json.dumps({**document, "more": 1}).encode())

    def test_chosen_garbage(self) -> None:
        for line in (
            "",
            "null",
            "[]",
            "7",
            '"beat"',
            "{}",
            '{"type":null}',
            '{"type":["beat"],"term":1,"commit":1,"round":1}',
            '{"type":"coup"}',
            '{"type":"beat","term":1,"commit":1,"round":1}x',
            '{"type":"beat","term":1,"term":1,"commit":1,"round":1}',
            '{"type":"campaign","term":-1}',
            '{"type":"campaign","term":true}',
            '{"type":"campaign","term":1.0}',
            '{"type":"campaign","term":1e0}',
            '{"type":"campaign","term":1e999}',
            '{"type":"campaign","term":"1"}',
            '{"type":"campaign","term":NaN}',
            '{"type":"campaign","term":Infinity}',
            '{"type":"campaign","term":-Infinity}',
            '{"type":"campaign","term":4611686018427387905}',
            '{"type":"campaign","term":%s}' % ("9" * 5000),
            '{"type":"campaign","sender":"me","term":1}',
            '{"type":"voted","term":1,"granted":1,"pre":false}',
            '{"type":"chunked","term":1,"index":1,"offset":null}',
        ):
            self.check_refused(line.encode())
        self.check_refused('{"type":"campaign","term":1}'.encode("utf-16"))
        self.check_refused(b'{"type":"campaign","term":1,"\xff":1}')

    def test_entries_that_no_log_can_hold(self) -> None:
        line = '{"type":"append","term":3,"prev_index":7,"prev_term":2,"entries":%s,"commit":6}'
        decode((line % '[[8,2,0,"AA=="]]').encode(), SENDER, TO)
        for entries in (
            "{}",
            "null",
            '"AA=="',
            "[[]]",
            "[[8,2,0]]",
            '[[8,2,0,"AA==",1]]',
            '[[8,2,3,"AA=="]]',  # unknown kind
            '[[9,2,0,"AA=="]]',  # a gap
            '[[8,1,0,"AA=="]]',  # a term before its predecessor's
            '[[8,4,0,"AA=="]]',  # a term after the leader's
            '[[8,2,0,"AA=="],[8,2,0,"AA=="]]',
            '[[8,2,0,"AA"]]',
            '[[8,2,0,"A!=="]]',
            '[[8,2,0,"ÄA=="]]',
            "[[8,2,0,null]]",
            '[[8,2,2,"AA=="]]',  # no membership
        ):
            self.check_refused((line % entries).encode())

    def test_memberships_that_nobody_made(self) -> None:
        line = '{"type":"chunk","term":3,"index":6,"index_term":2,"membership":%s,"offset":0,"total":0,"data":""}'
        decode((line % '{"n":{"address":"a:1","voter":true}}').encode(), SENDER, TO)
        for membership in (
            "null",
            "[]",
            '{"n":null}',
            '{"n":{"address":"a:1"}}',
            '{"n":{"address":"a:1","voter":1}}',
            '{"n":{"address":7,"voter":true}}',
            '{"n":{"address":"a:1","voter":true,"more":NaN}}',
            '{"n":{"address":"a:1","voter":true},"n":{"address":"b:1","voter":true}}',
            '{"":{"address":"a:1","voter":true}}',
            '{"\\u001b":{"address":"a:1","voter":true}}',
            '{"n":' * 400 + "1" + "}" * 400,
        ):
            self.check_refused((line % membership).encode())

    def test_a_chunk_beyond_its_snapshot(self) -> None:
        line = (
            '{"type":"chunk","term":3,"index":6,"index_term":2,"membership":{},"offset":%d,"total":4,"data":"YWJj"}'
        )
        decode((line % 1).encode(), SENDER, TO)
        self.check_refused((line % 2).encode())

    def test_a_line_over_the_limit(self) -> None:
        padding = b" " * MAX_LINE
        self.check_refused(b'{"type":"campaign","term":1}' + padding)

    def test_the_worst_lines_cost_bounded_time_and_memory(self) -> None:
        """Time is reckoned in what an honest line of that length takes, on this machine and at this moment."""
        room = MAX_LINE - 100
        append = Append(SENDER, TO, 3, 7, 2, tuple(Entry(8 + n, 2, EntryKind.COMMAND) for n in range(room // 20)), 6)
        began = time.process_time()
        self.assertEqual(decode(encode(append), SENDER, TO), append)
        honest = time.process_time() - began
        shapes = {
            "lists in lists": b"[" * room,
            "objects in objects": b'{"a":' * (room // 5),
            "a deep value": b'{"type":"campaign","term":%s}' % (b"[" * (room // 2) + b"]" * (room // 2)),
            "a value as deep as goes": b'{"type":"campaign","term":%s}' % (b"[" * 900 + b"]" * 900),
            "many lists": b"[" + b"[]," * (room // 3) + b"[]]",
            "many objects": b"[" + b"{}," * (room // 3) + b"{}]",
            "many members": b"{" + b",".join(b'"%x":1' % i for i in range(room // 10)) + b"}",
            "one member often": b"{" + b'"a":1,' * (room // 6) + b'"a":1}',
            "a long number": b'{"type":"campaign","term":%s}' % (b"9" * (room - 50)),
            "many long numbers": b"[" + (b"9" * 4300 + b",") * (room // 4301) + b"1]",
            "a long exponent": b'{"type":"campaign","term":1e%s}' % (b"9" * (room - 50)),
            "a long text": b'{"type":"%s"}' % (b"x" * (room - 50)),
            "many escapes": b'{"type":"%s"}' % (b"\\ud800" * (room // 7)),
            "many entries": b'{"type":"append","term":3,"prev_index":7,"prev_term":2,"entries":[%s[]],"commit":6}'
            % (b'[8,2,0,""],' * (room // 12)),
        }
        for name, line in shapes.items():
            self.assertLessEqual(len(line), MAX_LINE)
            began = time.process_time()
            self.check_refused(line)
            spent = time.process_time() - began
            tracemalloc.start()
            self.check_refused(line)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertLess(peak, 100 * MAX_LINE, name)
            self.assertLess(spent, 10 * honest, name)

    def test_long_random_lines(self) -> None:
        rng = random.Random(1)
        for _ in range(20):
            alphabet = b'[]{}",:0123456789eE.-+ truefalsn\\u' if rng.random() < 0.5 else bytes(range(256))
            self.check_refused(b"{" + bytes(rng.choices(alphabet, k=rng.randrange(100_000))))
