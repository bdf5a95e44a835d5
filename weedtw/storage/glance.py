"""Reading the files that nearly all reads are about, in a few microseconds: small, cached, whole, and simple.

    0     16  header: cookie, key, size       see `weedtw/formats/needle.py`
    16    4   data_size
    20    n   data
    20+n      what is known about the file: flags, name, mime, time …
    16+S  4   crc

`glance` says None wherever anything else is to be said or done: not there, another cookie, damaged, expired or able
to expire, not in the page cache.  `Volume.read` then finds out what it is, and is the only one to judge.
"""

import struct
from typing import Final, NamedTuple

from crc32c import crc32c

from weedtw.formats.needle import CURRENT_VERSION, record_length
from weedtw.storage.generation import Generation
from weedtw.storage.needlemap import Place
from weedtw.storage.volume import Volume

_PREFIX: Final = struct.Struct(">IQiI")  # cookie, key, size, data_size
_U32: Final = struct.Struct(">I")
_DATA: Final = 20  # where the data begins
_BODY: Final = 16  # where what `size` counts begins
_TTL: Final = 0x10  # the flag of a file with a time to live of its own


class Glimpse(NamedTuple):
    """A record, and where its parts are."""

    data: memoryview
    known: bytes  # what the record says about the file: the flags and the fields that they announce
    checksum: int


def glance(volume: Volume, key: int, cookie: int, most: int) -> Glimpse | None:
    """The file, checked, if it can be had at once and its record has at most `most` bytes; raises StorageError."""
    generation = volume.generation
    place = generation.needles.find(key)
    return None if place is None else glance_at(generation, place, key, cookie, most)


def glance_at(generation: Generation, place: Place, key: int, cookie: int, most: int) -> Glimpse | None:
    """The same of a file whose place is known already."""
    if place.deleted or not 5 < place.size <= most or not generation.is_plain:
        return None
    try:
        record = generation.dat.read_cached(record_length(place.size, CURRENT_VERSION), place.offset)
    except OSError:
        return None
    if record is None:
        return None
    found_cookie, found_key, size, data_size = _PREFIX.unpack_from(record)
    end = _DATA + data_size
    if found_cookie != cookie or found_key != key or size != place.size or end >= _BODY + size or record[end] & _TTL:
        return None
    data = memoryview(record)[_DATA:end]
    (checksum,) = _U32.unpack_from(record, _BODY + size)
    if crc32c(data) != checksum:
        return None
    return Glimpse(data, bytes(record[end : _BODY + size]), checksum)
