"""Masters on real sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted

from tests.master.stage import Stage


@pytest_twisted.async_yield_fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A master that has just started, without volume servers."""
    made = Stage(tmp_path)
    made.start()
    yield made
    await made.close()
