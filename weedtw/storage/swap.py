"""Putting what a vacuum made in the place of what was there, so that a kill at any step leaves a volume.

    1  .cpd and .cpx are complete and on the disk
    2  .cpc is made (empty): from here on the new files hold
    3  .cpd becomes .dat
    4  .cpx becomes .idx
    5  .cpc goes

Found at open without .cpc, .cpd and .cpx are leavings and go.  With it, the steps that are missing are done.
SeaweedFS uses the same marker in the same way.  (Its older releases had none; see `recovery` for a .cpx alone.)
"""

import os
import shutil

from weedtw.storage.fileops import DiskFile, FileOps, remove_if_there
from weedtw.storage.names import VolumeFiles
from weedtw.storage.report import Repair


def decide(files: VolumeFiles, ops: FileOps) -> None:
    """Step 2, after the names of step 1 are on the disk; the rest of that is the caller's.

    Raises OSError; who knows then what is decided: `withdraw`.
    """
    _remove_derived(files, ops)
    _sync_folders(files, ops)
    DiskFile(ops, files.compaction_marker, os.O_RDWR | os.O_CREAT)
    ops.sync_folder(files.folder)


def withdraw(files: VolumeFiles, ops: FileOps) -> None:
    """Take a decision back of which it is not sure that it reached the disk.  Raises OSError."""
    remove_if_there(ops, files.compaction_marker)
    ops.sync_folder(files.folder)
    discard(files, ops)


def put_in_place(files: VolumeFiles, ops: FileOps) -> None:
    """Steps 3 to 5.  Raises OSError; the decision stands all the same, the next open does what is missing."""
    if os.path.exists(files.compacted_dat):
        ops.rename(files.compacted_dat, files.dat)
    if os.path.exists(files.compacted_idx):
        ops.rename(files.compacted_idx, files.idx)
    _sync_folders(files, ops)
    ops.unlink(files.compaction_marker)
    ops.sync_folder(files.folder)


def finish_swap(files: VolumeFiles, ops: FileOps) -> list[Repair]:
    """Bring an interrupted vacuum to an end, one or the other.  Raises OSError."""
    if os.path.exists(files.compaction_marker):
        _remove_derived(files, ops)
        put_in_place(files, ops)
        return [
            Repair("swap-finished", files.dat, "finished a vacuum that was interrupted while it put files in place")
        ]
    if not os.path.exists(files.compacted_dat):
        return []
    size = os.path.getsize(files.compacted_dat)
    # The index goes first: with the .cpx alone the vacuum would look like one of an older SeaweedFS.
    remove_if_there(ops, files.compacted_idx)
    remove_if_there(ops, files.compacted_dat)
    return [Repair("swap-discarded", files.compacted_dat, f"removed {size} bytes of an unfinished vacuum", size)]


def discard(files: VolumeFiles, ops: FileOps) -> bool:
    """Remove what a vacuum made before its decision; return whether there was anything."""
    removed = remove_if_there(ops, files.compacted_idx)
    return remove_if_there(ops, files.compacted_dat) or removed


def _remove_derived(files: VolumeFiles, ops: FileOps) -> None:
    """What SeaweedFS derived from the old index does not fit the new one."""
    remove_if_there(ops, files.sorted_idx)
    if os.path.isdir(files.leveldb):
        shutil.rmtree(files.leveldb)


def _sync_folders(files: VolumeFiles, ops: FileOps) -> None:
    for folder in {files.folder, files.idx_folder}:
        ops.sync_folder(folder)
