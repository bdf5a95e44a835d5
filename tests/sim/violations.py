"""What the simulator reports."""

import attrs


@attrs.frozen(auto_exc=True, slots=False)
class Violation(Exception):
    """Something that must always hold did not."""

    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"
