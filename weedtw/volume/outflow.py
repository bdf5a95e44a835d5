"""The data of a large file on its way to a client of the hot path; see `contents.py` for the other way."""

from collections.abc import Callable
from typing import Final

from crc32c import crc32c
from twisted.internet.defer import Deferred

from weedtw.http.outflow import Outflow
from weedtw.volume.contents import Run, Source, check_whole

_PIECE: Final = 512 * 1024  # bytes that are read, checked and sent at once
_AGAIN: Final = 64 * 1024  # bytes that are read once more at once: who has not taken them may not take many
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
        self._at = 0  # bytes that were given, and checked
        self._owed = 0  # of those, bytes at the end that were put back
        self._checksum = 0  # of those that were given
        self._spare = spare
        self._buffer: memoryview | None = None
        self._fetched: memoryview | None = None

    def piece(self) -> memoryview | None:
        """See Outflow.  The last one is given only if the data is what was written."""
        at, length = self._next()
        if not length:
            return _NOTHING
        piece, self._fetched = self._fetched, None
        if piece is None:
            if self._buffer is None:
                self._buffer = self._spare.pop() if self._spare else memoryview(bytearray(_PIECE))
            piece = self._buffer[:length]
            if not self._source.pread_cached(at, piece):
                return None
        self.place = self._source.place(at)
        if self._owed:
            self._owed -= length
            return piece
        self._checksum = crc32c(piece, self._checksum)
        self._at += length
        if self._at == self._source.size:
            check_whole(self._source, self._checksum, self._what)
        return piece

    def _next(self) -> tuple[int, int]:
        """(where the next piece begins, its length)."""
        if self._owed:
            return self._at - self._owed, min(_AGAIN, self._owed)
        return self._at, min(_PIECE, self._source.size - self._at)

    def put_back(self, count: int) -> None:
        """See Outflow."""
        self._owed += count
        self._let_go()

    def _let_go(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None and len(self._spare) < _MOST_SPARE:
            self._spare.append(buffer)

    def fetch(self) -> "Deferred[None]":
        """See Outflow."""
        return Deferred.fromCoroutine(self._fetch())

    async def _fetch(self) -> None:
        at, length = self._next()
        self._fetched = memoryview(await self._run(self._source.pread, at, length))

    def end(self, error: Exception | None) -> None:
        """See Outflow."""
        self._let_go()
        self._ended(error)
