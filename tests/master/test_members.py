"""Changing who belongs to the cluster, and who leads it."""

from twisted.internet.defer import Deferred

from tests.master.council import Council, CouncilTest, Master
from weedtw.errors import BadRequest, PeerError, Unavailable
from weedtw.master.members import check_reach
from weedtw.raft.interface import Timing
from weedtw.topology.state import RaiseKeys


def voters(master: Master) -> set[str]:
    """The ids of those whose vote counts, as a master believes."""
    return set(master.node.core.log.membership.voters)


def addresses(master: Master) -> dict[str, str]:
    return {id_: member.address for id_, member in master.node.core.log.membership.members.items()}


class JoiningTests(CouncilTest):
    def test_a_newcomer_fetches_the_log_and_then_gets_its_vote(self) -> None:
        council = Council("abc")
        leader = council.leader()
        self.ask(council, leader.ledger.submit(RaiseKeys(500)))
        answer = self.ask(council, leader.members.join("node-d", "d:9333"))
        self.assertEqual(answer["cluster"], leader.ledger.cluster_id)
        self.assertEqual(answer["node"], "node-d")
        # No snapshot was made so far: the newcomer has to begin as the founders did.
        founders = {f"node-{name}": {"address": f"{name}:9333", "voter": True} for name in "abc"}
        self.assertEqual(answer["beginning"], founders)
        self.assertNotIn("node-d", voters(leader))
        council.newcomer("d")
        council.until(lambda: "node-d" in voters(leader))
        council.until(lambda: council["d"].ledger.state.key_high_water == 500)
        council.until(lambda: council["d"].ledger.masters == ("a:9333", "b:9333", "c:9333", "d:9333"))

    def test_asking_twice_is_asking_once(self) -> None:
        council = Council("ab")
        leader = council.leader()
        works = [Deferred.fromCoroutine(leader.members.join("node-c", "c:9333")) for _ in range(3)]
        council.until(lambda: all(work.called for work in works))
        self.assertEqual(len({str(self.successResultOf(work)) for work in works}), 1)
        council.newcomer("c")
        council.until(lambda: "node-c" in voters(leader))
        self.ask(council, leader.members.join("node-c", "c:9333"))
        self.assertIn("node-c", voters(leader))

    def test_who_never_comes_gets_no_vote(self) -> None:
        council = Council("a")
        leader = council.leader()
        self.ask(council, leader.members.join("node-b", "b:9333"))
        council.run(5)
        self.assertEqual(voters(leader), {"node-a"})
        self.ask(council, leader.ledger.submit(RaiseKeys(3)))  # nobody waits for it

    def test_who_is_a_member_by_birth_is_told_by_anybody(self) -> None:
        council = Council("abc")
        leader, follower = council.leader(), council.followers()[0]
        told = follower.members.by_birth("node-c")
        assert told is not None
        self.assertEqual(
            (told["cluster"], set(told["beginning"])), (leader.ledger.cluster_id, {"node-a", "node-b", "node-c"})
        )
        self.assertIsNone(follower.members.by_birth("node-x"))
        gone = next(each for each in council.followers() if each is not follower)
        self.ask(council, leader.members.remove(gone.id))
        council.until(lambda: follower.members.by_birth(gone.id) is None)

    def test_what_is_in_a_snapshot_is_nobodys_birth(self) -> None:
        council = Council("a", timing=Timing(snapshot_every=2))
        for number in range(5):
            self.ask(council, council.leader().ledger.submit(RaiseKeys(number)))
        self.assertIsNone(council["a"].members.by_birth("node-a"))

    def test_a_lost_disk(self) -> None:
        """A new node comes to the address of one that does not answer any more, and takes its place."""
        council = Council("abc")
        leader = council.leader()
        lost = council.followers()[0]
        lost.kill()
        council.until(lambda: lost.id not in leader.node.status().connected)
        self.ask(council, leader.members.join("node-x", lost.address))
        self.assertEqual(set(addresses(leader)) & {lost.id, "node-x"}, {"node-x"})

    def test_the_address_of_a_member_that_is_there(self) -> None:
        council = Council("abc")
        leader = council.leader()
        for member in (leader, council.followers()[0]):
            reason = self.refusal(council, BadRequest, leader.members.join("node-x", member.address))
            self.assertIn(f"{member.address} is the address of node {member.id}", reason)
            self.assertIn("--port", reason)
        self.assertEqual(len(addresses(leader)), 3)

    def test_addresses_that_make_no_sense(self) -> None:
        council = Council("a")
        members = council.leader().members
        for address in ("nonsense", "d:0", "d:99999", ""):
            self.refusal(council, BadRequest, members.join("node-d", address))
        self.assertIn("--ip", self.refusal(council, BadRequest, members.join("node-d", "localhost:9334")))

    def test_a_follower_takes_nobody_in(self) -> None:
        council = Council("abc")
        members = council.followers()[0].members
        self.assertIn("was not changed", self.refusal(council, Unavailable, members.join("node-d", "d:9333")))


class ChangingTests(CouncilTest):
    def setUp(self) -> None:
        super().setUp()
        self.council = Council("abc")
        self.council.leader()

    def test_finding_a_member(self) -> None:
        members = self.council["a"].members
        for which in ("node-b", "b:9333", "B:9333"):
            self.assertEqual(members.find(which), "node-b")
        for which in ("node-x", "node", "nod", "d:9333", "b", "", "x" * 5000):
            with self.assertRaises(BadRequest) as caught:
                members.find(which)
            self.assertIn("node-b at b:9333", str(caught.exception))
            self.assertLess(len(str(caught.exception)), 400)

    def test_removing(self) -> None:
        council = self.council
        leader = council.leader()
        gone = council.followers()[0]
        self.ask(council, leader.members.remove(gone.address))
        self.assertEqual(len(addresses(leader)), 2)
        self.assertIn("is not the id", self.refusal(council, BadRequest, leader.members.remove(gone.address)))
        council.run(3)
        self.assertTrue(leader.ledger.is_leader)  # who was removed disturbs nobody

    def test_removing_the_leader(self) -> None:
        council = self.council
        former = council.leader()
        self.ask(council, former.members.remove(former.id))
        council.until(lambda: any(m.ledger.is_leader for m in council.masters.values() if m is not former))
        self.assertFalse(former.ledger.is_leader)

    def test_the_last_one_stays(self) -> None:
        council = Council("a")
        self.assertIn("last voter", self.refusal(council, BadRequest, council.leader().members.remove("node-a")))

    def test_down_to_one_and_up_again(self) -> None:
        council = self.council
        leader = council.leader()
        for follower in council.followers():
            self.ask(council, leader.members.remove(follower.id))
            follower.kill()
        self.ask(council, leader.ledger.submit(RaiseKeys(9)))
        for name in "de":
            self.ask(council, leader.members.join(f"node-{name}", f"{name}:9333"))
            council.newcomer(name)
            council.until(lambda n=name: f"node-{n}" in voters(leader))  # type: ignore[misc]
        self.assertEqual(council["e"].ledger.state.key_high_water, 9)

    def test_without_a_majority_nothing_is_changed(self) -> None:
        council = self.council
        leader = council.leader()
        for follower in council.followers():
            council.network.cut.add(follower.address)
        first = Deferred.fromCoroutine(leader.members.remove(council.followers()[0].id))
        second = Deferred.fromCoroutine(leader.members.rename(leader.id, "z:9333"))
        council.until(lambda: first.called and second.called)
        for work in (first, second):
            self.assertIn("the membership was not changed", str(self.failureResultOf(work, Unavailable).value))

    def test_renaming(self) -> None:
        council = self.council
        leader = council.leader()
        other = council.followers()[0]
        other.kill()
        self.ask(council, leader.members.rename(other.id, "z:9333"))
        self.assertEqual(addresses(leader)[other.id], "z:9333")
        self.assertIn("z:9333", leader.ledger.masters)
        for address in ("127.0.0.1:9333", "nonsense"):
            self.refusal(council, BadRequest, leader.members.rename(other.id, address))

    def test_handing_the_lead_over(self) -> None:
        council = self.council
        former = council.leader()
        heir = council.followers()[1]
        self.ask(council, former.members.transfer(heir.address))
        self.assertIs(council.leader(), heir)
        self.ask(council, heir.members.transfer(""))
        self.assertIsNot(council.leader(), heir)

    def test_handing_it_to_nobody(self) -> None:
        council = self.council
        leader = council.leader()
        self.assertIn("is not the id", self.refusal(council, BadRequest, leader.members.transfer("node-x")))
        self.refusal(council, BadRequest, leader.members.transfer(leader.id))
        follower = council.followers()[0]
        self.assertIn("does not lead", self.refusal(council, Unavailable, follower.members.transfer("")))
        for each in council.followers():
            each.kill()
        council.run(1.5)
        self.refusal(council, Unavailable, leader.members.transfer(""))

    def test_inviting(self) -> None:
        council = self.council
        leader = council.leader()
        self.ask(council, leader.members.add("d:9333"))
        told = {"masters": "a:9333,b:9333,c:9333", "cluster": leader.ledger.cluster_id}
        self.assertEqual(council.peers.asked, [("d:9333", "/cluster/invite", told)])
        council.peers.script("e:9333", "/cluster/invite", PeerError("e:9333", "belongs to cluster x already", 400))
        self.assertIn("already", self.refusal(council, PeerError, leader.members.add("e:9333")))
        self.refusal(council, BadRequest, leader.members.add("nonsense"))


class MovingTests(CouncilTest):
    def test_one_that_comes_back_elsewhere_is_known_by_its_id(self) -> None:
        council = Council("abc")
        leader = council.leader()
        moved = council.followers()[0]
        moved.kill()
        council.until(lambda: moved.id not in leader.node.status().connected)
        moved.move("z:9333")
        council.until(lambda: all("z:9333" in master.ledger.masters for master in council.masters.values()))
        council.until(lambda: addresses(leader)[moved.id] == "z:9333")
        self.assertEqual(voters(leader), {"node-a", "node-b", "node-c"})

    def test_the_leader_itself(self) -> None:
        council = Council("abc")
        moved = council.leader()
        moved.kill()
        council.until(lambda: council.leader() is not moved)
        moved.move("z:9333")
        council.until(lambda: addresses(council.leader())[moved.id] == "z:9333")
        self.assertEqual(voters(council.leader()), {"node-a", "node-b", "node-c"})

    def test_a_master_alone(self) -> None:
        council = Council("a")
        self.assertEqual(addresses(council.leader()), {"node-a": "a:9333"})
        council["a"].kill()
        council["a"].move("z:9333")
        council.until(lambda: addresses(council["a"]) == {"node-a": "z:9333"})
        self.assertIs(council.leader(), council["a"])


class ReachTests(CouncilTest):
    def test_loopback_goes_with_loopback_only(self) -> None:
        check_reach(set(), "localhost:9333")
        check_reach(set(), "10.0.0.1:9333")
        check_reach({"localhost:9333", "127.0.0.1:9334"}, "[::1]:9335")
        check_reach({"10.0.0.1:9333", "m.example:9333"}, "10.0.0.2:9333")
        for members, newcomer, named in (
            ({"10.0.0.1:9333"}, "localhost:9333", "the cluster has 10.0.0.1:9333"),
            ({"10.0.0.1:9333"}, "127.0.0.1:9333", "calls itself 127.0.0.1:9333"),
            ({"localhost:9333"}, "10.0.0.1:9333", "calls itself localhost:9333, which 10.0.0.1:9333 cannot reach"),
            ({"[::1]:9333"}, "m.example:9333", "calls itself [::1]:9333"),
        ):
            with self.assertRaises(BadRequest) as caught:
                check_reach(members, newcomer)
            self.assertIn(named, str(caught.exception))
            self.assertIn("--ip", str(caught.exception))
