"""Both spellings of a command line, and what is said about words that make no sense."""

from twisted.trial.unittest import SynchronousTestCase

from weedtw.config.arguments import CommandLine, parse_arguments
from weedtw.config.vocabulary import Program, vocabulary
from weedtw.errors import ConfigError


def parse(program: Program, *arguments: str) -> CommandLine:
    return parse_arguments(arguments, vocabulary(program, log=True))


def said(program: Program, *arguments: str) -> dict[str, str]:
    """What is set, as section.option: text."""
    return {
        f"{section}.{name}": setting.text for (section, name), setting in parse(program, *arguments).settings.items()
    }


class SpellingTests(SynchronousTestCase):
    """Every way to write an option, and what it sets."""

    def test_same_meaning(self) -> None:
        for arguments in (["-port=9334"], ["-port", "9334"], ["--port=9334"], ["--port", "9334"]):
            self.assertEqual(said("master", *arguments), {"master.port": "9334"}, arguments)

    def test_table(self) -> None:
        cases: tuple[tuple[Program, str, dict[str, str]], ...] = (
            ("master", "-ip.bind=0.0.0.0", {"master.ip.bind": "0.0.0.0"}),
            ("master", "-peers=a:1,b:2 -mdir=/m=x", {"master.peers": "a:1,b:2", "master.mdir": "/m=x"}),
            ("volume", "--dir ./1,./2 --max 7,20", {"volume.dir": "./1,./2", "volume.max": "7,20"}),
            ("volume", "-mserver=a:1", {"volume.mserver": "a:1"}),
            ("volume", "-master a:1", {"volume.mserver": "a:1"}),
            ("volume", "-fsync -port 1", {"volume.fsync": "true", "volume.port": "1"}),
            ("volume", "-fsync=false", {"volume.fsync": "false"}),
            ("volume", "-minFreeSpacePercent=2", {"volume.minFreeSpace": "2"}),
            ("server", "--master.port 1 -volume.port=2", {"master.port": "1", "volume.port": "2"}),
            ("server", "-ip=h -dir=./1", {"master.ip": "h", "volume.ip": "h", "volume.dir": "./1"}),
            ("server", "-master.dir=m -volume.max=3", {"master.mdir": "m", "volume.max": "3"}),
            ("server", "-whiteList=::1", {"master.whiteList": "::1", "volume.whiteList": "::1"}),
            ("server", "-dataCenter=d -rack=r", {"volume.dataCenter": "d", "volume.rack": "r"}),
            (
                "server",
                "-volume.fileSizeLimitMB=9",
                {"master.fileSizeLimitMB": "9", "volume.fileSizeLimitMB": "9"},
            ),
            ("server", "-volume.dir.idx=/i", {"volume.dir.idx": "/i"}),
            ("server", "-master=true -volume -filer=false", {}),
            ("master", "-logFormat=json", {"log.logFormat": "json"}),
            ("master", "", {}),
        )
        for program, line, expected in cases:
            self.assertEqual(said(program, *line.split()), expected, line)

    def test_negative_number_is_a_value(self) -> None:
        self.assertEqual(said("master", "--port", "-1"), {"master.port": "-1"})

    def test_last_one_counts(self) -> None:
        self.assertEqual(said("master", "-port=1", "--port", "2"), {"master.port": "2"})

    def test_config_file_anywhere(self) -> None:
        for arguments in (["--config", "f"], ["-config=f", "-port=1"], ["-port=1", "--config=f"]):
            self.assertEqual(parse("master", *arguments).config, "f")
        self.assertEqual(parse("volume", "-config_dir=/etc/weedtw").config_dir, "/etc/weedtw")

    def test_an_option_is_no_value(self) -> None:
        for word in ("--config_dir", "--config", "--help", "--version", "--ip"):
            with self.assertRaises(ConfigError) as caught:
                parse("master", "--port", word, "x")
            self.assertIn(f"{word!r} is an option itself", str(caught.exception))

    def test_help_and_version(self) -> None:
        for word in ("-h", "-help", "--help", "--h"):
            self.assertTrue(parse("server", word).asks_help)
        self.assertTrue(parse("server", "--version").asks_version)

    def test_taken_without_effect(self) -> None:
        line = parse(
            "master", "-port.grpc=1", "-telemetry=false", "-raftHashicorp", "-raftBootstrap=true", "-cpuprofile", "x"
        )
        self.assertEqual(line.settings, {})
        self.assertEqual(len(line.notes), 5)
        self.assertEqual(line.notes[0], "--port.grpc has no effect: one port serves everything")

    def test_off_is_what_is_so_anyway(self) -> None:
        for word in ("-filer=false", "-s3=false", "-disableHttp=false", "-volume.images.fix.orientation=false"):
            self.assertEqual(parse("server", word).settings, {})

    def test_twist_has_its_own_log_options(self) -> None:
        with self.assertRaises(ConfigError):
            parse_arguments(["--logFormat=json"], vocabulary("master", log=False))


class ErrorTests(SynchronousTestCase):
    """One line each: the option as it was written, what is wrong, what it takes."""

    def test_lines(self) -> None:
        cases: tuple[tuple[Program, str, str], ...] = (
            ("master", "--prot 9333", "--prot: unknown option; did you mean --port?"),
            ("master", "--ip-bind=x", "--ip-bind: unknown option; did you mean --ip.bind?"),
            (
                "master",
                "--DEFAULTREPLICATION=1",
                "--DEFAULTREPLICATION: unknown option; did you mean --defaultReplication?",
            ),
            ("master", "--zzzzzz", "--zzzzzz: unknown option"),
            ("server", "-port=1", "--port: unknown option; did you mean --master.port or --volume.port?"),
            (
                "server",
                "-port.grpc=1",
                "--port.grpc: unknown option; did you mean --master.port.grpc or --volume.port.grpc?",
            ),
            ("server", "--max 7", "--max: unknown option; did you mean --volume.max?"),
            (
                "master",
                "-filer.port=1",
                "--filer.port: weedtw has no filer; it is SeaweedFS's master and volume server",
            ),
            ("server", "-s3", "--s3: weedtw has no S3 gateway; it is SeaweedFS's master and volume server"),
            (
                "server",
                "-mq.broker",
                "--mq.broker: weedtw has no message queue; it is SeaweedFS's master and volume server",
            ),
            (
                "server",
                "-webdav=true",
                "--webdav: weedtw has no WebDAV gateway; it is SeaweedFS's master and volume server",
            ),
            ("server", "-volume=false", "--volume: not supported: to run a master alone use the master command"),
            ("master", "-disableHttp", "--disableHttp: not supported: weedtw speaks HTTP only"),
            ("master", "--port", "--port: a value is missing; it takes a port number from 1 to 65535"),
            (
                "master",
                "--mdir --port 1",
                "--mdir: a value is missing, '--port' is an option itself; it takes the path of a folder",
            ),
            ("master", "9333", "9333: not an option; options start with a dash, such as --port=9333"),
            ("volume", "-fsync false", "false: not an option; options start with a dash, such as --x=false"),
            ("volume", "-fsync=maybe", "--fsync: 'maybe' is not true or false"),
            ("volume", "-master=a:1 -mserver=b:1", "--mserver: 'b:1' contradicts --master 'a:1'; give one of them"),
            ("master", "-- x", "--: not an option; options start with a dash, such as --port=9333"),
            ("master", "--config", "--config: a value is missing; it takes the path of a file or folder"),
        )
        for program, line, expected in cases:
            with self.assertRaises(ConfigError) as caught:
                parse(program, *line.split())
            self.assertEqual(str(caught.exception), expected, line)

    def test_empty_word(self) -> None:
        self.assertRaises(ConfigError, parse, "master", "")

    def test_same_thing_by_two_names_is_no_contradiction(self) -> None:
        self.assertEqual(said("volume", "-master=a:1", "-mserver=a:1"), {"volume.mserver": "a:1"})
