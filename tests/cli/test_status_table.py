"""What the commands print, without a cluster: tables, sizes, errors of one line, results in order."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.report import Report, printable, table, wide_console
from weedtw.cli.session import in_order
from weedtw.cli.status import _as_json, _show
from weedtw.client import ClusterStatus, MasterState, ServerStatus, Trouble, VolumeStatus

HEALTHY = ClusterStatus(
    masters=(
        MasterState("m1:9333", leads=True, leader="m1:9333"),
        MasterState("m2:9333", leader="m1:9333"),
        MasterState("m3:9333"),
        MasterState("m4:9333", error="m4:9333: refuses connections; is it running there?"),
    ),
    leader="m1:9333",
    servers=(
        ServerStatus("dc2", "r1", "v2:8080", "v2:8080", 2, 7),
        ServerStatus("dc1", "r1", "v1:8080", "pub:80", 12, 100),
    ),
    volumes=(
        VolumeStatus(1, "", "000", "", ("v1:8080",), 1_500_000, 20, 95, read_only=False),
        VolumeStatus(2, "", "000", "", ("v1:8080",), 2_000_000, 3, 0, True, ("v1:8080: the disk is full",)),
        VolumeStatus(7, "pics", "001", "3d", ("v1:8080",), 8, 0, 0, read_only=False),
    ),
    absent=("v3:8080",),
    quarantined=(Trouble("v2:8080", "volume 1: it is another volume"),),
    problems=(Trouble("v1:8080", "/d/9.dat is not served: volume version 9 is unknown"),),
)


def _printed(found: ClusterStatus) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        _show(wide_console(), found)
    return out.getvalue()


class StatusTests(SynchronousTestCase):
    def test_the_whole_table(self) -> None:
        self.assertEqual(
            _printed(HEALTHY).splitlines(),
            [
                "Masters",
                "ADDRESS  STATE",
                "m1:9333  leads",
                "m2:9333  follows m1:9333",
                "m3:9333  knows no leader",
                "m4:9333  does not answer",
                "",
                "Volume servers",
                "DATA CENTER  RACK  ADDRESS  VOLUMES  MAX  PAGE",
                "dc1          r1    v1:8080       12  100  http://pub:80/ui/index.html",
                "dc2          r1    v2:8080        2    7  http://v2:8080/ui/index.html",
                "",
                "Volumes",
                "COLLECTION  COPIES  TTL  VOLUMES  FILES     SIZE  DELETED  READ-ONLY",
                "(default)   000     -          2     23  3.3 MiB     95 B          1",
                "pics        001     3d         1      0      8 B      0 B          0",
                "",
                "volume server v3:8080 is away",
                "v1:8080: /d/9.dat is not served: volume version 9 is unknown",
                "v2:8080: quarantined: volume 1: it is another volume",
                "",
                "volume 2 is read-only: v1:8080: the disk is full",
                "volume 7 has 1 of 2 copies: v1:8080",
            ],
        )

    def test_many_volumes_in_trouble_do_not_flood_the_terminal(self) -> None:
        volumes = [VolumeStatus(n, "", "000", "", ("v:1",), 8, 0, 0, read_only=True) for n in range(50)]
        printed = _printed(ClusterStatus((), "", (), tuple(volumes)))
        self.assertEqual(printed.count("is read-only"), 20)
        self.assertIn("... and 30 more such lines", printed)

    def test_json_holds_everything(self) -> None:
        shown = json.loads(json.dumps(_as_json(HEALTHY)))
        self.assertEqual([one["missing_copies"] for one in shown["volumes"]], [0, 0, 1])
        self.assertEqual(shown["servers"][1]["public_url"], "pub:80")

    def test_what_servers_say_cannot_disturb_the_table(self) -> None:
        out = io.StringIO()
        with redirect_stdout(out):
            table(wide_console(), "T", ("A", "#B"), [("[red]x[/red]\x1b[2J\ny", "1")])
        self.assertEqual(out.getvalue(), "T\nA                   B\n[red]x[/red] [2J y  1\n")


class ReportTests(SynchronousTestCase):
    def _shown(self, report: Report) -> tuple[str, str]:
        out, error = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(error), report:
            bar = report.bar("nothing shows this")
            bar.total(100)
            bar.moved(50)
            bar.close()
            report.result("3,01  a\nb", fid="3,01")
            report.failed("c", "no\x07 such file", fileName="c")
            report.failed("d", "d: is a folder")
        self.assertEqual(report.failures, 2)
        return out.getvalue(), error.getvalue()

    def test_lines(self) -> None:
        out, error = self._shown(Report("weedtw upload"))
        self.assertEqual(out, "3,01  a b\n")
        self.assertEqual(error, "weedtw upload: c: no  such file\nweedtw upload: d: is a folder\n")

    def test_json(self) -> None:
        out, error = self._shown(Report("weedtw upload", as_json=True))
        self.assertEqual(
            [json.loads(line) for line in out.splitlines()],
            [{"fid": "3,01"}, {"fileName": "c", "error": "no\x07 such file"}],
        )
        self.assertEqual(error, "weedtw upload: c: no  such file\nweedtw upload: d: is a folder\n")

    @given(st.text())
    def test_whatever_it_is_it_becomes_one_printable_line(self, text: str) -> None:
        self.assertTrue(printable(text).isprintable())


class InOrderTests(SynchronousTestCase):
    def test_results_are_shown_in_the_order_of_the_items_whichever_is_done_first(self) -> None:
        running: dict[str, Deferred[None]] = {}
        shown: list[str] = []

        async def work(item: str) -> "_Shows":
            running[item] = Deferred()
            await running[item]
            return _Shows(shown, item)

        done = Deferred.fromCoroutine(in_order("abcd", work, 3))
        for item, seen in (("b", ""), ("a", "ab"), ("d", "ab"), ("c", "abcd")):
            running[item].callback(None)
            self.assertEqual("".join(shown), seen)
        self.assertIsNone(self.successResultOf(done))


class _Shows:
    def __init__(self, shown: list[str], item: str) -> None:
        self._shown = shown
        self._item = item

    def __call__(self) -> None:
        self._shown.append(self._item)
