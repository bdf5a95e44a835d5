"""The endpoints of a master that does not lead: what it answers itself, and what it passes on."""

import random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.master.follower import Hops, Ledger
from tests.master.scene import volume
from weedtw.config.model import MasterConfig
from weedtw.config.security import NO_SECURITY
from weedtw.formats.beat import Full
from weedtw.http.channel import make_site
from weedtw.http.guard import WhiteList
from weedtw.http.testing import Answer, Wire
from weedtw.http.tokens import Tokens
from weedtw.master.api import MasterApi
from weedtw.master.cluster import Cluster
from weedtw.master.clusterapi import ClusterApi
from weedtw.master.collection import Collections
from weedtw.master.flight import Changes
from weedtw.master.forward import Forwarder
from weedtw.master.members import Members
from weedtw.master.outlook import Outlook
from weedtw.master.pages import Overview
from weedtw.topology.server import Server
from weedtw.topology.tree import Topology

LED = (
    ("GET", "/dir/assign?count=2"),
    ("PUT", "/dir/assign?replication=xyz"),  # the leader says what is wrong with it
    ("POST", "/submit"),
    ("GET", "/vol/grow?count=1"),
    ("GET", "/vol/vacuum"),
    ("DELETE", "/col/delete?collection=pics"),
    ("POST", "/cluster/forget?server=v1:8080"),
    ("POST", "/cluster/join?node=n&address=m4:9333"),
    ("POST", "/cluster/add?address=m4:9333"),
    ("POST", "/cluster/remove?node=n"),
    ("POST", "/cluster/rename?node=n&address=m4:9333"),
    ("POST", "/cluster/transfer"),
)
OWN = {
    "/dir/status": 200,
    "/vol/status": 200,
    "/collection/info?collection=pics": 400,
    "/cluster/status": 200,
    "/cluster/healthz": 200,
    "/healthz": 200,
    "/": 200,
    "/favicon.ico": 200,
}


class FollowerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(leader_address="m2:9333")
        self.hops = Hops()
        unused: Any = None
        double: Any = self.ledger
        self.cluster = Cluster(
            config=MasterConfig(),
            address="m1:9333",
            ledger=double,
            keys=unused,
            topology=Topology(1 << 30),
            peers=unused,
            clock=self.clock,
            now=self.clock.seconds,
            rng=random.Random(1),
            changes=Changes(self.clock),
            born=-3600.0,
        )
        hops: Any = self.hops
        forwarder = Forwarder(self.cluster, hops)
        masters = ClusterApi(
            self.cluster, double, unused, Members(double, unused, self.clock), forwarder, WhiteList()
        )
        collections = Collections(self.cluster, unused)
        overview = Overview(self.cluster, Outlook(unused, self.clock, list), dict, forwarder.standing, dict)
        api = MasterApi(
            *(self.cluster, unused, unused, unused, collections, unused, forwarder, WhiteList(), masters, unused),
            Tokens(NO_SECURITY, self.clock.seconds),
            overview,
        )
        self.site = make_site(api.app.resource(), reactor=self.clock, body_limit=1000, admission=api.admit)

    def ask(self, method: str, target: str) -> list[Answer]:
        wire = Wire(self.site)
        wire.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return wire.answers(method)

    def test_what_the_leader_has_to_answer(self) -> None:
        for method, target in LED:
            self.assertEqual(self.ask(method, target), [], target)
            question = self.hops.sent.pop().question
            self.assertEqual((question.method, question.target), (method.encode(), target.encode()))
        self.assertEqual(self.hops.sent, [])

    def test_what_every_master_answers_whoever_leads(self) -> None:
        for leader in ("m2:9333", None):
            self.ledger.leader_address = leader
            for target, status in OWN.items():
                [answer] = self.ask("GET", target)
                self.assertEqual(answer.status, status, (target, answer.body))
        self.assertEqual(self.hops.sent, [])

    def test_whether_it_is_healthy_is_not_waited_for(self) -> None:
        """Not for a leader, a disk, or another master: the answer is there before any time has passed."""
        for leader in ("m2:9333", None):
            self.ledger.leader_address = leader
            for target in ("/cluster/status", "/cluster/healthz", "/healthz", "/readyz"):
                for method in ("GET", "HEAD"):
                    self.assertEqual(len(self.ask(method, target)), 1, (leader, target))
        self.assertEqual(self.clock.seconds(), 0)
        self.assertEqual(self.hops.sent, [])

    def test_where_a_volume_is_needs_no_leader(self) -> None:
        server = Server("v1:8080", "v1:8080", "dc1", "r1")
        self.cluster.topology.join(server)
        self.cluster.topology.apply_full(server, [Full(1, 1, 1, (volume(3),), 10, 0, (), 0)])
        for leader in ("m2:9333", None):
            self.ledger.leader_address = leader
            [answer] = self.ask("GET", "/dir/lookup?volumeId=3")
            self.assertEqual(
                answer.json["locations"], [{"url": "v1:8080", "publicUrl": "v1:8080", "dataCenter": "dc1"}]
            )
        self.assertEqual(self.hops.sent, [])

    def test_of_a_volume_that_is_not_known_here_the_leader_hears_first(self) -> None:
        for target in ("/dir/lookup?volumeId=3", "/3,01637037d6"):
            self.assertEqual(self.ask("GET", target), [])
            self.assertEqual(self.hops.sent.pop().question.target, target.encode())

    def test_while_nobody_leads_it_may_be_there_all_the_same(self) -> None:
        self.ledger.leader_address = None
        for target in ("/dir/lookup?volumeId=3", "/3,01637037d6"):
            wire = Wire(self.site)
            wire.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            self.clock.pump([0.1] * 30)
            wire.pump()
            [answer] = wire.answers("GET")
            self.assertEqual(answer.status, 503)
        self.assertEqual(self.hops.sent, [])

    def test_who_leads(self) -> None:
        [answer] = self.ask("GET", "/cluster/status")
        self.assertEqual(answer.json, {"IsLeader": False, "Leader": "m2:9333", "Peers": ["m2:9333", "m3:9333"]})

    def test_ready_is_who_leads_or_knows_who_does(self) -> None:
        for lead, lease, leader, status in (
            (False, False, "m2:9333", 200),
            (False, False, None, 503),
            (True, False, "m1:9333", 503),
            (True, True, "m1:9333", 200),
        ):
            self.ledger.has_lead, self.ledger.is_leader, self.ledger.leader_address = lead, lease, leader
            [answer] = self.ask("GET", "/readyz")
            self.assertEqual(answer.status, status)
        self.ledger.has_lead, self.ledger.is_leader, self.ledger.leader_address = False, False, None
        [answer] = self.ask("GET", "/readyz")
        self.assertEqual((answer.json, answer.headers["retry-after"]), ({"error": "no master leads now"}, "1"))
