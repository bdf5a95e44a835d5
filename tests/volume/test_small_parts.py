"""Tickets, locks, lookups, and what is remembered of the cluster."""

import json
import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import PeerError, Unavailable, Unreachable, VolumeNotFound, WriteFailed
from weedtw.volume import tickets
from weedtw.volume.locations import IMPATIENCE, LIFETIME, Location, Locations
from weedtw.volume.locks import KeyLocks
from weedtw.volume.membership import FILE_NAME, Membership
from weedtw.volume.tickets import Tickets


def start(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


class TicketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tickets: Tickets[str] = Tickets(self.clock)
        self.undone: list[str] = []
        self.work: Deferred[str] = Deferred()
        self.calls = 0

    async def do(self) -> str:
        self.calls += 1
        return await self.work

    async def undo(self, result: str) -> None:
        self.undone.append(result)

    def take_back(self) -> Deferred[bool]:
        return start(self.tickets.take_back("id", self.undo))

    def test_the_same_write_is_done_once(self) -> None:
        one, two = start(self.tickets.do("id", self.do)), start(self.tickets.do("id", self.do))
        self.work.callback("done")
        self.assertEqual([self.successResultOf(one), self.successResultOf(two)], ["done", "done"])
        self.assertEqual(self.successResultOf(start(self.tickets.do("id", self.do))), "done")
        self.assertEqual(self.calls, 1)

    def test_it_is_taken_back_once(self) -> None:
        self.work.callback("done")
        self.successResultOf(start(self.tickets.do("id", self.do)))
        self.assertTrue(self.successResultOf(self.take_back()))
        self.assertFalse(self.successResultOf(self.take_back()))
        self.assertEqual(self.undone, ["done"])
        self.failureResultOf(start(self.tickets.do("id", self.do)), Unavailable)

    def test_taking_back_waits_for_the_write(self) -> None:
        written, taken = start(self.tickets.do("id", self.do)), self.take_back()
        self.assertNoResult(taken)
        self.work.callback("done")
        self.assertEqual(self.successResultOf(written), "done")
        self.assertTrue(self.successResultOf(taken))
        self.assertEqual(self.undone, ["done"])

    def test_taking_back_may_come_first(self) -> None:
        self.assertFalse(self.successResultOf(self.take_back()))
        self.failureResultOf(start(self.tickets.do("id", self.do)), Unavailable)
        self.assertEqual(self.calls, 0)

    def test_a_write_that_failed_needs_no_undoing_and_is_not_repeated(self) -> None:
        written = start(self.tickets.do("id", self.do))
        self.work.errback(WriteFailed("x", "disk full"))
        self.failureResultOf(written, WriteFailed)
        self.assertFalse(self.successResultOf(self.take_back()))
        self.failureResultOf(start(self.tickets.do("id", self.do)), Unavailable)

    def test_old_ones_are_forgotten(self) -> None:
        self.work.callback("done")
        for number in range(5):
            self.successResultOf(start(self.tickets.do(str(number), self.do)))
            self.clock.advance(tickets.LIFETIME / 2)
        self.assertLessEqual(len(self.tickets._tickets), 3)

    def test_their_number_is_bounded(self) -> None:
        self.patch(tickets, "_MOST", 10)
        self.work.callback("done")
        for number in range(50):
            self.successResultOf(start(self.tickets.do(str(number), self.do)))
        self.assertEqual(len(self.tickets._tickets), 10)


class KeyLockTests(SynchronousTestCase):
    def test_one_at_a_time_for_each_key_in_order(self) -> None:
        locks, order = KeyLocks(), []
        gates: list[Deferred[None]] = [Deferred() for _ in range(3)]

        async def work(number: int, key: str) -> None:
            async with locks.hold(key):
                order.append(number)
                await gates[number]

        works = [start(work(0, "a")), start(work(1, "a")), start(work(2, "b"))]
        self.assertEqual(order, [0, 2])
        gates[0].callback(None)
        self.assertEqual(order, [0, 2, 1])
        gates[1].errback(ValueError())
        gates[2].callback(None)
        self.successResultOf(works[0])
        self.failureResultOf(works[1], ValueError)
        self.successResultOf(works[2])
        self.assertEqual(locks._waiting, {})

    def test_who_gives_up_waiting_leaves_nothing(self) -> None:
        locks = KeyLocks()
        gate: Deferred[None] = Deferred()

        async def work() -> None:
            async with locks.hold("a"):
                await gate

        first, second = start(work()), start(work())
        second.addErrback(lambda _: None)
        second.cancel()
        gate.callback(None)
        self.successResultOf(first)
        self.assertEqual(locks._waiting, {})


@attrs.define
class Peers:
    """Answers lookups as told, when told."""

    answers: dict[str, Any]
    asked: list[str] = attrs.Factory(list)
    patience: list[float | None] = attrs.Factory(list)
    gate: Deferred[None] | None = None

    async def get_json(self, address: str, _path: str, _query: Any, *, timeout: float | None) -> Any:
        self.asked.append(address)
        self.patience.append(timeout)
        if self.gate is not None:
            await self.gate
        answer = self.answers[address]
        if isinstance(answer, Exception):
            raise answer
        return answer


HELD = {"locations": [{"url": "a:1", "publicUrl": "A:1"}, {"url": "b:2"}]}


class LocationTests(SynchronousTestCase):
    def make(self, **answers: Any) -> tuple[Locations, Peers]:
        self.clock = Clock()
        peers = Peers({name.replace("_", ":"): answer for name, answer in answers.items()})
        return Locations(peers, lambda: tuple(peers.answers), self.clock), peers  # type: ignore[arg-type]

    def test_an_answer_is_used_for_a_while(self) -> None:
        locations, peers = self.make(m_1=HELD)
        for _ in range(3):
            found = self.successResultOf(start(locations.find(3)))
        self.assertEqual(found, (Location("a:1", "A:1"), Location("b:2", "b:2")))
        self.assertEqual(len(peers.asked), 1)
        self.clock.advance(LIFETIME)
        self.successResultOf(start(locations.find(3)))
        self.successResultOf(start(locations.find(3, fresh=True)))
        locations.forget(3)
        self.successResultOf(start(locations.find(3)))
        self.assertEqual(len(peers.asked), 4)

    def test_an_old_answer_has_to_do_while_no_master_answers(self) -> None:
        locations, peers = self.make(m_1=HELD)
        found = self.successResultOf(start(locations.find(3)))
        peers.answers["m:1"] = PeerError("m:1", "electing", 503)
        self.clock.advance(LIFETIME * 10)
        self.assertEqual(self.successResultOf(start(locations.find(3))), found)
        locations.forget(3)
        self.assertEqual(self.successResultOf(start(locations.find(3))), found)
        self.failureResultOf(start(locations.find(3, fresh=True)), Unavailable)
        self.failureResultOf(start(locations.find(4)), Unavailable)
        peers.answers["m:1"] = PeerError("m:1", "not found", 404)
        self.failureResultOf(start(locations.find(3)), VolumeNotFound)
        peers.answers["m:1"] = PeerError("m:1", "electing", 503)
        self.failureResultOf(start(locations.find(3)), Unavailable)

    def test_those_who_ask_together_share_one_answer(self) -> None:
        locations, peers = self.make(m_1=HELD)
        peers.gate = Deferred()
        asking = [start(locations.find(3)) for _ in range(3)]
        asking[1].addErrback(lambda _: None)
        asking[1].cancel()
        peers.gate.callback(None)
        self.assertEqual(self.successResultOf(asking[0]), self.successResultOf(asking[2]))
        self.assertEqual(len(peers.asked), 1)

    def test_who_asked_first_may_give_up(self) -> None:
        locations, peers = self.make(m_1=HELD)
        peers.gate = Deferred()
        asking = [start(locations.find(3)) for _ in range(2)]
        asking[0].addErrback(lambda _: None)
        asking[0].cancel()
        peers.gate.callback(None)
        self.successResultOf(asking[1])
        self.successResultOf(start(locations.find(3)))
        self.assertEqual(len(peers.asked), 1)

    def test_the_next_master_is_asked_when_one_cannot_say(self) -> None:
        locations, peers = self.make(m_1=PeerError("m:1", "dead"), m_2={"locations": [{"url": "no port"}]}, m_3=HELD)
        self.successResultOf(start(locations.find(3)))
        self.assertEqual(peers.asked, ["m:1", "m:2", "m:3"])

    def test_a_master_that_does_not_answer_soon_holds_nobody_up(self) -> None:
        """It may hang, and the next one knows as well; when they are all slow, there is time to wait for them."""
        slow, dead = PeerError("m:1", "no answer within 1 s"), Unreachable("m:2", "Connection refused")
        locations, peers = self.make(m_1=slow, m_2=HELD)
        self.successResultOf(start(locations.find(3)))
        self.assertEqual((peers.asked, peers.patience), (["m:1", "m:2"], [IMPATIENCE] * 2))
        electing = PeerError("m:3", "electing", 503)
        locations, peers = self.make(m_1=slow, m_2=dead, m_3=electing, m_4=slow)
        self.failureResultOf(start(locations.find(3)), Unavailable)
        self.assertEqual(peers.asked, ["m:1", "m:2", "m:3", "m:4", "m:1", "m:4"])
        self.assertEqual(peers.patience, [IMPATIENCE] * 4 + [None] * 2)
        locations, peers = self.make(m_1=slow)
        self.failureResultOf(start(locations.find(3)), Unavailable)
        self.assertEqual(peers.patience, [None])

    def test_nowhere_and_nobody_to_ask(self) -> None:
        nowhere: list[Any] = [PeerError("m:1", "volume id not found", 404), {"locations": []}, {}]
        for answer in nowhere:
            locations, _ = self.make(m_1=answer)
            self.failureResultOf(start(locations.find(3)), VolumeNotFound)
        for master in (PeerError("m:1", "dead"), PeerError("m:1", "no leader", 503), {"locations": 5}):
            locations, _ = self.make(m_1=master)
            self.failureResultOf(start(locations.find(3)), Unavailable)
        locations, _ = self.make()
        self.failureResultOf(start(locations.find(3)), Unavailable)


class MembershipTests(SynchronousTestCase):
    def folder(self) -> Path:
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        return Path(made.name)

    def load(self, folder: Path) -> Membership:
        return Membership.load(str(folder), lambda work: work())

    def test_it_is_remembered(self) -> None:
        folder = self.folder()
        new = self.load(folder)
        self.assertEqual((new.cluster_id, new.masters), (None, ()))
        new.remember("c1", ("m1:9333", "m2:9333"))
        again = self.load(folder)
        self.assertEqual((again.cluster_id, again.masters), ("c1", ("m1:9333", "m2:9333")))
        self.assertEqual([path.name for path in folder.iterdir()], [FILE_NAME])

    def test_a_file_that_makes_no_sense_is_passed_over(self) -> None:
        folder = self.folder()
        for text in (b"", b"[]", b"\xff", json.dumps({"cluster": 5, "masters": []}).encode()):
            (folder / FILE_NAME).write_bytes(text)
            self.assertIsNone(self.load(folder).cluster_id)

    def test_a_folder_that_cannot_be_written_is_no_obstacle(self) -> None:
        gone = Membership(str(self.folder() / "gone" / FILE_NAME), lambda work: work())
        gone.remember("c1", ())
        self.assertEqual(gone.cluster_id, "c1")
