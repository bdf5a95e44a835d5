"""Which bytes answer a reader, and what is said about them: one of a file's representations.

    plain       the content as it was uploaded (ranges are always of this one)
    gzip        the stored gzip stream as it is, for those who take it
    reshaped    a smaller picture
    chunked     what a chunk manifest stands for

Each has an ETag of its own: that of the stored data, with `-gzip` or the shape behind it.
"""

from collections.abc import Callable

import attrs
from twisted.internet.defer import DeferredSemaphore

from weedtw.errors import StorageError, TooLarge
from weedtw.formats.needle import MAX_MIME_SIZE, etag
from weedtw.http.accept import accepts_gzip
from weedtw.http.disposition import clean_name
from weedtw.http.requests import Params
from weedtw.volume import mimes
from weedtw.volume.chunks import ChunkedContent, Chunks
from weedtw.volume.compression import NotGzip, unpack
from weedtw.volume.contents import Content, Inflated, InMemory, Run, gather, measure
from weedtw.volume.images import Shape, is_picture, wanted_shape
from weedtw.volume.manifest import Manifest
from weedtw.volume.record import Opened

UNPACKED_AT_ONCE = 4 << 20  # bytes of content that are unpacked into memory; more are unpacked on the way out
UNPACKED_ON_THE_SPOT = 64 * 1024  # bytes of content that are unpacked without a thread
LARGEST_PICTURE = 64 << 20  # bytes of a picture that is read to be reshaped
_GZIP = "-gzip"  # at the end of the tag of the gzip form

Reshaper = Callable[[bytes, str, Shape], bytes | None]


@attrs.frozen(eq=False)
class Representation:
    """Bytes, and what is said about them."""

    content: Content
    etag: str  # with its quotes
    mime: str
    name: str = ""
    is_gzip: bool = False
    is_guess: bool = False  # nobody said what type it is
    varies: bool = False  # there is a gzip form and a plain one
    is_chunked: bool = False


@attrs.define(eq=False)
class Representer:
    """Makes representations; `limit` is the most bytes that a gzip stream may unpack to."""

    run: Run
    limit: int
    reshape: Reshaper | None = None  # None: pictures are served as they are
    chunks: Chunks | None = None  # set when both are there
    _reshaping: DeferredSemaphore = attrs.field(factory=lambda: DeferredSemaphore(2), init=False)

    async def identity(self, opened: Opened) -> Content:
        """The plain content of a file; raises Damaged, and StorageError for more than `limit` bytes."""
        if not opened.needle.is_gzipped:
            return opened.stored
        stored, what = opened.stored, str(opened.file_id)
        if isinstance(stored, InMemory):
            plain = _unpacked(stored.data, min(UNPACKED_ON_THE_SPOT, self.limit))
            if plain is None:
                plain = await self.run(_unpacked, stored.data, min(UNPACKED_AT_ONCE, self.limit))
            if plain is not None:
                return InMemory(plain)
        try:
            return Inflated(stored, await measure(stored, self.limit, self.run, what), self.run, what)
        except TooLarge as error:
            reason = f"it unpacks to more than the limit of {self.limit} bytes; take it with Accept-Encoding: gzip"
            raise StorageError(what, reason) from error

    async def of(
        self,
        opened: Opened,
        query: Params,
        *,
        accept: str | None,
        wants_range: bool,
        url_name: str = "",
        url_extension: str = "",
    ) -> Representation:
        """The representation for a reader whose Accept-Encoding is `accept`; the names come from the path.

        Raises BadManifest, and what `identity` does.
        """
        needle = opened.needle
        manifest: Manifest | None = None
        if needle.is_manifest and query.flag("cm", True):
            assert self.chunks is not None
            manifest = await self.chunks.manifest_of(opened)
        name = clean_name(url_name or (manifest.name if manifest is not None else "") or _text(needle.name))
        said = manifest.mime if manifest is not None else _text(needle.mime)
        said = said if len(said) <= MAX_MIME_SIZE else ""  # a manifest may say anything
        named = mimes.type_of_name(name) or mimes.type_of_name(f"x{url_extension}")
        says_nothing = mimes.essence(said) in {"", mimes.OCTET_STREAM}  # what libraries send that know no type
        mime = (named if says_nothing else said) or said or mimes.OCTET_STREAM
        tag = etag(needle.checksum)
        plain = Representation(
            content=InMemory(b""),
            etag=f'"{tag}"',
            mime=mime,
            name=name,
            is_guess=says_nothing,
            varies=needle.is_gzipped and manifest is None,
            is_chunked=manifest is not None,
        )
        shape = wanted_shape(query.text) if is_picture(mime) and self.reshape is not None else None
        if manifest is not None:
            assert self.chunks is not None
            plain = attrs.evolve(plain, content=ChunkedContent(manifest, self.chunks))
        elif needle.is_gzipped and shape is None and not wants_range and accepts_gzip(accept):
            return attrs.evolve(plain, content=opened.stored, etag=f'"{tag}{_GZIP}"', is_gzip=True)
        else:
            plain = attrs.evolve(plain, content=await self.identity(opened))
        return plain if shape is None else await self._reshaped(plain, tag, shape)

    async def _reshaped(self, plain: Representation, tag: str, shape: Shape) -> Representation:
        """The picture in another shape; the plain one when it needs none, or cannot be."""
        if plain.content.size > LARGEST_PICTURE or self.reshape is None:
            return plain
        await self._reshaping.acquire()
        try:
            data = await gather(plain.content, LARGEST_PICTURE)
            shaped = await self.run(self.reshape, data, plain.mime, shape)
        finally:
            self._reshaping.release()
        if shaped is None:
            return plain
        return attrs.evolve(plain, content=InMemory(shaped), etag=f'"{tag}-{shape.tag}"', varies=False)


def plain_tag(etag: str) -> str | None:
    """The tag of the plain form, of that of the gzip form; None of any other.

    Who takes gzip can use either form, so both tags name what it holds; who does not, has no use for the gzip one.
    """
    return f'{etag[: -len(_GZIP) - 1]}"' if etag.endswith(_GZIP + '"') else None


def _unpacked(packed: bytes | memoryview, most: int) -> bytes | None:
    """The content of a gzip stream; None when it is more than `most` bytes, or broken (measuring tells how)."""
    try:
        return unpack(packed, most)
    except (TooLarge, NotGzip):
        return None


def _text(stored: bytes) -> str:
    return bytes(stored).decode("utf-8", "replace")
