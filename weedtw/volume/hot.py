"""What the volume server answers on the hot path: reading and writing small files, see `weedtw/http/hot.py`."""

import re
from typing import Final

import attrs

from weedtw.errors import WeedError
from weedtw.formats.fileid import MAX_KEY
from weedtw.http.hot import PLAIN, Meaning, Reply
from weedtw.storage.store import Store
from weedtw.volume.hotdelete import HotDeletes
from weedtw.volume.hotread import PARTICULAR, HotReads
from weedtw.volume.hotwrite import HotWrites

_LINE: Final = re.compile(
    rb"(GET|HEAD|PUT|POST|DELETE) /([0-9]{1,10}),([0-9a-fA-F]{9,24})(?:_([0-9]{1,20}))?(\.[0-9A-Za-z]{1,16})?"
    rb"(?:\?([0-9A-Za-z=&._\-]{0,400}))? HTTP/1\.1\r\n"
)
_PROXIED: Final = b"proxied=true"  # this server or none is meant: of what is here that makes no difference
# What `copies.py` asks of another copy for a file without any wish.
_REPLICA: Final = re.compile(rb"type=replicate&write=([0-9a-f]{32})&ts=([0-9]{1,12})(?:&tsGiven=false)?")


@attrs.define(eq=False)
class HotFiles:
    """The volume server's `Hotspot`."""

    store: Store
    reads: HotReads
    writes: HotWrites
    deletes: HotDeletes
    guarded: bool  # whether a white list says who may write, or it takes a token
    guards_reads: bool  # whether reading takes a token
    fsync: bool  # whether every write is to be on the disk before it is acknowledged
    pattern: "re.Pattern[bytes]" = _LINE

    def answer(self, line: "re.Match[bytes]", meaning: Meaning, body: bytes, boundary: bytes) -> Reply:
        """See `Hotspot`."""
        method, volume_digits, digits, delta, extension, query = line.groups()
        volume = self.store.at_hand(int(volume_digits))
        if volume is None:
            return None
        key, cookie = int(digits[:-8], 16), int(digits[-8:], 16)
        if delta is not None:
            key += int(delta)
            if key > MAX_KEY:
                return None
        try:
            if method in {b"GET", b"HEAD"}:
                if (query is not None and query != _PROXIED) or body or self.guards_reads:
                    return None
                if meaning.names is not PLAIN and not meaning.names <= PARTICULAR:
                    return None
                return self.reads.answer(volume, key, cookie, extension, meaning, method == b"GET")
            if self.guarded or self.fsync or (extension and method == b"PUT"):  # which may tell the type
                return None
            if method == b"DELETE":
                if meaning.names is not PLAIN or body:
                    return None
                return self.deletes.answer(volume, key, cookie, query)
            if query is not None:
                replica = _REPLICA.fullmatch(query) if method == b"PUT" else None
                if replica is None:
                    return None
                return self.writes.answer_replica(volume, key, cookie, meaning, body, replica)
            return self.writes.answer(volume, key, cookie, method, meaning, body, boundary)
        except WeedError:
            pass  # the other way meets it as well, and says it
        return None
