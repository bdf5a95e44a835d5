"""The modules under test.  Usually `weedtw.raft`'s own; a mutant brings altered copies (see `mutants`).

The simulator takes every class of the core from here, so that nothing of the original slips into a mutant's run.
"""

import importlib
from typing import Any

import attrs

from tests.sim import process


@attrs.frozen
class Subject:
    """One set of the core's modules, all from the same package."""

    name: str
    core: Any
    membership: Any
    messages: Any
    storage: Any
    process: Any  # the simulated driver

    @classmethod
    def of_package(cls, name: str, package: str) -> "Subject":
        """The modules of `package`, which is importable."""
        modules = {module: importlib.import_module(f"{package}.{module}") for module in MODULES}
        return cls(name, **modules, process=process)


MODULES = ("core", "membership", "messages", "storage")
ORIGINAL = Subject.of_package("original", "weedtw.raft")
