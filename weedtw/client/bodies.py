"""The body of an upload: one part of `multipart/form-data`, streamed from a source with a length known before.

--BOUNDARY CRLF
Content-Disposition: form-data; name="file"; filename="NAME" CRLF
Content-Type: MIME CRLF
CRLF
CONTENT CRLF
--BOUNDARY-- CRLF
"""

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from weedtw.client.sources import Source
from weedtw.errors import BadRequest, StorageError

PIECE: Final = 256 * 1024  # bytes read from the source, and held, at a time

_MIME: Final = re.compile(r"[!-~]+/[!-~]+(?:;[ -~]*)?", re.ASCII)


def part_head(boundary: str, name: str, mime: str) -> bytes:
    """Return what stands before the content.  A name may hold anything; line ends in it become spaces.

    Raises BadRequest when `mime` could not stand in a header.
    """
    if mime and _MIME.fullmatch(mime) is None:
        raise BadRequest(f"{mime!r} is not a content type")
    quoted = re.sub(r'(["\\])', r"\\\1", re.sub(r"[\x00-\x1f\x7f]", " ", name))
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="file"; filename="{quoted}"']
    if mime:
        lines.append(f"Content-Type: {mime}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")


def _nothing() -> None:
    """Do nothing."""


@implementer(IBodyProducer)
@attrs.define(eq=False)
class FormBody:
    """Produces `count` bytes of `source` from `offset` on as a form; made for one request, a retry takes another."""

    source: Source
    offset: int
    count: int
    head: bytes
    tail: bytes
    boundary: str
    moved: Callable[[int], None]  # called with the number of content bytes just handed to the connection

    alive: Callable[[], None] = attrs.field(default=_nothing, init=False)  # called with each piece, after `moved`
    produced: int = attrs.field(default=0, init=False)  # bytes of content handed to the connection
    length: int = attrs.field(init=False)  # of the whole body; what Twisted sends as Content-Length
    _digest: Any = attrs.field(init=False)
    _producing: "Deferred[None] | None" = attrs.field(default=None, init=False)
    _paused: bool = attrs.field(default=False, init=False)
    _resumed: "Deferred[None] | None" = attrs.field(default=None, init=False)

    @classmethod
    def of(
        cls, source: Source, offset: int, count: int, *, name: str, mime: str, moved: Callable[[int], None]
    ) -> "FormBody":
        """Frame a slice of `source`; raises BadRequest for a mime that could not stand in a header."""
        boundary = secrets.token_hex(16)
        head, tail = part_head(boundary, name, mime), f"\r\n--{boundary}--\r\n".encode()
        return cls(source, offset, count, head, tail, boundary, moved)

    def __attrs_post_init__(self) -> None:
        self.length = len(self.head) + self.count + len(self.tail)
        self._digest = hashlib.md5(usedforsecurity=False)

    @property
    def content_type(self) -> str:
        """The Content-Type of the request."""
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def md5(self) -> str:
        """Base64 of the MD5 of the content, once all of it was produced; servers say it as `contentMd5`."""
        return b64encode(self._digest.digest()).decode("ascii")

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":
        """Write the form to `consumer`.  The Deferred fires when all is written, and never after `stopProducing`."""
        finished: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._producing = Deferred.fromCoroutine(self._produce(consumer))

        def failed(failure: Failure) -> None:
            if self._producing is not None:
                finished.errback(failure)

        self._producing.addCallbacks(finished.callback, failed)
        return finished

    def stopProducing(self) -> None:
        """Give up: the connection is gone, or nobody wants the answer any more."""
        producing, self._producing = self._producing, None
        if producing is not None:
            producing.cancel()

    def pauseProducing(self) -> None:
        """Write nothing until resumed: the connection's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on writing."""
        self._paused = False
        waiting, self._resumed = self._resumed, None
        if waiting is not None:
            waiting.callback(None)

    async def _produce(self, consumer: IConsumer) -> None:
        consumer.write(self.head)
        while self.produced < self.count:
            await self._ready()
            piece = await self.source.read(self.offset + self.produced, min(PIECE, self.count - self.produced))
            if not piece:
                raise StorageError(self.source.name, "became shorter while it was being uploaded")
            await self._ready()
            self._digest.update(piece)
            consumer.write(bytes(piece))
            self.produced += len(piece)
            self.moved(len(piece))
            self.alive()
        await self._ready()
        consumer.write(self.tail)

    async def _ready(self) -> None:
        while self._paused:
            self._resumed = Deferred()
            await self._resumed
