"""The Raft paper's figure 2, "Rules for Servers", one test per claim; its other boxes are in `test_figure2`."""

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.solo import LONG, SETTINGS, Solo, entries
from weedtw.raft.messages import (
    Append,
    AppendReply,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    VoteReply,
    VoteRequest,
)


def appends(sent: list[Message]) -> list[Append]:
    return [message for message in sent if isinstance(message, Append)]


class AllServers(SynchronousTestCase):
    """Figure 2, "All Servers"."""

    def test_what_is_committed_is_applied_in_order(self) -> None:
        """While commitIndex is ahead of lastApplied, the next entry is applied."""
        node = Solo()
        node.append((0, 0), [1, 1, 1], term=1, commit=2)
        self.assertEqual(node.applied, list(entries([1, 1])))
        node.append((3, 1), [], term=1, commit=3)
        self.assertEqual(node.applied, list(entries([1, 1, 1])))

    def test_a_higher_term_makes_a_follower(self) -> None:
        """Any message of a higher term: the term is taken over, and every role becomes a follower."""
        for become in (Solo.lead, Solo.campaign, lambda node: node.tick(LONG)):
            for message in (
                Append("2", "1", 9, 0, 0, (), 0),
                Heartbeat("2", "1", 9, 0, 1),
                AppendReply("2", "1", 9, 0),
                HeartbeatReply("2", "1", 9, 0),
                VoteReply("2", "1", 9, granted=False),
            ):
                node = Solo()
                become(node)
                node.step(message)
                self.assertEqual((node.core.role.name, node.core.term), ("follower", 9), message)
                self.assertEqual(node.hard_state.term, 9)


class Followers(SynchronousTestCase):
    """Figure 2, "Followers"."""

    def test_a_server_begins_as_a_follower_that_asks_nobody(self) -> None:
        """Followers only respond."""
        node = Solo()
        self.assertEqual(node.core.role.name, "follower")
        self.assertEqual(node.tick(SETTINGS.election - 1), [])

    def test_without_a_leader_it_becomes_a_candidate(self) -> None:
        """When the election timeout passes with neither a leader's message nor a vote given."""
        node = Solo()
        node.tick(LONG)
        self.assertEqual(node.core.role.name, "pre-candidate")
        node.vote(granted=True, pre=True)
        self.assertEqual((node.core.role.name, node.core.term), ("candidate", 1))

    def test_a_leader_that_is_heard_keeps_it_from_it(self) -> None:
        """Every append and heartbeat of the current leader begins the election timeout anew."""
        node = Solo()
        for number in range(10):
            self.assertEqual([m for m in node.tick(SETTINGS.election - 1) if isinstance(m, VoteRequest)], [])
            node.beat(1, number=number) if number % 2 else node.append((0, 0), [], term=1)
        self.assertEqual(node.core.role.name, "follower")

    def test_so_does_a_vote_given(self) -> None:
        """A vote leaves the candidate an election timeout to win."""
        node = Solo()
        for term in range(1, 10):
            self.assertEqual(node.tick(SETTINGS.election - 1), [])
            node.step(VoteRequest("2", "1", term, 0, 0))
        self.assertEqual(node.core.role.name, "follower")

    def test_timeouts_are_random(self) -> None:
        """§5.2: chosen between the shortest and twice that, so that split votes are rare."""
        seen = set()
        for seed in range(300):
            node = Solo(seed=seed)
            ticks = 0
            while node.core.role.name == "follower":
                node.tick()
                ticks += 1
            seen.add(ticks)
        self.assertEqual(seen, set(range(SETTINGS.election, LONG)))


class Candidates(SynchronousTestCase):
    """Figure 2, "Candidates"."""

    def test_an_election_begins(self) -> None:
        """The term rises, the candidate votes for itself (on disk), and asks all the others."""
        node = Solo("12345", term=4)
        sent = node.campaign()
        self.assertEqual((node.hard_state.term, node.hard_state.vote), (5, "1"))
        self.assertEqual([(m.to, m.term) for m in sent], [("2", 5), ("3", 5), ("4", 5), ("5", 5)])

    def test_a_majority_of_votes_makes_the_leader(self) -> None:
        """Its own included; each voter counts once."""
        for voters, votes, role in (
            ("123", "2", "leader"),
            ("12345", "2", "candidate"),
            ("12345", "22", "candidate"),
            ("12345", "23", "leader"),
            ("1234", "2", "candidate"),
            ("1234", "42", "leader"),
            ("123", "99", "candidate"),
        ):
            node = Solo(voters)
            node.campaign()
            for voter in votes:
                node.step(VoteReply(voter, "1", 1, granted=True))
            self.assertEqual(node.core.role.name, role, (voters, votes))

    def test_refusals_make_nobody_the_leader(self) -> None:
        """A majority of them ends the candidacy early; the vote stays given."""
        node = Solo("12345")
        node.campaign()
        node.vote(granted=False)
        self.assertEqual((node.core.role.name, node.core.vote), ("follower", "1"))

    def test_a_new_leader_is_followed(self) -> None:
        """A leader of the same term has won this election."""
        for message in (Append("2", "1", 1, 0, 0, entries([1]), 0), Heartbeat("2", "1", 1, 0, 1)):
            node = Solo()
            node.campaign()
            node.step(message)
            self.assertEqual((node.core.role.name, node.core.leader), ("follower", "2"))

    def test_an_undecided_election_is_begun_again(self) -> None:
        """After an election timeout, in a new term (asked about first, as always)."""
        node = Solo()
        node.campaign()
        node.tick(LONG)
        self.assertEqual(node.core.role.name, "pre-candidate")
        node.vote(granted=True, pre=True)
        self.assertEqual((node.core.role.name, node.core.term), ("candidate", 2))


class Leaders(SynchronousTestCase):
    """Figure 2, "Leaders"."""

    def test_a_new_leader_says_so_at_once_and_then_again_and_again(self) -> None:
        """Heartbeats upon election, and in idle times often enough that nobody's election timeout passes."""
        node = Solo()
        sent = node.lead()
        self.assertEqual([m.to for m in sent if isinstance(m, Heartbeat)], ["2", "3"])
        for _ in range(4):
            sent = node.tick(SETTINGS.heartbeat)
            self.assertEqual([m.to for m in sent if isinstance(m, Heartbeat)], ["2", "3"])

    def test_a_command_is_answered_when_it_is_applied(self) -> None:
        """It goes into the leader's log first; the place that propose() names is applied when it is committed."""
        node = Solo()
        node.lead()
        places: list[tuple[int, int]] = []
        node.do(lambda core: places.append(core.propose(b"x")))
        self.assertEqual(places, [(2, 1)])
        self.assertEqual(node.storage.load().entries[-1].data, b"x")
        self.assertEqual(node.applied, [])
        node.acknowledge("2", 2)
        self.assertEqual(
            [(e.index, e.term, e.data) for e in node.applied if e.kind is EntryKind.COMMAND], [(2, 1, b"x")]
        )

    def test_what_a_follower_lacks_is_sent(self) -> None:
        """Everything from nextIndex on, as soon as there is something."""
        node = Solo()
        node.lead()
        node.acknowledge("2", 1)
        (append,) = appends(node.do(lambda core: (core.propose(b"x"), core.propose(b"y"))))
        self.assertEqual((append.to, append.prev_index, len(append.entries)), ("2", 1, 2))

    def test_an_acknowledgement_moves_both_indexes(self) -> None:
        """Success: nextIndex and matchIndex of that follower are raised."""
        node = Solo(log=[1, 1], term=1)
        node.lead()
        node.acknowledge("2", 3)
        self.assertEqual((node.progress("2").match, node.progress("2").next), (3, 4))

    def test_a_refusal_moves_next_index_back_and_is_tried_again(self) -> None:
        """Inconsistency: nextIndex is lowered (§5.3: by whole terms) and the append repeated at once."""
        node = Solo(log=[1, 1, 2, 2], term=2)
        node.lead()
        refusal = AppendReply("2", "1", 3, 4, rejected=True, hint_index=4, hint_term=1)
        (append,) = appends(node.step(refusal))
        self.assertEqual((append.prev_index, append.prev_term), (2, 1))
        self.assertEqual(node.step(refusal), [], "an answer that comes twice moves it once")

    def test_a_majority_commits(self) -> None:
        """N is committed when a majority, the leader's own disk included, holds it."""
        node = Solo("12345")
        node.lead()
        node.acknowledge("2", 1)
        self.assertEqual(node.core.log.commit, 0)
        node.acknowledge("3", 1)
        self.assertEqual(node.core.log.commit, 1)

    def test_only_entries_of_its_own_term_are_counted(self) -> None:
        """log[N].term must be the current term (§5.4.2); older entries are committed with it."""
        node = Solo(log=[1, 1], term=1)
        node.lead()
        node.acknowledge("2", 2)
        node.acknowledge("3", 2)
        self.assertEqual(node.core.log.commit, 0)
        node.acknowledge("2", 3)
        self.assertEqual(node.core.log.commit, 3)

    def test_a_leader_never_changes_its_own_log(self) -> None:
        """Leader Append-Only (figure 3): whatever arrives in its term, entries are only added."""
        node = Solo(log=[1, 1], term=1)
        node.lead()
        node.append((1, 1), [9, 9], term=2)
        self.assertEqual(node.terms, [1, 1, 2])
