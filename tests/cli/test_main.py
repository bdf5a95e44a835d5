"""The `weedtw` command: which words lead where, and what is said about the others."""

import io
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from weedtw import __version__
from weedtw.cli import main as command
from weedtw.cli.usage import help_text
from weedtw.config.options import OPTIONS
from weedtw.config.vocabulary import PROGRAMS, vocabulary


class CommandCase(SynchronousTestCase):
    """Runs the command in this process and keeps what it prints."""

    def weedtw(self, *words: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        try:
            status = command.main(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        return status, out.getvalue(), err.getvalue()


class FullTests(CommandCase):
    """Standard output on a disk that takes no more."""

    def test_one_line_and_no_traceback(self) -> None:
        for words in (("help",), ("version",), ("help", "volume"), ("upload", "--help")):
            err = io.StringIO()
            with open("/dev/full", "w", encoding="ascii") as full:
                self.patch(sys, "stdout", full)
                self.patch(sys, "stderr", err)
                self.assertEqual(command.main(words), 1)
            self.assertEqual(err.getvalue(), "weedtw: standard output: No space left on device\n")


class HelpTests(CommandCase):
    """Help in all its spellings."""

    def test_overview(self) -> None:
        for words in ((), ("help",), ("--help",), ("-h",), ("-help",)):
            status, out, err = self.weedtw(*words)
            self.assertEqual((status, err), (0, ""))
            for name in (*command.DAEMONS, *command.COMMANDS):
                self.assertIn(f"\n  {name} ", out)

    def test_version(self) -> None:
        for words in (("--version",), ("-version",), ("version",), ("master", "--version")):
            self.assertEqual(self.weedtw(*words), (0, f"weedtw {__version__}\n", ""))

    def test_of_a_daemon(self) -> None:
        for program in PROGRAMS:
            first = self.weedtw("help", program)
            self.assertEqual((first[0], first[2]), (0, ""))
            self.assertTrue(first[1].startswith(f"Usage: weedtw {program} "))
            for words in ((program, "--help"), (program, "-h"), (program, "-help")):
                self.assertEqual(self.weedtw(*words), first)

    def test_names_every_word_that_is_taken(self) -> None:
        for program in PROGRAMS:
            text = help_text(program, "x", log=True, width=100)
            for word in vocabulary(program, log=True).words.values():
                if not word.refused:
                    self.assertIn(f"--{word.name}", text)
            self.assertTrue(all(len(line) <= 100 for line in text.splitlines()))

    def test_narrow_and_wide(self) -> None:
        for option in OPTIONS["volume"]:
            self.assertIn(f"--{option.name}", help_text("volume", "x", log=False, width=60))


class WordsTests(CommandCase):
    """Words that make no sense are answered in one line."""

    def test_lines(self) -> None:
        for line, expected in (
            ("mster", "weedtw: mster: no such command; did you mean master?"),
            ("zzz", "weedtw: zzz: no such command; see weedtw help"),
            ("filer", "weedtw: filer: SeaweedFS has this command, weedtw does not; see weedtw help"),
            ("filer.sync", "weedtw: filer.sync: SeaweedFS has this command, weedtw does not; see weedtw help"),
            ("help s3", "weedtw: s3: SeaweedFS has this command, weedtw does not; see weedtw help"),
            ("--cnfig x master", "weedtw: --cnfig: unknown option before the command; did you mean --config?"),
            ("-port=1 master", "weedtw: --port: unknown option before the command; "
             "options of a command stand behind it"),
            ("--config", "weedtw: --config: a value is missing"),
            ("--config x", "weedtw: a command is missing, such as master, volume, server; see weedtw help"),
            ("--config x upload y", "weedtw: --config: an option of master, volume, server; upload does not take it"),
            ("master --prot 1", "weedtw master: --prot: unknown option; did you mean --port?"),
            ("--logFormat=xml master", "weedtw master: --logFormat: 'xml' is not text or json"),
            ("-config_dir=/none volume", "weedtw volume: --config /none/weedtw.toml: No such file or directory"),
            ("volume -config_dir=/none", "weedtw volume: --config /none/weedtw.toml: No such file or directory"),
        ):  # fmt: skip
            status, out, err = self.weedtw(*line.split())
            self.assertEqual((status, out, err), (2, "", expected + "\n"), line)

    def test_error_stays_one_line(self) -> None:
        status, _, err = self.weedtw("master", "--port=1\n2")
        self.assertEqual((status, err.count("\n")), (2, 1))


NEW_VOLUME = """
import tempfile, time
import weedtw.volume.service
from weedtw.formats.needle import Needle
from weedtw.formats.replication import ReplicaPlacement
from weedtw.storage.location import DiskLocation
from weedtw.storage.store import Store
from weedtw.storage.volume import Volume
with tempfile.TemporaryDirectory() as folder:
    volume = Volume.create(folder, None, "", 1, replication=ReplicaPlacement(), clock=time.time)
    for key in (1, 2, 3):
        volume.write(Needle(7, key, b"some data"))
    volume.delete(2, 7)
    assert volume.read(1, 7).data == b"some data"
    assert volume.info().file_count == 3
    volume.close()"""


class LazinessTests(SynchronousTestCase):
    """Asking for help loads neither a daemon nor a reactor; neither do the plugins before they are chosen."""

    def loaded_after(self, code: str) -> set[str]:
        code = f"import sys; {code}; print(); print('MODULES', *sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        return set(done.stdout.rpartition("MODULES")[2].split())

    def test_help(self) -> None:
        loaded = self.loaded_after("from weedtw.cli.main import main; main(['help']); main(['version'])")
        self.assertEqual(
            [name for name in loaded if name.split(".")[0] in {"twisted", "klein", "click", "numpy"}], []
        )

    def test_a_daemon_without_certificates(self) -> None:
        loaded = self.loaded_after(
            "from weedtw.cli.run import _leave_out_tls; _leave_out_tls()\n"
            "import weedtw.cli.services, weedtw.master.service, weedtw.volume.service; del sys.modules['OpenSSL']"
        )
        self.assertIn("twisted.internet.epollreactor", loaded)
        self.assertEqual(
            [name for name in loaded if name.split(".")[0] in {"OpenSSL", "cryptography", "service_identity"}], []
        )

    def test_new_volumes_and_a_few_files_need_no_numpy(self) -> None:
        loaded = self.loaded_after(NEW_VOLUME)
        self.assertIn("weedtw.storage.volume", loaded)
        self.assertEqual([name for name in loaded if name.split(".")[0] == "numpy"], [])

    def test_plugins(self) -> None:
        loaded = self.loaded_after("from twisted.plugins import weedtw_master, weedtw_volume, weedtw_server")
        self.assertEqual([name for name in loaded if name.split(".")[0] in {"weedtw", "klein"}], [])

    def test_config_is_free_of_twisted(self) -> None:
        loaded = self.loaded_after("import weedtw.config.load, weedtw.config.network")
        self.assertEqual([name for name in loaded if name.split(".")[0] == "twisted"], [])

    def test_options_of_a_plugin_choose_no_reactor(self) -> None:
        loaded = self.loaded_after("from weedtw.cli import tap_master, tap_volume, tap_server")
        self.assertNotIn("twisted.internet.reactor", loaded)
        self.assertNotIn("klein", loaded)
