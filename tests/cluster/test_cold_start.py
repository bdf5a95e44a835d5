"""Right after all daemons were started together: the first answer to whoever asks for a file id is one."""

import json

import pytest

from tests.cluster.masters import Daemon, Scratch, kill, put, wait_for_cluster
from tests.cluster.processes import Answer, wait_until

pytestmark = pytest.mark.process

PEERS = "localhost:9333,localhost:9334,localhost:9335"
MASTERS = [f"weedtw master -port={9332 + n} -mdir=./m{n} -peers={PEERS}" for n in (1, 2, 3)]
VOLUMES = [f"weedtw volume -port={8079 + n} -dir=./v{n} -rack=r -mserver={PEERS}" for n in (1, 2, 3)]
SERVERS = [
    f"weedtw server -master.port={9332 + n} -volume.port={8079 + n} -dir=./{n} -master.peers={PEERS}"
    for n in (1, 2, 3)
]


def first_answers(masters: list[Daemon]) -> list[Answer]:
    """Ask one after the other, again and again, for a file id with two more copies, until there is one.

    All answers are returned; no connection is none.
    """
    answers: list[Answer] = []

    def is_there() -> bool:
        for master in masters:
            answer = master.ask("/dir/assign?replication=002")
            if answer is not None:
                answers.append(answer)
                return answer.status != 503
        return False

    wait_until(is_there, "somebody answers")
    for answer in answers:
        print(answer.status, answer.headers.get("Retry-After"), answer.body)  # noqa: T201 - for who sees it fail
    return answers


def check_first(masters: list[Daemon]) -> None:
    """Whoever asked while there was no leader was told so, and nobody of a lack of servers or space."""
    *early, first = first_answers(masters)
    assert first.status == 200, first
    fid = put(first.json(), b"three times")
    for answer in early:
        assert "Retry-After" in answer.headers
        assert "master" in json.loads(answer.body)["error"], answer
    wait_until(lambda: copies(masters[0], fid) == 3, "all three copies are known")


def copies(master: Daemon, fid: str) -> int:
    """How many copies of a file's volume a master knows of; it may follow, and not have heard of all yet."""
    answer = master.ask(f"/dir/lookup?volumeId={fid.partition(',')[0]}")
    return len(answer.json().get("locations", ())) if answer is not None else 0


@pytest.mark.parametrize("typed", [SERVERS, VOLUMES + MASTERS], ids=["servers", "apart"])
def test_fresh_and_again(scratch: Scratch, typed: list[str]) -> None:
    daemons = [scratch.start(line) for line in typed]
    masters = [daemon for daemon in daemons if "volume " not in daemon.line]
    check_first(masters)
    cluster = wait_for_cluster(masters)
    kill(daemons)
    for daemon in daemons:
        daemon.start()
    check_first(masters)
    assert wait_for_cluster(masters) == cluster
