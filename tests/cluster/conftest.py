"""What the tests on processes share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.masters import Scratch


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    """A scratch folder; what was started in it is ended with the test."""
    scratch = Scratch(tmp_path)
    try:
        yield scratch
    finally:
        scratch.end()
