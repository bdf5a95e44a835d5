"""A copy of a volume that grows with it: what the volume's data has more is appended, and the index follows.

A volume's data only ever grows, until a vacuum writes it anew and raises the revision in its super block.  So a copy
of the same revision is brought up to date by what it lacks, wherever it was interrupted.  One of a later revision is
copied from the start, and takes the place of the old copy when it is whole; the old one is kept as `.before`.
Anything else is no volume that this was a copy of, and is refused: a server that has lost its disk and made the
volume anew must not cost the copy.

What the super block says of copies and of a time to live may differ: the server's can be changed, and a copy can have
its own, so that it is served alone.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from weedtw.errors import Damaged, PeerError, StorageError
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.superblock import BASE_SIZE, SuperBlock
from weedtw.formats.ttl import Ttl
from weedtw.storage.audit import open_to_read, read_superblock
from weedtw.storage.fileops import DiskFile, FileOps
from weedtw.storage.names import VolumeFiles
from weedtw.storage.recovery import open_files

_COMPARED: Final = 64 * 1024  # bytes at the end of a copy that must be as they are there


@attrs.frozen
class Tail:
    """A piece of a volume's data, from where it was asked for; `size` and `revision` are the volume's then."""

    data: bytes
    size: int
    revision: int
    offset_width: int


@attrs.frozen
class Own:
    """What the copy has in its super block; None where that is what the volume has."""

    replication: ReplicaPlacement | None = None
    ttl: Ttl | None = None

    def of(self, superblock: SuperBlock) -> SuperBlock:
        """The copy's, from the volume's."""
        return attrs.evolve(
            superblock,
            replication=superblock.replication if self.replication is None else self.replication,
            ttl=superblock.ttl if self.ttl is None else self.ttl,
        )


Fetch = Callable[[int], Awaitable[Tail]]  # from an offset in bytes on


@attrs.frozen
class BackedUp:
    """What a backup did: bytes that were copied, whether all of them, and the size now."""

    copied: int
    anew: bool
    size: int


async def back_up(
    files: VolumeFiles, fetch: Fetch, now_ns: int, moved: Callable[[int], None], own: Own = Own()
) -> BackedUp:
    """Bring the copy in `files` up to date; raises what `fetch` does, and StorageError."""
    ops = FileOps()
    beside = files.dat + ".part"
    first = await fetch(0)
    try:
        has = await _in_common(files.dat, first, fetch)
        if has:
            path, start = files.dat, has
        else:
            path, start = beside, await _in_common(beside, first, fetch)
        size = await _append(path, start, first.revision, fetch, ops, moved)
        _write_superblock(path, own.of(_superblock(path, first)), ops)
        if path == beside:
            for old in (files.dat, files.idx, files.vif):  # index and info are made when the volume is opened
                if os.path.exists(old):
                    ops.rename(old, old + ".before")
            ops.rename(beside, files.dat)
            ops.sync_folder(files.folder)
    except OSError as error:
        raise StorageError(str(error.filename or files.dat), error.strerror or str(error)) from error
    opened = open_files(files, ops, offset_width=first.offset_width, now_ns=now_ns)
    if opened.distrust:
        raise StorageError(files.dat, opened.distrust)
    return BackedUp(size - start, not has and not start, size)


async def _in_common(path: str, first: Tail, fetch: Fetch) -> int:
    """How much of a copy can be gone on with: all of it, or nothing because the volume was vacuumed since.

    Raises StorageError when it is a copy of something else.
    """
    if not os.path.exists(path):
        return 0
    dat = open_to_read(path)
    size = dat.size()
    if size < BASE_SIZE:
        return 0
    try:
        ours, theirs = read_superblock(dat), _superblock(path, first)
    except Damaged as error:
        raise StorageError(path, f"{error.reason}; move it away to begin anew") from error
    if theirs.compaction_revision > ours.compaction_revision:
        return 0
    start = max(ours.size, size - _COMPARED)
    is_alike = Own(ours.replication, ours.ttl).of(theirs) == ours and size <= first.size
    if not is_alike or (await fetch(start)).data[: size - start] != dat.read(size - start, start):
        what = f"is no copy of what the server has now ({first.size} bytes, revision {first.revision})"
        raise StorageError(path, f"{what}; has that lost its data? Move the copy away to begin anew")
    return size


def _superblock(path: str, first: Tail) -> SuperBlock:
    return SuperBlock.unpack(first.data, path=path)


def _write_superblock(path: str, superblock: SuperBlock, ops: FileOps) -> None:
    """Let the copy have that one; the records stay where they are."""
    dat = DiskFile(ops, path)
    if read_superblock(dat) != superblock:
        dat.write([superblock.pack()], 0)
        dat.sync()


async def _append(
    path: str, start: int, revision: int, fetch: Fetch, ops: FileOps, moved: Callable[[int], None]
) -> int:
    """Copy from `start` on; the size then."""
    dat = DiskFile(ops, path, os.O_RDWR | os.O_CREAT)
    if start < dat.size():
        ops.truncate(dat.fd, start)
    at = start
    while True:
        tail = await fetch(at)
        if tail.revision != revision:
            raise PeerError("", "the volume was vacuumed meanwhile; back it up again")
        if not tail.data:
            break
        dat.write([tail.data], at)
        at += len(tail.data)
        moved(len(tail.data))
    dat.sync()
    return at
