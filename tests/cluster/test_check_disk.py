"""`volume.check.disk` and `volume.fix.replication` on copies that are not the same, with real servers."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.masters import Daemon, Scratch, assign, put, wait_for_leader
from tests.cluster.processes import request, wait_until
from tests.cluster.test_shell import House

pytestmark = pytest.mark.process


def pair(scratch: Scratch, count: int) -> tuple[House, str, list[str]]:
    """A volume with two copies and some files; the house, the volume, and the files' ids."""
    house = House.build(scratch, "11")
    first = put(assign(house.masters, replication="001"), b"file 0")
    volume, rest = first.split(",")
    fids = [first]
    house.files[first] = b"file 0"
    for number in range(1, count):
        fid = f"{volume},{int(rest[:-8], 16) + number + 1000:x}{rest[-8:]}"
        house.files[fid] = b"file %d" % number
        assert request("PUT", f"{house.servers[0].address}/{fid}", house.files[fid]).status == 201
        fids.append(fid)
    return house, volume, fids


def alone(server: Daemon, method: str, fid: str, body: bytes | None = None) -> None:
    """Change the copy of one server behind the back of the other, as the other's server does it."""
    answer = request(method, f"{server.address}/{fid}?type=replicate", body)
    assert answer.status in {201, 202}, answer


def damage(path: Path, body: bytes) -> None:
    """Flip a bit of a file's content on the disk."""
    data = path.read_bytes()
    assert data.count(body) == 1, "the content is there once"
    at = data.index(body)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([body[0] ^ 1]))


def has(server: Daemon, fid: str) -> bytes | None:
    """What the copy of that server has of a file, without asking others."""
    answer = request("GET", f"{server.address}/{fid}?proxied=true")
    return answer.body if answer.status == 200 else None


def test_copies_that_differ_or_are_damaged_are_told_of_and_mended(scratch: Scratch) -> None:
    house, volume, fids = pair(scratch, 8)
    one, two = sorted(house.servers, key=lambda server: server.address)
    assert "compared 1 pairs of copies, 0 differed" in house.run(f"volume.check.disk -volumeId={volume}")

    key = int(fids[0].split(",")[1][:-8], 16) + 5000
    lacking = f"{volume},{key:x}{fids[0][-8:]}"
    alone(one, "PUT", lacking, b"not on the other")
    alone(two, "DELETE", fids[1])
    told = house.run(f"volume.check.disk -volumeId={volume}")
    assert re.search(rf"volume {volume}: 2 files only on {one.address}, 0 only on {two.address}", told), told
    assert "compared 1 pairs of copies, 1 differed" in told
    assert "nothing was changed" in told
    assert has(two, lacking) is None, "a dry run changes nothing"
    assert has(one, fids[1]) == house.files[fids[1]]

    def mended() -> bool:
        shell = house.shell(f"volume.check.disk -volumeId={volume} -apply; volume.check.disk -volumeId={volume}")
        said, _ = shell.communicate(timeout=60)
        return shell.returncode == 0 and said.rstrip().endswith("compared 1 pairs of copies, 0 differed")

    wait_until(mended, "what is newest has settled, and is taken over")  # what is fresh is left to its write
    assert has(one, lacking) == has(two, lacking) == b"not on the other"
    assert has(one, fids[1]) is None, "the deletion reached the copy that had missed it"
    del house.files[fids[1]]
    house.files[lacking] = b"not on the other"
    house.check_files()

    # A bit of a file is flipped on the disk: the indexes know nothing of that, who reads it does.
    damage(house.folder(0) / f"{volume}.dat", house.files[fids[3]])
    assert "0 differed" in house.run("volume.check.disk")
    key_3 = fids[3].split(",")[1][:-8].lstrip("0")
    told = house.run("volume.check.disk -slow")
    assert f"volume {volume}: 1 files are damaged on {house.servers[0].address}: {key_3}" in told
    assert ", 1 of their files are damaged" in told
    said = house.run("volume.check.disk -slow -apply; volume.check.disk -slow")
    assert f"volume {volume}: 1 files taken from another copy" in said
    assert said.rstrip().endswith("0 differed, 0 of their files are damaged")
    house.check_files()

    for number in range(2):  # now both: nothing can be done, and that is said
        damage(house.folder(number) / f"{volume}.dat", house.files[fids[2]])
    said = house.run("volume.check.disk -slow -apply", status=1)
    assert "and no other copy has them" in said
    assert house.run("volume.check.disk -slow").count("files are damaged on") == 2, "neither was touched"


def test_a_copy_too_many_goes_unless_it_has_what_no_other_has(scratch: Scratch) -> None:
    house = House.build(scratch, "111")
    for number in range(6):
        body = b"file %d" % number
        house.files[put(assign(house.masters, replication="001"), body)] = body
    (first, *_) = house.files
    volume = first.partition(",")[0]
    master = wait_for_leader(house.masters)
    gone = next(one for one in house.servers if one.address in house.holders(master, volume))
    kept = {path.name: path.read_bytes() for path in house.folder(house.servers.index(gone)).glob("*.dat")}
    assert f"{volume}.dat" in kept
    gone.kill()
    wait_until(lambda: gone.address not in house.holders(master, volume), "its death is known")
    assert "would copy" in house.run("volume.fix.replication")
    house.run("volume.fix.replication -apply")
    wait_until(lambda: len(house.holders(master, volume)) == 2, "the copy was made anew")

    holder = next(one for one in house.servers if one.address in house.holders(master, volume))
    newer = f"{volume},{int(first.split(',')[1][:-8], 16) + 7000:x}{first[-8:]}"
    assert request("PUT", f"{holder.address}/{newer}", b"while it was away").status == 201
    house.files[newer] = b"while it was away"
    assert request("DELETE", f"{holder.address}/{first}").status == 202
    del house.files[first]

    def quarantined() -> list[dict[str, Any]]:
        answer = master.ask("/dir/status")
        assert answer is not None
        return list(answer.json().get("Quarantined", ()))

    gone.start()
    wait_until(lambda: len(quarantined()) == len(kept), "it is back, with copies that are too many")
    counted = {path: house.holders(master, path.partition(".")[0]) for path in kept}
    told = house.run("volume.fix.replication")
    assert told.count("would remove the surplus copy of volume") == len(kept), told
    assert "nothing was changed" in told
    assert len(quarantined()) == len(kept)
    assert "nothing to do" in house.run("volume.fix.replication -doDelete=false -apply")
    assert len(quarantined()) == len(kept)

    own = f"{volume},{int(first.split(',')[1][:-8], 16) + 9000:x}{first[-8:]}"
    alone(gone, "PUT", own, b"nowhere else")
    said = house.run("volume.fix.replication -apply", status=1)
    assert f"the copy on {gone.address} is kept: " in said
    assert "lacks 1 of its files" in said
    assert [one["Id"] for one in quarantined()] == [int(volume)], "the others went"
    assert has(gone, own) == b"nowhere else"

    alone(gone, "DELETE", own)
    for address in house.holders(master, volume):  # as a move leaves it that got so far and was given up
        assert request("POST", f"{address}/admin/copy/freeze?volume={volume}").status == 200
    said = house.run("volume.fix.replication -apply; volume.fix.replication; volume.check.disk")
    assert "has one copy less" in said
    assert said.count("nothing to do") == 1
    assert not quarantined()
    assert not list(house.folder(house.servers.index(gone)).glob("*.dat"))
    assert {path: house.holders(master, path.partition(".")[0]) for path in kept} == counted, "never too few"
    house.check_files()
    answer = master.ask("/dir/lookup?volumeId=" + volume)
    assert answer is not None
    assert request("GET", f"{answer.json()['locations'][0]['url']}/{first}").status == 404, (
        "what was deleted stays so"
    )
