"""Heads and chunks, without a connection: against a slow second reading, and with any bytes."""

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadMessage
from weedtw.http.framing import ChunkedFraming, Framing, LengthFraming
from weedtw.http.head import HEAD, check_beginning, parse_head

LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"PUT /3,01?a=b HTTP/1.0",
        b"Host: a",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: close",
        b" folded",
        b"X:\ty ",
        b"",
        b"\r",
        b"\n",
    ]
)


class HeadTests(SynchronousTestCase):
    def test_everything(self) -> None:
        head = parse_head(
            b"PUT /3,01%20?a=b HTTP/1.1\r\nHost: [::1]:80\r\nX-A:  b\tc \r\nx-a:\r\n"
            b"content-length: 007\r\nEXPECT: 100-Continue\r\nConnection: foo , Close"
        )
        self.assertEqual((head.method, head.target, head.version), (b"PUT", b"/3,01%20?a=b", b"HTTP/1.1"))
        self.assertEqual(head.fields[1:3], ((b"X-A", b"b\tc"), (b"x-a", b"")))
        self.assertEqual((head.body_length, head.keep_alive, head.expects_continue), (7, False, True))

    def test_forms_of_a_target(self) -> None:
        for line, target in (
            (b"GET / HTTP/1.1", b"/"),
            (b"GET http://a HTTP/1.1", b"/"),
            (b"GET HTTPS://a:1/b?c HTTP/1.1", b"/b?c"),
            (b"GET http://a?b HTTP/1.1", b"/?b"),
            (b"OPTIONS * HTTP/1.1", b"*"),
            (b"GET /%zz HTTP/1.1", b"/%zz"),
            (b"GET /\xe6\x97\xa5?\xff HTTP/1.1", b"/%E6%97%A5?%FF"),
        ):
            self.assertEqual(parse_head(line + b"\r\nHost: a").target, target)

    def test_a_stray_byte_is_named_as_people_know_it(self) -> None:
        with self.assertRaises(BadMessage) as caught:
            check_beginning(b"\x16\x03\x01")
        self.assertEqual(str(caught.exception), "a stray byte 0x16 in the head of the request")

    @given(st.one_of(st.lists(LINES, max_size=8).map(b"\r\n".join), st.binary(max_size=200)))
    def test_any_bytes(self, block: bytes) -> None:
        try:
            head = parse_head(block)
        except BadMessage as error:
            self.assertIn(error.status, (400, 414, 417, 431, 501, 505))
            return
        self.assertRegex(head.target, rb"^(/[!-~]*|\*)$")
        for name, value in head.fields:
            self.assertNotRegex(name + value, rb"[\r\n\0]")
        for end in range(len(block) + 1):
            check_beginning(block[:end])  # what becomes a head is never refused on the way

    @given(st.lists(LINES, max_size=8).map(b"\r\n".join))
    def test_what_is_refused_on_the_way_is_refused_in_the_end(self, block: bytes) -> None:
        checked = 0
        try:
            for end in range(len(block) + 1):
                check_beginning(block[:end], checked)
                checked = end
        except BadMessage:
            self.assertRaises(BadMessage, parse_head, block)

    def test_sizes(self) -> None:
        block = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 98 + b"Z: "
        parse_head(block)
        self.assertRaises(BadMessage, parse_head, block + b"\r\nX: y")
        self.assertRaises(BadMessage, parse_head, block + b"z" * HEAD)


def chunked(contents: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in contents if c) + b"0\r\n\r\n"


class FramingTests(SynchronousTestCase):
    def feed(self, framing: Framing, stream: bytes, cuts: list[int]) -> bytes:
        """The content, having fed the stream cut at these places; what comes after it is checked."""
        content, rest, at = b"", b"", 0
        for cut in [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]:
            if framing.done:
                rest += stream[at:cut]
            else:
                content += b"".join(framing.feed(stream[at:cut]))
                rest = framing.rest
            at = cut
        self.assertTrue(framing.done)
        self.assertEqual(rest, b"GET next")
        return content

    @given(st.binary(min_size=1), st.lists(st.integers(0, 1000)))
    def test_by_length(self, content: bytes, cuts: list[int]) -> None:
        self.assertEqual(self.feed(LengthFraming(len(content)), content + b"GET next", cuts), content)

    @given(st.lists(st.binary()), st.lists(st.integers(0, 1000)))
    def test_in_chunks(self, contents: list[bytes], cuts: list[int]) -> None:
        stream = chunked(contents) + b"GET next"
        self.assertEqual(self.feed(ChunkedFraming(), stream, cuts), b"".join(contents))

    @given(st.lists(st.sampled_from([b"5", b"0", b"\r\n", b"\n", b"hello", b";", b"a", b"A: b", b"\0"])))
    @example([b"5", b"\r\n", b"hello", b"\r\n", b"0", b"\r\n", b"\r\n"])
    def test_any_chunks(self, pieces: list[bytes]) -> None:
        framing = ChunkedFraming()
        try:
            for piece in pieces:
                framing.feed(piece)
                if framing.done:
                    return
        except BadMessage as error:
            self.assertIn(error.status, (400, 431))

    def test_an_unended_line_is_not_kept_beyond_its_limit(self) -> None:
        framing = ChunkedFraming()
        framing.feed(b"5;" + b"x" * 250)
        self.assertRaises(BadMessage, framing.feed, b"x" * 10)
