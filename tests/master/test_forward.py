"""What a master that does not lead does with what only the leader can answer."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.master.follower import Api, Cluster, Errand, Hops
from weedtw.errors import PeerError, Unreachable
from weedtw.http.answers import Answer
from weedtw.http.channel import make_site
from weedtw.http.guard import WhiteList
from weedtw.http.testing import Answer as Answered
from weedtw.http.testing import Wire
from weedtw.master.forward import HOLD, MARK, MOST_PAUSE, NOT_LEADER, PATIENCE, Forwarder

FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
OURS = "X-Weedtw-Forwarded: cluster-1 node-of-m3\r\n"


def said(status: int = 200, body: bytes = b"{}", **headers: str) -> Answer:
    """What a leader answers; underscores in names of headers stand for dashes."""
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Date": "today", **headers}
    return Answer(status, tuple((n.replace("_", "-").encode(), v.encode()) for n, v in lines.items()), body, True)


NOT_ME = said(503, b'{"error":"no"}', X_Weedtw_Not_Leader="1")


class ForwardTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.cluster, self.hops = Cluster(self.clock), Hops()
        cluster: Any = self.cluster
        hops: Any = self.hops
        standing = "no master leads now: 1 of 3 masters can be reached"
        self.forwarder = Forwarder(cluster, hops, lambda: standing, most=3)
        self.api = Api(self.cluster, self.forwarder)
        self.site = make_site(self.api.app.resource(), reactor=self.clock, body_limit=1 << 22)
        self.cluster.follow("m2:9333")

    def ask(self, target: str, method: str = "GET", headers: str = "", body: bytes = b"") -> Wire:
        wire = Wire(self.site, peer="10.0.0.9")
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        wire.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n{headers}{length}\r\n".encode() + body)
        return wire

    def answer_of(self, wire: Wire) -> Answered:
        [answer] = self.answers(wire)
        return answer

    def answers(self, wire: Wire) -> list[Answered]:
        wire.pump()
        return wire.answers()

    def sent(self, count: int = 1) -> Errand:
        """The last of so many requests that went to a leader."""
        self.assertEqual(len(self.hops.sent), count)
        return self.hops.sent[-1]

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.0125)):
            self.clock.advance(0.0125)


class FollowerTests(ForwardTestCase):
    def test_who_leads_answers(self) -> None:
        self.cluster.lead()
        self.assertEqual(self.answer_of(self.ask("/dir/assign?count=2")).json, {"count": "2", "at": "m1:9333"})
        self.assertEqual(self.hops.sent, [])

    def test_the_request_goes_to_the_leader_as_it_came(self) -> None:
        headers = (
            f"{FORM}Seaweed-Tag: t\r\nConnection: keep-alive, x-mine\r\nX-Mine: 1\r\nX-Forwarded-For: 1.2.3.4\r\n"
        )
        self.ask("/dir/assign?a=%2f&a=ä", "POST", headers, b"count=3")
        errand = self.sent()
        self.assertEqual(errand.address, "m2:9333")
        question = errand.question
        self.assertEqual((question.method, question.target), (b"POST", b"/dir/assign?a=%2f&a=%C3%A4"))
        self.assertEqual(bytes(question.body), b"count=3")
        self.assertEqual(
            dict(question.fields),
            {
                b"Content-Type": b"application/x-www-form-urlencoded",
                b"Seaweed-Tag": b"t",
                b"X-Forwarded-For": b"1.2.3.4, 10.0.0.9",
                MARK: b"cluster-1 node-of-m1",
            },
        )
        self.assertEqual(self.api.asked, [])

    def test_the_answer_comes_back_as_it_is(self) -> None:
        wire = self.ask("/dir/assign")
        self.assertEqual(self.answers(wire), [])
        headers = {"Retry_After": "7", "Location": "http://a/", "Cache_Control": "no-store", "Connection": "close"}
        self.sent().done.callback(said(406, b'{"error":"x"}', Server="theirs", **headers))
        answer = self.answer_of(wire)
        self.assertEqual((answer.status, answer.body), (406, b'{"error":"x"}'))
        told = {
            "content-type": "application/json",
            "retry-after": "7",
            "location": "http://a/",
            "content-length": "13",
        }
        self.assertEqual(answer.headers, answer.headers | told | {"cache-control": "no-store"})
        self.assertTrue(answer.headers["server"].startswith("weedtw/"))
        self.assertNotEqual(answer.headers["date"], "today")
        self.assertNotIn("connection", answer.headers)

    def test_our_own_white_list_is_asked_first(self) -> None:
        self.api.white_list = WhiteList.parse(["10.1.0.0/16"])
        wire = self.ask("/dir/assign", headers="X-Forwarded-For: 10.1.0.1\r\n")
        self.assertEqual(self.answer_of(wire).status, 403)
        self.assertEqual(self.hops.sent, [])

    def test_a_leader_whose_white_list_lacks_this_master(self) -> None:
        wire = self.ask("/dir/assign")
        self.sent().done.callback(said(403, b'{"error":"10.0.0.1 is not in the white list"}'))
        answer = self.answer_of(wire)
        self.assertEqual(answer.status, 502)
        self.assertIn("m2:9333: the leading master's white list does not let this master in", answer.json["error"])

    def test_time_depends_on_what_is_asked_and_how_large_it_is(self) -> None:
        body = b"x" * (1 << 21)
        for target, method, content in (
            ("/dir/assign", "GET", b""),
            ("/vol/grow", "GET", b""),
            ("/submit", "POST", body),
        ):
            self.ask(target, method, body=content)
        assign, grow, submit = self.hops.sent
        self.assertEqual((assign.answer_within, grow.answer_within, submit.answer_within), (15.0, 90.0, 64.0))
        self.assertEqual(bytes(submit.question.body), body)

    def test_a_client_that_leaves_takes_its_request_with_it(self) -> None:
        wire = self.ask("/dir/assign")
        wire.leave()
        self.assertTrue(self.sent().given_up)
        self.cluster.follow(None)
        self.ask("/dir/assign").leave()
        self.wait(PATIENCE)
        self.sent(1)
        self.assertEqual(self.forwarder._held, 0)
        self.assertEqual(self.forwarder._errands, {})

    def test_no_more_than_so_many_wait(self) -> None:
        wires = [self.ask("/dir/assign") for _ in range(4)]
        answer = self.answer_of(wires[3])
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
        self.assertIn("3 requests wait", answer.json["error"])
        self.sent(3).done.callback(said())
        self.answer_of(wires[2])
        self.ask("/dir/assign")
        self.sent(4)


class LookingForALeaderTests(ForwardTestCase):
    def test_a_leader_is_waited_for(self) -> None:
        self.cluster.follow(None)
        wire = self.ask("/dir/assign")
        self.wait(1.0)
        self.cluster.follow("m3:9333")
        self.assertEqual(self.sent().address, "m3:9333")
        self.sent().done.callback(said())
        self.assertEqual(self.answer_of(wire).status, 200)

    def test_this_master_may_become_it(self) -> None:
        self.cluster.follow(None)
        wire = self.ask("/dir/assign?count=2")
        self.cluster.lead(lease=False)
        self.assertEqual(self.hops.sent, [])  # not to itself
        self.assertEqual(self.answers(wire), [])
        self.cluster.ledger.is_leader = True  # without a word
        self.wait(MOST_PAUSE + 0.05)
        self.assertEqual(self.answer_of(wire).json["at"], "m1:9333")

    def test_nothing_is_sent_to_an_address_that_is_our_own(self) -> None:
        self.cluster.follow("m1:9333")
        wire = self.ask("/dir/assign")
        self.wait(PATIENCE + 0.05)
        self.assertEqual(self.hops.sent, [])
        self.assertEqual(self.answer_of(wire).status, 503)

    def test_not_for_ever(self) -> None:
        self.cluster.follow(None)
        wire = self.ask("/dir/assign")
        self.wait(PATIENCE - 0.05)
        self.assertEqual(self.answers(wire), [])
        self.wait(0.1)
        answer = self.answer_of(wire)
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
        self.assertEqual(answer.json["error"], "no master leads now: 1 of 3 masters can be reached")
        self.assertEqual(self.forwarder._held, 0)

    def test_a_leader_that_cannot_be_reached_is_tried_again_for_nothing_arrived_there(self) -> None:
        wire = self.ask("/dir/assign")
        self.sent().done.errback(Unreachable("m2:9333", "refused"))
        self.assertEqual(len(self.hops.sent), 1)  # after a pause
        self.wait(0.05)
        self.sent(2).done.errback(Unreachable("m2:9333", "refused"))
        self.cluster.follow("m3:9333")
        self.assertEqual(self.sent(3).address, "m3:9333")
        self.sent(3).done.callback(said())
        self.assertEqual(self.answer_of(wire).status, 200)

    def test_and_given_up_in_the_end_with_the_reason(self) -> None:
        with capturedLogs() as logged:
            for wires in ([self.ask("/dir/assign"), self.ask("/dir/assign")],):
                for _ in range(round(PATIENCE / 0.0125) + 2):
                    for errand in self.hops.sent:
                        if not errand.done.called:
                            errand.done.errback(Unreachable("m2:9333", "refused"))
                    self.clock.advance(0.0125)
                for wire in wires:
                    answer = self.answer_of(wire)
                    self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
                    self.assertIn("cannot be reached: m2:9333: refused", answer.json["error"])
        self.assertLess(len(self.hops.sent), 2 * 16)
        self.assertEqual([errand.connect_within for errand in self.hops.sent[:2]], [1.0, 1.0])
        self.assertLess(self.hops.sent[-1].connect_within, MOST_PAUSE)  # what is left
        told = [formatEvent(event) or "" for event in logged]
        self.assertEqual(len([line for line in told if "refused" in line]), 1, told)  # not once for each request

    def test_one_that_says_it_does_not_lead(self) -> None:
        wire = self.ask("/dir/assign")
        self.sent().done.callback(NOT_ME)
        self.wait(0.05)
        self.sent(2).done.callback(NOT_ME)
        self.cluster.follow("m3:9333")
        self.sent(3).done.callback(NOT_ME)
        self.wait(PATIENCE)
        self.hops.sent[-1].done.callback(NOT_ME)
        answer = self.answer_of(wire)
        self.assertIn("m3:9333, which should lead, says that it does not", answer.json["error"])
        self.assertNotIn(NOT_LEADER.decode().lower(), answer.headers)

    def test_a_503_of_the_leader_is_its_answer(self) -> None:
        wire = self.ask("/dir/assign")
        self.sent().done.callback(said(503, b'{"error":"growing"}', Retry_After="3"))
        self.assertEqual(self.answer_of(wire).json, {"error": "growing"})
        self.sent(1)


class NeverTwiceTests(ForwardTestCase):
    def test_what_may_have_been_done_is_not_sent_again(self) -> None:
        for target in ("/vol/grow", "/dir/assign", "/col/delete"):
            self.hops.sent.clear()
            wire = self.ask(target)
            self.sent().done.errback(PeerError("m2:9333", "Connection was closed cleanly"))
            answer = self.answer_of(wire)
            self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
            self.assertIn("may or may not have been carried out: m2:9333: Connection was", answer.json["error"])
            self.cluster.follow("m3:9333")
            self.wait(PATIENCE)
            self.sent(1)
            self.cluster.follow("m2:9333")

    def test_when_another_leads_the_old_one_gets_little_time(self) -> None:
        self.ask("/dir/assign")
        self.ask("/vol/grow")
        assign, grow = self.hops.sent
        self.cluster.changes.announce()
        self.cluster.follow(None)
        self.assertEqual(assign.hurried, [])  # it may yet go on leading
        self.cluster.follow("m3:9333")
        self.assertEqual(assign.hurried, [(0.1, "it was silent, and m3:9333 leads now")])
        self.assertEqual(grow.hurried, [(5.0, "it was silent, and m3:9333 leads now")])
        assign.done.callback(said())
        self.cluster.lead()
        self.assertEqual(len(assign.hurried), 1)
        self.assertEqual(grow.hurried[1:], [(5.0, "it was silent, and m1:9333 leads now")])
        grow.done.callback(said())
        self.wait(1.1)
        self.assertIsNone(self.forwarder._following)

    def test_a_change_that_nobody_announced_is_noticed(self) -> None:
        self.ask("/vol/grow")
        self.cluster.ledger.leader_address = "m3:9333"
        self.wait(1.1)
        self.assertEqual(len(self.sent().hurried), 1)

    def test_closing(self) -> None:
        self.ask("/vol/grow")
        self.successResultOf(Deferred.fromCoroutine(self.forwarder.close()))
        self.assertIsNone(self.forwarder._following)
        self.cluster.follow("m3:9333")
        self.assertEqual(self.sent().hurried, [])


class DeposedTests(ForwardTestCase):
    """The lead is lost while a request is being answered here."""

    def setUp(self) -> None:
        super().setUp()
        self.cluster.lead()
        self.api.deposed = lambda: self.cluster.follow("m3:9333")

    def test_the_successor_is_asked_for_an_id(self) -> None:
        wire = self.ask("/dir/assign?count=3")
        self.assertEqual((self.sent().address, self.sent().question.target), ("m3:9333", b"/dir/assign?count=3"))
        self.sent().done.callback(said(200, b'{"fid":"7,1"}'))
        self.assertEqual(self.answer_of(wire).json, {"fid": "7,1"})

    def test_or_this_master_again_when_it_leads_by_then(self) -> None:
        self.api.deposed = lambda: self.cluster.follow(None)
        wire = self.ask("/dir/assign")
        self.assertEqual(self.answers(wire), [])
        self.cluster.lead()
        self.wait(0.05)
        self.assertEqual(self.answer_of(wire).json["at"], "m1:9333")
        self.assertEqual(len(self.api.asked), 2)

    def test_not_for_ever(self) -> None:
        def deposed() -> None:
            self.api.deposed = deposed

        self.api.deposed = deposed
        answer = self.answer_of(self.ask("/dir/assign"))
        self.assertEqual((answer.status, answer.json["error"]), (503, "this master does not lead any more"))
        self.assertEqual(len(self.api.asked), 2)

    def test_whoever_passed_it_on_looks_for_the_successor(self) -> None:
        answer = self.answer_of(self.ask("/dir/assign", headers=OURS))
        self.assertEqual(answer.status, 503)
        self.assertIn(NOT_LEADER.decode().lower(), answer.headers)
        self.assertEqual(self.hops.sent, [])

    def test_what_may_be_half_done_is_not_done_again(self) -> None:
        for headers in ("", OURS):
            self.cluster.lead()
            self.api.deposed = lambda: self.cluster.follow("m3:9333")
            answer = self.answer_of(self.ask("/vol/grow", headers=headers))
            self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
            self.assertNotIn(NOT_LEADER.decode().lower(), answer.headers)
        self.assertEqual(self.hops.sent, [])


class MarkedTests(ForwardTestCase):
    def refusal(self, wire: Wire) -> str:
        answer = self.answer_of(wire)
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
        self.assertIn(NOT_LEADER.decode().lower(), answer.headers)
        self.assertEqual(self.hops.sent, [])
        self.assertEqual(self.api.asked, [])
        return str(answer.json["error"])

    def test_the_leader_answers(self) -> None:
        self.cluster.lead()
        self.assertEqual(self.answer_of(self.ask("/dir/assign", headers=OURS)).status, 200)

    def test_nobody_else_does_or_passes_it_on_again(self) -> None:
        self.assertEqual(
            self.refusal(self.ask("/dir/assign", headers=OURS)), "this master does not lead; m2:9333 does"
        )
        self.cluster.follow(None)
        self.assertIn("1 of 3 masters", self.refusal(self.ask("/dir/assign", headers=OURS)))

    def test_one_that_was_elected_waits_for_its_lease(self) -> None:
        self.cluster.lead(lease=False)
        wire = self.ask("/dir/assign", headers=OURS)
        self.wait(HOLD / 2)
        self.assertEqual(self.answers(wire), [])
        self.cluster.ledger.is_leader = True
        self.wait(0.05)
        self.assertEqual(self.answer_of(wire).json["at"], "m1:9333")

    def test_but_not_for_long(self) -> None:
        self.cluster.lead(lease=False)
        wire = self.ask("/dir/assign", headers=OURS)
        self.wait(HOLD + 0.05)
        self.refusal(wire)
        wire = self.ask("/dir/assign", headers=OURS)
        self.cluster.follow("m3:9333")
        self.assertEqual(self.refusal(wire), "this master does not lead; m3:9333 does")

    def test_a_leader_that_has_given_its_lease_away_asks_the_majority(self) -> None:
        self.cluster.lead(lease=False)
        self.cluster.ledger.has_majority = True
        for headers in (OURS, ""):
            wire = self.ask("/dir/assign", headers=headers)
            self.assertEqual(self.answer_of(wire).json["at"], "m1:9333")

    def test_the_leader_of_another_cluster_wants_nothing_of_it(self) -> None:
        self.cluster.lead()
        for mark in ("cluster-2 node-of-m3", "", "cluster-1x"):
            reason = self.refusal(self.ask("/dir/assign", headers=f"X-Weedtw-Forwarded: {mark}\r\n"))
            self.assertIn("another cluster", reason)
