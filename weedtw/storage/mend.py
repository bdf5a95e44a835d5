"""The changes that a recovery makes to a volume's files.

What is taken away is first copied beside the file, as `.cut-N`, and the copy is on the disk before the file is
changed; only what is nothing but zeros is not worth one.  Each change can be repeated: a crash between two of them
leaves a volume that the next open mends again.
"""

import os
from typing import Final

import attrs

from weedtw.storage.fileops import DiskFile, FileOps, remove_quietly, write_beside
from weedtw.storage.names import VolumeFiles, free_cut_name
from weedtw.storage.report import Repair

_PIECE: Final = 1 << 22


@attrs.define
class Mender:
    """Changes the files of one volume and keeps a record of it; every method raises OSError."""

    files: VolumeFiles
    ops: FileOps
    repairs: list[Repair] = attrs.Factory(list)

    def add_padding(self, dat: DiskFile, old_size: int, new_size: int) -> None:
        """Complete the last record's padding."""
        dat.write([bytes(new_size - old_size)], old_size)
        dat.sync()
        missing = new_size - old_size
        self._note(Repair("padding-added", dat.path, f"added {missing} bytes of padding to the last record", missing))

    def cut_tail(self, dat: DiskFile, start: int, end: int, *, is_nought: bool) -> None:
        """Take away what lies behind the last whole record."""
        kept = "" if is_nought else self.keep(dat, start, end)
        dat.truncate(start)
        dat.sync()
        what = "bytes of zeros" if is_nought else "bytes that are no whole record"
        self._note(
            Repair("tail-cut", dat.path, f"cut {end - start} {what} from {start} on", end - start, kept_as=kept)
        )

    def cut_index(self, idx: DiskFile, size: int, whole: int, rows: int) -> None:
        """Take away what lies behind the rows that hold: `rows` rows up to `whole`, and perhaps part of one more."""
        end = idx.size()
        kept = self.keep(idx, size, end)
        idx.truncate(size)
        idx.sync()
        if rows:
            text = f"dropped {rows} index rows that point at nothing that is there"
            self._note(Repair("rows-dropped", idx.path, text, whole - size, rows, kept))
        if end > whole:
            text = f"cut {end - whole} bytes of an incomplete index row"
            self._note(Repair("row-cut", idx.path, text, end - whole, kept_as=kept))

    def add_rows(self, idx: DiskFile, at: int, rows: bytes, count: int) -> None:
        """Append the rows of records that the index did not know."""
        idx.write([rows], at)
        idx.sync()
        text = f"added {count} index rows for records that had none"
        self._note(Repair("rows-added", idx.path, text, len(rows), count))

    def replace_index(self, rows: bytes, count: int, reason: str) -> DiskFile:
        """Put a new index in the place of the old, which is kept, and return it opened."""
        path = self.files.idx
        beside = path + ".tmp"
        made = write_beside(self.ops, beside, rows)
        try:
            kept = self._exchange(beside, path)
        except OSError:
            remove_quietly(self.ops, beside)
            raise
        self.ops.sync_folder(self.files.idx_folder)
        made.path = path
        text = f"rebuilt the index from the data, {count} rows: {reason}"
        self._note(Repair("index-rebuilt", path, text, len(rows), count, kept))
        return made

    def _exchange(self, beside: str, path: str) -> str:
        """Put a file in the place of another, and return where that is now; both stay where they are on an error."""
        kept = ""
        if os.path.exists(path):
            kept = free_cut_name(path)
            self.ops.rename(path, kept)
        try:
            self.ops.rename(beside, path)
        except OSError:
            if kept:
                self.ops.rename(kept, path)
            raise
        return kept

    def keep(self, file: DiskFile, start: int, end: int) -> str:
        """Copy a piece of a file beside it and return the copy's path."""
        path = free_cut_name(file.path)
        copy = DiskFile(self.ops, path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            for offset in range(start, end, _PIECE):
                copy.write([file.read(min(_PIECE, end - offset), offset)], offset - start)
            copy.sync()
            self.ops.sync_folder(os.path.dirname(path) or ".")
        except (OSError, KeyboardInterrupt):
            remove_quietly(self.ops, path)
            raise
        return path

    def _note(self, repair: Repair) -> None:
        self.repairs.append(repair)
