"""What the master answers on the hot path: file ids, and where volumes are, see `weedtw/http/hot.py`.

    GET /dir/assign  GET /dir/assign?…       by the leader, when a volume and a key are at hand
    GET /dir/lookup?volumeId=…  ?fileId=…    of a volume that this master knows

Everything else, and every answer that is no success, is left to the other way.
"""

import os
import re
import struct
from collections.abc import Callable
from typing import Final

import attrs

from weedtw.errors import WeedError
from weedtw.formats.fileid import MAX_VOLUME_ID
from weedtw.http.hot import PLAIN, Meaning, Reply
from weedtw.http.requests import SERVER, parse_params
from weedtw.http.responses import render_json
from weedtw.master.api import locations_value
from weedtw.master.assign import Assigner, Wish
from weedtw.master.cluster import Cluster
from weedtw.master.wishes import count_of, wish_of
from weedtw.topology.server import Server

_LINE: Final = re.compile(
    rb"(GET) /dir/(?:(assign)(?:\?([0-9A-Za-z=&._\-:%+]{0,400}))?"
    rb"|lookup\?(?:volumeId|fileId)=([0-9]{1,10})(?:,[0-9a-fA-F_]{1,50})?) HTTP/1\.1\r\n"
)
_MOST: Final = 1024  # wishes, and renderings of servers, that are remembered
_POOL: Final = struct.Struct("1024I")  # random numbers that are fetched at once


@attrs.define(eq=False)
class HotIds:
    """The master's `Hotspot`; `date` gives the Date line's value."""

    cluster: Cluster
    assigner: Assigner
    date: Callable[[], bytes]
    guarded: bool  # whether a white list says who may have ids, or tokens belong to them
    pattern: "re.Pattern[bytes]" = _LINE
    _wishes: dict[bytes | None, Wish | None] = attrs.field(factory=dict, init=False)
    _places: dict[tuple[str, str], bytes] = attrs.field(factory=dict, init=False)
    _found: dict[tuple[tuple[str, str, str], ...], bytes] = attrs.field(factory=dict, init=False)
    _head: tuple[bytes, bytes] = attrs.field(default=(b"", b""), init=False)  # date, and the head around it

    def answer(self, line: "re.Match[bytes]", meaning: Meaning, body: bytes, boundary: bytes) -> Reply:  # noqa: ARG002
        """See `Hotspot`."""
        if meaning.names is not PLAIN or body:
            return None
        _, assign, query, volume = line.groups()
        if assign is None and self.guarded and b"fileId=" in line[0]:
            return None  # it may be that a token belongs to the answer
        if assign is not None and meaning.from_browser:
            return None  # it may be at the wish of another site's page
        try:
            said = self._look_up(int(volume)) if assign is None else self._assign(query)
        except WeedError:
            return None  # the other way meets it as well, and says it
        if said is None:
            return None
        date = self.date()
        if self._head[0] is not date:
            self._head = date, _head(date)
        return b"%b%d\r\nX-Content-Type-Options: nosniff\r\n\r\n%b" % (self._head[1], len(said), said)

    # ------------------------------------------------------------- file ids

    def _assign(self, query: bytes | None) -> bytes | None:
        try:
            wish = self._wishes[query]
        except KeyError:
            wish = self._learn(query)
        if wish is None:
            return None
        taken = self.assigner.take_at_once(wish)
        if taken is None:
            return None
        (volume_id, server, _), key = taken
        place = self._places.get((server.address, server.public_url)) or self._place(server)
        # Key and cookie as `format_needle_id` has them, without the calls: whole bytes of each.
        zero = b"0" if (key.bit_length() + 3 >> 2) % 2 else b""
        cookie = self.assigner.make_cookie()
        return b'{"fid":"%d,%b%x%08x",%b"count":%d}' % (volume_id, zero, key, cookie, place, wish.count)

    def _learn(self, query: bytes | None) -> Wish | None:
        wish = None
        if not self.guarded:
            asked = parse_params((query or b"").decode("ascii"))
            if "pretty" not in asked:
                wish = attrs.evolve(wish_of(asked, self.cluster.config), count=count_of(asked))
                layout = self.cluster.topology.layouts.get(wish.key)
                if layout is None:
                    return None  # there is no volume of this kind yet
                wish = attrs.evolve(wish, key=layout.key)  # the very same object is found faster
        if len(self._wishes) >= _MOST:
            self._wishes.clear()
        self._wishes[query] = wish
        return wish

    def _place(self, server: Server) -> bytes:
        """The middle of an answer, with a comma behind it."""
        rendered = render_json({"url": server.address, "publicUrl": server.public_url})[1:-1] + b","
        if len(self._places) >= _MOST:
            self._places.clear()
        self._places[server.address, server.public_url] = rendered
        return rendered

    # ------------------------------------------------------------- volumes

    def _look_up(self, volume_id: int) -> bytes | None:
        topology = self.cluster.topology
        if not 1 <= volume_id <= MAX_VOLUME_ID or topology.key_of(volume_id) is None:
            return None
        servers = self.cluster.locate(volume_id)
        names = tuple([(server.address, server.public_url, server.data_center) for server in servers])
        locations = self._found.get(names)
        if locations is None:
            if len(self._found) >= _MOST:
                self._found.clear()
            locations = self._found[names] = render_json(locations_value(servers))
        return b'{"volumeOrFileId":"%d","locations":%b}' % (volume_id, locations)


def _head(date: bytes) -> bytes:
    """An answer up to its length."""
    lines = [
        b"HTTP/1.1 200 OK",
        b"Server: " + SERVER,
        b"Date: " + date,
        b"Cache-Control: no-store",
        b"Content-Type: application/json",
        b"Content-Length: ",
    ]
    return b"\r\n".join(lines)


class Cookies:
    """Unpredictable numbers of 32 bits, fetched from the system many at a time."""

    __slots__ = ("_pool",)

    def __init__(self) -> None:
        self._pool: list[int] = []

    def __call__(self) -> int:
        """The next one, which is given to nobody else."""
        if not self._pool:
            self._pool = list(_POOL.unpack(os.urandom(_POOL.size)))
        return self._pool.pop()
