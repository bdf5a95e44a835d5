"""Answering a GET or HEAD of a small file on the hot path.

What is said about a file is made by the same functions as on the other way, and kept as a template: files of one name
and type differ in tag, time and length only.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import attrs
from twisted.web.http_headers import Headers

from weedtw.errors import Damaged
from weedtw.formats.fileid import FileId
from weedtw.http.conditional import Conditions, Validators, Verdict, evaluate, format_date
from weedtw.http.head import END
from weedtw.http.hot import PLAIN, Meaning
from weedtw.http.outflow import Outflow
from weedtw.http.ranges import parse_ranges
from weedtw.http.requests import SERVER, Params
from weedtw.storage.glance import Glimpse, glance_at
from weedtw.storage.maps import AnyMap
from weedtw.storage.volume import Volume
from weedtw.volume.contents import OnDisk, Run
from weedtw.volume.outflow import RecordFlow
from weedtw.volume.ready import Kept, Ready
from weedtw.volume.record import STREAM_FROM, Opened, open_cached, open_large_cached
from weedtw.volume.represent import Representer, plain_tag
from weedtw.volume.serving import LAST_DATE, Server, common_headers, describing_headers

T = TypeVar("T")

_TIME: Final = 5  # bytes of the time, which comes last
_GZIPPED, _USUAL = 0x01, 0x0E  # flags: gzip; name, mime and time
_MOST: Final = 4096  # templates, and times, that are kept
_TAG: Final = "00000000"  # stands for the tag while a template is made
_MODIFIED: Final = 1  # stands for the time: of 1970-01-01 00:00:01
_NO_QUERY: Final = Params({})
_LENGTH: Final = b"\r\nContent-Length: "
_DATED: Final = b"\r\nServer: " + SERVER + b"\r\nDate: "
_RANGE: Final = b"range"
PARTICULAR: Final = frozenset({_RANGE, b"if-none-match", b"if-modified-since"})  # header lines that are understood


About = tuple[bytes, bytes | None]  # what is known about a file but for its time, and the extension in the URL


class Template(NamedTuple):
    """The head of an answer, in the pieces between what differs."""

    before_tag: bytes
    before_time: bytes
    before_length: bytes


@attrs.define(eq=False)
class HotReads:
    """Answers from the page cache; `date` gives the Date line's value."""

    representer: Representer
    server: Server
    date: Callable[[], bytes]
    ready: Ready
    run: Run
    damaged: Callable[[FileId, Damaged], None]  # is told of what was found to be damaged while it was sent
    _templates: dict[About, Template | None] = attrs.field(factory=dict, init=False)
    _spare: list[memoryview] = attrs.field(factory=list, init=False)  # see RecordFlow
    _times: dict[bytes, bytes] = attrs.field(factory=dict, init=False)
    _start: tuple[bytes, bytes] = attrs.field(default=(b"", b""), init=False)  # date, and the head up to behind it

    def answer(
        self, volume: Volume, key: int, cookie: int, extension: bytes | None, meaning: Meaning, with_body: bool
    ) -> bytes | Outflow | None:
        """The whole answer; None when it is not for the hot path.  Raises StorageError, RangeNotSatisfiable.

        The request has no header lines with an effect but PARTICULAR.
        """
        generation = volume.generation
        needles = generation.needles
        name = generation.serial, key, extension
        is_simple = with_body and meaning.names is PLAIN
        changes = needles.changes  # asked before the map is: a change meanwhile has it asked again the next time
        kept = self.ready.get(name) if is_simple else None
        if (
            kept is not None
            and kept.cookie == cookie
            and (kept.as_of == changes or _still_lies(kept, needles, key, changes))
            and (meaning.takes_gzip or not kept.needs_gzip)
            and (self.server.downloads.limit is None or self._may_send(kept.length))
        ):
            return self._begin() + kept.rest
        place = needles.find(key)
        if place is None:
            return None
        if place.size >= STREAM_FROM:
            return self._large(volume, FileId(volume.id, key, cookie), extension) if is_simple else None
        seen = glance_at(generation, place, key, cookie, STREAM_FROM)
        if seen is None:
            return None
        data, known, checksum = seen
        if known[0] & _GZIPPED and (not meaning.takes_gzip or _RANGE in meaning.names):
            return None  # it is to be unpacked
        length = len(data)
        if with_body and not self._may_send(length):
            return None
        about = known[:-_TIME], extension
        try:
            template = self._templates[about]
        except KeyError:
            opened = open_cached(volume, FileId(volume.id, key, cookie)) if is_usual(known) else None
            template = self._learn(about, opened)
        if template is None:
            return None
        time = self._times.get(known[-_TIME:]) or self._time(known[-_TIME:])
        if not time:
            return None
        if meaning.names:
            return self._particular(seen, template, time, meaning.fields, with_body)
        head = _head(template, checksum, time, length)
        if not is_simple:
            return self._begin() + head
        rest = b"".join((head, data))
        self.ready.offer(name, Kept(changes, place.offset, cookie, bool(known[0] & _GZIPPED), length, rest))
        return self._begin() + rest

    def _large(self, volume: Volume, file_id: FileId, extension: bytes | None) -> Outflow | None:
        """The answer to a GET of all of a large file."""
        opened = open_large_cached(volume, file_id, self.run)
        if opened is None or not isinstance(opened.stored, OnDisk):
            return None
        needle, source = opened.needle, opened.stored.source
        if needle.is_gzipped or needle.is_manifest or needle.pairs or needle.ttl or needle.last_modified is None:
            return None
        name, mime = bytes(needle.name), bytes(needle.mime)
        about = b"%c%c%b%c%b" % (_USUAL, len(name), name, len(mime), mime), extension
        try:
            template = self._templates[about]
        except KeyError:
            template = self._learn(about, opened)
        stored = needle.last_modified.to_bytes(_TIME)
        time = self._times.get(stored) or self._time(stored)
        if template is None or not time or not self.server.downloads.take(source.size):
            return None

        def ended(error: Exception | None) -> None:
            self.server.downloads.give(source.size)
            if isinstance(error, Damaged):
                self.damaged(file_id, error)

        head = self._begin() + _head(template, source.checksum, time, source.size)
        return RecordFlow(head, source, opened.stored.what, self.run, self._spare, ended)

    def _begin(self) -> bytes:
        """An answer up to the Date line."""
        date = self.date()
        if self._start[0] is not date:
            self._start = date, b"HTTP/1.1 200 OK" + _DATED + date
        return self._start[1]

    def _particular(
        self, seen: Glimpse, template: Template, time: bytes, fields: Mapping[bytes, str], with_body: bool
    ) -> bytes | None:
        """The answer to a request with a condition, or for a part: decided as on the other way, see `serving.py`."""
        if not all(map(str.isascii, fields.values())):
            return None
        data, known, checksum = seen
        tag = b'"%08x%b"' % (checksum, template.before_time.partition(b'"')[0])
        conditions = Conditions(
            if_none_match=fields.get(b"if-none-match"), if_modified_since=fields.get(b"if-modified-since")
        )
        etag = tag.decode()
        validators = Validators(etag, int.from_bytes(known[-_TIME:]), plain_tag(etag))
        verdict = evaluate(conditions, "GET" if with_body else "HEAD", validators)
        status, about = b"200 OK", template.before_length
        if verdict is Verdict.NOT_MODIFIED:
            status, about = b"304 Not Modified", b""
        elif with_body and (ranges := parse_ranges(fields.get(_RANGE), len(data))) is not None:
            if len(ranges) > 1:
                return None
            [part] = ranges
            where = f"\r\nContent-Range: {part.content_range(len(data))}".encode()
            status, about = b"206 Partial Content", about.removesuffix(_LENGTH) + where + _LENGTH
            data = data[part.start : part.stop]
        head = b"HTTP/1.1 %b%b%b%b%08x%b%b%b" % (
            *(status, _DATED, self.date(), template.before_tag, checksum, template.before_time, time, about),
        )
        if not about:
            return head + END
        head += b"%d\r\n\r\n" % len(data)
        return b"".join((head, data)) if with_body else head

    def _may_send(self, length: int) -> bool:
        downloads = self.server.downloads
        if downloads.limit is None:
            return True
        if not downloads.take(length):
            return False
        downloads.give(length)
        return True

    def _time(self, stored: bytes) -> bytes:
        modified = int.from_bytes(stored)
        if not 0 < modified <= LAST_DATE:
            return b""
        if len(self._times) >= _MOST:
            self._times.clear()
        time = self._times[stored] = format_date(modified).encode()
        return time

    # ------------------------------------------------------------- templates

    def _learn(self, about: About, opened: Opened | None) -> Template | None:
        template = None if opened is None else self._made(opened, about[1])
        if len(self._templates) >= _MOST:
            self._templates.clear()
        self._templates[about] = template
        return template

    def _made(self, opened: Opened, extension: bytes | None) -> Template | None:
        """Have the other way say what it would about this file, were its tag, time and length others."""
        if opened.needle.is_manifest:
            return None
        shown = at_once(
            self.representer.of(
                opened,
                _NO_QUERY,
                accept="gzip",
                wants_range=False,
                url_extension=(extension or b"").decode(),
            )
        )
        if shown is None:
            return None
        shown = attrs.evolve(shown, etag=shown.etag.replace(shown.etag[1:9], _TAG))
        headers = Headers()
        for name, value in common_headers(shown, _MODIFIED) + describing_headers(shown, _NO_QUERY, b""):
            headers.setRawHeaders(name, [value])
        lines = [b"%b: %b" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
        text = b"".join(b"\r\n" + line for line in lines) + _LENGTH
        before_tag, _, rest = text.partition(_TAG.encode())
        before_time, found, before_length = rest.partition(format_date(_MODIFIED).encode())
        return Template(before_tag, before_time, before_length) if found else None


def _head(template: Template, checksum: int, time: bytes, length: int) -> bytes:
    """All of a head from behind the Date line on."""
    return b"%b%08x%b%b%b%d\r\n\r\n" % (
        *(template.before_tag, checksum, template.before_time, time, template.before_length, length),
    )


def _still_lies(kept: Kept, needles: AnyMap, key: int, changes: int) -> bool:
    """Whether the map still says what it said when that was kept; `changes` is as of before it was asked."""
    place = needles.find(key)
    if place is None or place.deleted or place.offset != kept.offset:
        return False
    kept.as_of = changes
    return True


def is_usual(known: bytes) -> bool:
    """Whether a file has a name, a type, a time, and nothing else, each maybe empty."""
    if known[0] & ~_GZIPPED != _USUAL or len(known) < 3 + _TIME:
        return False
    at = 2 + known[1]
    return at < len(known) and at + 1 + known[at] + _TIME == len(known)


def at_once(work: Coroutine[Any, Any, T]) -> T | None:
    """What a coroutine returns if it does so without waiting; None, and it is given up, when it would wait."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    work.close()
    return None
