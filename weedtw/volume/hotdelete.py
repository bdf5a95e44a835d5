"""Deleting a small file on the hot path: one that is there, is whole, and is no manifest.

DELETE /V,FID                                   by a client
DELETE /V,FID?type=replicate&write=ID           as another copy's server asks for it, see `copies.py`
"""

import re
from collections.abc import Callable
from typing import Final

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import WeedError
from weedtw.formats.fileid import FileId
from weedtw.http.hot import Later, Reply, error_answer
from weedtw.http.requests import SERVER
from weedtw.storage.glance import glance
from weedtw.storage.volume import Volume
from weedtw.volume.hotread import is_usual
from weedtw.volume.needles import Needles
from weedtw.volume.record import STREAM_FROM

_GZIPPED: Final = 0x01  # flag: how long the content is takes unpacking
_REPLICA: Final = re.compile(rb"type=replicate&write=([0-9a-f]{32})")
_HEAD: Final = b"HTTP/1.1 202 Accepted\r\nServer: " + SERVER + b"\r\nDate: "
_JSON: Final = b"\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: "
_END: Final = b"\r\nX-Content-Type-Options: nosniff\r\n\r\n"


@attrs.define(eq=False)
class HotDeletes:
    """Answers deletes; `date` gives the Date line's value."""

    log = Logger()

    needles: Needles
    date: Callable[[], bytes]

    def answer(self, volume: Volume, key: int, cookie: int, query: bytes | None) -> Reply:
        """The answer; None when this is not for the hot path.  Raises WeedError when nothing was done."""
        asked = _REPLICA.fullmatch(query) if query is not None else None
        if query is not None and asked is None:
            return None
        seen = glance(volume, key, cookie, STREAM_FROM)
        if seen is None or not is_usual(seen.known) or seen.known[0] & _GZIPPED:
            return None
        size = len(seen.data)
        record_size = 4 + size + len(seen.known)  # with the length of the data
        file_id = FileId(volume.id, key, cookie)
        if asked is None and volume.replication.copies > 1:
            return self._replicated(volume, file_id, record_size, size)
        write_id = asked[1].decode() if asked is not None else ""
        if self.needles.delete_at_once(volume, file_id, record_size, size, write_id):
            return self._answer(size)
        return None

    def _replicated(self, volume: Volume, file_id: FileId, record_size: int, size: int) -> Later | None:
        later = Later()

        def ended(error: BaseException | None) -> None:
            if error is None:
                later.give(self._answer(size))
                return
            if not isinstance(error, WeedError):
                self.log.failure("deleting {fid}", Failure(error), fid=str(file_id))
            later.give(error_answer(error, self.date()))

        return later if self.needles.begin_delete(volume, file_id, record_size, size, ended) else None

    def _answer(self, size: int) -> bytes:
        said = b'{"size":%d}' % size
        return b"%b%b%b%d%b%b" % (_HEAD, self.date(), _JSON, len(said), _END, said)
