"""Requests are counted alike on both ways, and told as Prometheus understands."""

import re
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import VolumeNotFound
from weedtw.http.channel import Site, make_site
from weedtw.http.hot import Hot, Later, Meaning, Reply
from weedtw.http.metrics import Count, Gauge, Metrics, gauge
from weedtw.http.requests import Request
from weedtw.http.responses import endpoint, json_response
from weedtw.http.routes import Routes
from weedtw.http.testing import Wire
from weedtw.http.traffic import BOUNDS, Times, Traffic


class App:
    app = Routes()

    def __init__(self) -> None:
        self.held: Deferred[None] = Deferred()

    @app.route("/a", methods=["GET", "PUT"])
    @endpoint
    async def found(self, request: Request) -> bytes:
        return json_response(request, "found")

    @app.route("/none", methods=["GET"])
    @endpoint
    async def missing(self, request: Request) -> bytes:
        raise VolumeNotFound("none")

    @app.route("/held", methods=["GET"])
    @endpoint
    async def holding(self, request: Request) -> bytes:
        await self.held
        return json_response(request, "let go")


class Spot:
    pattern = re.compile(rb"(GET) /(a|later) HTTP/1\.1\r\n")

    def __init__(self) -> None:
        self.later = Later()

    def answer(self, line: "re.Match[bytes]", meaning: Meaning, body: bytes, boundary: bytes) -> Reply:
        return self.later if line[2] == b"later" else ANSWER


ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"found"'


def kind_of(method: bytes, path: bytes) -> str:
    return "write" if method == b"PUT" else path[1:].decode() or "short"


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


class TrafficTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.app = App()
        self.site: Site = make_site(
            self.app.app.resource(), reactor=self.clock, body_limit=100, traffic=Traffic(kind_of, len(b"GET /a"))
        )

    def counts(self) -> dict[tuple[str, int], int]:
        return {key: times.count for key, times in self.site.traffic.answered().items()}

    def test_by_kind_and_status(self) -> None:
        wire = Wire(self.site)
        wire.send(get("/a") * 2 + get("/none") + get("/nowhere") + get("/a", "PUT") + get("/a", "HEAD"))
        self.assertEqual(self.counts(), {("a", 200): 3, ("none", 404): 1, ("nowhere", 404): 1, ("write", 200): 1})

    def test_hot_ones_count_alike(self) -> None:
        slow, spot = self.site, Spot()
        Wire(slow).send(get("/a") * 3)
        before = self.counts()
        hot = make_site(
            App().app.resource(), reactor=self.clock, body_limit=100, traffic=Traffic(kind_of, len(b"GET /a"))
        )
        hot.hot = Hot(spot)
        Wire(hot).send(get("/a") * 3)
        self.assertEqual({key: times.count for key, times in hot.traffic.answered().items()}, before)
        self.assertEqual(before, {("a", 200): 3})

    def test_a_hot_answer_that_comes_later(self) -> None:
        spot = Spot()
        self.site.hot = Hot(spot)
        wire = Wire(self.site)
        wire.send(get("/later"))
        self.assertEqual((self.counts(), self.site.in_flight), ({}, 1))
        spot.later.give(ANSWER)
        self.assertEqual((self.counts(), self.site.in_flight), ({("l", 200): 1}, 0))

    def test_what_is_refused(self) -> None:
        Wire(self.site).send(b"no HTTP\r\n\r\n")
        self.assertEqual(self.counts(), {("refused", 400): 1})

    def test_how_long_it_took(self) -> None:
        wire = Wire(self.site)
        wire.send(get("/held"))
        self.assertEqual((self.site.in_flight, self.site.connections), (1, 1))
        self.clock.advance(0.3)
        self.app.held.callback(None)
        times = self.site.traffic.answered()["held", 200]
        self.assertAlmostEqual(times.total, 0.3)
        self.assertEqual([bound for bound, count in times.cumulative() if count], [*BOUNDS[9:]])

    def test_times_add_up(self) -> None:
        all_times = Times()
        for seconds in (0.0001, 0.0005, 0.0006, 0.3, 99.0):
            one = Times()
            one.add(seconds)
            all_times.merge(one)
        counted = dict(all_times.cumulative())
        self.assertEqual((counted[BOUNDS[0]], counted[BOUNDS[1]], counted[0.5], counted[10.0]), (2, 3, 4, 4))
        self.assertEqual(all_times.count, 5)


class MetricsTests(SynchronousTestCase):
    def scrape(self, site: Site, numbers: Iterable[Gauge] = ()) -> dict[str, float]:
        body, kind = Metrics(site).render(numbers)
        self.assertIn("text/plain", kind)
        return {
            sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }

    def test_a_scrape(self) -> None:
        site = make_site(App().app.resource(), reactor=Clock(), body_limit=9, traffic=Traffic(kind_of, 0))
        Wire(site).send(get("/a") + get("/none"))
        numbers = [
            gauge("weedtw_level", "A level.", 2.5),
            Count("weedtw_deeds_total", "Deeds.", [(("good \"'\n",), 3)], ("kind",)),
        ]
        found = self.scrape(site, numbers)
        self.assertEqual(found["weedtw_http_requests_total code=200 kind=a"], 1)
        self.assertEqual(found["weedtw_http_requests_total code=404 kind=none"], 1)
        self.assertEqual(found["weedtw_http_request_seconds_bucket kind=a le=+Inf"], 1)
        self.assertEqual(found["weedtw_http_request_seconds_count kind=none"], 1)
        self.assertEqual(found["weedtw_level"], 2.5)
        self.assertEqual(found["weedtw_deeds_total kind=good \"'\n"], 3)
        self.assertGreater(found["process_resident_memory_bytes"], 1 << 20)

    def test_each_scrape_is_new(self) -> None:
        site = make_site(App().app.resource(), reactor=Clock(), body_limit=9, traffic=Traffic(kind_of, 0))
        metrics = Metrics(site)
        metrics.render([gauge("weedtw_level", "A level.", 1)])
        body, _ = metrics.render([gauge("weedtw_level", "A level.", 2)])
        self.assertIn(b"weedtw_level 2.0", body)
