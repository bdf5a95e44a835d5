"""A port of its own for the numbers."""

from collections.abc import Iterable
from typing import Any

import pytest
import pytest_twisted
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor as installed_reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import ConfigError
from weedtw.http.agent import make_agent
from weedtw.http.channel import make_site
from weedtw.http.metrics import Metrics, gauge
from weedtw.http.metricsport import MetricsPort, Source
from weedtw.http.routes import Routes
from weedtw.http.testing import Answer, Wire

reactor: Any = installed_reactor


def source(value: float) -> Source:
    """A daemon that counts one thing of its own."""
    metrics = Metrics(make_site(Routes().__get__(object(), object).resource(), reactor=Clock(), body_limit=1))

    async def told() -> Iterable[Metric]:
        return metrics.families([gauge("weedtw_value", "A value.", value)])

    return told


def ask(port: MetricsPort, target: str = "/metrics", method: str = "GET") -> Answer:
    wire = Wire(port.site)
    wire.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    [answer] = wire.answers(method)
    return answer


def values(answer: Answer, name: str) -> dict[str, float]:
    """Of one number, by daemon."""
    families = text_string_to_metric_families(answer.body.decode())
    [family] = [family for family in families if family.name == name]
    return {sample.labels.get("daemon", ""): sample.value for sample in family.samples}


class Ports(SynchronousTestCase):
    def test_of_one_daemon(self) -> None:
        answer = ask(MetricsPort("127.0.0.1", 1, {"master": source(7)}, Clock()))
        self.assertEqual(answer.status, 200)
        self.assertIn("text/plain", answer.headers["content-type"])
        self.assertEqual(values(answer, "weedtw_value"), {"": 7.0})

    def test_of_two_daemons_in_one_process(self) -> None:
        answer = ask(MetricsPort("127.0.0.1", 1, {"master": source(7), "volume": source(8)}, Clock()))
        self.assertEqual(values(answer, "weedtw_value"), {"master": 7.0, "volume": 8.0})
        self.assertEqual(values(answer, "process_open_fds").keys(), {""})
        self.assertEqual(answer.body.count(b"# TYPE weedtw_value gauge"), 1)
        self.assertEqual(answer.body.count(b"# TYPE weedtw_http_requests_total counter"), 1)

    def test_nothing_else_is_there(self) -> None:
        port = MetricsPort("127.0.0.1", 1, {"master": source(7)}, Clock())
        self.assertEqual(ask(port, "/dir/assign").status, 404)
        self.assertEqual(ask(port, "/metrics", "DELETE").status, 405)


@pytest_twisted.ensureDeferred
async def test_a_port_on_a_socket() -> None:
    port = MetricsPort("127.0.0.1", 0, {"master": source(7)}, reactor)
    port.bind()
    other = MetricsPort("127.0.0.1", int(port.address.rpartition(":")[2]), {}, reactor)
    with pytest.raises(ConfigError, match="--metricsPort"):
        other.bind()
    port.startService()
    agent = make_agent(reactor)
    try:
        response = await agent.request("GET", port.address, "/metrics", timeout=30.0)
        assert b"weedtw_value 7.0" in await response.read(1 << 20)
    finally:
        await agent.close()
        await port.stopService()
