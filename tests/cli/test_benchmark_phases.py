"""What becomes of failures, and where the requests of a benchmark go."""

import io
import json
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.benchmark_files import Contents
from weedtw.cli.benchmark_load import Load
from weedtw.cli.benchmark_phases import Phase
from weedtw.cli.report import Report
from weedtw.client import Assignment, Location, Placement
from weedtw.errors import PeerError, Unavailable, Unreachable
from weedtw.formats.fileid import FileId
from weedtw.http.answers import Answer
from weedtw.http.hop import Question

FID = FileId(3, 1, 0x637037D6)
CONTENTS = Contents(100)


class PhaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.report = Report("weedtw benchmark")
        self.phase = Phase("Reads", self.clock.seconds, self.report)
        self.error = io.StringIO()

    def begin(self, seconds: float, outcome: Any) -> "Deferred[FileId | None]":
        async def asked() -> tuple[FileId, int]:
            self.clock.advance(seconds)
            if isinstance(outcome, Exception):
                raise outcome
            return FID, int(outcome)

        with redirect_stderr(self.error):
            return Deferred.fromCoroutine(self.phase.timed(asked()))

    def request(self, seconds: float, outcome: Any) -> FileId | None:
        return self.successResultOf(self.begin(seconds, outcome))

    def test_times_what_succeeds(self) -> None:
        self.assertEqual([self.request(seconds, 10) for seconds in (1.0, 3.0)], [FID, FID])
        figures = self.phase.samples.figures(4.0)
        self.assertEqual((figures.done, figures.size, figures.mean, figures.longest), (2, 20, 2.0, 3.0))
        self.assertEqual(self.report.failures, 0)

    def test_names_the_first_failures_and_counts_the_others(self) -> None:
        for number in range(8):
            self.assertIsNone(self.request(0.1, PeerError("a:1", f"trouble {number}")))
        lines = self.error.getvalue().splitlines()
        self.assertEqual(lines, [f"weedtw benchmark: reads: a:1: trouble {number}" for number in range(5)])
        self.assertEqual((self.phase.reading().done, self.phase.reading().failed), (8, 8))
        self.assertTrue(self.report.failures)

    def test_gives_up_when_nothing_succeeds_for_long(self) -> None:
        self.request(1.0, PeerError("a:1", "down"))
        self.request(29.0, PeerError("a:1", "down"))
        self.request(1.0, 10)  # all begins anew
        self.request(1.0, PeerError("a:1", "down"))
        self.request(30.0, PeerError("a:1", "down"))
        failure = self.failureResultOf(self.begin(1.0, PeerError("a:1", "down")), Unavailable)
        self.assertEqual(str(failure.value), "gave up: for 30 s none of the reads has succeeded")


class Servers:
    """Stands for all servers, and for the client; `answers` is by address."""

    def __init__(self, answers: Mapping[str, Callable[[Question], Answer | Exception]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, bytes, bytes]] = []
        self.leader = "m:1"
        self.by_client = 0

    def send(self, address: str, question: Question, *, connect_within: float, answer_within: float) -> Any:
        assert 0 < connect_within < answer_within
        self.asked.append((address, question.method, question.target))
        answer = self.answers[address](question)
        return SimpleNamespace(done=fail(answer) if isinstance(answer, Exception) else succeed(answer))

    async def status(self) -> Any:
        return SimpleNamespace(leader=self.leader, volumes=[SimpleNamespace(collection="pictures")])

    async def assign(self, placement: Placement) -> Assignment:
        self.by_client += 1
        return Assignment(FID, "v:1", "public:1")

    async def lookup(self, volume_id: int) -> tuple[Location, ...]:
        return (Location("v:1", "public:1"), Location("v:2", "public:2"))


def answer(body: bytes, status: int = 200) -> Answer:
    return Answer(status, (), body, True)


def assigned(_: Question) -> Answer:
    return answer(json.dumps({"fid": str(FID), "url": "v:1", "publicUrl": "public:1", "count": 1}).encode())


class LoadTests(SynchronousTestCase):
    def load(self, servers: Servers, **options: Any) -> Load:
        client, hops = servers, servers
        placement = Placement("benchmark", "001")
        load = Load(client, hops, placement, CONTENTS, **options)  # type: ignore[arg-type]
        self.was_there = self.successResultOf(Deferred.fromCoroutine(load.begin()))
        return load

    def test_a_write_asks_the_leader_and_sends_the_content_as_a_form(self) -> None:
        forms: list[bytes] = []

        def stored(question: Question) -> Answer:
            forms.append(bytes(question.body))
            return answer(b"{}", 201)

        servers = Servers({"m:1": assigned, "public:1": stored})
        load = self.load(servers, public=True, fsync=True)
        self.assertFalse(self.was_there)
        wrote = self.successResultOf(Deferred.fromCoroutine(load.write()))
        self.assertEqual(wrote, (FID, len(CONTENTS.of(FID))))
        self.assertEqual(
            servers.asked,
            [
                ("m:1", b"GET", b"/dir/assign?collection=benchmark&replication=001"),
                ("public:1", b"POST", b"/3,01637037d6?fsync=true"),
            ],
        )
        self.assertIn(b"\r\n\r\n" + CONTENTS.of(FID) + b"\r\n--", forms[0])

    def test_another_leader_is_found_once_the_first_fails(self) -> None:
        servers = Servers(
            {
                "m:1": lambda _: Unreachable("m:1", "down"),
                "m:2": assigned,
                "v:1": lambda _: answer(b"{}", 201),
            }
        )
        load = self.load(servers)
        servers.leader = "m:2"
        for _ in range(2):
            self.successResultOf(Deferred.fromCoroutine(load.write()))
        self.assertEqual(servers.by_client, 1)
        self.assertEqual([address for address, *_ in servers.asked], ["m:1", "v:1", "m:2", "v:1"])

    def test_a_refusal_says_who_and_why(self) -> None:
        servers = Servers({"m:1": assigned, "v:1": lambda _: answer(b'{"error": "volume 3 is read-only"}', 500)})
        failure = self.failureResultOf(Deferred.fromCoroutine(self.load(servers).write()), PeerError)
        self.assertEqual(str(failure.value), "v:1: answers 500 to /3,01637037d6: volume 3 is read-only")

    def test_what_is_read_has_to_be_what_was_written(self) -> None:
        whole = CONTENTS.of(FID)
        for body, said in (
            (whole, ""),
            (whole[:-1], f"{len(whole) - 1} bytes instead of {len(whole)}"),
            (whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], "the first difference is at byte 40"),
        ):
            servers = Servers({"v:1": lambda _: Unreachable("v:1", "down"), "v:2": lambda _, it=body: answer(it)})  # type: ignore[misc]
            reading = Deferred.fromCoroutine(self.load(servers).read(FID))
            if said:
                failure = self.failureResultOf(reading, PeerError)
                self.assertEqual(str(failure.value), f"v:2: {FID} is not what was written: {said}")
            else:
                self.assertEqual(self.successResultOf(reading), (FID, len(whole)))
            unchecked = Deferred.fromCoroutine(self.load(servers, check=False).read(FID))
            self.assertEqual(self.successResultOf(unchecked), (FID, len(body)))

    def test_another_copy_is_no_way_round_a_missing_file(self) -> None:
        missing = {address: lambda _: answer(b"", 404) for address in ("v:1", "v:2")}
        servers = Servers(missing)
        failure = self.failureResultOf(Deferred.fromCoroutine(self.load(servers).read(FID)), PeerError)
        self.assertEqual(failure.value.status, 404)
        self.assertEqual(len(servers.asked), 1)
