"""Masters that found a cluster, in one process on real sockets, with the accidents that can come between."""

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.master.stage import reactor, until
from weedtw.config.model import MasterConfig
from weedtw.master.entry import Entrance
from weedtw.master.foundingfile import NAME
from weedtw.master.service import MasterService


@attrs.define(eq=False)
class Masters:
    """By number, from 0; all are told the same `--peers`."""

    folder: Path
    ports: list[int]
    services: dict[int, MasterService] = attrs.Factory(dict)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{port}" for port in self.ports)

    def start(self, number: int) -> MasterService:
        own = self.addresses[number]
        config = MasterConfig(
            ip="127.0.0.1",
            port=self.ports[number],
            mdir=str(self.folder / str(number)),
            named=self.addresses,
            peers=tuple(address for address in self.addresses if address != own),
            founder=True,
        )
        service = self.services[number] = MasterService(config, reactor)
        service.prepare()
        service.startService()
        return service

    async def stop(self, number: int) -> None:
        await self.services.pop(number).stopService()

    def clusters(self) -> set[str]:
        return {service.ledger.cluster_id for service in self.services.values()}

    async def check_one_cluster(self) -> None:
        """All are in one cluster before long, and follow the one of them that leads."""
        await until(lambda: len(self.clusters()) == 1 and "" not in self.clusters(), 60)

        def follow_one() -> bool:
            """The lead may change hands on a slow machine: whoever has it in the end will do."""
            leading = {service.address for service in self.services.values() if service.ledger.is_leader}
            return len(leading) == 1 and leading == {s.ledger.leader_address for s in self.services.values()}

        await until(follow_one, 60)


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest_twisted.async_yield_fixture
async def masters(tmp_path: Path) -> AsyncIterator[Masters]:
    made = Masters(tmp_path, free_ports(3))
    yield made
    for number in list(made.services):
        await made.stop(number)


def lose(monkeypatch: pytest.MonkeyPatch, is_lost: Callable[[Entrance, str, str], bool]) -> None:
    """Let steps of a proposal not arrive; told of each are the proposer, the step, and the address it is for."""
    put = Entrance._put_to_all

    async def put_to_all(self: Entrance, others: list[str], step: str, *rest: Any) -> Any:
        return await put(self, [other for other in others if not is_lost(self, step, other)], step, *rest)

    monkeypatch.setattr(Entrance, "_put_to_all", put_to_all)


@ensureDeferred
async def test_at_once(masters: Masters) -> None:
    for number in range(3):
        masters.start(number)
    await masters.check_one_cluster()


@ensureDeferred
async def test_nobody_hears_that_the_cluster_is_born(masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who have agreed to it find out from the one who made it, though that one leads nobody yet."""
    lose(monkeypatch, lambda _, step, __: step == "born")
    for number in range(3):
        masters.start(number)
    await masters.check_one_cluster()


@ensureDeferred
async def test_a_member_by_birth_that_never_heard_of_it(masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has promised, and so the cluster begins with it; what it would have to agree to never arrives.

    The cluster cannot do without it when the third one is not a member by birth.
    """
    masters.start(0)
    masters.start(1)
    first = masters.services[1].address
    lose(monkeypatch, lambda _, step, other: step != "promise" and other == first)
    await until((masters.folder / "0" / NAME).exists)
    masters.start(2)
    await masters.check_one_cluster()
