"""Times to live: how long a file or a whole volume is kept, as `3m 4h 5d 6w 7M 8y`.

Two bytes on disk:

    byte 0   count, 0 to 255
    byte 1   unit: 0 none, 1 minute, 2 hour, 3 day, 4 week, 5 month (30 days), 6 year (365 days)

0,0 is "for ever".  As a number (in URLs and between servers) it is `count << 8 | unit`.
"""

import re
from typing import Final, Self

import attrs

from weedtw.errors import BadTtl

_LETTERS: Final = " mhdwMy"  # by unit
_MINUTES: Final = (0, 1, 60, 24 * 60, 7 * 24 * 60, 30 * 24 * 60, 365 * 24 * 60)  # by unit
_UNITS: Final = range(1, len(_MINUTES))
_MAX_COUNT: Final = 255
_TEXT: Final = re.compile(r"([0-9]{1,12})([mhdwMy]?)", re.ASCII)


@attrs.frozen
class Ttl:
    """A count of units; false when it sets no limit."""

    count: int = attrs.field(default=0, validator=attrs.validators.in_(range(_MAX_COUNT + 1)))
    unit: int = attrs.field(default=0, validator=attrs.validators.in_(range(len(_MINUTES))))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `3m`, `1d`, or a bare number of minutes; empty or zero means no limit.  Raises BadTtl.

        The result is in the largest unit that holds the value exactly in a byte (`60m` is `1h`); a value that no unit
        holds exactly is cut down to the first, from minutes up, in which it fits (`256m` is `4h`).
        """
        if not text:
            return cls()
        match = _TEXT.fullmatch(text)
        if match is None:
            raise BadTtl("not a number with a unit of m, h, d, w, M or y", text)
        minutes = int(match[1]) * _MINUTES[_LETTERS.index(match[2] or "m")]
        if minutes == 0:
            return cls()
        for unit in reversed(_UNITS):
            count, rest = divmod(minutes, _MINUTES[unit])
            if rest == 0 and count <= _MAX_COUNT:
                return cls(count, unit)
        for unit in _UNITS:
            if minutes // _MINUTES[unit] <= _MAX_COUNT:
                return cls(minutes // _MINUTES[unit], unit)
        raise BadTtl("more than 255 years", text)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Self:
        """Read the two bytes of the disk format; raises BadTtl when they are not two or the unit is unknown."""
        if len(data) != 2:
            raise BadTtl(f"{len(data)} bytes where two are needed", bytes(data).hex())
        return cls.from_uint32(data[0] << 8 | data[1])

    @classmethod
    def from_uint32(cls, value: int) -> Self:
        """Read `count << 8 | unit`; raises BadTtl.  A count or a unit of nought is no limit, as in SeaweedFS."""
        count, unit = divmod(value, 256)
        if not 0 <= count <= _MAX_COUNT or unit >= len(_MINUTES):
            raise BadTtl("an unknown unit or a count beyond 255", f"{value:#x}")
        return cls(count, unit) if count and unit else cls()

    def to_bytes(self) -> bytes:
        """The two bytes of the disk format."""
        return bytes((self.count, self.unit))

    def to_uint32(self) -> int:
        """`count << 8 | unit`."""
        return self.count << 8 | self.unit

    @property
    def seconds(self) -> int:
        """The time to live in seconds; 0 means no limit."""
        return self.count * _MINUTES[self.unit] * 60

    def __bool__(self) -> bool:
        return self.seconds > 0

    def __str__(self) -> str:
        return f"{self.count}{_LETTERS[self.unit]}" if self else ""


NO_TTL: Final = Ttl()
