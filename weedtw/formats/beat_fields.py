"""Typed reading of the JSON objects in heartbeat lines; a complaint names the object and the key."""

from collections.abc import Mapping
from typing import Any

import attrs

from weedtw.errors import BadBeat

MAX_TEXT = 1024  # characters of any one text in a line
MAX_LIST = 1 << 17  # entries of any one list

U32 = (1 << 32) - 1
I63 = (1 << 63) - 1
U64 = (1 << 64) - 1


@attrs.frozen
class Fields:
    """One parsed object; every reader raises BadBeat when the value is missing or not of its kind."""

    parsed: Mapping[str, Any]
    what: str

    def _bad(self, key: str, wanted: str) -> BadBeat:
        had = f"is {self.parsed[key]!r:.60}" if key in self.parsed else "is missing"
        return BadBeat(f"{self.what}: {key} {had}, it must be {wanted}")

    def integer(self, key: str, *, low: int = 0, high: int = I63) -> int:
        value = self.parsed.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._bad(key, f"a number from {low} to {high}")
        return value

    def seconds(self, key: str) -> float:
        value = self.parsed.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 86400:
            raise self._bad(key, "a number of seconds, over 0 and at most a day")
        return float(value)

    def truth(self, key: str) -> bool:
        value = self.parsed.get(key)
        if not isinstance(value, bool):
            raise self._bad(key, "true or false")
        return value

    def text(self, key: str, *, default: str | None = None, longest: int = MAX_TEXT) -> str:
        value = self.parsed.get(key, default)
        if not isinstance(value, str) or len(value) > longest or not _storable(value):
            raise self._bad(key, f"a text of at most {longest} characters")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self.parsed.get(key) is None else self.text(key)

    def name(self, key: str) -> str:
        value = self.text(key, longest=128)
        if not value or not value.isprintable():
            raise self._bad(key, "a name of 1 to 128 printable characters")
        return value

    def address(self, key: str) -> str:
        value = self.text(key, longest=300)
        host, _, port = value.rpartition(":")
        if not host or not value.isprintable() or " " in value or not (port.isascii() and port.isdigit()):
            raise self._bad(key, "of the form host:port")
        if not 1 <= int(port[:6]) <= 65535:
            raise self._bad(key, "of the form host:port")
        return value

    def _list(self, key: str) -> list[Any]:
        value = self.parsed.get(key)
        if not isinstance(value, list) or len(value) > MAX_LIST:
            raise self._bad(key, "a list")
        return value

    def objects(self, key: str) -> list[Mapping[str, Any]]:
        values = self._list(key)
        if not all(isinstance(value, dict) for value in values):
            raise self._bad(key, "a list of objects")
        return values

    def integers(self, key: str, *, low: int, high: int) -> list[int]:
        values = self._list(key)
        if not all(type(value) is int and low <= value <= high for value in values):
            raise self._bad(key, f"a list of numbers from {low} to {high}")
        return values

    def texts(self, key: str) -> list[str]:
        values = self._list(key)
        if not all(isinstance(value, str) and len(value) <= MAX_TEXT and _storable(value) for value in values):
            raise self._bad(key, "a list of texts")
        return values


def _storable(text: str) -> bool:
    """False for lone surrogates, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
