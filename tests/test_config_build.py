"""From settings to configuration objects: defaults, what must fit together, and who wins."""

import os
from tempfile import TemporaryDirectory

import attrs
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config import FolderConfig, MasterConfig, MinFree, ServerConfig, VolumeConfig
from weedtw.config.build import TICK
from weedtw.config.load import Config, Loaded, load
from weedtw.config.vocabulary import Program
from weedtw.errors import ConfigError
from weedtw.raft.core import Settings
from weedtw.raft.interface import Timing

EMPTY_WORD = "''"


@attrs.frozen
class FakeNetwork:
    """Names and routes as a table: name -> (its addresses, our address on the way to it)."""

    hosts: dict[str, tuple[tuple[str, ...], str | None]] = attrs.Factory(dict)

    def addresses(self, host: str) -> tuple[str, ...]:
        if host == "localhost":
            return ("127.0.0.1", "::1")
        return self.hosts[host][0] if host in self.hosts else (host,) if host[:1].isdigit() else ()

    def source(self, host: str) -> str | None:
        return self.hosts[host][1] if host in self.hosts else None


NETWORK = FakeNetwork(
    {
        "self": (("10.0.0.5",), "10.0.0.5"),
        "other": (("10.0.0.6",), "10.0.0.5"),
        "here": (("127.0.1.1",), "127.0.1.1"),
        "v6": (("fd00::6",), "fd00::5"),
        "fd00::5": (("fd00::5",), "fd00::5"),
        "third": (("10.0.0.7",), "10.0.0.5"),
        "second": (("10.1.0.5",), "10.1.0.5"),  # another address of this machine
        "10.0.0.5": (("10.0.0.5",), "10.0.0.5"),
    }
)


def config(program: Program, line: str = "") -> Config:
    words = ["" if word == EMPTY_WORD else word for word in line.split()]
    loaded = load(program, words, NETWORK)
    assert isinstance(loaded, Loaded)
    return loaded.config


def master(line: str = "") -> MasterConfig:
    made = config("master", line)
    assert isinstance(made, MasterConfig)
    return made


def volume(line: str = "") -> VolumeConfig:
    made = config("volume", line)
    assert isinstance(made, VolumeConfig)
    return made


def server(line: str = "") -> ServerConfig:
    made = config("server", line)
    assert isinstance(made, ServerConfig)
    return made


class DefaultTests(SynchronousTestCase):
    """Nothing said: the defaults of the table are those of the objects."""

    def test_master(self) -> None:
        self.assertEqual(master(), MasterConfig())

    def test_volume(self) -> None:
        self.assertEqual(volume(), VolumeConfig(public_url="localhost:8080"))

    def test_server(self) -> None:
        self.assertEqual(
            server(),
            ServerConfig(
                master=MasterConfig(port_option="--master.port"),
                volume=VolumeConfig(public_url="localhost:8080", port_option="--volume.port"),
            ),
        )

    def test_empty_texts_say_nothing(self) -> None:
        line = "-ip= -ip.bind= -whiteList= -peers= -defaultReplication="
        self.assertEqual(master(line), MasterConfig())
        line = "-ip= -dir.idx= -disk= -dataCenter= -rack '' -publicUrl= -whiteList="
        self.assertEqual(volume(line), VolumeConfig(public_url="localhost:8080"))


class ValueTests(SynchronousTestCase):
    """Each option arrives in its field."""

    def test_master(self) -> None:
        made = master(
            "-port=9444 -ip=h -ip.bind=0.0.0.0 -mdir=/m -volumeSizeLimitMB=100 -defaultReplication=001 "
            "-garbageThreshold=0.5 -vacuumIntervalSeconds=60 -pulseSeconds=1 -whiteList=10.0.0.0/8 "
            "-fileSizeLimitMB=9 -volumeGrowth=1,2,3,4 -electionTimeout=1s -heartbeatInterval=200ms -peers=none"
        )
        self.assertEqual((made.address, made.bind, made.mdir), ("h:9444", "0.0.0.0", "/m"))
        self.assertEqual((made.volume_size_limit_mb, made.volume_size_limit), (100, 100 << 20))
        self.assertEqual((str(made.default_replication), made.garbage_threshold), ("001", 0.5))
        self.assertEqual((made.vacuum_interval, made.pulse_seconds, made.file_size_limit_mb), (60.0, 1.0, 9))
        self.assertEqual((made.white_list, tuple(made.growth)), (("10.0.0.0/8",), (1, 2, 3, 4)))
        self.assertEqual((made.election_timeout, made.heartbeat_interval, made.peers), (1.0, 0.2, ()))

    def test_volume(self) -> None:
        made = volume(
            "-port=8081 -ip=h -publicUrl=p:80 -dir=/1,/2 -max=7,20 -disk=ssd,hdd -dir.idx=/i -minFreeSpace=10GiB "
            "-mserver=self:1,other:2,self:1 -dataCenter=dc1 -rack=r1 -readMode=redirect -fileSizeLimitMB=9 -fsync "
            "-offsetBytes=5 -idleTimeout=1m -concurrentUploadLimitMB=3 -concurrentDownloadLimitMB=4 -index=memory "
            "-hotCacheMB=5 -whiteList=::1 -pulseSeconds=500ms"
        )
        self.assertEqual(
            made,
            VolumeConfig(
                ip="h",
                bind="h",
                port=8081,
                public_url="p:80",
                folders=(FolderConfig("/1", 7, "/i", "ssd"), FolderConfig("/2", 20, "/i", "")),
                masters=("self:1", "other:2"),
                data_center="dc1",
                rack="r1",
                read_mode="redirect",
                file_size_limit_mb=9,
                min_free_space=MinFree(0.0, 10 << 30),
                white_list=("::1",),
                fsync=True,
                offset_width=5,
                idle_timeout=60.0,
                concurrent_upload_limit_mb=3,
                concurrent_download_limit_mb=4,
                hot_cache_mb=5,
                pulse_seconds=0.5,
            ),
        )

    def test_one_count_is_for_every_folder(self) -> None:
        self.assertEqual([folder.max_volumes for folder in volume("-dir=/1,/2,/3 -max=5").folders], [5, 5, 5])

    def test_home(self) -> None:
        home = os.path.expanduser("~")
        self.assertEqual(master("-mdir=~/m").mdir, f"{home}/m")
        made = volume("-dir=~/1 -dir.idx=~/i").folders[0]
        self.assertEqual((made.path, made.idx_path), (f"{home}/1", f"{home}/i"))

    def test_server(self) -> None:
        made = server("-dir=/1,/2 -master.port=9444 -volume.port=8081 -volume.max=7,8 -ip=other -ip.bind=::")
        self.assertEqual((made.master.mdir, made.master.address), ("/1", "other:9444"))
        self.assertEqual((made.volume.masters, made.volume.address), (("other:9444",), "other:8081"))
        self.assertEqual((made.master.bind, made.volume.bind), ("::", "::"))
        self.assertEqual(server("-dir=/1 -master.dir=/m").master.mdir, "/m")

    def test_server_lets_its_own_master_in(self) -> None:
        made = server("-whiteList=10.0.0.0/8")
        self.assertEqual(made.volume.white_list, ("10.0.0.0/8", "127.0.0.1", "::1"))
        self.assertEqual(made.master.white_list, ("10.0.0.0/8",))


class AddressTests(SynchronousTestCase):
    """What `--ip` and `--ip.bind` are when they are left out."""

    def test_table(self) -> None:
        for line, ip, bind in (
            ("", "localhost", "127.0.0.1"),
            ("-mserver=localhost:9333", "localhost", "127.0.0.1"),
            ("-mserver=127.0.0.9:9333", "localhost", "127.0.0.1"),
            ("-mserver=other:9333", "10.0.0.5", "10.0.0.5"),
            ("-mserver=localhost:1,other:9333", "10.0.0.5", "10.0.0.5"),
            ("-mserver=unknown:9333", "localhost", "127.0.0.1"),
            ("-mserver=here:9333", "localhost", "127.0.0.1"),
            ("-mserver=v6:9333", "fd00::5", "fd00::5"),
            ("-ip=127.0.0.3", "127.0.0.3", "127.0.0.3"),
            ("-ip=::1", "::1", "::1"),
            ("-ip=name", "name", "name"),
            ("-ip=name -ip.bind=0.0.0.0", "name", "0.0.0.0"),
            ("-ip.bind=0.0.0.0", "localhost", "0.0.0.0"),
        ):
            made = volume(line)
            self.assertEqual((made.ip, made.bind), (ip, bind), line)

    def test_brackets(self) -> None:
        self.assertEqual(volume("-ip=fd00::5").address, "[fd00::5]:8080")
        self.assertEqual(volume("-ip=fd00::5").public_url, "[fd00::5]:8080")

    def test_master_alone(self) -> None:
        for line, address in (
            ("-peers=none", "localhost:9333"),
            ("-peers=localhost:9333", "localhost:9333"),
            ("-peers=127.0.0.1:9333", "localhost:9333"),
            ("-port=1 -peers=self:1", "10.0.0.5:1"),
            ("-ip=self -peers=10.0.0.5:9333", "self:9333"),
            ("-ip=x -peers=x:9333", "x:9333"),
            ("-peers=here:9333", "localhost:9333"),
        ):
            made = master(line)
            self.assertEqual((made.address, made.peers), (address, ()), line)


class PeerTests(SynchronousTestCase):
    """Which of the masters in `--peers` are others, and whether this one is among them."""

    def test_nobody(self) -> None:
        for line in ("", "-peers=none", "-peers=", f"-peers {EMPTY_WORD}"):
            made = master(line)
            self.assertEqual((made.peers, made.named, made.founder), ((), (), False), line)

    def test_table(self) -> None:
        """Address, the others, and whether it may found a cluster with them."""
        for line, address, others, founder in (
            ("-peers=localhost:9333", "localhost:9333", "", True),
            ("-port=9334 -peers=localhost:9333", "localhost:9334", "localhost:9333", False),
            ("-port=9334 -peers=localhost", "localhost:9334", "localhost:9333", False),
            (
                "-port=9334 -peers=localhost:9335,localhost:9334,localhost:9333,localhost:9335",
                "localhost:9334",
                "localhost:9335 localhost:9333",
                True,
            ),
            ("-port=9334 -peers=localhost:9333.19333,localhost:9334.19334", "localhost:9334", "localhost:9333", True),
            ("-peers=localhost:9333,127.0.0.1:9333,[::1]:9333,here:9333,localhost:1", "localhost:9333",
             "localhost:1", True),
            ("-peers=self:9333,10.0.0.5:9333,other:9333", "10.0.0.5:9333", "other:9333", True),
            ("-peers=other:9333,self:9333", "10.0.0.5:9333", "other:9333", True),
            ("-peers=other:9333", "10.0.0.5:9333", "other:9333", False),
            ("-peers=other:9333,unknown:9333", "10.0.0.5:9333", "other:9333 unknown:9333", False),
            ("-peers=other:9333,second:9333", "10.1.0.5:9333", "other:9333", True),  # by the name they know
            ("-peers=other:9333,here:9333", "10.0.0.5:9333", "other:9333", True),  # Debian's name for itself
            ("-ip=10.0.0.5 -peers=other:9333,second:9333", "10.0.0.5:9333", "other:9333 second:9333", False),
            ("-ip=Self -peers=self:9333,other:9333", "Self:9333", "other:9333", True),
            ("-ip=10.0.0.5 -peers=localhost:9333,localhost:9334", "10.0.0.5:9333", "localhost:9334", True),
            ("-ip=127.0.0.2 -peers=127.0.0.1:9333,127.0.0.2:9333", "127.0.0.2:9333", "127.0.0.1:9333", True),
            ("-ip=127.0.0.1 -peers=127.0.0.1:9333,127.0.0.2:9333", "127.0.0.1:9333", "127.0.0.2:9333", True),
            ("-peers=v6:9333,[fd00::5]:9333", "[fd00::5]:9333", "v6:9333", True),
            ("-port=9334 -peers=localhost:9333,other:9333", "10.0.0.5:9334", "localhost:9333 other:9333", False),
        ):  # fmt: skip
            made = master(line)
            self.assertEqual((made.address, " ".join(made.peers), made.founder), (address, others, founder), line)

    def test_server_reports_to_all(self) -> None:
        """The recipe of SeaweedFS's documentation."""
        made = server(
            "-master.port=9334 -dir=./2 -volume.port=8081 -master.peers=localhost:9333,localhost:9334,localhost:9335"
        )
        self.assertEqual(
            (made.master.address, made.master.mdir, made.master.founder), ("localhost:9334", "./2", True)
        )
        self.assertEqual(made.master.peers, ("localhost:9333", "localhost:9335"))
        self.assertEqual(made.volume.masters, ("localhost:9334", "localhost:9333", "localhost:9335"))
        self.assertEqual(made.volume.address, "localhost:8081")

    def test_server_lets_the_other_masters_in(self) -> None:
        made = server("-whiteList=192.168.0.0/16 -master.peers=self:9333,other:9333")
        self.assertEqual(made.volume.white_list, ("192.168.0.0/16", "10.0.0.5", "10.0.0.6"))

    def test_as_seaweedfs_is_started(self) -> None:
        made = master(
            "-ip=127.0.0.1 -port=9334 -port.grpc=19334 -mdir=D -peers=127.0.0.1:9333,127.0.0.1:9334,127.0.0.1:9335 "
            "-electionTimeout=3s -heartbeatInterval=300ms -volumeSizeLimitMB=32 -defaultReplication=000 "
            "-raftHashicorp -raftBootstrap=false -resumeState"
        )
        self.assertEqual((made.election_timeout, made.heartbeat_interval, made.fast_election), (3.0, 0.3, True))
        self.assertEqual((made.peers, made.founder), (("127.0.0.1:9333", "127.0.0.1:9335"), True))
        both = server(
            "-master.electionTimeout=1m -master.heartbeatInterval=2s -master.raftHashicorp -master.raftBootstrap "
            "-master.resumeState -master.peers=localhost:9333,localhost:9334 -master.port.grpc=19333 "
            "-volume.port.grpc=18080 -master.noFastElection"
        )
        self.assertEqual((both.master.election_timeout, both.master.heartbeat_interval), (60.0, 2.0))
        self.assertFalse(both.master.fast_election)

    def test_an_address_that_the_others_cannot_reach(self) -> None:
        for line, expected in (
            ("-ip=localhost -peers=localhost:9333,other:9333", "--ip: localhost cannot be reached by masters on "
             "other hosts, such as other:9333; it takes the address by which they reach this one"),
            ("-ip=127.0.0.1 -peers=other:9333", "--ip: 127.0.0.1 cannot be reached by masters on other hosts, "
             "such as other:9333; it takes the address by which they reach this one"),
            ("-peers=localhost:9333,other:9333,third:9333", "--peers: localhost:9333 stands beside other:9333, but a "
             "master that calls itself localhost cannot be reached by masters on other hosts; name each by the "
             "address that it has for the others, its --ip (here: 10.0.0.5:9333)"),
            ("-peers=self:9333,localhost:9334,other:9333", "--peers: localhost:9334 stands beside other:9333, but a "
             "master that calls itself localhost cannot be reached by masters on other hosts; name each by the "
             "address that it has for the others, its --ip (here: 10.0.0.5:9333)"),
            ("-peers=unknown:9333", "--peers: unknown:9333 cannot be found from here, so there is no telling "
             "by which address it would reach this master; give --ip"),
        ):  # fmt: skip
            with self.assertRaises(ConfigError) as caught:
                master(line)
            self.assertEqual(str(caught.exception), expected, line)
        self.assertEqual(master("-ip=x -peers=unknown:9333").peers, ("unknown:9333",))

    def test_the_shortest_times(self) -> None:
        """Those that are taken leave a leader a lease that lasts from one heartbeat to the next."""
        self.assertEqual(TICK, Timing().tick)
        for interval in (0.02, 0.03, 0.05, 0.1, 0.3, 1, 60):
            heartbeat = max(1, round(interval / TICK))
            least = round((2 * heartbeat + 3) * TICK, 3)
            made = master(f"-heartbeatInterval={interval} -electionTimeout={max(least, 0.1)}")
            settings = Settings(election=round(made.election_timeout / TICK), heartbeat=heartbeat)
            self.assertGreater(settings.lease, settings.heartbeat, interval)
            self.assertRaises(ConfigError, master, f"-heartbeatInterval={interval} -electionTimeout={least - 0.02}")


class ErrorTests(SynchronousTestCase):
    """One line each, which names the option as it was written."""

    def test_lines(self) -> None:
        cases: tuple[tuple[Program, str, str], ...] = (
            ("master", "-port=70000", "--port: '70000' is not a port number from 1 to 65535"),
            ("server", "-master.port=x", "--master.port: 'x' is not a port number from 1 to 65535"),
            ("server", "-master.port=5 -volume.port=5", "--volume.port: 5 is the master's port too; "
             "give --master.port or --volume.port"),
            ("master", "-ip.bind=a:b", "--ip.bind: 'a:b' is not an IP address or host name to listen on, "
             "0.0.0.0 for every interface"),
            ("master", "-ip=0.0.0.0", "--ip: '0.0.0.0' is not an IP address or host name that others can reach "
             "(0.0.0.0 belongs in --ip.bind)"),
            ("master", "-defaultReplication=9", "--defaultReplication: '9' is not three digits "
             "(copies in other data centers, on other racks, on other servers of the rack) such as 001"),
            ("master", "-peers=a:1,none", "--peers: 'a:1,none' is not a list such as host1:9333,host2:9333, or none"),
            ("server", "-master.peers=a:x", "--master.peers: 'a:x' is not a list such as host1:9333,host2:9333, "
             "or none"),
            ("master", "-electionTimeout=200ms", "--electionTimeout: an election timeout of 200ms is too short for "
             "heartbeats every 100ms; they take one of at least 260ms"),
            ("server", "-master.heartbeatInterval=300ms", "--master.heartbeatInterval: an election timeout of 500ms "
             "is too short for heartbeats every 300ms; they take one of at least 660ms"),
            ("master", "-electionTimeout=99ms",
             "--electionTimeout: '99ms' is not a duration from 100ms to 10m, such as 300ms, 3s or 1h30m"),
            ("master", "-garbageThreshold=0", "--garbageThreshold: '0' is not a number above 0, at most 1"),
            ("volume", "-max=7,20", "--max: 2 values for 1 folders in --dir; it takes one, or one for each"),
            ("volume", "-dir=/1,/2,/3 -max=7,20",
             "--max: 2 values for 3 folders in --dir; it takes one, or one for each"),
            ("server", "-dir=/1,/2,/3 -volume.max=7,20",
             "--volume.max: 2 values for 3 folders in --dir; it takes one, or one for each"),
            ("volume", "-dir=/1,/1/", "--dir: /1/ is named twice (as /1); it takes different folders"),
            ("volume", "-dir=/1,", "--dir: '/1,' is not a list of folders such as ./1,./2"),
            ("volume", "-dir=", "--dir: '' is not a list of folders such as ./1,./2"),
            ("volume", "-max=-1", "--max: '-1' is not one count of volumes, or one for each --dir, such as 7,20"),
            ("volume", "-index=sorted", "--index: 'sorted' is not memory or lmdb "
             "(which leveldb, leveldbMedium and leveldbLarge mean as well)"),
            ("volume", "-offsetBytes=6", "--offsetBytes: '6' is not 4 or 5"),
            ("volume", "-readMode=x", "--readMode: 'x' is not local, proxy or redirect"),
            ("volume", "-mserver=localhost:8080", "--mserver: localhost:8080 is this volume server itself; "
             "it takes the addresses of masters"),
            ("volume", "-whiteList=home", "--whiteList: 'home' is not a list of addresses and networks "
             "such as 10.0.0.7,192.168.0.0/16"),
            ("volume", "-minFreeSpace=lots", "--minFreeSpace: 'lots' is not a percentage up to 100 "
             "or a size such as 10GiB"),
            ("volume", "-idleTimeout=0",
             "--idleTimeout: '0' is not a duration from 1s to 24h, such as 300ms, 3s or 1h30m"),
            ("volume", "-publicUrl=http://x", "--publicUrl: 'http://x' is not host:port without http://"),
            ("master", "-config=a -config_dir=b", "--config_dir: contradicts --config; give one of them"),
            ("master", "-config=/nowhere/x.toml", "--config /nowhere/x.toml: No such file or directory"),
            ("master", "-config_dir=/nowhere", "--config /nowhere/weedtw.toml: No such file or directory"),
        )  # fmt: skip
        for program, line, expected in cases:
            with self.assertRaises(ConfigError) as caught:
                config(program, line)
            self.assertEqual(str(caught.exception), expected, line)

    def test_folder_named_through_a_link(self) -> None:
        folder = self.enterContext(TemporaryDirectory())
        os.symlink(folder, os.path.join(folder, "link"))
        with self.assertRaises(ConfigError):
            volume(f"-dir={folder},{folder}/link")


class WithoutPeers(SynchronousTestCase):
    """A master that is started again, with nothing but its folder."""

    def ip(self, program: Program, *on_disk: str, line: str = "") -> str:
        asked: list[str] = []

        def remembered(folder: str) -> tuple[str, ...]:
            asked.append(folder)
            return on_disk

        loaded = load(
            program, [*line.split(), "-mdir=x" if program == "master" else "-dir=x"], NETWORK, remembered=remembered
        )
        assert isinstance(loaded, Loaded)
        self.assertLessEqual(set(asked), {"x"})
        made = loaded.config
        return made.ip if isinstance(made, MasterConfig) else made.master.ip  # type: ignore[union-attr]

    def test_it_goes_by_the_address_on_its_disk(self) -> None:
        for program in ("master", "server"):
            self.assertEqual(self.ip(program, "10.0.0.5:9333", "other:9333"), "10.0.0.5")

    def test_or_by_the_one_that_leads_to_the_others_when_its_own_is_gone(self) -> None:
        self.assertEqual(self.ip("master", "gone:9333", "other:9333"), "10.0.0.5")

    def test_what_is_said_counts_more(self) -> None:
        self.assertEqual(self.ip("master", "other:9333", line="-ip=10.1.0.5"), "10.1.0.5")

    def test_a_cluster_on_one_machine_stays_there(self) -> None:
        self.assertEqual(self.ip("master", "localhost:9333", "localhost:9334"), "localhost")
        self.assertEqual(self.ip("master"), "localhost")
