"""The files of a benchmark: which there are, and what is in them.  Pure, apart from the list on disk.

A file's content follows from its id and the size asked for, so that a read can be checked without anything being
kept.
"""

import random
import struct
from array import array
from collections.abc import Iterable
from typing import Final

import attrs

from weedtw.errors import BadFileId, BadRequest, StorageError
from weedtw.formats.fileid import FileId

PADDING: Final = 64  # bytes that a file may be longer by, less one: as with `weed benchmark`
_STAMP: Final = struct.Struct(">IQI")
_SHIFTS: Final = 4096  # places in the noise where a content may begin
_NOISE: Final = 1 << 20  # bytes after which the noise begins anew
_SPREAD: Final = 0x9E3779B97F4A7C15  # odd, and of no pattern: keys in a row go everywhere


class Contents:
    """What is in each file: its id, and noise that does not compress, from a place that follows from the id."""

    def __init__(self, size: int) -> None:
        """`size` in bytes; a file has up to PADDING - 1 more."""
        self.size = size
        length = size + PADDING + _SHIFTS
        noise = random.Random(size).randbytes(min(length, _NOISE))
        self._noise = noise * -(-length // len(noise))

    def of(self, fid: FileId) -> bytes:
        """The content of a file."""
        mixed = ((fid.key ^ (fid.cookie << 32)) * _SPREAD) >> 20
        length = self.size + mixed % PADDING
        start = (mixed >> 6) % _SHIFTS
        stamp = _STAMP.pack(fid.volume_id, fid.key, fid.cookie)[:length]
        return stamp + self._noise[start : start + length - len(stamp)]


@attrs.define(eq=False)
class Ids:
    """The ids of files, 16 bytes for each."""

    _volumes: "array[int]" = attrs.field(factory=lambda: array("I"), init=False)
    _keys: "array[int]" = attrs.field(factory=lambda: array("Q"), init=False)
    _cookies: "array[int]" = attrs.field(factory=lambda: array("I"), init=False)

    def add(self, fid: FileId) -> None:
        """One more."""
        self._volumes.append(fid.volume_id)
        self._keys.append(fid.key)
        self._cookies.append(fid.cookie)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> FileId:
        return FileId(self._volumes[index], self._keys[index], self._cookies[index])

    @classmethod
    def listed(cls, lines: Iterable[str], name: str) -> "Ids":
        """The ids of a list, one a line; raises BadRequest, which names the line of the list `name`."""
        ids = cls()
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    ids.add(FileId.parse(line.strip()))
            except BadFileId as error:
                raise BadRequest(f"{name}, line {number}: {error}") from error
        return ids


def read_list(path: str) -> Ids:
    """The ids listed in a file; raises StorageError, and BadRequest for a line that is no id."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            return Ids.listed(lines, path)
    except OSError as error:
        raise StorageError(path, error.strerror or str(error)) from error


class IdList:
    """A file that gets the id of each file that was written; none when its path is ""."""

    def __init__(self, path: str) -> None:
        """Raises StorageError."""
        self._path = path
        try:
            self._file = open(path, "w", encoding="ascii") if path else None  # noqa: SIM115 - until `close`
        except OSError as error:
            raise StorageError(path, error.strerror or str(error)) from error

    def add(self, fid: FileId) -> None:
        """Note an id; raises StorageError."""
        if self._file is None:
            return
        try:
            self._file.write(f"{fid}\n")
        except OSError as error:
            raise StorageError(self._path, error.strerror or str(error)) from error

    def close(self) -> None:
        """Have all of it in the file; raises StorageError."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:
            raise StorageError(self._path, error.strerror or str(error)) from error
