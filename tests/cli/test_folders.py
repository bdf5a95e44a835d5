"""The commands on folders of volumes, on whole copies of the sample and on damaged ones, never made worse."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.folders import SAMPLE, Say, findings, flip, overwrite, state
from weedtw.storage.folderlock import FolderLock


def test_all_of_the_sample_is_sound(say: Say, tmp_path: Path) -> None:
    for path in SAMPLE.glob("*.*"):
        shutil.copy(path, tmp_path)
    status, out, err = say("verify", tmp_path)
    assert (status, err) == (0, "")
    assert out.count("sound") == 7
    assert not (tmp_path / ".weedtw.lock").exists()


def test_a_flipped_bit_in_a_file(say: Say, folder: Path) -> None:
    flip(folder / "1.dat", 700)  # in the data of the needle at 624
    assert findings(say, folder) == ["1.dat 624 needle 2 is not as it was written: its data has another checksum"]


def test_a_torn_tail(say: Say, folder: Path) -> None:
    os.truncate(folder / "1.dat", (folder / "1.dat").stat().st_size - 20)
    first, *others = findings(say, folder)
    assert "torn" in first
    assert all(one.startswith("1.idx") for one in others)


def test_garbage_in_the_middle(say: Say, folder: Path) -> None:
    overwrite(folder / "1.dat", 624, b"\xa5" * 832)  # where needle 2 is, to the byte
    found = findings(say, folder)
    assert "1.dat 624 832 bytes are no record" in found
    assert "1.idx None has needle 2 at 624, where there is no such record" in found


def test_a_page_of_noughts(say: Say, folder: Path) -> None:
    overwrite(folder / "1.dat", 624, bytes(832))
    assert "1.dat 624 832 bytes are nought" in findings(say, folder)


def test_no_index_and_one_of_another_volume(say: Say, folder: Path) -> None:
    (folder / "1.idx").unlink()
    assert findings(say, folder) == ["1.idx None there is no index"]
    shutil.copy(SAMPLE / "old_112.idx", folder / "1.idx")
    assert any("lacks needle" in one for one in findings(say, folder))


def test_what_to_do_about_it(say: Say, folder: Path) -> None:
    (folder / "1.idx").unlink()
    assert f"{folder / '1.idx'}: the index is wrong (1 in all); weedtw fix makes it anew" in say("verify", folder)[2]
    assert say("fix", folder)[0] == 0
    flip(folder / "1.dat", 700)
    assert f"{folder / '1.dat'}: damaged, or its index is wrong (1 in all)" in say("verify", folder)[2]


def test_half_a_row_and_a_broken_info(say: Say, folder: Path) -> None:
    with (folder / "1.idx").open("ab") as file:
        file.write(b"12345")
    (folder / "1.vif").write_text("{")
    found = findings(say, folder)
    assert any("no whole row" in one for one in found)
    assert any(one.startswith("1.vif") for one in found)


def test_no_superblock(say: Say, folder: Path) -> None:
    overwrite(folder / "1.dat", 0, b"\xff" * 8)
    assert len(findings(say, folder)) == 1


def test_a_volume_that_cannot_be_read_does_not_hide_the_others(say: Say, folder: Path) -> None:
    (folder / "3.dat").mkdir()  # refused for root, too
    (folder / "5.dat").symlink_to("nowhere")
    flip(folder / "1.dat", 700)
    status, out, _ = say("verify", folder)
    assert status == 1
    assert "3.dat: cannot be read: Is a directory" in out
    assert "5.dat: cannot be read: No such file or directory" in out
    assert "1.dat at 624: needle 2 is not as it was written" in out


def test_what_is_not_there(say: Say, folder: Path) -> None:
    assert say("verify", folder / "nowhere")[0] == 1
    status, _, err = say("verify", folder, "--volumeId=7")
    assert (status, "there is no volume 7 here" in err) == (1, True)


def test_while_a_server_has_the_folder(say: Say, folder: Path) -> None:
    lock = FolderLock(str(folder))
    try:
        status, _, err = say("verify", folder)
        assert (status, "in use" in err, "stop that server" in err) == (0, True, False)
        for words in (["fix", folder], ["compact", "-dir", folder, "-volumeId", "1"]):
            before = state(folder)
            status, _, err = say(*words)
            assert (status, "in use" in err, "stop that server first" in err) == (1, True, True)
            assert state(folder) == before
    finally:
        lock.release()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="only Linux tells")
def test_while_another_program_writes_to_a_volume(say: Say, folder: Path) -> None:
    for name, mode, refused in (
        ("1.dat", os.O_RDWR, True),
        ("1.idx", os.O_RDWR, True),
        ("1.dat", os.O_RDONLY, False),
    ):
        fd = os.open(folder / name, mode)
        waiting = [sys.executable, "-c", "input()"]
        with subprocess.Popen(waiting, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[fd]) as other:
            os.close(fd)
            for words in (["fix", folder], ["compact", "-dir", folder, "-volumeId", "1"]):
                before = state(folder)
                status, _, err = say(*words)
                assert (status, f"in use by process {other.pid} (" in err) == (
                    (1, True) if refused else (0, False)
                ), err
                assert (state(folder) == before) == refused


def test_data_that_is_not_there(say: Say, folder: Path) -> None:
    (folder / "1.dat").unlink()
    for name in ("verify", "fix"):
        status, _, err = say(name, folder)
        assert (status, "1.idx: the data is missing" in err) == (1, True)
    for path in folder.iterdir():
        path.unlink()
    for name in ("verify", "fix"):
        status, _, err = say(name, folder)
        assert (status, "there are no volumes here" in err) == (0, True)


def test_inspect(say: Say, folder: Path) -> None:
    status, out, _ = say("inspect", folder / "1.dat")
    assert status == 0
    assert "at 624  key 2  cookie a87d0b07  what data" in out
    assert say("inspect", folder / "1.idx")[1].startswith("index 21 rows  offsets of 5 bytes")
    assert json.loads(say("inspect", folder / "1.vif", "--json")[1])["info"]["version"] == 3
    flip(folder / "1.dat", 700)
    status, out, _ = say("inspect", folder / "1.dat", "--json")
    wrong = [row for row in map(json.loads, out.splitlines()) if "wrong" in row]
    assert (status, [row["at"] for row in wrong]) == (1, [624])
    assert say("inspect", folder / "1.txt")[0] == 1
