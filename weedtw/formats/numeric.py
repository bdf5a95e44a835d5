"""numpy, imported when something of it is used for the first time.

It takes a tenth of a second of processor time to import, as much as a fifth of all that a volume server needs to
start.  One without volumes, which a new cluster waits for, needs none of it for a while.

    from weedtw.formats.numeric import np

What annotations say of it stands in quotes, or under `from __future__ import annotations`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:

    class _Late:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            """Of the module; kept, so that it is found without coming here the next time."""
            value = getattr(importlib.import_module(self._name), name)
            setattr(self, name, value)
            return value

    np, npt = _Late("numpy"), _Late("numpy.typing")

__all__ = ["np", "npt"]
