"""Answers of other servers, in one piece, in many, and as they must not be."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadMessage
from weedtw.http.answers import Answer, AnswerReader

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n"


def read(data: bytes, method: bytes = b"GET", limit: int = 100) -> Answer | None:
    return AnswerReader(method, limit).feed(data)


class AnswerTests(SynchronousTestCase):
    def test_whole(self) -> None:
        answer = read(PLAIN)
        assert answer is not None
        fields = ((b"Content-Type", b"application/json"), (b"Content-Length", b"2"))
        self.assertEqual(answer, Answer(200, fields, b"{}", True))
        self.assertEqual(answer.header(b"content-type"), b"application/json")
        self.assertIsNone(answer.header(b"location"))

    @given(st.sampled_from([PLAIN, CHUNKED]), st.lists(st.integers(0, 120)))
    def test_any_pieces_give_the_same(self, wire: bytes, cuts: list[int]) -> None:
        reader = AnswerReader(b"GET", 100)
        edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
        answers = [reader.feed(wire[a:b]) for a, b in itertools.pairwise(edges) if a < b]
        self.assertEqual(answers[:-1], [None] * (len(answers) - 1))
        self.assertEqual(answers[-1], read(wire))

    def test_chunked(self) -> None:
        answer = read(CHUNKED)
        assert answer is not None
        self.assertEqual(answer.body, b"abcde")
        self.assertTrue(answer.keep_alive)

    def test_without_a_body(self) -> None:
        for method, wire in (
            (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
            (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
            (b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
        ):
            answer = read(wire, method)
            assert answer is not None, wire
            self.assertEqual((answer.body, answer.keep_alive), (b"", True))

    def test_what_comes_before_the_answer_is_dropped(self) -> None:
        self.assertEqual(read(b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN), read(PLAIN))

    def test_connections_that_end(self) -> None:
        for wire in (
            PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
            PLAIN.replace(b"Content-Type: ", b"Connection: a, Close\r\nX: "),
            PLAIN + b"HTTP/1.1 200 OK\r\n",
        ):
            answer = read(wire)
            assert answer is not None
            self.assertEqual((answer.body, answer.keep_alive), (b"{}", False))

    def test_refused(self) -> None:
        for wire, reason in (
            (b"garbage\r\n\r\n", "not HTTP"),
            (b"HTTP/2 200 OK\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 101 Switching\r\n\r\n", "another protocol"),
            (b"HTTP/1.1 200 OK\r\n\r\n", "length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "chunked"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "chunked"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "hexadecimal"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", "longer than 100"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101, "longer than 100"),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "folded"),
            (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "folded"),
            (b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "stray"),
            (b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", "stray"),
            (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40_000, "head of the answer"),
        ):
            with self.assertRaises(BadMessage) as caught:
                read(wire)
            self.assertIn(reason, str(caught.exception))
