"""A port of its own for `/metrics`, as `--metricsPort` asks for: for networks where the other one is not to be seen.

The daemons tell the same at `/metrics` of their own ports.  Where a master and a volume server are one process, they
share this port, and a label `daemon` says whose a number is.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from weedtw.config.model import join_address
from weedtw.http.channel import Site, make_site
from weedtw.http.listen import listen
from weedtw.http.requests import Request
from weedtw.http.responses import body_response, endpoint
from weedtw.http.routes import Routes

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Source = Callable[[], Awaitable[Iterable["Metric"]]]

FINISH = 1.0  # seconds that a scrape under way has to end


class MetricsPort(Service):
    """Serves what the `sources` tell, by the names of their daemons."""

    log = Logger()

    def __init__(self, bind: str, port: int, sources: Mapping[str, Source], reactor: Any) -> None:
        """Nothing is touched before `bind`."""
        self._bind = bind
        self._number = port
        self._reactor = reactor
        self._site = make_site(_Pages(sources).app.resource(), reactor=reactor, body_limit=0)
        self._port: Any = None  # a twisted.internet.tcp.Port

    @property
    def address(self) -> str:
        """Where it listens."""
        return join_address(self._bind, self._port.getHost().port if self._port is not None else self._number)

    @property
    def site(self) -> Site:
        """What the port serves."""
        return self._site

    def bind(self) -> None:
        """Take the port; raises ConfigError."""
        self._port = listen(
            *(self._reactor, self._site),
            ip=self._bind,
            bind=self._bind,
            port=self._number,
            port_option="--metricsPort",
        )

    def hold(self) -> None:
        """It has no folder."""

    def prepare(self) -> None:
        """It has nothing to open."""
        if self._port is None:
            self.bind()

    def startService(self) -> None:
        """Answer."""
        super().startService()  # type: ignore[no-untyped-call]
        self.prepare()
        self._port.startReading()
        self.log.info("metrics are at http://{address}/metrics too", address=self.address)

    def stopService(self) -> Deferred[None]:
        """Answer no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        await self._site.drain(FINISH)


@attrs.define(eq=False)
class _Pages:
    """What is there."""

    app = Routes()

    sources: Mapping[str, Source]

    @app.route("/metrics", methods=["GET"])
    @endpoint
    async def scrape(self, request: Request) -> bytes:
        """Everything that is counted."""
        from weedtw.http.metrics import in_text  # noqa: PLC0415 - with prometheus-client, at the first scrape

        told = {name: list(await source()) for name, source in self.sources.items()}
        if len(told) > 1:
            return body_response(request, *in_text(_joined(told)))
        [families] = told.values()
        return body_response(request, *in_text(families))


def _joined(told: Mapping[str, Iterable["Metric"]]) -> Iterator["Metric"]:
    """All numbers of one name together, each with the name of its daemon."""
    from prometheus_client.core import Metric  # noqa: PLC0415 - see above

    joined: dict[str, Metric] = {}
    for daemon, families in told.items():
        for family in families:
            whole = joined.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                whole.add_sample(sample.name, {"daemon": daemon, **sample.labels}, sample.value)
    yield from joined.values()
