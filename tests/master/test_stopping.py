"""A master that stops hands its lead over first: whoever asks it meanwhile is answered, by its successor."""

from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.master.stage import until
from tests.master.test_founding_sockets import Masters, free_ports
from weedtw.master.service import MasterService


def leader_of(masters: Masters) -> int:
    """The number of the one that leads."""
    return next(number for number, service in masters.services.items() if service.ledger.is_leader)


@pytest.mark.parametrize("count", [2, 3])
@ensureDeferred
async def test_the_lead_is_another_s_before_the_port_closes(tmp_path: Path, count: int) -> None:
    """On a machine that is too slow for it once, a hand-over is given up; so it may be tried again."""
    masters = Masters(tmp_path, free_ports(count))
    leaders: list[str | None] = []
    try:
        for number in range(count):
            masters.start(number)
        for _ in range(5):
            await masters.check_one_cluster()
            old = leader_of(masters)
            service = masters.services[old]
            port: Any = service._port
            close = port.stopListening

            def stop_listening(service: MasterService = service, close: Any = close) -> Any:
                leaders.append(service.ledger.leader_address)
                return close()

            port.stopListening = stop_listening
            await masters.stop(old)
            if leaders[-1] in {other.address for other in masters.services.values()}:
                return
            masters.start(old)
        pytest.fail(f"when the port closed these led: {leaders}")
    finally:
        for number in list(masters.services):
            await masters.stop(number)


@ensureDeferred
async def test_nobody_is_left_to_take_it(tmp_path: Path) -> None:
    """Then it stops all the same, and does not wait for long."""
    masters = Masters(tmp_path, free_ports(2))
    try:
        for number in range(2):
            masters.start(number)
        await masters.check_one_cluster()
        old = leader_of(masters)
        services: list[MasterService] = [masters.services.pop(number) for number in (old, 1 - old)]
        stopping = [service.stopService() for service in services]
        await until(lambda: all(each.called for each in stopping))
        assert not any(service.running for service in services)
    finally:
        for number in list(masters.services):
            await masters.stop(number)
