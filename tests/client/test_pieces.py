"""The parts of the client that need no server: values, names, framing, waits."""

import string
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from zope.interface import implementer

from weedtw.client.answers import parse_address, stored_name
from weedtw.client.bodies import PIECE, FormBody, part_head
from weedtw.client.client import guess_type
from weedtw.client.gather import each
from weedtw.client.lookups import LIFETIME, Lookups
from weedtw.client.patience import Patience
from weedtw.client.receiver import BodyReceiver
from weedtw.client.saving import safe_name
from weedtw.client.sources import MemorySource
from weedtw.errors import BadRequest, PeerError


class AddressTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for text, address in {
            "localhost:9333": "localhost:9333",
            " 10.0.0.1:09333 ": "10.0.0.1:9333",
            "[::1]:9333": "[::1]:9333",
            "10.0.0.1:9333.19333": "10.0.0.1:9333",
        }.items():
            self.assertEqual(parse_address(text), address)


class NameTests(SynchronousTestCase):
    def test_content_dispositions(self) -> None:
        for header, name in {
            'inline; filename="a b.txt"': "a b.txt",
            "inline; filename=plain.txt": "plain.txt",
            'attachment; filename="say \\"hi\\".txt"': 'say "hi".txt',
            "inline; filename*=UTF-8''%C3%BC.txt": "ü.txt",
            'inline; filename="grüße.txt"': "grüße.txt",
            "inline": "",
            "": "",
        }.items():
            self.assertEqual(stored_name(header), name)

    def test_safe_names(self) -> None:
        for stored, safe in {
            "a.txt": "a.txt",
            "../../etc/passwd": "passwd",
            "C:\\temp\\x.doc": "x.doc",
            "..": "FID",
            ".": "FID",
            "": "FID",
            "folder/": "FID",
            "a\x1b[31mred\n.txt": "a[31mred.txt",
            "\u202egnp.exe": "gnp.exe",
            "   ": "FID",
        }.items():
            self.assertEqual(safe_name(stored, "FID"), safe)

    def test_a_long_name_keeps_its_extension(self) -> None:
        name = safe_name("ü" * 300 + ".txt", "FID")
        self.assertTrue(name.endswith("ü.txt"))
        self.assertLessEqual(len(name.encode()), 200)

    @given(st.text())
    def test_a_safe_name_is_one_printable_part_of_a_path(self, stored: str) -> None:
        name = safe_name(stored, "FID")
        self.assertTrue(name.isprintable())
        self.assertNotIn("/", name)
        self.assertNotIn(name, {"", ".", ".."})
        self.assertLessEqual(len(name.encode()), 200)

    def test_types(self) -> None:
        for name, kind in {
            "a.png": "image/png",
            "a.tar.gz": "application/gzip",
            "a.txt.bz2": "",
            "README": "",
            "": "",
        }.items():
            self.assertEqual(guess_type(name), kind)


class FormTests(SynchronousTestCase):
    def test_head(self) -> None:
        self.assertEqual(
            part_head("B", 'a "b\\c".txt', "text/plain"),
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="a \\"b\\\\c\\".txt"\r\n'
            b"Content-Type: text/plain\r\n\r\n",
        )

    @given(st.text())
    def test_no_name_can_end_its_line(self, name: str) -> None:
        self.assertEqual(part_head("B", name, "").count(b"\r\n"), 3)

    @given(st.text(alphabet=string.printable))
    def test_no_type_can_end_its_line(self, mime: str) -> None:
        try:
            head = part_head("B", "", mime)
        except BadRequest:
            return
        self.assertEqual(head.count(b"\r\n"), 4 if mime else 3)

    def test_a_pause_stops_the_body_until_it_is_resumed(self) -> None:
        content = bytes(3 * PIECE)
        body = FormBody.of(MemorySource(memoryview(content)), 0, len(content), name="n", mime="", moved=_ignore)
        consumer = _Consumer(pause_at=PIECE)
        consumer.body = body
        done = body.startProducing(consumer)
        for pieces in (1, 2):
            self.assertEqual(body.produced, pieces * PIECE)
            self.assertNoResult(done)
            consumer.pause_at = (pieces + 1) * PIECE
            body.resumeProducing()
        self.assertNoResult(done)
        body.resumeProducing()
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(len(consumer.written), body.length)

    def test_a_stopped_body_says_nothing_more(self) -> None:
        content = bytes(3 * PIECE)
        body = FormBody.of(MemorySource(memoryview(content)), 0, len(content), name="n", mime="", moved=_ignore)
        consumer = _Consumer(pause_at=PIECE)
        consumer.body = body
        done = body.startProducing(consumer)
        body.stopProducing()
        body.resumeProducing()
        self.assertNoResult(done)
        self.assertEqual(body.produced, PIECE)


class PatienceTests(SynchronousTestCase):
    def test_waits_double_and_end_at_the_limit(self) -> None:
        clock = Clock()
        patience = Patience(clock, 10.0, lambda: 1.0)
        waits = []
        while True:
            before = clock.seconds()
            wait = Deferred.fromCoroutine(patience.wait())
            if wait.called:
                self.assertFalse(self.successResultOf(wait))
                break
            clock.advance(clock.getDelayedCalls()[0].getTime() - before)
            self.assertTrue(self.successResultOf(wait))
            waits.append(round(clock.seconds() - before, 6))
        self.assertEqual(waits[:7], [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0])
        self.assertLessEqual(clock.seconds(), 10.0)

    def test_a_hint_is_obeyed_up_to_a_point(self) -> None:
        for hint, waited in ((3.0, 3.0), (3600.0, 5.0)):
            clock = Clock()
            wait = Deferred.fromCoroutine(Patience(clock, 100.0, lambda: 0.0).wait(hint))
            clock.advance(waited - 0.01)
            self.assertNoResult(wait)
            clock.advance(0.02)
            self.assertTrue(self.successResultOf(wait))


class ReceiverTests(SynchronousTestCase):
    def test_pieces_that_come_while_one_is_written_wait_and_the_connection_pauses(self) -> None:
        written: list[bytes] = []
        writes: list[Deferred[None]] = []

        def write(piece: bytes) -> Deferred[None]:
            written.append(piece)
            writes.append(Deferred())
            return writes[-1]

        receiver = BodyReceiver("a:1", write, 30.0, Clock())
        transport = StringTransport()
        receiver.makeConnection(transport)
        receiver.dataReceived(b"one")
        self.assertEqual(transport.producerState, "paused")
        transport.resumeProducing()  # as the agent does after the first delivery
        receiver.dataReceived(b"two")
        receiver.dataReceived(b"three")
        self.assertEqual((written, transport.producerState), ([b"one"], "paused"))
        writes[0].callback(None)
        self.assertEqual(written, [b"one", b"twothree"])
        receiver.connectionLost(Failure(ResponseDone()))
        self.assertNoResult(receiver.finished)
        writes[1].callback(None)
        self.assertEqual(self.successResultOf(receiver.finished), 11)

    def test_the_idle_limit_does_not_run_while_a_write_is_pending(self) -> None:
        clock = Clock()
        pending: Deferred[None] = Deferred()
        receiver = BodyReceiver("a:1", lambda _: pending, 30.0, clock)
        receiver.makeConnection(StringTransport())
        clock.advance(29)
        receiver.dataReceived(b"slowly")
        clock.advance(3600)
        self.assertNoResult(receiver.finished)
        pending.callback(None)
        clock.advance(31)
        self.failureResultOf(receiver.finished, PeerError)

    def test_cancelling_closes_the_connection(self) -> None:
        receiver = BodyReceiver("a:1", _ignore, 30.0, Clock())
        transport = StringTransport()
        receiver.makeConnection(transport)
        receiver.finished.cancel()
        self.failureResultOf(receiver.finished)
        self.assertTrue(transport.disconnecting)


class EachTests(SynchronousTestCase):
    def test_no_more_than_allowed_run_at_once(self) -> None:
        running: list[Deferred[None]] = []

        async def work(item: int) -> None:
            running.append(Deferred())
            await running[-1]

        done = Deferred.fromCoroutine(each(range(5), work, 2))
        for finished in range(5):
            self.assertEqual(len(running), min(5, finished + 2))
            self.assertNoResult(done)
            running[finished].callback(None)
        self.assertIsNone(self.successResultOf(done))

    def test_the_first_error_stops_the_others_and_is_raised(self) -> None:
        running: list[Deferred[None]] = []

        async def work(item: int) -> None:
            running.append(Deferred())
            await running[-1]

        done = Deferred.fromCoroutine(each(range(100), work, 3))
        running[1].errback(ValueError("second"))
        self.assertEqual(str(self.failureResultOf(done, ValueError).value), "second")
        self.assertEqual(len(running), 3)

    def test_an_error_at_once_begins_nothing_more(self) -> None:
        begun: list[int] = []

        async def work(item: int) -> None:
            begun.append(item)
            raise ValueError(item)

        self.failureResultOf(Deferred.fromCoroutine(each(range(100), work, 3)), ValueError)
        self.assertEqual(begun, [0])

    def test_nothing_to_do_is_done(self) -> None:
        async def work(item: int) -> None:
            raise AssertionError(item)

        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(each([], work, 3))))


class LookupTests(SynchronousTestCase):
    def test_what_is_remembered_expires(self) -> None:
        asked: list[str] = []

        class Masters:
            async def ask(self, path: str, query: dict[str, str]) -> tuple[str, Any]:
                asked.append(query["volumeId"])
                return "m:1", {"locations": [{"url": "v:1", "publicUrl": "p:1", "dataCenter": "dc1"}]}

        clock = Clock()
        lookups = Lookups(Masters(), clock)  # type: ignore[arg-type]  # all of Masters that is used here
        for advance, times in ((0.0, 1), (LIFETIME - 1, 1), (2.0, 2)):
            clock.advance(advance)
            (location,) = self.successResultOf(Deferred.fromCoroutine(lookups.find(3)))
            self.assertEqual((location.url, location.public_url, location.data_center), ("v:1", "p:1", "dc1"))
            self.assertEqual(len(asked), times)


@implementer(IConsumer)
class _Consumer:
    """Takes what a body writes and pauses it, as a connection with a full buffer does."""

    def __init__(self, pause_at: int) -> None:
        self.pause_at = pause_at
        self.written = b""
        self.body: Any = None

    def write(self, data: bytes) -> None:
        self.written += data
        if len(self.written) >= self.pause_at:
            self.body.pauseProducing()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        raise AssertionError("a body is not a producer of its own")

    def unregisterProducer(self) -> None:
        raise AssertionError("a body is not a producer of its own")


_ignore: Callable[[Any], None] = lambda _: None  # noqa: E731
