"""`/metrics` in Prometheus' text format, by prometheus-client, of what the daemon has counted anyway.

Nothing is kept for a scrape: each asks what is the case then.  prometheus-client is imported with the first scrape.

    metrics = Metrics(site)
    body, content_type = metrics.render([gauge("weedtw_raft_term", "Its term.", 7)])
"""

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from weedtw import __version__
from weedtw.http.channel import Site

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


@attrs.frozen
class Gauge:
    """A number that goes up and down; `rows` are (label values, value)."""

    name: str
    about: str
    rows: Iterable[tuple[tuple[str, ...], float]]
    labels: tuple[str, ...] = ()


@attrs.frozen
class Count(Gauge):
    """A number that only grows until the daemon ends; its name ends in `_total`."""


def gauge(name: str, about: str, value: float) -> Gauge:
    """One number."""
    return Gauge(name, about, [((), value)])


def count(name: str, about: str, value: float) -> Count:
    """One number."""
    return Count(name, about, [((), value)])


@attrs.define(eq=False)
class Metrics:
    """Renders what a port and a daemon count."""

    site: Site

    def render(self, numbers: Iterable[Gauge]) -> tuple[bytes, str]:
        """(the text, its Content-Type); `numbers` are those of the daemon."""
        return in_text(self.families(numbers))

    def families(self, numbers: Iterable[Gauge]) -> Iterator["Metric"]:
        """All of it as prometheus-client has it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

        yield from self._of_traffic()
        version = Gauge("weedtw_build_info", "The version that runs.", [((__version__,), 1)], ("version",))
        own = (
            version,
            gauge("weedtw_http_requests_in_flight", "Requests being answered.", self.site.in_flight),
            gauge("weedtw_http_connections", "Open HTTP connections.", self.site.connections),
        )
        for each in (*own, *numbers):
            make = CounterMetricFamily if isinstance(each, Count) else GaugeMetricFamily
            family = make(each.name, each.about, labels=each.labels)
            for labels, value in each.rows:
                family.add_metric(labels, value)
            yield family

    def _of_traffic(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily  # noqa: PLC0415

        answered = self.site.traffic.answered()
        requests = CounterMetricFamily(
            "weedtw_http_requests", "Requests answered, by kind and status.", labels=("kind", "code")
        )
        seconds = HistogramMetricFamily(
            "weedtw_http_request_seconds", "Seconds from a whole request to its whole answer.", labels=("kind",)
        )
        kinds: dict[str, Any] = {}
        for (kind, code), times in sorted(answered.items()):
            requests.add_metric((kind, str(code)), times.count)
            if kind in kinds:
                kinds[kind].merge(times)
            else:
                kinds[kind] = times
        for kind, times in kinds.items():
            buckets = [(str(bound), count) for bound, count in times.cumulative()]
            seconds.add_metric((kind,), [*buckets, ("+Inf", times.count)], times.total)
        yield requests
        yield seconds


# ------------------------------------------------------------------ the text


def in_text(families: Iterable["Metric"]) -> tuple[bytes, str]:
    """(the text, its Content-Type) of numbers, and of those of this process."""
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415 - see above

    registry = _of_process()
    collector = _These(list(families))
    registry.register(collector)
    try:
        return generate_latest(registry), CONTENT_TYPE_LATEST
    finally:
        registry.unregister(collector)


@attrs.frozen(eq=False)
class _These:
    """A collector of what was collected."""

    families: Iterable["Metric"]

    def collect(self) -> Iterable["Metric"]:
        return self.families


@functools.cache
def _of_process() -> "CollectorRegistry":
    """Memory, time, files: they are the process', whichever daemon is asked."""
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    for kind in (ProcessCollector, PlatformCollector, GCCollector):
        kind(registry=registry)
    return registry
