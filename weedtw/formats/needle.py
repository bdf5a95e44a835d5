"""Needle records: one file each, appended back to back to a `.dat` file behind its super block.

    offset   bytes  field
    0        4      cookie
    4        8      key
    12       4      size S of the body (signed; never negative in a .dat)
    16       S      body
    16+S     4      crc: CRC-32C of the data as stored
    20+S     8      append_at_ns: unix time of the append, nanoseconds (version 3 only)
    ...      1..8   padding, so that the record's length is a multiple of 8 (never 0: an aligned end gets 8)

Integers are big-endian.  The body of version 1 is the data and nothing else.  The body of versions 2 and 3:

    4        data_size
    n        data
    1        flags
    1+n      name size, name                  flag 0x02
    1+n      mime size, mime                  flag 0x04
    5        last_modified, unix seconds      flag 0x08
    2        ttl: count, unit                 flag 0x10
    2+n      pairs size, pairs (JSON object)  flag 0x20

Flag 0x01: the data is gzip.  Flag 0x80: the data is a chunk manifest.  Name and mime are always written, with
size 0 when unknown, as SeaweedFS does.  Volume servers of SeaweedFS before 3.09 stored the crc masked
(rotated and shifted by a constant); either form is accepted when reading.

Files without data.  SeaweedFS stores them with size 0 and no body, so name, mime, time, ttl and pairs are lost; and
only the index tells them from a deletion record, which looks the same but carries the crc of the data it deletes.
They are written without a body here, too, so that size 0 means an empty file to whoever reads the index.  In
version 3 four bytes of padding follow such a record; SeaweedFS writes nought there and skips them when reading.
They keep what fits:

    0 0 0 0                nothing
    FF 0 count unit        the time to live of its own: it decides whether the file is still there
    any other u32          last_modified (1970 to 2105), when there is no time to live of its own

Name, mime and pairs of a file without data have no place.  A body with data_size 0 would have one, and such records
are read with all their fields, but they are not written: SeaweedFS 4.48 reads them too, yet its vacuum writes them
anew without a body under an index row that still has the old size, and then answers 500 and may turn the volume
read-only.  So the volume server stores an empty file as gzip of nothing (`volume/upload.py`): twenty bytes of data,
which every reader unpacks to none, and nothing is lost by any tool of either system.
"""

import struct
from typing import Final, TypeAlias

import attrs
from crc32c import crc32c

from weedtw.errors import BadRequest, BadTtl, Damaged, TooLarge
from weedtw.formats.ttl import Ttl

Buffer: TypeAlias = bytes | bytearray | memoryview

HEADER_SIZE: Final = 16
ALIGNMENT: Final = 8
CURRENT_VERSION: Final = 3
MAX_BODY_SIZE: Final = 2**31 - 1  # the size field is signed
MAX_NAME_SIZE: Final = 255
MAX_MIME_SIZE: Final = 255
MAX_PAIRS_SIZE: Final = 2**16 - 1
MAX_LAST_MODIFIED: Final = 2**40 - 1

_GZIPPED: Final = 0x01
_NAME: Final = 0x02
_MIME: Final = 0x04
_LAST_MODIFIED: Final = 0x08
_TTL: Final = 0x10
_PAIRS: Final = 0x20
_MANIFEST: Final = 0x80

_HEADER: Final = struct.Struct(">IQi")
_U32: Final = struct.Struct(">I")
_TAIL: Final = struct.Struct(">IQ")  # crc and append_at_ns
_TAIL_SIZES: Final = {1: 4, 2: 4, 3: 12}  # crc and append_at_ns, by version
_SPARE_TTL: Final = 0xFF00_0000  # where a data-less record's padding stops being a time


def _checksum_of_data(needle: "Needle") -> int:
    return crc32c(needle.data)


@attrs.frozen(slots=True)
class Needle:
    """One file as a volume stores it: data and what is known about it.

    Data is a buffer of single bytes.  `checksum` is computed from it and need not be given, except for a deletion:
    that is a needle of empty data with the checksum of what it deletes.  `pack` believes the data before it believes
    `checksum`.
    """

    cookie: int  # u32
    key: int  # u64
    data: Buffer = attrs.field(repr=False)  # as stored: compressed when `is_gzipped`
    name: bytes = b""  # at most 255 bytes, UTF-8 as a rule
    mime: bytes = b""  # at most 255 bytes
    last_modified: int | None = None  # unix seconds
    ttl: Ttl | None = None  # of its own; None leaves it to the volume's
    pairs: bytes = b""  # a JSON object of strings, as stored; at most 65535 bytes
    is_gzipped: bool = False
    is_manifest: bool = False
    append_at_ns: int = 0  # unix time in nanoseconds; version 3 only
    checksum: int = attrs.Factory(_checksum_of_data, takes_self=True)  # CRC-32C of `data`, computed

    @property
    def flags(self) -> int:
        """The flags byte of the record; 0 when there is no data, because then there is no such byte."""
        if not len(self.data):
            return 0
        return (
            _NAME
            | _MIME
            | (_GZIPPED if self.is_gzipped else 0)
            | (_LAST_MODIFIED if self.last_modified is not None else 0)
            | (_TTL if self.ttl else 0)
            | (_PAIRS if self.pairs else 0)
            | (_MANIFEST if self.is_manifest else 0)
        )


@attrs.frozen
class DataLocation:
    """Where the data lies within a record."""

    offset: int  # bytes from the start of the record
    size: int  # bytes


def etag(checksum: int) -> str:
    """The ETag of a file, without quotes: eight hexadecimal digits."""
    return f"{checksum:08x}"


def masked(checksum: int) -> int:
    """The form in which old releases of SeaweedFS stored a CRC-32C."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFF_FFFF


def matches(stored: int, checksum: int) -> bool:
    """Whether the crc that a record has is that of data with this CRC-32C, as it is or masked."""
    return stored in (checksum, masked(checksum))


def record_length(size: int, version: int) -> int:
    """Bytes of a whole record, padding included, whose size field is `size`."""
    used = HEADER_SIZE + size + _TAIL_SIZES[version]
    return used + ALIGNMENT - used % ALIGNMENT


# ------------------------------------------------------------------ writing


def clip_name(name: bytes, limit: int = MAX_NAME_SIZE) -> bytes:
    """Cut a name down to what a record holds, not in the middle of a UTF-8 character."""
    if len(name) <= limit:
        return name
    while limit and name[limit] & 0xC0 == 0x80:
        limit -= 1
    return name[:limit]


def body_size(needle: Needle, version: int = CURRENT_VERSION) -> int:
    """The size field of the record that `pack` makes; raises as `pack` does."""
    return _size_with(needle, _metadata(needle, version), version)


def pack_vector(needle: Needle, version: int = CURRENT_VERSION) -> list[Buffer]:
    """The whole record as buffers for one `pwritev`; the data is among them as it came, not copied.

    Raises as `pack` does.
    """
    data = needle.data
    metadata = _metadata(needle, version)
    size = _size_with(needle, metadata, version)
    head = _HEADER.pack(needle.cookie, needle.key, size)
    if not size:
        return [head + _tail(needle, needle.checksum, size, version)]
    tail = _tail(needle, crc32c(data), size, version)
    if version == 1:
        return [head, data, tail]
    return [head + _U32.pack(len(data)), data, metadata + tail]


def pack(needle: Needle, version: int = CURRENT_VERSION) -> bytes:
    """The whole record in one piece, padding included.

    Raises BadRequest when a field is too long for the record or version 1 cannot keep it, TooLarge when all of it
    is more than the size field holds.
    """
    return b"".join(pack_vector(needle, version))


def known_part(needle: Needle) -> bytes | None:
    """What follows the data in the record of a file with data, name, type and time and nothing unusual; else None."""
    if not len(needle.data) or needle.ttl or needle.pairs or needle.is_manifest or needle.last_modified is None:
        return None
    return _metadata(needle, CURRENT_VERSION)


def _size_with(needle: Needle, metadata: bytes, version: int) -> int:
    size = len(needle.data)
    if size and version != 1:
        size += _U32.size + len(metadata)
    if size > MAX_BODY_SIZE:
        raise TooLarge(MAX_BODY_SIZE, size)
    return size


def _metadata(needle: Needle, version: int) -> bytes:
    """What follows the data in a body: nothing in version 1, and nothing when there is no data."""
    if not len(needle.data):
        return b""
    if version == 1:
        if needle.is_gzipped or needle.is_manifest:
            # The flag would be lost, and the stored bytes be taken for the file.
            raise BadRequest("a volume of version 1 can keep neither compressed data nor chunk manifests as such")
        return b""
    fields = [bytes((needle.flags,)), _sized(needle.name, 1, "name"), _sized(needle.mime, 1, "mime type")]
    if needle.last_modified is not None:
        if not 0 <= needle.last_modified <= MAX_LAST_MODIFIED:
            raise BadRequest(f"a modification time of {needle.last_modified} seconds cannot be stored")
        fields.append(needle.last_modified.to_bytes(5))
    if needle.ttl:
        fields.append(needle.ttl.to_bytes())
    if needle.pairs:
        fields.append(_sized(needle.pairs, 2, "set of Seaweed- headers"))
    return b"".join(fields)


def _sized(value: bytes, width: int, what: str) -> bytes:
    if len(value) >= 1 << 8 * width:
        raise BadRequest(f"a {what} of {len(value)} bytes is too long, {(1 << 8 * width) - 1} can be stored")
    return len(value).to_bytes(width) + value


def _tail(needle: Needle, checksum: int, size: int, version: int) -> bytes:
    if version == CURRENT_VERSION:
        tail = _TAIL.pack(checksum, needle.append_at_ns) + (b"" if size else _U32.pack(_spare_of(needle)))
    else:
        tail = _U32.pack(checksum)
    return tail.ljust(record_length(size, version) - HEADER_SIZE - size, b"\0")


def _spare_of(needle: Needle) -> int:
    """What the padding of a data-less record keeps."""
    if needle.ttl:
        return _SPARE_TTL | needle.ttl.to_uint32()
    time = needle.last_modified or 0
    return time if 0 < time < _SPARE_TTL else 0


# ------------------------------------------------------------------ reading


def unpack_header(header: Buffer, *, path: str = "") -> tuple[int, int, int]:
    """Return (cookie, key, size) of the record that starts `header`.

    Raises Damaged when there are fewer than 16 bytes or the size is negative.
    """
    if len(header) < HEADER_SIZE:
        raise Damaged(path, f"{len(header)} bytes are too few for a needle's header of {HEADER_SIZE}")
    cookie, key, size = _HEADER.unpack_from(header)
    if size < 0:
        raise Damaged(path, f"needle {key:x}: its size is {size}")
    return cookie, key, size


def data_location(prefix: Buffer, version: int, *, path: str = "") -> DataLocation:
    """Where the data lies, from the first 20 bytes of a record (16 suffice when the body is empty).

    Raises Damaged when the data would run past the body.
    """
    _, key, size = unpack_header(prefix, path=path)
    return DataLocation(*_locate(prefix, version, key, size, path))


def unpack(record: Buffer, version: int, *, path: str = "", verify: bool = True) -> Needle:
    """Read the record at the start of `record`; what follows it is not looked at, padding may be missing.

    Given a memoryview, `data` is a view of the same memory.  With `verify` the data is checked against its crc
    (a record of size 0 has nothing to check).  Raises Damaged, which names `path` and says what is wrong.
    """
    cookie, key, size = unpack_header(record, path=path)
    start, data_size = _locate(record, version, key, size, path)
    end = start + data_size
    data = record[start:end]
    stored = _join(cookie, key, size, data, HEADER_SIZE + size - end, memoryview(record)[end:], version, path)
    if not verify or not size:
        return stored
    checksum = crc32c(data)
    if checksum == stored.checksum:
        return stored
    if not matches(stored.checksum, checksum):
        raise Damaged(path, f"needle {key:x}: its data has crc {checksum:08x}, stored is {stored.checksum:08x}")
    return attrs.evolve(stored, checksum=checksum)


def unpack_around(prefix: Buffer, rest: Buffer, version: int, *, path: str = "") -> Needle:
    """What a record says about its data, without the data: for files that are streamed.

    `prefix` is the record's first 20 bytes (or more); `rest` is what follows the data, to the end of the record.
    The needle has empty `data` and, as `checksum`, what is stored: check the data by `matches` when it has gone by.
    Raises Damaged as `unpack` does.
    """
    cookie, key, size = unpack_header(prefix, path=path)
    start, data_size = _locate(prefix, version, key, size, path)
    left = HEADER_SIZE + size - start - data_size
    return _join(cookie, key, size, b"", left, memoryview(rest), version, path)


def _locate(prefix: Buffer, version: int, key: int, size: int, path: str) -> tuple[int, int]:
    """Start of the data in its record, and its size; raises Damaged when it would run past the body."""
    if version == 1 or not size:
        return HEADER_SIZE, size
    start = HEADER_SIZE + _U32.size
    if len(prefix) < start or size < _U32.size:
        raise Damaged(path, f"needle {key:x}: its body is cut off within data_size")
    data_size: int = _U32.unpack_from(prefix, HEADER_SIZE)[0]
    if data_size > size - _U32.size:
        raise Damaged(path, f"needle {key:x}: data of {data_size} bytes runs past the end of its body of {size}")
    return start, data_size


def _join(
    cookie: int, key: int, size: int, data: Buffer, left: int, rest: memoryview, version: int, path: str
) -> Needle:
    """Put a needle together: `rest` is the record from the end of the data on, `left` of it belong to the body."""
    if len(rest) < left + _TAIL_SIZES[version]:
        raise Damaged(path, f"needle {key:x}: the record is cut off, its body should have {size} bytes")
    if version == CURRENT_VERSION:
        checksum, append_at_ns = _TAIL.unpack_from(rest, left)
    else:
        checksum, append_at_ns = _U32.unpack_from(rest, left)[0], 0
    if left:
        fields = _Metadata(bytes(rest[:left]), key, path)
        return fields.needle(cookie, data, append_at_ns, checksum)
    modified, ttl = (None, None) if size else _read_spare(rest, version)
    return Needle(cookie, key, data, last_modified=modified, ttl=ttl, append_at_ns=append_at_ns, checksum=checksum)


def _read_spare(rest: memoryview, version: int) -> tuple[int | None, Ttl | None]:
    """(last_modified, ttl) as the padding of a data-less record keeps them; what it cannot mean is nothing."""
    start = _TAIL_SIZES[version]
    if version != CURRENT_VERSION or len(rest) < start + _U32.size:
        return None, None
    (spare,) = _U32.unpack_from(rest, start)
    if spare < _SPARE_TTL:
        return spare or None, None
    try:
        return None, Ttl.from_uint32(spare - _SPARE_TTL) or None
    except BadTtl:
        return None, None


@attrs.define
class _Metadata:
    """Reads the fields behind the data, one after the other."""

    fields: bytes
    key: int
    path: str
    position: int = 1

    def needle(self, cookie: int, data: Buffer, append_at_ns: int, checksum: int) -> Needle:
        flags = self.fields[0]
        name = self.take_sized(1, "name") if flags & _NAME else b""
        mime = self.take_sized(1, "mime type") if flags & _MIME else b""
        modified = int.from_bytes(self.take(5, "modification time")) if flags & _LAST_MODIFIED else None
        ttl = self.take_ttl() if flags & _TTL else None
        pairs = self.take_sized(2, "pairs") if flags & _PAIRS else b""
        return Needle(
            cookie,
            self.key,
            data,
            name=name,
            mime=mime,
            last_modified=modified,
            ttl=ttl,
            pairs=pairs,
            is_gzipped=bool(flags & _GZIPPED),
            is_manifest=bool(flags & _MANIFEST),
            append_at_ns=append_at_ns,
            checksum=checksum,
        )

    def take(self, size: int, what: str) -> bytes:
        start, self.position = self.position, self.position + size
        if self.position > len(self.fields):
            raise Damaged(self.path, f"needle {self.key:x}: its {what} runs past the end of its body")
        return self.fields[start : self.position]

    def take_sized(self, width: int, what: str) -> bytes:
        return self.take(int.from_bytes(self.take(width, what)), what)

    def take_ttl(self) -> Ttl | None:
        try:
            return Ttl.from_bytes(self.take(2, "time to live")) or None
        except BadTtl as error:
            raise Damaged(self.path, f"needle {self.key:x}: its time to live is unreadable: {error}") from None
