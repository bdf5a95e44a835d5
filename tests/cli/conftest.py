"""A folder with a volume, and a way to run a command there."""

import shutil
from pathlib import Path

import pytest

from tests.cli.folders import SAMPLE, Say
from weedtw.cli.main import main


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
