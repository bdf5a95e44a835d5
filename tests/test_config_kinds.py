"""What each kind of option takes, value by value."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.config import kinds
from weedtw.config.kinds import Kind
from weedtw.config.model import Growth, MinFree
from weedtw.config.options import OPTIONS, REPLICATION
from weedtw.errors import WeedError


class KindTests(SynchronousTestCase):
    """Texts that are taken, and texts that are not."""

    def check(self, kind: Kind, taken: dict[str, object], refused: list[str]) -> None:
        for text, value in taken.items():
            self.assertEqual(kind.parse(text), value, text)
        for text in refused:
            with self.assertRaises((ValueError, WeedError), msg=text):
                kind.parse(text)

    def test_port(self) -> None:
        self.check(
            kinds.PORT, {"1": 1, "65535": 65535, "09333": 9333}, ["0", "65536", "-1", "", "9333 ", "1e3", "٣", "1_0"]
        )

    def test_number(self) -> None:
        self.check(kinds.number(0, 1), {"0.3": 0.3, "1": 1.0, ".5": 0.5}, ["0", "1.1", "nan", "inf", "-1", "", "x"])

    def test_duration(self) -> None:
        self.check(
            kinds.duration(0.01, 7200),
            {
                "300ms": 0.3,
                "3s": 3.0,
                "10m": 600.0,
                "1h30m": 5400.0,
                "1.5s": 1.5,
                "5": 5.0,
                "2m0s": 120.0,
                "50000us": 0.05,
            },
            ["", "ms", "3x", "1h30", "-3s", "3h", "1ms", "3 s", "nan", "1e2"],
        )

    @given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
    def test_duration_adds_up(self, hours: int, minutes: int, seconds: int, millis: int) -> None:
        text = f"{hours}h{minutes}m{seconds}s{millis}ms"
        self.assertAlmostEqual(kinds.parse_duration(text), hours * 3600 + minutes * 60 + seconds + millis / 1000)

    def test_bool(self) -> None:
        self.check(kinds.BOOL, {"true": True, "1": True, "T": True, "False": False, "0": False}, ["", "yes", "2"])

    def test_min_free(self) -> None:
        self.check(
            kinds.MIN_FREE,
            {
                "1": MinFree(1.0),
                "0": MinFree(0.0),
                "2.5%": MinFree(2.5),
                "100": MinFree(100.0),
                "101": MinFree(0.0, 101),
                "50B": MinFree(0.0, 50),
                "10GiB": MinFree(0.0, 10 << 30),
                "10GB": MinFree(0.0, 10**10),
                "1.5 TiB": MinFree(0.0, 3 << 39),
            },
            ["", "-1", "x", "1GiB%", "200%", "9999999PiB", "1Z"],
        )

    def test_min_free_is_low(self) -> None:
        self.assertTrue(MinFree(1.0).is_low(free=9, total=1000))
        self.assertFalse(MinFree(1.0).is_low(free=10, total=1000))
        self.assertTrue(MinFree(0.0, 50).is_low(free=49, total=10))
        self.assertFalse(MinFree(0.0).is_low(free=0, total=10))

    def test_hosts(self) -> None:
        good = ["localhost", "10.0.0.7", "::1", "weed-1.example.org", "a_b", "fe80::1"]
        bad = [
            "",
            "0.0.0.0",
            "::",
            "1.2.3",
            "1.2.3.4.5",
            "a b",
            "-a",
            "a-",
            "http://x",
            "x:1",
            "a..b",
            "ä" * 3,
            "[::1]",
            "a/b",
        ]
        self.check(kinds.HOST, {host: host for host in good}, bad)

    def test_interface_may_be_every_one(self) -> None:
        self.check(kinds.INTERFACE, {"0.0.0.0": "0.0.0.0", "::": "::"}, ["", "256.0.0.1", "*", "all interfaces"])

    def test_servers(self) -> None:
        self.check(
            kinds.SERVERS,
            {
                "localhost:9333": ("localhost:9333",),
                "a, b:1": ("a:9333", "b:1"),
                "a:9333.19333": ("a:9333",),
                "[::1]:5": ("[::1]:5",),
                "::1": ("[::1]:9333",),
                "[fe80::1]": ("[fe80::1]:9333",),
            },
            ["", "a:", ":1", "a:0", "a:99999", "a,,b", "a:1.x", "0.0.0.0:1", "http://a:1", "[::1", "[a]:1", "[::1]x"],
        )

    def test_peers(self) -> None:
        self.check(kinds.PEERS, {"none": (), "a:1,b:2": ("a:1", "b:2")}, ["none,a:1", "a,"])

    def test_public_url(self) -> None:
        self.check(kinds.PUBLIC_URL, {"h:80": "h:80", "h": "h"}, ["http://h", "h:", "h/x", ""])

    def test_white_list(self) -> None:
        self.check(
            kinds.WHITE_LIST,
            {"10.0.0.0/8,::1": ("10.0.0.0/8", "::1"), "localhost": ("localhost",), "10.0.0.7/8": ("10.0.0.7/8",)},
            ["host1", "10.0.0.0/33", "1.2.3", ","],
        )

    def test_growth(self) -> None:
        self.check(kinds.GROWTH, {"7,6,3,1": Growth(7, 6, 3, 1)}, ["7,6,3", "7,6,3,0", "a,b,c,d", "7,6,3,1,1", ""])
        self.assertEqual([Growth().for_copies(copies) for copies in (1, 2, 3, 4, 9)], [7, 6, 3, 1, 1])

    def test_name(self) -> None:
        self.check(
            kinds.NAME, {"dc1": "dc1", "Frankfurt-2": "Frankfurt-2"}, ["a b", "a/b", "a,b", "a\n", "x" * 129, "a'b"]
        )

    def test_path(self) -> None:
        self.check(kinds.PATH, {"/a b": "/a b", "0.5": "0.5"}, ["", "a\0b"])

    def test_replication(self) -> None:
        self.check(REPLICATION, {}, ["9", "0001", "abc", "999", "-01"])
        self.assertEqual(REPLICATION.parse("101").copies, 3)

    def test_every_default_is_taken(self) -> None:
        for options in OPTIONS.values():
            for option in options:
                if option.default:
                    option.kind.parse(option.default)
                self.assertTrue(option.kind.takes)
                self.assertTrue(option.help)
