"""Taking a small new file on the hot path.

What a file is called, what its type is and whether it is compressed is decided by the same functions as on the other
way (`upload.py`), and remembered for each form that looks the same.  Only what is new is written here; a file that is
there already, and anything that a form or a header says beyond that, is the other way's.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import attrs

from weedtw.errors import WeedError
from weedtw.http.hot import Meaning
from weedtw.http.requests import SERVER
from weedtw.http.responses import render_json
from weedtw.storage.brisk import Appended, append_new
from weedtw.storage.volume import Volume
from weedtw.volume import mimes
from weedtw.volume.needles import SMALL
from weedtw.volume.upload import Offer, checked_mime, offer_of_form, settle

_FLAGS, _GZIPPED = 0x0E, 0x01  # name, mime and time; the data is gzip
_MOST: Final = 4096  # shapes that are remembered
_SLOW: Final = 0.05  # seconds: a write that took longer says that the disk is not keeping up
_RESPITE: Final = 5.0  # seconds for which the reactor then leaves writing to threads
_FORM, _TYPE = b"content-type", "multipart/form-data; boundary="
_TYPED: Final = frozenset({_FORM})


class Shape(NamedTuple):
    """What is known about a file from everything but its data."""

    name: str
    mime: str
    known: bytes  # name and mime as a record has them
    compressible: bool | None  # None: its data decides
    said_before: bytes  # the JSON that is answered, up to the size
    said_after: bytes  # and from the tag on


@attrs.define(eq=False)
class HotWrites:
    """Writes in the reactor, as long as the disk is quick; `monotonic` tells how time goes by.

    `merge` has a volume's map tidied up in a thread; `date` gives the Date line's value.
    """

    limit: int  # bytes that a file may have
    now: Callable[[], float]  # unix seconds
    monotonic: Callable[[], float]
    merge: Callable[[Volume], None]
    date: Callable[[], bytes]
    _shapes: dict[Any, Shape | None] = attrs.field(factory=dict, init=False)
    _not_before: float = attrs.field(default=0.0, init=False)

    def answer(
        self, volume: Volume, key: int, cookie: int, method: bytes, meaning: Meaning, body: bytes, boundary: bytes
    ) -> bytes | None:
        """The whole answer; None when this is not for the hot path.  Raises WeedError when nothing was written."""
        found: tuple[Shape, bytes | memoryview] | None
        if boundary:
            found = self._of_form(body, boundary) if method == b"POST" else None
        elif method == b"PUT" or meaning.names is _TYPED:
            found = self._of_body(meaning, body)
        else:
            found = None
        if found is None:
            return None
        shape, data = found
        written = self.write(volume, key, cookie, shape, data)
        if written is None:
            return None
        said = b"%b%d%b%08x%b" % (shape.said_before, len(data), _ETAG, written.checksum, shape.said_after)
        return b"%b%b%b%08x%b%d%b%b" % (*(_HEAD, self.date(), _TAG, written.checksum, _JSON, len(said), _END, said),)

    def write(self, volume: Volume, key: int, cookie: int, shape: Shape, data: bytes | memoryview) -> Appended | None:
        """Append the file, if the disk is quick."""
        flags: int = _FLAGS
        stored = data
        if shape.compressible or (shape.compressible is None and mimes.is_compressible(shape.mime, data)):
            if len(data) > SMALL:
                return None
            settled = settle(Offer(data, mime=shape.mime), self.limit)
            if settled.is_gzipped:
                flags, stored = _FLAGS | _GZIPPED, settled.data
        began = self.monotonic()
        if began < self._not_before:
            return None
        known = b"%c%b%b" % (flags, shape.known, int(self.now()).to_bytes(5))
        written = append_new(volume, key, cookie, stored, known)
        if written is not None:
            if written.generation.needles.wants_merge():
                self.merge(volume)
            if self.monotonic() - began > _SLOW:
                self._not_before = began + _RESPITE
        return written

    # ------------------------------------------------------------- shapes

    def _of_form(self, body: bytes, boundary: bytes) -> tuple[Shape, memoryview] | None:
        """The file of a form with one part."""
        opening = b"--" + boundary + b"\r\n"
        head_end = body.find(b"\r\n\r\n")
        if head_end < 0 or not body.startswith(opening):
            return None
        closing = b"\r\n--" + boundary
        stop = body.find(closing, head_end + 2)
        start = head_end + 4
        if stop <= start or stop > start + self.limit or body[stop + len(closing) :] not in (b"--\r\n", b"--"):
            return None
        head = body[len(opening) : start]
        try:
            shape = self._shapes[head]
        except KeyError:
            form = opening + head + b"x" + closing + b"--\r\n"
            shape = self._learn(head, lambda: offer_of_form(memoryview(form), _TYPE + boundary.decode(), False))
        return None if shape is None else (shape, memoryview(body)[start:stop])

    def _of_body(self, meaning: Meaning, body: bytes) -> tuple[Shape, bytes] | None:
        kind = meaning.fields.get(_FORM, "")
        if not body or len(body) > self.limit or len(meaning.names) > 1 or (meaning.names and not kind):
            return None
        try:
            shape = self._shapes[kind]
        except KeyError:
            shape = self._learn(kind, lambda: Offer(b"x", mime=checked_mime(kind)))
        return None if shape is None else (shape, body)

    def _learn(self, about: bytes | str, offered: Callable[[], Offer]) -> Shape | None:
        try:
            offer = offered()
        except WeedError:
            shape = None
        else:
            shape = None if offer.is_gzipped else _shape(offer)
        if len(self._shapes) >= _MOST:
            self._shapes.clear()
        self._shapes[about] = shape
        return shape


def _shape(offer: Offer) -> Shape:
    name, mime = offer.name.encode(), offer.mime.encode()
    kind = mimes.essence(offer.mime)
    said_name = render_json({"name": offer.name})[:-1] + b"," if offer.name else b"{"
    said_mime = b',"mime":' + render_json(offer.mime) + b"}" if offer.mime else b"}"
    return Shape(
        offer.name,
        offer.mime,
        b"%c%b%c%b" % (len(name), name, len(mime), mime),
        mimes.is_compressible(offer.mime, b"") if kind else None,
        said_name + b'"size":',
        b'"' + said_mime,
    )


_ETAG: Final = b',"eTag":"'
_HEAD: Final = b"HTTP/1.1 201 Created\r\nServer: " + SERVER + b"\r\nDate: "
_TAG: Final = b'\r\nETag: "'
_JSON: Final = b'"\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: '
_END: Final = b"\r\nX-Content-Type-Options: nosniff\r\n\r\n"
