"""A copy of a volume that comes in from another server, until it is whole.

    BASE.dat.copying   what has come so far
    BASE.idx, BASE.vif may be there beside it when the server died at the very end

No start takes them for a volume: as long as there is a .dat.copying and no .dat, the folder holds none of that name.
`install` puts the index and the .vif in place and renames the .dat last, which decides; each step is on the disk
before the next.
"""

import os
from typing import Final, Self

import attrs
from crc32c import crc32c

from weedtw.errors import NoRoom, StorageError
from weedtw.storage.fileops import DiskFile, FileOps, remove_if_there, write_whole
from weedtw.storage.location import DiskLocation
from weedtw.storage.names import VolumeFiles
from weedtw.storage.store import Store
from weedtw.storage.volume import Volume

PIECE: Final = 4 << 20  # bytes that are read at once to be summed up


@attrs.define(eq=False)
class Incoming:
    """The files of one copy that comes in; `size` is how many bytes of data are here.  Blocks."""

    location: DiskLocation
    files: VolumeFiles
    file: DiskFile
    size: int

    @classmethod
    def begin(cls, store: Store, volume_id: int, collection: str, *, needs: int, disk_type: str | None) -> Self:
        """Go on with what an earlier attempt left here, or begin anew where there is room for `needs` bytes.

        Raises VolumeExists, NoRoom and StorageError.
        """
        store.require_absent(volume_id)
        chosen = next(
            (one for one in store.locations if os.path.exists(_files(one, collection, volume_id).arriving)), None
        )
        location = chosen or store.roomiest(volume_id, disk_type)
        files = _files(location, collection, volume_id)
        try:
            file = DiskFile(location.ops, files.arriving, os.O_RDWR | os.O_CREAT)
            size = file.size()
            free = location.space().free
        except OSError as error:
            raise StorageError(files.arriving, f"cannot be written: {error.strerror or error}") from error
        if needs - size > free or location.min_free_space.is_low(
            free=free - (needs - size), total=location.space().total
        ):
            if not size:
                remove_if_there(location.ops, files.arriving)
            raise NoRoom(f"{location.folder} has {free} bytes free, volume {volume_id} takes {needs}")
        return cls(location, files, file, size)

    def header(self, length: int) -> bytes:
        """The first bytes of the data."""
        return self.file.read(min(length, self.size), 0)

    def start_over(self) -> None:
        """Throw away what has come; raises StorageError."""
        try:
            self.file.truncate(0)
        except OSError as error:
            raise StorageError(self.files.arriving, f"cannot be written: {error.strerror or error}") from error
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add what comes next; raises StorageError."""
        try:
            self.file.write([data], self.size)
        except OSError as error:
            raise StorageError(self.files.arriving, f"cannot be written: {error.strerror or error}") from error
        self.size += len(data)

    def checksum(self) -> int:
        """CRC-32C of all that is here, as the disk has it; raises StorageError."""
        return checksum_of(self.file, self.size)

    def install(self, store: Store, rows: bytes, vif: bytes) -> Volume:
        """Make a volume of it, which is served from then on; raises StorageError and VolumeExists."""
        ops, files = self.location.ops, self.files
        store.require_absent(files.volume_id)
        try:
            self.file.sync()
            write_whole(ops, files.idx, rows)
            write_whole(ops, files.vif, vif)
            ops.rename(files.arriving, files.dat)
            ops.sync_folder(files.folder)
        except OSError as error:
            raise StorageError(files.dat, f"cannot be put in place: {error.strerror or error}") from error
        return store.adopt(self.location, files)

    def drop(self) -> None:
        """Remove what has come; raises StorageError."""
        remove_arriving(self.files, self.location.ops)


def find_arriving(store: Store, volume_id: int) -> list[tuple[DiskLocation, VolumeFiles]]:
    """What earlier attempts left here, of whatever collection."""
    found = []
    for location in store.locations:
        for name in os.listdir(location.folder):
            base = name.removesuffix(".dat.copying")
            collection, _, number = base.rpartition("_")
            if base != name and number == str(volume_id):
                found.append((location, _files(location, collection, volume_id)))
    return found


def remove_arriving(files: VolumeFiles, ops: FileOps) -> None:
    """Remove a copy that is not whole; raises StorageError."""
    try:
        if not os.path.exists(files.dat):
            remove_if_there(ops, files.idx)
            remove_if_there(ops, files.vif)
        remove_if_there(ops, files.arriving)
        ops.sync_folder(files.folder)
    except OSError as error:
        raise StorageError(files.arriving, f"cannot be removed: {error.strerror or error}") from error


def checksum_of(file: DiskFile, size: int) -> int:
    """CRC-32C of the first `size` bytes of a file; raises StorageError."""
    total, offset = 0, 0
    try:
        while offset < size:
            piece = file.read(min(PIECE, size - offset), offset)
            if not piece:
                raise StorageError(file.path, f"ends at {offset}, not at {size}")
            total = crc32c(piece, total)
            offset += len(piece)
    except OSError as error:
        raise StorageError(file.path, f"cannot be read: {error.strerror or error}") from error
    return total


def _files(location: DiskLocation, collection: str, volume_id: int) -> VolumeFiles:
    return VolumeFiles.locate(location.folder, location.idx_folder, collection, volume_id)
