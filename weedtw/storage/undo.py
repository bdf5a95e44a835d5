"""What becomes of a change, and what is needed to take it back, later and at another server's word."""

import re
from typing import Final, NamedTuple, Self

from weedtw.errors import BadRequest
from weedtw.formats.needle import Needle, record_length
from weedtw.storage.generation import Generation
from weedtw.storage.needlemap import Place

_TEXT: Final = re.compile(r"[0-9]{1,20}(\.-?[0-9]{1,20}){6}", re.ASCII)


class Undo(NamedTuple):
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
        return ".".join(map(str, self))


class Written(NamedTuple):
    """What became of a write."""

    offset: int  # of the record, bytes
    size: int  # the record's size field
    etag: str  # eight hexadecimal digits
    unchanged: bool = False  # the very same was there already and nothing was written
    undo: Undo | None = None  # for `Volume.revert`; None when unchanged


class Deleted(NamedTuple):
    """What was deleted."""

    size: int  # the size field of the needle's record; 0 for a file without data
    undo: Undo  # for `Volume.revert`


def undo_of(
    generation: Generation, key: int, cookie: int, place: Place, hidden: Place | None, append_at_ns: int
) -> Undo:
    """Name the change by the needle at `place`, which hid what was at `hidden`."""
    revision = generation.superblock.compaction_revision
    named_by = append_at_ns if generation.version == 3 else 0
    offset, size = (0, -1) if hidden is None else (hidden.offset, hidden.size)
    return Undo(key, cookie, named_by, place.offset, revision, offset, size)


def is_named(generation: Generation, undo: Undo, place: Place) -> bool:
    """Whether the needle at `place` is the one by which the change is named.  Raises OSError."""
    if generation.version == 3:
        return generation.append_at_ns(place) == undo.append_at_ns
    return (place.offset, generation.superblock.compaction_revision) == (undo.offset, undo.revision)


def hidden_by(generation: Generation, undo: Undo, place: Place) -> Needle | None:
    """What was there before the write at `place`, ready to be written again; None when that was nothing.

    Raises OSError.
    """
    if undo.previous_size < 0:
        return None
    previous: Place | None = Place(undo.previous_offset, undo.previous_size)
    if undo.revision != generation.superblock.compaction_revision:
        previous = generation.place_before(undo.key, place)
    if previous is None or previous.offset + record_length(previous.size, generation.version) > place.offset:
        return None
    needle = generation.needle(previous)
    return needle if needle is not None and needle.key == undo.key else None
