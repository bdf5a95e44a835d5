"""What a master says of its cluster, and what it makes of what others say."""

import json
from typing import Any

from twisted.internet.defer import Deferred

from tests.master.council import CLUSTER, Council, CouncilTest
from weedtw.errors import PeerError
from weedtw.master.beliefs import ask, ask_all, own_beliefs
from weedtw.master.consensus import RaftLedger


class Asked:
    """Takes the place of a PeerAgent; a master that is not there does not answer."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def get_json(self, address: str, path: str, **_: object) -> Any:
        assert path == "/cluster/members"
        if address not in self.answers:
            raise PeerError(address, "connection refused")
        return self.answers[address]


class OwnTests(CouncilTest):
    def test_before_there_is_a_cluster(self) -> None:
        told = own_beliefs(RaftLedger("node-a"), "a:9333", "2 are needed", {"list": ["a:9333"], "ballot": 3})
        self.assertEqual((told["role"], told["cluster"], told["node"]), ("JOINING", "", "node-a"))
        self.assertEqual((told["reason"], told["founding"]), ("2 are needed", {"list": ["a:9333"], "ballot": 3}))
        self.assertEqual((told["members"], told["hasLease"], told["leader"], told["term"]), ([], False, "", 0))
        member = own_beliefs(Council("a")["a"].ledger, "a:9333", "", None)
        self.assertEqual(told.keys(), member.keys())

    def test_the_leader_knows_how_the_others_are(self) -> None:
        council = Council("abc")
        leader = council.leader()
        dead, alive = council.followers()
        dead.kill()
        council.run(3)
        told = json.loads(json.dumps(own_beliefs(leader.ledger, leader.address, "", None)))
        self.assertEqual((told["role"], told["hasLease"], told["cluster"]), ("LEADER", True, CLUSTER))
        self.assertEqual((told["leader"], told["leaderAddress"]), (leader.id, leader.address))
        rows = {row["node"]: row for row in told["members"]}
        self.assertEqual([row["address"] for row in told["members"]], ["a:9333", "b:9333", "c:9333"])
        itself = {"address": leader.address, "voter": True, "connected": True, "lastContact": None, "match": None}
        self.assertEqual(rows[leader.id], {"node": leader.id, **itself})
        self.assertTrue(rows[alive.id]["connected"])
        self.assertLess(rows[alive.id]["lastContact"], 0.5)
        self.assertEqual(rows[alive.id]["match"], told["lastIndex"])
        self.assertFalse(rows[dead.id]["connected"])
        self.assertGreater(rows[dead.id]["lastContact"], 2.5)

    def test_a_follower_knows_whom_it_follows(self) -> None:
        council = Council("abc")
        leader, follower = council.leader(), council.followers()[0]
        told = own_beliefs(follower.ledger, follower.address, "", None)
        self.assertEqual((told["role"], told["hasLease"]), ("FOLLOWER", False))
        self.assertEqual((told["leader"], told["leaderAddress"]), (leader.id, leader.address))
        self.assertEqual({(row["lastContact"], row["match"]) for row in told["members"]}, {(None, None)})


class AskingTests(CouncilTest):
    def test_what_a_master_says_is_what_is_understood(self) -> None:
        council = Council("abc")
        leader = council.leader()
        council.run(1)
        peers: Any = Asked(x=own_beliefs(leader.ledger, leader.address, "", None))
        belief = self.successResultOf(Deferred.fromCoroutine(ask(peers, "x")))
        self.assertEqual((belief.asked, belief.address, belief.node), ("x", leader.address, leader.id))
        self.assertEqual((belief.cluster, belief.leads), (CLUSTER, True))
        self.assertEqual(belief.members, {"node-a", "node-b", "node-c"})
        self.assertEqual(belief.reached["node-b"], "b:9333")

    def test_whoever_says_something_else_is_no_master(self) -> None:
        good = own_beliefs(Council("a")["a"].ledger, "a:9333", "", None)
        for wrong in (
            {"cluster": None},
            {"node": 7},
            {"address": "x" * 1000},
            {"members": 7},
            {"members": [7]},
            {"members": [{"node": None}]},
            {"founding": {"ballot": "many"}},
            {"term": float("inf")},
        ):
            peers: Any = Asked(x=good | wrong)
            failure = self.failureResultOf(Deferred.fromCoroutine(ask(peers, "x")), PeerError)
            self.assertIn("does not answer as a master of weedtw does", str(failure.value))

    def test_asking_around(self) -> None:
        good = own_beliefs(Council("a")["a"].ledger, "a:9333", "", None)
        peers: Any = Asked(x=good, y={}, z=good)
        beliefs = self.successResultOf(Deferred.fromCoroutine(ask_all(peers, ["w", "x", "x", "y"])))
        self.assertEqual([belief.asked for belief in beliefs], ["x"])
