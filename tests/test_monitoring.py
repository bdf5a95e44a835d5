"""The files for Prometheus and Grafana speak of numbers that the daemons have."""

import json
import os
import re
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from weedtw.http.metrics import Gauge
from weedtw.volume import metrics as of_volume

ETC = os.path.join(os.path.dirname(__file__), "..", "etc")
_NAME = re.compile(r"\bweedtw_[a-z_]+")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def text_of(name: str) -> str:
    with open(os.path.join(ETC, name), encoding="utf-8") as file:
        return file.read()


def sources() -> str:
    folder = os.path.join(ETC, "..", "weedtw")
    found = ""
    for name in ("http/metrics.py", "master/metrics.py", "volume/metrics.py"):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found += file.read()
    return found


def known() -> set[str]:
    names = set(_NAME.findall(sources()))
    return names | {"weedtw_http_requests_total"}


class MonitoringTests(SynchronousTestCase):
    def test_every_number_that_is_spoken_of_exists(self) -> None:
        for name in ("alerts.yml", "grafana.json"):
            spoken_of = {_SUFFIX.sub("", found) for found in _NAME.findall(text_of(name))}
            self.assertGreater(len(spoken_of), 10, name)
            self.assertEqual(spoken_of - known(), set(), name)

    def test_every_number_is_told_of(self) -> None:
        with open(os.path.join(ETC, "..", "docs", "operations.md"), encoding="utf-8") as file:
            told = set(_NAME.findall(file.read()))
        self.assertEqual(known() - told - {"weedtw_http_requests"}, set())

    def test_every_alert_is_told_of(self) -> None:
        with open(os.path.join(ETC, "..", "docs", "operations.md"), encoding="utf-8") as file:
            told = file.read()
        alerts = re.findall(r"- alert: (\w+)", text_of("alerts.yml"))
        self.assertEqual(max(Counter(alerts).values()), 1)
        for alert in alerts:
            self.assertIn(alert, told)

    def test_each_alert_is_whole(self) -> None:
        for rule in text_of("alerts.yml").split("- alert: ")[1:]:
            for part in ("expr: ", "severity: ", "summary: ", "description: "):
                self.assertIn(part, rule)

    def test_the_dashboard_is_one(self) -> None:
        board = json.loads(text_of("grafana.json"))
        self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))
        for panel in board["panels"]:
            self.assertTrue(panel["title"])
            self.assertTrue(all(target["expr"] for target in panel["targets"]))

    def test_kinds_of_requests(self) -> None:
        for method, path, kind in (
            (b"GET", b"/3,01637037d6", "read"),
            (b"GET", b"", "read"),  # all that is known of a hot one
            (b"DELE", b"", "delete"),
            (b"POST", b"/3,01637037d6", "write"),
            (b"POST", b"/admin/sync", "admin"),
            (b"GET", b"/metrics", "metrics"),
            (b"PATCH", b"/3,01637037d6", "other"),
        ):
            self.assertEqual(of_volume.kind_of(method, path), kind)

    def test_what_happened(self) -> None:
        failures = Counter({"write": 3})
        told: dict[str, Gauge] = {
            one.name: one for one in of_volume.happened(damaged=1, rescued=2, mended=4, failures=failures)
        }
        self.assertEqual(list(told["weedtw_volume_damaged_reads_total"].rows), [((), 1)])
        failed = told["weedtw_volume_replication_failures_total"]
        self.assertEqual(list(failed.rows), [(("write",), 3.0), (("undo",), 0.0)])
