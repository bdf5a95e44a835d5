"""Sizes for people, in units of 1024: the same in logs, on pages and in what the commands print."""

from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_size(count: float) -> str:
    """Bytes for people: `512 B`, `1.5 GiB`."""
    size, unit = float(count), 0
    while abs(size) >= (1024 if unit == 0 else 1023.95) and unit < len(_UNITS) - 1:  # 1023.95 would show as 1024.0
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
