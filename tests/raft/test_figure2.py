"""Figure 2 of "In Search of an Understandable Consensus Algorithm" (Ongaro and Ousterhout), one test per claim.

Its "Rules for Servers" are in `test_figure2_rules`.

Where this core does a thing otherwise than the figure, the test says so: heartbeats are messages of their own, a
candidate asks for pre-votes first, and a stale leader is answered by a heartbeat's reply.
"""

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.solo import Solo, entries
from weedtw.errors import NotLeader
from weedtw.raft.messages import (
    Append,
    AppendReply,
    HeartbeatReply,
    Message,
    VoteReply,
    VoteRequest,
)
from weedtw.raft.storage import Update


def request(term: int, last: tuple[int, int] = (0, 0), candidate: str = "2") -> VoteRequest:
    return VoteRequest(candidate, "1", term, *last)


def appends(sent: list[Message]) -> list[Append]:
    return [message for message in sent if isinstance(message, Append)]


class State(SynchronousTestCase):
    """Figure 2, "State"."""

    def test_current_term_starts_at_zero_and_only_rises(self) -> None:
        """The latest term that the server has seen; 0 at first, never lowered by anything that arrives."""
        node = Solo()
        self.assertEqual(node.core.term, 0)
        for term, expected in ((3, 3), (2, 3), (5, 5), (1, 5)):
            node.beat(term)
            self.assertEqual(node.core.term, expected)

    def test_the_vote_belongs_to_the_term(self) -> None:
        """votedFor is who got the vote in the current term, and nobody at the start of each term."""
        node = Solo(term=1)
        node.step(request(1))
        self.assertEqual(node.core.vote, "2")
        node.beat(2)
        self.assertIsNone(node.core.vote)

    def test_the_vote_is_stored_though_the_term_is_not_new(self) -> None:
        """votedFor is persistent by itself: a vote in a term that is on disk already must get there too."""
        node = Solo(term=1)
        node.step(request(1))
        self.assertEqual(node.hard_state.vote, "2")

    def test_the_first_index_is_one(self) -> None:
        """Log entries hold a command and the term in which the leader got it; the first has index 1."""
        node = Solo()
        node.lead()
        self.assertEqual([(entry.index, entry.term) for entry in node.storage.load().entries], [(1, 1)])

    def test_term_vote_and_log_are_stored_before_anything_is_answered(self) -> None:
        """Persistent state is on stable storage before the server responds."""
        node = Solo(log=[1], term=1)
        node.step(request(2, (1, 1)))
        node.append((1, 1), [2], term=2)
        update, vote, *rest = node.events
        assert isinstance(update, Update)
        self.assertEqual(update.hard_state, node.hard_state)
        self.assertEqual((node.hard_state.term, node.hard_state.vote), (2, "2"))
        self.assertIsInstance(vote, VoteReply)
        update, reply = rest
        assert isinstance(update, Update)
        self.assertEqual(update.entries, entries([2], first=2))
        self.assertIsInstance(reply, AppendReply)

    def test_term_vote_and_log_survive_a_crash(self) -> None:
        """Persistent state is what a server starts from."""
        node = Solo()
        node.step(request(4))
        node.append((0, 0), [3, 4], term=4)
        node.start()
        self.assertEqual((node.core.term, node.core.vote, node.terms), (4, "2", [3, 4]))

    def test_commit_and_applied_start_at_zero_and_only_rise(self) -> None:
        """commitIndex and lastApplied are 0 at first; a lower number in a late message changes nothing."""
        node = Solo()
        self.assertEqual((node.core.log.commit, node.core.log.applied), (0, 0))
        node.append((0, 0), [1, 1, 1], term=1, commit=2)
        node.append((0, 0), [1, 1, 1], term=1, commit=1)
        self.assertEqual((node.core.log.commit, node.core.log.applied), (2, 2))

    def test_next_index_is_the_leaders_last_index_plus_one(self) -> None:
        """After every election nextIndex begins behind the log as it was (here before the term's own entry)."""
        node = Solo(log=[1, 1], term=1)
        node.lead()
        self.assertEqual(node.progress("2").next, 3)

    def test_match_index_is_zero_and_only_rises(self) -> None:
        """matchIndex is 0 at first, and a late acknowledgement does not lower it."""
        node = Solo(log=[1, 1], term=1)
        node.lead()
        self.assertEqual(node.progress("2").match, 0)
        node.acknowledge("2", 3)
        node.acknowledge("2", 1)
        self.assertEqual(node.progress("2").match, 3)

    def test_what_a_leader_knows_of_others_is_forgotten_between_its_terms(self) -> None:
        """nextIndex and matchIndex are set anew after each election."""
        node = Solo()
        node.lead()
        node.acknowledge("2", 1)
        node.beat(node.core.term + 1)
        node.lead()
        self.assertEqual((node.progress("2").match, node.progress("2").next), (0, 2))


class AppendEntries(SynchronousTestCase):
    """Figure 2, "AppendEntries RPC"."""

    def test_the_leader_is_known_from_its_messages(self) -> None:
        """leaderId lets a follower redirect clients."""
        node = Solo()
        node.append((0, 0), [1], term=1, leader="3")
        with self.assertRaises(NotLeader) as raised:
            node.core.propose(b"x")
        self.assertEqual(raised.exception.leader, "3")

    def test_what_a_leader_sends(self) -> None:
        """Its term, what stands before the entries, several of them at once, and its commit index."""
        node = Solo(log=[1, 1, 2], term=2, commit=1)
        node.lead()
        (append,) = appends(node.step(AppendReply("2", "1", 3, 3, rejected=True, hint_index=1, hint_term=1)))
        self.assertEqual((append.term, append.prev_index, append.prev_term, append.commit), (3, 1, 1, 1))
        self.assertEqual([(entry.index, entry.term) for entry in append.entries], [(2, 1), (3, 2), (4, 3)])

    def test_1_an_older_term_is_refused(self) -> None:
        """Receiver 1: a leader of the past is told the current term, and changes nothing here."""
        node = Solo(log=[1], term=3)
        self.assertEqual(node.append((1, 1), [2], term=2), [HeartbeatReply("1", "2", 3, round=0)])
        self.assertEqual(node.beat(2), [HeartbeatReply("1", "2", 3, round=0)])
        self.assertEqual(node.terms, [1])

    def test_2_an_entry_that_does_not_fit_is_refused(self) -> None:
        """Receiver 2: without an entry of that term just before, nothing is taken."""
        for prev in ((3, 2), (2, 2), (4, 1)):
            node = Solo(log=[1, 1], term=1)
            (reply,) = node.append(prev, [2], term=2)
            assert isinstance(reply, AppendReply)
            self.assertTrue(reply.rejected)
            self.assertEqual(node.terms, [1, 1])

    def test_2_an_entry_that_fits_is_confirmed(self) -> None:
        """success: the follower's log contained what the new entries follow."""
        node = Solo(log=[1, 1], term=1)
        self.assertEqual(node.append((2, 1), [2], term=2), [AppendReply("1", "2", 2, 3)])

    def test_3_a_conflicting_entry_goes_with_all_behind_it(self) -> None:
        """Receiver 3: same index, other term: it and all that follow are deleted, on disk as well."""
        node = Solo(log=[1, 2, 2, 2], term=2)
        node.append((1, 1), [3], term=3)
        self.assertEqual(node.terms, [1, 3])
        self.assertEqual(node.storage.load().entries, entries([1, 3]))

    def test_3_what_does_not_conflict_stays(self) -> None:
        """Receiver 3: a late message with fewer entries than are there deletes none of them."""
        node = Solo(log=[1, 1, 1], term=1)
        node.append((0, 0), [1], term=1)
        self.assertEqual(node.terms, [1, 1, 1])

    def test_4_new_entries_are_appended(self) -> None:
        """Receiver 4: those that are not in the log yet, once."""
        node = Solo(log=[1, 1], term=1)
        node.append((1, 1), [1, 1, 1], term=1)
        node.append((1, 1), [1, 1, 1], term=1)
        self.assertEqual(node.terms, [1, 1, 1, 1])

    def test_5_the_commit_follows_the_leaders(self) -> None:
        """Receiver 5: no further than the last new entry, for what lies behind it is not known to match."""
        for commit, expected in ((1, 1), (3, 3), (9, 3)):
            node = Solo(log=[1, 1, 1, 1], term=1)
            node.append((2, 1), [1], term=1, commit=commit)
            self.assertEqual(node.core.log.commit, expected)

    def test_5_nor_does_a_heartbeat_commit_what_is_not_known_to_match(self) -> None:
        """Receiver 5, for heartbeats, which carry no entries: entries of older terms may be another leader's."""
        node = Solo(log=[1, 1, 1], term=2)
        for known, terms in ((0, []), (2, [1, 1]), (2, [1])):
            node.append((0, 0), terms, term=2)
            for commit in (3, 4, 2**62):
                (answer,) = node.beat(2, commit=commit)
                self.assertEqual(answer, HeartbeatReply("1", "2", 2, round=1))
                self.assertEqual(node.core.log.commit, known)
        node.append((2, 1), [2], term=2)
        node.beat(2, commit=9)
        self.assertEqual(node.core.log.commit, 3)

    def test_5_a_restarted_follower_commits_what_its_leader_has_made(self) -> None:
        """A log that ends with an entry of the term is its leader's all along: nothing has to be sent again."""
        node = Solo(log=[1, 1, 2], term=2, commit=1)
        for commit, expected in ((2, 2), (9, 3)):
            node.beat(2, commit=commit)
            self.assertEqual(node.core.log.commit, expected)

    def test_a_higher_term_in_an_answer_ends_the_lead(self) -> None:
        """term in the result is for the leader to update itself."""
        node = Solo()
        node.lead()
        node.step(HeartbeatReply("2", "1", 7, round=0))
        self.assertEqual((node.core.role.name, node.core.term), ("follower", 7))


class RequestVote(SynchronousTestCase):
    """Figure 2, "RequestVote RPC"."""

    def test_what_a_candidate_sends(self) -> None:
        """Its term, its name, and where its log ends."""
        node = Solo(log=[1, 2], term=2)
        self.assertEqual(node.campaign(), [VoteRequest("1", to, 3, 2, 2) for to in ("2", "3")])

    def test_1_an_older_term_is_refused(self) -> None:
        """Receiver 1: with the current term, for the candidate to update itself."""
        node = Solo(term=3)
        self.assertEqual(node.step(request(2)), [VoteReply("1", "2", 3, granted=False)])
        self.assertIsNone(node.core.vote)

    def test_2_the_first_to_ask_gets_the_vote(self) -> None:
        """Receiver 2: one vote a term, first come, first served; the same candidate may ask again."""
        node = Solo(term=1)
        answers = [node.step(request(2, candidate=candidate)) for candidate in "323"]
        self.assertEqual([answer[0].granted for answer in answers if isinstance(answer[0], VoteReply)], [1, 0, 1])

    def test_2_not_for_an_older_log(self) -> None:
        """Receiver 2: the candidate's log must be at least as up to date: its last term first, then its length."""
        for last, granted in (
            ((3, 2), True),
            ((4, 2), True),
            ((1, 3), True),
            ((2, 2), False),
            ((9, 1), False),
        ):
            node = Solo(log=[1, 1, 2], term=3)
            self.assertEqual(node.step(request(4, last)), [VoteReply("1", "2", 4, granted=granted)], last)

    def test_a_higher_term_in_an_answer_ends_the_candidacy(self) -> None:
        """term in the result is for the candidate to update itself."""
        node = Solo()
        node.campaign()
        node.step(VoteReply("2", "1", 7, granted=False))
        self.assertEqual((node.core.role.name, node.core.term), ("follower", 7))
