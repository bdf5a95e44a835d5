"""Writing the files that nearly all writes are about, in a few microseconds: new, with data, and without any wish.

`delete_plain` does the same for deleting what is there.

`append_new` does what `Volume.write` does for such a file, with the same record to the byte.  It gives None wherever
anything else is to be decided: the key is there already, the volume takes no writes, has a time to live or old
records, or is being changed by somebody else right now.  `Volume.write` then does it, or says why not.
"""

import struct
from typing import Final, NamedTuple

from crc32c import crc32c

from weedtw.formats.needle import ALIGNMENT, HEADER_SIZE, MAX_BODY_SIZE
from weedtw.storage.fileops import Buffer
from weedtw.storage.generation import AppendFailed, Generation
from weedtw.storage.undo import Undo
from weedtw.storage.volume import Volume

_PREFIX: Final = struct.Struct(">IQiI")  # cookie, key, size, data_size
_TAIL_SIZE: Final = 12
_TAILS: Final = [struct.Struct(f">IQ{padding}x").pack for padding in range(ALIGNMENT + 1)]  # crc, append_at_ns
_U32_SIZE: Final = 4


class Appended(NamedTuple):
    """A file that was written, and where."""

    generation: Generation
    offset: int
    size: int  # the record's size field
    checksum: int
    stamp: int
    wants_merge: bool  # whether it is time to tidy the map up

    def undo(self, key: int, cookie: int) -> Undo:
        """What `Volume.revert` needs to take it back; as `undo_of` of a place that hid nothing."""
        return Undo(key, cookie, self.stamp, self.offset, self.generation.superblock.compaction_revision, 0, -1)


def append_new(volume: Volume, key: int, cookie: int, data: Buffer, known: bytes) -> Appended | None:
    """Store a file that is not there yet; `known` is what its record says about it, flags first (see `formats`).

    Raises VolumeFull, WriteFailed and StorageError, as `Volume.write` does.
    """
    length = len(data)
    size = _U32_SIZE + length + len(known)
    if not length or size > MAX_BODY_SIZE or not volume.lock.acquire(False):
        return None
    try:
        generation = volume.open_generation
        if generation is None or not generation.is_plain or volume.causes.reasons:
            return None
        needles = generation.needles
        if needles.get(key) is not None:
            return None
        now = volume.clock()
        stamp = int(now * 1e9)
        if stamp <= generation.last_append_at_ns:
            stamp = generation.next_ns(stamp)
        checksum = crc32c(data)
        used = HEADER_SIZE + size + _TAIL_SIZE
        padding = ALIGNMENT - used % ALIGNMENT  # as `record_length`
        buffers = (
            _PREFIX.pack(cookie, key, size, length),
            data,
            known + _TAILS[padding](checksum, stamp),
        )
        try:
            offset = generation.append(buffers, key, size, used + padding)
        except AppendFailed as error:
            raise volume.failed(error) from error.cause
        wants_merge = needles.put_new(key, offset, size)
        generation.last_append_at_ns = stamp
        volume.changed(now)
    finally:
        volume.lock.release()
        if volume.causes.untold:
            volume.tell()
    # As `Appended(…)`, which takes half a microsecond more.
    return tuple.__new__(Appended, (generation, offset, size, checksum, stamp, wants_merge))


def delete_plain(volume: Volume, key: int, cookie: int, size: int) -> bool:
    """Delete a file whose record has that `size` field, as `Volume.delete` does; False, and nothing is done, when
    anything else is there, or the volume takes no changes, or is being changed by somebody else right now.

    Raises VolumeFull and WriteFailed, as `Volume.delete` does.
    """
    if not volume.lock.acquire(blocking=False):
        return False
    try:
        generation = volume.generation
        if not generation.is_plain or volume.causes.reasons:
            return False
        place = generation.needles.get(key)
        if place is None or place.size != size:
            return False
        try:
            if generation.cookie(place) != cookie:
                return False
            now = volume.clock()
            generation.delete(key, cookie, place, int(now * 1e9))
        except AppendFailed as error:
            raise volume.failed(error) from error.cause
        except OSError:
            return False  # it cannot be read: `Volume.delete` says so
        volume.changed(now)
    finally:
        volume.lock.release()
        volume.tell()
    return True
