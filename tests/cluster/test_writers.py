"""Files written through everything that may die: what was acknowledged is there, the same on every copy."""

import random
import threading
from collections.abc import Sequence
from http.client import HTTPException

import attrs
import pytest

from tests.cluster.clients import ask, rounds, seed
from tests.cluster.masters import Daemon, Scratch, wait_for_cluster, wait_for_leader
from tests.cluster.processes import HOST, request, wait_until
from tests.cluster.test_ids import PEERS

pytestmark = pytest.mark.process

WRITERS = 4


@attrs.define(eq=False)
class Writers:
    """Threads that assign and write with two copies; `written` holds what was acknowledged."""

    masters: Sequence[Daemon]
    chance: random.Random
    written: dict[str, bytes] = attrs.Factory(dict)
    failed: int = 0
    _end: threading.Event = attrs.Factory(threading.Event)
    _threads: list[threading.Thread] = attrs.Factory(list)

    def __enter__(self) -> "Writers":
        for number in range(WRITERS):
            thread = threading.Thread(target=self._run, args=(number, self.chance.randrange(1 << 30)), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, turn: int, number: int) -> None:
        chance = random.Random(number)
        while not self._end.wait(0.002):
            if not self._write(self.masters[turn % len(self.masters)], chance.randbytes(chance.randrange(1, 3000))):
                self.failed += 1
                turn += 1

    def _write(self, master: Daemon, body: bytes) -> bool:
        """Write one file; whether it was acknowledged."""
        call = ask(master.address, {"replication": "001"})
        if call.status != 200:
            return False
        fid = str(call.answer["fid"])
        try:
            answer = request("PUT", f"{call.answer['url']}/{fid}", body)
        except (OSError, HTTPException):
            return False
        if answer.status == 201:
            self.written[fid] = body
        return answer.status == 201

    def wait_for_more(self, count: int = 50) -> None:
        """Until so many more files were written."""
        enough = len(self.written) + count
        wait_until(lambda: len(self.written) >= enough, "files go on being written")


def test_every_acknowledged_write_reads_back_from_every_copy(scratch: Scratch) -> None:
    chance = random.Random(seed())
    masters = [
        scratch.start(f"weedtw master -ip={HOST} -port={port} -mdir=./m{port} -peers={PEERS}")
        for port in (9333, 9334, 9335)
    ]
    servers = [
        scratch.start(
            f"weedtw volume -ip={HOST} -port={port} -dir=./v{port} -max=40 -mserver={PEERS} -pulseSeconds=1"
        )
        for port in (8080, 8081, 8082)
    ]
    wait_for_cluster(masters)
    with Writers(masters, chance) as writers:
        for _ in range(rounds(2, 20)):
            writers.wait_for_more()
            leader = wait_for_leader(masters)
            leader.kill()
            writers.wait_for_more()
            server = chance.choice(servers)
            server.kill()
            writers.wait_for_more()
            server.start()
            leader.start()
            wait_for_cluster(masters)
        writers.wait_for_more()
    assert len(writers.written) > 200
    for fid, body in writers.written.items():
        _check_copies(masters, fid, body)


def _check_copies(masters: Sequence[Daemon], fid: str, body: bytes) -> None:
    """Both copies hold exactly this, and every master knows where they are."""
    volume = fid.partition(",")[0]
    places: set[str] = set()

    def are_known() -> bool:
        """To each of them; a server may still be on its way back."""
        lookups = [ask(master.address, {"volumeId": volume}, path="/dir/lookup") for master in masters]
        told = [
            {place["url"] for place in call.answer["locations"]} if call.status == 200 else set() for call in lookups
        ]
        places.update(*told)
        return all(len(each) == 2 for each in told)

    wait_until(are_known, f"every master knows two copies of {fid}")
    assert len(places) == 2, f"{fid} has copies on {places}"
    for place in places:
        answer = request("GET", f"{place}/{fid}")
        assert (answer.status, answer.body == body) == (200, True), f"{fid} at {place}: {answer.status}"
