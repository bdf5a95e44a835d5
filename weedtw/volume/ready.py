"""Answers that are asked for again and again, kept as they are sent.

A file that was read twice within a while is kept: what is read but once, as by whoever copies everything, pushes
nothing out.  The oldest goes first.  Nothing here can be out of date: a record is never changed in place, so what was
made of the one at an offset of a volume's files holds as long as the needle map says that the file lies there.  And
what the map said holds as long as nothing was deleted or written over since.
"""

from collections import OrderedDict
from typing import Final

import attrs

LARGEST: Final = 32 * 1024  # bytes of an answer that is kept
_OVERHEAD: Final = 400  # bytes that an entry takes beside its answer
_ONCE: Final = 1 << 16  # files remembered that were read once


@attrs.define
class Kept:
    """The answer to a GET."""

    as_of: int  # how many changes the map had seen when it last said where the file lies
    offset: int  # of the record that it is made of
    cookie: int
    needs_gzip: bool  # whether the client has to take gzip
    length: int  # of the body, bytes
    rest: bytes  # all from behind the Date line on


Key = tuple[int, int, bytes | None]  # serial number of the volume's files, needle, extension in the URL


class Ready:
    """At most `most` bytes of answers; 0: none."""

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most
        self._kept: OrderedDict[Key, Kept] = OrderedDict()  # of a plain dict, finding the oldest takes ever longer
        self._once: set[Key] = set()
        self.get = self._kept.get  # what is kept under a key

    def offer(self, key: Key, kept: Kept) -> None:
        """This was just made; it is kept if it was offered before."""
        if len(kept.rest) > LARGEST or not self._most:
            return
        if key not in self._once:
            if len(self._once) >= _ONCE:
                self._once.clear()
            self._once.add(key)
            return
        older = self._kept.pop(key, None)
        if older is not None:
            self.size -= len(older.rest) + _OVERHEAD
        self._kept[key] = kept
        self.size += len(kept.rest) + _OVERHEAD
        while self.size > self._most:
            self.size -= len(self._kept.popitem(last=False)[1].rest) + _OVERHEAD
