"""The master's page: who leads, what each master believes, where volumes lie and how they are."""

import re
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import LIMIT, Scene, volume
from weedtw.errors import PeerError
from weedtw.http.pages import Page
from weedtw.master.outlook import FRESH, PATIENCE, Outlook
from weedtw.master.pages import Overview
from weedtw.master.survey import MOST_SHOWN, Survey
from weedtw.topology.state import RegisterServer

EVIL = "<b>evil</b>"
OTHERS = ["m2:9333", "m3:9333"]
_TAG = re.compile(r"<[^>]+>")


def belief(address: str, **more: Any) -> dict[str, Any]:
    """What the master at an address tells, as /cluster/members has it; m:9333 leads."""
    contact = {"m:9333": None, "m2:9333": 0.02, "m3:9333": 7.5}
    members = [
        {"node": f"n-{each}", "address": each, "voter": True, "connected": True, "lastContact": since, "match": 7}
        for each, since in contact.items()
    ]
    told = {"role": "LEADER" if address == "m:9333" else "FOLLOWER", "hasLease": address == "m:9333", "term": 4}
    return {
        "node": f"n-{address}",
        "address": address,
        "leader": "n-m:9333",
        "leaderAddress": "m:9333",
        "lastIndex": 71,
        "commit": 70,
        "applied": 69,
        "members": members,
        **told,
        **more,
    }


@attrs.define(eq=False)
class Others:
    """Takes the place of a PeerAgent; who has no answer keeps those waiting who ask."""

    answers: dict[str, dict[str, Any] | PeerError]
    asked: list[str] = attrs.Factory(list)
    waiting: dict[str, Deferred[dict[str, Any]]] = attrs.Factory(dict)

    async def get_json(self, address: str, path: str, **_: Any) -> dict[str, Any]:
        assert path == "/cluster/members"
        self.asked.append(address)
        answer = self.answers.get(address)
        if answer is None:
            self.waiting[address] = Deferred()
            return await self.waiting[address]
        if isinstance(answer, PeerError):
            raise answer
        return answer


class Pages(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()
        self.own: dict[str, Any] = {}
        self.ages: Mapping[str, float] = {}
        self.others = Others({address: belief(address) for address in OTHERS})
        self.outlook = Outlook(self.others, self.scene.clock, lambda: OTHERS)  # type: ignore[arg-type]
        self.overview = Overview(
            self.scene.cluster,
            self.outlook,
            lambda: belief("m:9333", **self.own),
            lambda: f"nobody was {EVIL} elected",
            lambda: self.ages,
        )

    def page(self) -> Page:
        found: list[Page] = []
        Deferred.fromCoroutine(self.overview.page()).addCallback(found.append)
        if not found:
            self.scene.clock.advance(PATIENCE)
        [page] = found
        return page

    def text(self) -> str:
        """What can be read."""
        shown = self.page().render_middle().decode()
        self.assertNotIn(EVIL, shown)
        return " ".join(_TAG.sub(" ", shown).split())

    # -------------------------------------------------------------- who leads

    def test_who_leads(self) -> None:
        page = self.page()
        self.assertEqual(page.level, "good")
        self.assertIn("m:9333 leads in term 4.", self.text())
        self.assertEqual((page.title, page.subtitle), ("weedtw master", "m:9333"))
        self.assertEqual(page.as_of, "2023-11-14 22:13:20 UTC")

    def test_nobody_leads(self) -> None:
        self.scene.ledger.lose_lead()
        self.assertEqual(self.page().level, "bad")
        self.assertIn("No leader: nobody was &lt;b&gt;evil&lt;/b&gt; elected.", self.text())

    def test_a_leader_without_a_lease(self) -> None:
        self.scene.ledger.has_lease = False
        self.assertEqual(self.page().level, "warn")
        self.assertIn("has no lease yet", self.text())

    def test_a_master_that_has_stopped(self) -> None:
        self.own = {"failed": f"the disk {EVIL}"}
        self.assertEqual(self.page().level, "bad")
        self.assertIn("takes no part in decisions any more: the disk &lt;b&gt;", self.text())

    # -------------------------------------------------------------- what each believes

    def test_what_each_master_believes(self) -> None:
        text = self.text()
        self.assertIn("m:9333 leader 4 m:9333 leads 71 70 69 this page", text)
        self.assertIn("m2:9333 follower 4 m:9333 0.02 s ago 71 70 69 0.0 s ago", text)
        self.assertIn('<span class="mark bad">7.50 s ago</span>', self.page().render_middle().decode())

    def test_a_master_that_believes_something_else(self) -> None:
        self.others.answers["m2:9333"] = belief("m2:9333", leaderAddress="m3:9333", role="PRE_CANDIDATE", term=3)
        shown = self.page().render_middle().decode()
        self.assertIn('<span class="mark warn" title="m:9333 says that it leads in term 4">m3:9333</span>', shown)
        self.assertIn("pre-candidate", shown)

    def test_a_silent_master_is_shown_as_it_was(self) -> None:
        self.page()
        self.scene.clock.advance(5)
        self.others.answers["m3:9333"] = PeerError("m3:9333", f"it is {EVIL}")
        text = self.text()
        self.assertIn("Masters that do not answer: m3:9333.", text)
        self.assertIn("m3:9333 silent 4 it is &lt;b&gt;evil&lt;/b&gt; 71 70 69 5 s ago", text)

    def test_a_master_that_never_answered(self) -> None:
        self.others.answers["m3:9333"] = PeerError("m3:9333", "refused")
        self.assertIn("m3:9333 silent ? refused ? ? ? never", self.text())

    def test_nobody_waits_long_for_a_master_that_hangs(self) -> None:
        del self.others.answers["m3:9333"]
        self.assertIn("m3:9333 asked", self.text())
        self.scene.clock.advance(FRESH)
        self.assertIn("m3:9333 asked", self.text())
        self.assertEqual(self.others.asked.count("m3:9333"), 1)  # it is asked still
        self.others.waiting["m3:9333"].callback(belief("m3:9333"))
        self.assertIn("m3:9333 follower", self.text())

    def test_somebody_who_leaves_while_it_is_made(self) -> None:
        del self.others.answers["m3:9333"]
        leaving = Deferred.fromCoroutine(self.overview.page())
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.scene.clock.advance(PATIENCE)
        self.others.waiting["m3:9333"].callback(belief("m3:9333"))
        self.assertIn("m3:9333 follower", self.text())

    def test_many_who_look_ask_once(self) -> None:
        for _ in range(5):
            self.page()
        self.assertEqual(sorted(self.others.asked), OTHERS)
        self.scene.clock.advance(FRESH)
        self.page()
        self.assertEqual(len(self.others.asked), 4)

    def test_an_answer_that_is_none(self) -> None:
        self.others.answers["m2:9333"] = {"members": 7}
        self.assertIn("m2:9333 silent ? does not answer as a master of weedtw does", self.text())

    # -------------------------------------------------------------- servers and volumes

    def test_servers_by_place(self) -> None:
        self.scene.join("b:1", "dc2", "r1", room=7)
        self.scene.join("a:1", "dc1", "r1", holds=(volume(1, size=2048, file_count=5, delete_count=2),))
        self.ages = {"a:1": 0.5, "b:1": 700.0}
        text = self.text()
        self.assertIn("dc1 r1 a:1 0.5 s ago 1 of 10 3 2.0 KiB", text)
        self.assertLess(text.index("dc1 r1 a:1"), text.index("dc2 r1 b:1"))
        self.assertIn('<span class="mark warn">700.0 s ago</span>', self.page().render_middle().decode())

    def test_servers_that_are_away(self) -> None:
        self.scene.join("a:1")
        self.scene.submit(RegisterServer("away:1", "away:1", EVIL, "r9", ("uuid",)))
        text = self.text()
        self.assertIn("Volume servers that are not connected: away:1.", text)
        self.assertIn("&lt;b&gt;evil&lt;/b&gt; r9 away:1 not connected", text)
        self.assertIn("Volume servers 1 of 2", text)

    def test_volumes_in_need_of_a_look(self) -> None:
        self.scene.join(
            "a:1",
            holds=(
                volume(1, collection=EVIL),
                volume(2, copies="001"),
                volume(3, read_only=True, reason=f"the disk is {EVIL}"),
                volume(4, size=int(LIMIT * 0.95)),
                volume(5, size=LIMIT),
            ),
        )
        text = self.text()
        for said in (
            "1 volume with copies missing",
            "2 · 1 of 2 copies",
            "3 · read-only",
            "4 · crowded",
            "5 · full",
            "2 (default) 1 of 2 copies a:1",
            "3 (default) read-only: the disk is &lt;b&gt;evil&lt;/b&gt; a:1",
            "&lt;b&gt;evil&lt;/b&gt; 000",
        ):
            self.assertIn(said, text)

    def test_volumes_that_are_well_need_no_look(self) -> None:
        self.scene.join("a:1", holds=(volume(1),))
        self.assertNotIn("Volumes to look at", self.text())

    def test_quarantined_volumes(self) -> None:
        self.scene.join("a:1", holds=(volume(1),))
        self.scene.join("c:1", holds=(volume(1),))
        self.assertIn("Quarantined volumes", self.text())

    def test_of_many_volumes_those_in_need_come_first(self) -> None:
        many = [volume(number) for number in range(1, 300)]
        self.scene.join("a:1", holds=(*many, volume(300, read_only=True)))
        text = self.text()
        self.assertIn("300 · read-only 1 2 3", text)
        self.assertIn(f"and {300 - MOST_SHOWN} more", text)


class Surveys(SynchronousTestCase):
    def test_a_long_survey_lets_others_work(self) -> None:
        scene = Scene()
        scene.join("a:1", holds=tuple(volume(number, file_count=1) for number in range(1, 2502)))
        survey = Survey(scene.topology, scene.clock)
        found: list[Any] = []
        looking = Deferred.fromCoroutine(survey.look()).addCallback(found.append)
        self.assertEqual(found, [])
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(survey.look())), [])  # what there is so far
        scene.clock.pump([0, 0])
        self.successResultOf(looking)
        [[kind]] = found
        self.assertEqual((kind.count, kind.files), (2501, 2501))

    def test_volumes_that_go_meanwhile(self) -> None:
        scene = Scene()
        server = scene.join("a:1", holds=tuple(volume(number) for number in range(1, 1502)))
        survey = Survey(scene.topology, scene.clock)
        looking = Deferred.fromCoroutine(survey.look())
        scene.leave(server)
        scene.clock.pump([0])
        [kind] = self.successResultOf(looking)
        self.assertEqual((kind.count, kind.writable), (1000, 0))
