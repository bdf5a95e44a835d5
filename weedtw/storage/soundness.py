"""Which files of a volume are not as they were written: every live record is read, and its checksum compared."""

from weedtw.errors import Damaged, StorageError
from weedtw.formats.idx import unpack_rows
from weedtw.formats.needle import unpack
from weedtw.storage.generation import Generation
from weedtw.storage.needlemap import Place
from weedtw.storage.volume import Volume


def damaged_keys(volume: Volume) -> list[int]:
    """The keys of live needles that cannot be read as they were written, in order.

    Reads the whole volume, and blocks for as long.  It may be written to meanwhile; what came since may be left out.
    Raises StorageError when the index cannot be read.
    """
    generation = volume.generation  # the same files to the end, whatever a vacuum does meanwhile
    try:
        rows = unpack_rows(generation.index_rows(), generation.needles.offset_width)
    except OSError as error:
        raise StorageError(volume.files.idx, f"cannot be read: {error.strerror or error}") from error
    found = []
    for key in sorted(set(rows.keys.tolist())):
        place = generation.needles.get(key)
        if place is not None and not is_sound(generation, key, place):
            found.append(key)
    return found


def is_sound(generation: Generation, key: int, place: Place) -> bool:
    """Whether the record at a place is that of the key, and as it was written; never fails."""
    try:
        needle = unpack(memoryview(generation.record(place)), generation.version, path=generation.dat.path)
    except (Damaged, OSError):
        return False
    return needle.key == key
