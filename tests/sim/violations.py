"""What the simulator reports."""

import attrs


@attrs.define(auto_exc=True, slots=False)  # not frozen: it comes back from the pool's processes pickled
class Violation(Exception):
    """Something that must always hold did not."""

    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"
