"""The data of a large file on its way to a client of the hot path; see `contents.py` for the other way."""

from collections.abc import Callable
from typing import Final

from crc32c import crc32c
from twisted.internet.defer import Deferred

from weedtw.errors import Damaged
from weedtw.formats.needle import matches
from weedtw.http.outflow import Outflow
from weedtw.volume.contents import Run, Source

_PIECE: Final = 512 * 1024  # bytes that are read, checked and sent at once
_MOST_SPARE: Final = 16  # buffers that are kept for the next answers
_NOTHING: Final = memoryview(b"")


class RecordFlow(Outflow):
    """All of a record's data, from the page cache and where that lacks something from a thread; checked on the way.

    `what` names the file in errors, `spare` has the buffers that nobody uses, and `ended` is called as `end` is.
    """

    def __init__(
        self,
        head: bytes,
        source: Source,
        what: str,
        run: Run,
        spare: list[memoryview],
        ended: Callable[[Exception | None], None],
    ) -> None:
        self.head = head
        self._source = source
        self._what = what
        self._run = run
        self._ended = ended
        self._at = 0  # bytes that were given
        self._checksum = 0  # of those
        self._spare = spare
        self._buffer = spare.pop() if spare else memoryview(bytearray(_PIECE))
        self._fetched: memoryview | None = None

    def piece(self) -> memoryview | None:
        """See Outflow.  The last one is given only if the data is what was written."""
        length = min(_PIECE, self._source.size - self._at)
        if not length:
            return _NOTHING
        piece, self._fetched = self._fetched, None
        if piece is None:
            piece = self._buffer[:length]
            if not self._source.pread_cached(self._at, piece):
                return None
        self._checksum = crc32c(piece, self._checksum)
        self.place = self._source.place(self._at)
        self._at += length
        if self._at == self._source.size and not matches(self._source.checksum, self._checksum):
            raise Damaged(self._what, "the data does not have the checksum it was written with")
        return piece

    def fetch(self) -> "Deferred[None]":
        """See Outflow."""
        return Deferred.fromCoroutine(self._fetch())

    async def _fetch(self) -> None:
        length = min(_PIECE, self._source.size - self._at)
        self._fetched = memoryview(await self._run(self._source.pread, self._at, length))

    def end(self, error: Exception | None) -> None:
        """See Outflow."""
        if len(self._spare) < _MOST_SPARE:
            self._spare.append(self._buffer)
        self._ended(error)
