"""Telling absent volume servers where the masters are: whom, how many at once, and how loudly."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import Scene
from weedtw.errors import PeerError, Unreachable
from weedtw.master.recall import AT_ONCE, INTERVAL, Recall

PATH = "/admin/masters"


class RecallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()
        self.recall = Recall(self.scene.cluster)
        self.recall.start()
        self.addCleanup(self.recall.stop)

    def rounds(self, count: int) -> list[str]:
        """Who is told in so many rounds."""
        asked = self.scene.peers.asked
        asked.clear()
        for _ in range(count):
            self.scene.clock.advance(INTERVAL)
        return [address for address, _, _ in asked]

    def test_who_is_absent_for_two_rounds_is_told(self) -> None:
        self.scene.join("a:1")
        self.scene.register("b:1")
        self.assertEqual(self.rounds(1), [])
        self.assertEqual(self.rounds(1), ["b:1"])
        told = {"cluster": self.scene.ledger.cluster_id, "masters": ",".join(self.scene.cluster.masters)}
        self.assertEqual(self.scene.peers.asked, [("b:1", PATH, told)])
        self.assertEqual(self.rounds(2), ["b:1", "b:1"])

    def test_who_has_come_back_is_left_alone(self) -> None:
        server = self.scene.join("a:1")
        self.scene.leave(server)
        self.assertEqual(self.rounds(2), ["a:1"])
        self.scene.join("a:1")
        self.assertEqual(self.rounds(3), [])

    def test_only_the_leader_tells(self) -> None:
        self.scene.register("a:1")
        self.scene.ledger.lose_lead()
        self.assertEqual(self.rounds(3), [])
        self.scene.ledger.gain_lead()
        self.assertEqual(self.rounds(1), [])  # a new leader gives them the time to come by themselves
        self.assertEqual(self.rounds(1), ["a:1"])

    def test_so_many_at_once_and_one_round_at_a_time(self) -> None:
        names = [f"s{number:03}:1" for number in range(AT_ONCE + 3)]
        for name in names:
            self.scene.register(name)
        slow: dict[str, Deferred[dict[str, Any]]] = {name: Deferred() for name in names}
        for name in names:
            self.scene.peers.script(name, PATH, slow[name])
        self.assertEqual(self.rounds(10), names[:AT_ONCE])
        slow[names[0]].callback({})
        slow[names[1]].errback(PeerError(names[1], "no answer within 2 s"))
        self.assertEqual([address for address, _, _ in self.scene.peers.asked[AT_ONCE:]], names[AT_ONCE:-1])
        self.recall.stop()
        slow[names[2]].callback({})
        self.assertEqual(len(self.scene.peers.asked), AT_ONCE + 2)

    def test_who_is_not_there_is_no_news(self) -> None:
        self.scene.register("a:1")
        self.scene.peers.script("a:1", PATH, Unreachable("a:1", "Connection refused"))
        with capturedLogs() as events:
            self.assertEqual(self.rounds(4), ["a:1"] * 3)
        self.assertEqual({event["log_level"] for event in events}, {LogLevel.debug})

    def test_a_server_that_refuses_is_news_once(self) -> None:
        self.scene.register("a:1")
        reason = "10.0.0.9 is not in the white list of this server (--whiteList)"
        self.scene.peers.script("a:1", PATH, PeerError("a:1", reason, 403))
        with capturedLogs() as events:
            self.rounds(5)
        self.assertEqual([event["reason"] for event in events if event["log_level"] == LogLevel.warn], [reason])
