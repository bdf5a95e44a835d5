"""Masters on real sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted

from tests.master.stage import Stage


@pytest_twisted.async_yield_fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A master that leads a cluster of its own, without volume servers."""
    made = Stage(tmp_path)
    made.start()
    await made.lead()
    yield made
    await made.close()
