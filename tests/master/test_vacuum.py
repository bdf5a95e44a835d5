"""Vacuuming: on all copies or on none, round after round."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import Scene, refused, volume
from weedtw.master.vacuum import Vacuum

CHECK, COMPACT, COMMIT, CLEANUP = (f"/admin/vacuum/{step}" for step in ("check", "compact", "commit", "cleanup"))


class Vacuuming(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene(vacuum_interval=60.0)
        self.vacuum = Vacuum(self.scene.cluster)
        self.peers = self.scene.peers
        self.peers.script("", CHECK, {"garbageRatio": 0.5})

    def run_it(self, threshold: float = 0.3) -> int:
        done: int = self.successResultOf(Deferred.fromCoroutine(self.vacuum.run(threshold)))
        return done

    def join(self, *addresses: str, **more: Any) -> None:
        copies = "001" if len(addresses) == 2 else "000"
        for address in addresses:
            self.scene.join(address, holds=(volume(1, copies=copies, **more),))

    def test_all_copies_are_compacted_and_then_committed(self) -> None:
        self.join("a:1", "b:1")
        assert self.run_it() == 1
        assert self.peers.asked == [
            ("a:1", CHECK, {"volume": 1}),
            ("b:1", CHECK, {"volume": 1}),
            ("a:1", COMPACT, {"volume": 1}),
            ("b:1", COMPACT, {"volume": 1}),
            ("a:1", CHECK, {"volume": 1}),
            ("b:1", CHECK, {"volume": 1}),
            ("a:1", COMMIT, {"volume": 1}),
            ("b:1", COMMIT, {"volume": 1}),
        ]

    def test_a_volume_with_little_garbage_is_left_alone(self) -> None:
        self.join("a:1")
        assert self.run_it(0.5) == 0
        assert self.peers.paths() == [CHECK]

    def test_one_copy_with_much_garbage_is_enough(self) -> None:
        self.join("a:1", "b:1")
        self.peers.script("a:1", CHECK, {"garbageRatio": 0})
        assert self.run_it() == 1

    def test_when_one_cannot_compact_all_clean_up(self) -> None:
        self.join("a:1", "b:1")
        self.peers.script("b:1", COMPACT, refused("b:1"))
        assert self.run_it() == 0
        assert self.peers.paths("a:1") == [CHECK, COMPACT, CLEANUP]
        assert self.peers.paths("b:1") == [CHECK, COMPACT, CLEANUP]

    def test_when_one_was_started_anew_meanwhile_all_clean_up(self) -> None:
        self.join("a:1", "b:1")
        self.peers.script("b:1", CHECK, {"garbageRatio": 0.5, "revision": 3, "compacted": False})
        assert self.run_it() == 0
        for address in ("a:1", "b:1"):
            assert self.peers.paths(address) == [CHECK, COMPACT, CHECK, CLEANUP]

    def test_when_the_first_cannot_commit_none_does(self) -> None:
        self.join("a:1", "b:1")
        self.peers.script("a:1", COMMIT, refused("a:1"))
        assert self.run_it() == 0
        assert self.peers.paths("a:1") == [CHECK, COMPACT, CHECK, COMMIT, CLEANUP]
        assert self.peers.paths("b:1") == [CHECK, COMPACT, CHECK, CLEANUP]

    def test_when_a_later_one_cannot_commit_it_cleans_up(self) -> None:
        self.join("a:1", "b:1")
        self.peers.script("b:1", COMMIT, refused("b:1"))
        self.peers.script("b:1", CLEANUP, refused("b:1"))
        assert self.run_it() == 0
        assert self.peers.paths("a:1") == [CHECK, COMPACT, CHECK, COMMIT]
        assert self.peers.paths("b:1") == [CHECK, COMPACT, CHECK, COMMIT, CLEANUP]

    def leave_behind(self) -> None:
        """The commit on b:1 fails; the rounds are started."""
        self.join("a:1", "b:1")
        self.peers.script("b:1", COMMIT, refused("b:1"))
        self.vacuum.start()
        assert self.run_it() == 0
        self.peers.asked.clear()
        self.peers.script("a:1", CHECK, {"garbageRatio": 0.0, "revision": 1, "compacted": True})
        self.peers.script("b:1", CHECK, {"garbageRatio": 0.5, "revision": 0, "compacted": True})

    def test_one_that_stayed_behind_catches_up_by_itself(self) -> None:
        self.leave_behind()
        self.scene.clock.advance(5)  # and fails again
        assert self.peers.paths("b:1") == [CHECK, COMPACT, CHECK, COMMIT, CLEANUP]
        assert self.peers.paths("a:1") == [CHECK]
        self.peers.script("b:1", COMMIT, {})
        self.peers.asked.clear()
        self.scene.clock.advance(9)
        assert self.peers.asked == []
        self.scene.clock.advance(1)
        assert self.peers.paths("b:1") == [CHECK, COMPACT, CHECK, COMMIT]
        self.peers.asked.clear()
        self.scene.clock.advance(20)
        assert self.peers.asked == []
        self.vacuum.stop()
        assert self.scene.clock.getDelayedCalls() == []

    def test_who_stops_does_not_come_again(self) -> None:
        self.leave_behind()
        self.vacuum.stop()
        self.scene.clock.advance(600)
        assert self.peers.asked == []

    def test_nobody_comes_again_for_a_volume_that_is_gone(self) -> None:
        self.leave_behind()
        for server in list(self.scene.topology.servers.values()):
            self.scene.leave(server)
        self.scene.clock.advance(40)
        assert self.peers.asked == []
        self.vacuum.stop()

    def test_the_rounds_find_one_that_stayed_behind(self) -> None:
        """Whoever led when it did: revisions tell."""
        self.join("a:1", "b:1")
        for ahead, behind, garbage in ((1, 0, 0.2), (0, 0xFFFF, 0.2), (2, 1, 0.5)):
            self.peers.asked.clear()
            self.peers.script("a:1", CHECK, {"garbageRatio": garbage, "revision": behind, "compacted": True})
            self.peers.script("b:1", CHECK, {"garbageRatio": 0.0, "revision": ahead, "compacted": True})
            assert self.run_it() == 1
            assert (self.peers.paths("a:1"), self.peers.paths("b:1")) == ([CHECK, COMPACT, CHECK, COMMIT], [CHECK])

    def test_one_behind_is_vacuumed_with_the_others_when_they_need_it(self) -> None:
        self.join("a:1", "b:1")
        self.peers.script("a:1", CHECK, {"garbageRatio": 0.2, "revision": 1, "compacted": True})
        self.peers.script("b:1", CHECK, {"garbageRatio": 0.4, "revision": 2, "compacted": True})
        assert self.run_it() == 1
        assert self.peers.paths("a:1") == self.peers.paths("b:1") == [CHECK, COMPACT, CHECK, COMMIT]

    def test_one_behind_that_has_no_garbage_is_left_alone(self) -> None:
        self.join("a:1", "b:1")
        self.peers.script("a:1", CHECK, {"garbageRatio": 0.2, "revision": 7})
        self.peers.script("b:1", CHECK, {"garbageRatio": 0.0, "revision": 3})
        assert self.run_it() == 0
        assert set(self.peers.paths()) == {CHECK}

    def test_when_one_cannot_be_asked_nothing_is_done(self) -> None:
        self.join("a:1", "b:1")
        self.peers.script("b:1", CHECK, refused("b:1"))
        assert self.run_it() == 0
        assert set(self.peers.paths()) == {CHECK}

    def test_an_answer_that_makes_no_sense_is_no_garbage(self) -> None:
        self.join("a:1")
        self.peers.script("", CHECK, {"garbageRatio": "much"})
        assert self.run_it() == 0

    def test_volumes_that_are_read_only_or_short_of_a_copy_are_left_alone(self) -> None:
        self.scene.join("a:1", holds=(volume(1, read_only=True), volume(2, copies="001")))
        assert self.run_it() == 0
        assert self.peers.asked == []

    def test_a_full_volume_is_vacuumed(self) -> None:
        self.join("a:1", size=1 << 30)
        assert self.run_it() == 1

    def test_two_volumes_of_one_server_follow_each_other(self) -> None:
        self.scene.join("a:1", holds=(volume(1), volume(2)))
        compacted: Deferred[dict[str, Any]] = Deferred()
        self.peers.script("a:1", COMPACT, compacted)
        running = Deferred.fromCoroutine(self.vacuum.run(0.3))
        assert [query["volume"] for _, path, query in self.peers.asked if path == COMPACT] == [1]
        self.peers.script("a:1", COMPACT, {})
        compacted.callback({})
        assert self.successResultOf(running) == 2

    def test_a_second_round_waits_for_the_first(self) -> None:
        self.join("a:1")
        compacted: Deferred[dict[str, Any]] = Deferred()
        self.peers.script("a:1", COMPACT, compacted)
        first, second = (Deferred.fromCoroutine(self.vacuum.run(0.3)) for _ in range(2))
        asked = len(self.peers.asked)
        self.peers.script("a:1", COMPACT, {})
        self.assertNoResult(second)
        compacted.callback({})
        assert self.successResultOf(first) == 1
        assert self.successResultOf(second) == 1
        assert len(self.peers.asked) == asked + 2 + 4

    def test_rounds_come_by_themselves(self) -> None:
        self.join("a:1")
        self.vacuum.start()
        self.scene.clock.advance(59)
        assert self.peers.asked == []
        self.scene.clock.advance(2)
        assert self.peers.paths() == [CHECK, COMPACT, CHECK, COMMIT]
        self.scene.clock.advance(60)
        assert len(self.peers.asked) == 8
        self.vacuum.stop()
        self.scene.clock.advance(600)
        assert len(self.peers.asked) == 8
        assert self.scene.clock.getDelayedCalls() == []
