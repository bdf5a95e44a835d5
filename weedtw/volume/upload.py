"""What a POST or PUT of a file says: from a request's parts to a needle that can be stored.  Pure.

`read_offer` looks at headers and parameters only, and is quick.  `settle` looks at every byte (digest, gzip) and
belongs in a thread when there are many.  A body is a form only when it says multipart/form-data and comes by POST;
everything else, url-encoded bodies among it, is stored as it is.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable
from typing import Final

import attrs

from weedtw.errors import BadDigest, BadRequest, TooLarge
from weedtw.formats.fileid import FileId
from weedtw.formats.needle import MAX_LAST_MODIFIED, MAX_MIME_SIZE, MAX_PAIRS_SIZE, Needle
from weedtw.formats.ttl import Ttl
from weedtw.http.disposition import parse_disposition
from weedtw.http.multipart import first_file, is_form
from weedtw.http.requests import Params, Request
from weedtw.volume import mimes
from weedtw.volume.compression import checked_plain_size, compress

PAIR_PREFIX = b"seaweed-"
FORM_SLACK = 1 << 20  # bytes of a form besides the file itself
MOST_COMPRESSED = 64 << 20  # bytes; what is larger and comes plain is stored plain

# An empty file is stored so, because a record without data keeps neither name nor type nor headers, and SeaweedFS's
# own tools drop it; see `formats/needle.py`.  Always the same bytes, so that storing it again changes nothing.
EMPTY_AS_GZIP: Final = gzip.compress(b"", mtime=0)

Data = bytes | memoryview


@attrs.frozen
class Offer:
    """A file as a client offers it."""

    data: Data = attrs.field(repr=False)  # as it came, gzip when `is_gzipped`
    name: str = ""
    mime: str = ""  # "" is unknown
    is_gzipped: bool = False
    is_manifest: bool = False
    is_replica: bool = False  # another copy's server sends it: everything has been decided there
    fsync: bool = False
    ttl: Ttl | None = None
    modified: int | None = None  # unix seconds, None when nobody says
    time_given: bool = True  # whether `modified` is the client's word
    pairs: bytes = b""  # a JSON object of strings
    md5: str = ""  # base64, as the client claims it
    write_id: str = ""  # names a replica's write, so that it can be taken back


@attrs.frozen
class Settled:
    """An offer's bytes as they are to be stored."""

    data: Data = attrs.field(repr=False)
    is_gzipped: bool
    plain_size: int  # bytes of content


def read_offer(request: Request, query: Params) -> Offer:
    """What the request offers; raises BadRequest when it cannot be understood."""
    kind = request.header("Content-Type") or ""
    by_form = request.method == b"POST" and is_form(kind)
    if request.method == b"POST" and not kind:
        raise BadRequest("a POST needs a Content-Type: multipart/form-data, or that of the body itself")
    is_manifest = query.flag("cm")
    is_replica = query.text("type") == "replicate"
    offer = offer_of_form(request.body, kind, is_manifest) if by_form else _of_body(request, kind)
    if not offer.mime and not is_replica and not is_manifest:
        offer = attrs.evolve(offer, mime=mimes.type_of_name(offer.name or _last_of(request.path)))
    return attrs.evolve(
        offer,
        is_manifest=is_manifest,
        is_replica=is_replica,
        fsync=query.flag("fsync"),
        ttl=Ttl.parse(query.text("ttl")) or None,
        modified=_modified(query, is_replica),
        time_given=query.flag("tsGiven", True),
        pairs=pack_pairs(request.requestHeaders.getAllRawHeaders()),
        md5=(request.header("Content-MD5") or "").strip() or offer.md5,
        write_id=query.text("write"),
    )


def _modified(query: Params, is_replica: bool) -> int | None:
    """The time that the client gives; 0 is what libraries send that have none, but another copy's word counts."""
    seconds = query.integer("ts", 0, most=MAX_LAST_MODIFIED) if query.text("ts") else None
    return seconds if is_replica else seconds or None


def offer_of_form(body: memoryview, kind: str, is_manifest: bool) -> Offer:
    """What a form offers by itself."""
    part = first_file(body, kind)
    mime = part.content_type
    if is_manifest:
        mime = ""
    elif mimes.essence(mime) in {"", mimes.OCTET_STREAM}:
        mime = mimes.type_of_name(part.filename)
    coding = part.headers.get("content-encoding")
    md5 = part.headers.get("content-md5", "").strip()
    return Offer(part.data, name=part.filename, mime=checked_mime(mime), is_gzipped=_is_gzip(coding), md5=md5)


def _of_body(request: Request, kind: str) -> Offer:
    name = name_of(request.header("Content-Disposition") or "")
    is_gzipped = _is_gzip(request.header("Content-Encoding"))
    return Offer(request.body, name=name, mime=checked_mime(kind), is_gzipped=is_gzipped)


def _last_of(path: bytes) -> str:
    return path.rpartition(b"/")[2].decode("ascii", "replace")


def name_of(disposition: str) -> str:
    """The file name in a Content-Disposition; "" when it has none."""
    parsed = parse_disposition(disposition)
    return (parsed.filename or "") if parsed is not None else ""


def checked_mime(mime: str) -> str:
    """A type as it is stored; raises BadRequest for one that is too long."""
    clean = "".join(character for character in mime if character.isprintable()).strip()
    if len(clean.encode()) > MAX_MIME_SIZE:
        raise BadRequest(f"the media type is longer than {MAX_MIME_SIZE} bytes")
    return clean


def _is_gzip(coding: str | None) -> bool:
    named = (coding or "identity").strip().lower()
    if named in {"gzip", "x-gzip"}:
        return True
    if named in {"identity", ""}:
        return False
    raise BadRequest(f"Content-Encoding {named[:40]!r} is not understood; send gzip, or the bytes as they are")


def pack_pairs(headers: Iterable[tuple[bytes, Iterable[bytes]]]) -> bytes:
    """The `Seaweed-NAME` headers as a JSON object of strings, without the prefix; b"" when there are none.

    Names are as Twisted spells them, each word with a capital.  Raises BadRequest when a record cannot hold them.
    """
    pairs: dict[str, str] = {}
    for name, values in headers:
        if name.lower().startswith(PAIR_PREFIX) and len(name) > len(PAIR_PREFIX):
            pairs[name[len(PAIR_PREFIX) :].decode("latin-1")] = b", ".join(values).decode("utf-8", "replace")
    if not pairs:
        return b""
    packed = json.dumps(pairs, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    if len(packed) > MAX_PAIRS_SIZE:
        raise BadRequest(f"the Seaweed- headers take {len(packed)} bytes, {MAX_PAIRS_SIZE} can be stored")
    return packed


def unpack_pairs(packed: bytes) -> dict[str, str]:
    """What pack_pairs packed; nothing for what is not a JSON object, and without values that are no strings."""
    if not packed:
        return {}
    try:
        parsed = json.loads(packed)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(parsed, dict):
        return {}
    return {name: value for name, value in parsed.items() if isinstance(value, str)}


# ------------------------------------------------------------------ every byte


def settle(offer: Offer, limit: int) -> Settled:
    """Check an offer's bytes, and decide how they are stored; `limit` is the most bytes a file may have.

    Raises TooLarge, BadDigest, and BadRequest for a body that is not the gzip it claims to be.  A replica's bytes are
    stored as they come.
    """
    size = len(offer.data)
    if size > limit:
        raise TooLarge(limit, size)
    digests = [_base64(hashlib.md5(offer.data, usedforsecurity=False))] if offer.md5 else []
    if offer.is_gzipped:
        inner = hashlib.md5(usedforsecurity=False)
        plain_size = checked_plain_size(offer.data, limit, inner.update if offer.md5 else None)
        _check_digest(offer.md5, [*digests, _base64(inner)])
        return Settled(offer.data, True, plain_size)
    _check_digest(offer.md5, digests)
    if not size and not offer.is_replica:
        return Settled(EMPTY_AS_GZIP, True, 0)
    if not offer.is_replica and not offer.is_manifest and size <= MOST_COMPRESSED:
        packed = compress(offer.data) if mimes.is_compressible(offer.mime, offer.data) else None
        if packed is not None:
            return Settled(packed, True, size)
    return Settled(offer.data, False, size)


def _base64(digest: "hashlib._Hash") -> str:
    return base64.b64encode(digest.digest()).decode()


def _check_digest(claimed: str, digests: list[str]) -> None:
    """The claim may be about the body as it was sent, or as SeaweedFS has it, about what a gzip body unpacks to."""
    if claimed and claimed not in digests:
        raise BadDigest(f"Content-MD5 is {claimed[:60]!r}, the body's md5 is {digests[0]}")


def make_needle(file_id: FileId, offer: Offer, settled: Settled, now: float) -> Needle:
    """The needle to store; `now` in unix seconds is its time when the client gave none."""
    return Needle(
        cookie=file_id.cookie,
        key=file_id.key,
        data=settled.data,
        name=offer.name.encode(),
        mime=offer.mime.encode(),
        last_modified=int(now) if offer.modified is None else offer.modified,
        ttl=offer.ttl,
        pairs=offer.pairs,
        is_gzipped=settled.is_gzipped,
        is_manifest=offer.is_manifest,
    )
