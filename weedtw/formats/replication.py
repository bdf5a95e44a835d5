"""Where the copies of a volume go: three digits `xyz`, one byte on disk (100 x + 10 y + z)."""

import re
from typing import Final, Self

import attrs

from weedtw.errors import BadReplication

_TEXT: Final = re.compile(r"[0-9]{3}", re.ASCII)
_MAX_BYTE: Final = 255
_DIGIT: Final = attrs.validators.in_(range(10))


@attrs.frozen
class ReplicaPlacement:
    """How many copies there are besides the first, by distance from it."""

    other_dcs: int = attrs.field(default=0, validator=_DIGIT)  # copies in other data centers
    other_racks: int = attrs.field(default=0, validator=_DIGIT)  # copies in other racks of the same data center
    same_rack: int = attrs.field(default=0, validator=_DIGIT)  # copies on other servers of the same rack
    copies: int = attrs.field(init=False, eq=False, repr=False)  # in all, the first included

    @copies.default
    def _count(self) -> int:
        return 1 + self.other_dcs + self.other_racks + self.same_rack

    def __attrs_post_init__(self) -> None:
        if self.byte > _MAX_BYTE:
            raise BadReplication(f"more than {_MAX_BYTE} does not fit the byte it has on disk", str(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read three digits such as `001`; raises BadReplication.  The highest that fits the disk's byte is `255`."""
        if _TEXT.fullmatch(text) is None:
            raise BadReplication("not three digits", text)
        return cls(*map(int, text))

    @classmethod
    def from_byte(cls, value: int) -> Self:
        """Read the byte of the disk format, 0 to 255; raises BadReplication beyond that."""
        if not 0 <= value <= _MAX_BYTE:
            raise BadReplication("not a byte", str(value))
        return cls(value // 100, value // 10 % 10, value % 10)

    @property
    def byte(self) -> int:
        """The byte of the disk format."""
        return 100 * self.other_dcs + 10 * self.other_racks + self.same_rack

    def __str__(self) -> str:
        return f"{self.byte:03d}"


NO_REPLICATION: Final = ReplicaPlacement()
