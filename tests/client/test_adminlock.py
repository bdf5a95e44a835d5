"""The client's side of the admin lock: taken, renewed for as long as it is held, and not a moment longer."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.client.scripted import REFUSES, SILENT, Asked, Said, ScriptedAgent
from weedtw.client.adminlock import RENEW, AdminLock
from weedtw.errors import ChangeRefused, PeerError, Unavailable

TAKE = "POST m1:1/cluster/lock holder=me"
RENEWAL = "POST m1:1/cluster/lock holder=me token=T"
RELEASE = "POST m1:1/cluster/unlock token=T"
TAKEN = Said.no(423, "somebody else holds the admin lock: you")


class AdminLockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.agent = ScriptedAgent(self.answer)
        self.lock = AdminLock(self.agent.masters(self.clock, "m1:1", "m2:1"), self.clock, "me")
        self.says: dict[str, Said] = {}  # by master; otherwise it gives what it is asked for

    def answer(self, asked: Asked) -> Said:
        return self.says.get(asked.address, Said({"token": "T"}))

    def run_now(self, work: Coroutine["Deferred[Any]", Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def refused(self, work: Coroutine["Deferred[Any]", Any, Any], *kinds: type[Exception]) -> Any:
        return self.failureResultOf(Deferred.fromCoroutine(work), *kinds).value

    def asked(self) -> list[str]:
        """What was asked since the last time."""
        asked = [str(one) for one in self.agent.asked]
        self.agent.asked.clear()
        return asked

    def test_it_is_taken_renewed_and_let_go(self) -> None:
        self.assertFalse(self.lock.is_held)
        self.run_now(self.lock.take())
        self.assertTrue(self.lock.is_held)
        self.lock.require()
        self.clock.pump([RENEW] * 3)
        self.run_now(self.lock.release())
        self.assertFalse(self.lock.is_held)
        self.assertEqual(self.asked(), [TAKE, RENEWAL, RENEWAL, RENEWAL, RELEASE])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_to_take_or_release_it_twice_asks_nobody(self) -> None:
        self.run_now(self.lock.take())
        self.run_now(self.lock.take())
        self.run_now(self.lock.release())
        self.run_now(self.lock.release())
        self.assertEqual(self.asked(), [TAKE, RELEASE])

    def test_without_it_nothing_may_be_changed(self) -> None:
        with self.assertRaises(ChangeRefused) as raised:
            self.lock.require()
        self.assertIn("needs the admin lock", str(raised.exception))

    def test_what_somebody_else_holds_is_refused_by_name_and_nobody_else_is_asked(self) -> None:
        self.says["m1:1"] = TAKEN
        self.assertIn("holds the admin lock: you", str(self.refused(self.lock.take(), ChangeRefused)))
        self.assertEqual(self.asked(), [TAKE])
        self.assertFalse(self.lock.is_held)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_lock_that_somebody_else_has_now_is_lost_and_renewed_no_more(self) -> None:
        self.run_now(self.lock.take())
        self.says["m1:1"] = TAKEN
        self.clock.advance(RENEW)
        self.assertFalse(self.lock.is_held)
        with self.assertRaises(ChangeRefused) as raised:
            self.lock.require()
        self.assertIn("the admin lock was lost: ", str(raised.exception))
        self.assertEqual(self.asked(), [TAKE, RENEWAL])
        self.says.clear()  # the other lets it go; a renewal would take it behind everybody's back
        self.clock.pump([RENEW] * 3)
        self.run_now(self.lock.release())
        self.assertEqual(self.asked(), [])

    def test_one_that_was_lost_can_be_taken_again_and_then_let_go(self) -> None:
        self.run_now(self.lock.take())
        self.says["m1:1"] = TAKEN
        self.clock.advance(RENEW)
        self.says.clear()
        self.asked()
        self.run_now(self.lock.take())
        self.lock.require()
        self.clock.advance(RENEW)
        self.run_now(self.lock.release())
        self.clock.pump([RENEW] * 3)
        self.assertEqual(self.asked(), [TAKE, RENEWAL, RELEASE])

    def test_it_outlives_the_master_that_gave_it(self) -> None:
        self.lock.masters.leader = "m1:1"
        self.run_now(self.lock.take())
        self.says["m1:1"] = REFUSES
        self.asked()
        self.clock.advance(RENEW)
        self.assertEqual([one.partition(" holder")[0] for one in self.asked()][-1], "POST m2:1/cluster/lock")
        self.assertTrue(self.lock.is_held)

    def test_while_nobody_leads_it_is_asked_for_again(self) -> None:
        nobody = Said.no(503, "no leader")
        self.says = {"m1:1": nobody, "m2:1": nobody}
        taking = Deferred.fromCoroutine(self.lock.take())
        self.clock.advance(1.0)
        self.assertNoResult(taking)
        self.says.clear()
        self.clock.advance(1.0)
        self.successResultOf(taking)
        self.assertTrue(self.lock.is_held)

    def test_when_nobody_leads_for_long_that_is_said(self) -> None:
        self.says = {"m1:1": REFUSES, "m2:1": Said.no(503, "no leader")}
        taking = Deferred.fromCoroutine(self.lock.take())
        self.clock.pump([0.5] * 30)
        self.assertEqual(str(self.failureResultOf(taking, Unavailable).value), "m2:1: no leader")

    def test_a_renewal_that_nobody_answers_does_not_lose_it(self) -> None:
        self.run_now(self.lock.take())
        self.says = {"m1:1": REFUSES, "m2:1": REFUSES}
        self.clock.pump([0.5] * 60)
        self.assertTrue(self.lock.is_held)
        self.says.clear()
        self.asked()
        self.clock.pump([0.5] * 20)
        self.assertIn(RENEWAL, self.asked())

    def test_a_renewal_under_way_is_given_up_when_it_is_let_go(self) -> None:
        self.run_now(self.lock.take())
        self.says["m1:1"] = SILENT
        self.clock.advance(RENEW)
        self.says.clear()
        self.run_now(self.lock.release())
        self.assertEqual(self.asked(), [TAKE, RENEWAL, RELEASE])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_other_refusals_are_what_they_are(self) -> None:
        self.says["m1:1"] = Said.no(400, "the holder has no name")
        self.assertEqual(self.refused(self.lock.take(), PeerError).status, 400)
        self.assertEqual(self.asked(), [TAKE])

    def test_an_answer_without_a_token_is_none(self) -> None:
        answers: list[object] = [{}, [], None, {"token": ""}, {"token": 5}]
        for answer in answers:
            self.says["m1:1"] = Said(answer)
            self.assertIn("without a token", str(self.refused(self.lock.take(), PeerError)))
            self.assertFalse(self.lock.is_held)
