"""Making and removing the files of a volume.

Making: .dat first, then .vif, then .idx; a lone .dat without records is the leaving of a making that was interrupted,
and may be replaced.  Removing: .dat is renamed to .dat.gone, from then on the volume is deleted; what an interruption
leaves is removed when the folder is opened the next time.
"""

import contextlib
import os
import shutil
from typing import Final

from weedtw.errors import StorageError
from weedtw.formats.superblock import BASE_SIZE, SuperBlock
from weedtw.formats.vif import VolumeInfo
from weedtw.storage.fileops import FileOps, remove_if_there, write_whole
from weedtw.storage.names import VolumeFiles
from weedtw.storage.report import Repair

_NOTHING: Final = b""


def make_files(
    files: VolumeFiles, ops: FileOps, superblock: SuperBlock, *, offset_width: int, now: float
) -> VolumeInfo:
    """Make the files of a new volume, on the disk on return; `now` is unix time in seconds.

    Raises StorageError when there are files of such a volume, and OSError.
    """
    for path in (files.dat, files.idx, files.vif):
        if os.path.exists(path) and not is_leaving(files):
            raise StorageError(path, "a volume of that name is there already")
    expires_at = int(now) + superblock.ttl.seconds if superblock.ttl else 0
    info = VolumeInfo(version=superblock.version, bytes_offset=offset_width, expire_at_sec=expires_at)
    write_whole(ops, files.dat, superblock.pack())
    write_whole(ops, files.vif, info.render().encode())
    write_whole(ops, files.idx, _NOTHING)
    return info


def remove_made(files: VolumeFiles) -> None:
    """Remove what `make_files` made before it failed, as far as the disk lets us; the rest does no harm."""
    for path in (files.idx, files.vif, files.dat):
        for name in (path, path + ".tmp"):
            with contextlib.suppress(OSError):
                os.unlink(name)
    shutil.rmtree(files.map_folder(0), ignore_errors=True)


def is_leaving(files: VolumeFiles) -> bool:
    """Whether all there is of a volume is a .dat without records: its making was interrupted."""
    if os.path.exists(files.vif) or os.path.exists(files.idx):
        return False
    return os.path.exists(files.dat) and os.path.getsize(files.dat) <= BASE_SIZE


def remove_files(files: VolumeFiles, ops: FileOps) -> None:
    """Delete a volume with all that belongs to it; raises OSError."""
    if os.path.exists(files.dat):
        ops.rename(files.dat, files.gone)
        ops.sync_folder(files.folder)
    _remove_rest(files, ops)


def finish_removal(files: VolumeFiles, ops: FileOps) -> list[Repair]:
    """Remove what is left of a volume that was being deleted; raises OSError."""
    if not os.path.exists(files.gone):
        return []
    if os.path.exists(files.dat):
        # A volume of that name was made since: only the old data may go.
        ops.unlink(files.gone)
    else:
        _remove_rest(files, ops)
    return [Repair("deletion-finished", files.gone, "removed what was left of a deleted volume")]


def _remove_rest(files: VolumeFiles, ops: FileOps) -> None:
    paths = [
        files.compaction_marker,
        files.compacted_idx,
        files.compacted_dat,
        files.sorted_idx,
        files.idx,
        files.vif,
        *(path + ".tmp" for path in (files.dat, files.idx, files.vif)),
        *files.kept(),
        files.arriving,
        files.gone,
    ]
    for path in paths:
        remove_if_there(ops, path)
    for folder in filter(os.path.isdir, (files.leveldb, *files.map_folders())):
        shutil.rmtree(folder)
    for folder in {files.folder, files.idx_folder}:
        ops.sync_folder(folder)
