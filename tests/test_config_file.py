"""The TOML file, and the sample of it that documents every option."""

import os
import re
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from weedtw.config import MasterConfig, ServerConfig, VolumeConfig
from weedtw.config.arguments import Settings
from weedtw.config.file import parse_toml, read_file
from weedtw.config.load import Loaded, load
from weedtw.config.network import OwnNetwork
from weedtw.config.options import LOG, MASTER, OPTIONS, VOLUME
from weedtw.config.vocabulary import PROGRAMS
from weedtw.errors import ConfigError

SAMPLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "etc", "weedtw.toml")


def texts(settings: Settings) -> dict[str, str]:
    return {f"{section}.{name}": setting.text for (section, name), setting in settings.items()}


class FileTests(SynchronousTestCase):
    """What a file may say."""

    def write(self, text: str) -> str:
        path = os.path.join(self.enterContext(TemporaryDirectory()), "weedtw.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_what_nobody_writes_by_hand(self) -> None:
        for text, reason in (("x = " + "[" * 100_000, "nested too deeply"), ("#" * (1 << 21), "over 1048576 bytes")):
            with self.assertRaises(ConfigError) as caught:
                read_file(self.write(text))
            self.assertIn(reason, str(caught.exception))

    def test_values(self) -> None:
        text = """
            logFormat = "json"
            [master]
            port = 9334
            ipBind = "::1"
            garbageThreshold = 0.5
            volumeGrowth = [1, 2, 3, 4]
            [volume]
            dir = ["./1", "./2"]
            max = "7,20"
            fsync = true
            "dir.idx" = "./i"
            minFreeSpacePercent = 2
        """
        self.assertEqual(
            texts(parse_toml(text, "f")),
            {
                "log.logFormat": "json",
                "master.port": "9334",
                "master.ip.bind": "::1",
                "master.garbageThreshold": "0.5",
                "master.volumeGrowth": "1,2,3,4",
                "volume.dir": "./1,./2",
                "volume.max": "7,20",
                "volume.fsync": "true",
                "volume.dir.idx": "./i",
                "volume.minFreeSpace": "2",
            },
        )

    def test_errors(self) -> None:
        for text, expected in (
            ("[master]\nprot = 1", "f: [master] prot: unknown key; did you mean port?"),
            ("[volume]\nip.bind = '::'", "f: [volume] ip: a table where a value belongs; "
             "a dotted name needs quotes or its camelCase form"),
            ("[mastre]\nport = 1", "f: mastre: unknown key; did you mean [master]?"),
            ("[filer]\nport = 1", "f: filer: unknown key"),
            ("master = 3", "--config f: master is not a table; write [master]"),
            ("port = 1", "f: port: unknown key"),
            ("[master]\nport = 1.5.2", "--config f: not TOML: Expected newline or end of document after a statement "
             "(at line 2, column 11)"),
            ("[master]\nport = 1979-05-27", "f: [master] port: a value of a kind that no option takes"),
            ("[volume]\ndir = ['a,b']", "f: [volume] dir: a comma inside a list's element"),
            ("[volume]\ndir = [['a']]", "f: [volume] dir: a value of a kind that no option takes"),
            ("[volume]\nmaster = 'a:1'\nmserver = 'b:1'",
             "f: [volume] mserver: 'b:1' contradicts f: [volume] master 'a:1'; give one of them"),
            ("[master]\ntelemetry = false",
             "f: [master] telemetry: not needed here: nothing is ever reported to anybody"),
            ("[volume]\ntags = 'x'", "f: [volume] tags: not supported: weedtw does not place volumes by tags"),
        ):  # fmt: skip
            with self.assertRaises(ConfigError) as caught:
                parse_toml(text, "f")
            self.assertEqual(str(caught.exception), expected, text)

    def test_wrong_value_names_the_line(self) -> None:
        path = self.write("[master]\nport = 0")
        with self.assertRaises(ConfigError) as caught:
            load("master", ["--config", path], OwnNetwork())
        self.assertEqual(str(caught.exception), f"{path}: [master] port: '0' is not a port number from 1 to 65535")

    def test_command_line_wins(self) -> None:
        path = self.write("logLevel = 'warn'\n[master]\nport = 1\nmdir = '/m'\n[volume]\nport = 2\nfsync = true")
        loaded = load("server", ["--config", path, "-master.port=3", "-volume.fsync=false"], OwnNetwork())
        assert isinstance(loaded, Loaded)
        assert isinstance(loaded.config, ServerConfig)
        self.assertEqual((loaded.config.master.port, loaded.config.volume.port), (3, 2))
        self.assertEqual((loaded.config.master.mdir, loaded.config.volume.fsync), ("/m", False))
        self.assertEqual((loaded.log_level, loaded.log_format), ("warn", "text"))

    def test_other_name_on_the_command_line_wins_too(self) -> None:
        path = self.write("[volume]\nmserver = 'a:1'")
        loaded = load("volume", ["--config", path, "-master=127.0.0.1:3"], OwnNetwork())
        assert isinstance(loaded, Loaded)
        assert isinstance(loaded.config, VolumeConfig)
        self.assertEqual(loaded.config.masters, ("127.0.0.1:3",))

    def test_folder(self) -> None:
        folder = self.enterContext(TemporaryDirectory())
        with open(os.path.join(folder, "weedtw.toml"), "w", encoding="utf-8") as file:
            file.write("[master]\nport = 7")
        loaded = load("master", [f"-config_dir={folder}"], OwnNetwork())
        assert isinstance(loaded, Loaded)
        self.assertEqual(loaded.config, MasterConfig(port=7))

    def test_folder_without_our_file(self) -> None:
        folder = self.enterContext(TemporaryDirectory())
        loaded = load("master", [f"-config_dir={folder}"], OwnNetwork())
        assert isinstance(loaded, Loaded)
        self.assertEqual(loaded.config, MasterConfig())
        self.assertEqual(loaded.notes, (f"--config_dir has no effect: there is no {folder}/weedtw.toml",))

    def test_no_text(self) -> None:
        path = self.write("")
        with open(path, "wb") as file:
            file.write(b"\xff\xfe")
        for place, reason in ((path, "not UTF-8 text"), (os.path.dirname(path), "Is a directory")):
            with self.assertRaises(ConfigError) as caught:
                load("master", ["--config", place], OwnNetwork())
            self.assertEqual(str(caught.exception), f"--config {place}: {reason}")


class SampleTests(SynchronousTestCase):
    """etc/weedtw.toml names every option, each at its default."""

    def test_every_option(self) -> None:
        with open(SAMPLE, encoding="utf-8") as file:
            said = parse_toml(file.read(), SAMPLE)
        expected = {(section, option.name) for section in (MASTER, VOLUME, LOG) for option in OPTIONS[section]}
        self.assertEqual(set(said), expected)

    def test_every_option_is_explained(self) -> None:
        """Beside the key stands a comment, or above it, or above the keys that it belongs to."""
        with open(SAMPLE, encoding="utf-8") as file:
            blocks = re.split(r"\n\s*\n|\n\[", file.read())
        for block in blocks:
            keys = re.findall(r"^(\w+) =.*$", block, re.MULTILINE)
            lines = re.findall(r"^(\w+) =[^#\n]*#", block, re.MULTILINE)
            if keys and not block.lstrip().startswith("#"):
                above = re.findall(r"^#.*\n(\w+) =", block, re.MULTILINE)
                self.assertEqual(set(keys) - set(lines) - set(above), set(), block)

    def test_defaults(self) -> None:
        for program in PROGRAMS:
            plain = load(program, [], OwnNetwork())
            self.assertEqual(load(program, ["--config", SAMPLE], OwnNetwork()), plain)


class OwnNetworkTests(SynchronousTestCase):
    """This machine, of which only the loopback interface is certain."""

    def test_loopback(self) -> None:
        network = OwnNetwork()
        self.assertEqual(network.addresses("127.0.0.1"), ("127.0.0.1",))
        self.assertEqual(network.source("127.0.0.1"), "127.0.0.1")

    def test_no_such_name(self) -> None:
        network = OwnNetwork()
        self.assertEqual(network.addresses("no such name"), ())
        self.assertEqual(network.source("x" * 300), None)
