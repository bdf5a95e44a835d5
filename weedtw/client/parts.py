"""A part of a file's content, as a reader asks for it and as servers answer."""

import re
from typing import Final

import attrs

from weedtw.errors import BadRequest

_GIVEN: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)
_NONE_GIVEN: Final = re.compile(r"bytes \*/([0-9]{1,19})", re.ASCII)


@attrs.frozen
class Part:
    """The bytes from `start` up to, without, `stop` (None: the end); raises BadRequest when there are none such."""

    start: int = 0
    stop: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise BadRequest(f"there are no bytes from {self.start} up to {self.stop}")

    @property
    def is_whole(self) -> bool:
        """Whether it is all of a file."""
        return self.start == 0 and self.stop is None

    def header(self, received: int = 0) -> str:
        """The value of Range that asks for what is left of it after the first `received` bytes."""
        return f"bytes={self.start + received}-" + ("" if self.stop is None else str(self.stop - 1))

    def is_answered_by(self, given: "Given | None", received: int = 0) -> bool:
        """Whether an answer begins where it should, and goes no further."""
        if given is None or given.start != self.start + received or given.stop <= given.start:
            return False
        return self.stop is None or given.stop <= self.stop


@attrs.frozen
class Given:
    """What a server says that it gives: the bytes from `start` up to, without, `stop` of `size` (None: unsaid)."""

    start: int
    stop: int
    size: int | None


WHOLE: Final = Part()


def parse_given(content_range: str) -> Given | None:
    """Read the Content-Range of a 206; None when it is none, or of several parts."""
    match = _GIVEN.fullmatch(content_range)
    if match is None:
        return None
    return Given(int(match[1]), int(match[2]) + 1, None if match[3] == "*" else int(match[3]))


def parse_size(content_range: str) -> int | None:
    """Read the Content-Range of a 416: the length of the file in bytes; None when it does not say."""
    match = _NONE_GIVEN.fullmatch(content_range)
    return int(match[1]) if match is not None else None
