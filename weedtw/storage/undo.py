"""What it takes to take a write or a deletion back, on the server that did it, later and at another's word."""

import re
from typing import Final, Self

import attrs

from weedtw.errors import BadRequest

_TEXT: Final = re.compile(r"[0-9]{1,20}(\.-?[0-9]{1,20}){6}", re.ASCII)


@attrs.frozen
class Undo:
    """Names one change of a volume and what it hid; `str` and `parse` carry it over the wire.

    A change is named by a needle: the one that was written, or the one that was deleted (it is then the one that
    was hidden, too).
    """

    key: int
    cookie: int
    append_at_ns: int  # of the needle; names it even after a vacuum.  0 in volumes of version 2
    offset: int  # of the needle's record, bytes
    revision: int  # of the volume, when that and the next were true
    previous_offset: int  # of the record that was hidden, bytes
    previous_size: int  # its size field; -1 when there was none

    @property
    def is_deletion(self) -> bool:
        """Whether the change was a deletion."""
        return self.offset == self.previous_offset

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gave; raises BadRequest."""
        if _TEXT.fullmatch(text) is None:
            raise BadRequest(f"{text[:200]!r} does not name a write that could be undone")
        return cls(*map(int, text.split(".")))

    def __str__(self) -> str:
        return ".".join(map(str, attrs.astuple(self)))
