"""What the leader does on its schedule: when it is due, in which order, under the lock, and only while it leads.

A clock that the test turns, and volumes that only note what is asked of them; one test has real processes.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster.masters import Scratch, assign, put, wait_for_cluster, wait_for_leader
from tests.cluster.processes import HOST, request, wait_until
from tests.master.scene import Scene, volume
from weedtw.client.inventory import Copy, Holder, Inventory
from weedtw.client.plans import Step
from weedtw.errors import PeerError
from weedtw.formats.replication import ReplicaPlacement
from weedtw.master.lock import AdminLocks
from weedtw.master.maintenance import MOST_LOOKS, Maintenance

HOUR = 3600.0


class Volumes:
    """Stands for the steps on volumes; tells the leader's inventory by what the scene's topology has."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.done: list[str] = []
        self.before_each: Callable[[], None] = lambda: None
        self.fails: set[int] = set()

    async def inventory(self) -> Inventory:
        holders = tuple(
            Holder(
                server.address,
                server.data_center,
                server.rack,
                server.max_volumes,
                {
                    report.id: Copy(report.id, report.collection, ReplicaPlacement.parse(str(report.replication)))
                    for report in server.volumes.values()
                },
            )
            for _, _, server in self.scene.topology.in_order()
        )
        return Inventory(holders, frozenset(self.scene.topology.quarantined))

    async def do(self, step: Step) -> str:
        self.before_each()
        what = "drop" if step.drops else "move" if step.moves else "copy"
        self.done.append(f"{what} {step.volume_id} {step.target}")
        if step.volume_id in self.fails:
            raise PeerError(step.target, "scripted to fail", 500)
        return "is there"

    async def vacuum(self, threshold: float) -> None:
        self.before_each()
        self.done.append(f"vacuum {threshold:g}")


class Schedule(SynchronousTestCase):
    def make(self, interval: float = HOUR, grace: float = 900.0, **config: Any) -> None:
        self.scene = Scene(maintenance_interval=interval, maintenance_grace=grace, **config)
        self.locks = AdminLocks(self.scene.cluster)
        self.maintenance = Maintenance(self.scene.cluster, self.locks)
        self.volumes = Volumes(self.scene)
        vars(self.maintenance)["_volumes"] = self.volumes
        self.maintenance.start()
        self.addCleanup(self.maintenance.stop)

    def go_on(self, seconds: float) -> list[str]:
        """Let time go by; what was done in it."""
        before = len(self.volumes.done)
        self.scene.clock.pump([MOST_LOOKS] * int(seconds / MOST_LOOKS))
        return self.volumes.done[before:]

    def short_volume(self, volume_id: int = 1) -> None:
        """A volume of which there is one copy, and should be two; and a server with room."""
        self.scene.join("a:1", holds=(volume(volume_id, copies="001"),))
        self.scene.join("b:1")

    # -------------------------------------------------------------- whether, and when

    def test_nothing_unless_it_is_switched_on(self) -> None:
        self.make(interval=0.0)
        self.short_volume()
        self.assertEqual(self.go_on(24 * HOUR), [])
        self.assertEqual(self.scene.clock.getDelayedCalls(), [])

    def test_a_round_each_interval(self) -> None:
        self.make()
        self.short_volume()
        self.assertEqual(self.go_on(HOUR - 60), [])
        self.assertEqual(self.go_on(120), ["copy 1 b:1", "vacuum 0.3"])
        self.assertEqual(self.go_on(HOUR - 120), [])
        self.assertEqual(self.go_on(120), ["copy 1 b:1", "vacuum 0.3"])

    def test_only_what_is_wanted(self) -> None:
        self.make(maintenance_tasks=("vacuum",), garbage_threshold=0.1)
        self.short_volume()
        self.assertEqual(self.go_on(HOUR + 60), ["vacuum 0.1"])

    def test_balance_comes_last_and_only_when_asked_for(self) -> None:
        holds = tuple(volume(number) for number in range(1, 5))
        for tasks, moves in ((("fix.replication", "vacuum"), 0), (("fix.replication", "vacuum", "balance"), 2)):
            self.make(maintenance_tasks=tasks)
            self.scene.join("a:1", holds=holds)
            self.scene.join("b:1")
            done = self.go_on(HOUR + 60)
            self.assertEqual(done[0], "vacuum 0.3")
            self.assertEqual([one.split()[0] for one in done[1:]], ["move"] * moves)

    def test_a_server_that_is_restarted_causes_no_copying(self) -> None:
        self.make(interval=60.0)
        self.short_volume()
        self.assertEqual(set(self.go_on(840)), {"vacuum 0.3"})
        server = self.scene.join("c:1", holds=(volume(1, copies="001"),))  # back in time
        self.go_on(60)
        self.scene.leave(server)
        self.assertEqual(set(self.go_on(840)), {"vacuum 0.3"}, "the time begins anew")
        self.assertIn("copy 1 b:1", self.go_on(180))

    def test_a_copy_too_many_goes_when_it_has_been_for_long(self) -> None:
        self.make(interval=60.0, maintenance_tasks=("fix.replication",))
        for address in ("a:1", "b:1", "c:1"):
            self.scene.join(address, holds=(volume(1, copies="001"),))
        self.assertEqual(self.go_on(840), [])
        self.assertEqual(set(self.go_on(180)), {"drop 1 c:1"})

    # -------------------------------------------------------------- the lead, and the lock

    def test_followers_do_nothing(self) -> None:
        self.make(interval=60.0)
        self.short_volume()
        self.scene.ledger.lose_lead("other:9333")
        self.assertEqual(self.go_on(3 * HOUR), [])
        self.scene.ledger.gain_lead()
        self.assertEqual(set(self.go_on(840)), {"vacuum 0.3"}, "whoever comes to lead watches for the whole time")
        self.assertIn("copy 1 b:1", self.go_on(180))

    def test_it_stops_in_the_middle_when_the_lead_is_lost(self) -> None:
        self.make()
        self.scene.join("a:1", holds=(volume(1, copies="001"), volume(2, copies="001"), volume(3, copies="001")))
        self.scene.join("b:1")
        self.volumes.before_each = lambda: self.scene.ledger.lose_lead("other:9333")
        self.assertEqual(self.go_on(HOUR + 60), ["copy 1 b:1"], "neither another copy, nor the vacuum")
        self.assertEqual(self.go_on(3 * HOUR), [])

    def test_it_waits_for_the_lock_and_gives_it_back(self) -> None:
        self.make(interval=60.0, maintenance_tasks=("vacuum",))
        token = self.result(self.locks.take("a shell"))
        for _ in range(5):
            self.scene.clock.advance(15)
            self.result(self.locks.take("a shell", token))
        self.assertEqual(self.volumes.done, [])
        self.assertEqual(self.locks.held.holder, "a shell")
        self.result(self.locks.release(token))
        holders = []
        self.volumes.before_each = lambda: holders.append(self.locks.held.holder)
        self.assertEqual(set(self.go_on(120)), {"vacuum 0.3"})
        self.assertEqual(set(holders), {"the master m:9333, for vacuum"})
        self.assertEqual(self.locks.held.holder, "")

    def test_who_takes_the_lock_away_ends_it(self) -> None:
        self.make()
        self.scene.join("a:1", holds=(volume(1, copies="001"), volume(2, copies="001")))
        self.scene.join("b:1")

        def take_away() -> None:
            if self.locks.held.token:
                self.result(self.locks.release(self.locks.held.token))

        self.volumes.before_each = take_away
        self.assertEqual(self.go_on(HOUR + 60), ["copy 1 b:1", "vacuum 0.3"], "no second copy without the lock")

    def test_what_fails_does_not_keep_the_rest_from_being_done(self) -> None:
        self.make()
        self.scene.join("a:1", holds=(volume(1, copies="001"), volume(2, copies="001")))
        self.scene.join("b:1")
        self.volumes.fails = {1}
        self.assertEqual(self.go_on(HOUR + 60), ["copy 1 b:1", "copy 2 b:1", "vacuum 0.3"])

    def test_after_the_stop_there_is_nothing_more(self) -> None:
        self.make(interval=60.0)
        self.volumes.before_each = self.maintenance.stop
        self.short_volume()
        self.assertEqual(self.go_on(2 * HOUR), ["vacuum 0.3"])
        self.assertEqual(self.scene.clock.getDelayedCalls(), [])

    def result(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))


@pytest.mark.process
def test_a_lost_copy_comes_back_and_garbage_goes_whoever_leads(scratch: Scratch) -> None:
    peers = ",".join(f"{HOST}:{port}" for port in (9333, 9334, 9335))
    options = "-pulseSeconds=1 -maintenance.interval=1s -maintenance.grace=2s -maintenance.balance=true"
    masters = [
        scratch.start(f"weedtw master -ip={HOST} -port={port} -mdir=./m{port} -peers={peers} {options}")
        for port in (9333, 9334, 9335)
    ]
    wait_for_cluster(masters)
    servers = [scratch.start(_server(port, peers)) for port in (8080, 8081)]
    leader = wait_for_leader(masters)
    wait_until(lambda: len(_holders(leader)) == 2, "both servers are there")
    fids = [put(assign(masters, replication="001"), b"x" * 10_000) for _ in range(20)]
    put(assign(masters, collection="single"), b"of one copy, so that it may move to another server of this host")
    servers.append(scratch.start(_server(8082, peers)))
    wait_until(lambda: _holders(leader).get(servers[2].address), "the new server is given volumes")
    leader.wait_to_say("maintenance: move volume .*: it is moved")

    volume_id = fids[0].partition(",")[0]
    victim = next(one for one in servers if one.address in _locations(leader, volume_id))
    victim.kill()
    wait_until(lambda: victim.address not in _locations(leader, volume_id), "its death is known")
    wait_until(lambda: len(_locations(leader, volume_id)) == 2, "a copy is made without anybody asking for it")
    leader.wait_to_say("maintenance: copy volume .*: it is there")

    leader.kill()
    second = wait_for_leader([one for one in masters if one is not leader])
    third = next(one for one in masters if one not in {leader, second})

    def is_deleted(fid: str) -> bool:
        where = _locations(second, fid.partition(",")[0])
        return any(request("DELETE", f"{holder}/{fid}").status == 202 for holder in where)

    for fid in fids[1:]:  # a volume that is being moved takes no changes for a moment
        wait_until(lambda fid=fid: is_deleted(fid), f"{fid} can be deleted")  # type: ignore[misc]
    wait_until(lambda: not _garbage(second), "the next leader vacuums")
    for holder in _locations(second, volume_id):
        assert request("GET", f"{holder}/{fids[0]}").body == b"x" * 10_000
    assert not re.search(r"maintenance: (copy|move) volume", third.said), "who never led has done nothing"


def _server(port: int, masters: str) -> str:
    return f"weedtw volume -ip={HOST} -port={port} -dir=./v{port} -mserver={masters} -max=20 -pulseSeconds=1"


def _holders(master: Any) -> dict[str, list[dict[str, Any]]]:
    answer = master.ask("/vol/status")
    assert answer is not None
    centers = answer.json()["Volumes"]["DataCenters"] or {}
    return {url: held or [] for racks in centers.values() for nodes in racks.values() for url, held in nodes.items()}


def _locations(master: Any, volume_id: str) -> set[str]:
    answer = master.ask(f"/dir/lookup?volumeId={volume_id}")
    assert answer is not None
    return {one["url"] for one in answer.json().get("locations", ())}


def _garbage(master: Any) -> int:
    return sum(one["DeletedByteCount"] for volumes in _holders(master).values() for one in volumes)
