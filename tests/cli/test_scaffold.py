"""The files that `weedtw scaffold` writes are such as the daemons read."""

import stat
import tomllib
from pathlib import Path

import pytest

from weedtw.cli.main import main
from weedtw.config.security import parse, read


@pytest.mark.parametrize("words", [["security"], ["-config=security"], ["--config", "security"]])
def test_on_standard_output(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaffold", *words]) == 0
    text = capsys.readouterr().out
    keys = parse(tomllib.loads(text), "it")
    assert len(keys.write_key) >= 32
    assert len(keys.secret) >= 32
    assert keys.write_key != keys.secret
    assert (keys.read_key, keys.white_list, keys.notes) == ("", (), ())
    assert parse(tomllib.loads(text.replace('key = ""\n# key', "key")), "it").read_key
    assert main(["scaffold", *words]) == 0
    assert capsys.readouterr().out != text  # nobody has the keys of somebody else


def test_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaffold", "security", f"-output={tmp_path}"]) == 0
    path = tmp_path / "security.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(str(path)).secret
    before = path.read_bytes()
    assert main(["scaffold", "security", f"-output={tmp_path}"]) == 1
    assert "File exists" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaffold"]) == 2
    assert main(["scaffold", "filer"]) == 2
    assert "security" in capsys.readouterr().err
