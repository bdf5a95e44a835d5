"""What shells complete."""

import shutil
import subprocess

import pytest
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.completion import known_words
from weedtw.cli.main import COMMANDS, DAEMONS, main


class WordsTests(SynchronousTestCase):
    def test_every_command_is_known(self) -> None:
        words = known_words()
        for name in (*DAEMONS, *COMMANDS):
            self.assertIn(name, words[""])
            self.assertIn(name, words)

    def test_options(self) -> None:
        words = known_words()
        self.assertIn("-volumeSizeLimitMB", words["master"])
        self.assertIn("-mserver", words["volume"])
        self.assertIn("-master.peers", words["server"])
        self.assertIn("-replication", words["upload"])
        self.assertIn("-mdir", words["cluster show"])
        self.assertIn("status", words["cluster"])


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    bash = shutil.which("bash")
    assert bash is not None
    line = " ".join(f"'{word}'" for word in words)
    ask = f"{script}\nCOMP_WORDS=({line}) COMP_CWORD={len(words) - 1}\n_weedtw\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    ran = subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout.split()


def test_in_bash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, "weedtw", "ma") == ["master"]
    assert completed(script, "weedtw", "master", "-volumeS") == ["-volumeSizeLimitMB"]
    assert completed(script, "weedtw", "-config_dir=/etc", "volume", "-mser") == ["-mserver"]
    assert completed(script, "weedtw", "cluster", "tra") == ["transfer"]
    assert completed(script, "weedtw", "cluster", "show", "-md") == ["-mdir"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_for_others(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "volumeSizeLimitMB" in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True, timeout=60)


def test_no_such_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err
