"""The files that the demonstration stores: the repository's own, and a large one made for the purpose."""

import glob
import hashlib
import os
import struct
import zlib
from typing import Final

LARGE: Final = 5 * 1024 * 1024 + 12345  # bytes of the large one
_PATTERNS: Final = ("README.md", "docs/*.md", "docs/pictures/*.png")
_OF_EACH: Final = 3


def sample_files(scratch: str) -> list[str]:
    """Paths of a few files, one of them a PNG; what the repository does not have here is made in `scratch`."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    found = [path for pattern in _PATTERNS for path in sorted(glob.glob(os.path.join(root, pattern)))[:_OF_EACH]]
    if not any(path.endswith(".png") for path in found):
        found.append(_make(scratch, "picture.png", picture()))
    if found[0].endswith(".png"):
        found.insert(0, _make(scratch, "hello.txt", b"Stored by weedtw.\n" * 100))
    return [*found, _make(scratch, "large.bin", os.urandom(LARGE))]


def digest_of(path: str) -> bytes:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def picture(side: int = 64) -> bytes:
    """A small PNG: red grows to the right and green downwards."""
    rows = b"".join(b"\0" + bytes(c for x in range(side) for c in (x * 4, y * 4, 128)) for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, content) for kind, content in parts)


def _part(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG: length, kind, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _make(folder: str, name: str, content: bytes) -> str:
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(content)
    return path
