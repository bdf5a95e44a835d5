"""Taking a small new file on the hot path.

What a file is called, what its type is and whether it is compressed is decided by the same functions as on the other
way (`upload.py`), and remembered for each form that looks the same.  Only what is new is written here; a file that is
there already, and anything that a form or a header says beyond that, is the other way's.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw.errors import WeedError
from weedtw.formats.fileid import FileId
from weedtw.http.hot import Later, Meaning, Reply, error_answer
from weedtw.http.multipart import is_form
from weedtw.http.requests import SERVER
from weedtw.http.responses import render_json
from weedtw.storage.volume import Volume, Written
from weedtw.volume import mimes
from weedtw.volume.brisk import Brisk
from weedtw.volume.copies import Order
from weedtw.volume.needles import SMALL, Needles
from weedtw.volume.upload import Data, Offer, checked_mime, name_of, offer_of_form, settle

_FLAGS, _GZIPPED = 0x0E, 0x01  # name, mime and time; the data is gzip
_MOST: Final = 4096  # shapes that are remembered
_MOST_SIZES: Final = 256  # of files of one shape
_FORM, _TYPE = b"content-type", "multipart/form-data; boundary="
_NAMED: Final = b"content-disposition"
_TYPED: Final = frozenset({_FORM})
_OF_REPLICAS: Final = frozenset({_FORM, _NAMED})


class Shape(NamedTuple):
    """What is known about a file from everything but its data."""

    name: bytes
    mime: bytes
    kind: str  # the type as text
    known: bytes  # what its record says about it, up to the time
    known_packed: bytes  # the same if its data is compressed
    compressible: bool | None  # None: its data decides
    said_before: bytes  # the JSON that is answered, up to the size
    said_after: bytes  # and from the tag on
    middles: dict[int, bytes]  # by size: what is answered between the tag's two places


@attrs.define(eq=False)
class HotWrites:
    """Answers writes; `date` gives the Date line's value."""

    log = Logger()

    brisk: Brisk
    needles: Needles
    date: Callable[[], bytes]
    _shapes: dict[Any, Shape | None] = attrs.field(factory=dict, init=False)
    _form: tuple[bytes, bytes, bytes] = attrs.field(default=(b"", b"", b""), init=False)  # a boundary, as it stands
    _second: int = attrs.field(default=-1, init=False)  # for which these hold:
    _start: bytes = attrs.field(default=b"", init=False)  # an answer up to its tag
    _stamp: bytes = attrs.field(default=b"", init=False)  # the time as a record has it

    def answer(
        self, volume: Volume, key: int, cookie: int, method: bytes, meaning: Meaning, body: bytes, boundary: bytes
    ) -> Reply:
        """The answer; None when this is not for the hot path.  Raises WeedError when nothing was written."""
        found: tuple[Shape, Data] | None
        if boundary:
            found = self._of_form(body, boundary) if method == b"POST" and meaning.names == _TYPED else None
        elif method == b"PUT" or (meaning.names == _TYPED and not is_form(meaning.fields[_FORM])):
            found = self._of_body(meaning, body)
        else:
            found = None
        if found is None:
            return None
        shape, data = found
        if volume.replication.copies > 1:
            return self._replicated(volume, key, cookie, shape, data)
        decided = (shape.known, data) if shape.compressible is False else self._decided(shape, data)
        if decided is None:
            return None
        known, stored = decided
        self._tick()
        written = self.brisk.write(volume, key, cookie, stored, known + self._stamp)
        return None if written is None else self._answer(shape, len(data), b"%08x" % written.checksum)

    def answer_replica(
        self, volume: Volume, key: int, cookie: int, meaning: Meaning, body: bytes, query: "re.Match[bytes]"
    ) -> Reply:
        """As `answer`, for what another copy's server sends: see `copies.py`."""
        shape = self._of_replica(meaning) if body else None
        if shape is None:
            return None
        self._tick()
        known = shape.known + int(query[2]).to_bytes(5)
        written = self.needles.write_replica_at_once(volume, key, cookie, body, known, query[1].decode())
        if written is None:
            return None
        undo = b"\r\nX-Weedtw-Undo: %b" % str(written.undo).encode()
        return self._answer(shape, len(body), written.etag.encode(), undo)

    def _replicated(self, volume: Volume, key: int, cookie: int, shape: Shape, data: Data) -> Reply:
        """Write it to all copies, if it is new and they are known."""
        decided = None if volume.knows(key) else self._decided(shape, data)
        if decided is None:
            return None
        known, stored = decided
        self._tick()
        is_gzipped = known is shape.known_packed
        file_id = FileId(volume.id, key, cookie)
        order = Order.write_new(
            file_id, stored, name=shape.name, mime=shape.mime, is_gzipped=is_gzipped, now=self._second
        )
        later = Later()
        written: Written | None = None
        early: list[BaseException | None] = []

        def ended(error: BaseException | None) -> None:
            if written is None:
                early.append(error)
            elif error is None:
                self._tick()
                later.give(self._answer(shape, len(data), written.etag.encode()))
            else:
                if not isinstance(error, WeedError):
                    self.log.failure("writing {key}", Failure(error), key=key)
                later.give(error_answer(error, self.date()))

        written = self.needles.begin_write(volume, order, known + self._stamp, ended)
        if written is None:
            return None
        if early:
            ended(early[0])
        return later

    def _answer(self, shape: Shape, size: int, tag: bytes, undo: bytes = b"") -> bytes:
        middle = shape.middles.get(size) or _middle(shape, size)
        return b"".join((self._start, tag, b'"', undo, middle, tag, shape.said_after))

    def _tick(self) -> None:
        """A new second is told to every client and in every record of it."""
        second = int(self.needles.now())
        if second != self._second:
            self._second, self._stamp, self._start = second, second.to_bytes(5), _HEAD + self.date() + _TAG

    def _decided(self, shape: Shape, data: Data) -> tuple[bytes, Data] | None:
        """(what is known, bytes to store): compressed if that is worth it; None when that is a thread's work."""
        if not (shape.compressible or (shape.compressible is None and mimes.is_compressible(shape.kind, data))):
            return shape.known, data
        if len(data) > SMALL:
            return None
        settled = settle(Offer(data, mime=shape.kind), self.needles.limit)
        return (shape.known_packed if settled.is_gzipped else shape.known), settled.data

    # ------------------------------------------------------------- shapes

    def _of_form(self, body: bytes, boundary: bytes) -> tuple[Shape, memoryview] | None:
        """The file of a form with one part."""
        if boundary != self._form[0]:
            self._form = boundary, b"--%b\r\n" % boundary, b"\r\n--" + boundary
        _, opening, closing = self._form
        head_end = body.find(b"\r\n\r\n")
        if head_end < 0 or not body.startswith(opening):
            return None
        stop = body.find(closing, head_end + 2)
        start = head_end + 4
        if stop <= start or stop > start + self.needles.limit or body[stop + len(closing) :] not in _CLOSES:
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
        if not body or len(body) > self.needles.limit or len(meaning.names) > 1 or (meaning.names and not kind):
            return None
        try:
            shape = self._shapes[kind]
        except KeyError:
            shape = self._learn(kind, lambda: Offer(b"x", mime=checked_mime(kind)))
        return None if shape is None else (shape, body)

    def _of_replica(self, meaning: Meaning) -> Shape | None:
        kind, disposition = meaning.fields.get(_FORM, ""), meaning.fields.get(_NAMED, "")
        if not meaning.names <= _OF_REPLICAS:
            return None
        about = kind, disposition
        try:
            return self._shapes[about]
        except KeyError:
            return self._learn(about, lambda: Offer(b"x", name_of(disposition), checked_mime(kind)))

    def _learn(self, about: object, offered: Callable[[], Offer]) -> Shape | None:
        try:
            offer = offered()
        except WeedError:
            shape = None
        else:
            shape = None if offer.is_gzipped or offer.md5 else _shape(offer)
        if len(self._shapes) >= _MOST:
            self._shapes.clear()
        self._shapes[about] = shape
        return shape


def _shape(offer: Offer) -> Shape:
    name, mime = offer.name.encode(), offer.mime.encode()
    kind = mimes.essence(offer.mime)
    said_name = render_json({"name": offer.name})[:-1] + b"," if offer.name else b"{"
    said_mime = b',"mime":' + render_json(offer.mime) + b"}" if offer.mime else b"}"
    known = b"%c%b%c%b" % (len(name), name, len(mime), mime)
    return Shape(
        name,
        mime,
        offer.mime,
        b"%c%b" % (_FLAGS, known),
        b"%c%b" % (_FLAGS | _GZIPPED, known),
        mimes.is_compressible(offer.mime, b"") if kind else None,
        said_name + b'"size":',
        b'"' + said_mime,
        {},
    )


def _middle(shape: Shape, size: int) -> bytes:
    """What is answered between the two places of the tag to who wrote a file of that shape and size."""
    said = b"%b%d%b" % (shape.said_before, size, _ETAG)
    middle = b"%b%d%b%b" % (_JSON, len(said) + _TAG_LENGTH + len(shape.said_after), _END, said)
    if len(shape.middles) >= _MOST_SIZES:
        shape.middles.clear()
    shape.middles[size] = middle
    return middle


_TAG_LENGTH: Final = 8
_CLOSES: Final = (b"--\r\n", b"--")  # the end of a form, behind its last boundary
_ETAG: Final = b',"eTag":"'
_HEAD: Final = b"HTTP/1.1 201 Created\r\nServer: " + SERVER + b"\r\nDate: "
_TAG: Final = b'\r\nETag: "'
_JSON: Final = b"\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: "
_END: Final = b"\r\nX-Content-Type-Options: nosniff\r\n\r\n"
