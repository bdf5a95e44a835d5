"""`weedtw compact`: nothing that is damaged is lost without a word."""

from pathlib import Path

from tests.cli.folders import Say, findings, flip, overwrite, state


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
