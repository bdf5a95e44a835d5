"""Our reading of HTTP beside twisted.web's: it may refuse what that takes, and never take bytes for another request.

Two readers that disagree on where a request ends are what request smuggling lives on.
"""

from itertools import pairwise
from urllib.parse import unquote_to_bytes

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as TwistedRequest
from twisted.web.resource import Resource

from weedtw.http.channel import make_site
from weedtw.http.requests import Request
from weedtw.http.testing import Wire

Seen = list[tuple[bytes, bytes, bytes]]  # method, target and body of each request


class Notes(Resource):
    """Answers everything, and keeps what was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen = []

    def render(self, request: Request) -> bytes:
        self.seen.append((request.method, request.uri, bytes(request.body)))
        return b"x"


def ours(pieces: list[bytes]) -> tuple[Seen, bytes, str]:
    """(what was understood, everything that was answered, how the connection ended)."""
    notes, clock = Notes(), Clock()
    wire = Wire(make_site(notes, reactor=clock, body_limit=10_000))
    for piece in pieces:
        wire.send(piece)
    received, end = bytes(wire.received), wire.end
    wire.leave()
    return notes.seen, received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), end


def is_routed(target: bytes) -> bool:
    """Whether a resource is asked at all: some paths are answered before, and the connection is kept."""
    path = unquote_to_bytes(target.partition(b"?")[0])
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return not target.startswith(b"//")


def theirs(stream: bytes) -> Seen:
    """What twisted.web understands, of requests for which there is a resource."""
    seen: Seen = []

    class Noted(TwistedRequest):
        def process(self) -> None:
            assert self.content is not None
            target = b"".join(b"%%%02X" % byte if byte > 127 else bytes([byte]) for byte in self.uri)
            if is_routed(target):
                seen.append((self.method, target, self.content.read()))
            self.write(b"x")
            self.finish()

    channel = HTTPChannel()
    channel.requestFactory = Noted
    channel.makeConnection(StringTransport())
    channel.dataReceived(stream)
    channel.connectionLost(None)
    return seen


def request(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


AFTER = request("GET /smuggled HTTP/1.1\nHost: a")
POST = "POST /a HTTP/1.1\nHost: a\n"
CHUNKED = POST + "Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

# Where a request ends, said twice, badly, or not at all.  None of them may let a second request through.
AMBIGUOUS = [
    request(POST + "Content-Length: 5\nTransfer-Encoding: chunked", HELLO),
    request(POST + "Transfer-Encoding: chunked\nContent-Length: 5", HELLO),
    request(POST + "Content-Length: 5\nContent-Length: 6", b"hello!"),
    request(POST + "Content-Length: 5\nContent-Length: 5", b"hello"),
    request(POST + "Content-Length: 5, 5", b"hello"),
    request(POST + "Content-Length: +5", b"hello"),
    request(POST + "Content-Length: -5", b"hello"),
    request(POST + "Content-Length: 0x5", b"hello"),
    request(POST + "Content-Length: 5_0", b"hello"),
    request(POST + "Content-Length: \xb2", b"hello"),
    request(POST + "Content-Length:", b"hello"),
    request(POST + "Content-Length: 99999999999999999999999", b"hello"),
    request(POST + "Content-Length : 5", b"hello"),
    request(POST + " Content-Length: 5", b"hello"),
    request(POST + "X: y\n Content-Length: 5", b"hello"),
    request(POST + "X: y\n\tTransfer-Encoding: chunked", HELLO),
    request(POST + "Transfer-Encoding : chunked", HELLO),
    request(POST + "Transfer-Encoding: xchunked", HELLO),
    request(POST + "Transfer-Encoding: chunked, identity", HELLO),
    request(POST + "Transfer-Encoding: identity", HELLO),
    request(POST + "Transfer-Encoding: gzip, chunked", HELLO),
    request(POST + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked", HELLO),
    request(POST + "Transfer-Encoding:\x0bchunked", HELLO),
    request(POST + "Transfer-Encoding: chunked\x00", HELLO),
    request(POST + 'Transfer-Encoding: "chunked"', HELLO),
    request("POST /a HTTP/1.0\nTransfer-Encoding: chunked", HELLO),
    request(CHUNKED, b"5 hello\r\n0\r\n\r\n"),
    request(CHUNKED, b"+5\r\nhello\r\n0\r\n\r\n"),
    request(CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n"),
    request(CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"),
    request(CHUNKED, b"\r\nhello\r\n0\r\n\r\n"),
    request(CHUNKED, b"5\nhello\r\n0\r\n\r\n"),
    request(CHUNKED, b"5\r\nhello0\r\n\r\n"),
    request(CHUNKED, b"5\r\nhelloX\r\n0\r\n\r\n"),
    request(CHUNKED, b"5\r\nhello\n0\r\n\r\n"),
    request(CHUNKED, b"5\rX\nhello\r\n0\r\n\r\n"),
    request(CHUNKED, b"5;\n\r\nhello\r\n0\r\n\r\n"),
    request(CHUNKED, b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    request(CHUNKED, b"0\r\nGET /x HTTP/1.1\r\n\r\n"),
    request(CHUNKED, b"0\r\n folded: x\r\n\r\n"),
    POST.replace("\n", "\n").encode() + b"Content-Length: 5\n\nhello",
    request("POST /a HTTP/1.1\nHost: a\nHost: b\nContent-Length: 0"),
    request("POST /a HTTP/1.1\nContent-Length: 0"),
    request("POST /a b HTTP/1.1\nHost: a\nContent-Length: 0"),
    request("POST  /a HTTP/1.1\nHost: a\nContent-Length: 0"),
    request("POST\t/a HTTP/1.1\nHost: a\nContent-Length: 0"),
    request("POST /a HTTP/1.1 \nHost: a\nContent-Length: 0"),
    request("POST /a\nHost: a\nContent-Length: 0"),
    request("POST /a HTTP/2.0\nHost: a\nContent-Length: 0"),
]

PLAIN = [
    request("GET /a HTTP/1.1\nHost: a"),
    request("DELETE /a?b=c%20d HTTP/1.1\nHost: a\nX:\nY:  z  "),
    request(POST + "Content-Length: 5", b"hello"),
    request(POST + "Content-Length: 0"),
    request(POST + "Content-Length: 5\nExpect: 100-continue", b"hello"),
    request(CHUNKED, HELLO),
    request(CHUNKED, b'5;a=b;c="d"\r\nhello\r\n001\r\n!\r\n0\r\nTrailer: x\r\n\r\n'),
    request(CHUNKED, b"0\r\n\r\n"),
    request("PUT /a HTTP/1.1\nHost: a\nTRANSFER-ENCODING: Chunked", b"A\r\n0123456789\r\n0\r\n\r\n"),
    b"\r\n" + request("GET /a HTTP/1.1\nhost:a"),
]

BYTES = st.sampled_from([bytes([b]) for b in b"\r\n\t\0 :;,=+-_.%/xgX05f\x0b\x7f\x80\xff"] + [b"\r\n", b"\r\n\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Some requests behind each other, with a few bytes put in, taken out or replaced."""
    stream = bytearray(b"".join(draw(st.lists(st.sampled_from(PLAIN + AMBIGUOUS), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(stream)))
        stream[at : at + draw(st.integers(0, 2))] = draw(BYTES | st.just(b""))
    return bytes(stream)


def split(stream: bytes, places: list[int]) -> list[bytes]:
    return [stream[a:b] for a, b in pairwise(sorted({0, len(stream), *(at % (len(stream) + 1) for at in places)}))]


class TestOurReading(SynchronousTestCase):
    def test_plain_requests_are_read_as_twisted_reads_them(self) -> None:
        for first in PLAIN:
            for second in PLAIN:
                seen, _, end = ours([first + second + AFTER])
                self.assertEqual((len(seen), end), (3, ""))
                self.assertEqual(seen, theirs(first + second + AFTER))

    def test_nothing_is_smuggled(self) -> None:
        for stream in AMBIGUOUS:
            seen, received, _ = ours([stream + AFTER])
            self.assertEqual((seen, received.count(b"\r\nServer: ")), ([], 1), stream)
            self.assertIn(received[:13], (b"HTTP/1.1 400 ", b"HTTP/1.1 501 ", b"HTTP/1.1 505 "), stream)
            self.assertIn(b"\r\nConnection: close\r\n", received, stream)

    def test_split_at_every_place(self) -> None:
        for stream in PLAIN + AMBIGUOUS:
            whole = ours([stream + AFTER])
            for at in range(1, len(stream)):
                self.assertEqual(ours([stream[:at], stream[at:] + AFTER])[::2], whole[::2], (stream, at))
            self.assertEqual(ours([bytes([byte]) for byte in stream + AFTER])[::2], whole[::2], stream)

    @settings(max_examples=400, deadline=None)
    @given(streams(), st.lists(st.integers(0, 1 << 20), max_size=6))
    @example(PLAIN[0], [])
    @example(PLAIN[0] + request("GET //a HTTP/1.1\nHost: a") + PLAIN[0], [])
    @example(PLAIN[0] + request("GET /%ff HTTP/1.1\nHost: a") + PLAIN[0], [])
    def test_never_read_as_something_else(self, stream: bytes, places: list[int]) -> None:
        seen, received, end = ours(split(stream, places))
        self.assertEqual((seen, end), ours([stream])[::2])
        them = theirs(stream)
        common = min(len(seen), len(them))
        self.assertEqual(seen[:common], them[:common], stream)
        if b"\r\n" * 3 not in b"\r\n" + stream:  # it takes one empty line before a request, we take four
            self.assertLessEqual(len(seen), len(them), stream)
        if len(seen) < len(them):  # refused
            self.assertIn(b"\r\nConnection: close\r\n", received, stream)
