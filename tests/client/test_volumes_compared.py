"""Comparing, mending and marking copies, and what is asked of the leader for all of them."""

from tests.client.copies import MASTER, VOLUME, Copies, CopiesTestCase, copy, index
from tests.client.scripted import REFUSES, Said
from weedtw.client.plans import Step
from weedtw.client.volumes import Difference
from weedtw.errors import PeerError, Unavailable, WeedError


class ComparingTests(CopiesTestCase):
    def test_files_that_one_has_and_files_of_another_size(self) -> None:
        servers = Copies(self.clock, a=copy(), b=copy())
        servers.answers["GET a:1/admin/volume/index"] = index((1, 8, 10), (2, 16, 10), (3, 24, 10), (4, 32, 10))
        servers.answers["GET b:1/admin/volume/index"] = index((1, 8, 10), (2, 16, 11), (9, 24, 10), width=5)
        found = self.done(servers.volumes.compare(VOLUME, "a:1", "b:1"))
        self.assertEqual(found, Difference(VOLUME, "a:1", "b:1", only_first=2, only_second=1, unlike=1))
        self.assertEqual(found.count, 4)

    def test_what_was_deleted_counts_for_nothing_and_the_last_row_for_all(self) -> None:
        servers = Copies(self.clock, a=copy(), b=copy())
        servers.answers["GET a:1/admin/volume/index"] = index(
            (1, 8, 10), (2, 16, 10), (1, 24, -1), (2, 0, 0), (3, 32, 5), (3, 40, 6), (4, 48, 0)
        )
        servers.answers["GET b:1/admin/volume/index"] = index((3, 8, 6), (4, 16, 0))
        self.assertEqual(self.done(servers.volumes.compare(VOLUME, "a:1", "b:1")).count, 0)

    def test_an_index_that_is_not_given_is_an_error(self) -> None:
        servers = Copies(self.clock, a=copy(), b=None)
        servers.answers["GET a:1/admin/volume/index"] = index()
        self.assertIn("volume 7 is not here", self.refused(servers.volumes.compare(VOLUME, "a:1", "b:1"), PeerError))

    def test_what_differs_is_taken_over_both_ways_from_the_beginning(self) -> None:
        servers = Copies(self.clock, a=copy(), b=copy())
        found = Difference(VOLUME, "a:1", "b:1", 1, 0, 0)
        self.assertEqual(self.done(servers.volumes.mend(found)), 4)
        self.assertEqual(
            servers.transcript(),
            ["POST b:1/admin/volume/agree with=a:1 since=1", "POST a:1/admin/volume/agree with=b:1 since=1"],
        )

    def test_only_what_differs_is_asked_for_however_much_there_is(self) -> None:
        servers = Copies(self.clock, a=copy(), b=copy())
        rows = [(key, 8 * key, 10) for key in range(1, 451)]
        servers.answers["GET a:1/admin/volume/index"] = index(*rows, (500, 4000, 10))
        servers.answers["GET b:1/admin/volume/index"] = index((500, 8, 10))
        found = self.done(servers.volumes.compare(VOLUME, "a:1", "b:1"))
        self.assertEqual(found.keys, tuple(range(1, 451)))
        servers.transcript()
        self.assertEqual(self.done(servers.volumes.mend(found)), 12)
        asked = [one.partition("keys=")[2].split(",") for one in servers.transcript()]
        self.assertEqual([len(keys) for keys in asked], [200, 200, 200, 200, 50, 50], "both ways")
        self.assertEqual({int(key) for keys in asked for key in keys}, set(range(1, 451)))

    def test_damaged_files_are_found_and_taken_from_whoever_has_them(self) -> None:
        servers = Copies(self.clock, a=copy(), b=copy(), c=copy())
        servers.answers["GET a:1/admin/volume/damaged"] = Said({"keys": ["5", 6, 7]})
        self.assertEqual(self.done(servers.volumes.copies.damaged("a:1", VOLUME)), [5, 6, 7])
        servers.transcript()
        servers.answers["POST a:1/admin/volume/heal volume=7 with=b:1 key=5"] = Said({"healed": True})
        servers.answers["POST a:1/admin/volume/heal volume=7 with=c:1 key=6"] = Said({"healed": True})
        servers.answers["POST a:1/admin/volume/heal"] = Said({"healed": False})
        self.assertEqual(self.done(servers.volumes.heal(VOLUME, "a:1", [5, 6, 7], iter(["b:1", "c:1"]))), 2)
        tried = [one.partition("heal ")[2] for one in servers.transcript()]
        self.assertEqual(
            tried, ["with=b:1 key=5", "with=b:1 key=6", "with=c:1 key=6", "with=b:1 key=7", "with=c:1 key=7"]
        )


class AskingTests(CopiesTestCase):
    def test_copies_are_deleted_and_marked_where_they_are(self) -> None:
        servers = Copies(self.clock, a=copy())
        self.done(servers.volumes.mark(VOLUME, "a:1", writable=False))
        self.done(servers.volumes.mark(VOLUME, "a:1", writable=True))
        self.done(servers.volumes.delete(VOLUME, "a:1"))
        self.assertEqual(
            servers.transcript(),
            ["POST a:1/admin/volume/readonly", "POST a:1/admin/volume/writable", "POST a:1/admin/delete_volume"],
        )
        servers.copies["a:1"] = None
        self.assertIn("volume 7 is not here", self.refused(servers.volumes.delete(VOLUME, "a:1"), PeerError))

    def test_steps_of_a_plan_copy_or_move(self) -> None:
        for moves, said in ((False, "is there"), (True, "is moved")):
            servers = Copies(self.clock, asked_for="000" if moves else "001", a=copy(), b=None)
            self.assertEqual(self.done(servers.volumes.do(Step(VOLUME, "", "a:1", "b:1", 800, moves=moves))), said)

    def test_the_leader_is_asked_for_what_concerns_all(self) -> None:
        servers = Copies(self.clock, a=copy())
        self.done(servers.volumes.vacuum(0.25))
        self.done(servers.volumes.delete_collection("pictures"))
        asked = [str(one) for one in servers.agent.asked if one.method == "POST"]
        self.assertEqual(
            asked,
            [f"POST {MASTER}/vol/vacuum garbageThreshold=0.25", f"POST {MASTER}/col/delete collection=pictures"],
        )

    def test_it_is_asked_once_and_what_it_refuses_is_told(self) -> None:
        servers = Copies(self.clock, a=copy())
        for said, kind in ((Said.no(404, "no such collection"), PeerError), (Said.no(503, "busy"), Unavailable)):
            servers.answers[f"POST {MASTER}/col/delete"] = said
            self.assertIn(said.body["error"], self.refused(servers.volumes.delete_collection("x"), kind))
        self.assertEqual(len([one for one in servers.agent.asked if one.method == "POST"]), 2)

    def test_a_cluster_whose_state_makes_no_sense_names_who_told_it(self) -> None:
        servers = Copies(self.clock, a=copy())
        servers.answers[f"GET {MASTER}/vol/status"] = Said({"Volumes": 5})
        self.assertIn(f"{MASTER}: the state of the cluster", self.refused(servers.volumes.inventory(), PeerError))

    def test_a_server_that_cannot_be_reached_is_named(self) -> None:
        servers = Copies(self.clock, a=copy(), b=None)
        servers.answers["GET b:1"] = REFUSES
        self.assertIn(
            "b:1: refuses connections", self.refused(servers.volumes.add_copy(VOLUME, "a:1", "b:1"), WeedError)
        )
